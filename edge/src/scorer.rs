//! From a frame to its score.

use crate::encoder::{Encoder, EncoderError};
use crate::enrol::Enrolments;
use salad_shared::bank::Bank;
use salad_shared::decoder::Decoder;
use salad_shared::patch::{ImageScore, ImageScorer, PatchGrid};
use salad_shared::preprocess::{Frame, InputSpec, Preprocessor};
use salad_shared::score::ScoreSpec;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long the parts of a score took.
#[derive(Debug, Clone, Copy)]
pub struct Stages {
    /// To the input's size.
    pub resize: Duration,
    /// To embeddings.
    pub encode: Duration,
    /// Among the prototypes, and the score.
    pub search: Duration,
}

/// Gives frames their scores; buffers are kept between frames.
pub struct Scorer {
    preprocessor: Preprocessor,
    encoder: Encoder,
    bank: Arc<dyn Bank>,
    spec: ScoreSpec,
    patches: Option<PatchGrid>,
    enrolments: Option<Arc<Enrolments>>,
    embeddings: Vec<f32>,
    image_scorer: ImageScorer,
    last: ImageScore,
}

impl Scorer {
    /// `encoder` and `bank` are of one form.
    pub fn new(
        input: InputSpec,
        encoder: Encoder,
        bank: Arc<dyn Bank>,
        spec: ScoreSpec,
        patches: Option<PatchGrid>,
    ) -> Scorer {
        let preprocessor = Preprocessor::new(input);
        let (image_scorer, last) = (ImageScorer::default(), ImageScore::default());
        let (enrolments, embeddings) = (None, Vec::new());
        Scorer { preprocessor, encoder, bank, spec, patches, enrolments, embeddings, image_scorer, last }
    }

    /// The scorer, for which what was enrolled is normal too.
    pub fn with(self, enrolments: Arc<Enrolments>) -> Scorer {
        Scorer { enrolments: Some(enrolments), ..self }
    }

    /// A decoder of pictures no larger than a score takes.
    pub fn decoder(&self) -> Decoder {
        let input = self.preprocessor.spec();
        Decoder::covering(input.width, input.height)
    }

    /// Preprocesses and encodes a frame and holds its embeddings against the prototypes.
    pub fn score(&mut self, frame: &Frame) -> Result<&ImageScore, EncoderError> {
        self.timed(frame)?;
        Ok(&self.last)
    }

    /// The same, and how long each part took; [`last`](Scorer::last) has the score.
    pub fn timed(&mut self, frame: &Frame) -> Result<Stages, EncoderError> {
        let start = Instant::now();
        let rgb = self.preprocessor.resized(frame);
        let resized = Instant::now();
        self.encoder.encode(rgb, &mut self.embeddings)?;
        let encoded = Instant::now();
        let (bank, patches) = (self.bank.as_ref(), self.patches.as_ref());
        let enrolled = self.enrolments.as_ref().and_then(|enrolments| enrolments.bank());
        let enrolled = enrolled.as_deref().map(|bank| bank as &dyn Bank);
        self.image_scorer.score(&self.spec, patches, bank, enrolled, &self.embeddings, &mut self.last);
        Ok(Stages { resize: resized - start, encode: encoded - resized, search: encoded.elapsed() })
    }

    /// The embeddings of the last frame, \[P, d\].
    pub fn embeddings(&self) -> &[f32] {
        &self.embeddings
    }

    /// What the last frame came to that could be scored.
    pub fn last(&self) -> &ImageScore {
        &self.last
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::model::Model;

    /// One that resizes frames to another size than its encoder takes.
    pub(crate) fn broken_scorer(model: &Model) -> Scorer {
        let input = InputSpec { width: 5, ..model.manifest.input.clone() };
        Scorer { preprocessor: Preprocessor::new(input), ..model.scorer().unwrap() }
    }
}
