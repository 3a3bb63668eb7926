//! When what happens: phase 1, the rounds of phase 2, the learning rate.

use serde::{Deserialize, Serialize};

/// How the learning rate runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RateSchedule {
    /// The same throughout.
    Constant,
    /// From the full rate to zero along half a cosine over the whole run.
    Cosine,
}

/// The epochs of a run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    /// Epochs of phase 1 (round 0).
    pub phase1_epochs: u32,
    /// Epochs of each round of phase 2.
    pub round_epochs: u32,
    /// Rounds of phase 2, R = 1 / rate.
    pub rounds: u32,
    /// How the learning rate runs.
    pub rate: RateSchedule,
}

/// Where an epoch lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stage {
    /// 0 in phase 1, then 1 to R.
    pub round: u32,
    /// Whether the round begins with this epoch.
    pub begins: bool,
    /// Whether the round ends with this epoch.
    pub ends: bool,
}

impl Schedule {
    /// Epochs of the run.
    pub fn epochs(&self) -> u32 {
        self.phase1_epochs + self.rounds * self.round_epochs
    }

    /// The stage of an epoch, counted from 0.
    pub fn stage(&self, epoch: u32) -> Stage {
        match epoch.checked_sub(self.phase1_epochs) {
            None => Stage { round: 0, begins: epoch == 0, ends: epoch + 1 == self.phase1_epochs },
            Some(since) => {
                let within = self.round_epochs.max(1);
                Stage { round: 1 + since / within, begins: since % within == 0, ends: (since + 1) % within == 0 }
            }
        }
    }

    /// The share of the full learning rate at a point of the run, `progress` from 0 to 1.
    pub fn rate_at(&self, progress: f64) -> f64 {
        match self.rate {
            RateSchedule::Constant => 1.0,
            RateSchedule::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * progress.clamp(0.0, 1.0)).cos()),
        }
    }
}

/// R = 1 / rate rounds, and one more where that is no whole number: in the last all images are prototypical.
pub fn rounds(rate: f64) -> u32 {
    (1.0 / rate - 1e-9).ceil().max(1.0) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_follow_phase_one() {
        let s = Schedule { phase1_epochs: 3, round_epochs: 2, rounds: 2, rate: RateSchedule::Cosine };
        let seen: Vec<(u32, bool)> = (0..s.epochs()).map(|e| (s.stage(e).round, s.stage(e).begins)).collect();
        assert_eq!(seen, [(0, true), (0, false), (0, false), (1, true), (1, false), (2, true), (2, false)]);
        let ends: Vec<u32> = (0..s.epochs()).filter(|&e| s.stage(e).ends).collect();
        assert_eq!(ends, [2, 4, 6]);
    }

    #[test]
    fn the_cosine_falls_from_one_to_zero() {
        let s = Schedule { phase1_epochs: 1, round_epochs: 1, rounds: 1, rate: RateSchedule::Cosine };
        assert_eq!(s.rate_at(0.0), 1.0);
        assert!((s.rate_at(0.5) - 0.5).abs() < 1e-12 && s.rate_at(1.0).abs() < 1e-12);
        assert_eq!([0.1, 0.15, 0.3, 1.0 / 3.0, 0.7, 1.0].map(rounds), [10, 7, 4, 3, 2, 1]);
    }
}
