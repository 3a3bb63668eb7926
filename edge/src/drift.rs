//! Whether the scene as a whole has moved away from what was trained: a pure machine, time passed in.
//!
//! ```text
//!             the median score of the window has been above what is usual
//!   +-------+ --------------------- begins -------------------> +---------+ --+ reminds: once a day
//!   | Usual |                                                   | Drifted | <-+
//!   +-------+ <-------------------- ends ---------------------- +---------+
//!             the median score of the window is usual again
//! ```
//!
//! One anomaly does not move a median; light that changes with the season, a lens that was knocked askew and a machine that
//! was moved do. While the scene has drifted, scores are judged by how far they are above the new median, so that one
//! message says so in place of a row of false alarms, and what stands out from the changed scene is still found.

use crate::grey::median;
use std::collections::VecDeque;
use std::time::Duration;

/// The window has so many parts, and a score counts for the part it falls into.
const PARTS: usize = 30;

/// The newest parts, which follow a scene that is put right.
const NEWEST: usize = 2;

/// Of normal validation scores: a median above the first share of them is unusual, one below the second is usual again.
const UNUSUAL: f32 = 0.95;
const USUAL: f32 = 0.8;

/// What is asked of the watch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DriftSpec {
    /// The window.
    pub after: Duration,
    /// Between two messages while it lasts.
    pub reminder: Duration,
}

/// Watches the scores.
#[derive(Debug, Clone)]
pub struct Drift {
    spec: DriftSpec,
    /// Of normal scores: the median, and where a median is unusual and usual again.
    normal: [f32; 3],
    /// Medians of the parts that are over, the oldest first.
    parts: VecDeque<f32>,
    part: Vec<f32>,
    part_began: Option<Duration>,
    told: Option<Duration>,
}

/// What a score means.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Change {
    /// The scene has drifted, to this median.
    Begins(f32),
    /// It is still so, a reminder later.
    Lasts(f32),
    /// It is as usual again.
    Ends,
}

impl Drift {
    /// `normal` are scores of normal images, by the form that is run; `None` where there are none.
    pub fn new(spec: DriftSpec, normal: &[f32]) -> Option<Drift> {
        Some(Drift {
            spec,
            normal: [quantile(normal, 0.5)?, seldom_above(normal)?, quantile(normal, USUAL)?],
            parts: VecDeque::with_capacity(PARTS),
            part: Vec::new(),
            part_began: None,
            told: None,
        })
    }

    /// What scores are usual, for people: the median of normal ones, and where a median counts as drifted.
    pub fn usual(&self) -> (f32, f32) {
        (self.normal[0], self.normal[1])
    }

    /// Takes in the score of a frame taken at `now`.
    pub fn step(&mut self, score: f32, now: Duration) -> Option<Change> {
        let began = *self.part_began.get_or_insert(now);
        if now.saturating_sub(began) < self.spec.after / PARTS as u32 {
            self.part.push(score);
            return None;
        }
        let over = std::mem::replace(&mut self.part, vec![score]);
        self.part_began = Some(now);
        // After a gap, what was seen before says nothing about now.
        if now.saturating_sub(began) > self.spec.after {
            self.parts.clear();
        }
        if self.parts.len() == PARTS {
            self.parts.pop_front();
        }
        self.parts.push_back(median(over));
        self.judge(now)
    }

    /// By how much scores are above what is usual, while the scene has drifted; else 0.
    pub fn shift(&self) -> f32 {
        if self.told.is_none() {
            return 0.0;
        }
        let newest = self.parts.iter().rev().take(NEWEST).copied().fold(f32::INFINITY, f32::min);
        (newest.min(self.median()) - self.normal[0]).max(0.0)
    }

    fn judge(&mut self, now: Duration) -> Option<Change> {
        let [_, unusual, usual] = self.normal;
        let median = self.median();
        match self.told {
            None if self.parts.len() == PARTS && median > unusual => {
                self.told = Some(now);
                Some(Change::Begins(median))
            }
            Some(_) if median <= usual => {
                self.told = None;
                Some(Change::Ends)
            }
            Some(told) if now.saturating_sub(told) >= self.spec.reminder => {
                self.told = Some(now);
                Some(Change::Lasts(median))
            }
            _ => None,
        }
    }

    fn median(&self) -> f32 {
        median(self.parts.iter().copied().collect())
    }
}

/// The score that 19 of 20 normal images are below; `None` where there are none.
pub fn seldom_above(normal: &[f32]) -> Option<f32> {
    quantile(normal, UNUSUAL)
}

fn quantile(scores: &[f32], share: f32) -> Option<f32> {
    let mut sorted = scores.to_vec();
    sorted.sort_unstable_by(f32::total_cmp);
    let place = (sorted.len() as f32 * share) as usize;
    sorted.get(place.min(sorted.len().saturating_sub(1))).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPEC: DriftSpec = DriftSpec { after: Duration::from_secs(300), reminder: Duration::from_secs(86_400) };

    fn drift() -> Drift {
        let normal: Vec<f32> = (0..100).map(|i| i as f32 / 1000.0).collect();
        Drift::new(SPEC, &normal).unwrap()
    }

    /// One score a second; what changed, and when.
    fn play(drift: &mut Drift, start: u64, scores: impl IntoIterator<Item = f32>) -> Vec<(u64, Change)> {
        let times = start..;
        let steps = times.zip(scores).map(|(t, score)| (t, drift.step(score, Duration::from_secs(t))));
        steps.filter_map(|(t, change)| Some((t, change?))).collect()
    }

    #[test]
    fn a_scene_that_stays_away_from_normal_has_drifted_and_comes_back() {
        let mut drift = drift();
        assert_eq!(play(&mut drift, 0, [0.05; 400]), []);
        let begun = play(&mut drift, 400, [0.3; 400]);
        assert!(matches!(begun[..], [(at, Change::Begins(m))] if (540..580).contains(&at) && m == 0.3), "{begun:?}");
        assert!((drift.shift() - 0.25).abs() < 1e-6);
        // Put right: scores count as they are within seconds, and the message comes with the window's median.
        let ended = play(&mut drift, 800, [0.04; 30]);
        assert!(ended.is_empty() && drift.shift() == 0.0);
        assert!(matches!(play(&mut drift, 830, [0.04; 300])[..], [(_, Change::Ends)]));
    }

    #[test]
    fn an_anomaly_is_no_drift_and_a_start_alone_is_none() {
        let mut drift = drift();
        assert_eq!(play(&mut drift, 0, [0.9; 200]), [], "the window is not full");
        let mixed = (0..2000).map(|i| if i % 300 < 100 { 0.9 } else { 0.05 });
        assert_eq!(play(&mut drift, 1000, mixed), []);
        assert_eq!(drift.shift(), 0.0);
    }

    #[test]
    fn it_reminds_once_a_day() {
        let mut drift = drift();
        let changes = play(&mut drift, 0, vec![0.3; 3 * 86_400]);
        assert!(matches!(changes[..], [(_, Change::Begins(_)), (_, Change::Lasts(_)), (_, Change::Lasts(_))]));
    }

    #[test]
    fn without_normal_scores_there_is_no_drift() {
        assert!(Drift::new(SPEC, &[]).is_none());
    }
}
