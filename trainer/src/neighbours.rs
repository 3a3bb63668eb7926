//! The entropy curriculum: which images become prototypical in a round, and what their neighbourhoods are
//! (METHOD "Prototypical selection").

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor, no_grad};

/// Rows of the bank handled at a time: a block's similarities to 100,000 rows take 200 MB.
const BLOCK_ROWS: i64 = 512;

/// `train.selection`: which images become prototypical first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Selection {
    /// Those of lowest entropy: the method's curriculum.
    Entropy,
    /// In an order drawn once from the seed: for measuring what the curriculum brings.
    Random,
}

/// How rounds discover.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Curriculum {
    /// Share of the images that becomes prototypical with each round, above 0, up to 1.
    pub rate: f64,
    /// Other images in a neighbourhood, k.
    pub neighbours: i64,
    /// Temperature of the entropies.
    pub tau: f64,
    /// Which images come first.
    pub selection: Selection,
    /// What [`Selection::Random`] draws from.
    pub seed: u64,
}

/// A round's prototypical images and neighbourhoods, kept for the whole round.
#[derive(Debug)]
pub struct Neighbourhoods {
    /// 1 where the image is prototypical, \[n\], f32.
    pub prototypical: Tensor,
    /// Each image's k most similar other images and, last, itself: \[n, k + 1\], int64.
    pub members: Tensor,
}

/// What a round's discovery saw, for people to follow.
#[derive(Debug, Clone, PartialEq)]
pub struct NeighbourStats {
    /// Prototypical images.
    pub prototypical: usize,
    /// Mean of the entropies H_i, natural log.
    pub entropy_mean: f64,
    /// The 5, 25, 50, 75 and 95 % quantiles of H_i.
    pub entropy_quantiles: [f64; 5],
    /// Mean similarity of prototypical images to their neighbours.
    pub neighbour_similarity_mean: f64,
}

/// H_i = - sum_j p_ij log p_ij over the bank \[n, d\] with z_i = m_i, natural log, \[n\].
pub fn entropies(bank: &Tensor, tau: f64) -> Tensor {
    let blocks: Vec<Tensor> = blocks(bank)
        .map(|(_, block)| {
            let log_p = (block.matmul(&bank.tr()) / tau).log_softmax(1, Kind::Float);
            -(log_p.exp() * log_p).sum_dim_intlist([1].as_slice(), false, Kind::Float)
        })
        .collect();
    Tensor::cat(&blocks, 0)
}

/// The `k` rows of the bank most similar to each row, itself left out, most similar first: indices and similarities,
/// both \[n, k\]; k is cut to n - 1.
pub fn nearest_others(bank: &Tensor, k: i64) -> (Tensor, Tensor) {
    let n = bank.size()[0];
    let k = k.min(n - 1);
    let (similarities, indices): (Vec<Tensor>, Vec<Tensor>) = blocks(bank)
        .map(|(start, block)| {
            let rows = block.size()[0];
            let own = Tensor::arange_start(start, start + rows, (Kind::Int64, bank.device())).unsqueeze(1);
            block.matmul(&bank.tr()).scatter_value(1, &own, f64::NEG_INFINITY).topk(k, 1, true, true)
        })
        .unzip();
    (Tensor::cat(&indices, 0), Tensor::cat(&similarities, 0))
}

/// How many of `n` images are prototypical in `round` (0 is phase 1): floor(round * rate * n), all of them from the last
/// round on.
pub fn prototypical_count(n: usize, round: u32, rate: f64) -> usize {
    let share = f64::from(round) * rate;
    // A hair more, so that 6 * 0.15 * 40 is 36 and not 35.999.
    if share >= 1.0 - 1e-9 { n } else { (share * n as f64 + 1e-9) as usize }
}

impl Neighbourhoods {
    /// Discovers the prototypical images and neighbourhoods of `round` from the bank \[n, d\], n >= 2.
    pub fn discover(bank: &Tensor, round: u32, curriculum: &Curriculum) -> (Neighbourhoods, NeighbourStats) {
        no_grad(|| {
            let n = bank.size()[0];
            let entropy = entropies(bank, curriculum.tau);
            let count = prototypical_count(n as usize, round, curriculum.rate);
            let (sorted, by_entropy) = entropy.sort_stable(true, 0, false);
            let order = match curriculum.selection {
                Selection::Entropy => by_entropy,
                Selection::Random => drawn_order(n, curriculum.seed).to_device(bank.device()),
            };
            let chosen = order.narrow(0, 0, count as i64);
            let prototypical = Tensor::zeros([n], (Kind::Float, bank.device())).index_fill(0, &chosen, 1.0);
            let (others, similarities) = nearest_others(bank, curriculum.neighbours);
            let own = Tensor::arange(n, (Kind::Int64, bank.device())).unsqueeze(1);
            let quantile = |q: f64| sorted.double_value(&[(q * (n - 1) as f64).round() as i64]);
            let stats = NeighbourStats {
                prototypical: count,
                entropy_mean: entropy.mean(Kind::Double).double_value(&[]),
                entropy_quantiles: [0.05, 0.25, 0.5, 0.75, 0.95].map(quantile),
                neighbour_similarity_mean: if count == 0 {
                    0.0
                } else {
                    similarities.index_select(0, &chosen).mean(Kind::Double).double_value(&[])
                },
            };
            (Neighbourhoods { prototypical, members: Tensor::cat(&[others, own], 1) }, stats)
        })
    }
}

/// 0 to n - 1 in an order that the seed decides, the same in every round.
fn drawn_order(n: i64, seed: u64) -> Tensor {
    let mut order: Vec<i64> = (0..n).collect();
    order.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
    Tensor::from_slice(&order)
}

/// Blocks of rows, each with the number of its first.
fn blocks(bank: &Tensor) -> impl Iterator<Item = (i64, Tensor)> {
    let n = bank.size()[0];
    (0..n).step_by(BLOCK_ROWS as usize).map(move |start| (start, bank.narrow(0, start, BLOCK_ROWS.min(n - start))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_of_prototypical_images_grows_to_all() {
        assert_eq!(prototypical_count(60, 0, 0.2), 0);
        assert_eq!(prototypical_count(60, 3, 0.2), 36);
        assert_eq!(prototypical_count(40, 6, 0.15), 36);
        assert_eq!(prototypical_count(7, 4, 0.3), 7);
    }

    #[test]
    fn a_drawn_selection_only_grows_and_is_not_the_entropys() {
        tch::manual_seed(5);
        let rows = Tensor::randn([40, 6], (Kind::Float, tch::Device::Cpu));
        let bank = &rows / rows.norm_scalaropt_dim(2, [1], true);
        let chosen = |selection, round| {
            let curriculum = Curriculum { rate: 0.25, neighbours: 3, tau: 0.1, selection, seed: 7 };
            Vec::<f32>::try_from(Neighbourhoods::discover(&bank, round, &curriculum).0.prototypical).unwrap()
        };
        let [first, second] = [1, 2].map(|round| chosen(Selection::Random, round));
        assert_eq!([first.iter().sum::<f32>(), second.iter().sum()], [10.0, 20.0]);
        assert!(first.iter().zip(&second).all(|(a, b)| a <= b));
        assert_ne!(first, chosen(Selection::Entropy, 1));
    }

    #[test]
    fn blocks_change_nothing() {
        tch::manual_seed(5);
        let rows = Tensor::randn([BLOCK_ROWS + 100, 6], (Kind::Float, tch::Device::Cpu));
        let bank = &rows / rows.norm_scalaropt_dim(2, [1], true);
        let log_p = (bank.matmul(&bank.tr()) / 0.1).log_softmax(1, Kind::Float);
        let whole = -(log_p.exp() * log_p).sum_dim_intlist([1].as_slice(), false, Kind::Float);
        assert!((entropies(&bank, 0.1) - whole).abs().max().double_value(&[]) < 1e-5);
        let (indices, _) = nearest_others(&bank, 4);
        let own = Tensor::arange(bank.size()[0], (Kind::Int64, tch::Device::Cpu)).unsqueeze(1);
        assert_eq!(indices.eq_tensor(&own).any().int64_value(&[]), 0);
    }
}
