//! 64-bit ARM: SDOT where there is one, else products of bytes in 16 bits.
#![allow(unsafe_code, reason = "processor instructions; Window::new has checked what is read")]
#![allow(clippy::needless_range_loop, reason = "the loops are unrolled, their numbers name registers")]

use super::{Kernel, LANES, Multiply, Path, Quad, Registers, Row, Steps, Sums, Window};
use crate::integer::conv::{Layer, run_layer};
use std::arch::aarch64::*;
use std::arch::{asm, is_aarch64_feature_detected};

pub fn is_available(path: Path) -> bool {
    match path {
        Path::Dot => is_aarch64_feature_detected!("dotprod"),
        Path::Neon => true,
        _ => false,
    }
}

/// Runs a layer.
///
/// # Safety
/// The path is available.
pub unsafe fn run(path: Path, layer: &Layer, input: &[u8], output: &mut [u8]) {
    // SAFETY: the caller's; NEON belongs to every processor of this architecture.
    unsafe {
        match path {
            Path::Dot => run_dot(layer, input, output),
            _ => run_layer::<Neon, 2, 1, 1>(layer, input, output),
        }
    }
}

#[target_feature(enable = "neon,dotprod")]
fn run_dot(layer: &Layer, input: &[u8], output: &mut [u8]) {
    // 24 accumulators at most, the weights, and a pixel's bytes: of 32 registers.
    // SAFETY: the function has the instructions.
    unsafe { run_layer::<Dot, 6, 1, 1>(layer, input, output) };
}

/// Sixteen channels in four registers.
struct Dot;

impl Registers for Dot {
    const VECTORS: usize = 1;

    type Sums = [int32x4_t; 4];

    #[inline(always)]
    unsafe fn zero() -> [int32x4_t; 4] {
        // SAFETY: the caller's, here and below.
        unsafe { [vdupq_n_s32(0); 4] }
    }

    #[inline(always)]
    unsafe fn store(sums: [int32x4_t; 4]) -> Sums {
        let mut out = Sums([0; LANES]);
        for q in 0..4 {
            unsafe { vst1q_s32(out.0.as_mut_ptr().add(4 * q), sums[q]) };
        }
        out
    }
}

impl Multiply<Quad> for Dot {
    type Weights = [int8x16_t; 4];
    type Bytes = int8x16_t;

    #[inline(always)]
    unsafe fn weights(quad: *const Quad) -> [int8x16_t; 4] {
        let first: *const i8 = quad.cast();
        unsafe { [vld1q_s8(first), vld1q_s8(first.add(16)), vld1q_s8(first.add(32)), vld1q_s8(first.add(48))] }
    }

    #[inline(always)]
    unsafe fn bytes(at: *const u8) -> int8x16_t {
        // Four, four times.
        unsafe { vreinterpretq_s8_s32(vdupq_n_s32(at.cast::<i32>().read_unaligned())) }
    }

    #[inline(always)]
    unsafe fn add(mut sums: [int32x4_t; 4], bytes: int8x16_t, weights: [int8x16_t; 4]) -> [int32x4_t; 4] {
        for q in 0..4 {
            // The intrinsic for it is not stable yet.
            unsafe {
                asm!(
                    "sdot {sum:v}.4s, {weights:v}.16b, {bytes:v}.16b",
                    sum = inout(vreg) sums[q],
                    weights = in(vreg) weights[q],
                    bytes = in(vreg) bytes,
                    options(pure, nomem, nostack, preserves_flags)
                );
            }
        }
        sums
    }
}

impl Multiply<Row> for Dot {
    type Weights = int16x8x2_t;
    type Bytes = int8x16_t;

    #[inline(always)]
    unsafe fn weights(row: *const Row) -> int16x8x2_t {
        // SAFETY: the caller's, here and below.
        unsafe { vld1q_s16_x2(row.cast()) }
    }

    #[inline(always)]
    unsafe fn bytes(at: *const u8) -> int8x16_t {
        unsafe { vld1q_s8(at.cast()) }
    }

    #[inline(always)]
    unsafe fn add([a, b, c, d]: [int32x4_t; 4], bytes: int8x16_t, weights: int16x8x2_t) -> [int32x4_t; 4] {
        unsafe {
            let (low, high) = (vmovl_s8(vget_low_s8(bytes)), vmovl_high_s8(bytes));
            [
                vmlal_s16(a, vget_low_s16(low), vget_low_s16(weights.0)),
                vmlal_high_s16(b, low, weights.0),
                vmlal_s16(c, vget_low_s16(high), vget_low_s16(weights.1)),
                vmlal_high_s16(d, high, weights.1),
            ]
        }
    }
}

/// Every 64-bit ARM has it. Two products of at most 128 x 127 fit 16 bits, so that each pair of quads is added up there
/// before it is widened.
struct Neon;

impl Kernel<Quad> for Neon {
    // Two pixels' sums take half the registers, and what is multiplied most of the others.
    const VECTORS: usize = 1;

    #[inline(always)]
    unsafe fn sums<const PIXELS: usize, const VECTORS: usize>(
        window: &Window<'_, Quad, PIXELS, VECTORS>,
    ) -> [[Sums; VECTORS]; PIXELS] {
        let Steps { rows, row_stride, units, stride } = window.steps;
        let mut out = [[Sums([0; LANES]); VECTORS]; PIXELS];
        // SAFETY: Window::new checked that all rows of all pixels lie in `input` and how many quads there are.
        unsafe {
            for v in 0..VECTORS {
                let mut next = window.weights.as_ptr().add(v * rows * units);
                // A register for each two channels; neighbouring sums belong together.
                let mut sums = [[vdupq_n_s32(0); LANES / 2]; PIXELS];
                for row in 0..rows {
                    let mut at = window.at.map(|at| window.input.as_ptr().add(at + row * row_stride));
                    for _ in 0..units / 2 {
                        add_quads(&mut sums, at.map(|at| [four(at), four(at.add(stride))]), next);
                        next = next.add(2);
                        at = at.map(|at| at.add(2 * stride));
                    }
                    if units % 2 == 1 {
                        add_quads(&mut sums, at.map(|at| [four(at)]), next);
                        next = next.add(1);
                    }
                }
                for i in 0..PIXELS {
                    for q in 0..4 {
                        let four = vpaddq_s32(sums[i][2 * q], sums[i][2 * q + 1]);
                        vst1q_s32(out[i][v].0.as_mut_ptr().add(4 * q), four);
                    }
                }
            }
        }
        out
    }
}

/// Adds the products of one or two neighbouring quads, which fit 16 bits together.
///
/// # Safety
/// There are so many quads to read.
#[inline(always)]
unsafe fn add_quads<const PIXELS: usize, const QUADS: usize>(
    sums: &mut [[int32x4_t; LANES / 2]; PIXELS],
    bytes: [[int8x8_t; QUADS]; PIXELS],
    quads: *const Quad,
) {
    for two in 0..LANES / 2 {
        // SAFETY: the caller's.
        let weights =
            std::array::from_fn::<_, QUADS, _>(|n| unsafe { vld1_s8(quads.add(n).cast::<i8>().add(8 * two)) });
        for i in 0..PIXELS {
            // SAFETY: every 64-bit ARM has these instructions.
            unsafe {
                let mut products = vmull_s8(weights[0], bytes[i][0]);
                for n in 1..QUADS {
                    products = vmlal_s8(products, weights[n], bytes[i][n]);
                }
                sums[i][two] = vpadalq_s16(sums[i][two], products);
            }
        }
    }
}

/// Nothing of SDOT's is needed where each channel reads its own input.
impl Kernel<Row> for Neon {
    #[inline(always)]
    unsafe fn sums<const PIXELS: usize, const VECTORS: usize>(
        window: &Window<'_, Row, PIXELS, VECTORS>,
    ) -> [[Sums; VECTORS]; PIXELS] {
        // SAFETY: the caller's.
        unsafe { <Dot as Kernel<Row>>::sums(window) }
    }
}

/// Four bytes, twice.
///
/// # Safety
/// There are four to read.
#[inline(always)]
unsafe fn four(at: *const u8) -> int8x8_t {
    // SAFETY: the caller's.
    unsafe { vreinterpret_s8_s32(vdup_n_s32(at.cast::<i32>().read_unaligned())) }
}
