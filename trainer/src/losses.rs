//! The losses of METHOD "Losses". All are means over the batch; probabilities are never formed, only their logarithms.

use serde::{Deserialize, Serialize};
use tch::{Kind, Reduction, Tensor, no_grad};

/// Similarities to the bank that a step holds at once, at most: 256 MiB of f32, and as much again for their gradient.
const LOGITS: i64 = 1 << 26;

/// How a reconstruction is compared with its image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reconstruction {
    /// Mean absolute error (the official code's).
    L1,
    /// Mean squared error (the paper's).
    L2,
}

impl Reconstruction {
    /// Mean over all elements of the error of `output` against `target`, both \[n, channels, height, width\].
    pub fn loss(self, output: &Tensor, target: &Tensor) -> Tensor {
        match self {
            Reconstruction::L1 => output.l1_loss(target, Reduction::Mean),
            Reconstruction::L2 => output.mse_loss(target, Reduction::Mean),
        }
    }
}

/// What the contrastive losses of one batch need to know of its images.
#[derive(Debug)]
pub struct BatchTargets {
    /// Rows of the bank that the images own, \[b\], int64.
    pub own: Tensor,
    /// 1 where the image is prototypical, \[b\], f32; 0 everywhere in phase 1.
    pub prototypical: Tensor,
    /// Each image's neighbourhood with itself, \[b, k + 1\], int64; rows of images that are not prototypical are not
    /// looked at. `None` in phase 1.
    pub neighbourhood: Option<Tensor>,
}

/// Embeddings of a batch's [negatives](crate::negatives), beside the bank in the denominators.
#[derive(Debug)]
pub struct Crowd {
    /// \[m, d\], unit length.
    pub embeddings: Tensor,
    /// What they weigh together, as a share of the bank's rows.
    pub weight: f64,
}

/// The two contrastive losses.
#[derive(Debug)]
pub struct Contrastive {
    /// L_ss over the sample-specific images.
    pub sample_specific: Tensor,
    /// L_agg over the prototypical images.
    pub aggregation: Tensor,
}

/// L_ss and L_agg of embeddings `z` \[views, b, d\] against the bank \[n, d\] at temperature `tau`.
///
/// With one view, p_ij is METHOD's. With several, the other views of image i join its row of the bank among the j of L_ss
/// and, so that p stays a distribution, its denominator. Negatives s_1 .. s_m of weight w join every denominator:
/// p_ij = exp(m_j . z_i / tau) / (sum_k exp(m_k . z_i / tau) + w n / m sum_l exp(s_l . z_i / tau)).
pub fn contrastive(
    z: &Tensor,
    bank: &Tensor,
    targets: &BatchTargets,
    negatives: Option<&Crowd>,
    tau: f64,
) -> Contrastive {
    let (views, batch, dim) = match z.size()[..] {
        [v, b, d] => (v, b, d),
        _ => unreachable!("embeddings are [views, b, d]"),
    };
    let over_bank = log_sum_over_bank(&z.view([views * batch, dim]), bank, tau, LOGITS).view([views, batch]);
    let log_total = match negatives {
        None => over_bank, // [views, b]
        Some(Crowd { embeddings, weight }) => {
            let share = weight * bank.size()[0] as f64 / embeddings.size()[0] as f64;
            let apart = z.matmul(&embeddings.tr()) / tau + share.ln();
            Tensor::cat(&[over_bank.unsqueeze(2), apart], 2).logsumexp([2], false)
        }
    };
    // Rows of the bank for each image, [b, m], to their logits, [views, b, m].
    let rows = |index: &Tensor| {
        let chosen = bank.index_select(0, &index.flatten(0, -1)).view([batch, -1, dim]);
        (z.unsqueeze(2) * chosen).sum_dim_intlist([3].as_slice(), false, Kind::Float) / tau
    };

    let own = rows(&targets.own.unsqueeze(1)); // [views, b, 1]
    let log_p_own = if views == 1 {
        own.squeeze_dim(2) - &log_total
    } else {
        let others = other_views(z) / tau; // [views, b, views - 1]
        let log_denominator = Tensor::cat(&[log_total.unsqueeze(2), others.shallow_clone()], 2).logsumexp([2], false);
        Tensor::cat(&[own, others], 2).logsumexp([2], false) - log_denominator
    };
    let specific: Tensor = 1.0 - &targets.prototypical;
    let sample_specific = -(log_p_own * specific).mean(Kind::Float);

    let aggregation = match &targets.neighbourhood {
        None => Tensor::zeros([], (Kind::Float, z.device())),
        Some(neighbourhood) => {
            let log_p_set = rows(neighbourhood).logsumexp([2], false) - log_total;
            -(log_p_set * &targets.prototypical).mean(Kind::Float)
        }
    };
    Contrastive { sample_specific, aggregation }
}

/// log sum_k exp(m_k . z_i / tau) of embeddings `z` \[r, d\] over the bank \[n, d\], \[r\]. Where there are more than `logits`
/// of these, the bank is taken in blocks, none of which outlives its turn: the gradient is one in `z` alone, and known,
/// sum_k p_ik m_k / tau.
fn log_sum_over_bank(z: &Tensor, bank: &Tensor, tau: f64, logits: i64) -> Tensor {
    let (rows, n) = (z.size()[0], bank.size()[0]);
    if rows * n <= logits {
        return (z.matmul(&bank.tr()) / tau).logsumexp([1], false);
    }
    let (sum, gradient) = no_grad(|| {
        let mut sum = Tensor::full([rows], f64::NEG_INFINITY, (Kind::Float, z.device()));
        let mut mean = z.zeros_like(); // sum_k p_ik m_k over the blocks so far
        let block = (logits / rows).max(1);
        for start in (0..n).step_by(block as usize) {
            let rows = bank.narrow(0, start, block.min(n - start));
            let similar = z.matmul(&rows.tr()) / tau;
            let grown = sum.logaddexp(&similar.logsumexp([1], false));
            let share = (similar - grown.unsqueeze(1)).exp();
            mean = mean * (sum - &grown).exp().unsqueeze(1) + share.matmul(&rows);
            sum = grown;
        }
        (sum, mean / tau)
    });
    // Nothing but the gradient.
    let along = (z * gradient).sum_dim_intlist([1].as_slice(), false, Kind::Float);
    sum + (&along - along.detach())
}

/// Similarity of each view to the other views of its image: \[views, b, views - 1\].
fn other_views(z: &Tensor) -> Tensor {
    let views = z.size()[0];
    let shifted: Vec<Tensor> =
        (1..views).map(|s| (z * z.roll([s], [0])).sum_dim_intlist([2].as_slice(), false, Kind::Float)).collect();
    Tensor::stack(&shifted, 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    #[test]
    fn the_sum_over_the_bank_and_its_gradient_are_the_same_in_blocks() {
        tch::manual_seed(5);
        let bank = unit(&Tensor::randn([23, 6], (Kind::Float, Device::Cpu)));
        let from = unit(&Tensor::randn([4, 6], (Kind::Float, Device::Cpu)));
        let weights = Tensor::from_slice(&[0.3f32, -1.0, 2.0, 0.5]);
        let run = |logits| {
            let z = from.detach().copy().set_requires_grad(true);
            let sum = log_sum_over_bank(&z, &bank, 0.05, logits);
            (&sum * &weights).sum(Kind::Float).backward();
            (sum.detach(), z.grad())
        };
        let (whole, gradient) = run(LOGITS);
        // Blocks of 1, 5 (the last of them of 3) and 22 rows.
        for logits in [4, 20, 91] {
            let (sum, found) = run(logits);
            assert!((&sum - &whole).abs().max().double_value(&[]) < 1e-5, "{logits}");
            assert!((&found - &gradient).abs().max().double_value(&[]) < 1e-4, "{logits}");
        }
    }

    fn unit(t: &Tensor) -> Tensor {
        t / t.norm_scalaropt_dim(2, [-1], true)
    }

    fn targets(own: &[i64], prototypical: &[f32], neighbourhood: Option<Tensor>) -> BatchTargets {
        BatchTargets { own: Tensor::from_slice(own), prototypical: Tensor::from_slice(prototypical), neighbourhood }
    }

    #[test]
    fn two_equal_views_against_an_empty_crowd_cost_nothing() {
        let bank = Tensor::from_slice(&[1f32, 0.0, -1.0, 0.0]).view([2, 2]);
        let z = Tensor::from_slice(&[1f32, 0.0, 1.0, 0.0]).view([2, 1, 2]);
        let loss = contrastive(&z, &bank, &targets(&[0], &[0.0], None), None, 0.1);
        assert!(loss.sample_specific.double_value(&[]) < 1e-6);
        assert_eq!(loss.aggregation.double_value(&[]), 0.0);
    }

    #[test]
    fn several_views_follow_the_formula() {
        tch::manual_seed(1);
        let z = unit(&Tensor::randn([3, 2, 5], (Kind::Float, Device::Cpu)));
        let bank = unit(&Tensor::randn([4, 5], (Kind::Float, Device::Cpu)));
        let tau = 0.2;
        let targets = targets(&[2, 0], &[0.0, 0.0], None);
        let got = contrastive(&z, &bank, &targets, None, tau).sample_specific.double_value(&[]);
        let dot = |a: &Tensor, b: &Tensor| ((a * b).sum(Kind::Double).double_value(&[]) / tau).exp();
        let mut sum = 0.0;
        for v in 0..3 {
            for (i, own) in [2i64, 0].into_iter().enumerate() {
                let zi = z.get(v).get(i as i64);
                let bank_terms: Vec<f64> = (0..4).map(|j| dot(&bank.get(j), &zi)).collect();
                let views: f64 = (0..3).filter(|w| *w != v).map(|w| dot(&z.get(w).get(i as i64), &zi)).sum();
                sum -= ((bank_terms[own as usize] + views) / (bank_terms.iter().sum::<f64>() + views)).ln();
            }
        }
        assert!((got - sum / 6.0).abs() < 1e-5, "{got} against {}", sum / 6.0);
    }

    #[test]
    fn negatives_join_the_denominators_with_their_weight() {
        tch::manual_seed(2);
        let draw = |size: &[i64]| unit(&Tensor::randn(size, (Kind::Float, Device::Cpu)));
        let (z, bank, apart) = (draw(&[1, 2, 5]), draw(&[4, 5]), draw(&[3, 5]));
        let neighbourhood = Tensor::from_slice(&[1i64, 2, 3, 0]).view([2, 2]);
        let (tau, weight) = (0.3, 0.5);
        let targets = targets(&[2, 0], &[0.0, 1.0], Some(neighbourhood));
        let crowd = Crowd { embeddings: apart.shallow_clone(), weight };
        let got = contrastive(&z, &bank, &targets, Some(&crowd), tau);
        let e = |a: &Tensor, i: i64| ((z.get(0).get(i) * a).sum(Kind::Double).double_value(&[]) / tau).exp();
        let total = |i: i64| {
            let of_bank: f64 = (0..4).map(|j| e(&bank.get(j), i)).sum();
            of_bank + weight * 4.0 / 3.0 * (0..3).map(|l| e(&apart.get(l), i)).sum::<f64>()
        };
        let specific = -(e(&bank.get(2), 0) / total(0)).ln() / 2.0;
        let aggregation = -((e(&bank.get(3), 1) + e(&bank.get(0), 1)) / total(1)).ln() / 2.0;
        assert!((got.sample_specific.double_value(&[]) - specific).abs() < 1e-5);
        assert!((got.aggregation.double_value(&[]) - aggregation).abs() < 1e-5);
    }
}
