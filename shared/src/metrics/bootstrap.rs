//! How sure one can be of an AUROC from so many images.

use super::{MetricError, Steps, auroc_of_counts};
use crate::draws::{Draws, quantile};

/// Stratified percentile bootstrap of the AUROC: each class is resampled with replacement at its own size `resamples`
/// times, and the interval `[low, high]` holds the middle `level` of the AUROCs. The same seed gives the same interval.
///
/// It covers the choice of test images, not of training run; and where the classes do not overlap at all it is [1, 1],
/// which says "no overlap among these images" and no more.
///
/// Errors: an empty class, a score that is not finite, `level` not in 0..1, fewer than 100 resamples.
pub fn bootstrap_auroc_interval(
    normal: &[f32],
    anomalous: &[f32],
    level: f64,
    resamples: usize,
    seed: u64,
) -> Result<[f64; 2], MetricError> {
    if !(level > 0.0 && level < 1.0) {
        return Err(MetricError::Parameter { name: "level", value: level, range: "between 0 and 1" });
    }
    if resamples < 100 {
        return Err(MetricError::Parameter { name: "resamples", value: resamples as f64, range: "at least 100" });
    }
    // Only the place of a score among the distinct scores matters, so that sorting is done once, and a resample is a
    // draw of places and one pass over their counts.
    let steps = Steps::new(normal, anomalous)?.steps;
    let places = |count: fn(&super::Step) -> usize| -> Vec<usize> {
        steps.iter().enumerate().flat_map(|(place, step)| std::iter::repeat_n(place, count(step))).collect()
    };
    let normal_places = places(|s| s.normal);
    let anomalous_places = places(|s| s.anomalous);
    let mut draws = Draws::new(seed);
    let mut counts = vec![(0_usize, 0_usize); steps.len()];
    let mut values = Vec::with_capacity(resamples);
    for _ in 0..resamples {
        counts.fill((0, 0));
        for _ in 0..normal_places.len() {
            counts[normal_places[draws.index(normal_places.len())]].0 += 1;
        }
        for _ in 0..anomalous_places.len() {
            counts[anomalous_places[draws.index(anomalous_places.len())]].1 += 1;
        }
        values.push(auroc_of_counts(counts.iter().copied()));
    }
    values.sort_unstable_by(f64::total_cmp);
    let outside = (1.0 - level) / 2.0;
    Ok([quantile(&values, outside), quantile(&values, 1.0 - outside)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::auroc;

    #[test]
    fn the_interval_holds_the_estimate_repeats_and_narrows_with_more_images() {
        let scores =
            |n: usize, shift: f32| -> Vec<f32> { (0..n).map(|i| (i * 37 % n) as f32 / n as f32 + shift).collect() };
        let width = |n: usize| {
            let (normal, anomalous) = (scores(n, 0.0), scores(n, 0.3));
            let interval = bootstrap_auroc_interval(&normal, &anomalous, 0.95, 2000, 1).unwrap();
            assert_eq!(interval, bootstrap_auroc_interval(&normal, &anomalous, 0.95, 2000, 1).unwrap());
            assert_ne!(interval, bootstrap_auroc_interval(&normal, &anomalous, 0.95, 2000, 2).unwrap());
            let value = auroc(&normal, &anomalous).unwrap();
            assert!(interval[0] < value && value < interval[1], "{value} in {interval:?}");
            interval[1] - interval[0]
        };
        // The standard error goes with the square root of the number of images.
        let ratio = width(25) / width(400);
        assert!((3.0..5.3).contains(&ratio), "{ratio}");
    }

    #[test]
    fn separated_classes_and_bad_parameters() {
        assert_eq!(bootstrap_auroc_interval(&[0.0, 0.1], &[0.5], 0.95, 200, 1).unwrap(), [1.0, 1.0]);
        assert!(bootstrap_auroc_interval(&[0.0], &[0.5], 1.0, 200, 1).is_err());
        assert!(bootstrap_auroc_interval(&[0.0], &[0.5], f64::NAN, 200, 1).is_err());
        assert!(bootstrap_auroc_interval(&[0.0], &[0.5], 0.95, 0, 1).is_err());
        assert!(bootstrap_auroc_interval(&[], &[0.5], 0.95, 200, 1).is_err());
    }
}
