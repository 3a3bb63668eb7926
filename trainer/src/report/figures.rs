//! The figures of merit on the page, computed once from the scores.

use super::data::{ReportData, Split};
use salad_shared::metrics::{
    BestF1, Confusion, PrPoint, RocPoint, aupr, auroc, best_f1, bootstrap_auroc_interval, confusion, pr_curve,
    roc_curve, tpr_at_fpr,
};

/// Resamples behind the AUROC's interval.
const RESAMPLES: usize = 2000;

/// The false positive rates at which the page gives the true positive rate.
const OPERATING_POINTS: [f64; 3] = [0.01, 0.05, 0.45];

/// Scores by class, and what they add up to.
pub(super) struct Figures {
    /// Finite scores of the normal test images.
    pub(super) normal: Vec<f32>,
    /// Finite scores of the anomalous test images.
    pub(super) anomalous: Vec<f32>,
    /// Finite scores of the validation images.
    pub(super) validation: Vec<f32>,
    /// Images left out because their score is not finite.
    pub(super) not_finite: usize,
    /// Both classes at the threshold, where there is one.
    pub(super) confusion: Option<Confusion>,
    /// What needs both classes.
    pub(super) ranking: Option<Ranking>,
}

/// What needs normal and anomalous test images.
pub(super) struct Ranking {
    pub(super) auroc: f64,
    /// 95 %.
    pub(super) interval: [f64; 2],
    pub(super) aupr: f64,
    pub(super) best_f1: BestF1,
    /// (false positive rate, true positive rate).
    pub(super) operating_points: Vec<(f64, f64)>,
    pub(super) roc: Vec<RocPoint>,
    pub(super) pr: Vec<PrPoint>,
}

impl Figures {
    pub(super) fn of(data: &ReportData) -> Figures {
        let scores = |split: Split, anomalous: bool| -> Vec<f32> {
            let images = data.scores.iter().filter(|s| s.split == split && s.kind.is_some() == anomalous);
            images.map(|s| s.score).filter(|s| s.is_finite()).collect()
        };
        let (normal, anomalous) = (scores(Split::Test, false), scores(Split::Test, true));
        let threshold =
            data.finite_threshold().map(|t| t.value).filter(|_| !(normal.is_empty() && anomalous.is_empty()));
        Figures {
            confusion: threshold.and_then(|t| confusion(&normal, &anomalous, t).ok()),
            ranking: Ranking::of(&normal, &anomalous, data.seed),
            validation: scores(Split::Validation, false),
            not_finite: data.scores.iter().filter(|s| !s.score.is_finite()).count(),
            normal,
            anomalous,
        }
    }

    /// Why there is no ranking, if there is none.
    pub(super) fn why_no_ranking(&self) -> Option<&'static str> {
        match (self.ranking.is_some(), self.normal.is_empty(), self.anomalous.is_empty()) {
            (true, ..) => None,
            (false, true, true) => Some(
                "This run had no test set, only normal images. How well it finds defects is therefore not known: ROC, \
                 precision and recall, and the defects by kind are left out.",
            ),
            (false, true, false) => {
                Some("The test set has no normal images, so ROC and precision and recall are left out.")
            }
            _ => Some(
                "The test set has no anomalous images, so ROC, precision and recall are left out: they need defects.",
            ),
        }
    }
}

impl Ranking {
    /// None where a class is empty: the scores are finite, there is no other reason.
    fn of(normal: &[f32], anomalous: &[f32], seed: u64) -> Option<Ranking> {
        Some(Ranking {
            auroc: auroc(normal, anomalous).ok()?,
            interval: bootstrap_auroc_interval(normal, anomalous, 0.95, RESAMPLES, seed).ok()?,
            aupr: aupr(normal, anomalous).ok()?,
            best_f1: best_f1(normal, anomalous).ok()?,
            operating_points: OPERATING_POINTS
                .into_iter()
                .filter_map(|fpr| Some((fpr, tpr_at_fpr(normal, anomalous, fpr).ok()?)))
                .collect(),
            roc: roc_curve(normal, anomalous).ok()?,
            pr: pr_curve(normal, anomalous).ok()?,
        })
    }
}
