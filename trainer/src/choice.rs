//! Which weights a run ends with: the last round's, those of the round that looks best without labels, or an average over
//! rounds; and when to stop early.
//!
//! The weights of the rounds that may be wanted lie in `rounds/`, beside the checkpoint, which keeps what training goes on
//! with. What a run ends with follows from them and from the history alone, so that it is the same however often the run
//! was stopped, and another choice can be made later.

use crate::checkpoint::{from_safetensors, to_safetensors};
use crate::config::TrainConfig;
use crate::history::History;
use crate::loader::Loader;
use crate::model::Model;
use crate::network::to_images;
use crate::probe::ProbeRow;
use salad_shared::atomic;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use tch::{TchError, Tensor, nn, no_grad};

/// Batches that batch norm's statistics are taken from, at least, where weights have been averaged.
const BATCHES: usize = 32;

/// `train.keep`: the weights a run ends with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Keep {
    /// Those of the last step.
    Last,
    /// Those at the end of the round with the best label-free criterion.
    Best,
    /// The mean of those at the end of the last `train.average_rounds` rounds.
    Average,
}

/// What a run ended with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// How it was chosen.
    pub keep: Keep,
    /// The rounds whose weights they are.
    pub rounds: Vec<u32>,
}

impl std::fmt::Display for Choice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let rounds = self.rounds.iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
        match self.keep {
            Keep::Last => write!(f, "those of the last round, {rounds}"),
            Keep::Best => write!(f, "those of round {rounds}, the best by made-up anomalies"),
            Keep::Average => write!(f, "the mean of those of rounds {rounds}"),
        }
    }
}

/// Why there are no weights to end with.
#[derive(Debug, thiserror::Error)]
pub enum ChoiceError {
    /// A round's weights cannot be written or read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The operating system's words.
        source: std::io::Error,
    },
    /// A round's weights were not kept.
    #[error(
        "{}: round {round}'s weights were not kept, and train.keep = \"{keep}\" wants them: take another train.keep, or \
         train anew with train.keep_rounds = true", path.display()
    )]
    NotKept {
        /// The file that is not there.
        path: PathBuf,
        /// The round.
        round: u32,
        /// What wants it.
        keep: &'static str,
    },
    /// A file is damaged.
    #[error("{}: {problem}; train anew, or take another train.keep", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// libtorch.
    #[error("libtorch: {0}")]
    Tch(#[from] TchError),
}

/// The label-free criterion: higher is better.
pub fn criterion(row: &ProbeRow) -> f64 {
    row.cutpaste_auroc
}

/// The row with the best criterion; of equals the last, which has been trained longest.
pub fn best(rows: &[ProbeRow]) -> Option<&ProbeRow> {
    rows.iter().max_by(|a, b| criterion(a).total_cmp(&criterion(b)))
}

/// Whether the criterion has not improved for `train.patience_rounds` rounds.
pub fn has_stopped(config: &TrainConfig, rows: &[ProbeRow]) -> bool {
    let patience = config.patience_rounds as usize;
    let Some(highest) = best(rows).map(criterion) else { return false };
    let first = rows.iter().position(|r| criterion(r) >= highest).unwrap_or(0);
    patience > 0 && rows.len() > first + patience
}

/// The rounds whose weights may be wanted when training ends after those in `rows`.
fn wanted(config: &TrainConfig, rows: &[ProbeRow]) -> Vec<u32> {
    match config.keep {
        Keep::Last => rows.last().map(|r| r.round).into_iter().collect(),
        Keep::Best => best(rows).map(|r| r.round).into_iter().collect(),
        Keep::Average => rows.iter().rev().take(config.average_rounds as usize).map(|r| r.round).rev().collect(),
    }
}

/// Keeps the weights of the round that has just ended, the last of `rows`, and drops those no longer wanted.
pub fn keep_round(config: &TrainConfig, run: &Path, model: &Model, rows: &[ProbeRow]) -> Result<(), ChoiceError> {
    let Some(round) = rows.last().map(|r| r.round) else { return Ok(()) };
    let wanted = wanted(config, rows);
    if config.keep_rounds || (config.keep != Keep::Last && wanted.contains(&round)) {
        let path = path(run, round);
        let io = |source| ChoiceError::Io { path: path.clone(), source };
        std::fs::create_dir_all(run.join(FOLDER)).map_err(io)?;
        let bytes = to_safetensors(&model.variables())
            .map_err(|problem| ChoiceError::Damaged { path: path.clone(), problem })?;
        atomic::write(&path, &bytes).map_err(io)?;
    }
    if !config.keep_rounds {
        for other in rows.iter().map(|r| r.round).filter(|r| !wanted.contains(r)) {
            // What cannot be deleted costs room and does no harm.
            let _ = std::fs::remove_file(self::path(run, other));
        }
    }
    Ok(())
}

/// Sets a trained model's weights to those that `config` keeps. `loader` makes the batches that batch norm's statistics
/// are taken from where weights are averaged.
pub fn settle(
    config: &TrainConfig,
    run: &Path,
    history: &History,
    model: &mut Model,
    loader: &Loader,
) -> Result<Choice, ChoiceError> {
    let rounds = wanted(config, &history.probes);
    match config.keep {
        Keep::Last => {}
        Keep::Best => {
            for &round in &rounds {
                restore(run, round, model, "best")?;
            }
        }
        Keep::Average => {
            average(run, &rounds, model)?;
            retake_statistics(model, loader)?;
        }
    }
    Ok(Choice { keep: config.keep, rounds })
}

/// Sets the model's weights to those at the end of a round.
pub fn restore(run: &Path, round: u32, model: &mut Model, keep: &'static str) -> Result<(), ChoiceError> {
    let mut tensors = read(run, round, keep)?;
    model.restore(|name| take(&mut tensors, run, round, name))
}

const FOLDER: &str = "rounds";

fn path(run: &Path, round: u32) -> PathBuf {
    run.join(FOLDER).join(format!("round-{round:03}.safetensors"))
}

fn read(run: &Path, round: u32, keep: &'static str) -> Result<HashMap<String, Tensor>, ChoiceError> {
    let path = path(run, round);
    match std::fs::read(&path) {
        Ok(bytes) => from_safetensors(&bytes).map_err(|problem| ChoiceError::Damaged { path, problem }),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Err(ChoiceError::NotKept { path, round, keep }),
        Err(source) => Err(ChoiceError::Io { path, source }),
    }
}

fn take(tensors: &mut HashMap<String, Tensor>, run: &Path, round: u32, name: &str) -> Result<Tensor, ChoiceError> {
    let problem = || format!("it has no tensor {name}: it is of another network");
    tensors.remove(name).ok_or_else(|| ChoiceError::Damaged { path: path(run, round), problem: problem() })
}

fn average(run: &Path, rounds: &[u32], model: &mut Model) -> Result<(), ChoiceError> {
    let mut sums: HashMap<String, Tensor> = HashMap::new();
    for &round in rounds {
        for (name, tensor) in read(run, round, "average")? {
            let sum = match sums.remove(&name) {
                Some(sum) => sum.f_add(&tensor)?,
                None => tensor,
            };
            sums.insert(name, sum);
        }
    }
    let last = rounds.last().copied().unwrap_or_default();
    model.restore(|name| Ok::<_, ChoiceError>(take(&mut sums, run, last, name)?.f_div_scalar(rounds.len() as f64)?))
}

/// Takes batch norm's running statistics anew, as the mean over batches of training images: those of averaged weights are
/// not the average of the statistics.
fn retake_statistics(model: &Model, loader: &Loader) -> Result<(), TchError> {
    let momentum = nn::BatchNormConfig::default().momentum;
    let running = |name: &str| name.ends_with("running_mean") || name.ends_with("running_var");
    let mut statistics: Vec<Tensor> =
        model.variables().into_iter().filter(|(name, _)| running(name)).map(|(_, tensor)| tensor).collect();
    let mut sums: Vec<Tensor> = statistics.iter().map(Tensor::zeros_like).collect();
    let epochs = BATCHES.div_ceil(loader.batches()) as u64;
    let mut batches = 0;
    for batch in (0..epochs).flat_map(|epoch| loader.epoch(epoch)).take(BATCHES) {
        // From zero, one step of the moving average is the batch's own statistics times the momentum.
        no_grad(|| {
            statistics.iter_mut().for_each(|s| _ = s.zero_());
            let images = to_images(&batch.images, &model.input, model.store.device());
            model.net.decode(&model.net.encode(&images, true), true);
            sums.iter_mut().zip(&statistics).try_for_each(|(sum, s)| sum.f_add_(s).map(|_| ()))
        })?;
        batches += 1;
    }
    let scale = 1.0 / (momentum * f64::from(batches));
    no_grad(|| statistics.iter_mut().zip(&sums).try_for_each(|(s, sum)| s.f_copy_(&sum.f_mul_scalar(scale)?)))
}
