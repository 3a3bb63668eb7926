//! Seeded random views of a frame: one resampling pass, then blur, a hole, colour and noise, written as network input.

mod colour;
mod config;
mod geometry;
mod simd;

pub use config::AugmentConfig;
pub use geometry::ToView;

use colour::Colour;
use geometry::{Affine, Hole};
use rand::{Rng, RngExt};
use salad_shared::preprocess::{Frame, InputSpec, luma};

/// Makes views of frames, its buffers kept between them.
#[derive(Debug)]
pub struct Augmenter {
    config: AugmentConfig,
    input: InputSpec,
    /// \[3, height, width\], values 0 to 255.
    planes: Vec<f32>,
    /// \[height, width\], for the blur.
    scratch: Vec<f32>,
}

impl Augmenter {
    /// For one configuration and one input, both checked by the caller.
    pub fn new(config: AugmentConfig, input: InputSpec) -> Augmenter {
        let pixels = input.width as usize * input.height as usize;
        Augmenter { config, input, planes: vec![0.0; 3 * pixels], scratch: vec![0.0; pixels] }
    }

    /// Fills `out`, \[height, width, channels\], with a view of `frame` in -1..=1. What is drawn from `rng` depends on
    /// the configuration alone, so that one seed makes one view. With everything off the values are what
    /// [`salad_shared::preprocess::Preprocessor`] makes of the frame, bit for bit. A frame of another size than the
    /// input's is resized first. Says where things of the frame are in the view.
    pub fn run(&mut self, frame: &Frame, rng: &mut impl Rng, out: &mut [f32]) -> ToView {
        let resized;
        let frame = if (frame.width(), frame.height()) == (self.input.width, self.input.height) {
            frame
        } else {
            resized = frame.resized(self.input.width, self.input.height);
            &resized
        };
        let draw = Draw::new(&self.config, &self.input, rng);
        geometry::sample(frame, &draw.affine, &mut self.planes);
        if draw.blur_sigma >= MIN_BLUR_SIGMA {
            let (width, height) = (self.input.width as usize, self.input.height as usize);
            colour::blur(&mut self.planes, width, height, draw.blur_sigma, &mut self.scratch);
        }
        if draw.hole.is_some() || draw.colour.is_some() {
            let mean = mean_colour(frame);
            if let Some(hole) = &draw.hole {
                hole.cut(mean, &mut self.planes);
            }
            if let Some(colour) = &draw.colour {
                colour.apply(luma(mean[0], mean[1], mean[2]), &mut self.planes);
            }
        }
        let planes = self.input.channels as usize * self.scratch.len();
        if self.input.channels == 1 {
            to_luma(&mut self.planes);
        }
        let values = self.planes.get_mut(..planes).unwrap_or_default();
        if draw.noise_sigma > 0.0 {
            colour::add_noise(values, draw.noise_sigma * 255.0, rng);
        }
        // Values that were only moved are in range, and a clamp could change what luma's rounding made of them.
        let changed =
            !draw.affine.is_identity() || draw.blur_sigma > 0.0 || draw.colour.is_some() || draw.noise_sigma > 0.0;
        simd::widest(|| to_input(values, changed));
        interleave(values, self.input.channels as usize, out);
        draw.affine.to_view(&self.input)
    }
}

/// Makes the first of three planes the luma of the three.
fn to_luma(planes: &mut [f32]) {
    let (red, rest) = planes.split_at_mut(planes.len() / 3);
    let (green, blue) = rest.split_at(rest.len() / 2);
    for ((r, g), b) in red.iter_mut().zip(green).zip(blue) {
        *r = luma(*r, *g, *b);
    }
}

/// Values of 0 to 255, clamped to them if `clamp`, to -1..=1.
#[inline(always)]
fn to_input(values: &mut [f32], clamp: bool) {
    if clamp {
        values.iter_mut().for_each(|v| *v = v.clamp(0.0, 255.0) / 127.5 - 1.0);
    } else {
        values.iter_mut().for_each(|v| *v = *v / 127.5 - 1.0);
    }
}

/// Planes, \[channels, pixels\], to pixels, \[pixels, channels\].
fn interleave(planes: &[f32], channels: usize, out: &mut [f32]) {
    if channels != 3 {
        out.iter_mut().zip(planes).for_each(|(o, v)| *o = *v);
        return;
    }
    let (red, rest) = planes.split_at(planes.len() / 3);
    let (green, blue) = rest.split_at(rest.len() / 2);
    for (((o, r), g), b) in out.as_chunks_mut::<3>().0.iter_mut().zip(red).zip(green).zip(blue) {
        *o = [*r, *g, *b];
    }
}

/// A narrower blur changes nothing that could be seen.
const MIN_BLUR_SIGMA: f32 = 0.2;

/// What chance decided for one view.
struct Draw {
    affine: Affine,
    blur_sigma: f32,
    hole: Option<Hole>,
    colour: Option<Colour>,
    noise_sigma: f32,
}

impl Draw {
    fn new(config: &AugmentConfig, input: &InputSpec, rng: &mut impl Rng) -> Draw {
        let affine = Affine::draw(config, input, rng);
        let blur_sigma = (config.blur_sigma * rng.random::<f64>()) as f32;
        let hole = Hole::draw(config, input, rng);
        let colour = Colour::draw(config, rng);
        let noise_sigma = (config.noise * rng.random::<f64>()) as f32;
        Draw { affine, blur_sigma, hole, colour, noise_sigma }
    }
}

/// Uniform in -range..range.
fn signed(rng: &mut impl Rng, range: f64) -> f64 {
    (rng.random::<f64>() * 2.0 - 1.0) * range
}

/// True with this probability.
fn chance(rng: &mut impl Rng, probability: f64) -> bool {
    rng.random::<f64>() < probability
}

/// Mean of red, green and blue, 0 to 255.
fn mean_colour(frame: &Frame) -> [f32; 3] {
    let mut sums = [0u64; 3];
    for pixel in frame.rgb().chunks_exact(3) {
        for (sum, &value) in sums.iter_mut().zip(pixel) {
            *sum += u64::from(value);
        }
    }
    let pixels = (frame.rgb().len() / 3).max(1) as f64;
    sums.map(|s| (s as f64 / pixels) as f32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;
    use salad_shared::preprocess::Preprocessor;

    fn frame(width: u32, height: u32) -> Frame {
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let mut rgb = vec![0; (width * height * 3) as usize];
        rng.fill_bytes(&mut rgb);
        // Extremes, where rounding would show.
        rgb[..9].copy_from_slice(&[255, 255, 255, 0, 0, 0, 255, 0, 255]);
        Frame::new(width, height, rgb).unwrap()
    }

    fn view(config: &AugmentConfig, input: &InputSpec, frame: &Frame, seed: u64) -> Vec<f32> {
        let mut out = vec![9.0; input.len()];
        Augmenter::new(config.clone(), input.clone()).run(frame, &mut ChaCha8Rng::seed_from_u64(seed), &mut out);
        out
    }

    /// Pixels as planes, the order that inference has them in.
    fn planes(pixels: &[f32], channels: usize) -> Vec<f32> {
        (0..channels).flat_map(|c| pixels.iter().skip(c).step_by(channels).copied()).collect()
    }

    /// Everything at once, and strongly.
    fn strong() -> AugmentConfig {
        AugmentConfig {
            hflip: 0.5,
            vflip: 0.5,
            rotate_degrees: 180.0,
            translate: 0.5,
            scale: 0.5,
            crop_min_area: 0.1,
            brightness: 1.0,
            contrast: 1.0,
            saturation: 1.0,
            hue_degrees: 180.0,
            gamma: 3.0,
            grey: 0.3,
            noise: 0.5,
            blur_sigma: 5.0,
            erase: 0.5,
            erase_max_area: 0.5,
        }
    }

    #[test]
    fn with_all_off_a_view_is_what_inference_sees() {
        for (width, height, channels) in [(16, 8, 3), (16, 8, 1), (9, 31, 3), (9, 31, 1)] {
            let input = InputSpec { width, height, channels };
            for frame in [frame(width, height), frame(40, 30)] {
                let mut expected = Vec::new();
                Preprocessor::new(input.clone()).run(&frame, &mut expected);
                let got = planes(&view(&AugmentConfig::off(), &input, &frame, 1), channels as usize);
                assert!(got.iter().zip(&expected).all(|(a, b)| a.to_bits() == b.to_bits()));
            }
        }
    }

    #[test]
    fn one_seed_makes_one_view_and_values_stay_in_range() {
        strong().check().unwrap();
        for channels in [1, 3] {
            let input = InputSpec { width: 24, height: 17, channels };
            let frame = frame(24, 17);
            let mut augmenter = Augmenter::new(strong(), input.clone());
            let mut out = vec![0.0; input.len()];
            for seed in 0..200 {
                augmenter.run(&frame, &mut ChaCha8Rng::seed_from_u64(seed), &mut out);
                assert!(out.iter().all(|v| (-1.0..=1.0).contains(v)), "seed {seed}");
                assert_eq!(out, view(&strong(), &input, &frame, seed), "seed {seed}: buffers must not matter");
            }
            assert_ne!(view(&strong(), &input, &frame, 1), view(&strong(), &input, &frame, 2));
        }
    }

    #[test]
    fn each_setting_changes_the_view_by_itself() {
        let input = InputSpec { width: 24, height: 17, channels: 3 };
        let frame = frame(24, 17);
        let off = AugmentConfig::off();
        let plain = view(&off, &input, &frame, 3);
        for config in [
            AugmentConfig { hflip: 1.0, ..off.clone() },
            AugmentConfig { vflip: 1.0, ..off.clone() },
            AugmentConfig { rotate_degrees: 10.0, ..off.clone() },
            AugmentConfig { translate: 0.2, ..off.clone() },
            AugmentConfig { scale: 0.2, ..off.clone() },
            AugmentConfig { crop_min_area: 0.5, ..off.clone() },
            AugmentConfig { brightness: 0.5, ..off.clone() },
            AugmentConfig { contrast: 0.5, ..off.clone() },
            AugmentConfig { saturation: 0.5, ..off.clone() },
            AugmentConfig { hue_degrees: 40.0, ..off.clone() },
            AugmentConfig { gamma: 0.5, ..off.clone() },
            AugmentConfig { grey: 1.0, ..off.clone() },
            AugmentConfig { noise: 0.2, ..off.clone() },
            AugmentConfig { blur_sigma: 2.0, ..off.clone() },
            AugmentConfig { erase: 1.0, ..off.clone() },
        ] {
            assert_ne!(view(&config, &input, &frame, 3), plain, "{config:?}");
        }
    }

    #[test]
    fn flips_mirror_exactly() {
        let (width, height) = (11, 8);
        let input = InputSpec { width, height, channels: 3 };
        let frame = frame(width, height);
        let plain = view(&AugmentConfig::off(), &input, &frame, 0);
        let both = AugmentConfig { hflip: 1.0, vflip: 1.0, ..AugmentConfig::off() };
        let turned: Vec<f32> = plain.chunks(3).rev().flatten().copied().collect();
        assert_eq!(view(&both, &input, &frame, 0), turned);
    }
}
