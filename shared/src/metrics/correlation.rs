//! How closely two lists of scores agree.

use super::MetricError;

/// Pearson's correlation, -1..=1; `None` where it is undefined: fewer than two pairs, or a list that does not vary.
pub fn pearson(first: &[f32], second: &[f32]) -> Result<Option<f64>, MetricError> {
    check_pairs(first, second)?;
    Ok(correlation(&widened(first), &widened(second)))
}

/// Spearman's rank correlation, -1..=1, equal values sharing their average rank; `None` as for [`pearson`].
pub fn spearman(first: &[f32], second: &[f32]) -> Result<Option<f64>, MetricError> {
    check_pairs(first, second)?;
    Ok(correlation(&average_ranks(first), &average_ranks(second)))
}

fn correlation(a: &[f64], b: &[f64]) -> Option<f64> {
    let n = a.len().min(b.len());
    if n < 2 || is_constant(a) || is_constant(b) {
        return None;
    }
    let mean = |v: &[f64]| v.iter().sum::<f64>() / n as f64;
    let (mean_a, mean_b) = (mean(a), mean(b));
    let (mut ab, mut aa, mut bb) = (0.0, 0.0, 0.0);
    for (x, y) in a.iter().zip(b) {
        let (x, y) = (x - mean_a, y - mean_b);
        ab += x * y;
        aa += x * x;
        bb += y * y;
    }
    let scale = (aa * bb).sqrt();
    (scale > 0.0).then(|| (ab / scale).clamp(-1.0, 1.0))
}

/// Ranks from 1, equal values sharing the mean of theirs.
fn average_ranks(values: &[f32]) -> Vec<f64> {
    let mut order: Vec<(f32, usize)> = values.iter().copied().zip(0..).collect();
    order.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    let mut ranks = vec![0.0; values.len()];
    let mut before = 0;
    // Not by total_cmp: 0 and -0 are equal.
    for run in order.chunk_by(|a, b| a.0 == b.0) {
        let rank = before as f64 + (run.len() + 1) as f64 / 2.0;
        for &(_, index) in run {
            if let Some(slot) = ranks.get_mut(index) {
                *slot = rank;
            }
        }
        before += run.len();
    }
    ranks
}

// Not by the variance: the rounding of a constant's mean leaves it a hair above zero.
fn is_constant(values: &[f64]) -> bool {
    values.windows(2).all(|pair| pair.first() == pair.last())
}

fn widened(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&v| f64::from(v)).collect()
}

fn check_pairs(first: &[f32], second: &[f32]) -> Result<(), MetricError> {
    if first.len() != second.len() {
        return Err(MetricError::Lengths { first: first.len(), second: second.len() });
    }
    for (list, values) in [("first", first), ("second", second)] {
        if let Some((index, &value)) = values.iter().enumerate().find(|(_, v)| !v.is_finite()) {
            return Err(MetricError::NotFiniteValue { list, index, value });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_monotone_curves() {
        let x = [1.0, 2.0, 3.0, 4.0];
        assert_eq!(pearson(&x, &[3.0, 5.0, 7.0, 9.0]).unwrap(), Some(1.0));
        assert_eq!(pearson(&x, &[4.0, 3.0, 2.0, 1.0]).unwrap(), Some(-1.0));
        assert_eq!(spearman(&x, &[1.0, 10.0, 100.0, 1000.0]).unwrap(), Some(1.0));
        // Deviations (-1.5, -0.5, 0.5, 1.5) and (-1, 1, -1, 1): 2 / sqrt(5 * 4).
        assert!((pearson(&x, &[0.0, 2.0, 0.0, 2.0]).unwrap().unwrap() - 2.0 / 20.0_f64.sqrt()).abs() < 1e-15);
    }

    #[test]
    fn equal_values_share_their_average_rank() {
        assert_eq!(average_ranks(&[10.0, 20.0, 10.0, 5.0]), [2.5, 4.0, 2.5, 1.0]);
        assert_eq!(average_ranks(&[0.0, -0.0]), [1.5, 1.5]);
    }

    #[test]
    fn undefined_correlations_are_none_and_bad_lists_are_refused() {
        assert_eq!(pearson(&[], &[]).unwrap(), None);
        assert_eq!(pearson(&[1.0], &[1.0]).unwrap(), None);
        assert_eq!(pearson(&[0.1; 10], &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0]).unwrap(), None);
        assert_eq!(spearman(&[1.0, 2.0], &[3.0, 3.0]).unwrap(), None);
        assert_eq!(pearson(&[1.0], &[]), Err(MetricError::Lengths { first: 1, second: 0 }));
        assert!(spearman(&[1.0, f32::NAN], &[1.0, 2.0]).is_err());
    }
}
