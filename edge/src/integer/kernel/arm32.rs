//! 32-bit ARM with NEON. Rust has no stable names for its instructions there, hence assembly.
#![allow(unsafe_code, reason = "processor instructions; Window::new has checked what is read")]

use super::portable::Portable;
use super::{Kernel, LANES, Path, Quad, Row, Steps, Sums, Window};
use crate::integer::conv::{Layer, run_layer};
use std::arch::global_asm;
use std::ffi::c_ulong;

/// Sums of sixteen channels, each in two parts beside each other.
#[repr(C, align(64))]
struct Halves([i32; 2 * LANES]);

unsafe extern "C" {
    /// The C library's: what the kernel says of the processor.
    safe fn getauxval(kind: c_ulong) -> c_ulong;

    /// Adds products of a row of bytes to the sums.
    ///
    /// # Safety
    /// The processor has NEON; there are `quads` quads, at least one, and four bytes for each.
    fn salad_add_row(sums: *mut Halves, bytes: *const u8, weights: *const Quad, quads: usize);
}

pub fn is_available(path: Path) -> bool {
    const AT_HWCAP: c_ulong = 16;
    const HWCAP_NEON: c_ulong = 1 << 12;
    path == Path::Neon && getauxval(AT_HWCAP) & HWCAP_NEON != 0
}

/// Runs a layer.
///
/// # Safety
/// NEON is available.
pub unsafe fn run(layer: &Layer, input: &[u8], output: &mut [u8]) {
    // SAFETY: the caller's.
    unsafe { run_layer::<Neon, 1, 1, 1>(layer, input, output) };
}

struct Neon;

impl Kernel<Quad> for Neon {
    #[inline(always)]
    unsafe fn sums<const PIXELS: usize, const VECTORS: usize>(
        window: &Window<'_, Quad, PIXELS, VECTORS>,
    ) -> [[Sums; VECTORS]; PIXELS] {
        let Steps { rows, row_stride, units, .. } = window.steps;
        window.at.map(|at| {
            std::array::from_fn(|v| {
                let mut sums = Halves([0; 2 * LANES]);
                for row in 0..rows {
                    let (bytes, weights) =
                        (&window.input[at + row * row_stride..], &window.weights[(v * rows + row) * units..]);
                    // SAFETY: Window::new checked that all rows of all pixels lie in `input` and how many quads there are; the
                    // rest is the caller's.
                    unsafe { salad_add_row(&mut sums, bytes.as_ptr(), weights.as_ptr(), units) };
                }
                Sums(std::array::from_fn(|channel| sums.0[2 * channel] + sums.0[2 * channel + 1]))
            })
        })
    }
}

impl Kernel<Row> for Neon {
    #[inline(always)]
    unsafe fn sums<const PIXELS: usize, const VECTORS: usize>(
        window: &Window<'_, Row, PIXELS, VECTORS>,
    ) -> [[Sums; VECTORS]; PIXELS] {
        // SAFETY: it needs no instructions.
        unsafe { Portable::sums(window) }
    }
}

// The sums are in q8 to q15, two registers for each four channels; d8 to d15 are the caller's. Four products of a channel fit
// 16 bits in pairs only, so neighbouring ones are added where they are widened.
global_asm!(
    ".pushsection .text.salad_add_row, \"ax\", %progbits",
    ".fpu neon",
    ".arm",
    ".p2align 2",
    ".global salad_add_row",
    ".hidden salad_add_row",
    ".type salad_add_row, %function",
    "salad_add_row:",
    "vpush {{d8-d15}}",
    "vldmia r0, {{d16-d31}}",
    "1:",
    "vld1.32 {{d8[]}}, [r1]!",
    "vld1.8 {{d0-d3}}, [r2:128]!",
    "vld1.8 {{d4-d7}}, [r2:128]!",
    "subs r3, r3, #1",
    "vmull.s8 q5, d0, d8",
    "vmull.s8 q6, d1, d8",
    "vmull.s8 q7, d2, d8",
    "vmull.s8 q0, d3, d8",
    "vpadal.s16 q8, q5",
    "vmull.s8 q5, d4, d8",
    "vpadal.s16 q9, q6",
    "vmull.s8 q6, d5, d8",
    "vpadal.s16 q10, q7",
    "vmull.s8 q7, d6, d8",
    "vpadal.s16 q11, q0",
    "vmull.s8 q0, d7, d8",
    "vpadal.s16 q12, q5",
    "vpadal.s16 q13, q6",
    "vpadal.s16 q14, q7",
    "vpadal.s16 q15, q0",
    "bne 1b",
    "vstmia r0, {{d16-d31}}",
    "vpop {{d8-d15}}",
    "bx lr",
    ".size salad_add_row, . - salad_add_row",
    ".popsection",
);
