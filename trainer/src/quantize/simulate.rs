//! The integer network run with libtorch, to the bit as ONNX defines it: sums in 32-bit integers, one multiplication in
//! f32, rounding half to even, saturation to 8 bits.

use super::net::{QuantizedConv, QuantizedLayer, QuantizedNet, QuantizedResidual};
use crate::folded::Activation::{Identity, Relu};
use crate::folded::{Activation, MaxPool};
use crate::forward::{FloatReadout, ForwardError, batches, matrix, max_pool, push_rows, side_by_side, tensor4};
use ndarray::Array2;
use tch::{Kind, TchError, Tensor};

/// f32 holds every integer up to this one.
const EXACT_IN_F32: i64 = 1 << 24;

impl QuantizedNet {
    /// Embeddings \[n, d\] of `images` (\[n, channels, height, width\], values -1..=1), each of unit length, as the int8
    /// network computes them. On the CPU, in batches.
    pub fn encode(&self, images: &[f32], n: usize) -> Result<Array2<f32>, ForwardError> {
        let _guard = tch::no_grad_guard();
        let members = self.members.iter().map(|m| Ok((steps(&m.layers)?, FloatReadout::new(&m.readout)?, m)));
        let members = members.collect::<Result<Vec<_>, TchError>>()?;
        let mut rows = Vec::with_capacity(n * self.vectors() * self.embedding_dim);
        for x in batches(&self.input, images, n)? {
            let x = quantize_linear(&x?, self.input_scale, Identity)?;
            let vectors = members.iter().map(|(steps, readout, member)| {
                let map = run(steps, x.shallow_clone())?.f_mul_scalar(f64::from(member.output_scale))?;
                Ok((readout.run(&map)?, member.weight))
            });
            push_rows(&side_by_side(&vectors.collect::<Result<Vec<_>, TchError>>()?)?, &mut rows)?;
        }
        matrix(rows, n * self.vectors(), self.embedding_dim)
    }
}

/// A convolution's integer weights in f32 tensors, cut along the input channels so that no sum in a part can leave the
/// integers f32 holds: f32 convolutions are fast, and each part is exact whatever order it is summed in.
pub(crate) struct IntWeights {
    parts: Vec<Part>,
    stride: i64,
    padding: i64,
}

struct Part {
    first_channel: i64,
    weight: Tensor,
}

impl IntWeights {
    pub(crate) fn new(conv: &QuantizedConv) -> Result<IntWeights, TchError> {
        let (out, channels, kh, kw) = conv.weight.dim();
        let values: Vec<f32> = conv.weight.iter().map(|&w| f32::from(w)).collect();
        let whole = tensor4(&values, (out, channels, kh, kw))?;
        // The largest sum each output channel can reach so far, and where the part began.
        let (mut reach, mut first_channel) = (vec![0_i64; out], 0);
        let mut parts = Vec::new();
        let part = |from: usize, to: usize| -> Result<Part, TchError> {
            let weight = whole.f_narrow(1, from as i64, (to - from) as i64)?.f_contiguous()?;
            Ok(Part { first_channel: from as i64, weight })
        };
        for (channel, entering) in conv.weight.axis_iter(ndarray::Axis(1)).enumerate() {
            let adds: Vec<i64> =
                entering.outer_iter().map(|w| w.iter().map(|&w| 255 * i64::from(w).abs()).sum()).collect();
            let full = reach.iter().zip(&adds).any(|(r, a)| r + a > EXACT_IN_F32);
            if full && channel > first_channel {
                parts.push(part(first_channel, channel)?);
                (reach, first_channel) = (vec![0; out], channel);
            }
            reach.iter_mut().zip(&adds).for_each(|(r, a)| *r += a);
        }
        parts.push(part(first_channel, channels)?);
        Ok(IntWeights { parts, stride: conv.stride as i64, padding: conv.padding as i64 })
    }

    /// The sums without bias, f64 tensor of integers; `x` is an f32 tensor of integers, -128..=255.
    pub(crate) fn sums(&self, x: &Tensor) -> Result<Tensor, TchError> {
        let mut sum: Option<Tensor> = None;
        for part in &self.parts {
            let channels = part.weight.size().get(1).copied().unwrap_or(0);
            let y = x
                .f_narrow(1, part.first_channel, channels)?
                .f_conv2d(&part.weight, None::<Tensor>, [self.stride; 2], [self.padding; 2], [1, 1], 1)?
                .f_to_kind(Kind::Double)?;
            sum = Some(match sum {
                Some(sum) => sum.f_add(&y)?,
                None => y,
            });
        }
        sum.ok_or_else(|| TchError::Shape("a convolution without weights".into()))
    }
}

/// What the layer gives for its sums without bias: an f32 tensor of integers.
pub(crate) fn requantize(sums: &Tensor, conv: &QuantizedConv) -> Result<Tensor, TchError> {
    let out = conv.bias.len();
    let shape = [1, out as i64, 1, 1];
    let bias: Vec<f64> = conv.bias.iter().map(|&b| f64::from(b)).collect();
    let multipliers: Vec<f32> = (0..out).map(|o| conv.multiplier(o)).collect();
    let sums = sums.f_to_kind(Kind::Double)?.f_add(&Tensor::f_from_slice(&bias)?.f_view(shape)?)?;
    let scaled = sums.f_to_kind(Kind::Float)?.f_mul(&Tensor::f_from_slice(&multipliers)?.f_view(shape)?)?;
    let q = saturate(&scaled, conv.activation)?;
    match conv.activation {
        // Saturation at 0 is the ReLU.
        Identity | Relu => Ok(q),
        Activation::LeakyRelu(slope) => {
            let x = q.f_mul_scalar(f64::from(conv.output_scale))?;
            quantize_linear(&x.f_maximum(&x.f_mul_scalar(f64::from(slope))?)?, conv.output_scale, Identity)
        }
    }
}

/// What the block gives for its branches' integers: an f32 tensor of integers 0..=255. The scales have so few
/// significant bits that f32 holds the products exactly: every runtime gets the same sum.
pub(crate) fn add_branches(body: &Tensor, shortcut: &Tensor, block: &QuantizedResidual) -> Result<Tensor, TchError> {
    let body = body.f_mul_scalar(f64::from(block.body_scale))?;
    let shortcut = shortcut.f_mul_scalar(f64::from(block.shortcut_scale))?;
    quantize_linear(&body.f_add(&shortcut)?.f_relu()?, block.output_scale, Relu)
}

/// ONNX's QuantizeLinear, as an f32 tensor of the integers that `after` leaves.
pub(crate) fn quantize_linear(x: &Tensor, scale: f32, after: Activation) -> Result<Tensor, TchError> {
    saturate(&x.f_div_scalar(f64::from(scale))?, after)
}

fn saturate(x: &Tensor, after: Activation) -> Result<Tensor, TchError> {
    let [least, largest] = after.integers();
    x.f_round()?.f_clamp(f64::from(least), f64::from(largest))
}

/// A layer made ready to run.
enum Step<'a> {
    Conv(&'a QuantizedConv, IntWeights),
    MaxPool(&'a MaxPool),
    Residual(&'a QuantizedResidual, Vec<Step<'a>>, Vec<Step<'a>>),
}

fn steps(layers: &[QuantizedLayer]) -> Result<Vec<Step<'_>>, TchError> {
    layers
        .iter()
        .map(|layer| match layer {
            QuantizedLayer::Conv(conv) => Ok(Step::Conv(conv, IntWeights::new(conv)?)),
            QuantizedLayer::MaxPool(pool) => Ok(Step::MaxPool(pool)),
            QuantizedLayer::Residual(r) => Ok(Step::Residual(r, steps(&r.body)?, steps(&r.shortcut)?)),
        })
        .collect()
}

/// Takes an f32 tensor of integers through the steps.
fn run(steps: &[Step], x: Tensor) -> Result<Tensor, TchError> {
    steps.iter().try_fold(x, |x, step| match step {
        Step::Conv(conv, weights) => requantize(&weights.sums(&x)?, conv),
        Step::MaxPool(pool) => max_pool(&x, pool),
        Step::Residual(block, body, shortcut) => {
            add_branches(&run(body, x.shallow_clone())?, &run(shortcut, x)?, block)
        }
    })
}
