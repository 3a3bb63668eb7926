//! Seeded random draws for resampling. ChaCha8 is specified to the bit, so an interval stored in a bundle can be
//! computed again on any machine.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// A stream of draws that depends on its seed alone.
pub(crate) struct Draws(ChaCha8Rng);

impl Draws {
    pub(crate) fn new(seed: u64) -> Draws {
        Draws(ChaCha8Rng::seed_from_u64(seed))
    }

    /// Uniform in 0..n, or 0 where n is 0. The bias of one multiplication in place of rejection is n / 2^64.
    pub(crate) fn index(&mut self, n: usize) -> usize {
        ((u128::from(self.0.next_u64()) * n as u128) >> 64) as usize
    }

    /// Uniform in the open interval (0, 1).
    pub(crate) fn unit(&mut self) -> f64 {
        ((self.0.next_u64() >> 12) as f64 + 0.5) / (1_u64 << 52) as f64
    }
}

/// The quantile `q` (0..=1) of ascending values, interpolated between neighbours; 0 where there are none.
pub(crate) fn quantile(ascending: &[f64], q: f64) -> f64 {
    let Some(last) = ascending.len().checked_sub(1) else { return 0.0 };
    let position = q.clamp(0.0, 1.0) * last as f64;
    let below = position.floor() as usize;
    let at = |i: usize| ascending.get(i.min(last)).copied().unwrap_or_default();
    at(below) + (position - below as f64) * (at(below + 1) - at(below))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_repeat_and_stay_in_range() {
        let (mut a, mut b) = (Draws::new(7), Draws::new(7));
        let mut seen = [0; 5];
        for _ in 0..5000 {
            let i = a.index(5);
            assert_eq!(i, b.index(5));
            seen[i] += 1;
            let u = a.unit();
            assert_eq!(u, b.unit());
            assert!(u > 0.0 && u < 1.0);
        }
        assert!(seen.iter().all(|&n| (800..1200).contains(&n)), "{seen:?}");
        assert_eq!(a.index(0), 0);
    }

    #[test]
    fn quantiles_interpolate() {
        assert_eq!(quantile(&[1.0, 2.0, 4.0], 0.5), 2.0);
        assert_eq!(quantile(&[1.0, 2.0, 4.0], 0.75), 3.0);
        assert_eq!(quantile(&[1.0], 0.3), 1.0);
        assert_eq!(quantile(&[], 0.3), 0.0);
    }
}
