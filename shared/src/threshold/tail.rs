//! Peaks over threshold: a generalised Pareto distribution fitted to the highest scores.
//!
//! With x_(1) <= .. <= x_(m) the excesses over u, the fit is by probability-weighted moments (Hosking and Wallis 1987),
//! which for small samples spread less than maximum likelihood and always exist:
//!
//! ```text
//! a0 = mean x_(i)      a1 = mean (1 - (i - 0.35) / m) x_(i)
//! xi = 2 - a0 / (a0 - 2 a1)
//! ```
//!
//! A few dozen excesses hardly tell xi, and it decides everything far out. So xi is drawn towards 0, the exponential
//! tail, as if [`PRIOR_EXCESSES`] excesses had said 0, and is then limited to [`SHAPE_LIMIT`] either way; sigma follows
//! from the mean, a0 = sigma / (1 - xi). In simulations (exponential, normal, log-normal, Student and uniform scores;
//! 40 to 10,000 of them) that halved the spread of the rate reached, in decades, against the plain estimate. A bounded
//! score has no heavy tail for ever, and a tail that ends (xi < -0.25) right above the largest of a few scores would
//! be an alarm at the first stray frame: hence the limits.
//!
//! The score that is exceeded at rate p, with n scores of which m are excesses:
//!
//! ```text
//! u + sigma / xi ((n p / m)^-xi - 1),   for xi -> 0:  u - sigma ln(n p / m)
//! ```

/// The weight of the prior xi = 0, in excesses.
const PRIOR_EXCESSES: f64 = 20.0;

/// xi is kept from -SHAPE_LIMIT to SHAPE_LIMIT.
const SHAPE_LIMIT: f64 = 0.25;

/// Excesses that ties may not leave the fit without, where there are that many different scores.
const MIN_EXCESSES: usize = 5;

/// How many of `samples` scores the tail is fitted to: a tenth, at least 20, at most half.
pub(super) fn excesses(samples: usize) -> usize {
    samples.div_ceil(10).max(20).min(samples / 2)
}

/// A fitted tail.
pub(super) struct Tail {
    /// The score u above which the tail begins.
    start: f64,
    /// sigma, in the score's units.
    scale: f64,
    /// xi as used.
    pub(super) shape: f64,
    /// xi before it was limited.
    pub(super) raw_shape: f64,
    /// Whether the limit changed it.
    pub(super) clipped: bool,
    /// Excesses m that it was fitted to.
    pub(super) count: usize,
}

impl Tail {
    /// Fits the tail to the scores above the one in place `wanted` of scores in falling order. Where ties leave fewer
    /// than [`MIN_EXCESSES`] above it, u moves down to the next lower score. `None` where all scores are equal.
    pub(super) fn fit(descending: &[f64], wanted: usize) -> Option<Tail> {
        let mut start = *descending.get(wanted).or(descending.last())?;
        let above = |start: f64| descending.iter().take_while(|&&s| s > start).count();
        let mut count = above(start);
        while count < MIN_EXCESSES {
            let Some(&lower) = descending.iter().find(|&&s| s < start) else { break };
            start = lower;
            count = above(start);
        }
        if count == 0 {
            return None;
        }
        let m = count as f64;
        let (mut a0, mut a1) = (0.0, 0.0);
        for (place, score) in descending.iter().take(count).enumerate() {
            let excess = score - start;
            // Falling order: place 0 is i = m, for which 1 - (i - 0.35) / m = 0.35 / m.
            a0 += excess / m;
            a1 += excess / m * (place as f64 + 0.35) / m;
        }
        // a0 > 2 a1: in falling order the weights rise while the excesses fall, and the weights' mean is below a half.
        let raw_shape = (2.0 - a0 / (a0 - 2.0 * a1)) * m / (m + PRIOR_EXCESSES);
        let shape = raw_shape.clamp(-SHAPE_LIMIT, SHAPE_LIMIT);
        Some(Tail { start, scale: a0 * (1.0 - shape), shape, raw_shape, clipped: shape != raw_shape, count })
    }

    /// The score that `expected` of the n scores would exceed (n p, which may be far below 1).
    pub(super) fn exceeded_at(&self, expected: f64) -> f64 {
        let log_rate = (expected / self.count as f64).ln();
        // expm1(-xi l) / xi tends to -l; below 1e-9 the difference is lost in rounding.
        let stretch = if self.shape.abs() < 1e-9 { -log_rate } else { (-self.shape * log_rate).exp_m1() / self.shape };
        self.start + self.scale * stretch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scores at the quantiles of a generalised Pareto distribution, falling.
    fn pareto(n: usize, shape: f64, scale: f64) -> Vec<f64> {
        (0..n)
            .map(|i| {
                let survival = (i as f64 + 0.5) / n as f64;
                if shape == 0.0 { -scale * survival.ln() } else { scale / shape * (survival.powf(-shape) - 1.0) }
            })
            .collect()
    }

    #[test]
    fn shape_and_scale_come_back() {
        for shape in [-0.2, 0.0, 0.15] {
            let tail = Tail::fit(&pareto(20_000, shape, 2.0), 10_000).unwrap();
            assert!((tail.shape - shape).abs() < 0.01, "{} for {shape}", tail.shape);
            assert!(!tail.clipped);
            // Beyond u the tail of a generalised Pareto is one again, its scale sigma + xi u.
            assert!((tail.scale / (2.0 + shape * tail.start) - 1.0).abs() < 0.02, "{}", tail.scale);
            let expected = 20_000.0 * 1e-3;
            let exact = if shape == 0.0 { -2.0 * 1e-3_f64.ln() } else { 2.0 / shape * (1e-3_f64.powf(-shape) - 1.0) };
            assert!((tail.exceeded_at(expected) / exact - 1.0).abs() < 0.01);
        }
    }

    #[test]
    fn the_shape_is_drawn_to_zero_when_excesses_are_few_and_limited() {
        let few = Tail::fit(&pareto(40, -0.4, 1.0), 20).unwrap();
        assert!((-0.25..-0.15).contains(&few.shape), "{}", few.shape);
        let heavy = Tail::fit(&pareto(20_000, 0.45, 1.0), 10_000).unwrap();
        assert!(heavy.clipped && heavy.shape == SHAPE_LIMIT && heavy.raw_shape > 0.35, "{}", heavy.raw_shape);
    }

    #[test]
    fn a_shape_of_zero_is_the_limit_of_small_ones() {
        let tail = |shape| Tail { start: 1.0, scale: 0.5, shape, raw_shape: shape, clipped: false, count: 20 };
        let exact = tail(0.0).exceeded_at(1e-4);
        assert!((exact - (1.0 + 0.5 * (20.0_f64 / 1e-4).ln())).abs() < 1e-12);
        for shape in [1e-8, -1e-8, 1e-10] {
            assert!((tail(shape).exceeded_at(1e-4) - exact).abs() < 1e-5);
        }
    }

    #[test]
    fn ties_move_the_start_down_and_equal_scores_have_no_tail() {
        let mut scores = vec![0.9, 0.8];
        scores.extend([0.5; 30]);
        scores.extend([0.4; 8]);
        let tail = Tail::fit(&scores, 20).unwrap();
        assert_eq!((tail.start, tail.count), (0.4, 32));
        assert!(Tail::fit(&[0.5; 40], 20).is_none());
        let one_stray = Tail::fit(&[&[0.9][..], &[0.5; 39]].concat(), 20).unwrap();
        assert_eq!(one_stray.count, 1);
        assert!(one_stray.exceeded_at(1e-3).is_finite());
    }
}
