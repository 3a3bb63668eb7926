//! How noisy a picture is: a sensor that turns its gain up in the dark sees grain, which is no anomaly.

use crate::grey::median;
use salad_shared::preprocess::Frame;
use std::collections::VecDeque;
use std::time::Duration;

/// Every so many rows are looked at.
const ROW_STEP: usize = 8;

/// What is usual is the median of so many looks, this far apart: half an hour, so that a dark quarter of one is none.
const LOOKS: usize = 61;
const BETWEEN: Duration = Duration::from_secs(30);

/// Of the absolute second differences of Gaussian noise, the median is so many of its standard deviations: the upper quartile
/// of a normal distribution times sqrt(1 + 4 + 1).
const MEDIAN_OF_DIFFERENCES: f32 = 0.6745 * 2.449_49;

/// Knows how noisy the camera's pictures usually are.
#[derive(Debug, Default)]
pub struct Noise {
    looks: VecDeque<f32>,
    last: Option<Duration>,
}

impl Noise {
    /// Looks, now and then, at a frame of a usual scene taken at `now`.
    pub fn learn(&mut self, frame: &Frame, now: Duration) {
        if self.last.is_some_and(|last| now.saturating_sub(last) < BETWEEN) {
            return;
        }
        self.last = Some(now);
        if self.looks.len() == LOOKS {
            self.looks.pop_front();
        }
        self.looks.push_back(level(frame));
    }

    /// The standard deviation of the noise that a frame has and usual ones have not, levels of 255; 0 as long as it is not
    /// known what is usual.
    pub fn excess(&self, frame: &Frame) -> f32 {
        if self.looks.is_empty() {
            return 0.0;
        }
        let usual = median(self.looks.iter().copied().collect());
        let level = level(frame);
        (level * level - usual * usual).max(0.0).sqrt()
    }
}

/// The standard deviation of what looks like noise, levels of 255: half of all places differ from the mean of their two
/// neighbours by less, since most of a picture is smooth. Edges are few, so they hardly count.
fn level(frame: &Frame) -> f32 {
    let mut counts = [0u32; 2 * 255 + 1];
    let rows = frame.rgb().chunks_exact((frame.width() as usize * 3).max(1));
    for row in rows.step_by(ROW_STEP) {
        let green = |pixel: &[u8]| i32::from(pixel[1]);
        for three in row.as_chunks::<3>().0.windows(3) {
            let bend = green(&three[0]) - 2 * green(&three[1]) + green(&three[2]);
            counts[bend.unsigned_abs() as usize] += 1;
        }
    }
    let half = counts.iter().sum::<u32>() as f32 / 2.0;
    let mut below = 0.0;
    for (difference, &count) in counts.iter().enumerate() {
        let count = count as f32;
        if count > 0.0 && below + count >= half {
            // Differences are whole numbers: the median lies somewhere around this one.
            return ((difference as f32 - 0.5 + (half - below) / count) / MEDIAN_OF_DIFFERENCES).max(0.0);
        }
        below += count;
    }
    0.0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A ramp with an edge and noise of this standard deviation.
    fn scene(sigma: f32, seed: u64) -> Frame {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut noise = || (0..12).map(|_| random.f32()).sum::<f32>() - 6.0;
        let mut rgb = Vec::new();
        for place in 0..160 * 120 {
            let shade = if place % 160 < 80 { 60.0 } else { 180.0 } + (place / 160) as f32 * 0.3;
            rgb.extend([0; 3].map(|_| (shade + sigma * noise()).round().clamp(0.0, 255.0) as u8));
        }
        Frame::new(160, 120, rgb).unwrap()
    }

    #[test]
    fn the_level_is_the_standard_deviation_whatever_is_to_be_seen() {
        for sigma in [2.0, 5.0, 15.0] {
            let level = level(&scene(sigma, 1));
            assert!((level / sigma - 1.0).abs() < 0.15, "{level} for {sigma}");
        }
        assert!(level(&scene(0.0, 1)) < 0.4);
        assert_eq!(level(&Frame::new(1, 1, vec![9; 3]).unwrap()), 0.0);
    }

    #[test]
    fn noise_counts_above_what_is_usual_for_the_camera() {
        let mut noise = Noise::default();
        assert_eq!(noise.excess(&scene(15.0, 2)), 0.0, "nothing is known to be usual");
        for look in 0..10 {
            noise.learn(&scene(5.0, look), BETWEEN * look as u32);
        }
        assert!(noise.excess(&scene(5.0, 20)) < 2.0);
        let excess = noise.excess(&scene(13.0, 21));
        assert!((excess - 12.0).abs() < 1.5, "{excess}");
    }
}
