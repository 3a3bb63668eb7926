//! x86-64: dot products of four bytes in one instruction where there is one, else pairs of products.
#![allow(unsafe_code, reason = "processor instructions; Window::new has checked what is read")]

use super::{LANES, Multiply, Path, Quad, Registers, Row, Sums};
use crate::integer::conv::{Layer, run_layer};
use std::arch::x86_64::*;

pub fn is_available(path: Path) -> bool {
    let avx2 = is_x86_feature_detected!("avx2");
    match path {
        Path::Avx512 => {
            avx2 && is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512vnni")
        }
        Path::AvxVnni => avx2 && is_x86_feature_detected!("avxvnni"),
        Path::Avx2 => avx2,
        Path::Sse41 => is_x86_feature_detected!("sse4.1") && is_x86_feature_detected!("ssse3"),
        _ => false,
    }
}

/// Runs a layer.
///
/// # Safety
/// The path is available.
pub unsafe fn run(path: Path, layer: &Layer, input: &[u8], output: &mut [u8]) {
    // SAFETY: the caller's.
    unsafe {
        match path {
            Path::Avx512 => run_avx512(layer, input, output),
            Path::AvxVnni => run_avx_vnni(layer, input, output),
            Path::Avx2 => run_avx2(layer, input, output),
            _ => run_sse41(layer, input, output),
        }
    }
}

#[target_feature(enable = "avx2,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn run_avx512(layer: &Layer, input: &[u8], output: &mut [u8]) {
    // 24 accumulators at most, the weights, and a pixel's bytes: of 32 registers.
    // SAFETY: the function has the instructions.
    unsafe { run_layer::<Parts<Vnni512, 1>, 14, 12, 6>(layer, input, output) };
}

#[target_feature(enable = "avx2,avxvnni")]
fn run_avx_vnni(layer: &Layer, input: &[u8], output: &mut [u8]) {
    // Of 16 registers.
    // SAFETY: the function has the instructions.
    unsafe { run_layer::<Parts<Vnni256, 2>, 6, 3, 1>(layer, input, output) };
}

#[target_feature(enable = "avx2")]
fn run_avx2(layer: &Layer, input: &[u8], output: &mut [u8]) {
    // SAFETY: the function has the instructions.
    unsafe { run_layer::<Parts<Pairs256, 2>, 5, 2, 1>(layer, input, output) };
}

#[target_feature(enable = "sse4.1,ssse3")]
fn run_sse41(layer: &Layer, input: &[u8], output: &mut [u8]) {
    // SAFETY: the function has the instructions.
    unsafe { run_layer::<Parts<Pairs128, 4>, 2, 1, 1>(layer, input, output) };
}

/// Sixteen channels in `N` registers.
struct Parts<R, const N: usize>(R);

/// One kind of register, and its multiplications. Every number has 32 bits.
trait Part {
    /// A register.
    type Of: Copy;

    /// Four bytes, once for each number.
    ///
    /// # Safety
    /// The processor has what the implementation says; so for all of these.
    unsafe fn spread(bytes: i32) -> Self::Of;

    /// Adds products of four bytes each, a pixel's and the weights', to the sums.
    ///
    /// # Safety
    /// As above.
    unsafe fn add(sums: Self::Of, bytes: Self::Of, weights: Self::Of) -> Self::Of;

    /// As many numbers of 16 bits, the other 16 bits zero.
    ///
    /// # Safety
    /// There are as many to read.
    unsafe fn lower(at: *const i16) -> Self::Of;

    /// As many bytes, as numbers of 32 bits.
    ///
    /// # Safety
    /// There are as many to read.
    unsafe fn widen(at: *const u8) -> Self::Of;

    /// Adds products of what `widen` and `lower` gave to the sums.
    ///
    /// # Safety
    /// As for `spread`.
    unsafe fn add_each(sums: Self::Of, numbers: Self::Of, weights: Self::Of) -> Self::Of;
}

impl<R: Part, const N: usize> Registers for Parts<R, N> {
    type Sums = [R::Of; N];

    #[inline(always)]
    unsafe fn zero() -> [R::Of; N] {
        // SAFETY: the caller's, here and below.
        unsafe { [R::spread(0); N] }
    }

    #[inline(always)]
    unsafe fn store(sums: [R::Of; N]) -> Sums {
        const { assert!(size_of::<[R::Of; N]>() == size_of::<Sums>()) };
        let mut out = Sums([0; LANES]);
        unsafe { out.0.as_mut_ptr().cast::<[R::Of; N]>().write(sums) };
        out
    }
}

impl<R: Part, const N: usize> Multiply<Quad> for Parts<R, N> {
    type Weights = [R::Of; N];
    type Bytes = R::Of;

    #[inline(always)]
    unsafe fn weights(quad: *const Quad) -> [R::Of; N] {
        const { assert!(size_of::<[R::Of; N]>() == size_of::<Quad>()) };
        unsafe { quad.cast::<[R::Of; N]>().read() }
    }

    #[inline(always)]
    unsafe fn bytes(at: *const u8) -> R::Of {
        unsafe { R::spread(at.cast::<i32>().read_unaligned()) }
    }

    #[inline(always)]
    unsafe fn add(mut sums: [R::Of; N], bytes: R::Of, weights: [R::Of; N]) -> [R::Of; N] {
        for n in 0..N {
            sums[n] = unsafe { R::add(sums[n], bytes, weights[n]) };
        }
        sums
    }
}

impl<R: Part, const N: usize> Multiply<Row> for Parts<R, N> {
    type Weights = [R::Of; N];
    type Bytes = [R::Of; N];

    #[inline(always)]
    unsafe fn weights(row: *const Row) -> [R::Of; N] {
        let mut weights = unsafe { Self::zero() };
        for n in 0..N {
            weights[n] = unsafe { R::lower(row.cast::<i16>().add(n * LANES / N)) };
        }
        weights
    }

    #[inline(always)]
    unsafe fn bytes(at: *const u8) -> [R::Of; N] {
        let mut numbers = unsafe { Self::zero() };
        for n in 0..N {
            numbers[n] = unsafe { R::widen(at.add(n * LANES / N)) };
        }
        numbers
    }

    #[inline(always)]
    unsafe fn add(mut sums: [R::Of; N], numbers: [R::Of; N], weights: [R::Of; N]) -> [R::Of; N] {
        for n in 0..N {
            sums[n] = unsafe { R::add_each(sums[n], numbers[n], weights[n]) };
        }
        sums
    }
}

/// AVX-512 with VNNI.
struct Vnni512;

impl Part for Vnni512 {
    type Of = __m512i;

    #[inline(always)]
    unsafe fn spread(bytes: i32) -> __m512i {
        // SAFETY: the caller's, here and below.
        unsafe { _mm512_set1_epi32(bytes) }
    }

    #[inline(always)]
    unsafe fn add(sums: __m512i, bytes: __m512i, weights: __m512i) -> __m512i {
        unsafe { _mm512_dpbusd_epi32(sums, bytes, weights) }
    }

    #[inline(always)]
    unsafe fn lower(at: *const i16) -> __m512i {
        unsafe { _mm512_cvtepu16_epi32(_mm256_loadu_si256(at.cast())) }
    }

    #[inline(always)]
    unsafe fn widen(at: *const u8) -> __m512i {
        unsafe { _mm512_cvtepu8_epi32(_mm_loadu_si128(at.cast())) }
    }

    #[inline(always)]
    unsafe fn add_each(sums: __m512i, numbers: __m512i, weights: __m512i) -> __m512i {
        unsafe { _mm512_dpwssd_epi32(sums, numbers, weights) }
    }
}

/// AVX-VNNI.
struct Vnni256;

impl Part for Vnni256 {
    type Of = __m256i;

    #[inline(always)]
    unsafe fn spread(bytes: i32) -> __m256i {
        // SAFETY: the caller's, here and below.
        unsafe { _mm256_set1_epi32(bytes) }
    }

    #[inline(always)]
    unsafe fn add(sums: __m256i, bytes: __m256i, weights: __m256i) -> __m256i {
        unsafe { _mm256_dpbusd_avx_epi32(sums, bytes, weights) }
    }

    #[inline(always)]
    unsafe fn lower(at: *const i16) -> __m256i {
        unsafe { _mm256_cvtepu16_epi32(_mm_loadu_si128(at.cast())) }
    }

    #[inline(always)]
    unsafe fn widen(at: *const u8) -> __m256i {
        unsafe { _mm256_cvtepu8_epi32(_mm_loadl_epi64(at.cast())) }
    }

    #[inline(always)]
    unsafe fn add_each(sums: __m256i, numbers: __m256i, weights: __m256i) -> __m256i {
        unsafe { _mm256_dpwssd_avx_epi32(sums, numbers, weights) }
    }
}

/// AVX2 alone: products of pairs in 16 bits. The pixel gives its sign to the weight, so that one factor is unsigned; with
/// weights of -127 to 127 no pair exceeds 2 x 128 x 127, which 16 bits hold.
struct Pairs256;

impl Part for Pairs256 {
    type Of = __m256i;

    #[inline(always)]
    unsafe fn spread(bytes: i32) -> __m256i {
        // SAFETY: the caller's, here and below.
        unsafe { _mm256_set1_epi32(bytes) }
    }

    #[inline(always)]
    unsafe fn add(sums: __m256i, bytes: __m256i, weights: __m256i) -> __m256i {
        unsafe {
            let pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(bytes), _mm256_sign_epi8(weights, bytes));
            _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
        }
    }

    #[inline(always)]
    unsafe fn lower(at: *const i16) -> __m256i {
        unsafe { _mm256_cvtepu16_epi32(_mm_loadu_si128(at.cast())) }
    }

    #[inline(always)]
    unsafe fn widen(at: *const u8) -> __m256i {
        unsafe { _mm256_cvtepi8_epi32(_mm_loadl_epi64(at.cast())) }
    }

    #[inline(always)]
    unsafe fn add_each(sums: __m256i, numbers: __m256i, weights: __m256i) -> __m256i {
        unsafe { _mm256_add_epi32(sums, _mm256_madd_epi16(numbers, weights)) }
    }
}

/// The same in 128 bits: SSE4.1, and SSSE3 before it.
struct Pairs128;

impl Part for Pairs128 {
    type Of = __m128i;

    #[inline(always)]
    unsafe fn spread(bytes: i32) -> __m128i {
        // SAFETY: the caller's, here and below.
        unsafe { _mm_set1_epi32(bytes) }
    }

    #[inline(always)]
    unsafe fn add(sums: __m128i, bytes: __m128i, weights: __m128i) -> __m128i {
        unsafe {
            let pairs = _mm_maddubs_epi16(_mm_abs_epi8(bytes), _mm_sign_epi8(weights, bytes));
            _mm_add_epi32(sums, _mm_madd_epi16(pairs, _mm_set1_epi16(1)))
        }
    }

    #[inline(always)]
    unsafe fn lower(at: *const i16) -> __m128i {
        unsafe { _mm_cvtepu16_epi32(_mm_loadl_epi64(at.cast())) }
    }

    #[inline(always)]
    unsafe fn widen(at: *const u8) -> __m128i {
        unsafe { _mm_cvtepi8_epi32(_mm_cvtsi32_si128(at.cast::<i32>().read_unaligned())) }
    }

    #[inline(always)]
    unsafe fn add_each(sums: __m128i, numbers: __m128i, weights: __m128i) -> __m128i {
        unsafe { _mm_add_epi32(sums, _mm_madd_epi16(numbers, weights)) }
    }
}
