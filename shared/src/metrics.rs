//! Figures of merit of a detector: AUROC, AUPR, F1, rates at an operating point, correlations.
//!
//! Scores are f32, higher is more anomalous; an image is called anomalous when `score > threshold`. Everything is
//! computed on raw scores, in f64. A score that is not finite is refused by name, for it is always a fault upstream.

mod bootstrap;
mod correlation;

pub use bootstrap::bootstrap_auroc_interval;
pub use correlation::{pearson, spearman};

/// Which images a score belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Images without a defect.
    Normal,
    /// Images with one.
    Anomalous,
}

impl std::fmt::Display for Class {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Class::Normal => "normal",
            Class::Anomalous => "anomalous",
        })
    }
}

/// Why a figure cannot be computed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum MetricError {
    /// A class has no images: the figure is not defined.
    #[error("there are no {0} images to compute the figure from: add some to the test set, or leave the figure out")]
    Empty(Class),
    /// A score is NaN or infinite.
    #[error("the score of {class} image {index} is {value}: scores have to be finite; look for a diverged training")]
    NotFinite {
        /// Which list it is in.
        class: Class,
        /// Its place in the list, from 0.
        index: usize,
        /// The score.
        value: f32,
    },
    /// A list for a correlation holds NaN or infinity.
    #[error("value {index} of the {list} list is {value}: a correlation needs finite values")]
    NotFiniteValue {
        /// `first` or `second`.
        list: &'static str,
        /// Its place in the list, from 0.
        index: usize,
        /// The value.
        value: f32,
    },
    /// The two lists of a correlation differ in length.
    #[error("{first} values against {second}: a correlation needs pairs")]
    Lengths {
        /// Length of the first list.
        first: usize,
        /// Length of the second list.
        second: usize,
    },
    /// A parameter is out of its range.
    #[error("{name} = {value}: has to be {range}")]
    Parameter {
        /// Its name.
        name: &'static str,
        /// What was given.
        value: f64,
        /// What it may be.
        range: &'static str,
    },
}

/// One point of the receiver operating characteristic.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RocPoint {
    /// A threshold that gives the point: half-way between two neighbouring scores.
    pub threshold: f32,
    /// False positive rate, 0..=1.
    pub fpr: f64,
    /// True positive rate, 0..=1.
    pub tpr: f64,
}

/// One point of the precision-recall curve.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PrPoint {
    /// A threshold that gives the point: half-way between two neighbouring scores.
    pub threshold: f32,
    /// Recall, 0..=1.
    pub recall: f64,
    /// Precision, 0..=1.
    pub precision: f64,
}

/// The highest F1 that any threshold gives.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BestF1 {
    /// F1, 0..=1.
    pub f1: f64,
    /// The threshold: half-way between two neighbouring scores; the highest where several are equally good.
    pub threshold: f32,
}

/// How many images are on which side of a threshold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Confusion {
    /// Anomalous images called anomalous.
    pub tp: usize,
    /// Normal images called anomalous: false alarms.
    pub fp: usize,
    /// Normal images called normal.
    pub tn: usize,
    /// Anomalous images called normal: misses.
    pub fn_: usize,
}

impl Confusion {
    /// Share of what was called anomalous that is; `None` where nothing was.
    pub fn precision(&self) -> Option<f64> {
        ratio(self.tp, self.tp + self.fp)
    }

    /// Share of the anomalous images that was found; `None` where there are none.
    pub fn recall(&self) -> Option<f64> {
        ratio(self.tp, self.tp + self.fn_)
    }

    /// Share of the normal images called anomalous; `None` where there are none.
    pub fn false_positive_rate(&self) -> Option<f64> {
        ratio(self.fp, self.fp + self.tn)
    }

    /// Harmonic mean of precision and recall, 2 tp / (2 tp + fp + fn); `None` where there is nothing to find and
    /// nothing was called anomalous.
    pub fn f1(&self) -> Option<f64> {
        ratio(2 * self.tp, 2 * self.tp + self.fp + self.fn_)
    }
}

/// Counts both classes on either side of `threshold`; either list may be empty.
pub fn confusion(normal: &[f32], anomalous: &[f32], threshold: f32) -> Result<Confusion, MetricError> {
    check_finite(normal, Class::Normal)?;
    check_finite(anomalous, Class::Anomalous)?;
    let over = |scores: &[f32]| scores.iter().filter(|&&s| s > threshold).count();
    let (fp, tp) = (over(normal), over(anomalous));
    Ok(Confusion { tp, fp, tn: normal.len() - fp, fn_: anomalous.len() - tp })
}

/// Area under the ROC curve: the chance that an anomalous image scores above a normal one, ties counted half.
pub fn auroc(normal: &[f32], anomalous: &[f32]) -> Result<f64, MetricError> {
    let steps = Steps::new(normal, anomalous)?;
    Ok(steps.auroc())
}

/// Average precision: the sum over distinct scores, from the highest, of (recall gained) x (precision there).
pub fn aupr(normal: &[f32], anomalous: &[f32]) -> Result<f64, MetricError> {
    let mut recall = 0.0;
    let mut area = 0.0;
    for point in pr_curve(normal, anomalous)? {
        area += (point.recall - recall) * point.precision;
        recall = point.recall;
    }
    Ok(area)
}

/// The ROC curve from (0, 0) to (1, 1): one point for each distinct score, thresholds falling.
pub fn roc_curve(normal: &[f32], anomalous: &[f32]) -> Result<Vec<RocPoint>, MetricError> {
    let steps = Steps::new(normal, anomalous)?;
    let start = RocPoint { threshold: steps.highest(), fpr: 0.0, tpr: 0.0 };
    let points = steps.cumulative().map(|(threshold, fp, tp)| RocPoint {
        threshold,
        fpr: fp as f64 / normal.len() as f64,
        tpr: tp as f64 / anomalous.len() as f64,
    });
    Ok(std::iter::once(start).chain(points).collect())
}

/// The precision-recall curve: one point for each distinct score, thresholds falling, so that recall rises to 1.
pub fn pr_curve(normal: &[f32], anomalous: &[f32]) -> Result<Vec<PrPoint>, MetricError> {
    let steps = Steps::new(normal, anomalous)?;
    Ok(steps
        .cumulative()
        .map(|(threshold, fp, tp)| PrPoint {
            threshold,
            recall: tp as f64 / anomalous.len() as f64,
            precision: tp as f64 / (tp + fp) as f64,
        })
        .collect())
}

/// The highest F1 of any threshold. It is chosen with the test labels in hand: an upper bound, not what a user gets.
pub fn best_f1(normal: &[f32], anomalous: &[f32]) -> Result<BestF1, MetricError> {
    let steps = Steps::new(normal, anomalous)?;
    let mut best = BestF1 { f1: 0.0, threshold: steps.highest() };
    for (threshold, fp, tp) in steps.cumulative() {
        let f1 = 2.0 * tp as f64 / (tp + fp + anomalous.len()) as f64;
        if f1 > best.f1 {
            best = BestF1 { f1, threshold };
        }
    }
    Ok(best)
}

/// The largest true positive rate of any threshold whose false positive rate is at most `fpr` (0..=1).
pub fn tpr_at_fpr(normal: &[f32], anomalous: &[f32], fpr: f64) -> Result<f64, MetricError> {
    if !(0.0..=1.0).contains(&fpr) {
        return Err(MetricError::Parameter { name: "fpr", value: fpr, range: "from 0 to 1" });
    }
    let curve = roc_curve(normal, anomalous)?;
    Ok(curve.iter().filter(|p| p.fpr <= fpr).map(|p| p.tpr).fold(0.0, f64::max))
}

/// The distinct scores with how many images of each class have them, highest first.
struct Steps {
    steps: Vec<Step>,
}

#[derive(Debug, Clone, Copy)]
struct Step {
    score: f32,
    normal: usize,
    anomalous: usize,
}

impl Steps {
    /// Both classes have to have images, all scores to be finite.
    fn new(normal: &[f32], anomalous: &[f32]) -> Result<Steps, MetricError> {
        for (scores, class) in [(normal, Class::Normal), (anomalous, Class::Anomalous)] {
            check_finite(scores, class)?;
            if scores.is_empty() {
                return Err(MetricError::Empty(class));
            }
        }
        let labelled = |scores: &[f32], normal: usize| -> Vec<Step> {
            scores.iter().map(|&score| Step { score, normal, anomalous: 1 - normal }).collect()
        };
        let mut images = labelled(normal, 1);
        images.extend(labelled(anomalous, 0));
        images.sort_unstable_by(|a, b| b.score.total_cmp(&a.score));
        let mut steps: Vec<Step> = Vec::new();
        for image in images {
            match steps.last_mut() {
                // Not by total_cmp: 0 and -0 are one score.
                Some(step) if step.score == image.score => {
                    step.normal += image.normal;
                    step.anomalous += image.anomalous;
                }
                _ => steps.push(image),
            }
        }
        Ok(Steps { steps })
    }

    /// A threshold that no score exceeds.
    fn highest(&self) -> f32 {
        self.steps.first().map_or(0.0, |s| s.score)
    }

    /// For each distinct score from the highest: a threshold just below it, and the normal and anomalous images over it.
    fn cumulative(&self) -> impl Iterator<Item = (f32, usize, usize)> {
        let next = self.steps.iter().skip(1).map(|s| Some(s.score)).chain([None]);
        self.steps.iter().zip(next).scan((0, 0), |(fp, tp), (step, next)| {
            *fp += step.normal;
            *tp += step.anomalous;
            Some((next.map_or(step.score.next_down(), |next| between(next, step.score)), *fp, *tp))
        })
    }

    fn auroc(&self) -> f64 {
        auroc_of_counts(self.steps.iter().map(|s| (s.normal, s.anomalous)))
    }
}

/// AUROC from (normal, anomalous) counts at each distinct score, highest score first; both totals have to be positive.
fn auroc_of_counts(counts: impl Iterator<Item = (usize, usize)>) -> f64 {
    // Twice the pairs in which the anomalous image wins, so that a tie is a whole number.
    let (mut anomalous_above, mut normal_total, mut twice_won) = (0_u128, 0_u128, 0_u128);
    for (normal, anomalous) in counts {
        let (normal, anomalous) = (normal as u128, anomalous as u128);
        twice_won += normal * (2 * anomalous_above + anomalous);
        anomalous_above += anomalous;
        normal_total += normal;
    }
    twice_won as f64 / (2 * anomalous_above * normal_total) as f64
}

/// A value t with low <= t < high, about half-way.
fn between(low: f32, high: f32) -> f32 {
    let middle = f64::midpoint(f64::from(low), f64::from(high)) as f32;
    if middle < high { middle } else { low }
}

fn check_finite(scores: &[f32], class: Class) -> Result<(), MetricError> {
    match scores.iter().enumerate().find(|(_, s)| !s.is_finite()) {
        Some((index, &value)) => Err(MetricError::NotFinite { class, index, value }),
        None => Ok(()),
    }
}

fn ratio(part: usize, whole: usize) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn separated_reversed_and_tied_classes() {
        assert_eq!(auroc(&[0.1, 0.2], &[0.3, 0.4]).unwrap(), 1.0);
        assert_eq!(auroc(&[0.3, 0.4], &[0.1, 0.2]).unwrap(), 0.0);
        assert_eq!(auroc(&[0.5; 7], &[0.5; 3]).unwrap(), 0.5);
        // 6 pairs: 4 won, 1 tied.
        assert_eq!(auroc(&[1.0, 2.0, 3.0], &[2.0, 4.0]).unwrap(), 4.5 / 6.0);
        assert_eq!(aupr(&[0.1, 0.2], &[0.3, 0.4]).unwrap(), 1.0);
        assert_eq!(aupr(&[0.5; 7], &[0.5; 3]).unwrap(), 0.3);
    }

    #[test]
    fn average_precision_by_hand() {
        // From the top: anomalous (P 1), normal, anomalous (P 2/3).
        assert_eq!(aupr(&[2.0], &[3.0, 1.0]).unwrap(), 0.5 + 0.5 * (2.0 / 3.0));
    }

    #[test]
    fn curves_have_a_point_for_each_distinct_score_and_thresholds_that_give_it() {
        let (normal, anomalous) = ([0.1, 0.2, 0.2, 0.5], [0.2, 0.6, 0.7]);
        let roc = roc_curve(&normal, &anomalous).unwrap();
        assert_eq!(roc.len(), 6);
        assert_eq!((roc[0].fpr, roc[0].tpr), (0.0, 0.0));
        assert_eq!((roc[5].fpr, roc[5].tpr), (1.0, 1.0));
        for p in &roc {
            let c = confusion(&normal, &anomalous, p.threshold).unwrap();
            assert_eq!((c.false_positive_rate(), c.recall()), (Some(p.fpr), Some(p.tpr)), "{p:?}");
        }
        for p in pr_curve(&normal, &anomalous).unwrap() {
            let c = confusion(&normal, &anomalous, p.threshold).unwrap();
            assert_eq!((c.precision(), c.recall()), (Some(p.precision), Some(p.recall)), "{p:?}");
        }
        let best = best_f1(&normal, &anomalous).unwrap();
        assert_eq!(best, BestF1 { f1: 0.8, threshold: 0.55 });
        assert_eq!(confusion(&normal, &anomalous, best.threshold).unwrap().f1(), Some(best.f1));
    }

    #[test]
    fn thresholds_between_neighbouring_floats_still_separate_them() {
        let low = 0.3_f32;
        let best = best_f1(&[low], &[low.next_up()]).unwrap();
        assert_eq!(best.f1, 1.0);
        assert_eq!(confusion(&[low], &[low.next_up()], best.threshold).unwrap().tp, 1);
        assert_eq!(roc_curve(&[0.0], &[-0.0]).unwrap().len(), 2);
    }

    #[test]
    fn tpr_at_fpr_takes_the_best_threshold_within_the_limit() {
        let (normal, anomalous) = ([0.1, 0.2, 0.3, 0.4], [0.15, 0.35, 0.5]);
        assert_eq!(tpr_at_fpr(&normal, &anomalous, 0.0).unwrap(), 1.0 / 3.0);
        assert_eq!(tpr_at_fpr(&normal, &anomalous, 0.24).unwrap(), 1.0 / 3.0);
        assert_eq!(tpr_at_fpr(&normal, &anomalous, 0.25).unwrap(), 2.0 / 3.0);
        assert_eq!(tpr_at_fpr(&normal, &anomalous, 1.0).unwrap(), 1.0);
        assert!(tpr_at_fpr(&normal, &anomalous, f64::NAN).is_err());
        assert_eq!(tpr_at_fpr(&[1.0], &[1.0], 0.5).unwrap(), 0.0);
    }

    #[test]
    fn a_threshold_is_not_exceeded_by_itself_and_empty_counts_have_no_rates() {
        let c = confusion(&[0.5], &[0.5, 0.6], 0.5).unwrap();
        assert_eq!(c, Confusion { tp: 1, fp: 0, tn: 1, fn_: 1 });
        assert_eq!((c.precision(), c.recall(), c.f1()), (Some(1.0), Some(0.5), Some(2.0 / 3.0)));
        let none = confusion(&[], &[], 0.5).unwrap();
        assert_eq!((none.precision(), none.recall(), none.false_positive_rate(), none.f1()), (None, None, None, None));
    }

    #[test]
    fn an_empty_class_and_scores_that_are_not_finite_are_refused() {
        assert_eq!(auroc(&[], &[1.0]), Err(MetricError::Empty(Class::Normal)));
        assert_eq!(aupr(&[1.0], &[]), Err(MetricError::Empty(Class::Anomalous)));
        assert!(best_f1(&[], &[]).is_err() && roc_curve(&[], &[]).is_err() && pr_curve(&[], &[]).is_err());
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let error = auroc(&[0.0, bad], &[1.0]).unwrap_err();
            assert!(matches!(error, MetricError::NotFinite { class: Class::Normal, index: 1, .. }), "{error}");
            assert!(confusion(&[0.0], &[bad], 0.5).is_err());
        }
    }
}
