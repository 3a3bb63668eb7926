//! Whether enough has moved since the last frame that was scored, so that a still scene costs next to nothing.

use crate::grey::Grey;
use salad_shared::preprocess::Frame;
use std::time::Duration;

/// Frames are compared in this size.
const SIZE: (u32, u32) = (80, 60);

/// What counts as movement.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MotionSpec {
    /// The share of the picture that has to change, 0 to 1.
    pub min_share: f32,
    /// How much the brightness of a place has to change to count, 0 to 255.
    pub min_change: f32,
    /// A frame is scored after this time, moved or not.
    pub max_still: Duration,
}

/// Compares frames with the last one that was scored.
#[derive(Debug)]
pub struct Motion {
    spec: MotionSpec,
    scored: Option<(Grey, Duration)>,
}

impl Motion {
    /// A gate that lets the first frame through.
    pub fn new(spec: MotionSpec) -> Motion {
        Motion { spec, scored: None }
    }

    /// Whether the frame taken at `now` is to be scored; if so, it is what the next ones are compared with.
    pub fn wants(&mut self, frame: &Frame, now: Duration) -> bool {
        let grey = Grey::of(frame, SIZE.0, SIZE.1);
        let still = self.scored.as_ref().is_some_and(|(scored, at)| {
            now.saturating_sub(*at) < self.spec.max_still
                && grey.changed(scored, self.spec.min_change) < self.spec.min_share
        });
        if !still {
            self.scored = Some((grey, now));
        }
        !still
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grey::tests::{plain, stripes};

    #[test]
    fn a_still_scene_is_scored_now_and_then_and_a_change_at_once() {
        let spec = MotionSpec { min_share: 0.02, min_change: 15.0, max_still: Duration::from_secs(10) };
        let mut motion = Motion::new(spec);
        let mut wants = |frame: &Frame, second| motion.wants(frame, Duration::from_secs(second));
        assert!(wants(&stripes(8, 0), 0));
        assert!(!wants(&stripes(8, 0), 1));
        assert!(wants(&stripes(8, 2), 2));
        // Slow light moves no place far enough, until it adds up: the comparison is with the last scored frame.
        assert!(wants(&plain(100), 3));
        assert!(!wants(&plain(110), 4));
        assert!(wants(&plain(120), 5));
        assert!(!wants(&plain(120), 14));
        assert!(wants(&plain(120), 15));
    }
}
