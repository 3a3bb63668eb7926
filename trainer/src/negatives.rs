//! Negatives: pictures made of normal ones that are to be far from all of them.
//!
//! The method tells normal images from each other and has nothing to tell them from. A network may solve that with whatever
//! differs between normal images, and a fault need not move it. A batch can therefore have, beside the views, one picture of
//! each image that is normal no more; its embedding joins the denominators of the losses (METHOD's p_ij), so that normal
//! images are told from it as well.

use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use salad_shared::preprocess::Frame;
use serde::{Deserialize, Serialize};

/// `train.negatives`: what is made of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Negatives {
    /// Nothing: the method as published.
    None,
    /// A region of soft outline, changed in place: another image's, lighter or darker, blurred, or from elsewhere in the
    /// image. For faults in something that otherwise looks the same.
    Pasted,
    /// The image, turned by 90, 180 or 270 degrees. For classes of objects, which stand on their feet.
    Turned,
}

/// A region's greatest share of the image, by the quantile of the noise above which it lies.
const QUANTILES: std::ops::Range<f32> = 0.5..0.95;
/// How soft its outline is, in the units of the noise.
const SOFTNESS: std::ops::Range<f32> = 0.05..0.5;
/// How much lighter or darker it may become, of 255.
const LIGHT: std::ops::Range<f32> = 19.0..77.0;
/// Half the side of the square that it may be blurred over, pixels.
const BLUR: std::ops::RangeInclusive<usize> = 1..=4;
/// From this share of the most that any pixel is changed, a pixel counts as changed.
const CHANGED: f32 = 0.5;

/// A negative, and where in it, from -1 at the left or upper rim to 1, things are no longer normal.
#[derive(Debug, Clone)]
pub struct Negative {
    /// The picture, of its image's size.
    pub frame: Frame,
    /// Centres (x, y) of changed pixels; `None` where the whole picture is changed.
    pub changed: Option<Vec<[f32; 2]>>,
}

impl Negatives {
    /// What becomes of a frame; `other` is another normal one of the same size. `None` where there are to be no negatives.
    pub fn make(self, frame: &Frame, other: &Frame, rng: &mut impl Rng) -> Option<Negative> {
        match self {
            Negatives::None => None,
            Negatives::Turned => Some(Negative { frame: turned(frame, rng.random_range(1..=3)), changed: None }),
            Negatives::Pasted => {
                let (width, height) = (frame.width() as usize, frame.height() as usize);
                let mask = region(width, height, rng);
                let fill = fill(frame, other, rng);
                let mut changed = frame.clone();
                for (i, (&share, new)) in mask.iter().zip(fill.chunks_exact(3)).enumerate() {
                    let (x, y) = (i % width, i / width);
                    let old = frame.pixel(x, y);
                    let mixed = |c: usize| f32::from(old[c]) * (1.0 - share) + new[c] * share;
                    changed.set_pixel(x, y, std::array::from_fn(|c| mixed(c).round().clamp(0.0, 255.0) as u8));
                }
                let centre = |at: usize, count: usize| (2 * at + 1) as f32 / count as f32 - 1.0;
                let most = mask.iter().copied().fold(0.0, f32::max);
                let inside = mask.iter().enumerate().filter(|(_, share)| **share >= CHANGED * most);
                let places = inside.map(|(i, _)| [centre(i % width, width), centre(i / width, height)]).collect();
                Some(Negative { frame: changed, changed: Some(places) })
            }
        }
    }
}

/// `copies` negatives of each frame, its neighbour being the other one; none where there are to be none. The same seed gives
/// the same.
pub fn of_each(kind: Negatives, frames: &[Frame], copies: usize, seed: u64) -> Vec<Frame> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let pairs = frames.iter().zip(frames.iter().cycle().skip(1));
    pairs
        .flat_map(|pair| std::iter::repeat_n(pair, copies))
        .filter_map(|(frame, other)| kind.make(frame, other, &mut rng))
        .map(|negative| negative.frame)
        .collect()
}

/// A frame after `quarters` turns by 90 degrees, clockwise, at its own size.
fn turned(frame: &Frame, quarters: u32) -> Frame {
    let (width, height) = (frame.width() as usize, frame.height() as usize);
    let mut out = frame.clone();
    for y in 0..height {
        for x in 0..width {
            // As if the picture were a square; it is one, at a network's input.
            let (across, down) = (y * width / height, x * height / width);
            let from = match quarters {
                1 => (across, height - 1 - down),
                2 => (width - 1 - x, height - 1 - y),
                _ => (width - 1 - across, down),
            };
            out.set_pixel(x, y, frame.pixel(from.0, from.1));
        }
    }
    out
}

/// How far each pixel is changed, 0 to 1, \[height x width\]: where smooth noise is high, inside a window.
fn region(width: usize, height: usize, rng: &mut impl Rng) -> Vec<f32> {
    let cells = rng.random_range(2..=6usize);
    let noise: Vec<f32> = (0..(cells + 1) * (cells + 1)).map(|_| rng.random_range(-1.7..1.7)).collect();
    let smooth = |t: f32| t * t * (3.0 - 2.0 * t);
    let at = |x: usize, y: usize| {
        let (x, y) = (x as f32 / width as f32 * cells as f32, y as f32 / height as f32 * cells as f32);
        let (column, row) = (x as usize, y as usize);
        let (u, v) = (smooth(x.fract()), smooth(y.fract()));
        let corner = |dx: usize, dy: usize| noise[(row + dy) * (cells + 1) + column + dx];
        let upper = corner(0, 0) * (1.0 - u) + corner(1, 0) * u;
        let lower = corner(0, 1) * (1.0 - u) + corner(1, 1) * u;
        upper * (1.0 - v) + lower * v
    };
    let mut mask: Vec<f32> = (0..width * height).map(|i| at(i % width, i / width)).collect();
    // The window has its own extremes: the quantile is of what it shows.
    let side = |whole: usize, rng: &mut dyn Rng| rng.random_range((whole / 4).max(1)..=whole);
    let (w, h) = (side(width, rng), side(height, rng));
    let (left, top) = (rng.random_range(0..=width - w), rng.random_range(0..=height - h));
    let mut shown: Vec<f32> = (0..w * h).map(|i| mask[(top + i / w) * width + left + i % w]).collect();
    let rank = (rng.random_range(QUANTILES) * (shown.len() - 1) as f32) as usize;
    let threshold = *shown.select_nth_unstable_by(rank, f32::total_cmp).1;
    let softness = rng.random_range(SOFTNESS);
    for (i, value) in mask.iter_mut().enumerate() {
        let inwards = |at: usize, first: usize, count: usize| {
            let from = (at + 1).saturating_sub(first).min((first + count).saturating_sub(at));
            (from as f32 / 3.0).min(1.0)
        };
        let window = inwards(i % width, left, w) * inwards(i / width, top, h);
        *value = window / (1.0 + ((threshold - *value) / softness).exp());
    }
    mask
}

/// What is seen in the region, \[height x width x 3\], 0 to 255 or a little beyond.
fn fill(frame: &Frame, other: &Frame, rng: &mut impl Rng) -> Vec<f32> {
    let (width, height) = (frame.width() as usize, frame.height() as usize);
    let floats = |f: &Frame| f.rgb().iter().map(|&v| f32::from(v)).collect::<Vec<f32>>();
    match rng.random_range(0..4) {
        0 => floats(other),
        1 => {
            let light = rng.random_range(LIGHT) * if rng.random() { 1.0 } else { -1.0 };
            floats(frame).into_iter().map(|v| v + light).collect()
        }
        2 => blurred(&floats(frame), width, height, rng.random_range(BLUR)),
        _ => {
            let (dx, dy) = (rng.random_range(0..width), rng.random_range(0..height));
            let from = |i: usize| frame.pixel((i % width + dx) % width, (i / width + dy) % height);
            (0..width * height).flat_map(|i| from(i).map(f32::from)).collect()
        }
    }
}

/// The mean over a square of `2 reach + 1` pixels, of what of it lies in the picture.
fn blurred(values: &[f32], width: usize, height: usize, reach: usize) -> Vec<f32> {
    let along = |values: &[f32], count: usize, step: usize, starts: &[usize]| {
        let mut out = vec![0.0; values.len()];
        for &start in starts {
            for at in 0..count {
                let (first, last) = (at.saturating_sub(reach), (at + reach).min(count - 1));
                let sum: f32 = (first..=last).map(|j| values[start + j * step]).sum();
                out[start + at * step] = sum / (last - first + 1) as f32;
            }
        }
        out
    };
    let rows: Vec<usize> = (0..height).flat_map(|y| (0..3).map(move |c| y * width * 3 + c)).collect();
    let columns: Vec<usize> = (0..width * 3).collect();
    along(&along(values, width, 3, &rows), height, width * 3, &columns)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(width: u32, height: u32) -> Frame {
        let rgb = (0..width * height * 3).map(|v| (v * 7 % 251) as u8).collect();
        Frame::new(width, height, rgb).unwrap()
    }

    #[test]
    fn a_pasted_region_changes_what_it_says_and_little_else() {
        let (frame, other) = (frame(64, 48), Frame::new(64, 48, vec![9; 64 * 48 * 3]).unwrap());
        for seed in 0..40 {
            let make = || Negatives::Pasted.make(&frame, &other, &mut ChaCha8Rng::seed_from_u64(seed)).unwrap();
            let made = make();
            assert_eq!(made.frame, make().frame);
            let changed = made.changed.unwrap();
            assert!(changed.iter().flatten().all(|v| v.abs() < 1.0));
            assert!((1..64 * 48 * 6 / 10).contains(&changed.len()), "{}", changed.len());
            let differ = made.frame.rgb().iter().zip(frame.rgb()).filter(|(a, b)| a != b).count();
            assert!(differ > 0);
        }
    }

    #[test]
    fn four_quarter_turns_come_home() {
        let square = frame(16, 16);
        let quarter = turned(&square, 1);
        assert_ne!(quarter, square);
        assert_eq!(turned(&quarter, 3), square);
        assert_eq!(turned(&quarter, 1), turned(&square, 2));
        assert_eq!(turned(&square, 1).pixel(15, 0), square.pixel(0, 0));
    }

    #[test]
    fn one_pixel_is_enough_and_none_makes_none() {
        let one = frame(1, 1);
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        for kind in [Negatives::Pasted, Negatives::Turned] {
            for _ in 0..20 {
                assert!(kind.make(&one, &one, &mut rng).is_some());
            }
        }
        assert!(Negatives::None.make(&one, &one, &mut rng).is_none());
        let of = |kind| of_each(kind, std::slice::from_ref(&one), 3, 1).len();
        assert_eq!([Negatives::None, Negatives::Pasted, Negatives::Turned].map(of), [0, 3, 3]);
    }
}
