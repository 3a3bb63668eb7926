//! For any processor, and what the others are held against.
#![allow(unsafe_code, reason = "the kernels' contract; there is nothing unsafe here")]

use super::{Kernel, LANES, Quad, Row, Steps, Sums, Window};

pub struct Portable;

impl Kernel<Quad> for Portable {
    #[inline(always)]
    unsafe fn sums<const PIXELS: usize, const VECTORS: usize>(
        window: &Window<'_, Quad, PIXELS, VECTORS>,
    ) -> [[Sums; VECTORS]; PIXELS] {
        let Steps { rows, row_stride, units, stride } = window.steps;
        let mut sums = [[Sums([0; LANES]); VECTORS]; PIXELS];
        let per_vector = rows * units;
        for row in 0..rows {
            for quad in 0..units {
                for (pixel, &at) in sums.iter_mut().zip(&window.at) {
                    let first = at + row * row_stride + stride * quad;
                    let Some(&[a, b, c, d]) = window.input.get(first..first + 4) else { continue };
                    let bytes = [a, b, c, d].map(|v| i32::from(v as i8));
                    for (vector, Sums(sums)) in pixel.iter_mut().enumerate() {
                        let weights = &window.weights[vector * per_vector + row * units + quad].0;
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

impl Kernel<Row> for Portable {
    #[inline(always)]
    unsafe fn sums<const PIXELS: usize, const VECTORS: usize>(
        window: &Window<'_, Row, PIXELS, VECTORS>,
    ) -> [[Sums; VECTORS]; PIXELS] {
        let Steps { rows, row_stride, units, stride } = window.steps;
        let mut sums = [[[0; LANES]; VECTORS]; PIXELS];
        let per_vector = rows * units;
        for (row, unit) in (0..rows).flat_map(|row| (0..units).map(move |unit| (row, unit))) {
            for v in 0..VECTORS {
                let weights = &window.weights[v * per_vector + row * units + unit].0;
                for p in 0..PIXELS {
                    let first = window.at[p] + row * row_stride + unit * stride + v * LANES;
                    let Some(bytes) = window.input[first..].first_chunk::<LANES>() else { continue };
                    for o in 0..LANES {
                        sums[p][v][o] += i32::from(weights[o]) * i32::from(bytes[o] as i8);
                    }
                }
            }
        }
        sums.map(|pixel| pixel.map(Sums))
    }
}
