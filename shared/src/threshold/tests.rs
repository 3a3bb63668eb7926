//! Calibration on samples of known distributions, and on the samples that break estimators.

use super::*;
use crate::draws::Draws;
use std::f64::consts::TAU;

/// A budget that allows the share `rate` of frames.
fn budget(rate: f64) -> FalseAlarmBudget {
    FalseAlarmBudget { alarms: 1.0, period_secs: 1.0 / rate, fps: 1.0 }
}

fn exponential(d: &mut Draws) -> f32 {
    -d.unit().ln() as f32
}

fn normal(d: &mut Draws) -> f32 {
    ((-2.0 * d.unit().ln()).sqrt() * (TAU * d.unit()).cos()) as f32
}

fn uniform(d: &mut Draws) -> f32 {
    d.unit() as f32
}

fn sample(draw: fn(&mut Draws) -> f32, n: usize, seed: u64) -> Vec<f32> {
    let mut draws = Draws::new(seed);
    (0..n).map(|_| draw(&mut draws)).collect()
}

/// What the tail, or the quantile, itself says of scores in any order.
fn estimate(scores: &[f32], rate: f64) -> f64 {
    let mut descending: Vec<f64> = scores.iter().map(|&s| f64::from(s)).collect();
    descending.sort_unstable_by(|a, b| b.total_cmp(a));
    Finder::new(descending.len(), rate).find(&descending).0
}

/// The share of `fresh` over the estimates from 21 samples of `n` scores, over the target: smallest, median, largest.
fn achieved(draw: fn(&mut Draws) -> f32, fresh: &[f32], n: usize, rate: f64) -> [f64; 3] {
    let mut ratios: Vec<f64> = (0..21)
        .map(|seed| {
            let estimate = estimate(&sample(draw, n, seed), rate);
            let over = fresh.iter().filter(|&&s| f64::from(s) > estimate).count();
            over as f64 / fresh.len() as f64 / rate
        })
        .collect();
    ratios.sort_unstable_by(f64::total_cmp);
    [ratios[0], ratios[10], ratios[20]]
}

#[test]
fn the_fitted_tail_reaches_the_rate_on_fresh_frames() {
    for draw in [exponential, normal] {
        let fresh = sample(draw, 1_000_000, 1000);
        // Within the sample's reach: n p = 2, each sample within a factor of 6.
        let [low, middle, high] = achieved(draw, &fresh, 2000, 1e-3);
        assert!((0.7..1.5).contains(&middle) && low > 1.0 / 6.0 && high < 6.0, "{low} {middle} {high}");
        // A decade beyond it: n p = 0.1, the median within 3, none more than 15 times too often.
        let [_, middle, high] = achieved(draw, &fresh, 1000, 1e-4);
        assert!((1.0 / 3.0..3.0).contains(&middle) && high < 15.0, "{middle} {high}");
    }
}

#[test]
fn a_threshold_beyond_the_scores_keeps_the_budget_in_most_samples() {
    // -ln(rate) is what an exponential score exceeds at that rate.
    for (n, rate) in [(20, 1e-3_f64), (60, 1e-3), (300, 1e-4)] {
        let keeps = |value: f64| usize::from(value >= -rate.ln());
        let (mut kept, mut kept_by_estimate) = (0, 0);
        for seed in 0..200 {
            let scores = sample(exponential, n, seed);
            let threshold = calibrate(&scores, &budget(rate), seed).unwrap();
            assert_eq!(threshold.value, threshold.interval_90[1]);
            kept += keeps(threshold.value.into());
            kept_by_estimate += keeps(estimate(&scores, rate));
        }
        assert!(kept >= 120 && kept >= kept_by_estimate + 40, "{kept} and {kept_by_estimate} of 200 with {n} scores");
    }
}

#[test]
fn a_bounded_tail_errs_on_the_quiet_side() {
    let fresh = sample(uniform, 1_000_000, 1000);
    for rate in [1e-3, 1e-4, 1e-6] {
        let [_, _, high] = achieved(uniform, &fresh, 1000, rate);
        assert!(high <= 1.0, "{high} at {rate}");
    }
    let threshold = calibrate(&sample(uniform, 1000, 1), &budget(1e-6), 1).unwrap();
    assert!(threshold.value < 1.3, "{}", threshold.value);
}

#[test]
fn many_scores_take_the_empirical_quantile() {
    let scores = sample(normal, 20_000, 5);
    let threshold = calibrate(&scores, &budget(1e-2), 1).unwrap();
    assert_eq!(threshold.method, ThresholdMethod::EmpiricalQuantile);
    assert_eq!(scores.iter().filter(|&&s| s > threshold.value).count(), 200);
    // The 99 % quantile of a normal distribution is 2.326; its standard error here is 0.026.
    assert!((threshold.value - 2.326).abs() < 0.1, "{}", threshold.value);
    let [low, high] = threshold.interval_90;
    assert!((0.04..0.16).contains(&(high - low)), "{low} {high}");
    assert!(threshold.note.contains("200 of 20000"));
}

#[test]
fn the_interval_holds_the_truth_about_as_often_as_it_says() {
    // -ln(1e-4) is exceeded at rate 1e-4. Percentile bootstraps of few scores fall short of their level.
    let held = (0..100)
        .filter(|&seed| {
            let [low, high] = calibrate(&sample(exponential, 300, seed), &budget(1e-4), seed).unwrap().interval_90;
            (low..=high).contains(&9.21)
        })
        .count();
    assert!((65..=100).contains(&held), "{held} of 100");
}

#[test]
fn the_same_input_gives_the_same_threshold_in_any_order() {
    let mut scores = sample(normal, 100, 3);
    let first = calibrate(&scores, &budget(1e-5), 9).unwrap();
    scores.reverse();
    assert_eq!(first, calibrate(&scores, &budget(1e-5), 9).unwrap());
    let other = calibrate(&scores, &budget(1e-5), 10).unwrap();
    assert_ne!(first.interval_90, other.interval_90);
    let within = |seed| calibrate(&scores, &budget(3e-2), seed).unwrap();
    assert_eq!(within(9).value, within(10).value);
    assert_ne!(within(9).interval_90, within(10).interval_90);
}

#[test]
fn a_smaller_budget_never_lowers_the_threshold_and_it_never_falls_below_the_scores() {
    for seed in 0..20 {
        let scores = sample(normal, 60, seed);
        let largest = scores.iter().copied().fold(f32::MIN, f32::max);
        let mut before = f32::MIN;
        for rate in [0.3, 0.1, 0.03, 1e-2, 1e-3, 1e-5, 3e-7, 1e-12] {
            let t = calibrate(&scores, &budget(rate), seed).unwrap();
            let over = scores.iter().filter(|&&s| s > t.value).count();
            assert!(over as f64 <= 60.0 * rate, "{over} at {rate}");
            assert!(rate * 60.0 >= 1.0 || t.value >= largest);
            // The step from quantile to tail may be a small one down.
            assert!(t.value > before - 0.25, "{} after {before} at {rate}", t.value);
            assert!(t.interval_90[0] <= t.value && t.value <= t.interval_90[1]);
            before = t.value;
        }
    }
}

#[test]
fn the_note_says_how_far_the_tail_was_extended() {
    let threshold = calibrate(&sample(normal, 100, 1), &FalseAlarmBudget::parse("1/week", 5.0).unwrap(), 1).unwrap();
    assert_eq!(threshold.method, ThresholdMethod::PeaksOverThreshold);
    assert_eq!(threshold.samples, 100);
    for part in ["20 highest of 100", "4.5 decades", "educated guess", "upper end", "30240000 scores"] {
        assert!(threshold.note.contains(part), "{part}: {}", threshold.note);
    }
    let heavy: Vec<f32> = sample(exponential, 2000, 1).iter().map(|e| e.exp()).collect();
    let threshold = calibrate(&heavy, &budget(1e-5), 1).unwrap();
    assert!(threshold.note.contains("to 0.25"), "{}", threshold.note);
}

#[test]
fn equal_scores_give_themselves() {
    for rate in [0.5, 1e-6] {
        let threshold = calibrate(&[0.25; 12], &budget(rate), 1).unwrap();
        assert_eq!((threshold.value, threshold.interval_90), (0.25, [0.25, 0.25]));
        assert_eq!(threshold.method, ThresholdMethod::EmpiricalQuantile);
        assert!(threshold.note.contains("all 12 scores are equal"));
    }
}

#[test]
fn ties_and_strays_give_a_finite_threshold() {
    let mut two_values = vec![0.25_f32; 30];
    two_values[3] = 0.75;
    let mut steps: Vec<f32> = (0..50).map(|i| (i / 10) as f32).collect();
    let threshold = calibrate(&two_values, &budget(1e-6), 1).unwrap();
    assert!(threshold.value >= 0.75 && threshold.value.is_finite(), "{}", threshold.value);
    assert!(calibrate(&steps, &budget(1e-6), 1).unwrap().value >= 4.0);
    steps[0] = f32::MAX;
    assert!(calibrate(&steps, &budget(1e-6), 1).unwrap().value.is_finite());
}

#[test]
fn too_few_and_bad_scores_are_refused() {
    assert_eq!(calibrate(&[], &budget(1e-3), 1), Err(ThresholdError::TooFew { found: 0 }));
    let nine = sample(normal, 9, 1);
    let error = calibrate(&nine, &budget(1e-3), 1).unwrap_err();
    assert!(error.to_string().contains("only 9 scores"), "{error}");
    let ten = sample(normal, 10, 1);
    assert!(calibrate(&ten, &budget(1e-3), 1).unwrap().value.is_finite());
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut scores = ten.clone();
        scores[4] = bad;
        let error = calibrate(&scores, &budget(1e-3), 1).unwrap_err();
        assert!(matches!(error, ThresholdError::NotFinite { index: 4, .. }), "{error}");
    }
    assert!(matches!(calibrate(&ten, &budget(2.0), 1), Err(ThresholdError::Budget { .. })));
}
