//! Finding the scale of a tensor from a histogram of its values.

use super::net::Calibration;
use crate::folded::Activation;

/// Bins on either side of 0: 16 for each step of an int8.
const BINS: usize = 2048;

/// The search for the smallest mean square error goes from the largest magnitude down by this factor, this many times:
/// to a twentieth of it.
const SHRINK: f32 = 0.97;
const STEPS: i32 = 100;

/// f32 holds every whole number of so many.
const WHOLE_IN_F32: f32 = (1 << 24) as f32;

/// Counts of values over -largest..=largest.
pub(crate) struct Histogram {
    largest: f32,
    counts: Vec<u64>,
}

impl Histogram {
    /// An empty histogram for values of magnitude up to `largest`, finite and not negative.
    pub(crate) fn new(largest: f32) -> Histogram {
        Histogram { largest, counts: vec![0; 2 * BINS] }
    }

    /// Counts `values`.
    pub(crate) fn add(&mut self, values: impl IntoIterator<Item = f32>) {
        let per_unit = BINS as f32 / self.largest.max(f32::MIN_POSITIVE);
        for value in values {
            // A float that does not fit is cast to the nearest integer that does.
            let bin = ((value * per_unit) + BINS as f32) as usize;
            if let Some(count) = self.counts.get_mut(bin.min(2 * BINS - 1)) {
                *count += 1;
            }
        }
    }

    /// The scale that `calibration` chooses; `error` gives, for a value and a scale, by how much the quantized value
    /// misses; `steps` is the largest integer. A tensor of zeros gets the scale 1.
    pub(crate) fn scale(&self, calibration: Calibration, steps: f32, error: impl Fn(f32, f32) -> f32) -> f32 {
        let limit = match calibration {
            Calibration::MinMax => self.largest,
            Calibration::Percentile(percent) => self.percentile(percent),
            Calibration::MeanSquareError => self.least_error(steps, error),
        };
        if limit / steps < f32::MIN_POSITIVE { 1.0 } else { limit / steps }
    }

    /// The middle of each bin that is not empty, with its count.
    fn bins(&self) -> impl Iterator<Item = (f32, u64)> {
        let width = self.largest / BINS as f32;
        let middle = move |bin: usize| (bin as f32 + 0.5 - BINS as f32) * width;
        self.counts.iter().enumerate().filter(|(_, count)| **count > 0).map(move |(bin, &count)| (middle(bin), count))
    }

    fn percentile(&self, percent: f32) -> f32 {
        let total: u64 = self.counts.iter().sum();
        let wanted = (f64::from(percent) / 100.0 * total as f64).ceil() as u64;
        let (below, above) = self.counts.split_at(BINS);
        let mut seen = 0;
        for (bin, (a, b)) in above.iter().zip(below.iter().rev()).enumerate() {
            seen += a + b;
            if seen >= wanted {
                return self.largest * (bin + 1) as f32 / BINS as f32;
            }
        }
        self.largest
    }

    fn least_error(&self, steps: f32, error: impl Fn(f32, f32) -> f32) -> f32 {
        let mut best = (f64::INFINITY, self.largest);
        for step in 0..STEPS {
            let limit = self.largest * SHRINK.powi(step);
            let square = |(x, count): (f32, u64)| f64::from(error(x, limit / steps)).powi(2) * count as f64;
            let sum: f64 = self.bins().map(square).sum();
            if sum < best.0 {
                best = (sum, limit);
            }
        }
        best.1
    }
}

/// By how much an activation misses when `x`, before the activation, is rounded to an integer of `scale` and the activation
/// is applied to that.
pub(crate) fn activation_error(x: f32, scale: f32, activation: Activation) -> f32 {
    let [least, largest] = activation.integers();
    let q = (x / scale).round_ties_even().clamp(least, largest);
    match activation {
        Activation::Identity => q * scale - x,
        Activation::Relu => q * scale - x.max(0.0),
        Activation::LeakyRelu(slope) => {
            let (q, x) = if q < 0.0 { ((q * slope).round_ties_even(), x * slope) } else { (q, x) };
            q * scale - x
        }
    }
}

/// By how much a weight misses when it is rounded to -127..=127 steps of `scale`.
pub(crate) fn weight_error(w: f32, scale: f32) -> f32 {
    (w / scale).round_ties_even().clamp(-127.0, 127.0) * scale - w
}

/// An activation scale near `scale`, at most 2 % away, with which [`exact_weight_scale`] finds what it looks for: twelve
/// significant bits, and a reciprocal and a ratio to `input_scale` that f32 holds closely.
pub(crate) fn exact_output_scale(scale: f32, input_scale: f32) -> f32 {
    const DROPPED_BITS: u32 = 12;
    const REACH: i32 = 40;
    let close = |a: f64| (a - 1.0).abs() < 1.0 / f64::from(1 << 26);
    let nearest = (scale.to_bits() + (1 << (DROPPED_BITS - 1))) >> DROPPED_BITS;
    (0..=REACH)
        .flat_map(|i| [i, -i])
        .filter_map(|i| Some(f32::from_bits(nearest.checked_add_signed(i)? << DROPPED_BITS)))
        .filter(|s| s.is_normal())
        .find(|&s| {
            let ratio = f64::from(input_scale * s.recip()) * f64::from(s) / f64::from(input_scale);
            close(f64::from(s) * f64::from(s.recip())) && close(ratio)
        })
        .unwrap_or(scale)
}

/// A weight scale near `scale` with which input_scale * scale / output_scale is a whole number of 2^-17 (2^-16 where
/// results go up to 255), so that every runtime rounds alike: a sum that does not saturate is then below 2^24 of those steps,
/// f32 holds its product exactly, and fixed-point and floating-point arithmetic agree to the bit. Without it about one value in
/// a million rounds differently, and in a deep network one such value spreads until the whole rounding error differs. Where no scale
/// within 5 % does it, fewer than one in a hundred, `scale` stays.
pub(crate) fn exact_weight_scale(scale: f32, input_scale: f32, output_scale: f32, largest: f32) -> f32 {
    const FURTHEST: f32 = 0.05;
    const REACH: i32 = 16;
    let steps_per_unit = WHOLE_IN_F32 / (largest + 1.0);
    // Runtimes compute the multiplier in f32, each in its own order (the last is tract's for one scale a channel): all
    // have to hit it.
    let hits = |s: f32, multiplier: f32| {
        let sum_scale = input_scale * s;
        let orders =
            [sum_scale / output_scale, sum_scale * output_scale.recip(), s * (input_scale * output_scale.recip())];
        orders.iter().all(|&m| m == multiplier)
    };
    let wanted = input_scale * scale / output_scale * steps_per_unit;
    (0..=REACH)
        .flat_map(|i| [wanted.round() + i as f32, wanted.round() - i as f32])
        .filter(|steps| (steps / wanted - 1.0).abs() <= FURTHEST)
        .find_map(|steps| {
            let multiplier = steps / steps_per_unit;
            let near = (multiplier * output_scale / input_scale).to_bits();
            let neighbours = (-4..=4).filter_map(|i| near.checked_add_signed(i)).map(f32::from_bits);
            neighbours.into_iter().find(|&s| hits(s, multiplier))
        })
        .unwrap_or(scale)
}

/// A slope near `slope` that takes no int8 to a rounding tie: n * slope = m + 1/2 would be rounded one way or the other
/// by the last bit of a runtime's floats, and slope 0.1 has 26 such n.
pub(crate) fn slope_without_ties(slope: f32) -> f32 {
    const MARGIN: f32 = 1e-4;
    let tied = |s: f32| (1..=128).any(|n| ((n as f32 * s).fract() - 0.5).abs() < MARGIN);
    (0..100).map(|i| slope * (1.0 + i as f32 * 1e-4)).find(|&s| !tied(s)).unwrap_or(slope)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ramp() -> Histogram {
        let mut histogram = Histogram::new(10.0);
        histogram.add((0..=1000).map(|i| i as f32 / 1000.0));
        histogram.add([-10.0]);
        histogram
    }

    #[test]
    fn each_calibration_finds_its_limit() {
        let error = |x: f32, scale: f32| activation_error(x, scale, Activation::Identity);
        let limit = |calibration| ramp().scale(calibration, 127.0, error) * 127.0;
        assert_eq!(limit(Calibration::MinMax), 10.0);
        assert!((limit(Calibration::Percentile(99.0)) - 1.0).abs() < 0.02);
        assert!(limit(Calibration::Percentile(100.0)) >= 9.99);
        // One value of 10 among a thousand below 1: keeping it costs less than clipping it.
        assert!(limit(Calibration::MeanSquareError) > 9.0);
        // A ReLU does not see it.
        let error = |x: f32, scale: f32| activation_error(x, scale, Activation::Relu);
        let relu = ramp().scale(Calibration::MeanSquareError, 255.0, error) * 255.0;
        assert!((relu - 1.0).abs() < 0.05, "{relu}");
    }

    #[test]
    fn zeros_get_a_usable_scale() {
        let mut zeros = Histogram::new(0.0);
        zeros.add([0.0; 5]);
        for calibration in [Calibration::MinMax, Calibration::Percentile(99.9), Calibration::MeanSquareError] {
            assert_eq!(zeros.scale(calibration, 127.0, weight_error), 1.0);
        }
    }

    #[test]
    fn exact_scales_make_multipliers_of_few_bits() {
        let mut missed = 0;
        for i in 0..500 {
            let input = exact_output_scale(0.01 + i as f32 * 3e-4, 1.0 / 127.0);
            let output = exact_output_scale(0.05 + i as f32 * 1e-4, input);
            assert!((output / (0.05 + i as f32 * 1e-4) - 1.0).abs() < 0.02);
            let scale = 0.003 + i as f32 * 1.7e-5;
            let largest = [127.0, 255.0][i % 2];
            let exact = exact_weight_scale(scale, input, output, largest);
            assert!((exact / scale - 1.0).abs() < 0.051, "{exact} for {scale}");
            let multipliers = [input * exact / output, exact * (input * output.recip())];
            missed += usize::from(multipliers.iter().any(|m| (m * WHOLE_IN_F32 / (largest + 1.0)).fract() != 0.0));
        }
        assert!(missed <= 5, "{missed} of 500");
        // Too small for a whole number of steps.
        assert_eq!(exact_weight_scale(1e-9, 1e-3, 1.0, 127.0), 1e-9);
    }

    #[test]
    fn the_slope_moves_by_a_hair_only() {
        let slope = slope_without_ties(0.1);
        assert!((slope - 0.1).abs() < 1e-4 && slope != 0.1, "{slope}");
        for n in 1..=128 {
            assert!(((n as f32 * slope).fract() - 0.5).abs() > 5e-5, "{n}");
        }
        assert_eq!(slope_without_ties(0.0), 0.0);
    }
}
