//! What light and sensor do to a view: blur, colour, gamma, noise. Values are 0 to 255.

use super::geometry::mirrored;
use super::{AugmentConfig, chance, signed, simd};
use rand::Rng;

/// A change of colour: brightness, contrast, saturation and hue in one matrix, then gamma.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Colour {
    brightness: f32,
    contrast: f32,
    /// 0 makes the view grey.
    saturation: f32,
    hue_radians: f32,
    gamma: f32,
}

impl Colour {
    /// `None` where nothing is to change.
    pub(super) fn draw(config: &AugmentConfig, rng: &mut impl Rng) -> Option<Colour> {
        let mut factor = |range| 1.0 + signed(rng, range) as f32;
        let (brightness, contrast, saturation) =
            (factor(config.brightness), factor(config.contrast), factor(config.saturation));
        let hue_radians = signed(rng, config.hue_degrees).to_radians() as f32;
        let gamma = signed(rng, (1.0 + config.gamma).ln()).exp() as f32;
        let saturation = if chance(rng, config.grey) { 0.0 } else { saturation };
        let colour = Colour { brightness, contrast, saturation, hue_radians, gamma };
        (colour != Colour::NONE).then_some(colour)
    }

    const NONE: Colour = Colour { brightness: 1.0, contrast: 1.0, saturation: 1.0, hue_radians: 0.0, gamma: 1.0 };

    /// Changes `planes`, \[3, height, width\]; contrast is about `mean_luma`.
    pub(super) fn apply(&self, mean_luma: f32, planes: &mut [f32]) {
        let matrix = self.matrix();
        // The matrix keeps greys grey, so that one offset serves the three channels.
        let offset = (1.0 - self.contrast) * self.brightness * mean_luma;
        simd::widest(|| mix(&matrix, offset, planes));
        if self.gamma != 1.0 {
            let curve = curve(self.gamma);
            simd::widest(|| bend(&curve, planes));
        }
    }

    /// contrast * brightness * (turn of the hue) * (saturation).
    fn matrix(&self) -> [[f32; 3]; 3] {
        let (sin, cos) = self.hue_radians.sin_cos();
        // A rotation about the axis of greys.
        let third = (1.0 - cos) / 3.0;
        let (same, next, previous) = (cos + third, third - sin / 3f32.sqrt(), third + sin / 3f32.sqrt());
        let hue = [[same, next, previous], [previous, same, next], [next, previous, same]];
        let grey = [0.299, 0.587, 0.114].map(|weight| (1.0 - self.saturation) * weight);
        // Each row of `hue` sums to 1, so that grey passes through it unchanged.
        hue.map(|row| {
            let mut out = [0.0; 3];
            for (o, (h, g)) in out.iter_mut().zip(row.into_iter().zip(grey)) {
                *o = self.contrast * self.brightness * (self.saturation * h + g);
            }
            out
        })
    }
}

/// Multiplies each colour of `planes` by `matrix`, adds `offset`, and clamps.
#[inline(always)]
fn mix(matrix: &[[f32; 3]; 3], offset: f32, planes: &mut [f32]) {
    let (red, rest) = planes.split_at_mut(planes.len() / 3);
    let (green, blue) = rest.split_at_mut(rest.len() / 2);
    for ((r, g), b) in red.iter_mut().zip(green).zip(blue) {
        let [x, y, z] = matrix.map(|[mr, mg, mb]| (mr * *r + mg * *g + mb * *b + offset).clamp(0.0, 255.0));
        (*r, *g, *b) = (x, y, z);
    }
}

/// Every value by its place on the curve.
#[inline(always)]
fn bend(curve: &[f32; 257], planes: &mut [f32]) {
    planes.iter_mut().for_each(|v| *v = on_curve(curve, *v));
}

/// Blurs `planes`, \[3, height, width\]; borders are mirrored. `scratch` is \[height, width\].
pub(super) fn blur(planes: &mut [f32], width: usize, height: usize, sigma: f32, scratch: &mut [f32]) {
    let kernel = gaussian(sigma);
    let radius = kernel.len() as i64 / 2;
    let around =
        |at: usize, side: usize| (-radius..=radius).map(move |offset| mirrored(at as i64 + offset, side as i64 - 1));
    let mut padded: Vec<f32> = Vec::with_capacity(width + kernel.len());
    for plane in planes.chunks_exact_mut((width * height).max(1)) {
        for (row, out) in plane.chunks_exact(width).zip(scratch.chunks_exact_mut(width)) {
            padded.clear();
            padded.extend(around(0, width).take(radius as usize).filter_map(|i| row.get(i)));
            padded.extend(row);
            padded.extend(around(width - 1, width).skip(radius as usize + 1).filter_map(|i| row.get(i)));
            out.fill(0.0);
            for (shift, weight) in kernel.iter().enumerate() {
                let source = padded.get(shift..).unwrap_or_default();
                out.iter_mut().zip(source).for_each(|(o, v)| *o += weight * v);
            }
        }
        for (y, out) in plane.chunks_exact_mut(width).enumerate() {
            out.fill(0.0);
            for (weight, source) in kernel.iter().zip(around(y, height)) {
                let row = scratch.get(source * width..).unwrap_or_default();
                out.iter_mut().zip(row).for_each(|(o, v)| *o += weight * v);
            }
        }
    }
}

/// Adds to each value its own noise of standard deviation `sigma`. The sum of four random bytes is near enough to a
/// Gaussian (it ends at 3.5 standard deviations) and costs a tenth of one.
pub(super) fn add_noise(values: &mut [f32], sigma: f32, rng: &mut impl Rng) {
    // Mean and variance of a uniform byte are 127.5 and (256^2 - 1) / 12.
    let scale = sigma / (4.0f32 * 65535.0 / 12.0).sqrt();
    for pair in values.chunks_mut(2) {
        let bytes = rng.next_u64();
        let twos = (bytes & 0x00ff_00ff_00ff_00ff) + (bytes >> 8 & 0x00ff_00ff_00ff_00ff);
        let fours = (twos & 0x0000_ffff_0000_ffff) + (twos >> 16 & 0x0000_ffff_0000_ffff);
        for (value, sum) in pair.iter_mut().zip([fours as u32, (fours >> 32) as u32]) {
            *value += scale * (sum as f32 - 510.0);
        }
    }
}

/// Weights of a Gaussian out to 3 standard deviations; they sum to 1, their number is odd.
fn gaussian(sigma: f32) -> Vec<f32> {
    let radius = (3.0 * sigma).ceil().max(1.0) as i32;
    let weights: Vec<f32> = (-radius..=radius).map(|i| (-((i * i) as f32) / (2.0 * sigma * sigma)).exp()).collect();
    let sum: f32 = weights.iter().sum();
    weights.into_iter().map(|w| w / sum).collect()
}

/// 255 (v / 255)^gamma at the whole values from 0 to 255, the last one twice.
fn curve(gamma: f32) -> [f32; 257] {
    std::array::from_fn(|v| 255.0 * (v.min(255) as f32 / 255.0).powf(gamma))
}

/// The curve at `v`, straight between whole values.
#[inline(always)]
fn on_curve(curve: &[f32; 257], v: f32) -> f32 {
    let below = usize::from(v as u8);
    let start = curve[below];
    start + (v - below as f32) * (curve[below + 1] - start)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;
    use salad_shared::preprocess::luma;

    fn applied(colour: &Colour, mean: f32, pixel: [f32; 3]) -> [f32; 3] {
        let mut planes = pixel;
        colour.apply(mean, &mut planes);
        planes
    }

    fn near(a: [f32; 3], b: [f32; 3]) {
        assert!(a.iter().zip(b).all(|(x, y)| (x - y).abs() < 0.01), "{a:?} {b:?}");
    }

    #[test]
    fn each_change_of_colour_is_what_its_name_says() {
        let pixel = [40.0, 100.0, 160.0];
        near(applied(&Colour { brightness: 0.5, ..Colour::NONE }, 80.0, pixel), [20.0, 50.0, 80.0]);
        near(applied(&Colour { contrast: 0.5, ..Colour::NONE }, 80.0, pixel), [60.0, 90.0, 120.0]);
        near(applied(&Colour { saturation: 0.0, ..Colour::NONE }, 80.0, pixel), [luma(40.0, 100.0, 160.0); 3]);
        let third = 2.0 * std::f32::consts::PI / 3.0;
        near(applied(&Colour { hue_radians: third, ..Colour::NONE }, 80.0, pixel), [160.0, 40.0, 100.0]);
        near(applied(&Colour { gamma: 2.0, ..Colour::NONE }, 80.0, [0.0, 51.0, 255.0]), [0.0, 10.2, 255.0]);
        near(applied(&Colour { brightness: 2.0, ..Colour::NONE }, 80.0, pixel), [80.0, 200.0, 255.0]);
    }

    #[test]
    fn a_blur_keeps_flat_pictures_and_spreads_a_point() {
        let (width, height) = (15, 9);
        let mut scratch = vec![0.0; width * height];
        let mut flat = vec![77.0; 3 * width * height];
        blur(&mut flat, width, height, 5.0, &mut scratch);
        assert!(flat.iter().all(|v| (v - 77.0).abs() < 1e-3));
        let mut point = vec![0.0; 3 * width * height];
        let centre = 4 * width + 7;
        point[centre] = 255.0;
        blur(&mut point, width, height, 0.8, &mut scratch);
        let plane = &point[..width * height];
        assert!((plane.iter().sum::<f32>() - 255.0).abs() < 0.1);
        // In two dimensions a neighbour has exp(-1 / (2 sigma^2)) of the centre.
        for neighbour in [centre - 1, centre + 1, centre - width, centre + width] {
            assert!((plane[neighbour] / plane[centre] - (-1.0f32 / 1.28).exp()).abs() < 1e-4);
        }
    }

    #[test]
    fn noise_has_its_standard_deviation_and_no_mean() {
        let mut values = vec![0.0; 99_999];
        add_noise(&mut values, 10.0, &mut ChaCha8Rng::seed_from_u64(1));
        let count = values.len() as f64;
        let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / count;
        let variance = values.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>() / count;
        assert!(mean.abs() < 0.15 && (variance.sqrt() - 10.0).abs() < 0.1, "{mean} {variance}");
        let within = values.iter().filter(|v| v.abs() < 10.0).count() as f64 / count;
        assert!((within - 0.68).abs() < 0.02, "{within}");
    }
}
