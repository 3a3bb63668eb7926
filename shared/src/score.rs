//! The anomaly score: how far an embedding lies from its closest prototypes (METHOD "Score").

use crate::bank::{Bank, Neighbour};
use serde::{Deserialize, Serialize};
use std::f32::consts::PI;

/// The formula that makes one number of the K nearest prototypes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScoreKind {
    /// Mean over the K of arccos(z . m_j) / pi; 0..=1.
    AngularMean,
    /// 1 - sum_j w_j (z . m_j), w = softmax over the K of z . m_j / tau; 0..=2.
    Weighted,
    /// arccos(z . m) / pi to the single nearest prototype; 0..=1.
    Nearest,
}

/// A score's formula with its parameters.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ScoreSpec {
    /// Which formula.
    pub kind: ScoreKind,
    /// Neighbours K, 1 to 10,000; a bank with fewer rows gives all it has. `nearest` looks at one whatever K says.
    pub k: u32,
    /// Temperature of `weighted`, 0.001 to 10.
    pub tau: f32,
}

impl Default for ScoreSpec {
    /// The mean angle to five prototypes.
    fn default() -> ScoreSpec {
        ScoreSpec { kind: ScoreKind::AngularMean, k: 5, tau: 0.1 }
    }
}

impl ScoreSpec {
    /// Says what is wrong with the numbers, if anything is.
    pub fn check(&self) -> Result<(), String> {
        if !(1..=10_000).contains(&self.k) {
            return Err(format!("score k = {}: has to be from 1 to 10000", self.k));
        }
        if !(0.001..=10.0).contains(&self.tau) {
            return Err(format!("score tau = {}: has to be from 0.001 to 10", self.tau));
        }
        Ok(())
    }

    /// How many neighbours the formula looks at.
    pub fn neighbours(&self) -> usize {
        if self.kind == ScoreKind::Nearest { 1 } else { self.k as usize }
    }

    /// The score of an embedding and the neighbours it was made from, most similar first. Higher is more anomalous.
    pub fn score(&self, bank: &dyn Bank, z: &[f32]) -> (f32, Vec<Neighbour>) {
        let neighbours = bank.nearest(z, self.neighbours());
        (self.of_neighbours(&neighbours), neighbours)
    }

    /// The score of K neighbours; an empty list is as anomalous as it gets.
    pub fn of_neighbours(&self, neighbours: &[Neighbour]) -> f32 {
        let similarities = || neighbours.iter().map(|n| n.similarity.clamp(-1.0, 1.0));
        let Some(nearest) = similarities().next() else { return self.range().1 };
        match self.kind {
            ScoreKind::AngularMean => similarities().map(angle).sum::<f32>() / neighbours.len() as f32,
            ScoreKind::Nearest => angle(nearest),
            ScoreKind::Weighted => {
                let weights = || similarities().map(|s| ((s - nearest) / self.tau).exp());
                1.0 - similarities().zip(weights()).map(|(s, w)| s * w).sum::<f32>() / weights().sum::<f32>()
            }
        }
    }

    /// The lowest and the highest score the formula can give.
    pub fn range(&self) -> (f32, f32) {
        if self.kind == ScoreKind::Weighted { (0.0, 2.0) } else { (0.0, 1.0) }
    }
}

/// Angle between unit vectors over pi, 0..=1.
fn angle(similarity: f32) -> f32 {
    similarity.acos() / PI
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bank::FloatBank;
    use ndarray::array;

    #[test]
    fn a_prototype_scores_zero_and_its_opposite_the_most() {
        let bank = FloatBank::new(array![[1.0, 0.0]]);
        for kind in [ScoreKind::AngularMean, ScoreKind::Weighted, ScoreKind::Nearest] {
            let spec = ScoreSpec { kind, k: 5, tau: 0.1 };
            assert_eq!(spec.score(&bank, &[1.0, 0.0]).0, 0.0);
            assert_eq!(spec.score(&bank, &[-1.0, 0.0]).0, spec.range().1);
            assert_eq!(spec.of_neighbours(&[]), spec.range().1);
        }
    }

    #[test]
    fn similarities_outside_the_domain_of_arccos_are_clamped() {
        let spec = ScoreSpec { kind: ScoreKind::AngularMean, k: 2, tau: 0.1 };
        let over = [Neighbour { index: 0, similarity: 1.000_001 }, Neighbour { index: 1, similarity: -1.000_001 }];
        assert_eq!(spec.of_neighbours(&over), 0.5);
    }

    #[test]
    fn parameters_out_of_range_are_refused() {
        let good = ScoreSpec { kind: ScoreKind::Weighted, k: 1, tau: 0.1 };
        assert!(good.check().is_ok());
        assert!(ScoreSpec { k: 0, ..good }.check().is_err());
        assert!(ScoreSpec { tau: f32::NAN, ..good }.check().is_err());
    }
}
