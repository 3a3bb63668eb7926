//! The decision threshold, found from the scores of normal images only.
//!
//! [`calibrate`] turns a budget of false alarms into a rate p of frames that may exceed the threshold, and finds the
//! score that normal frames exceed at that rate.
//!
//! - **n p >= 10** (n scores; as many as a tail would have, where that is fewer): the empirical quantile. At most the share p
//!   of the scores exceeds it.
//! - **otherwise** peaks over threshold (`tail`): a generalised Pareto distribution is fitted to how far the highest
//!   scores lie above a high quantile u, and extended to p. The result is never below the empirical quantile, which
//!   for n p < 1 is the largest score.
//!
//! **The rate is one of frames, and it is conservative.** Neighbouring frames of a camera are alike, so exceedances
//! come in bursts, and a burst is one alarm; and the edge raises an alarm only after k of n frames. Both make alarms
//! rarer than p says. What it does not cover is change: a camera moved, another season, a new product. Validation
//! scores have to come from images that differ as widely as the normal frames to come.
//!
//! With few scores a threshold for a rare alarm is mostly extrapolation: `interval_90` and `note` say how much. Since the
//! budget is a limit, a tail that is extended beyond the scores (n p < 1) gives the upper end of that interval. With 20, 60
//! and 300 scores of an exponential distribution that keeps the budget in 62, 74 and 88 of 100 cases, since resamples of few
//! scores stray too little; the estimate itself keeps it in 37, 41 and 53. A fitted threshold can lie above the largest score
//! there is ([`ScoreSpec::range`](crate::score::ScoreSpec::range)); then nothing is ever anomalous, and whoever calibrates has
//! to warn of it.
//!
//! Scores that are all equal give that score, with a note: it says nothing about how far normal frames stray. Fewer
//! than [`MIN_SCORES`] scores, and scores that are not finite, are errors.

mod budget;
mod tail;

use crate::draws::{Draws, quantile};
use serde::{Deserialize, Serialize};
use tail::Tail;

/// The fewest scores a threshold is found from.
pub const MIN_SCORES: usize = 10;

/// So many exceedances among the scores make the empirical quantile good enough: its rate is then known to about a
/// third (1 / sqrt 10).
const ENOUGH_EXCEEDANCES: f64 = 10.0;

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
    /// 90 % interval of the estimate from resampling the validation scores, `[low, high]`. `value` is `high` where the tail is
    /// extended beyond the scores.
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

/// Why there is no threshold.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ThresholdError {
    /// Fewer scores than [`MIN_SCORES`].
    #[error(
        "only {found} scores of normal validation images: a threshold needs at least {MIN_SCORES}; give more normal \
         images or set a larger share of them aside for validation"
    )]
    TooFew {
        /// How many there are.
        found: usize,
    },
    /// A score is NaN or infinite.
    #[error("the score of validation image {index} is {value}: scores have to be finite; look for a diverged training")]
    NotFinite {
        /// Its place in the list, from 0.
        index: usize,
        /// The score.
        value: f32,
    },
    /// The budget makes no sense.
    #[error("false-alarm budget {budget:?}: {problem}; write for example 1/week")]
    Budget {
        /// What was given.
        budget: String,
        /// What is wrong with it.
        problem: String,
    },
}

/// Finds the threshold that normal frames exceed as rarely as `budget` asks, from the scores of normal validation images
/// in any order. `seed` drives the resampling behind the interval: the same input gives the same threshold. See the
/// [module](self) for the method and for what it does with few or equal scores.
pub fn calibrate(scores: &[f32], budget: &FalseAlarmBudget, seed: u64) -> Result<Threshold, ThresholdError> {
    budget.check()?;
    if let Some((index, &value)) = scores.iter().enumerate().find(|(_, s)| !s.is_finite()) {
        return Err(ThresholdError::NotFinite { index, value });
    }
    if scores.len() < MIN_SCORES {
        return Err(ThresholdError::TooFew { found: scores.len() });
    }
    let rate = budget.target_rate();
    let mut descending: Vec<f64> = scores.iter().map(|&s| f64::from(s)).collect();
    descending.sort_unstable_by(|a, b| b.total_cmp(a));
    let finder = Finder::new(descending.len(), rate);
    let (estimate, tail) = finder.find(&descending);
    let interval = finder.interval(&descending, estimate, &mut Draws::new(seed));
    let value = if tail.is_some() && finder.is_extended() { interval[1] } else { estimate };
    Ok(Threshold {
        value: to_f32(value),
        interval_90: interval.map(to_f32),
        method: if tail.is_some() { ThresholdMethod::PeaksOverThreshold } else { ThresholdMethod::EmpiricalQuantile },
        budget: *budget,
        target_rate: rate,
        samples: scores.len(),
        note: finder.note(&descending, tail.as_ref()),
    })
}

/// The rule for one number of scores and one rate, so that resamples are treated as the scores were.
struct Finder {
    samples: usize,
    rate: f64,
    /// How many of the scores may exceed the threshold: floor(n p).
    allowed: usize,
    /// How many of the highest scores the tail is fitted to; 0 where the empirical quantile serves.
    excesses: usize,
}

impl Finder {
    fn new(samples: usize, rate: f64) -> Finder {
        let expected = samples as f64 * rate;
        let excesses = tail::excesses(samples);
        let empirical = expected >= ENOUGH_EXCEEDANCES.min(excesses as f64);
        Finder { samples, rate, allowed: expected as usize, excesses: if empirical { 0 } else { excesses } }
    }

    /// The threshold from scores in falling order (the highest ones are enough), with the tail where one was fitted.
    fn find(&self, descending: &[f64]) -> (f64, Option<Tail>) {
        let empirical = descending.get(self.allowed).or(descending.last()).copied().unwrap_or_default();
        if self.excesses == 0 {
            return (empirical, None);
        }
        match Tail::fit(descending, self.excesses) {
            Some(tail) => (tail.exceeded_at(self.rate * self.samples as f64).max(empirical), Some(tail)),
            None => (empirical, None),
        }
    }

    /// Whether an alarm is to be rarer than the scores can show.
    fn is_extended(&self) -> bool {
        self.allowed == 0
    }

    /// The middle 90 % of what resamples of the scores give, widened where need be to hold `estimate`.
    fn interval(&self, descending: &[f64], estimate: f64, draws: &mut Draws) -> [f64; 2] {
        let top = self.excesses.max(self.allowed) + 1;
        let resamples = (20_000_000 / top).clamp(100, 1000);
        let mut values: Vec<f64> =
            (0..resamples).map(|_| self.find(&resampled_top(descending, top, draws)).0).collect();
        values.sort_unstable_by(f64::total_cmp);
        [quantile(&values, 0.05).min(estimate), quantile(&values, 0.95).max(estimate)]
    }

    /// What a person should know before trusting the threshold.
    fn note(&self, descending: &[f64], tail: Option<&Tail>) -> String {
        let n = self.samples;
        if descending.first() == descending.last() {
            return format!(
                "all {n} scores are equal: they do not say how far normal frames stray, and any frame that scores \
                 higher is anomalous; check that the training did not collapse"
            );
        }
        let Some(tail) = tail else {
            return format!("empirical: {} of {n} scores exceed it", self.allowed);
        };
        let expected = n as f64 * self.rate;
        let mut note = format!("a tail fitted to the {} highest of {n} scores", tail.count);
        if self.is_extended() {
            let decades = -expected.log10();
            note += &format!(", extended {decades:.1} decades beyond the rarest rate they can show (1 in {n})");
            note += match decades {
                d if d < 1.0 => ": fairly sure",
                d if d < 2.5 => ": the real rate may differ tenfold from the target",
                _ => ": an educated guess, the real rate may differ a hundredfold and more from the target",
            };
            note += "; so the upper end of its 90 % interval is the threshold";
        }
        if tail.clipped {
            note += &format!("; its shape was limited from {:.2} to {:.2}", tail.raw_shape, tail.shape);
        }
        if self.is_extended() {
            note += &format!(
                "; {:.0} scores would do without extension. Check it against a day of normal frames",
                (ENOUGH_EXCEEDANCES / self.rate).ceil()
            );
        }
        note
    }
}

/// The `top` highest of n draws with replacement from n scores in falling order, in falling order.
///
/// The highest of n uniform numbers is distributed as V^(1/n), the next as the highest of n - 1 numbers below it, and
/// so on: the top of a resample comes out sorted, without drawing the rest.
fn resampled_top(descending: &[f64], top: usize, draws: &mut Draws) -> Vec<f64> {
    let n = descending.len();
    let mut uniform = 1.0_f64;
    (0..top.min(n))
        .map(|drawn| {
            uniform *= draws.unit().powf(1.0 / (n - drawn) as f64);
            let place = ((1.0 - uniform) * n as f64) as usize;
            descending.get(place.min(n - 1)).copied().unwrap_or_default()
        })
        .collect()
}

/// A threshold has to be finite even where scores near the largest float are extended.
fn to_f32(value: f64) -> f32 {
    value.clamp(f64::from(f32::MIN), f64::from(f32::MAX)) as f32
}

#[cfg(test)]
mod tests;
