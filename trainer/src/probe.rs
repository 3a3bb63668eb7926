//! What can be said of a round's weights without a single label: how embeddings spread, how well they tell made-up
//! anomalies from validation images, how the bank follows. The images are the same all through a run, so that rounds compare.

use crate::condense::scores;
use crate::config::Config;
use crate::images::Images;
use crate::memory_bank::MemoryBank;
use crate::model::Model;
use crate::neighbours::entropies;
use crate::network::{to_array, to_floats, to_tensor};
use crate::places::Places;
use crate::png::grid;
use crate::synthetic::cut_paste;
use crate::train::TrainError;
use ndarray::{Array2, Axis};
use salad_shared::metrics::auroc;
use salad_shared::patch::mean_of_highest;
use salad_shared::preprocess::{Frame, frame_from_input};
use salad_shared::score::ScoreSpec;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use tch::{Kind, TchError, Tensor, no_grad};

/// Places of training images a probe looks at, at most, one an image without patches: far below what a round's training
/// costs, however many there are.
const BANK: usize = 1024;
/// Validation images, at most; there are four made-up anomalies of each.
const VALIDATION: usize = 128;
/// Fewer with patches: an image has many embeddings.
const VALIDATION_OF_PATCHES: usize = 16;
/// Validation images shown with their reconstructions.
const SHOWN: usize = 8;
/// Longest side at which they are shown, pixels.
const SHOWN_SIDE: u32 = 128;
/// From this mean cosine on, embeddings are one point but for rounding. A fixed camera's lie close too, at 0.999.
pub const ONE_POINT: f64 = 0.99999;
/// A row of the bank stands still if an epoch takes it less than this share of the way to its image's embedding.
const STILL: f32 = 0.01;

/// One round's weights, at its end.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProbeRow {
    /// 0 is phase 1.
    pub round: u32,
    /// Effective rank of the training images' embeddings, see [`spread`].
    pub effective_rank: f64,
    /// Mean cosine of two training images' embeddings, -1..=1.
    pub cosine_mean: f64,
    /// Mean cosine of their rows in the memory bank, -1..=1: of embeddings as they were while training, by the batches'
    /// statistics. Those of evaluation lag behind in the first rounds of a small data set, and embeddings lie closer.
    pub bank_cosine_mean: f64,
    /// Mean entropy of the training images' embeddings as a bank, as a share of the most it can be, 0..=1.
    pub entropy: f64,
    /// AUROC of made-up anomalies ([`crate::synthetic`]) against the validation images they are made from.
    pub made_up_auroc: f64,
    /// How far the mean score of made-up anomalies lies above that of validation images, in the latter's standard
    /// deviations: what still grows where the AUROC has come to 1.
    pub made_up_margin: f64,
    /// Mean score of validation images.
    pub validation_score: f64,
    /// Their reconstruction loss.
    pub validation_reconstruction: f64,
    /// Share of the memory bank's rows that stood still in the round's last epoch, 0..=1.
    pub still_rows: f64,
}

impl ProbeRow {
    /// The figures under their names.
    pub fn named(&self) -> [(&'static str, f64); 9] {
        [
            ("effective_rank", self.effective_rank),
            ("cosine_mean", self.cosine_mean),
            ("bank_cosine_mean", self.bank_cosine_mean),
            ("entropy", self.entropy),
            ("made_up_auroc", self.made_up_auroc),
            ("made_up_margin", self.made_up_margin),
            ("validation_score", self.validation_score),
            ("validation_reconstruction", self.validation_reconstruction),
            ("still_rows", self.still_rows),
        ]
    }
}

/// The images that every round is measured on.
#[derive(Debug)]
pub struct Probe {
    /// Rows of the bank, and where their places are in the images of `bank`.
    rows: Vec<i64>,
    grid: Option<Tensor>,
    bank: Arc<Vec<Frame>>,
    validation: Arc<Vec<Frame>>,
    made_up: Vec<Frame>,
    score: ScoreSpec,
    /// Of an image's places, how many make its score.
    top: usize,
    tau: f64,
}

impl Probe {
    /// Takes training and validation images, spread evenly over all, and makes anomalies of the latter. `places` are the
    /// training images'.
    pub fn new(config: &Config, images: &Images, places: &Places) -> Probe {
        let spread = |n: usize, most: usize| -> Vec<usize> { (0..n).step_by(n.div_ceil(most.max(1)).max(1)).collect() };
        let take = |frames: &Arc<Vec<Frame>>, chosen: &[usize]| match frames.len() == chosen.len() {
            true => Arc::clone(frames),
            false => Arc::new(chosen.iter().filter_map(|&i| frames.get(i).cloned()).collect()),
        };
        let most = if config.network.patch.is_some() { VALIDATION_OF_PATCHES } else { VALIDATION };
        let chosen = spread(images.train.frames.len(), BANK / places.each());
        let validation = take(&images.validation.frames, &spread(images.validation.frames.len(), most));
        Probe {
            rows: places.own(&chosen),
            grid: places.grid_unmoved(chosen.iter().copied()),
            bank: take(&images.train.frames, &chosen),
            made_up: cut_paste(&validation, config.seed),
            validation,
            score: config.score,
            top: config.network.top(),
            tau: config.train.tau,
        }
    }

    /// The bank's rows that are looked at, \[r, d\], as they are now.
    pub fn rows_of(&self, bank: &MemoryBank) -> Tensor {
        let rows = Tensor::from_slice(&self.rows).to_device(bank.rows().device());
        no_grad(|| bank.rows().index_select(0, &rows))
    }

    /// Measures the weights at the end of a round; `before` is what [`rows_of`](Probe::rows_of) gave before its last epoch.
    pub fn measure(
        &self,
        round: u32,
        model: &Model,
        bank: &MemoryBank,
        before: &Tensor,
        validation_reconstruction: f64,
    ) -> Result<ProbeRow, TrainError> {
        let rows = to_array(&model.embed_places(&self.bank, self.grid.as_ref()))?;
        let score = |frames: &[Frame]| image_scores(model, &rows, frames, &self.score, self.top);
        let (normal, made_up) = (score(&self.validation)?, score(&self.made_up)?);
        let ((mean, deviation), (made_up_mean, _)) = (moments(&normal), moments(&made_up));
        let (cosine_mean, effective_rank) = spread(&rows);
        let after = self.rows_of(bank);
        let (bank_cosine_mean, _) = spread(&to_array(&after)?);
        let entropy = entropies(&to_tensor(&rows), self.tau).mean(Kind::Double).double_value(&[]);
        Ok(ProbeRow {
            round,
            effective_rank,
            cosine_mean,
            bank_cosine_mean,
            entropy: entropy / (rows.nrows().max(2) as f64).ln(),
            made_up_auroc: auroc(&normal, &made_up).map_err(|e| TrainError::Refused(e.to_string()))?,
            made_up_margin: (made_up_mean - mean) / deviation.max(f64::from(f32::EPSILON)),
            validation_score: mean,
            validation_reconstruction,
            still_rows: still_rows(before, &after, &to_tensor(&rows))?,
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

/// The scores of images over a bank: of a whole image's embedding, or the mean of its `top` most anomalous places.
pub fn image_scores(
    model: &Model,
    bank: &Array2<f32>,
    frames: &[Frame],
    score: &ScoreSpec,
    top: usize,
) -> Result<Vec<f32>, TchError> {
    let mut of_places = scores(bank, &model.embed(frames)?, score);
    let each = of_places.len() / frames.len().max(1);
    Ok(of_places.chunks_mut(each.max(1)).map(|image| mean_of_highest(image, top)).collect())
}

/// The mean cosine of two different rows (\[n, d\], unit length), and the effective rank of the rows about their mean: the
/// participation ratio (sum of the covariance's eigenvalues)^2 / (sum of their squares), from 1 for a line to d for no
/// direction preferred. Rows that are one point ([`ONE_POINT`]) have rank 1: what is left of them is rounding.
pub fn spread(rows: &Array2<f32>) -> (f64, f64) {
    let n = rows.nrows() as f64;
    let wide = rows.mapv(f64::from);
    let Some(mean) = wide.mean_axis(Axis(0)).filter(|_| n > 1.0) else { return (1.0, 1.0) };
    // The sum of all rows' cosines is the squared length of their sum; each row's own is 1.
    let cosine_mean = (n * n * mean.dot(&mean) - n) / (n * (n - 1.0));
    if cosine_mean > ONE_POINT {
        return (cosine_mean, 1.0);
    }
    // The eigenvalues of the rows' products with each other are those of their covariance, times n.
    let centred = wide - &mean;
    let products = centred.dot(&centred.t());
    let (sum, squares) = (products.diag().sum(), products.mapv(|v| v * v).sum());
    (cosine_mean, sum * sum / squares)
}

/// The share of rows of the bank that hardly moved from `before` to `after` while their images' embeddings are elsewhere;
/// all \[r, d\].
fn still_rows(before: &Tensor, after: &Tensor, embeddings: &Tensor) -> Result<f64, TchError> {
    let length = |t: Tensor| to_floats(&t.norm_scalaropt_dim(2, [1], false));
    let moved = length(after - before)?;
    let left = length(embeddings.to_device(after.device()) - after)?;
    let still = moved.iter().zip(&left).filter(|(moved, left)| **moved < STILL * **left).count();
    Ok(still as f64 / moved.len().max(1) as f64)
}

/// Mean and standard deviation.
fn moments(values: &[f32]) -> (f64, f64) {
    let n = values.len().max(1) as f64;
    let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
    let variance = values.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / n;
    (mean, variance.sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    /// Unit rows: a common direction, a random step along each of the first `directions` axes, and rounding.
    fn rows(directions: usize, step: f32) -> Array2<f32> {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let mut rows = Array2::from_shape_fn((200, 32), |(_, j)| {
            let along = if j < directions { step * (rng.random::<f32>() - 0.5) } else { 0.0 };
            1.0 + along + 1e-6 * (rng.random::<f32>() - 0.5)
        });
        for mut row in rows.rows_mut() {
            let length = row.dot(&row).sqrt();
            row.mapv_inplace(|v| v / length);
        }
        rows
    }

    #[test]
    fn the_rank_counts_the_directions_however_close_rows_lie() {
        for step in [0.1, 1.0] {
            let (cosine, rank) = spread(&rows(8, step));
            assert!(cosine > 0.95 && (rank - 8.0).abs() < 0.6, "{step}: {cosine} {rank}");
        }
        let (_, line) = spread(&rows(1, 1.0));
        assert!((line - 1.0).abs() < 0.01, "{line}");
    }

    #[test]
    fn one_point_has_rank_one_whatever_rounding_makes_of_it() {
        let (cosine, rank) = spread(&rows(0, 0.0));
        assert!(cosine > ONE_POINT && rank == 1.0, "{cosine} {rank}");
        assert_eq!(spread(&Array2::zeros((0, 0))), (1.0, 1.0));
    }

    #[test]
    fn the_mean_cosine_is_that_of_the_pairs() {
        let rows = rows(8, 1.0);
        let all = rows.dot(&rows.t());
        let pairs = (all.sum() - all.diag().sum()) / (200.0 * 199.0);
        assert!((spread(&rows).0 - f64::from(pairs)).abs() < 1e-5);
    }

    #[test]
    fn rows_that_wait_far_from_their_images_stand_still() {
        let before = Tensor::from_slice(&[1f32, 0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 1.0]).view([4, 2]);
        let images = Tensor::from_slice(&[0f32, 1.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0]).view([4, 2]);
        // The first goes half the way and the second hardly moves; the others have arrived.
        let after = Tensor::from_slice(&[0.5f32, 0.5, 0.9999, 0.0001, 1.0, 0.0, 0.0, 1.0]).view([4, 2]);
        assert_eq!(still_rows(&before, &after, &images).unwrap(), 0.25);
    }
}
