//! What a bundle says about itself: `manifest.json`, versioned. Unknown keys are refused.

use crate::patch::{HeatScale, PatchGrid};
use crate::preprocess::InputSpec;
use crate::score::ScoreSpec;
use crate::threshold::Threshold;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The version of the bundle format this library writes and reads.
pub const FORMAT_VERSION: u32 = 1;

/// The `format` every manifest carries.
pub const FORMAT_NAME: &str = "salad-bundle";

/// `manifest.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`FORMAT_NAME`].
    pub format: String,
    /// [`FORMAT_VERSION`].
    pub version: u32,
    /// What the model was called by whoever trained it; 1 to 100 characters.
    pub name: String,
    /// The network's input.
    pub input: InputSpec,
    /// The encoder.
    pub encoder: EncoderInfo,
    /// The prototypes.
    pub bank: BankInfo,
    /// How a score is made of an embedding.
    pub score: ScoreSpec,
    /// The places that have an embedding each; `null` where the whole image has one.
    pub patches: Option<PatchGrid>,
    /// How the places' scores are coloured, for each form; there with `patches` and only then.
    pub heat: Option<Forms<HeatScale>>,
    /// The threshold for each form of the encoder: their scores differ slightly.
    pub thresholds: Forms<Threshold>,
    /// How closely int8 follows f32.
    pub agreement: Agreement,
    /// Where the model comes from.
    pub provenance: Provenance,
}

/// One value for each numeric form of the encoder and bank.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Forms<T> {
    /// 32-bit floating point.
    pub f32: T,
    /// 8-bit integers.
    pub int8: T,
}

impl<T> Forms<T> {
    /// The value of one form.
    pub fn get(&self, form: Form) -> &T {
        match form {
            Form::F32 => &self.f32,
            Form::Int8 => &self.int8,
        }
    }
}

/// A numeric form of encoder and bank.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// 32-bit floating point.
    F32,
    /// 8-bit integers.
    Int8,
}

impl std::fmt::Display for Form {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Form::F32 => "f32",
            Form::Int8 => "int8",
        })
    }
}

/// The encoder: an ONNX graph with input `image` \[1, channels, height, width\] and output `embedding` \[P, d\], a unit
/// vector for each place of the manifest's `patches`, or one for the image.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EncoderInfo {
    /// The network's name: `unet`, `edge-s`, `edge`, `edge-l` or `resnet18`; of an ensemble such as `3 x edge` or
    /// `resnet18 + edge-l`.
    pub network: String,
    /// Length d of the embedding, 1 to 4096.
    pub embedding_dim: u32,
    /// Weights and biases.
    pub parameters: u64,
    /// Floating-point operations of one image, two for each multiply-add.
    pub flop: u64,
    /// How activations were calibrated: `min-max`, `percentile` or `mse`.
    pub calibration: String,
    /// `per-tensor` or `per-channel` weight scales.
    pub weight_scales: String,
}

/// The prototypes: how many, and from what.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BankInfo {
    /// Number of prototypes P, 1 to 1,000,000.
    pub prototypes: u32,
    /// Training images N that the bank was condensed from.
    pub images: u32,
    /// `all`, `k-centre` or `k-means`.
    pub method: String,
}

/// How closely int8 follows f32: cosines over the normal validation images, correlations over validation and test images,
/// since among normal images alone the scores hardly vary.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Agreement {
    /// Images whose scores were compared.
    pub images: usize,
    /// Mean cosine between the two embeddings of an image.
    pub embedding_cosine_mean: f32,
    /// Smallest cosine.
    pub embedding_cosine_min: f32,
    /// Pearson correlation of the scores; `None` where it is undefined.
    pub score_correlation: Option<f32>,
    /// Spearman rank correlation of the scores; `None` where it is undefined.
    pub rank_correlation: Option<f32>,
    /// On the test set, where there was one: AUROC of each form.
    pub test_auroc: Option<Forms<f32>>,
}

/// Where a model comes from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provenance {
    /// Program and version that wrote the bundle.
    pub writer: String,
    /// When, RFC 3339, UTC.
    pub created: String,
    /// The one seed of the run.
    pub seed: u64,
    /// SHA-256 over the names and sizes of the training and validation images, hex.
    pub dataset_sha256: String,
    /// The configuration, as TOML, every default written out.
    pub config: String,
    /// Anything else worth keeping, such as `network.init`: the weights that the encoder began with.
    pub notes: BTreeMap<String, String>,
}

impl Manifest {
    /// Embeddings of an image.
    pub fn places(&self) -> usize {
        self.patches.map_or(1, |p| p.places())
    }

    /// Says what is wrong, if anything is: the field, its value, what it may be.
    pub fn check(&self) -> Result<(), String> {
        if self.format != FORMAT_NAME {
            return Err(format!("format = {:?}: not a Salad bundle's manifest", self.format));
        }
        if self.version != FORMAT_VERSION {
            return Err(format!(
                "version = {}: this program reads version {FORMAT_VERSION}; use the Salad release that wrote it",
                self.version
            ));
        }
        let characters = self.name.chars().count();
        if !(1..=100).contains(&characters) || self.name.chars().any(char::is_control) {
            return Err(format!("name = {:?}: has to be 1 to 100 printable characters", self.name));
        }
        self.input.check()?;
        self.score.check()?;
        if let Some(patches) = &self.patches {
            patches.check(&self.input).map_err(|e| format!("patches: {e}"))?;
        }
        if self.heat.is_some() != self.patches.is_some() {
            return Err("heat: has to be there if patches is, and null if patches is null".into());
        }
        for scale in self.heat.iter().flat_map(|h| [&h.f32, &h.int8]) {
            scale.check().map_err(|e| format!("heat: {e}"))?;
        }
        if !(1..=4096).contains(&self.encoder.embedding_dim) {
            return Err(format!("embedding_dim = {}: has to be from 1 to 4096", self.encoder.embedding_dim));
        }
        if !(1..=1_000_000).contains(&self.bank.prototypes) {
            return Err(format!("prototypes = {}: has to be from 1 to 1000000", self.bank.prototypes));
        }
        for threshold in [&self.thresholds.f32, &self.thresholds.int8] {
            if !threshold.value.is_finite() {
                return Err(format!("threshold = {}: has to be a finite number", threshold.value));
            }
        }
        Ok(())
    }
}
