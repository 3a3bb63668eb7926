//! What is kept of an event's frames, so that somebody can say afterwards that what they show is normal.

use crate::scorer::Scorer;
use jiff::Timestamp;
use salad_shared::preprocess::Frame;

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

/// Chooses an event's samples: of the frames over the threshold the first few, and then ever fewer, so that a short event and a
/// long one have some from all of it.
#[derive(Debug, Default)]
pub struct Sampler {
    chosen: Vec<Sample>,
    seen: u64,
}

impl Sampler {
    /// Takes in a frame over the threshold; `sample` makes a sample of it, where it is to be one.
    pub fn offer(&mut self, sample: impl FnOnce() -> Sample) {
        self.seen += 1;
        // 1, 2, 3, 4, 6, 8, 12, 16, 24 ...
        let power = 1 << self.seen.ilog2();
        if self.seen == power || self.seen == power + power / 2 {
            self.chosen.push(sample());
        }
    }

    /// What has been chosen since this was last called.
    pub fn take(&mut self) -> Vec<Sample> {
        std::mem::take(&mut self.chosen)
    }

    /// Begins anew: what was seen was no event, or is over.
    pub fn reset(&mut self) {
        *self = Sampler::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{FormChoice, Model};
    use crate::support::{anomalous_frame, bundle};

    #[test]
    fn few_frames_of_many_are_chosen() {
        let mut sampler = Sampler::default();
        let offer = |sampler: &mut Sampler, second| {
            let time = Timestamp::from_second(second).unwrap();
            sampler.offer(|| Sample { time, score: 0.5, rows: Vec::new(), picture: Vec::new() });
        };
        let seconds = |sampler: &mut Sampler| sampler.take().iter().map(|s| s.time.as_second()).collect::<Vec<_>>();
        (1..=5).for_each(|second| offer(&mut sampler, second));
        assert_eq!(seconds(&mut sampler), [1, 2, 3, 4]);
        (6..=20).for_each(|second| offer(&mut sampler, second));
        assert_eq!(seconds(&mut sampler), [6, 8, 12, 16]);
        sampler.reset();
        offer(&mut sampler, 21);
        assert_eq!(seconds(&mut sampler), [21]);
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
