//! Choosing among the ways to quantize by what they do to validation images.

use super::{Calibration, QuantizeError, QuantizeOptions, QuantizedNet, WeightScales, quantize};
use crate::folded::FoldedNet;

/// The quantized net that follows f32 most closely, and what was tried.
#[derive(Debug, Clone)]
pub struct Choice {
    /// The best.
    pub net: QuantizedNet,
    /// Everything tried, in order, with the mean cosine between int8 and f32 embeddings of the validation images.
    pub tried: Vec<(QuantizeOptions, f32)>,
}

/// Tries the calibrations, then the best of them without bias correction and without equalisation, and keeps the one
/// with the highest mean cosine between int8 and f32 embeddings of `validation`: normal images that are neither the
/// calibration's nor the test's. Both lists hold images \[channels, height, width\] of values -1..=1.
pub fn quantize_best(
    net: &FoldedNet,
    calibration: &[Vec<f32>],
    validation: &[Vec<f32>],
    weight_scales: WeightScales,
) -> Result<Choice, QuantizeError> {
    if validation.is_empty() {
        return Err(QuantizeError::NoImages("validation"));
    }
    let images = validation.concat();
    let expected = net.encode(&images, validation.len())?;
    let mut tried = Vec::new();
    let mut best: Option<(QuantizedNet, f32)> = None;
    let mut attempt = |options: QuantizeOptions, best: &mut Option<(QuantizedNet, f32)>| {
        let quantized = quantize(net, calibration, &options)?;
        let embeddings = quantized.encode(&images, validation.len())?;
        let cosine = (&expected * &embeddings).sum() / validation.len() as f32;
        log::debug!("quantized {options}: mean cosine to f32 {cosine:.6}");
        tried.push((options, cosine));
        if best.as_ref().is_none_or(|(_, c)| cosine > *c) {
            *best = Some((quantized, cosine));
        }
        Ok::<(), QuantizeError>(())
    };
    let base = QuantizeOptions { weight_scales, ..QuantizeOptions::default() };
    let calibrations = [
        Calibration::MeanSquareError,
        Calibration::MinMax,
        Calibration::Percentile(99.99),
        Calibration::Percentile(99.9),
    ];
    for calibration in calibrations {
        attempt(QuantizeOptions { calibration, ..base }, &mut best)?;
    }
    let options = best.as_ref().map_or(base, |(net, _)| net.options);
    attempt(QuantizeOptions { bias_correction: false, ..options }, &mut best)?;
    attempt(QuantizeOptions { equalise: false, ..options }, &mut best)?;
    match best {
        Some((net, _)) => Ok(Choice { net, tried }),
        None => Err(QuantizeError::NoImages("validation")),
    }
}
