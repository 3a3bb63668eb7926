//! The camera: light that drifts, a sensor that adds noise, and a JPEG encoder.

use super::canvas::{Canvas, Colour};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use salad_shared::preprocess::{Frame, FrameError};
use std::f32::consts::TAU;
use std::sync::LazyLock;

/// Quality of the JPEGs that the camera sends.
pub const JPEG_QUALITY: u8 = 90;
/// Steps of the tone curve's table.
const TONES: usize = 4096;

/// The light at one moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Light {
    /// Relative brightness.
    pub brightness: f32,
    /// Colour temperature: above 0 is warmer, below is colder.
    pub warmth: f32,
}

impl Light {
    /// The light at `time`, 0..=1 of a shift: it drifts slowly, by some percent, and `flicker` (-1..=1) is added.
    pub fn at(time: f32, flicker: f32) -> Light {
        Light {
            brightness: 1.0 + 0.05 * (TAU * time).sin() + 0.02 * (TAU * 2.7 * time + 1.0).sin() + 0.006 * flicker,
            warmth: 0.03 * (TAU * 0.8 * time + 2.0).sin() + 0.004 * flicker,
        }
    }

    /// The factors of red, green and blue.
    pub fn factors(self) -> Colour {
        [self.brightness * (1.0 + self.warmth), self.brightness, self.brightness * (1.0 - self.warmth)]
    }
}

/// The picture as a perfect sensor sees it.
pub fn develop(canvas: &Canvas) -> Result<Frame, FrameError> {
    expose(canvas, |_| 0.0)
}

/// The picture as the camera's sensor sees it; the same `seed` gives the same noise.
pub fn shoot(canvas: &Canvas, seed: u64) -> Result<Frame, FrameError> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    expose(canvas, |level| {
        // Four random bytes add up to something close to a normal distribution, of standard deviation 148.
        let bell = rng.next_u32().to_le_bytes().into_iter().map(f32::from).sum::<f32>() - 510.0;
        // In 8-bit levels: the sensor's own noise and the light's, which the tone curve has evened out.
        (1.3 + 1.1 * level) * bell / 148.0
    })
}

fn expose(canvas: &Canvas, mut noise: impl FnMut(f32) -> f32) -> Result<Frame, FrameError> {
    let mut rgb = Vec::with_capacity(canvas.pixels().len() * 3);
    for linear in canvas.pixels().iter().flatten() {
        let level = tone(*linear);
        rgb.push((level * 255.0 + noise(level)).round() as u8);
    }
    Frame::new(canvas.width(), canvas.height(), rgb)
}

/// Linear light to a display level, 0..=1: the sRGB curve with a soft shoulder, so that highlights do not clip hard.
fn tone(linear: f32) -> f32 {
    static TABLE: LazyLock<Vec<f32>> = LazyLock::new(|| {
        let soft = |x: f32| if x < 0.6 { x } else { 0.6 + 0.4 * (1.0 - (-(x - 0.6) / 0.4).exp()) };
        let encode = |x: f32| if x <= 0.003_130_8 { 12.92 * x } else { 1.055 * x.powf(1.0 / 2.4) - 0.055 };
        (0..=TONES).map(|i| encode(soft(i as f32 / TONES as f32 * 2.0))).collect()
    });
    let index = (linear.max(0.0) * 0.5 * TONES as f32).min(TONES as f32) as usize;
    TABLE.get(index).copied().unwrap_or(1.0)
}
