//! Post-training quantization of the encoder to integers of 8 bits: weights -127..=127, values -128..=127 or, after a ReLU,
//! 0..=255. ReLU and max pooling are done on the integers.

mod choose;
mod equalise;
mod net;
mod scale;
mod simulate;

pub use choose::{Choice, quantize_best};
pub use net::{
    Calibration, QuantizeOptions, QuantizedConv, QuantizedLayer, QuantizedMember, QuantizedNet, QuantizedResidual,
    WeightScales,
};

use crate::folded::{Activation, FoldedConv, FoldedLayer, FoldedMember, FoldedNet, FoldedResidual};
use crate::forward::{FloatConv, ForwardError, activate, batches, max_pool};
use ndarray::{Array1, Array4, ArrayViewD};
use scale::{Histogram, activation_error, exact_output_scale, exact_weight_scale, slope_without_ties, weight_error};
use simulate::{IntWeights, add_branches, quantize_linear, requantize};
use tch::{Kind, TchError, Tensor};

/// Images are -1..=1 whatever the calibration images show: a frame brighter than them all must not saturate. With this
/// scale no byte value falls on a rounding tie.
const INPUT_SCALE: f32 = 1.0 / 127.0;

/// Products of two int8 that a 32-bit sum, half of it, takes without overflow; of values after a ReLU it takes half as many.
pub(crate) const MAX_FAN_IN: usize = (1 << 30) / (128 * 127);

/// The largest bias: the other half.
const MAX_BIAS: f64 = (1_i64 << 30) as f64;

/// Why an encoder could not be quantized.
#[derive(Debug, thiserror::Error)]
pub enum QuantizeError {
    /// The encoder or the images do not fit.
    #[error("quantizing: {0}")]
    Forward(#[from] ForwardError),
    /// Nothing to calibrate on.
    #[error("quantizing: no {0} images: at least one normal image is needed")]
    NoImages(&'static str),
    /// The percentile is out of range.
    #[error("quantizing: calibration percentile = {0}: has to be above 50, at most 100")]
    Percentile(f32),
    /// Weights or activations are infinite or not a number.
    #[error("quantizing: layer {0:?} has values that are not finite: the training has diverged")]
    NotFinite(String),
    /// 32-bit sums could overflow.
    #[error("quantizing: layer {layer:?} sums {fan_in} products, more than fit 32 bits: make it narrower")]
    FanIn {
        /// The layer.
        layer: String,
        /// in * k * k.
        fan_in: usize,
    },
}

impl From<TchError> for QuantizeError {
    fn from(error: TchError) -> QuantizeError {
        QuantizeError::Forward(error.into())
    }
}

/// Quantizes `net`, calibrated on `images` (normal images, each \[channels, height, width\], values -1..=1; 50 to 100
/// are enough).
///
/// Goes layer by layer with two streams of the calibration images: the f32 network's activations, from which the
/// scales are found, and the int8 network's, against which the biases are corrected (Nagel et al. 2019, section 4.2,
/// on images), so that a layer also makes up for the layers before it. Both streams are held in memory: about 12 bytes
/// for each value of the widest layer and image, and in a residual block 8 more for each value that enters it.
///
/// A leaky ReLU's slope is moved by less than 1 % so that no integer falls on a rounding tie, on which runtimes disagree.
pub fn quantize(
    net: &FoldedNet,
    images: &[Vec<f32>],
    options: &QuantizeOptions,
) -> Result<QuantizedNet, QuantizeError> {
    check(net, images, options)?;
    let _guard = tch::no_grad_guard();
    let net = if options.equalise { equalise::equalise(net) } else { net.clone() };
    let streams = Streams::new(&net, images)?;
    let member = |member: &FoldedMember| {
        let (layers, output_scale) =
            quantize_layers(&member.layers, INPUT_SCALE, &mut streams.shallow_clone(), options)?;
        let (readout, weight) = (member.readout.clone(), member.weight);
        Ok::<_, QuantizeError>(QuantizedMember { layers, output_scale, readout, weight })
    };
    let members = net.members.iter().map(member).collect::<Result<_, _>>()?;
    Ok(QuantizedNet {
        input: net.input.clone(),
        input_scale: INPUT_SCALE,
        embedding_dim: net.embedding_dim(),
        members,
        options: *options,
    })
}

/// Quantizes layers, whose input has the scale `scale`, and takes both streams through them; gives the scale of their
/// result too.
fn quantize_layers(
    layers: &[FoldedLayer],
    mut scale: f32,
    streams: &mut Streams,
    options: &QuantizeOptions,
) -> Result<(Vec<QuantizedLayer>, f32), QuantizeError> {
    let mut quantized = Vec::with_capacity(layers.len());
    for layer in layers {
        quantized.push(match layer {
            FoldedLayer::MaxPool(pool) => {
                streams.map(|x| max_pool(x, pool), |q| max_pool(q, pool))?;
                QuantizedLayer::MaxPool(pool.clone())
            }
            FoldedLayer::Conv(conv) => {
                let conv = quantize_conv(conv, scale, streams, options)?;
                scale = conv.output_scale;
                QuantizedLayer::Conv(conv)
            }
            FoldedLayer::Residual(residual) => {
                let residual = quantize_residual(residual, scale, streams, options)?;
                scale = residual.output_scale;
                QuantizedLayer::Residual(residual)
            }
        });
    }
    Ok((quantized, scale))
}

/// Quantizes a residual block and takes both streams through it.
fn quantize_residual(
    residual: &FoldedResidual,
    input_scale: f32,
    streams: &mut Streams,
    options: &QuantizeOptions,
) -> Result<QuantizedResidual, QuantizeError> {
    let mut beside = streams.shallow_clone();
    let (body, body_scale) = quantize_layers(&residual.body, input_scale, streams, options)?;
    let (shortcut, shortcut_scale) = quantize_layers(&residual.shortcut, input_scale, &mut beside, options)?;
    for (x, y) in streams.float.iter_mut().zip(&beside.float) {
        *x = x.f_add(y)?;
    }
    let name = residual.name.clone();
    let output_scale = activation_scale(&name, Activation::Relu, body_scale, &streams.float, options.calibration)?;
    let quantized = QuantizedResidual { name, body, shortcut, body_scale, shortcut_scale, output_scale };
    streams.map_float(Tensor::f_relu)?;
    for (q, beside) in streams.int.iter_mut().zip(&beside.int) {
        *q = add_branches(q, beside, &quantized)?;
    }
    Ok(quantized)
}

/// Quantizes one convolution and takes both streams through it.
fn quantize_conv(
    conv: &FoldedConv,
    input_scale: f32,
    streams: &mut Streams,
    options: &QuantizeOptions,
) -> Result<QuantizedConv, QuantizeError> {
    let float = FloatConv::new(conv)?;
    streams.map_float(|x| float.pre_activation(x))?;
    let output_scale = activation_scale(&conv.name, conv.activation, input_scale, &streams.float, options.calibration)?;
    let (weight, weight_scales) = quantize_weight(conv, [input_scale, output_scale], options.weight_scales);
    let mut quantized = QuantizedConv {
        name: conv.name.clone(),
        weight,
        weight_scales,
        bias: Array1::zeros(conv.bias.len()),
        stride: conv.stride,
        padding: conv.padding,
        activation: match conv.activation {
            Activation::LeakyRelu(slope) => Activation::LeakyRelu(slope_without_ties(slope)),
            other => other,
        },
        input_scale,
        output_scale,
    };
    let weights = IntWeights::new(&quantized)?;
    // Kept as 32-bit integers, which hold them: half the memory of f64.
    streams.map_int(|q| weights.sums(q)?.f_to_kind(Kind::Int))?;
    let bias = if options.bias_correction {
        let (wanted, got) = (channel_means(&streams.float)?, channel_means(&streams.int)?);
        // The mean before the activation is the f32 network's, bias included.
        wanted.iter().zip(&got).enumerate().map(|(o, (w, g))| w - g * f64::from(quantized.sum_scale(o))).collect()
    } else {
        conv.bias.mapv(f64::from).to_vec()
    };
    quantized.bias = bias
        .iter()
        .enumerate()
        .map(|(o, b)| (b / f64::from(quantized.sum_scale(o))).round_ties_even().clamp(-MAX_BIAS, MAX_BIAS) as i32)
        .collect();
    streams.map(|x| activate(x, conv.activation), |sums| requantize(sums, &quantized))?;
    Ok(quantized)
}

/// The scale of a layer's result, from the f32 network's values before the activation.
fn activation_scale(
    layer: &str,
    activation: Activation,
    input_scale: f32,
    batches: &[Tensor],
    calibration: Calibration,
) -> Result<f32, QuantizeError> {
    // What a ReLU drops needs no range.
    let kept = |x: f32| if activation == Activation::Relu { x.max(0.0) } else { x };
    let mut largest = 0.0_f32;
    for batch in batches {
        let (low, high) = (batch.f_min()?, batch.f_max()?);
        let (low, high) = (f32::try_from(&low)?, f32::try_from(&high)?);
        if !(low.is_finite() && high.is_finite()) {
            return Err(QuantizeError::NotFinite(layer.to_owned()));
        }
        largest = largest.max(kept(high).abs()).max(kept(low).abs());
    }
    let mut histogram = Histogram::new(largest);
    for batch in batches {
        let values = Vec::<f32>::try_from(&batch.f_contiguous()?.f_view(-1_i64)?)?;
        histogram.add(values.into_iter().map(kept));
    }
    let [_, steps] = activation.integers();
    let scale = histogram.scale(calibration, steps, |x, scale| activation_error(x, scale, activation));
    Ok(exact_output_scale(scale, input_scale))
}

/// Integer weights and their scales: those of least square error, which clip outliers where that pays.
fn quantize_weight(
    conv: &FoldedConv,
    [input_scale, output_scale]: [f32; 2],
    weight_scales: WeightScales,
) -> (Array4<i8>, Vec<f32>) {
    let scale = |values: ArrayViewD<'_, f32>| {
        let mut histogram = Histogram::new(values.iter().fold(0.0_f32, |m, w| m.max(w.abs())));
        histogram.add(values.iter().copied());
        let scale = histogram.scale(Calibration::MeanSquareError, 127.0, weight_error);
        exact_weight_scale(scale, input_scale, output_scale, conv.activation.integers()[1])
    };
    let scales: Vec<f32> = match weight_scales {
        WeightScales::PerTensor => vec![scale(conv.weight.view().into_dyn())],
        WeightScales::PerChannel => conv.weight.outer_iter().map(|w| scale(w.into_dyn())).collect(),
    };
    let mut weight = Array4::zeros(conv.weight.dim());
    for (o, (mut q, w)) in weight.outer_iter_mut().zip(conv.weight.outer_iter()).enumerate() {
        let scale = scales.get(o).or(scales.first()).copied().unwrap_or(1.0);
        q.zip_mut_with(&w, |q, &w| *q = (w / scale).round_ties_even().clamp(-127.0, 127.0) as i8);
    }
    (weight, scales)
}

/// Mean over images, rows and columns, by channel.
fn channel_means(batches: &[Tensor]) -> Result<Vec<f64>, TchError> {
    let (mut sums, mut count) = (Vec::new(), 0.0);
    for batch in batches {
        let batch_sums =
            Vec::<f64>::try_from(&batch.f_sum_dim_intlist([0_i64, 2, 3].as_slice(), false, Kind::Double)?)?;
        sums.resize(batch_sums.len(), 0.0);
        sums.iter_mut().zip(&batch_sums).for_each(|(s, b)| *s += b);
        count += batch.numel() as f64 / batch_sums.len().max(1) as f64;
    }
    Ok(sums.into_iter().map(|s| s / count).collect())
}

/// The calibration images on their way through both networks, in batches \[n, channels, height, width\].
struct Streams {
    float: Vec<Tensor>,
    int: Vec<Tensor>,
}

impl Streams {
    fn new(net: &FoldedNet, images: &[Vec<f32>]) -> Result<Streams, QuantizeError> {
        let mut streams = Streams { float: Vec::new(), int: Vec::new() };
        for batch in batches(&net.input, &images.concat(), images.len())? {
            let batch = batch?;
            streams.int.push(quantize_linear(&batch, INPUT_SCALE, Activation::Identity)?);
            streams.float.push(batch);
        }
        Ok(streams)
    }

    fn shallow_clone(&self) -> Streams {
        let shallow = |tensors: &[Tensor]| tensors.iter().map(Tensor::shallow_clone).collect();
        Streams { float: shallow(&self.float), int: shallow(&self.int) }
    }

    fn map_float(&mut self, f: impl Fn(&Tensor) -> Result<Tensor, TchError>) -> Result<(), TchError> {
        self.float.iter_mut().try_for_each(|x| f(x).map(|y| *x = y))
    }

    fn map_int(&mut self, f: impl Fn(&Tensor) -> Result<Tensor, TchError>) -> Result<(), TchError> {
        self.int.iter_mut().try_for_each(|q| f(q).map(|y| *q = y))
    }

    fn map(
        &mut self,
        float: impl Fn(&Tensor) -> Result<Tensor, TchError>,
        int: impl Fn(&Tensor) -> Result<Tensor, TchError>,
    ) -> Result<(), TchError> {
        self.map_float(float)?;
        self.map_int(int)
    }
}

fn check(net: &FoldedNet, images: &[Vec<f32>], options: &QuantizeOptions) -> Result<(), QuantizeError> {
    net.check()?;
    if let Calibration::Percentile(percent) = options.calibration
        && !(percent > 50.0 && percent <= 100.0)
    {
        return Err(QuantizeError::Percentile(percent));
    }
    if images.is_empty() {
        return Err(QuantizeError::NoImages("calibration"));
    }
    let after_relu = net.convolutions().any(|conv| conv.activation == Activation::Relu);
    let most = if after_relu { MAX_FAN_IN / 2 } else { MAX_FAN_IN };
    for conv in net.convolutions() {
        if !conv.weight.iter().chain(&conv.bias).all(|v| v.is_finite()) {
            return Err(QuantizeError::NotFinite(conv.name.clone()));
        }
        let fan_in = conv.weight.len() / conv.bias.len().max(1);
        if fan_in > most {
            return Err(QuantizeError::FanIn { layer: conv.name.clone(), fan_in });
        }
    }
    Ok(())
}
