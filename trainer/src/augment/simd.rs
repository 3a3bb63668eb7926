//! Loops compiled for wide registers. The same operations in the same order: every processor makes the same bits.

/// Runs `f`, compiled for AVX2 where the processor has it. What it calls has to be inlined into it.
#[inline(always)]
#[allow(unsafe_code)] // Code for AVX2 runs only where it was found.
pub(super) fn widest<T>(f: impl FnOnce() -> T) -> T {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx2")]
        fn with_avx2<T>(f: impl FnOnce() -> T) -> T {
            f()
        }
        if std::arch::is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has it.
            return unsafe { with_avx2(f) };
        }
    }
    f()
}
