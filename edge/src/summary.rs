//! What a run has come to, in numbers.

use crate::event::Trouble;

/// What a run has come to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// Frames with a score.
    pub frames: u64,
    /// Of these, frames in which too little had moved, so that they got the score of the one before.
    pub still: u64,
    /// Frames on which the lens was covered.
    pub obstructed: u64,
    /// Scored frames in a light too unusual for their scores to count.
    pub unlit: u64,
    /// Frames that came in time, but of which a newer one came before they were taken.
    pub dropped: u64,
    /// Frames that could not be used.
    pub skipped: u64,
    /// Scored frames over the threshold.
    pub anomalous: u64,
    /// Events that began; troubles with the camera are not counted.
    pub events: u64,
    /// What is wrong with the camera now.
    pub trouble: Option<Trouble>,
}
