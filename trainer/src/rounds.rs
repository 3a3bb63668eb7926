//! How well the label-free figures of a run's rounds track the AUROC of its test set: for judging the criterion, never for
//! choosing a round.

use crate::choice::{self, Keep};
use crate::condense::scores;
use crate::config::TrainConfig;
use crate::model::Model;
use crate::probe::ProbeRow;
use crate::train::{Images, TrainError, Trained, loader};
use salad_shared::metrics::{auroc, spearman};
use salad_shared::score::ScoreSpec;
use std::path::Path;

/// The rounds of a run with what the test set says of each.
#[derive(Debug, Clone, PartialEq)]
pub struct Rounds {
    /// Each round's label-free figures and its test AUROC, f32, over the whole bank.
    pub rounds: Vec<(ProbeRow, f64)>,
    /// Test AUROC of what each `train.keep` ends with.
    pub kept: Vec<(Keep, f64)>,
    /// Spearman's rank correlation of each label-free figure with the test AUROC over rounds; `None` where one of them
    /// never changes.
    pub correlations: Vec<(&'static str, Option<f64>)>,
}

/// Evaluates every round of a run that was trained with `train.keep_rounds`. Refuses runs without one, and data without
/// normal and anomalous test images.
pub fn compare(run: &Path, trained: &mut Trained) -> Result<Rounds, TrainError> {
    let Trained { config, images, model, history, .. } = trained;
    let loader = loader(config, images)?;
    let mut rounds = Vec::new();
    for row in &history.probes {
        choice::restore(run, row.round, model, "rounds")?;
        rounds.push((row.clone(), test_auroc(model, images, &config.score)?));
    }
    let mut kept = Vec::new();
    for keep in [Keep::Last, Keep::Best, Keep::Average] {
        if let Some(last) = history.probes.last() {
            choice::restore(run, last.round, model, "rounds")?;
        }
        choice::settle(&TrainConfig { keep, ..config.train.clone() }, run, history, model, &loader)?;
        kept.push((keep, test_auroc(model, images, &config.score)?));
    }
    let aurocs: Vec<f32> = rounds.iter().map(|(_, auroc)| *auroc as f32).collect();
    let names = rounds.first().map(|(row, _)| row.named().map(|(name, _)| name)).into_iter().flatten();
    let correlations = names.enumerate().map(|(at, name)| {
        let figures: Vec<f32> = rounds.iter().map(|(row, _)| row.named()[at].1 as f32).collect();
        let found = spearman(&figures, &aurocs).map_err(|e| TrainError::Refused(e.to_string()))?;
        Ok((name, found))
    });
    let correlations = correlations.collect::<Result<_, TrainError>>()?;
    Ok(Rounds { rounds, kept, correlations })
}

fn test_auroc(model: &Model, images: &Images, score: &ScoreSpec) -> Result<f64, TrainError> {
    let bank = model.embed(&images.train.frames)?;
    let all = scores(&bank, &model.embed(&images.test.frames)?, score);
    let of = |anomalous: bool| -> Vec<f32> {
        let own = all.iter().zip(&images.test.items).filter(|(_, t)| t.kind.is_some() == anomalous);
        own.map(|(score, _)| *score).collect()
    };
    auroc(&of(false), &of(true)).map_err(|e| TrainError::Refused(format!("the test set: {e}")))
}

impl std::fmt::Display for Rounds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<&str> = self.correlations.iter().map(|(name, _)| *name).collect();
        writeln!(f, "round,test_auroc,{}", names.join(","))?;
        for (row, auroc) in &self.rounds {
            let figures: Vec<String> = row.named().iter().map(|(_, v)| format!("{v:.4}")).collect();
            writeln!(f, "{},{auroc:.4},{}", row.round, figures.join(","))?;
        }
        for (name, found) in &self.correlations {
            writeln!(f, "spearman,{name},{}", found.map_or("-".to_owned(), |v| format!("{v:.3}")))?;
        }
        for (keep, auroc) in &self.kept {
            writeln!(f, "keep,{keep:?},{auroc:.4}")?;
        }
        Ok(())
    }
}
