//! For any processor, and what the others are held against.
#![allow(unsafe_code, reason = "the kernels' contract; there is nothing unsafe here")]

use super::{Kernel, LANES, Sums, Window};

pub struct Portable;

impl Kernel for Portable {
    #[inline(always)]
    unsafe fn sums<const PIXELS: usize, const VECTORS: usize>(
        window: &Window<'_, PIXELS, VECTORS>,
    ) -> [[Sums; VECTORS]; PIXELS] {
        let mut sums = [[Sums([0; LANES]); VECTORS]; PIXELS];
        let per_vector = window.rows * window.quads;
        for row in 0..window.rows {
            for quad in 0..window.quads {
                for (pixel, &at) in sums.iter_mut().zip(&window.at) {
                    let first = at + row * window.row_stride + 4 * quad;
                    let Some(&[a, b, c, d]) = window.input.get(first..first + 4) else { continue };
                    let bytes = [a, b, c, d].map(|v| i32::from(v as i8));
                    for (vector, Sums(sums)) in pixel.iter_mut().enumerate() {
                        let weights = &window.weights[vector * per_vector + row * window.quads + quad].0;
                        for (sum, w) in sums.iter_mut().zip(weights.chunks_exact(4)) {
                            for (w, v) in w.iter().zip(bytes) {
                                *sum += i32::from(*w) * v;
                            }
                        }
                    }
                }
            }
        }
        sums
    }
}
