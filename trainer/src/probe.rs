//! What can be said of a round's weights without a single label: how well they tell made-up anomalies from validation
//! images, how normal images lie, how the bank follows. Images are the same all through a run, so that rounds compare.

use crate::condense::scores;
use crate::memory_bank::MemoryBank;
use crate::model::Model;
use crate::network::{to_floats, to_tensor};
use crate::png::grid;
use crate::synthetic::cut_paste;
use crate::train::{Images, TrainError};
use ndarray::{Array2, s};
use salad_shared::bank::top_k;
use salad_shared::metrics::auroc;
use salad_shared::preprocess::{Frame, frame_from_input};
use salad_shared::score::ScoreSpec;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor, no_grad};

/// Training images a probe looks at, at most: a round's training costs over ten times as much, however many there are.
const BANK: usize = 1024;
/// Validation images, at most; there are four made-up anomalies of each.
const VALIDATION: usize = 128;
/// Validation images shown with their reconstructions.
const SHOWN: usize = 8;
/// Longest side at which they are shown, pixels.
const SHOWN_SIDE: u32 = 128;

/// One round's weights, at its end.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProbeRow {
    /// 0 is phase 1.
    pub round: u32,
    pub cutpaste_auroc: f64,
    pub cutpaste_margin: f64,
    pub foreign_auroc: f64,
    pub blur_auroc: f64,
    pub validation_reconstruction: f64,
    pub validation_score: f64,
    pub validation_gap: f64,
    pub entropy: f64,
    pub cosine_mean: f64,
    pub effective_rank: f64,
    pub still_rows: f64,
    pub bank_cosine: f64,
}

impl ProbeRow {
    /// The figures under the names they are shown by.
    pub fn named(&self) -> [(&'static str, f64); 12] {
        [
            ("probe/cutpaste_auroc", self.cutpaste_auroc),
            ("probe/cutpaste_margin", self.cutpaste_margin),
            ("probe/foreign_auroc", self.foreign_auroc),
            ("probe/blur_auroc", self.blur_auroc),
            ("probe/validation_reconstruction", self.validation_reconstruction),
            ("probe/validation_score", self.validation_score),
            ("probe/validation_gap", self.validation_gap),
            ("probe/entropy", self.entropy),
            ("probe/cosine_mean", self.cosine_mean),
            ("probe/effective_rank", self.effective_rank),
            ("probe/still_rows", self.still_rows),
            ("probe/bank_cosine", self.bank_cosine),
        ]
    }
}

/// The images that every round is measured on.
#[derive(Debug)]
pub struct Probe {
    rows: Vec<i64>,
    bank: Vec<Frame>,
    validation: Vec<Frame>,
    made_up: Vec<Frame>,
    foreign: Vec<Frame>,
    blurred: Vec<Frame>,
    score: ScoreSpec,
    tau: f64,
}

impl Probe {
    pub fn new(images: &Images, score: ScoreSpec, tau: f64, seed: u64) -> Probe {
        let spread = |n: usize, most: usize| (0..n).step_by(n.div_ceil(most).max(1));
        let rows: Vec<usize> = spread(images.train.frames.len(), BANK).collect();
        let validation: Vec<Frame> =
            spread(images.validation.frames.len(), VALIDATION).map(|i| images.validation.frames[i].clone()).collect();
        Probe {
            bank: rows.iter().map(|&i| images.train.frames[i].clone()).collect(),
            rows: rows.into_iter().map(|i| i as i64).collect(),
            made_up: cut_paste(&validation, seed),
            foreign: crate::synthetic::foreign(&validation, seed),
            blurred: crate::synthetic::soft_spots(&validation, seed),
            validation,
            score,
            tau,
        }
    }

    /// The bank's rows of the images looked at, \[r, d\], as they are now.
    pub fn rows_of(&self, bank: &MemoryBank) -> Tensor {
        let rows = Tensor::from_slice(&self.rows).to_device(bank.rows().device());
        no_grad(|| bank.rows().index_select(0, &rows))
    }

    pub fn measure(
        &self,
        round: u32,
        model: &Model,
        bank: &MemoryBank,
        before: &Tensor,
        validation_reconstruction: f64,
    ) -> Result<ProbeRow, TrainError> {
        let fresh = model.embed(&self.bank)?;
        let normal = scores(&fresh, &model.embed(&self.validation)?, &self.score);
        let of = |frames: &[Frame]| -> Result<Vec<f32>, TrainError> { Ok(scores(&fresh, &model.embed(frames)?, &self.score)) };
        let area = |a: &[f32]| auroc(&normal, a).map_err(|e| TrainError::Refused(e.to_string()));
        let made_up = of(&self.made_up)?;
        let (mean, sd) = moments(&normal);
        let similarities = fresh.dot(&fresh.t());
        let n = fresh.nrows() as f64;
        let own: Vec<f32> = similarities
            .rows()
            .into_iter()
            .enumerate()
            .map(|(i, row)| {
                let mut others = row.to_vec();
                others.remove(i);
                self.score.of_neighbours(&top_k(&others, self.score.neighbours()))
            })
            .collect();
        let squares: f64 = similarities.iter().map(|&c| f64::from(c).powi(2)).sum();
        let sum: f64 = similarities.iter().map(|&c| f64::from(c)).sum();
        let entropy = crate::neighbours::entropies(&to_tensor(&fresh), self.tau).mean(Kind::Double).double_value(&[]);
        let after = self.rows_of(bank);
        let fresh_t = to_tensor(&fresh).to_device(after.device());
        let length = |t: &Tensor| to_floats(&t.norm_scalaropt_dim(2, [1], false));
        let (moved, gap) = (length(&(&after - before))?, length(&(&fresh_t - &after))?);
        let still = moved.iter().zip(&gap).filter(|(m, g)| **m < 0.01 * **g).count();
        let bank_cosine = (&after * &fresh_t).sum_dim_intlist([1].as_slice(), false, Kind::Double).mean(Kind::Double);
        Ok(ProbeRow {
            round,
            cutpaste_auroc: area(&made_up)?,
            cutpaste_margin: (moments(&made_up).0 - mean) / sd,
            foreign_auroc: area(&of(&self.foreign)?)?,
            blur_auroc: area(&of(&self.blurred)?)?,
            validation_reconstruction,
            validation_score: mean,
            validation_gap: auroc(&own, &normal).map_err(|e| TrainError::Refused(e.to_string()))?,
            entropy: entropy / n.ln(),
            cosine_mean: (sum - n) / (n * (n - 1.0)),
            effective_rank: n * n / squares,
            still_rows: still as f64 / n,
            bank_cosine: bank_cosine.double_value(&[]),
        })
    }

    /// Some validation images over their reconstructions.
    pub fn pictures(&self, model: &Model) -> Result<Option<Frame>, TrainError> {
        let step = self.validation.len().div_ceil(SHOWN).max(1);
        let shown: Vec<Frame> = self.validation.iter().step_by(step).cloned().collect();
        let mut cells: Vec<Frame> = shown.iter().map(|f| f.thumbnail(SHOWN_SIDE)).collect();
        for values in model.reconstruct(&shown)? {
            let frame = frame_from_input(&model.input, &values).map_err(|e| TrainError::Refused(e.to_string()))?;
            cells.push(frame.thumbnail(SHOWN_SIDE));
        }
        Ok(grid(&cells, shown.len()))
    }
}

fn moments(values: &[f32]) -> (f64, f64) {
    let n = values.len().max(1) as f64;
    let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
    let variance = values.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / n;
    (mean, variance.sqrt().max(1e-9))
}
