//! Writes down the first steps of a run, so that another implementation can follow them: initial weights, batches, losses.
//! `tests/reference/agreement.py` is one that does.

use crate::checkpoint::{CheckpointError, write_tensors};
use crate::config::Config;
use crate::train::TrainError;
use crate::trial::Trial;
use salad_shared::atomic;
use serde::Serialize;
use std::path::Path;
use tch::TchError;

/// `trace.json`.
#[derive(Debug, Serialize)]
struct Trace<'a> {
    /// The recipe, with every default.
    config: &'a Config,
    /// Training images.
    images: usize,
    /// The round whose neighbourhoods the second half of the steps has, discovered from the bank as it then is.
    round: u32,
    /// The steps, in order; step i has `batch-iii.safetensors`.
    steps: Vec<Step>,
}

#[derive(Debug, Serialize)]
struct Step {
    /// 0 in phase 1.
    round: u32,
    reconstruction: f64,
    sample_specific: f64,
    aggregation: f64,
    total: f64,
}

/// Takes `steps` steps of phase 1 and as many of phase 2, at the full learning rate, and writes into the folder `out`:
///
/// - `start.safetensors`: the variables by name, and `bank`, before the first step;
/// - `batch-000.safetensors` and so on: `images` \[views * b, channels, height, width\] and `own` \[b\];
/// - `trace.json`: the recipe, and each step's losses.
pub fn write(config: &Config, steps: usize, out: &Path) -> Result<(), TrainError> {
    let mut trial = Trial::new(config)?;
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| TrainError::Io { path, source }
    };
    std::fs::create_dir_all(out).map_err(io(out))?;
    let mut start = trial.model.variables();
    start.push(("bank".into(), trial.bank.rows().shallow_clone()));
    write_tensors(&out.join("start.safetensors"), &start)?;
    // A round in the middle has both kinds of images.
    let round = config.schedule().rounds.div_ceil(2).max(1);
    let (mut seen, mut neighbourhoods) = (Vec::new(), None);
    let loader = trial.loader.clone();
    let batches = (0..).flat_map(|epoch| loader.epoch(epoch)).take(2 * steps);
    for (at, batch) in batches.enumerate() {
        if at == steps {
            neighbourhoods = Some(trial.neighbourhoods(round));
        }
        let tensors = vec![("images".into(), batch.images.shallow_clone()), ("own".into(), batch.own.shallow_clone())];
        write_tensors(&out.join(format!("batch-{at:03}.safetensors")), &tensors)?;
        let losses = trial.step(&batch.to_device(trial.device), neighbourhoods.as_ref(), |_| ());
        let losses = Vec::<f64>::try_from(&losses)?;
        let [reconstruction, sample_specific, aggregation, total] = losses[..] else {
            return Err(TchError::Shape(format!("{} losses", losses.len())).into());
        };
        let round = if at < steps { 0 } else { round };
        seen.push(Step { round, reconstruction, sample_specific, aggregation, total });
    }
    let trace = Trace { config, images: trial.images(), round, steps: seen };
    let path = out.join("trace.json");
    let json = serde_json::to_vec_pretty(&trace)
        .map_err(|e| CheckpointError::Damaged { path: path.clone(), problem: e.to_string() })?;
    atomic::write(&path, &json).map_err(io(&path))
}
