//! What the second spine ([`crate::finish`]) makes of a trained network, for whatever is written of it: bundle, report, scores.

use crate::evaluate::{Evaluation, Scored};
use crate::folded::FoldedNet;
use crate::quantize::QuantizedNet;
use crate::train::Trained;
use ndarray::Array2;
use salad_shared::bank::{FloatBank, Int8Bank};
use salad_shared::manifest::{Agreement, Forms};
use salad_shared::patch::{HeatScale, ImageScore, PatchGrid};
use salad_shared::threshold::Threshold;

/// What a prototype comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Source {
    /// The training image.
    pub image: usize,
    /// The place in it; 0 for whole images.
    pub place: usize,
}

/// Everything that follows from a trained network.
#[derive(Debug)]
pub struct Finished<'a> {
    /// The run.
    pub trained: &'a Trained,
    /// Final embeddings of the training images, \[n, d\]: the bank encoded anew; of several places the mean.
    pub train_rows: Array2<f32>,
    /// Embeddings of validation and test images by the f32 encoder, in the order of `scored`, \[m, d\]; of several places
    /// the mean.
    pub judged_rows: Array2<f32>,
    /// The places that have an embedding each; none for whole images.
    pub patches: Option<PatchGrid>,
    /// How their scores are coloured in each form.
    pub heat: Option<Forms<HeatScale>>,
    /// The prototypes.
    pub bank: FloatBank,
    /// The prototypes as the int8 encoder sees them, in int8.
    pub bank_int8: Int8Bank,
    /// For each prototype, the training image it stands for, and the place in it.
    pub sources: Vec<Source>,
    /// How the bank was condensed.
    pub condensed_by: String,
    /// How scores over the prototypes correlate with scores over the whole bank, for validation images.
    pub condensed_agree: f64,
    /// The f32 encoder.
    pub folded: FoldedNet,
    /// The int8 encoder.
    pub quantized: QuantizedNet,
    /// Validation images, then test images, with their scores.
    pub scored: Vec<Scored>,
    /// For each of `scored`, what the int8 form made of it.
    pub judged: Vec<ImageScore>,
    /// The threshold of each form.
    pub thresholds: Forms<Threshold>,
    /// How closely int8 follows f32.
    pub agreement: Agreement,
    /// AUROC of made-up anomalies ([`crate::synthetic`]) against the validation images they are made from, in int8: for
    /// comparing settings without a test set.
    pub synthetic_auroc: f64,
    /// The same of [negatives](crate::negatives) made of the validation images, where training had negatives.
    pub negatives_auroc: Option<f64>,
    /// What the test set says, where there is one.
    pub evaluation: Option<Evaluation>,
    /// What to know of the masks that the pixel figures go by.
    pub without_mask: Option<String>,
}
