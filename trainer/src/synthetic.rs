//! Made-up anomalies: a patch of a normal validation image cut out and pasted elsewhere in it, after CutPaste (Li et al.
//! 2021). They let settings be compared without a single real anomaly, so that the test set never chooses anything.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use salad_shared::preprocess::Frame;

/// Made-up anomalies for each normal image.
pub const COPIES: usize = 4;

/// A patch's sides, as shares of the image's.
const SIDES: std::ops::Range<f32> = 0.08..0.25;

/// How much brighter or darker each of a patch's channels may become, as a share.
const COLOUR: f32 = 0.25;

/// [`COPIES`] of each frame, each with one patch in a wrong place and a changed colour. The same seed gives the same.
pub fn cut_paste(frames: &[Frame], seed: u64) -> Vec<Frame> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    frames.iter().flat_map(|frame| std::iter::repeat_n(frame, COPIES)).map(|frame| paste(frame, &mut rng)).collect()
}

fn paste(frame: &Frame, rng: &mut ChaCha8Rng) -> Frame {
    let (width, height) = (frame.width() as usize, frame.height() as usize);
    let side = |whole: usize, rng: &mut ChaCha8Rng| ((whole as f32 * rng.random_range(SIDES)) as usize).clamp(1, whole);
    let (w, h) = (side(width, rng), side(height, rng));
    let place = |rng: &mut ChaCha8Rng| (rng.random_range(0..=width - w), rng.random_range(0..=height - h));
    let (from, to) = (place(rng), place(rng));
    let gain: [f32; 3] = std::array::from_fn(|_| 1.0 + rng.random_range(-COLOUR..COLOUR));
    let mut out = frame.clone();
    for row in 0..h {
        for column in 0..w {
            let pixel = frame.pixel(from.0 + column, from.1 + row);
            let changed = std::array::from_fn(|c| (f32::from(pixel[c]) * gain[c]).round().clamp(0.0, 255.0) as u8);
            out.set_pixel(to.0 + column, to.1 + row, changed);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_changes_and_the_rest_stays() {
        let rgb = (0..64 * 48 * 3).map(|v: u32| (v * 7 % 251) as u8).collect();
        let frame = Frame::new(64, 48, rgb).unwrap();
        let made = cut_paste(std::slice::from_ref(&frame), 3);
        assert_eq!(made.len(), COPIES);
        assert_eq!(made, cut_paste(std::slice::from_ref(&frame), 3));
        for one in &made {
            let differ = one.rgb().iter().zip(frame.rgb()).filter(|(a, b)| a != b).count();
            let largest = (0.25 * 64.0 * 0.25 * 48.0) as usize * 3;
            assert!((1..=largest).contains(&differ), "{differ}");
        }
    }

    #[test]
    fn one_pixel_is_enough() {
        assert_eq!(cut_paste(&[Frame::new(1, 1, vec![9; 3]).unwrap()], 1).len(), COPIES);
    }
}
