//! Tells a covered, black or dazzled lens from an anomaly: such a frame has next to no contrast.

use crate::gate::{Gate, Look};
use crate::grey::Grey;
use salad_shared::preprocess::Frame;
use std::time::Duration;

/// Frames are looked at in this size.
const SIZE: (u32, u32) = (64, 48);

/// Thumbnails that are looked at for the contrast of normal pictures.
const THUMBNAILS: usize = 64;

/// A lens counts as covered below this share of the lowest contrast of a normal picture, but never above the second number
/// (standard deviation of brightness, 0 to 127).
const SHARE_OF_NORMAL: f32 = 0.25;
const MOST: f32 = 8.0;

/// What is asked of the watch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LensSpec {
    /// How long the lens has to be covered until that is told.
    pub after: Duration,
    /// The contrast below which it counts as covered; `None` to go by normal pictures.
    pub min_contrast: Option<f32>,
}

/// Watches for a covered lens.
#[derive(Debug)]
pub struct Lens {
    min_contrast: f32,
    gate: Gate,
}

impl Lens {
    /// `thumbnails` are JPEGs of normal pictures; there may be none.
    pub fn new(spec: LensSpec, thumbnails: &[Vec<u8>]) -> Lens {
        let step = thumbnails.len().div_ceil(THUMBNAILS).max(1);
        let normal = thumbnails.iter().step_by(step).filter_map(|jpeg| Frame::decode(jpeg).ok());
        let lowest = normal.map(|frame| grey(&frame).contrast()).fold(f32::INFINITY, f32::min);
        let min_contrast = spec.min_contrast.unwrap_or((SHARE_OF_NORMAL * lowest).min(MOST));
        Lens { min_contrast, gate: Gate::new(spec.after) }
    }

    /// Takes in a frame taken at `now`.
    pub fn look(&mut self, frame: &Frame, now: Duration) -> Look {
        let grey = grey(frame);
        let contrast = grey.contrast();
        if contrast >= self.min_contrast {
            return self.gate.open();
        }
        let limit = self.min_contrast;
        self.gate.shut(now, || {
            let seen = match grey.brightness() {
                v if v < 40.0 => "black",
                v if v > 215.0 => "white",
                _ => "plain",
            };
            format!("the picture is {seen}: contrast {contrast:.1}, normal is above {limit:.1}")
        })
    }
}

fn grey(frame: &Frame) -> Grey {
    Grey::of(frame, SIZE.0, SIZE.1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grey::tests::{plain, stripes};

    const SPEC: LensSpec = LensSpec { after: Duration::from_secs(2), min_contrast: None };

    fn at(second: u64) -> Duration {
        Duration::from_secs(second)
    }

    #[test]
    fn a_cover_is_told_once_after_its_time_and_its_end_too() {
        let mut lens = Lens::new(SPEC, &[stripes(8, 0).to_jpeg(90)]);
        assert_eq!(lens.look(&stripes(8, 3), at(0)), Look::Open);
        assert_eq!(lens.look(&plain(3), at(1)), Look::Shut);
        assert_eq!(lens.look(&plain(4), at(2)), Look::Shut);
        assert!(matches!(lens.look(&plain(3), at(3)), Look::TellShut(text) if text.contains("black")));
        assert_eq!(lens.look(&plain(3), at(4)), Look::Shut);
        assert_eq!(lens.look(&stripes(8, 1), at(5)), Look::OpenAgain);
        assert_eq!(lens.look(&stripes(8, 1), at(6)), Look::Open);
        // A short one is not told, and the time starts anew.
        assert_eq!(lens.look(&plain(250), at(7)), Look::Shut);
        assert_eq!(lens.look(&stripes(8, 0), at(8)), Look::Open);
        assert_eq!(lens.look(&plain(250), at(9)), Look::Shut);
        assert!(matches!(lens.look(&plain(250), at(11)), Look::TellShut(text) if text.contains("white")));
    }

    #[test]
    fn a_scene_of_little_contrast_is_no_cover() {
        let faint = Frame::new(64, 48, (0..64 * 48).flat_map(|i| [100 + (i % 64 / 8) as u8; 3]).collect()).unwrap();
        let mut lens = Lens::new(SPEC, &[stripes(8, 0).to_jpeg(90), faint.to_jpeg(95)]);
        assert_eq!(lens.look(&faint, at(0)), Look::Open);
        assert_eq!(lens.look(&plain(100), at(1)), Look::Shut);
        // With no thumbnails, or where it is set, a fixed limit holds.
        assert_eq!(Lens::new(SPEC, &[]).look(&faint, at(0)), Look::Shut);
        let spec = LensSpec { min_contrast: Some(1.0), ..SPEC };
        assert_eq!(Lens::new(spec, &[]).look(&faint, at(0)), Look::Open);
    }
}
