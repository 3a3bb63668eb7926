//! How well the label-free figures of a run's rounds track the AUROC of its test set: for judging the criterion, never for
//! choosing a round.

use crate::choice;
use crate::config::{Config, Keep, TrainConfig};
use crate::images::Images;
use crate::model::Model;
use crate::network::to_array;
use crate::probe::{ProbeRow, image_scores};
use crate::train::{TrainError, Trained, loader};
use salad_shared::metrics::{auroc, spearman};
use serde::Serialize;
use std::path::Path;

/// The rounds of a run with what the test set says of each.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Rounds {
    /// The rounds, in order.
    pub rounds: Vec<Round>,
    /// Test AUROC of what each `train.keep` ends with.
    pub kept: Vec<(Keep, f64)>,
    /// Spearman's rank correlation of each label-free figure, and of the round's number, with the test AUROC over rounds;
    /// `None` where one of them never changes.
    pub correlations: Vec<(&'static str, Option<f64>)>,
}

/// One round.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Round {
    /// What was measured without labels.
    pub probe: ProbeRow,
    /// AUROC of the test set, f32, over the bank's own images and places.
    pub test_auroc: f64,
}

/// Evaluates every round of a run that was trained with `train.keep_rounds`. Refuses runs without, and data without
/// normal and anomalous test images. The model is left with the weights of the last `train.keep` tried.
pub fn compare(run: &Path, trained: &mut Trained) -> Result<Rounds, TrainError> {
    let Trained { config, images, model, history, .. } = trained;
    let mut rounds = Vec::new();
    for probe in &history.probes {
        choice::restore(run, probe.round, model)?;
        rounds.push(Round { probe: probe.clone(), test_auroc: test_auroc(model, images, config)? });
    }
    let (loader, mut kept) = (loader(config, &images.train.frames, config.train.loader_threads)?, Vec::new());
    for keep in [Keep::Last, Keep::Best, Keep::Average] {
        if let Some(last) = history.probes.last() {
            choice::restore(run, last.round, model)?;
        }
        choice::settle(&TrainConfig { keep, ..config.train.clone() }, run, history, model, &loader)?;
        kept.push((keep, test_auroc(model, images, config)?));
    }
    Ok(Rounds { kept, correlations: correlations(&rounds)?, rounds })
}

fn correlations(rounds: &[Round]) -> Result<Vec<(&'static str, Option<f64>)>, TrainError> {
    let aurocs: Vec<f32> = rounds.iter().map(|r| r.test_auroc as f32).collect();
    let correlation = |name, figures: &[f32]| {
        spearman(figures, &aurocs).map(|found| (name, found)).map_err(|e| TrainError::Refused(e.to_string()))
    };
    let number: Vec<f32> = rounds.iter().map(|r| r.probe.round as f32).collect();
    let mut found = vec![correlation("round", &number)?];
    for (at, (name, _)) in ProbeRow::default().named().into_iter().enumerate() {
        let figures: Vec<f32> = rounds.iter().filter_map(|r| Some(r.probe.named().get(at)?.1 as f32)).collect();
        found.push(correlation(name, &figures)?);
    }
    Ok(found)
}

fn test_auroc(model: &Model, images: &Images, config: &Config) -> Result<f64, TrainError> {
    let grid = config.places(images.train.frames.len()).grid_unmoved(0..images.train.frames.len());
    let bank = to_array(&model.embed_places(&images.train.frames, grid.as_ref()))?;
    let all = image_scores(model, &bank, &images.test.frames, &config.score, config.network.top())?;
    let of = |anomalous: bool| -> Vec<f32> {
        let own = all.iter().zip(&images.test.items).filter(|(_, t)| t.kind.is_some() == anomalous);
        own.map(|(score, _)| *score).collect()
    };
    auroc(&of(false), &of(true)).map_err(|e| TrainError::Refused(format!("the test set cannot judge the rounds: {e}")))
}

impl std::fmt::Display for Rounds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "round  test AUROC  effective rank  made-up AUROC")?;
        for Round { probe, test_auroc } in &self.rounds {
            let ProbeRow { round, effective_rank, made_up_auroc, .. } = probe;
            writeln!(f, "{round:>5}  {test_auroc:>10.4}  {effective_rank:>14.3}  {made_up_auroc:>13.4}")?;
        }
        writeln!(f, "rank correlation with the test AUROC over rounds:")?;
        for (name, found) in &self.correlations {
            writeln!(f, "  {name:<26} {}", found.map_or("-".to_owned(), |v| format!("{v:+.2}")))?;
        }
        let kept = self.kept.iter().map(|(keep, auroc)| format!("{keep:?} {auroc:.4}").to_lowercase());
        write!(f, "test AUROC by train.keep: {}", kept.collect::<Vec<_>>().join(", "))
    }
}
