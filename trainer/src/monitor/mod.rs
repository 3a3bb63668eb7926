//! What a run writes while it trains, for people to follow: `steps.csv`, and TensorBoard's event file.
//!
//! Nothing here makes a step wait for the device: the losses of a step stay where they are, and are read out together once
//! every [`READ_EVERY`] steps. At each checkpoint the files are on the disk, and the checkpoint knows their lengths: a
//! resumed run cuts them back there, so that no step stands in them twice.

mod appended;

use crate::history::{EpochRow, RoundRow};
use crate::probe::ProbeRow;
use crate::tensorboard::{self, EVENT_FILE, FOLDER};
use appended::Appended;
use salad_shared::preprocess::Frame;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};
use tch::{TchError, Tensor};

/// Steps whose losses are read from the device at once.
pub const READ_EVERY: usize = 32;

/// The steps' file in a run's folder.
pub const STEPS_FILE: &str = "steps.csv";

const STEPS_HEADER: &str = "step,epoch,round,reconstruction,sample_specific,aggregation,total,learning_rate\n";

/// How long the files were when a checkpoint was written, bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Written {
    /// `steps.csv`.
    pub steps_bytes: u64,
    /// The event file.
    pub events_bytes: u64,
}

/// Where a step stands in the run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepAt {
    /// Steps of the optimiser so far, this one included.
    pub step: i32,
    /// From 0.
    pub epoch: u32,
    /// 0 is phase 1.
    pub round: u32,
    /// Its learning rate.
    pub learning_rate: f64,
}

/// Why something could not be written.
#[derive(Debug, thiserror::Error)]
pub enum MonitorError {
    /// A file.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The operating system's words.
        source: io::Error,
    },
    /// Losses cannot be read from the device.
    #[error("libtorch: {0}")]
    Tch(#[from] TchError),
}

/// Writes a run's `steps.csv` and event file.
#[derive(Debug)]
pub struct Monitor {
    steps: Appended,
    events: Appended,
    waiting: Vec<(StepAt, Tensor)>,
}

impl Monitor {
    /// Begins the files of the run in `folder`, or goes on with them where a checkpoint left them.
    pub fn open(folder: &Path, written: Written) -> Result<Monitor, MonitorError> {
        let board = folder.join(FOLDER);
        std::fs::create_dir_all(&board).map_err(|source| MonitorError::Io { path: board.clone(), source })?;
        let open = |path: PathBuf, keep: u64, begin: &[u8]| {
            let opened = Appended::open(&path, keep).and_then(|mut file| {
                if file.bytes() == 0 {
                    file.write(begin)?;
                }
                Ok(file)
            });
            opened.map_err(|source| MonitorError::Io { path, source })
        };
        Ok(Monitor {
            steps: open(folder.join(STEPS_FILE), written.steps_bytes, STEPS_HEADER.as_bytes())?,
            events: open(board.join(EVENT_FILE), written.events_bytes, &tensorboard::version())?,
            waiting: Vec::with_capacity(READ_EVERY),
        })
    }

    /// A step is done; `terms` is \[reconstruction, sample-specific, aggregation, total\], f64, on any device.
    pub fn step(&mut self, at: StepAt, terms: &Tensor) -> Result<(), MonitorError> {
        self.waiting.push((at, terms.shallow_clone()));
        if self.waiting.len() >= READ_EVERY { self.read_out() } else { Ok(()) }
    }

    /// A round of phase 2 begins with this state of the bank.
    pub fn round(&mut self, row: &RoundRow) -> Result<(), MonitorError> {
        let [q05, q25, q50, q75, q95] = row.entropy_quantiles;
        self.event(&tensorboard::numbers(
            i64::from(row.round),
            &[
                ("round/prototypical", row.prototypical as f64),
                ("round/neighbour_similarity_mean", row.neighbour_similarity_mean),
                ("entropy/mean", row.entropy_mean),
                ("entropy/q05", q05),
                ("entropy/q25", q25),
                ("entropy/q50", q50),
                ("entropy/q75", q75),
                ("entropy/q95", q95),
            ],
        ))
    }

    /// An epoch is done.
    pub fn epoch(&mut self, row: &EpochRow) -> Result<(), MonitorError> {
        self.read_out()?;
        self.event(&tensorboard::numbers(
            i64::from(row.epoch) + 1,
            &[
                ("epoch/reconstruction", row.reconstruction),
                ("epoch/sample_specific", row.sample_specific),
                ("epoch/aggregation", row.aggregation),
                ("epoch/total", row.total),
                ("epoch/validation_reconstruction", row.validation_reconstruction),
                ("epoch/learning_rate", row.learning_rate),
                ("epoch/seconds", row.seconds),
            ],
        ))
    }

    /// A round is over and was measured without labels; `pictures` shows what the decoder makes of some images.
    pub fn probed(&mut self, row: &ProbeRow, pictures: Option<&Frame>) -> Result<(), MonitorError> {
        let round = i64::from(row.round);
        let tags = row.named().map(|(name, value)| (format!("probe/{name}"), value));
        self.event(&tensorboard::numbers(round, &tags.each_ref().map(|(tag, value)| (tag.as_str(), *value))))?;
        match pictures {
            Some(frame) => self.event(&tensorboard::picture(round, "reconstruction", frame)),
            None => Ok(()),
        }
    }

    /// Brings everything to the disk; a checkpoint that is written now may hold what this gives.
    pub fn commit(&mut self) -> Result<Written, MonitorError> {
        self.read_out()?;
        for file in [&mut self.steps, &mut self.events] {
            file.sync().map_err(|e| failed(file, e))?;
        }
        Ok(Written { steps_bytes: self.steps.bytes(), events_bytes: self.events.bytes() })
    }

    /// Reads the waiting losses from the device and writes them.
    fn read_out(&mut self) -> Result<(), MonitorError> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let waiting = std::mem::take(&mut self.waiting);
        let terms: Vec<&Tensor> = waiting.iter().map(|(_, terms)| terms).collect();
        let values = Vec::<f64>::try_from(&Tensor::f_stack(&terms, 0)?.f_view(-1)?)?;
        for ((at, _), terms) in waiting.iter().zip(values.chunks_exact(4)) {
            let StepAt { step, epoch, round, learning_rate } = at;
            let losses = terms.iter().map(f64::to_string).collect::<Vec<_>>().join(",");
            let line = format!("{step},{epoch},{round},{losses},{learning_rate}\n");
            self.steps.write(line.as_bytes()).map_err(|e| failed(&self.steps, e))?;
            let names = ["loss/reconstruction", "loss/sample_specific", "loss/aggregation", "loss/total"];
            let mut tagged: Vec<(&str, f64)> = names.into_iter().zip(terms.iter().copied()).collect();
            tagged.push(("learning_rate", *learning_rate));
            self.event(&tensorboard::numbers(i64::from(*step), &tagged))?;
        }
        for file in [&mut self.steps, &mut self.events] {
            file.flush().map_err(|e| failed(file, e))?;
        }
        Ok(())
    }

    fn event(&mut self, record: &[u8]) -> Result<(), MonitorError> {
        self.events.write(record).map_err(|e| failed(&self.events, e))
    }
}

fn failed(file: &Appended, source: io::Error) -> MonitorError {
    MonitorError::Io { path: file.path().to_owned(), source }
}
