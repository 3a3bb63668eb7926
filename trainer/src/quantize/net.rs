//! The quantized encoder: integers, and the scales that say what they stand for.
//!
//! Values are 8 bits: -128..=127, or, after a ReLU, 0..=255.

use crate::folded::{Activation, MaxPool, Readout};
use ndarray::{Array1, Array4};
use salad_shared::preprocess::InputSpec;
use std::fmt;

/// An int8 encoder. A value is its integer times its tensor's scale.
#[derive(Debug, Clone, PartialEq)]
pub struct QuantizedNet {
    /// The input, in floats.
    pub input: InputSpec,
    /// The scale with which the image is quantized.
    pub input_scale: f32,
    /// Length d of the embedding.
    pub embedding_dim: usize,
    /// The members, as in the [`FoldedNet`](crate::folded::FoldedNet) they come from.
    pub members: Vec<QuantizedMember>,
    /// How it was made.
    pub options: QuantizeOptions,
}

/// One member of a [`QuantizedNet`].
#[derive(Debug, Clone, PartialEq)]
pub struct QuantizedMember {
    /// The layers, first to last.
    pub layers: Vec<QuantizedLayer>,
    /// The scale of the last one's result.
    pub output_scale: f32,
    /// What becomes of it, in floats.
    pub readout: Readout,
    /// What it weighs beside the other members.
    pub weight: f32,
}

/// One layer of a [`QuantizedMember`].
#[derive(Debug, Clone, PartialEq)]
pub enum QuantizedLayer {
    /// A convolution with its activation.
    Conv(QuantizedConv),
    /// Max pooling on the integers; the scale stays.
    MaxPool(MaxPool),
    /// Two branches, added in floats.
    Residual(QuantizedResidual),
}

/// A convolution in integers.
#[derive(Debug, Clone, PartialEq)]
pub struct QuantizedConv {
    /// Unique in the net.
    pub name: String,
    /// \[out, in, k, k\], -127..=127.
    pub weight: Array4<i8>,
    /// One scale for the tensor, or one an output channel.
    pub weight_scales: Vec<f32>,
    /// \[out\], in steps of input_scale * weight_scale.
    pub bias: Array1<i32>,
    /// Stride in both directions.
    pub stride: usize,
    /// Zero padding on all four sides.
    pub padding: usize,
    /// What follows, on the integers; a leaky ReLU's slope is a hair off the trained one (see
    /// [`quantize`](super::quantize)).
    pub activation: Activation,
    /// The input's scale.
    pub input_scale: f32,
    /// The result's scale, before and after the activation.
    pub output_scale: f32,
}

/// A residual block: each branch's integers become floats, and ReLU(body + shortcut) is quantized again.
#[derive(Debug, Clone, PartialEq)]
pub struct QuantizedResidual {
    /// Unique in the net.
    pub name: String,
    /// One branch.
    pub body: Vec<QuantizedLayer>,
    /// The other; empty where it is the input itself.
    pub shortcut: Vec<QuantizedLayer>,
    /// The scale of the body's result.
    pub body_scale: f32,
    /// The scale of the shortcut's result.
    pub shortcut_scale: f32,
    /// The scale of the block's result.
    pub output_scale: f32,
}

/// How to quantize.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct QuantizeOptions {
    /// How activation scales are found.
    pub calibration: Calibration,
    /// How many scales a weight gets.
    pub weight_scales: WeightScales,
    /// Equalise the ranges of a channel's weights across layers first.
    pub equalise: bool,
    /// Fold the mean error of every channel, seen on the calibration images, into its bias.
    pub bias_correction: bool,
}

/// How a tensor's largest magnitude that is still represented is found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Calibration {
    /// The largest magnitude seen.
    MinMax,
    /// The magnitude below which this share of the values lies, in percent, above 50 to 100.
    Percentile(f32),
    /// The magnitude that makes the mean square error of rounding and clipping smallest.
    MeanSquareError,
}

/// How many scales a weight tensor gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WeightScales {
    /// One.
    PerTensor,
    /// One an output channel: closer.
    PerChannel,
}

impl Default for QuantizeOptions {
    fn default() -> QuantizeOptions {
        QuantizeOptions {
            calibration: Calibration::MeanSquareError,
            weight_scales: WeightScales::PerChannel,
            equalise: true,
            bias_correction: true,
        }
    }
}

/// `min-max`, `percentile` or `mse`, as in a bundle's manifest.
impl fmt::Display for Calibration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Calibration::MinMax => "min-max",
            Calibration::Percentile(_) => "percentile",
            Calibration::MeanSquareError => "mse",
        })
    }
}

/// `per-tensor` or `per-channel`, as in a bundle's manifest.
impl fmt::Display for WeightScales {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            WeightScales::PerTensor => "per-tensor",
            WeightScales::PerChannel => "per-channel",
        })
    }
}

impl fmt::Display for QuantizeOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.calibration)?;
        if let Calibration::Percentile(percent) = self.calibration {
            write!(f, " {percent}")?;
        }
        write!(f, ", {}", self.weight_scales)?;
        f.write_str(if self.equalise { ", equalised" } else { "" })?;
        f.write_str(if self.bias_correction { ", bias corrected" } else { "" })
    }
}

impl QuantizedNet {
    /// Vectors of an image.
    pub fn vectors(&self) -> usize {
        self.members.first().map_or(1, |member| member.readout.vectors())
    }

    /// The convolutions in integers, first to last, member by member; of a residual block the body's before the shortcut's.
    pub fn convolutions(&self) -> impl Iterator<Item = &QuantizedConv> {
        let mut found = Vec::new();
        self.members.iter().for_each(|member| collect(&member.layers, &mut found));
        found.into_iter()
    }
}

impl Activation {
    /// The least and the largest integer of what it gives.
    pub(crate) fn integers(self) -> [f32; 2] {
        if self == Activation::Relu { [0.0, 255.0] } else { [-128.0, 127.0] }
    }
}

impl QuantizedConv {
    /// What one step of the 32-bit sum is worth, for output channel `out`.
    pub fn sum_scale(&self, out: usize) -> f32 {
        self.input_scale * self.weight_scale(out)
    }

    /// What the 32-bit sum is multiplied by to give output steps, for output channel `out`; computed in f32 in the order
    /// in which onnxruntime and tract compute it.
    pub fn multiplier(&self, out: usize) -> f32 {
        self.sum_scale(out) / self.output_scale
    }

    fn weight_scale(&self, out: usize) -> f32 {
        self.weight_scales.get(out).or(self.weight_scales.first()).copied().unwrap_or(1.0)
    }
}

fn collect<'a>(layers: &'a [QuantizedLayer], found: &mut Vec<&'a QuantizedConv>) {
    for layer in layers {
        match layer {
            QuantizedLayer::Conv(conv) => found.push(conv),
            QuantizedLayer::MaxPool(_) => {}
            QuantizedLayer::Residual(residual) => {
                collect(&residual.body, found);
                collect(&residual.shortcut, found);
            }
        }
    }
}
