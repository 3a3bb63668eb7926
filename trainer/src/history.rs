//! What happened during a run, epoch by epoch and round by round: kept in the checkpoint, written as CSV, drawn in the report.

use crate::init::InitialWeights;
use crate::neighbours::NeighbourStats;
use crate::probe::ProbeRow;
use salad_shared::atomic;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// One epoch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EpochRow {
    /// From 0.
    pub epoch: u32,
    /// 0 is phase 1.
    pub round: u32,
    /// Mean reconstruction loss, unweighted.
    pub reconstruction: f64,
    /// Mean L_ss, unweighted.
    pub sample_specific: f64,
    /// Mean L_agg, unweighted.
    pub aggregation: f64,
    /// Mean of the weighted sum that was minimised.
    pub total: f64,
    /// Learning rate of the last step.
    pub learning_rate: f64,
    /// Reconstruction loss on the validation images, without augmentation.
    pub validation_reconstruction: f64,
    /// Wall-clock time, seconds.
    pub seconds: f64,
}

/// One round of phase 2, as its discovery saw the bank.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoundRow {
    /// From 1.
    pub round: u32,
    /// Prototypical images.
    pub prototypical: usize,
    /// Mean entropy, natural log.
    pub entropy_mean: f64,
    /// The 5, 25, 50, 75 and 95 % quantiles of the entropies.
    pub entropy_quantiles: [f64; 5],
    /// Mean similarity of prototypical images to their neighbours.
    pub neighbour_similarity_mean: f64,
}

impl RoundRow {
    /// The row of a round.
    pub fn new(round: u32, stats: &NeighbourStats) -> RoundRow {
        RoundRow {
            round,
            prototypical: stats.prototypical,
            entropy_mean: stats.entropy_mean,
            entropy_quantiles: stats.entropy_quantiles,
            neighbour_similarity_mean: stats.neighbour_similarity_mean,
        }
    }
}

/// A run so far.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct History {
    /// One row an epoch.
    pub epochs: Vec<EpochRow>,
    /// One row a round of phase 2.
    pub rounds: Vec<RoundRow>,
    /// One row a round, phase 1 included: what was measured at its end.
    #[serde(default)]
    pub probes: Vec<ProbeRow>,
    /// What a person should know before relying on the run: [`crate::warnings`].
    #[serde(default)]
    pub warnings: Vec<String>,
    /// Total loss of the first steps of the run, at most [`FIRST_LOSSES`]: what a test pins.
    pub first_losses: Vec<f64>,
    /// The weights that the encoder began with, where they were not drawn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initial_weights: Option<InitialWeights>,
}

/// How many steps' losses a history keeps one by one.
pub const FIRST_LOSSES: usize = 10;

impl History {
    /// Takes the warnings that hold now in place of those before, and logs those that are new.
    pub fn warn(&mut self, warnings: Vec<String>) {
        warnings.iter().filter(|w| !self.warnings.contains(w)).for_each(|w| log::warn!("{w}"));
        self.warnings = warnings;
    }

    /// Writes the epochs as `history.csv` and the probes as `rounds.csv` into a run's folder.
    pub fn write_csv(&self, folder: &Path) -> Result<(), (PathBuf, std::io::Error)> {
        write_rows(folder.join("history.csv"), &self.epochs)?;
        write_rows(folder.join("rounds.csv"), &self.probes)
    }
}

fn write_rows(path: PathBuf, rows: &[impl Serialize]) -> Result<(), (PathBuf, std::io::Error)> {
    let written = atomic::write_with(&path, |out| {
        let mut csv = csv::Writer::from_writer(out);
        for row in rows {
            csv.serialize(row)?;
        }
        csv.flush()
    });
    written.map_err(|source| (path, source))
}
