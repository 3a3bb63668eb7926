//! Which frames are worth keeping as training images: sharp ones, with the lens free, that are not what is there already.

use crate::gate::Look;
use crate::grey::Grey;
use crate::lens::{Lens, LensSpec};
use salad_shared::preprocess::Frame;
use std::collections::VecDeque;
use std::fmt::{self, Display};
use std::time::Duration;

/// Sharpness is measured in this size, which noise does not survive and motion blur shows in.
const SHARP_SIZE: (u32, u32) = (320, 240);

/// Frames are compared with those kept before in this size.
const LIKE_SIZE: (u32, u32) = (32, 24);

/// Frames whose sharpness the middle is taken of.
const REMEMBERED: usize = 31;

/// What is asked of a frame.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PickSpec {
    /// The least sharpness, as a share of the median of the frames before; 0 keeps blurred frames.
    pub min_sharpness: f32,
    /// How much the brightness of at least one place has to differ from each kept frame, 0 to 255; 0 keeps all.
    pub min_change: f32,
}

/// Why a frame is passed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passed {
    /// The lens is covered, or there is no light.
    Covered,
    /// It is blurred beside the frames before.
    Blurred,
    /// One like it has been kept.
    Alike,
}

/// Picks frames; remembers those it has picked.
#[derive(Debug)]
pub struct Picker {
    spec: PickSpec,
    lens: Lens,
    sharpness: VecDeque<f32>,
    kept: Vec<Grey>,
}

impl Picker {
    /// With nothing kept yet.
    pub fn new(spec: PickSpec) -> Picker {
        let lens = Lens::new(LensSpec { after: Duration::MAX, min_contrast: None }, &[]);
        Picker { spec, lens, sharpness: VecDeque::new(), kept: Vec::new() }
    }

    /// A frame that was kept earlier, such as by a run before.
    pub fn remember(&mut self, frame: &Frame) {
        self.kept.push(Grey::of(frame, LIKE_SIZE.0, LIKE_SIZE.1));
    }

    /// Whether the lens is free; `frame` is as the camera gave it, since painted regions have contrast of their own.
    pub fn sees(&mut self, frame: &Frame) -> Result<(), Passed> {
        if self.lens.look(frame, Duration::ZERO) == Look::Open { Ok(()) } else { Err(Passed::Covered) }
    }

    /// Whether the frame, with its regions painted, is to be kept; if so, it is remembered.
    pub fn look(&mut self, frame: &Frame) -> Result<(), Passed> {
        let sharpness = Grey::of(frame, SHARP_SIZE.0, SHARP_SIZE.1).sharpness();
        self.sharpness.push_back(sharpness);
        if self.sharpness.len() > REMEMBERED {
            self.sharpness.pop_front();
        }
        if sharpness < self.spec.min_sharpness * self.median_sharpness() {
            return Err(Passed::Blurred);
        }
        let small = Grey::of(frame, LIKE_SIZE.0, LIKE_SIZE.1);
        if self.spec.min_change > 0.0 && self.kept.iter().any(|kept| kept.changed(&small, self.spec.min_change) == 0.0)
        {
            return Err(Passed::Alike);
        }
        self.kept.push(small);
        Ok(())
    }

    fn median_sharpness(&self) -> f32 {
        let mut sorted: Vec<f32> = self.sharpness.iter().copied().collect();
        sorted.sort_by(f32::total_cmp);
        sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
    }
}

impl Display for Passed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Passed::Covered => "dark or covered",
            Passed::Blurred => "blurred",
            Passed::Alike => "like one that is there",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grey::tests::{plain, stripes};

    const SPEC: PickSpec = PickSpec { min_sharpness: 0.5, min_change: 2.0 };

    #[test]
    fn a_frame_like_one_that_was_kept_is_passed_over() {
        let mut picker = Picker::new(SPEC);
        assert_eq!(picker.look(&stripes(8, 0)), Ok(()));
        assert_eq!(picker.look(&stripes(8, 3)), Ok(()));
        assert_eq!(picker.look(&stripes(8, 0)), Err(Passed::Alike));
        let mut later = Picker::new(SPEC);
        later.remember(&stripes(8, 3));
        assert_eq!(later.look(&stripes(8, 3)), Err(Passed::Alike));
        let mut all = Picker::new(PickSpec { min_change: 0.0, ..SPEC });
        assert!((0..3).all(|_| all.look(&stripes(8, 0)).is_ok()));
    }

    #[test]
    fn a_blurred_frame_is_passed_over_until_all_are() {
        let blurred = stripes(8, 1).resized(12, 9).resized(64, 48);
        let mut picker = Picker::new(PickSpec { min_change: 0.0, ..SPEC });
        for shift in 0..8 {
            assert_eq!(picker.look(&stripes(8, shift)), Ok(()));
        }
        assert_eq!(picker.look(&blurred), Err(Passed::Blurred));
        // What stays so is what the camera gives.
        let looks: Vec<bool> = (0..REMEMBERED).map(|_| picker.look(&blurred).is_ok()).collect();
        assert!(!looks[0] && looks[REMEMBERED - 1]);
    }

    #[test]
    fn a_covered_lens_is_no_picture() {
        let mut picker = Picker::new(SPEC);
        assert_eq!(picker.sees(&plain(3)), Err(Passed::Covered));
        assert_eq!(picker.sees(&stripes(8, 0)), Ok(()));
    }
}
