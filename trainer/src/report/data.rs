//! What a report is made from. The trainer fills it in; nothing here is computed.

use salad_shared::manifest::{Agreement, Form};
use salad_shared::threshold::Threshold;

/// Which quantiles [`RoundRow::entropy_quantiles`] holds.
pub const ENTROPY_QUANTILES: [f32; 5] = [0.05, 0.25, 0.5, 0.75, 0.95];

/// Everything on the page.
#[derive(Debug, Clone)]
pub struct ReportData {
    /// The model's name.
    pub name: String,
    /// What it was trained on, for people.
    pub dataset: String,
    /// When the run ended, RFC 3339.
    pub created: String,
    /// The run's seed; it also drives the bootstrap of the AUROC's interval.
    pub seed: u64,
    /// Which form of the encoder and bank gave the scores.
    pub form: Form,
    /// Images behind the page.
    pub counts: Counts,
    /// One row an epoch, in order.
    pub epochs: Vec<EpochRow>,
    /// One row a round of phase 2, in order.
    pub rounds: Vec<RoundRow>,
    /// One row a round with phase 1 as round 0, in order: what was measured at its end.
    pub probes: Vec<ProbeRow>,
    /// The threshold of [`form`](ReportData::form), where there is one.
    pub threshold: Option<Threshold>,
    /// Scores of validation and test images.
    pub scores: Vec<ScoredImage>,
    /// The images with the highest scores, of the test set or, without one, of the validation images.
    pub most_anomalous: Vec<Card>,
    /// The images with the lowest scores.
    pub most_normal: Vec<Card>,
    /// Misses and false alarms, the worst first; empty without a test set.
    pub mistakes: Vec<Card>,
    /// The embeddings in two dimensions.
    pub projection: Option<Projection>,
    /// How closely int8 follows f32, where both were made.
    pub agreement: Option<Agreement>,
    /// The configuration, as TOML.
    pub config: String,
    /// What a reader has to know before trusting the page: skipped images, a collapsed training.
    pub warnings: Vec<String>,
    /// How the run was made: a label and its value each (versions, device, time it took).
    pub facts: Vec<(String, String)>,
}

impl ReportData {
    /// The threshold, if it is a number.
    pub(super) fn finite_threshold(&self) -> Option<&Threshold> {
        self.threshold.as_ref().filter(|t| t.value.is_finite())
    }
}

/// Numbers of images.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Trained on, N; all normal.
    pub training: usize,
    /// Normal images that the threshold comes from.
    pub validation: usize,
    /// Prototypes P in the condensed bank.
    pub prototypes: usize,
}

/// Means over one epoch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EpochRow {
    /// Number of the epoch over the whole run, from 1.
    pub epoch: usize,
    /// Round: 0 is phase 1.
    pub round: usize,
    /// Phase of the method.
    pub phase: Phase,
    /// L_mse or L1, unweighted.
    pub reconstruction: f32,
    /// L_ss, nats an image; none where no image was sample-specific.
    pub sample_specific: Option<f32>,
    /// L_agg, nats an image; none where no image was prototypical.
    pub aggregation: Option<f32>,
    /// The weighted sum that was minimised.
    pub total: f32,
    /// At the epoch's end.
    pub learning_rate: f32,
    /// Reconstruction loss of the validation images, where it was computed.
    pub validation_reconstruction: Option<f32>,
    /// Wall-clock time of the epoch, seconds.
    pub seconds: f32,
}

/// The two phases of METHOD.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Phase 1: reconstruction and sample-specific loss.
    One,
    /// Phase 2: with the aggregation loss.
    Two,
}

/// The entropy curriculum at the start of a round.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RoundRow {
    /// Round, from 1.
    pub round: usize,
    /// Images that became prototypical.
    pub prototypical: usize,
    /// Mean entropy H over the training images, nats, at most ln N.
    pub entropy_mean: f32,
    /// The quantiles of H at [`ENTROPY_QUANTILES`], nats.
    pub entropy_quantiles: [f32; 5],
    /// Mean cosine of prototypical images and their neighbours, -1..=1; none where there are no prototypical images.
    pub neighbour_similarity_mean: Option<f32>,
}

/// What was measured without labels at the end of a round.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ProbeRow {
    /// Round, from 0.
    pub round: usize,
    /// Effective rank of the training images' embeddings.
    pub effective_rank: f32,
    /// AUROC of made-up anomalies against validation images.
    pub made_up_auroc: f32,
    /// Whether the round's weights are among those the run ended with.
    pub kept: bool,
}

/// Where an image was set aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Split {
    /// Normal images that the threshold comes from.
    Validation,
    /// Images that only the evaluation sees.
    Test,
}

/// An image's score.
#[derive(Debug, Clone, PartialEq)]
pub struct ScoredImage {
    /// The image's name.
    pub name: String,
    /// Kind of defect; none is a normal image.
    pub kind: Option<String>,
    /// Higher is more anomalous.
    pub score: f32,
    /// Which images it is among.
    pub split: Split,
}

/// An image to look at, with what the model compares it to. Pictures are JPEG bytes; an empty one is not shown.
#[derive(Debug, Clone, PartialEq)]
pub struct Card {
    /// The image's name.
    pub name: String,
    /// Kind of defect; none is a normal image.
    pub kind: Option<String>,
    /// Its score.
    pub score: f32,
    /// The image.
    pub image: Vec<u8>,
    /// The image with what is not normal coloured, where the model says it.
    pub heat: Option<Vec<u8>>,
    /// The most similar prototype's training image, or the part of it that the prototype stands for.
    pub prototype: Vec<u8>,
    /// Its name.
    pub prototype_name: String,
    /// What the decoder makes of the image's embedding.
    pub reconstruction: Vec<u8>,
}

/// The embeddings on a plane.
#[derive(Debug, Clone, PartialEq)]
pub struct Projection {
    /// One point an image.
    pub points: Vec<Point>,
    /// What x is, for people: `principal direction 1, 34 % of the variance`.
    pub x_label: String,
    /// What y is.
    pub y_label: String,
}

/// An image on the plane.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// To the right.
    pub x: f32,
    /// Upwards.
    pub y: f32,
    /// Which images it is among.
    pub group: Group,
    /// The image's name.
    pub name: String,
}

/// The groups of the map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// Rows of the bank: training images.
    Bank,
    /// Validation images, which are normal.
    Validation,
    /// Normal test images.
    TestNormal,
    /// Anomalous test images.
    TestAnomalous,
}
