//! Condensing the memory bank: N training embeddings to P prototypes that score as the whole bank does.
//!
//! Two ways are tried. Greedy k-centre takes actual rows and covers the bank to its rim; spherical k-means takes
//! directions in the middle of crowds. Which serves better depends on the data, so validation images decide: the one
//! whose scores correlate better (Pearson) with the full bank's is kept. A shift or a stretch of all scores costs
//! nothing, because the threshold is found on the condensed bank.

use ndarray::{Array1, Array2, ArrayView1, ArrayView2, Axis, s};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use salad_shared::bank::top_k;
use salad_shared::score::ScoreSpec;

/// Rows multiplied at a time: bounds the memory of similarities.
const BLOCK: usize = 1024;

/// k-means stops when no row changes its centroid, or here.
const ITERATIONS: usize = 25;

/// How many prototypes to keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condense {
    /// Every row.
    All,
    /// This many, at least 1; every row where the bank has no more.
    Count(usize),
}

/// A condensed bank.
#[derive(Debug, Clone, PartialEq)]
pub struct Condensed {
    /// The prototypes, \[P, d\], unit rows.
    pub rows: Array2<f32>,
    /// For each prototype the row of the bank that it is, or that lies nearest to it.
    pub sources: Vec<usize>,
    /// `all`, `k-centre` or `k-means`.
    pub method: String,
}

impl Condensed {
    /// The same prototypes as another encoder sees them: `bank` is what they were condensed from and `other` the other
    /// encoder's embeddings of the same images in the same order (both \[N, d\], unit rows). A row of the bank becomes the
    /// other's row, a centroid the centroid of its rows in the other. What the two encoders differ by on every image then
    /// does not count as a distance.
    pub fn seen_by(&self, bank: &Array2<f32>, other: &Array2<f32>) -> Array2<f32> {
        let mut rows = other.select(Axis(0), &self.sources);
        if self.method == "k-means" {
            let (nearest, _) = nearest_rows(bank, &self.rows);
            let mut sums = Array2::<f32>::zeros(self.rows.raw_dim());
            for (row, &c) in other.rows().into_iter().zip(&nearest) {
                let mut sum = sums.row_mut(c);
                sum += &row;
            }
            for (mut row, sum) in rows.rows_mut().into_iter().zip(sums.rows()) {
                let length = sum.dot(&sum).sqrt();
                if length > 1e-6 {
                    row.assign(&sum.mapv(|v| v / length));
                }
            }
        }
        rows
    }
}

/// Why a bank could not be condensed.
#[derive(Debug, thiserror::Error)]
pub enum CondenseError {
    /// Nothing to condense.
    #[error("condensing: the bank is empty")]
    EmptyBank,
    /// No prototypes wanted.
    #[error("condensing: prototypes = 0: at least 1 is needed")]
    NoPrototypes,
    /// No embeddings to choose by, or of another length.
    #[error("condensing: validation embeddings [{rows}, {columns}] for a bank of embeddings of length {dim}")]
    Validation {
        /// Validation images.
        rows: usize,
        /// Their length.
        columns: usize,
        /// The bank's.
        dim: usize,
    },
}

/// Condenses `bank` (\[N, d\], unit rows), choosing by the scores `score` of `validation` (\[n, d\], unit rows: normal
/// images that are not in the bank). Gives also how those scores correlate with the scores over the whole bank. The same
/// arguments give the same result.
pub fn condense(
    bank: &Array2<f32>,
    how: Condense,
    validation: &Array2<f32>,
    score: &ScoreSpec,
    seed: u64,
) -> Result<(Condensed, f64), CondenseError> {
    if bank.nrows() == 0 {
        return Err(CondenseError::EmptyBank);
    }
    let count = match how {
        Condense::Count(0) => return Err(CondenseError::NoPrototypes),
        Condense::Count(count) if count < bank.nrows() => count,
        Condense::Count(_) | Condense::All => {
            let all = Condensed { rows: bank.clone(), sources: (0..bank.nrows()).collect(), method: "all".into() };
            return Ok((all, 1.0));
        }
    };
    if validation.nrows() == 0 || validation.ncols() != bank.ncols() {
        let (rows, columns) = validation.dim();
        return Err(CondenseError::Validation { rows, columns, dim: bank.ncols() });
    }
    let full = scores(bank, validation, score);
    let [centre, means] = [k_centre(bank, count), k_means(bank, count, seed)].map(|condensed| {
        let r = correlation(&full, &scores(&condensed.rows, validation, score));
        log::info!("condensed to {count} prototypes by {}: score correlation {r:.4}", condensed.method);
        (condensed, r)
    });
    Ok(if centre.1 > means.1 { centre } else { means })
}

/// Greedy k-centre: from the row nearest to the mean direction on, always the row farthest in angle from those taken;
/// ties go to the lower row. `count` is at most N.
pub fn k_centre(bank: &Array2<f32>, count: usize) -> Condensed {
    let mean = bank.sum_axis(Axis(0));
    let mut next = largest(&bank.dot(&mean).mapv(f32::abs));
    let mut sources = Vec::with_capacity(count);
    // Similarity to the nearest row taken.
    let mut covered = Array1::from_elem(bank.nrows(), f32::NEG_INFINITY);
    while sources.len() < count.min(bank.nrows()) {
        sources.push(next);
        covered.zip_mut_with(&bank.dot(&bank.row(next)), |c, &s| *c = c.max(s));
        // Never taken again, not even where all the other rows are its copies.
        covered[next] = f32::INFINITY;
        next = largest(&covered.mapv(|c| -c));
    }
    Condensed { rows: bank.select(Axis(0), &sources), sources, method: "k-centre".into() }
}

/// Spherical k-means: seeds drawn with a chance in proportion to 1 - cosine to the nearest seed (k-means++ on the
/// sphere), then each centroid is the direction of the sum of its rows. `count` is at most N.
pub fn k_means(bank: &Array2<f32>, count: usize, seed: u64) -> Condensed {
    let mut centroids = bank.select(Axis(0), &plus_plus(bank, count, &mut ChaCha8Rng::seed_from_u64(seed)));
    let mut assigned: Vec<usize> = Vec::new();
    for _ in 0..ITERATIONS {
        let (nearest, similarity) = nearest_rows(bank, &centroids);
        if nearest == assigned {
            break;
        }
        let mut sums = Array2::<f32>::zeros(centroids.raw_dim());
        let mut members = vec![0_usize; centroids.nrows()];
        for (row, &c) in bank.rows().into_iter().zip(&nearest) {
            let mut sum = sums.row_mut(c);
            sum += &row;
            members[c] += 1;
        }
        // A centroid without rows moves to one of the rows that are worst served.
        let mut worst_served: Vec<usize> = (0..bank.nrows()).collect();
        worst_served.sort_by(|&a, &b| similarity[a].total_cmp(&similarity[b]));
        let mut worst_served = worst_served.into_iter();
        for ((mut centroid, sum), &members) in centroids.rows_mut().into_iter().zip(sums.rows()).zip(&members) {
            let length = sum.dot(&sum).sqrt();
            if members == 0 {
                if let Some(row) = worst_served.next() {
                    centroid.assign(&bank.row(row));
                }
            } else if length > 1e-6 {
                centroid.assign(&sum.mapv(|v| v / length));
            }
        }
        assigned = nearest;
    }
    let (sources, _) = nearest_rows(&centroids, bank);
    Condensed { rows: centroids, sources, method: "k-means".into() }
}

/// k-means++ seeds: distinct rows of the bank.
fn plus_plus(bank: &Array2<f32>, count: usize, rng: &mut ChaCha8Rng) -> Vec<usize> {
    let mut seeds = vec![rng.random_range(0..bank.nrows())];
    let mut distance = Array1::from_elem(bank.nrows(), f32::INFINITY);
    while seeds.len() < count.min(bank.nrows()) {
        if let Some(&newest) = seeds.last() {
            distance.zip_mut_with(&bank.dot(&bank.row(newest)), |d, &s| *d = d.min((1.0 - s).max(0.0)));
            distance[newest] = 0.0;
        }
        let total: f64 = distance.iter().map(|&d| f64::from(d)).sum();
        let mut left = rng.random::<f64>() * total;
        let drawn = distance.iter().position(|&d| {
            left -= f64::from(d);
            d > 0.0 && left <= 0.0
        });
        // Where only copies of the seeds are left, any row not taken will do.
        let untaken = || (0..bank.nrows()).find(|row| !seeds.contains(row));
        let drawn = drawn.filter(|_| total > 0.0).or_else(untaken).unwrap_or(0);
        seeds.push(drawn);
    }
    seeds
}

/// For each of `rows` the most similar of `among`, with the similarity; ties go to the lower row.
fn nearest_rows(rows: &Array2<f32>, among: &Array2<f32>) -> (Vec<usize>, Vec<f32>) {
    let (mut nearest, mut similarity) = (Vec::with_capacity(rows.nrows()), Vec::with_capacity(rows.nrows()));
    for_similarities(rows, among, |similarities| {
        let best = largest(&similarities.to_owned());
        nearest.push(best);
        similarity.push(similarities[best]);
    });
    (nearest, similarity)
}

/// The scores of `embeddings` over `bank`.
pub(crate) fn scores(bank: &Array2<f32>, embeddings: &Array2<f32>, score: &ScoreSpec) -> Vec<f32> {
    let mut scores = Vec::with_capacity(embeddings.nrows());
    for_similarities(embeddings, bank, |similarities| {
        scores.push(score.of_neighbours(&top_k(&similarities.to_vec(), score.neighbours())));
    });
    scores
}

/// Calls `f` with the similarities of each of `rows` to all of `to`, in order.
fn for_similarities(rows: &Array2<f32>, to: &Array2<f32>, mut f: impl FnMut(ArrayView1<'_, f32>)) {
    for start in (0..rows.nrows()).step_by(BLOCK) {
        let block: ArrayView2<'_, f32> = rows.slice(s![start..(start + BLOCK).min(rows.nrows()), ..]);
        block.dot(&to.t()).rows().into_iter().for_each(&mut f);
    }
}

/// The position of the largest value, the first of equals; 0 for none.
fn largest(values: &Array1<f32>) -> usize {
    let mut best = (0, f32::NEG_INFINITY);
    for (i, &value) in values.iter().enumerate() {
        if value > best.1 {
            best = (i, value);
        }
    }
    best.0
}

/// Pearson's correlation; -1, the worst, where it is undefined.
fn correlation(a: &[f32], b: &[f32]) -> f64 {
    let mean = |v: &[f32]| v.iter().map(|&x| f64::from(x)).sum::<f64>() / v.len() as f64;
    let (mean_a, mean_b) = (mean(a), mean(b));
    let (mut ab, mut aa, mut bb) = (0.0, 0.0, 0.0);
    for (&x, &y) in a.iter().zip(b) {
        let (x, y) = (f64::from(x) - mean_a, f64::from(y) - mean_b);
        (ab, aa, bb) = (ab + x * y, aa + x * x, bb + y * y);
    }
    let r = ab / (aa * bb).sqrt();
    if r.is_nan() { -1.0 } else { r }
}

#[cfg(test)]
mod tests {
    use super::*;
    use salad_shared::score::ScoreKind;

    const SCORE: ScoreSpec = ScoreSpec { kind: ScoreKind::AngularMean, k: 2, tau: 0.1 };

    /// Unit rows, row i around the seeded direction number `cluster(i)`.
    fn clustered(n: usize, d: usize, cluster: impl Fn(usize) -> usize, spread: f32, seed: u64) -> Array2<f32> {
        let mut directions = ChaCha8Rng::seed_from_u64(99);
        let centres = Array2::from_shape_simple_fn((64, d), || directions.random::<f32>() - 0.5);
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut rows = Array2::from_shape_fn((n, d), |(i, j)| centres[[cluster(i), j]]);
        rows.mapv_inplace(|v| v + spread * (rng.random::<f32>() - 0.5));
        for mut row in rows.rows_mut() {
            let length = row.dot(&row).sqrt();
            row.mapv_inplace(|v| v / length);
        }
        rows
    }

    #[test]
    fn every_cluster_gets_a_prototype_and_a_source() {
        let bank = clustered(600, 16, |i| i % 8, 0.1, 1);
        for condensed in [k_centre(&bank, 8), k_means(&bank, 8, 3)] {
            let mut found: Vec<usize> = condensed.sources.iter().map(|s| s % 8).collect();
            found.sort_unstable();
            assert_eq!(found, (0..8).collect::<Vec<_>>(), "{}", condensed.method);
            for (row, &source) in condensed.rows.rows().into_iter().zip(&condensed.sources) {
                assert!((row.dot(&row) - 1.0).abs() < 1e-5);
                let similarities = bank.dot(&row);
                assert!(similarities.iter().all(|&s| s <= similarities[source] + 1e-6));
            }
        }
    }

    #[test]
    fn the_choice_follows_the_full_bank_better_than_the_first_rows_do() {
        // One crowd and thirty small groups, most of which the first rows miss.
        let cluster = |i: usize| if i.is_multiple_of(4) { 1 + i / 4 % 30 } else { 0 };
        let bank = clustered(1000, 24, cluster, 0.3, 1);
        let near_and_far = [clustered(100, 24, cluster, 0.3, 2), clustered(100, 24, cluster, 1.0, 3)];
        let validation = ndarray::concatenate(Axis(0), &near_and_far.each_ref().map(|v| v.view())).unwrap();
        let full = scores(&bank, &validation, &SCORE);
        let (chosen, told) = condense(&bank, Condense::Count(60), &validation, &SCORE, 7).unwrap();
        let agreement = |rows: &Array2<f32>| correlation(&full, &scores(rows, &validation, &SCORE));
        let first = bank.slice(s![..60, ..]).to_owned();
        assert!(agreement(&chosen.rows) > agreement(&first), "{}", chosen.method);
        assert!(told > 0.85 && told == agreement(&chosen.rows), "{told}");
        for other in [k_centre(&bank, 60), k_means(&bank, 60, 7)] {
            assert!(agreement(&chosen.rows) >= agreement(&other.rows));
        }
        assert_eq!((chosen, told), condense(&bank, Condense::Count(60), &validation, &SCORE, 7).unwrap());
    }

    #[test]
    fn another_encoder_sees_the_same_prototypes() {
        let bank = clustered(200, 16, |i| i % 9, 0.2, 1);
        // Another encoder that turns every embedding alike: each prototype has to turn with it.
        let mut turned = bank.clone();
        turned.invert_axis(Axis(1));
        for condensed in [k_centre(&bank, 12), k_means(&bank, 12, 3)] {
            assert!((condensed.seen_by(&bank, &bank) - &condensed.rows).iter().all(|d| d.abs() < 1e-4));
            let mut expected = condensed.rows.clone();
            expected.invert_axis(Axis(1));
            assert!((condensed.seen_by(&bank, &turned) - &expected).iter().all(|d| d.abs() < 1e-4));
        }
    }

    #[test]
    fn all_and_more_than_all_keep_every_row() {
        let bank = clustered(20, 4, |i| i % 3, 0.2, 1);
        for how in [Condense::All, Condense::Count(20), Condense::Count(21)] {
            let (condensed, told) = condense(&bank, how, &bank, &SCORE, 0).unwrap();
            assert_eq!((condensed.rows, condensed.sources), (bank.clone(), (0..20).collect()));
            assert_eq!((condensed.method.as_str(), told), ("all", 1.0));
        }
    }

    #[test]
    fn copies_of_one_row_are_no_trouble() {
        let bank = Array2::from_shape_fn((30, 3), |(_, j)| if j == 1 { 1.0 } else { 0.0 });
        for condensed in [k_centre(&bank, 4), k_means(&bank, 4, 0)] {
            assert_eq!(condensed.rows, bank.slice(s![..4, ..]), "{}", condensed.method);
        }
        let mut sources = k_centre(&bank, 4).sources;
        sources.dedup();
        assert_eq!(sources.len(), 4);
    }

    #[test]
    fn what_cannot_be_condensed_is_refused() {
        let bank = clustered(20, 4, |i| i % 3, 0.2, 1);
        let refused = |bank: &Array2<f32>, how, validation: &Array2<f32>| {
            condense(bank, how, validation, &SCORE, 0).unwrap_err().to_string()
        };
        assert!(refused(&Array2::zeros((0, 4)), Condense::All, &bank).contains("empty"));
        assert!(refused(&bank, Condense::Count(0), &bank).contains("prototypes = 0"));
        assert!(refused(&bank, Condense::Count(3), &Array2::zeros((5, 3))).contains("[5, 3]"));
        assert!(refused(&bank, Condense::Count(3), &Array2::zeros((0, 4))).contains("[0, 4]"));
    }
}
