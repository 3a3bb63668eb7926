//! The decision threshold, found from the scores of normal images only.

use serde::{Deserialize, Serialize};

/// How many false alarms a user accepts, as a rate of frames.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FalseAlarmBudget {
    /// False alarms allowed in `period_secs`.
    pub alarms: f64,
    /// The period, seconds.
    pub period_secs: f64,
    /// Frames scored a second.
    pub fps: f64,
}

/// How a threshold was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ThresholdMethod {
    /// A quantile of the validation scores.
    EmpiricalQuantile,
    /// A generalised Pareto tail fitted to the highest validation scores (peaks over threshold).
    PeaksOverThreshold,
}

/// A threshold with the evidence behind it. A frame is anomalous when its score is greater than `value`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Threshold {
    /// The threshold, in the score's units.
    pub value: f32,
    /// 90 % interval of `value` from resampling the validation scores, `[low, high]`.
    pub interval_90: [f32; 2],
    /// How it was found.
    pub method: ThresholdMethod,
    /// What was asked for.
    pub budget: FalseAlarmBudget,
    /// The rate of frames that the budget allows to exceed the threshold.
    pub target_rate: f64,
    /// Validation images whose scores it rests on.
    pub samples: usize,
    /// For a fitted tail: what a person should know about it.
    pub note: String,
}
