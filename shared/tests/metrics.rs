//! Figures of merit against values that a NumPy program computed by their definitions (fixtures/make_metrics.py).

use salad_shared::metrics::{
    aupr, auroc, best_f1, bootstrap_auroc_interval, confusion, pearson, roc_curve, spearman, tpr_at_fpr,
};
use serde::Deserialize;

/// Both sides compute in f64; only the order of summation differs.
const TOLERANCE: f64 = 1e-12;

/// Two bootstraps with different random numbers, 20,000 and 4,000 resamples.
const BOOTSTRAP_TOLERANCE: f64 = 0.01;

#[derive(Deserialize)]
struct Fixture {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    normal: Vec<f32>,
    anomalous: Vec<f32>,
    auroc: f64,
    aupr: f64,
    best_f1: f64,
    tpr_at_fpr: Vec<[f64; 2]>,
    roc: Vec<[f64; 2]>,
    interval_95: [f64; 2],
    paired: Vec<f32>,
    pearson: f64,
    spearman: f64,
}

#[test]
fn figures_equal_numpys() {
    let fixture: Fixture = serde_json::from_str(include_str!("fixtures/metrics.json")).unwrap();
    assert!(fixture.cases.len() >= 4);
    for case in &fixture.cases {
        let (n, a) = (&case.normal[..], &case.anomalous[..]);
        let same = |what: &str, got: f64, want: f64, tolerance: f64| {
            assert!((got - want).abs() <= tolerance, "{}: {what} is {got}, NumPy has {want}", case.name);
        };
        same("AUROC", auroc(n, a).unwrap(), case.auroc, TOLERANCE);
        same("AUPR", aupr(n, a).unwrap(), case.aupr, TOLERANCE);
        let best = best_f1(n, a).unwrap();
        same("best F1", best.f1, case.best_f1, TOLERANCE);
        same("F1 at its threshold", confusion(n, a, best.threshold).unwrap().f1().unwrap(), case.best_f1, TOLERANCE);
        for [fpr, tpr] in &case.tpr_at_fpr {
            same("TPR", tpr_at_fpr(n, a, *fpr).unwrap(), *tpr, TOLERANCE);
        }
        let roc = roc_curve(n, a).unwrap();
        assert_eq!(roc.len(), case.roc.len() + 1, "{}: the curve starts at (0, 0)", case.name);
        for (got, want) in roc[1..].iter().zip(&case.roc) {
            same("FPR", got.fpr, want[0], TOLERANCE);
            same("TPR", got.tpr, want[1], TOLERANCE);
        }
        let interval = bootstrap_auroc_interval(n, a, 0.95, 4000, 3).unwrap();
        same("low end", interval[0], case.interval_95[0], BOOTSTRAP_TOLERANCE);
        same("high end", interval[1], case.interval_95[1], BOOTSTRAP_TOLERANCE);
        let pairs = &n[..case.paired.len()];
        same("Pearson", pearson(pairs, &case.paired).unwrap().unwrap(), case.pearson, TOLERANCE);
        same("Spearman", spearman(pairs, &case.paired).unwrap().unwrap(), case.spearman, TOLERANCE);
    }
}
