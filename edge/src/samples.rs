//! What is kept of an event's frames, so that somebody can say afterwards that what they show is normal.

use crate::scorer::Scorer;
use jiff::Timestamp;
use salad_shared::preprocess::Frame;

/// Frames that are kept of what has led to an event, and of the event since; more are thinned out evenly.
const MOST: usize = 4;

/// Places of a frame that are kept, those with the highest scores.
const MOST_PLACES: usize = 64;

/// A JPEG that is made of a frame has this quality.
const QUALITY: u8 = 90;

/// A frame of an event.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Time of the frame, UTC.
    pub time: Timestamp,
    /// Its score.
    pub score: f32,
    /// The embedding, \[d\], of unit length; of a model with places those of the places over the threshold, \[r, d\] row by
    /// row.
    pub rows: Vec<f32>,
    /// The frame, a JPEG.
    pub picture: Vec<u8>,
}

impl Sample {
    /// What `scorer` has made of `frame` last; `file` is the picture that the frame came as, where it has more pixels.
    pub fn of(scorer: &Scorer, threshold: f32, frame: &Frame, file: Option<&[u8]>, time: Timestamp) -> Sample {
        Sample {
            time,
            score: scorer.last().score,
            rows: unusual(scorer, threshold),
            picture: file.map_or_else(|| frame.to_jpeg(QUALITY), <[u8]>::to_vec),
        }
    }
}

/// The embeddings of the last frame that make it anomalous.
fn unusual(scorer: &Scorer, threshold: f32) -> Vec<f32> {
    let embeddings = scorer.embeddings();
    let Some(heat) = &scorer.last().heat else { return embeddings.to_vec() };
    let scores = heat.scores();
    let dim = embeddings.len() / scores.len().max(1);
    let mut over: Vec<usize> = (0..scores.len()).filter(|&place| scores[place] > threshold).collect();
    over.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    over.truncate(MOST_PLACES);
    over.iter().flat_map(|place| &embeddings[place * dim..(place + 1) * dim]).copied().collect()
}

/// Chooses an event's samples.
#[derive(Debug, Default)]
pub struct Sampler {
    kept: Vec<Sample>,
    /// Every so-manieth frame is one.
    stride: u64,
    seen: u64,
}

impl Sampler {
    /// Takes in a frame over the threshold; `sample` makes a sample of it, where it is to be one.
    pub fn offer(&mut self, sample: impl FnOnce() -> Sample) {
        let stride = self.stride.max(1);
        self.seen += 1;
        if !(self.seen - 1).is_multiple_of(stride) {
            return;
        }
        if self.kept.len() == MOST {
            let mut number = 0;
            self.kept.retain(|_| {
                number += 1;
                number % 2 == 1
            });
            // What is left are not the frames that the doubled stride would have chosen, but as far apart.
            self.stride = stride * 2;
        }
        self.kept.push(sample());
    }

    /// What has been chosen since this was last called; the next choice is of later frames.
    pub fn take(&mut self) -> Vec<Sample> {
        let kept = std::mem::take(&mut self.kept);
        *self = Sampler::default();
        kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{FormChoice, Model};
    use crate::support::{anomalous_frame, bundle};

    #[test]
    fn few_frames_far_apart_stay_of_many() {
        let mut sampler = Sampler::default();
        for second in 0..100 {
            let time = Timestamp::from_second(second).unwrap();
            sampler.offer(|| Sample { time, score: 0.5, rows: Vec::new(), picture: Vec::new() });
        }
        let seconds: Vec<_> = sampler.take().iter().map(|sample| sample.time.as_second()).collect();
        assert!((2..=MOST).contains(&seconds.len()), "{seconds:?}");
        assert!(seconds.first() < Some(&10) && seconds.last() > Some(&50), "{seconds:?}");
        assert!(sampler.take().is_empty());
    }

    #[test]
    fn a_sample_has_what_the_score_was_made_of() {
        let model = Model::load(&bundle(), FormChoice::F32).unwrap();
        let (mut scorer, frame) = (model.scorer().unwrap(), anomalous_frame());
        let score = scorer.score(&frame).unwrap().score;
        let sample = Sample::of(&scorer, model.threshold, &frame, None, Timestamp::UNIX_EPOCH);
        assert_eq!((sample.score, sample.rows.as_slice()), (score, scorer.embeddings()));
        assert_eq!(Frame::decode(&sample.picture).unwrap().width(), frame.width());
        let as_it_came = Sample::of(&scorer, model.threshold, &frame, Some(b"jpeg"), Timestamp::UNIX_EPOCH);
        assert_eq!(as_it_came.picture, b"jpeg");
    }
}
