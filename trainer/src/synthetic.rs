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

pub fn foreign(frames: &[Frame], seed: u64) -> Vec<Frame> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed ^ 0x1234);
    let mut made = Vec::new();
    for (i, frame) in frames.iter().enumerate() {
        for _ in 0..COPIES {
            let other = if frames.len() < 2 { 0 } else { (i + rng.random_range(1..frames.len())) % frames.len() };
            let other = &frames[other];
            let (width, height) = (frame.width() as usize, frame.height() as usize);
            let (w, h) = (((width as f32 * rng.random_range(0.1..0.4f32)) as usize).max(1), ((height as f32 * rng.random_range(0.1..0.4f32)) as usize).max(1));
            let (x0, y0) = (rng.random_range(0..=width - w), rng.random_range(0..=height - h));
            let (fx, fy) = (rng.random_range(0..=width - w), rng.random_range(0..=height - h));
            let alpha = rng.random_range(0.3..0.9f32);
            let mut out = frame.clone();
            for y in 0..h {
                for x in 0..w {
                    let (a, b) = (frame.pixel(x0 + x, y0 + y), other.pixel(fx + x, fy + y));
                    let c = std::array::from_fn(|c| (f32::from(a[c]) * (1.0 - alpha) + f32::from(b[c]) * alpha) as u8);
                    out.set_pixel(x0 + x, y0 + y, c);
                }
            }
            made.push(out);
        }
    }
    made
}

/// soft light or dark spots
pub fn soft_spots(frames: &[Frame], seed: u64) -> Vec<Frame> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed ^ 0x4321);
    let mut made = Vec::new();
    for frame in frames {
        for _ in 0..COPIES {
            let (width, height) = (frame.width() as f32, frame.height() as f32);
            let (cx, cy) = (rng.random_range(0.15..0.85f32) * width, rng.random_range(0.15..0.85f32) * height);
            let (rx, ry) = (rng.random_range(0.06..0.2f32) * width, rng.random_range(0.06..0.2f32) * height);
            let strength = rng.random_range(25.0..80.0f32) * if rng.random_range(0..2) == 0 { 1.0 } else { -1.0 };
            let mut out = frame.clone();
            for y in 0..frame.height() as usize {
                for x in 0..frame.width() as usize {
                    let d = ((x as f32 - cx) / rx).powi(2) + ((y as f32 - cy) / ry).powi(2);
                    if d > 9.0 { continue; }
                    let add = strength * (-0.5 * d).exp();
                    let p = frame.pixel(x, y);
                    out.set_pixel(x, y, std::array::from_fn(|c| (f32::from(p[c]) + add).clamp(0.0, 255.0) as u8));
                }
            }
            made.push(out);
        }
    }
    made
}
