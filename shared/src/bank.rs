//! The prototypes a bundle carries: unit embeddings of normal images, as f32 and as int8 with one scale a row.
//!
//! This is the result of condensing the trainer's memory bank; how it is condensed is the trainer's business.

use crate::dot;
use ndarray::linalg::general_mat_vec_mul;
use ndarray::{Array1, Array2, ArrayView1, ArrayViewMut1, Axis};
use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// A prototype and how similar it is to the query.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Neighbour {
    /// Row of the bank, from 0.
    pub index: usize,
    /// Cosine similarity, -1..=1.
    pub similarity: f32,
}

/// Prototypes that can be searched.
pub trait Bank: Send + Sync {
    /// Number of prototypes P.
    fn len(&self) -> usize;

    /// Length d of an embedding.
    fn dim(&self) -> usize;

    /// Cosine similarity of every row to `z`, a unit vector of length [`dim`](Bank::dim), into `out` (\[P\]).
    fn similarities(&self, z: &[f32], out: &mut Vec<f32>);

    /// Finds for each of `queries`, \[n, d\] unit vectors row by row, the `k` most similar rows (all, where the bank has fewer),
    /// most similar first, ties by row number: into `search`.
    fn search(&self, queries: &[f32], k: usize, search: &mut Search);

    /// Whether there are no prototypes; a bank that was read from a bundle has some.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What [`search`](Bank::search) finds for one query.
    fn nearest(&self, z: &[f32], k: usize) -> Vec<Neighbour> {
        let mut search = Search::default();
        self.search(z, k, &mut search);
        search.found(0).to_vec()
    }
}

/// What a search found, and what it worked in: kept from one to the next, it takes no memory anew.
#[derive(Debug, Default)]
pub struct Search {
    /// One for each query of the largest search so far.
    best: Vec<Best>,
    similarities: Vec<f32>,
    queries: Vec<i16>,
    scales: Vec<QueryScale>,
    dots: Vec<i32>,
}

impl Search {
    /// The neighbours of a query, by its number, most similar first.
    pub fn found(&self, query: usize) -> &[Neighbour] {
        self.best.get(query).map_or(&[], |best| &best.found)
    }

    /// Makes ready for so many queries of so many neighbours.
    fn start(&mut self, queries: usize, k: usize) {
        if self.best.len() < queries {
            self.best.resize_with(queries, Best::default);
        }
        for best in &mut self.best[..queries] {
            best.k = k;
            best.heap.clear();
            best.worst = if k == 0 { f32::INFINITY } else { f32::NEG_INFINITY };
        }
    }

    /// Puts in order what the first queries have found.
    fn finish(&mut self, queries: usize) {
        self.best[..queries].iter_mut().for_each(Best::finish);
    }
}

/// The best few of what was seen.
#[derive(Debug, Default)]
struct Best {
    k: usize,
    heap: BinaryHeap<Ranked>,
    /// What has to be exceeded, once there are enough.
    worst: f32,
    found: Vec<Neighbour>,
}

impl Best {
    /// Takes in the similarities of rows from `first` on. Of equals the first seen stays.
    fn take(&mut self, first: usize, similarities: &[f32]) {
        for (i, &similarity) in similarities.iter().enumerate() {
            // Not a number is no less than anything, as in the order of the heap.
            if similarity <= self.worst && self.heap.len() == self.k {
                continue;
            }
            if self.heap.len() == self.k && self.heap.pop().is_none() {
                continue;
            }
            self.heap.push(Ranked(Neighbour { index: first + i, similarity }));
            if self.heap.len() == self.k {
                self.worst = self.heap.peek().map_or(f32::INFINITY, |ranked| ranked.0.similarity);
            }
        }
    }

    fn finish(&mut self) {
        let sorted = std::mem::take(&mut self.heap).into_sorted_vec();
        self.found.clear();
        self.found.extend(sorted.iter().map(|ranked| ranked.0));
        // Its memory is used again.
        self.heap = BinaryHeap::from(sorted);
        self.heap.clear();
    }
}

/// The most similar first, and of equals the one with the lower row number.
fn order(a: &Neighbour, b: &Neighbour) -> Ordering {
    b.similarity.total_cmp(&a.similarity).then(a.index.cmp(&b.index))
}

/// The greatest is what comes last in [`order`].
#[derive(Debug, PartialEq)]
struct Ranked(Neighbour);

impl Eq for Ranked {}

impl Ord for Ranked {
    fn cmp(&self, other: &Ranked) -> Ordering {
        order(&self.0, &other.0)
    }
}

impl PartialOrd for Ranked {
    fn partial_cmp(&self, other: &Ranked) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The `k` largest of `similarities`, largest first, ties by position.
pub fn top_k(similarities: &[f32], k: usize) -> Vec<Neighbour> {
    let mut search = Search::default();
    search.start(1, k);
    search.best[0].take(0, similarities);
    search.finish(1);
    search.found(0).to_vec()
}

/// Prototypes in f32, \[P, d\], unit rows.
#[derive(Debug, Clone, PartialEq)]
pub struct FloatBank {
    rows: Array2<f32>,
}

impl FloatBank {
    /// Rows are taken as they are; the caller has made them unit vectors.
    pub fn new(rows: Array2<f32>) -> FloatBank {
        FloatBank { rows: row_by_row(rows) }
    }

    /// The prototypes, \[P, d\].
    pub fn rows(&self) -> &Array2<f32> {
        &self.rows
    }

    /// The int8 form: the rows less their mean, row i as round((row - mean) / scale_i) with scale_i = max |row - mean| / 127,
    /// and what rounding left, in steps of scale_i / 254. Embeddings of normal images lie close together, and what tells them
    /// apart is what is worth the eight bits.
    pub fn quantize(&self) -> Int8Bank {
        let mean = self.rows.mean_axis(Axis(0)).unwrap_or_else(|| Array1::zeros(self.rows.ncols()));
        let deviations = &self.rows - &mean;
        let scales: Vec<f32> = deviations
            .rows()
            .into_iter()
            .map(|row| row.iter().fold(0.0_f32, |m, v| m.max(v.abs())).max(f32::MIN_POSITIVE) / 127.0)
            .collect();
        let (mut rows, mut rest) = (Array2::zeros(self.rows.raw_dim()), Array2::zeros(self.rows.raw_dim()));
        for ((i, j), deviation) in deviations.indexed_iter() {
            let steps = deviation / scales[i];
            let whole = steps.round().clamp(-127.0, 127.0);
            rows[[i, j]] = whole as i8;
            rest[[i, j]] = ((steps - whole) * REST_STEPS).round().clamp(-127.0, 127.0) as i8;
        }
        Int8Bank::new(rows, rest, scales, mean.to_vec())
    }
}

impl Bank for FloatBank {
    fn len(&self) -> usize {
        self.rows.nrows()
    }

    fn dim(&self) -> usize {
        self.rows.ncols()
    }

    fn similarities(&self, z: &[f32], out: &mut Vec<f32>) {
        out.resize(self.len(), 0.0);
        general_mat_vec_mul(1.0, &self.rows, &ArrayView1::from(z), 0.0, &mut ArrayViewMut1::from(out.as_mut_slice()));
    }

    fn search(&self, queries: &[f32], k: usize, search: &mut Search) {
        let count = queries.len() / self.dim().max(1);
        search.start(count, k);
        for (query, z) in queries.chunks_exact(self.dim().max(1)).enumerate() {
            self.similarities(z, &mut search.similarities);
            search.best[query].take(0, &search.similarities);
        }
        search.finish(count);
    }
}

/// Steps of a row's rest in one of the row.
const REST_STEPS: f32 = 254.0;

/// Candidates that a search takes from the scan beyond those that are asked for, before it looks at their rests.
const MARGIN: usize = 16;

/// Prototypes in int8, \[P, d\], as deviations from their mean with one scale a row. The length of the row that the
/// integers stand for divides the similarity, so that rounding does not bias it.
///
/// A search scans the rows, and orders the best of them with their rests, another eight bits that only those are read for: it
/// finds what f32 finds, and reads a quarter of the bytes.
#[derive(Debug, Clone, PartialEq)]
pub struct Int8Bank {
    rows: Array2<i8>,
    rest: Array2<i8>,
    scales: Vec<f32>,
    mean: Vec<f32>,
    inverse_norms: Vec<f32>,
}

impl Int8Bank {
    /// `rows` and `rest` \[P, d\], `scales` \[P\] and `mean` \[d\], so that row i stands for
    /// `mean + (rows[i] + rest[i] / 254) * scales[i]`.
    pub fn new(rows: Array2<i8>, rest: Array2<i8>, scales: Vec<f32>, mean: Vec<f32>) -> Int8Bank {
        let (rows, rest) = (row_by_row(rows), row_by_row(rest));
        let norm = |((row, rest), &scale): ((ArrayView1<i8>, ArrayView1<i8>), &f32)| {
            let steps = row.iter().zip(rest).map(|(&q, &r)| f64::from(q) + f64::from(r) / f64::from(REST_STEPS));
            let values = steps.zip(&mean).map(|(steps, &m)| f64::from(m) + f64::from(scale) * steps);
            values.map(|v| v * v).sum::<f64>().sqrt()
        };
        let parts = rows.rows().into_iter().zip(rest.rows()).zip(&scales);
        let inverse_norms = parts.map(|row| (1.0 / norm(row).max(1e-12)) as f32).collect();
        Int8Bank { rows, rest, scales, mean, inverse_norms }
    }

    /// The quantized rows, \[P, d\].
    pub fn rows(&self) -> &Array2<i8> {
        &self.rows
    }

    /// What rounding left of the rows, \[P, d\].
    pub fn rest(&self) -> &Array2<i8> {
        &self.rest
    }

    /// One scale a row, \[P\].
    pub fn scales(&self) -> &[f32] {
        &self.scales
    }

    /// The mean that the rows are deviations from, \[d\].
    pub fn mean(&self) -> &[f32] {
        &self.mean
    }
}

impl Bank for Int8Bank {
    fn len(&self) -> usize {
        self.rows.nrows()
    }

    fn dim(&self) -> usize {
        self.rows.ncols()
    }

    fn similarities(&self, z: &[f32], out: &mut Vec<f32>) {
        let mut search = Search::default();
        self.quantize_queries(z, &mut search);
        out.clear();
        if let Some(&scale) = search.scales.first() {
            out.extend((0..self.len()).map(|row| self.similarity(row, &search.queries, scale)));
        }
    }

    fn search(&self, queries: &[f32], k: usize, search: &mut Search) {
        let dim = self.dim().max(1);
        let count = queries.len() / dim;
        search.start(count, k.saturating_add(MARGIN).min(self.len()));
        self.quantize_queries(queries, search);
        // All queries are held against a part of the bank before the next is read.
        let part = (PART_BYTES / dim).max(1);
        search.dots.resize(part, 0);
        search.similarities.resize(part, 0.0);
        for (number, rows) in self.rows.as_slice().unwrap_or_default().chunks(part * dim).enumerate() {
            let (first, many) = (number * part, rows.len() / dim);
            for query in 0..count {
                let (dots, similarities) = (&mut search.dots[..many], &mut search.similarities[..many]);
                dot::rows(rows, &search.queries[query * dim..][..dim], dots);
                self.scale_dots(first, search.scales[query], dots, similarities);
                search.best[query].take(first, similarities);
            }
        }
        search.finish(count);
        for query in 0..count {
            let (z, scale) = (&search.queries[query * dim..][..dim], search.scales[query]);
            let found = &mut search.best[query].found;
            for neighbour in found.iter_mut() {
                neighbour.similarity = self.similarity(neighbour.index, z, scale);
            }
            found.sort_unstable_by(order);
            found.truncate(k);
        }
    }
}

/// Rows that are held against all queries at once: they and a query fit the smallest caches there are.
const PART_BYTES: usize = 16 << 10;

/// What a quantized query's integers are worth.
#[derive(Debug, Clone, Copy, Default)]
struct QueryScale {
    /// One step.
    step: f32,
    /// The query's product with the bank's mean.
    to_mean: f32,
}

impl Int8Bank {
    /// Each query gets a scale of its own, and as many of 16 bits as sums of 32 bits allow: its rounding stays far below the
    /// prototypes'.
    fn quantize_queries(&self, queries: &[f32], search: &mut Search) {
        let most = (i32::MAX as usize / (128 * self.dim().max(1))).min(32_767) as f32;
        search.queries.clear();
        search.scales.clear();
        for z in queries.chunks_exact(self.dim().max(1)) {
            let step = z.iter().fold(0.0_f32, |m, v| m.max(v.abs())).max(f32::MIN_POSITIVE) / most;
            // Cut off and not rounded up past the most where the division is a hair too high.
            search.queries.extend(z.iter().map(|v| (v / step).round().clamp(-most, most) as i16));
            let to_mean = z.iter().zip(&self.mean).map(|(a, b)| a * b).sum();
            search.scales.push(QueryScale { step, to_mean });
        }
    }

    /// The similarity of one row, its rest included.
    fn similarity(&self, row: usize, query: &[i16], scale: QueryScale) -> f32 {
        let dot = |rows: &Array2<i8>| {
            let mut dot = [0];
            if let Some(row) = rows.row(row).as_slice() {
                dot::rows(row, query, &mut dot);
            }
            dot[0] as f32
        };
        let steps = dot(&self.rows) + dot(&self.rest) / REST_STEPS;
        (scale.to_mean + steps * scale.step * self.scales[row]) * self.inverse_norms[row]
    }

    /// Similarities of the rows from `first` on, without their rests.
    fn scale_dots(&self, first: usize, query: QueryScale, dots: &[i32], out: &mut [f32]) {
        let scales = self.scales[first..].iter().zip(&self.inverse_norms[first..]);
        for ((out, &dot), (row_scale, inverse_norm)) in out.iter_mut().zip(dots).zip(scales) {
            *out = (query.to_mean + dot as f32 * query.step * row_scale) * inverse_norm;
        }
    }
}

/// The same values with each row in one piece of memory; most arrays are so already and are not copied.
fn row_by_row<T: Clone>(rows: Array2<T>) -> Array2<T> {
    if rows.is_standard_layout() { rows } else { rows.as_standard_layout().into_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn top_k_orders_by_similarity_then_row() {
        let found = top_k(&[0.1, 0.9, 0.5, 0.9, -1.0], 3);
        assert_eq!(found.iter().map(|n| n.index).collect::<Vec<_>>(), [1, 3, 2]);
        assert_eq!(top_k(&[0.1, 0.2], 9).len(), 2);
        assert!(top_k(&[0.1], 0).is_empty());
    }

    #[test]
    fn int8_similarities_follow_f32() {
        let rows = Array2::from_shape_fn((20, 32), |(i, j)| ((i * 37 + j * 11) % 23) as f32 - 11.0);
        let rows = unit_rows(rows);
        let float = FloatBank::new(rows.clone());
        let int8 = float.quantize();
        let (mut a, mut b) = (Vec::new(), Vec::new());
        for row in rows.rows() {
            float.similarities(&row.to_vec(), &mut a);
            int8.similarities(&row.to_vec(), &mut b);
            for (x, y) in a.iter().zip(&b) {
                assert!((x - y).abs() < 5e-5, "{x} against {y}");
            }
            assert_eq!(float.nearest(&row.to_vec(), 1)[0].index, int8.nearest(&row.to_vec(), 1)[0].index);
        }
    }

    #[test]
    fn a_search_in_int8_finds_what_f32_finds() {
        let mut random = fastrand::Rng::with_seed(1);
        let mut unit = |count| unit_rows(Array2::from_shape_fn((count, 64), |_| random.f32() - random.f32()));
        let (float, queries) = (FloatBank::new(unit(3000)), unit(300));
        let int8 = float.quantize();
        for query in queries.rows() {
            let z = query.to_vec();
            let (a, b) = (float.nearest(&z, 5), int8.nearest(&z, 5));
            assert_eq!(a[0].index, b[0].index);
            assert!(a.iter().zip(&b).all(|(a, b)| (a.similarity - b.similarity).abs() < 1e-3));
        }
    }

    #[test]
    fn a_tight_crowd_keeps_its_order() {
        // Unit rows a few thousandths apart, as images of one scene have them: eight bits of the rows themselves would
        // drown that in rounding.
        let rows =
            Array2::from_shape_fn((30, 32), |(i, j)| 1.0 + 0.004 * (((i * 31 + j * 17) % 29) as f32 / 14.0 - 1.0));
        let float = FloatBank::new(unit_rows(rows));
        let int8 = float.quantize();
        let (mut a, mut b) = (Vec::new(), Vec::new());
        for row in float.rows().rows() {
            float.similarities(&row.to_vec(), &mut a);
            int8.similarities(&row.to_vec(), &mut b);
            assert!(a.iter().zip(&b).all(|(x, y)| (x - y).abs() < 1e-6), "{a:?} {b:?}");
        }
    }

    #[test]
    fn a_zero_row_does_not_divide_by_zero() {
        let bank = Int8Bank::new(array![[0, 0], [100, 0]], array![[0, 0], [0, 0]], vec![0.01, 0.01], vec![0.0, 0.0]);
        let mut out = Vec::new();
        bank.similarities(&[1.0, 0.0], &mut out);
        assert_eq!(out, [0.0, 1.0]);
    }

    fn unit_rows(mut rows: Array2<f32>) -> Array2<f32> {
        for mut row in rows.rows_mut() {
            let norm = row.iter().map(|v| v * v).sum::<f32>().sqrt();
            row.mapv_inplace(|v| v / norm);
        }
        rows
    }
}
