//! The prototypes a bundle carries: unit embeddings of normal images, as f32 and as int8 with one scale a row.
//!
//! This is the result of condensing the trainer's memory bank; how it is condensed is the trainer's business.

use ndarray::{Array1, Array2, ArrayView1, Axis};
use std::cmp::Ordering;

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

    /// Whether there are no prototypes; a bank that was read from a bundle has some.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The `k` most similar rows (all, where the bank has fewer), most similar first, ties by row number.
    fn nearest(&self, z: &[f32], k: usize) -> Vec<Neighbour> {
        let mut similarities = Vec::with_capacity(self.len());
        self.similarities(z, &mut similarities);
        top_k(&similarities, k)
    }
}

/// The `k` largest of `similarities`, largest first, ties by position.
pub fn top_k(similarities: &[f32], k: usize) -> Vec<Neighbour> {
    let mut rows: Vec<Neighbour> =
        similarities.iter().enumerate().map(|(index, &similarity)| Neighbour { index, similarity }).collect();
    let order = |a: &Neighbour, b: &Neighbour| match b.similarity.total_cmp(&a.similarity) {
        Ordering::Equal => a.index.cmp(&b.index),
        other => other,
    };
    let k = k.min(rows.len());
    if k > 0 && k < rows.len() {
        rows.select_nth_unstable_by(k - 1, order);
        rows.truncate(k);
    }
    rows.sort_unstable_by(order);
    rows.truncate(k);
    rows
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

    /// The int8 form: the rows less their mean, row i as round((row - mean) / scale_i) with scale_i = max |row - mean| / 127.
    /// Embeddings of normal images lie close together, and what tells them apart is what is worth the eight bits.
    pub fn quantize(&self) -> Int8Bank {
        let mean = self.rows.mean_axis(Axis(0)).unwrap_or_else(|| Array1::zeros(self.rows.ncols()));
        let deviations = &self.rows - &mean;
        let scales: Vec<f32> = deviations
            .rows()
            .into_iter()
            .map(|row| row.iter().fold(0.0_f32, |m, v| m.max(v.abs())).max(f32::MIN_POSITIVE) / 127.0)
            .collect();
        let mut rows = Array2::zeros(self.rows.raw_dim());
        for ((i, j), q) in rows.indexed_iter_mut() {
            *q = (deviations[[i, j]] / scales[i]).round().clamp(-127.0, 127.0) as i8;
        }
        Int8Bank::new(rows, scales, mean.to_vec())
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
        out.clear();
        out.extend(self.rows.dot(&ArrayView1::from(z)));
    }
}

/// Prototypes in int8, \[P, d\], as deviations from their mean with one scale a row. The length of the row that the
/// integers stand for divides the similarity, so that rounding does not bias it.
#[derive(Debug, Clone, PartialEq)]
pub struct Int8Bank {
    rows: Array2<i8>,
    scales: Vec<f32>,
    mean: Vec<f32>,
    inverse_norms: Vec<f32>,
}

impl Int8Bank {
    /// `rows` \[P, d\], `scales` \[P\] and `mean` \[d\], so that row i stands for `mean + rows[i] * scales[i]`.
    pub fn new(rows: Array2<i8>, scales: Vec<f32>, mean: Vec<f32>) -> Int8Bank {
        let rows = row_by_row(rows);
        let norm = |(row, &scale): (ArrayView1<i8>, &f32)| {
            let value = |(&q, &m): (&i8, &f32)| f64::from(m) + f64::from(scale) * f64::from(q);
            row.iter().zip(&mean).map(value).map(|v| v * v).sum::<f64>().sqrt()
        };
        let inverse_norms =
            rows.rows().into_iter().zip(&scales).map(|row| (1.0 / norm(row).max(1e-12)) as f32).collect();
        Int8Bank { rows, scales, mean, inverse_norms }
    }

    /// The quantized rows, \[P, d\].
    pub fn rows(&self) -> &Array2<i8> {
        &self.rows
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
        // The query is quantized with one scale; 16 bits keep its rounding far below the prototypes'.
        let largest = z.iter().fold(0.0_f32, |m, v| m.max(v.abs())).max(f32::MIN_POSITIVE);
        let scale = largest / 32767.0;
        let query: Vec<i32> = z.iter().map(|v| (v / scale).round() as i32).collect();
        out.clear();
        let to_mean: f32 = z.iter().zip(&self.mean).map(|(a, b)| a * b).sum();
        let parts = self.rows.rows().into_iter().zip(self.scales.iter().zip(&self.inverse_norms));
        out.extend(parts.map(|(row, (row_scale, inverse_norm))| {
            let dot: i64 =
                row.as_slice().unwrap_or_default().chunks(SAFE_TERMS).zip(query.chunks(SAFE_TERMS)).map(dot).sum();
            (to_mean + dot as f32 * scale * row_scale) * inverse_norm
        }));
    }
}

/// Terms of at most 127 x 32767 whose sum 32 bits hold.
const SAFE_TERMS: usize = 512;

fn dot((row, query): (&[i8], &[i32])) -> i64 {
    i64::from(row.iter().zip(query).map(|(&a, &b)| i32::from(a) * b).sum::<i32>())
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
                assert!((x - y).abs() < 5e-3, "{x} against {y}");
            }
            assert_eq!(float.nearest(&row.to_vec(), 1)[0].index, int8.nearest(&row.to_vec(), 1)[0].index);
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
        let bank = Int8Bank::new(array![[0, 0], [100, 0]], vec![0.01, 0.01], vec![0.0, 0.0]);
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
