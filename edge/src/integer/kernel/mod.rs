//! Sums of products of 8-bit integers for a block of a convolution: one form for each kind of processor, chosen when the
//! program runs. All give the same integers.
//!
//! All unsafe code of the encoder is for these. Two things are relied on: that the processor has a kernel's instructions, which
//! [`Path::run`] asks and whatever is called below it leaves to its caller, and that what is read lies inside, which
//! [`Window::new`] checks, once a block.
#![allow(unsafe_code, reason = "kernels use a processor's instructions")]
#![allow(clippy::needless_range_loop, reason = "the loops are unrolled, their numbers name registers")]

#[cfg(target_arch = "aarch64")]
mod arm;
#[cfg(target_arch = "arm")]
mod arm32;
mod portable;
#[cfg(target_arch = "x86_64")]
mod x86;

use super::conv::{Layer, run_layer};

/// Output channels that are worked on side by side.
pub const LANES: usize = 16;

/// Weights of [`LANES`] output channels for four neighbouring inputs, which all of them read: byte 4 o + i is output channel
/// o, input i.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct Quad(pub [i8; 4 * LANES]);

/// Weights of [`LANES`] output channels of a depthwise convolution for one place of the window, where each reads its own
/// input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C, align(32))]
pub struct Row(pub [i16; LANES]);

/// The weights that a kernel takes at once.
pub trait Unit {
    /// Bytes of input that one is for.
    const BYTES: usize;
    /// How much further on the next [`LANES`] output channels read.
    const APART: usize;
}

impl Unit for Quad {
    const BYTES: usize = 4;
    const APART: usize = 0;
}

impl Unit for Row {
    const BYTES: usize = LANES;
    const APART: usize = LANES;
}

/// Sums of [`LANES`] output channels.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub struct Sums(pub [i32; LANES]);

/// A kind of processor, by the instructions that are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Path {
    /// x86-64 with AVX-512 and its dot product (VNNI).
    Avx512,
    /// x86-64 with AVX2 and a dot product of its own (AVX-VNNI).
    AvxVnni,
    /// x86-64 with AVX2.
    Avx2,
    /// x86-64 with SSE4.1: Atoms, Celerons, and what is older than AVX2.
    Sse41,
    /// 64-bit ARM with a dot product: Raspberry Pi 5, Jetson Orin.
    Dot,
    /// ARM with NEON: Raspberry Pi 2 to 4, Jetson Nano.
    Neon,
    /// Any.
    Portable,
}

impl Path {
    /// All paths, the fastest first.
    pub const ALL: [Path; 7] =
        [Path::Avx512, Path::AvxVnni, Path::Avx2, Path::Sse41, Path::Dot, Path::Neon, Path::Portable];

    /// The name in `SALAD_KERNEL` and in what is printed.
    pub fn name(self) -> &'static str {
        match self {
            Path::Avx512 => "avx512-vnni",
            Path::AvxVnni => "avx-vnni",
            Path::Avx2 => "avx2",
            Path::Sse41 => "sse4.1",
            Path::Dot => "neon-dot",
            Path::Neon => "neon",
            Path::Portable => "portable",
        }
    }

    /// Whether this processor has it.
    pub fn is_available(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Path::Avx512 | Path::AvxVnni | Path::Avx2 | Path::Sse41 => x86::is_available(self),
            #[cfg(target_arch = "aarch64")]
            Path::Dot | Path::Neon => arm::is_available(self),
            #[cfg(target_arch = "arm")]
            Path::Neon => arm32::is_available(self),
            Path::Portable => true,
            #[allow(unreachable_patterns, reason = "which paths are left depends on the processor")]
            _ => false,
        }
    }

    /// Those that this processor has, the fastest first.
    pub fn available() -> impl Iterator<Item = Path> {
        Path::ALL.into_iter().filter(|path| path.is_available())
    }

    /// The fastest that this processor has.
    pub fn best() -> Path {
        Path::available().next().unwrap_or(Path::Portable)
    }

    /// Whether bytes are read as unsigned: the dot products of x86 take one unsigned factor.
    pub fn is_unsigned(self) -> bool {
        matches!(self, Path::Avx512 | Path::AvxVnni)
    }

    /// Runs a convolution layer.
    pub fn run(self, layer: &Layer, input: &[u8], output: &mut [u8]) {
        match self {
            #[cfg(target_arch = "x86_64")]
            Path::Avx512 | Path::AvxVnni | Path::Avx2 | Path::Sse41 if self.is_available() => {
                // SAFETY: it is available.
                unsafe { x86::run(self, layer, input, output) }
            }
            #[cfg(target_arch = "aarch64")]
            // SAFETY: it is available.
            Path::Dot | Path::Neon if self.is_available() => unsafe { arm::run(self, layer, input, output) },
            #[cfg(target_arch = "arm")]
            // SAFETY: it is available.
            Path::Neon if self.is_available() => unsafe { arm32::run(layer, input, output) },
            // SAFETY: it takes no instructions that a processor may lack.
            _ => unsafe { run_layer::<portable::Portable, 4, 2, 1>(layer, input, output) },
        }
    }
}

/// What one block reads: `PIXELS` output pixels and `VECTORS` times [`LANES`] output channels.
#[derive(Debug)]
pub struct Window<'a, U, const PIXELS: usize, const VECTORS: usize> {
    input: &'a [u8],
    at: [usize; PIXELS],
    steps: Steps,
    weights: &'a [U],
}

/// How a window walks over its input.
#[derive(Debug, Clone, Copy)]
pub struct Steps {
    /// Rows.
    pub rows: usize,
    /// Bytes from one row to the next.
    pub row_stride: usize,
    /// Units of weights in each row.
    pub units: usize,
    /// Bytes from one unit's input to the next.
    pub stride: usize,
}

impl<'a, U: Unit, const PIXELS: usize, const VECTORS: usize> Window<'a, U, PIXELS, VECTORS> {
    /// Pixel i reads from its first byte `at[i]` on. `weights` has rows x units for each vector, one vector after the other.
    ///
    /// # Panics
    /// When input or weights are shorter than that.
    #[inline(always)]
    pub fn new(input: &'a [u8], at: [usize; PIXELS], steps: Steps, weights: &'a [U]) -> Window<'a, U, PIXELS, VECTORS> {
        let Steps { rows, row_stride, units, stride } = steps;
        let mut furthest = 0;
        for first in at {
            furthest = furthest.max(first);
        }
        let end = furthest
            + rows.saturating_sub(1) * row_stride
            + units.saturating_sub(1) * stride
            + (VECTORS - 1) * U::APART
            + U::BYTES;
        assert!(end <= input.len() && weights.len() == rows * units * VECTORS, "a block lies outside its tensor");
        Window { input, at, steps, weights }
    }
}

/// One processor's way to add up products.
pub trait Kernel<U> {
    /// Vectors of a block at most, 1, 2 or 4: what there are registers for.
    const VECTORS: usize = 4;

    /// For each pixel and vector the sums of weight times byte over the window, bytes as [`Path::is_unsigned`] says.
    ///
    /// # Safety
    /// The processor has the kernel's instructions.
    unsafe fn sums<const PIXELS: usize, const VECTORS: usize>(
        window: &Window<'_, U, PIXELS, VECTORS>,
    ) -> [[Sums; VECTORS]; PIXELS];
}

/// Sixteen sums in a processor's registers, to which products are added.
trait Registers {
    /// [`Kernel::VECTORS`].
    const VECTORS: usize = 4;

    /// Sixteen sums.
    type Sums: Copy;

    /// # Safety
    /// The processor has the instructions; so for all of these.
    unsafe fn zero() -> Self::Sums;

    /// # Safety
    /// As above.
    unsafe fn store(sums: Self::Sums) -> Sums;
}

/// How the products of one unit are added.
trait Multiply<U>: Registers {
    /// The unit.
    type Weights: Copy;
    /// A pixel's bytes for it.
    type Bytes: Copy;

    /// # Safety
    /// There is a unit to read.
    unsafe fn weights(unit: *const U) -> Self::Weights;

    /// # Safety
    /// There are the unit's bytes to read.
    unsafe fn bytes(at: *const u8) -> Self::Bytes;

    /// # Safety
    /// The processor has the instructions.
    unsafe fn add(sums: Self::Sums, bytes: Self::Bytes, weights: Self::Weights) -> Self::Sums;
}

impl<U: Unit, R: Multiply<U>> Kernel<U> for R {
    const VECTORS: usize = R::VECTORS;

    #[inline(always)]
    unsafe fn sums<const PIXELS: usize, const VECTORS: usize>(
        window: &Window<'_, U, PIXELS, VECTORS>,
    ) -> [[Sums; VECTORS]; PIXELS] {
        let Steps { rows, row_stride, units, stride } = window.steps;
        let per_vector = rows * units;
        let mut next = window.weights.as_ptr();
        // SAFETY: Window::new checked that all rows of all pixels lie in `input` and how many units there are.
        unsafe {
            let mut sums = [[R::zero(); VECTORS]; PIXELS];
            for row in 0..rows {
                let mut at = [std::ptr::null::<u8>(); PIXELS];
                for i in 0..PIXELS {
                    at[i] = window.input.as_ptr().add(window.at[i] + row * row_stride);
                }
                for unit in 0..units {
                    let mut weights = [R::weights(next); VECTORS];
                    for v in 1..VECTORS {
                        weights[v] = R::weights(next.add(v * per_vector));
                    }
                    next = next.add(1);
                    for i in 0..PIXELS {
                        for v in 0..VECTORS {
                            let bytes = R::bytes(at[i].add(unit * stride + v * U::APART));
                            sums[i][v] = R::add(sums[i][v], bytes, weights[v]);
                        }
                    }
                }
            }
            let mut out = [[Sums([0; LANES]); VECTORS]; PIXELS];
            for i in 0..PIXELS {
                for v in 0..VECTORS {
                    out[i][v] = R::store(sums[i][v]);
                }
            }
            out
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_path_for_every_processor_and_each_has_a_name_of_its_own() {
        assert!(Path::Portable.is_available() && Path::best().is_available());
        let names: std::collections::HashSet<_> = Path::ALL.map(Path::name).into_iter().collect();
        assert_eq!(names.len(), Path::ALL.len());
    }
}
