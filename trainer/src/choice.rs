//! Which weights a run ends with: the last round's, those of the round that looks best without labels, or an average over
//! rounds; and when to stop early.
//!
//! The weights of the rounds that may be wanted lie in `rounds/`, beside the checkpoint, which keeps what training goes on
//! with. What a run ends with follows from them and from the history alone, so that it is the same however often the run
//! was stopped, and another choice can be made later.

use crate::checkpoint::{from_safetensors, to_safetensors};
use crate::config::{Keep, TrainConfig};
use crate::history::History;
use crate::loader::Loader;
use crate::model::Model;
use crate::probe::ProbeRow;
use salad_shared::atomic;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use tch::{TchError, Tensor, nn, no_grad};

/// Batches that batch norm's statistics are taken from, at least, where weights have been averaged.
const BATCHES: usize = 32;

/// Rounds whose criterion is at least this share of the highest count as equally good.
const NEARLY: f64 = 0.9;

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
            _ if self.rounds.is_empty() => f.write_str("those of the last step"),
            Keep::Last => write!(f, "those of the last round, {rounds}"),
            Keep::Best => write!(f, "those of round {rounds}, the last whose effective rank is near the highest"),
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
        "{}: is not there: round {round}'s weights were not kept; go by the train.keep that the run began with, or train \
         anew with train.keep_rounds = true",
        path.display()
    )]
    NotKept {
        /// The file that is not there.
        path: PathBuf,
        /// The round.
        round: u32,
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

/// The label-free criterion, higher is better: the effective rank of the embeddings. It falls when normal images gather in
/// too few places, and grows as the encoder tells more of them apart; docs/label-free-choice.md has what it was compared
/// with, and how well it tracks.
pub fn criterion(row: &ProbeRow) -> f64 {
    row.effective_rank
}

/// The last row with nearly the highest criterion: it has been trained longest.
pub fn best(rows: &[ProbeRow]) -> Option<&ProbeRow> {
    let highest = highest(rows);
    rows.iter().rev().find(|row| criterion(row) >= NEARLY * highest)
}

/// Whether the criterion has not improved for `train.patience_rounds` rounds.
pub fn has_stopped(config: &TrainConfig, rows: &[ProbeRow]) -> bool {
    let patience = config.patience_rounds as usize;
    let highest = highest(rows);
    let first = rows.iter().position(|r| criterion(r) >= highest).unwrap_or(0);
    patience > 0 && rows.len() > first + patience
}

fn highest(rows: &[ProbeRow]) -> f64 {
    rows.iter().map(criterion).fold(f64::NEG_INFINITY, f64::max)
}

/// The rounds whose weights may be wanted when training ends after those in `rows`.
fn wanted(config: &TrainConfig, rows: &[ProbeRow]) -> Vec<u32> {
    match config.keep {
        Keep::Last => rows.last().map(|r| r.round).into_iter().collect(),
        Keep::Best => best(rows).map(|r| r.round).into_iter().collect(),
        Keep::Average => rows.iter().rev().take(config.average_rounds as usize).map(|r| r.round).rev().collect(),
    }
}

/// Keeps the weights of the round that has just ended, the last of `rows`, where they may be wanted.
pub fn keep_round(config: &TrainConfig, run: &Path, model: &Model, rows: &[ProbeRow]) -> Result<(), ChoiceError> {
    let Some(round) = rows.last().map(|r| r.round) else { return Ok(()) };
    if !config.keep_rounds && (config.keep == Keep::Last || !wanted(config, rows).contains(&round)) {
        return Ok(());
    }
    let path = path(run, round);
    let io = |source| ChoiceError::Io { path: path.clone(), source };
    std::fs::create_dir_all(run.join(FOLDER)).map_err(io)?;
    let bytes =
        to_safetensors(&model.variables()).map_err(|problem| ChoiceError::Damaged { path: path.clone(), problem })?;
    atomic::write(&path, &bytes).map_err(io)
}

/// Drops the weights of rounds that are no longer wanted. Only once a checkpoint knows of the rounds: a run that is
/// resumed from the one before may come to want others.
pub fn drop_rounds(config: &TrainConfig, run: &Path, rows: &[ProbeRow]) {
    if config.keep_rounds || config.keep == Keep::Last {
        return;
    }
    let wanted = wanted(config, rows);
    for round in rows.iter().map(|r| r.round).filter(|r| !wanted.contains(r)) {
        let path = path(run, round);
        if let Err(e) = std::fs::remove_file(&path)
            && e.kind() != std::io::ErrorKind::NotFound
        {
            log::warn!("{}: weights that are no longer wanted stay: {e}", path.display());
        }
    }
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
        // A run of a version that measured no rounds ends with what it has.
        _ if rounds.is_empty() => {}
        Keep::Last => {}
        Keep::Best => {
            for &round in &rounds {
                restore(run, round, model)?;
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
pub fn restore(run: &Path, round: u32, model: &mut Model) -> Result<(), ChoiceError> {
    let mut tensors = read(run, round)?;
    model.restore(|name| take(&mut tensors, run, round, name))
}

const FOLDER: &str = "rounds";

fn path(run: &Path, round: u32) -> PathBuf {
    run.join(FOLDER).join(format!("round-{round:03}.safetensors"))
}

fn read(run: &Path, round: u32) -> Result<HashMap<String, Tensor>, ChoiceError> {
    let path = path(run, round);
    match std::fs::read(&path) {
        Ok(bytes) => from_safetensors(&bytes).map_err(|problem| ChoiceError::Damaged { path, problem }),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Err(ChoiceError::NotKept { path, round }),
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
        for (name, tensor) in read(run, round)? {
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
            let batch = batch.to_device(model.store.device());
            let z = model.net.encode(&batch.images, true);
            let _ = model.net.decode(&z.narrow(0, 0, batch.normal()), true);
            sums.iter_mut().zip(&statistics).try_for_each(|(sum, s)| sum.f_add_(s).map(|_| ()))
        })?;
        batches += 1;
    }
    let scale = 1.0 / (momentum * f64::from(batches));
    no_grad(|| statistics.iter_mut().zip(&sums).try_for_each(|(s, sum)| s.f_copy_(&sum.f_mul_scalar(scale)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(ranks: &[f64]) -> Vec<ProbeRow> {
        let row = |(round, &effective_rank): (usize, &f64)| ProbeRow {
            round: round as u32,
            effective_rank,
            ..Default::default()
        };
        ranks.iter().enumerate().map(row).collect()
    }

    #[test]
    fn of_nearly_equal_rounds_the_last_is_best() {
        let found = |ranks: &[f64]| best(&rows(ranks)).map(|r| r.round);
        assert_eq!(found(&[]), None);
        assert_eq!(found(&[2.0, 8.0, 3.0]), Some(1));
        assert_eq!(found(&[2.0, 8.0, 7.8, 3.0]), Some(2));
        assert_eq!(found(&[2.0, 8.0, 7.8, 9.0, 3.0]), Some(3));
    }

    #[test]
    fn a_round_once_dropped_is_never_wanted_again() {
        let config = TrainConfig { keep: Keep::Best, ..Default::default() };
        let ranks = [3.0, 5.0, 4.9, 4.8, 5.1, 4.7, 2.0, 4.85, 6.0, 1.0];
        let wanted: Vec<u32> = (1..=ranks.len()).map(|n| wanted(&config, &rows(&ranks[..n]))[0]).collect();
        assert!(wanted.is_sorted(), "{wanted:?}");
    }

    #[test]
    fn patience_counts_rounds_without_a_higher_criterion() {
        let stopped = |patience_rounds, ranks: &[f64]| {
            has_stopped(&TrainConfig { patience_rounds, ..Default::default() }, &rows(ranks))
        };
        assert!(!stopped(0, &[9.0, 1.0, 1.0, 1.0]));
        assert!(!stopped(2, &[]));
        assert!(!stopped(2, &[9.0, 1.0]));
        assert!(stopped(2, &[9.0, 1.0, 9.0]));
        assert!(!stopped(2, &[9.0, 1.0, 9.1]));
        assert!(!stopped(2, &[9.0, 1.0, 9.1, 1.0]));
    }
}
