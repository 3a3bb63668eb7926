//! A run's configuration: a TOML recipe, changed by flags, checked once before anything is built.

use crate::augment::AugmentConfig;
use crate::condense::Condense;
use crate::dataset::DataConfig;
use crate::losses::Reconstruction;
use crate::negatives::Negatives;
use crate::neighbours::{Curriculum, Selection};
use crate::network::NetworkConfig;
use crate::places::Places;
use crate::precision::Precision;
use crate::quantize::{Calibration, WeightScales};
use crate::schedule::{RateSchedule, Schedule, rounds};
use salad_shared::preprocess::InputSpec;
use salad_shared::score::ScoreSpec;
use salad_shared::threshold::FalseAlarmBudget;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The recipe cannot be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The recipe.
        path: PathBuf,
        /// The operating system's words.
        source: std::io::Error,
    },
    /// The recipe is not TOML, or a key or type in it is wrong.
    #[error("{origin}: {problem}")]
    Parse {
        /// The recipe or the flag.
        origin: String,
        /// The parser's words, with line, key and what is allowed.
        problem: String,
    },
    /// A value is out of its range.
    #[error("{0}")]
    Value(String),
}

/// The whole configuration. Every key has a default but `data.root`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// What the model is called; the bundle is `NAME.salad`. Empty takes the data folder's name.
    pub name: String,
    /// The one seed of everything random.
    pub seed: u64,
    /// Where the images are.
    pub data: DataConfig,
    /// The network's input.
    pub input: InputConfig,
    /// The network.
    pub network: NetworkConfig,
    /// `[[ensemble]]`: networks beside it, with the keys of `[network]`. Each makes one more member of an ensemble, unless
    /// `train.members` names another number. All have a `patch` of one stride or none has one, and of `top` that of
    /// `[network]` counts. May change after training, but for the networks of members that are trained.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ensemble: Vec<NetworkConfig>,
    /// Augmentation of training images.
    pub augment: AugmentConfig,
    /// Losses, rounds, optimiser.
    pub train: TrainConfig,
    /// The anomaly score.
    pub score: ScoreSpec,
    /// Prototypes and their number.
    pub condense: CondenseConfig,
    /// Integer form of the encoder.
    pub quantize: QuantizeConfig,
    /// The threshold's false-alarm budget.
    pub threshold: ThresholdConfig,
}

/// `[input]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct InputConfig {
    /// Side of the square that images are resized to, pixels.
    pub size: u32,
    /// 3 (RGB) or 1 (grey).
    pub channels: u32,
}

/// `[train]`: METHOD's symbols, and how they are optimised.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainConfig {
    /// Images a step, 2 to 4096.
    pub batch_size: usize,
    /// Augmented views of each image a step, 1 to 8.
    pub views: usize,
    /// Epochs of phase 1, at least 1.
    pub phase1_epochs: u32,
    /// Epochs of each round of phase 2.
    pub round_epochs: u32,
    /// Share of the images that becomes prototypical with each round, above 0 to 1; there are 1 / rate rounds.
    pub rate: f64,
    /// Which images become prototypical first: `entropy`, or `random` for comparison.
    pub selection: Selection,
    /// Neighbours k of a neighbourhood, 1 to 1000.
    pub neighbours: i64,
    /// Temperature tau, 0.001 to 10.
    pub tau: f64,
    /// Moving-average rate t of the bank, above 0 to 1.
    pub bank_rate: f64,
    /// How the bank starts.
    pub bank_start: BankStart,
    /// Pictures that normal ones are told from, one an image and step: `none`, `pasted` or `turned`.
    pub negatives: Negatives,
    /// What they weigh together in the losses' denominators, 0.001 to 1000; 1 is as much as the whole bank.
    pub w_negatives: f64,
    /// Weight of the reconstruction loss.
    pub w_rec: f64,
    /// Weight of the two contrastive losses.
    pub w_con: f64,
    /// L1 or L2.
    pub reconstruction: Reconstruction,
    /// Adam's full learning rate.
    pub learning_rate: f64,
    /// How it runs.
    pub schedule: RateSchedule,
    /// L2 weight decay.
    pub weight_decay: f64,
    /// `f32`, `tf32`, `bf16`, or `auto`: `f32` on a CPU, the fastest on a GPU.
    pub precision: Precision,
    /// The weights to end with: `last`, `best` (the round with the best label-free criterion) or `average` (over the last
    /// rounds).
    pub keep: Keep,
    /// Rounds that `average` takes the mean of, 1 to 1000.
    pub average_rounds: u32,
    /// Stop once the label-free criterion has not improved for so many rounds, 0 for never.
    pub patience_rounds: u32,
    /// Whether to keep the weights of every round, for `salad-trainer rounds`.
    pub keep_rounds: bool,
    /// `auto`, `cpu`, `cuda` or `cuda:N`.
    pub device: String,
    /// Networks that are trained one after the other, each from a seed of its own, 1 to 16; 0 for `[network]` and each of
    /// `[[ensemble]]` once. With several the embedding is theirs side by side, so that a score is not one seed's: an ensemble.
    /// A number beyond the networks begins with the first of them again. May change after training: of fewer the first are
    /// taken, and `--resume` trains those that are missing.
    pub members: u32,
    /// Threads of libtorch on the CPU, 0 for all.
    pub threads: usize,
    /// Threads that augment images, 0 for none of their own; by default as many as there are cores, at most 16.
    pub loader_threads: usize,
}

/// Loader threads that the default takes at most.
const MOST_LOADER_THREADS: usize = 16;

/// `train.keep`: the weights a run ends with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Keep {
    /// Those of the last step.
    Last,
    /// Those at the end of the round with the best label-free criterion ([`crate::choice::best`]).
    Best,
    /// The mean of those at the end of the last `train.average_rounds` rounds.
    Average,
}

/// How the memory bank starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BankStart {
    /// Random unit rows.
    Random,
    /// One pass of the untrained encoder.
    Encode,
}

/// A view may be rotated by so much, degrees, where turned pictures are negatives: half a quarter turn.
const TURN: f64 = 45.0;

/// `[condense]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CondenseConfig {
    /// How many prototypes the bundle keeps, or `"all"`. They are made of the embeddings of all places of the training
    /// images, of more than 40,000 of an even selection of so many.
    pub prototypes: Prototypes,
    /// Longest side of a prototype's thumbnail, pixels, 0 for none.
    pub thumbnail_side: u32,
}

/// A number of prototypes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Prototypes {
    /// So many, at least 1.
    Count(usize),
    /// `"all"`.
    Word(String),
}

/// `[quantize]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QuantizeConfig {
    /// `min-max` (the default: anomalies reach further than normal images, and clipping tells them least), `percentile`,
    /// `mse`, or `auto`, which takes what keeps embeddings of validation images closest to f32.
    pub calibration: String,
    /// `per-channel`, or `per-tensor`, which is coarser.
    pub weight_scales: String,
    /// Training images that activations are calibrated on, 8 to 4096.
    pub images: usize,
}

/// `[threshold]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ThresholdConfig {
    /// A budget such as `1/week`.
    pub false_alarms: String,
    /// Frames scored a second.
    pub fps: f64,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            name: String::new(),
            seed: 1,
            data: DataConfig::default(),
            input: InputConfig::default(),
            network: NetworkConfig::default(),
            ensemble: Vec::new(),
            augment: AugmentConfig::default(),
            train: TrainConfig::default(),
            score: ScoreSpec::default(),
            condense: CondenseConfig::default(),
            quantize: QuantizeConfig::default(),
            threshold: ThresholdConfig::default(),
        }
    }
}

impl Default for InputConfig {
    fn default() -> InputConfig {
        InputConfig { size: 128, channels: 3 }
    }
}

impl Default for TrainConfig {
    fn default() -> TrainConfig {
        TrainConfig {
            batch_size: 32,
            views: 2,
            phase1_epochs: 10,
            round_epochs: 4,
            rate: 0.2,
            selection: Selection::Entropy,
            neighbours: 5,
            tau: 0.1,
            bank_rate: 0.5,
            bank_start: BankStart::Random,
            negatives: Negatives::None,
            w_negatives: 1.0,
            w_rec: 1.0,
            w_con: 0.25,
            reconstruction: Reconstruction::L2,
            learning_rate: 1e-4,
            schedule: RateSchedule::Cosine,
            weight_decay: 1e-6,
            precision: Precision::Auto,
            keep: Keep::Best,
            average_rounds: 3,
            patience_rounds: 0,
            keep_rounds: false,
            device: "auto".into(),
            members: 0,
            threads: 0,
            loader_threads: std::thread::available_parallelism().map_or(1, |n| n.get().min(MOST_LOADER_THREADS)),
        }
    }
}

impl Default for CondenseConfig {
    fn default() -> CondenseConfig {
        CondenseConfig { prototypes: Prototypes::Count(256), thumbnail_side: 128 }
    }
}

impl Default for QuantizeConfig {
    fn default() -> QuantizeConfig {
        QuantizeConfig { calibration: "min-max".into(), weight_scales: "per-channel".into(), images: 64 }
    }
}

impl Default for ThresholdConfig {
    fn default() -> ThresholdConfig {
        ThresholdConfig { false_alarms: "1/week".into(), fps: 5.0 }
    }
}

impl Config {
    /// Reads a recipe (none: all defaults), applies `overrides` (`table.key`, TOML value) in order, and checks the result.
    /// Relative paths in the recipe's `[data]` are relative to the working folder, as they are in flags.
    pub fn load(recipe: Option<&Path>, overrides: &[(String, toml::Value)]) -> Result<Config, ConfigError> {
        match recipe {
            None => Config::load_text("flags", "", overrides),
            Some(path) => {
                let read = std::fs::read_to_string(path);
                let text = read.map_err(|source| ConfigError::Read { path: path.into(), source })?;
                Config::load_text(&path.display().to_string(), &text, overrides)
            }
        }
    }

    /// As [`load`](Config::load), from the recipe's text; `origin` is what messages call it.
    pub fn load_text(origin: &str, text: &str, overrides: &[(String, toml::Value)]) -> Result<Config, ConfigError> {
        let parse = || -> Result<Config, String> {
            // The recipe alone first, so that its faults come with their line.
            let alone: Config = toml::from_str(text).map_err(|e| e.to_string())?;
            if overrides.is_empty() {
                return Ok(alone);
            }
            let mut table: toml::Table = text.parse().map_err(|e: toml::de::Error| e.to_string())?;
            for (key, value) in overrides {
                set(&mut table, key, value.clone())?;
            }
            table.try_into().map_err(|e: toml::de::Error| e.to_string())
        };
        let mut config = parse().map_err(|problem| ConfigError::Parse { origin: origin.into(), problem })?;
        config.fill_name();
        config.check().map_err(|problem| ConfigError::Value(format!("{origin}: {problem}")))?;
        Ok(config)
    }

    /// The configuration with every default written out.
    pub fn to_toml(&self) -> String {
        toml::to_string_pretty(self).unwrap_or_else(|e| format!("# cannot be shown: {e}\n"))
    }

    /// The network's input.
    pub fn input_spec(&self) -> InputSpec {
        InputSpec { width: self.input.size, height: self.input.size, channels: self.input.channels }
    }

    /// How rounds discover prototypical images.
    pub fn curriculum(&self) -> Curriculum {
        let t = &self.train;
        Curriculum { rate: t.rate, neighbours: t.neighbours, tau: t.tau, selection: t.selection, seed: self.seed }
    }

    /// The epochs of the run.
    pub fn schedule(&self) -> Schedule {
        Schedule {
            phase1_epochs: self.train.phase1_epochs,
            round_epochs: self.train.round_epochs,
            rounds: if self.train.round_epochs == 0 { 0 } else { rounds(self.train.rate) },
            rate: self.train.schedule,
        }
    }

    /// The false-alarm budget.
    pub fn budget(&self) -> Result<FalseAlarmBudget, String> {
        if !(self.threshold.fps > 0.0 && self.threshold.fps <= 10_000.0) {
            return Err(format!("threshold.fps = {}: has to be above 0 and at most 10000", self.threshold.fps));
        }
        FalseAlarmBudget::parse(&self.threshold.false_alarms, self.threshold.fps)
            .map_err(|e| format!("threshold.false_alarms: {e}"))
    }

    /// How many prototypes to keep.
    pub fn prototypes(&self) -> Result<Condense, String> {
        match &self.condense.prototypes {
            Prototypes::Count(p) if *p > 0 => Ok(Condense::Count(*p)),
            Prototypes::Word(w) if w == "all" => Ok(Condense::All),
            Prototypes::Count(p) => Err(format!("condense.prototypes = {p}: has to be a number from 1, or \"all\"")),
            Prototypes::Word(w) => Err(format!("condense.prototypes = {w:?}: has to be a number from 1, or \"all\"")),
        }
    }

    /// The quantizer's options; `None` where the calibration is to be chosen by validation.
    pub fn quantize_options(&self) -> Result<(Option<Calibration>, WeightScales), String> {
        let calibration = match self.quantize.calibration.as_str() {
            "auto" => None,
            "min-max" => Some(Calibration::MinMax),
            "percentile" => Some(Calibration::Percentile(99.99)),
            "mse" => Some(Calibration::MeanSquareError),
            other => {
                let known = "auto, min-max, percentile, mse";
                return Err(format!("quantize.calibration = {other:?}: has to be one of {known}"));
            }
        };
        let scales = match self.quantize.weight_scales.as_str() {
            "per-tensor" => WeightScales::PerTensor,
            "per-channel" => WeightScales::PerChannel,
            other => {
                return Err(format!("quantize.weight_scales = {other:?}: has to be per-tensor or per-channel"));
            }
        };
        Ok((calibration, scales))
    }

    /// The places of `images` training images that have a row of the bank.
    pub fn places(&self, images: usize) -> Places {
        match (&self.network.patch, self.network.grid(self.input.size)) {
            (Some(patch), Some(grid)) => Places::new(grid, images, patch.bank_places, self.seed),
            _ => Places::whole(),
        }
    }

    fn fill_name(&mut self) {
        if self.name.is_empty() {
            let folder = self.data.root.file_stem().map(|n| n.to_string_lossy().into_owned());
            self.name = folder.filter(|n| !n.is_empty()).unwrap_or_else(|| "model".into());
        }
    }

    fn check(&self) -> Result<(), String> {
        let name_fits = |c: char| c.is_alphanumeric() || "-_. ".contains(c);
        if self.name.starts_with('.') || self.name.chars().count() > 100 || !self.name.chars().all(name_fits) {
            return Err(format!(
                "name = {:?}: at most 100 letters, digits, spaces, '-', '_' and '.', since a file is called so",
                self.name
            ));
        }
        self.input_spec().check().map_err(|e| format!("input: {e}"))?;
        self.network.check(self.input.size)?;
        self.check_ensemble()?;
        if self.network.patch.is_some() && self.augment.crop_min_area < 1.0 {
            return Err(format!(
                "augment.crop_min_area = {}: with network.patch it has to be 1, so that every place stays in the view",
                self.augment.crop_min_area
            ));
        }
        self.augment.check().map_err(|e| format!("augment: {e}"))?;
        if self.train.negatives == Negatives::Turned {
            let a = &self.augment;
            if (a.hflip > 0.0 && a.vflip > 0.0) || a.rotate_degrees > TURN {
                return Err(format!(
                    "train.negatives = \"turned\": pictures turned by 90 degrees or more are to be told from normal ones, and \
                     these are shown turned as well by augment.hflip = {} with augment.vflip = {}, or by \
                     augment.rotate_degrees = {}; leave out a flip, and rotate by {TURN} at most",
                    a.hflip, a.vflip, a.rotate_degrees
                ));
            }
        }
        self.train.check()?;
        self.score.check()?;
        self.budget()?;
        self.prototypes()?;
        self.quantize_options()?;
        if !(8..=4096).contains(&self.quantize.images) {
            return Err(format!("quantize.images = {}: has to be from 8 to 4096", self.quantize.images));
        }
        if self.condense.thumbnail_side > 512 {
            return Err(format!("condense.thumbnail_side = {}: has to be at most 512", self.condense.thumbnail_side));
        }
        Ok(())
    }
}

impl TrainConfig {
    fn check(&self) -> Result<(), String> {
        let range = |key: &str, value: f64, low: f64, high: f64| {
            if (low..=high).contains(&value) {
                Ok(())
            } else {
                Err(format!("train.{key} = {value}: has to be from {low} to {high}"))
            }
        };
        range("batch_size", self.batch_size as f64, 2.0, 4096.0)?;
        range("views", self.views as f64, 1.0, 8.0)?;
        range("phase1_epochs", f64::from(self.phase1_epochs), 1.0, 1e6)?;
        range("round_epochs", f64::from(self.round_epochs), 0.0, 1e6)?;
        range("rate", self.rate, 0.001, 1.0)?;
        range("neighbours", self.neighbours as f64, 1.0, 1000.0)?;
        range("tau", self.tau, 0.001, 10.0)?;
        range("bank_rate", self.bank_rate, 1e-6, 1.0)?;
        range("w_negatives", self.w_negatives, 0.001, 1000.0)?;
        range("w_rec", self.w_rec, 0.0, 1e6)?;
        range("w_con", self.w_con, 0.0, 1e6)?;
        range("learning_rate", self.learning_rate, 1e-9, 10.0)?;
        range("weight_decay", self.weight_decay, 0.0, 10.0)?;
        range("average_rounds", f64::from(self.average_rounds), 1.0, 1000.0)?;
        range("threads", self.threads as f64, 0.0, 1024.0)?;
        range("loader_threads", self.loader_threads as f64, 0.0, 256.0)
    }
}

/// Sets `a.b.c` in a table, making the tables on the way.
fn set(table: &mut toml::Table, key: &str, value: toml::Value) -> Result<(), String> {
    match key.split_once('.') {
        None => {
            table.insert(key.to_owned(), value);
            Ok(())
        }
        Some((first, rest)) => {
            let inner = table.entry(first).or_insert_with(|| toml::Table::new().into());
            match inner.as_table_mut() {
                Some(inner) => set(inner, rest, value),
                None => Err(format!("{key}: {first} is not a table")),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn overrides(pairs: &[(&str, &str)]) -> Vec<(String, toml::Value)> {
        let value = |v: &str| format!("x = {v}").parse::<toml::Table>().unwrap()["x"].clone();
        pairs.iter().map(|(k, v)| ((*k).to_owned(), value(v))).collect()
    }

    #[test]
    fn defaults_survive_a_round_trip() {
        let config = Config::load(None, &overrides(&[("data.root", "'bottles'")])).unwrap();
        assert_eq!(config.name, "bottles");
        assert_eq!(Config::load_text("x", &config.to_toml(), &[]).unwrap(), config);
    }

    #[test]
    fn flags_win_over_the_recipe() {
        let dir = tempfile::tempdir().unwrap();
        let recipe = dir.path().join("r.toml");
        std::fs::write(&recipe, "seed = 4\n[train]\nviews = 1\nbatch_size = 8\n").unwrap();
        let config = Config::load(Some(&recipe), &overrides(&[("train.views", "3")])).unwrap();
        assert_eq!((config.seed, config.train.views, config.train.batch_size), (4, 3, 8));
    }

    #[test]
    fn wrong_keys_types_and_values_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let recipe = dir.path().join("r.toml");
        let cases = [
            ("[train]\nbatchsize = 8\n", "batchsize"),
            ("[train]\nviews = 'two'\n", "views"),
            ("[train]\nviews = 99\n", "train.views = 99"),
            ("[input]\nsize = 100\n", "input.size"),
            ("[threshold]\nfalse_alarms = 'seldom'\n", "false_alarms"),
            ("[condense]\nprototypes = 0\n", "condense.prototypes"),
            ("[threshold]\nfps = 0.0\n", "threshold.fps"),
            ("[train]\nnegatives = 'turned'\n[augment]\nhflip = 0.5\nvflip = 0.5\n", "augment.vflip = 0.5"),
            ("[train]\nnegatives = 'turned'\n[augment]\nrotate_degrees = 90.0\n", "augment.rotate_degrees = 90"),
            ("[input]\nsize = 640\n[network]\nkind = 'unet'\n", "input.size = 640"),
            ("[input]\nsize = 32\n[network.patch]\nstride = 64\n", "network.patch.stride = 64"),
            ("seed = \n", "line 1"),
        ];
        for (text, expected) in cases {
            std::fs::write(&recipe, text).unwrap();
            let error = Config::load(Some(&recipe), &[]).unwrap_err().to_string();
            assert!(error.contains(expected) && error.contains("r.toml"), "{error}");
        }
        assert!(Config::load(Some(Path::new("/none.toml")), &[]).unwrap_err().to_string().contains("/none.toml"));
    }
}
