//! The layers all networks are chains of, every variable under a name of its own.

use crate::folded::{Activation, FoldedConv, FoldedLayer, FoldedResidual, MaxPool};
use crate::native;
use crate::network::upsampled;
use ndarray::{Array1, Array4};
use tch::nn::{self, Init, Module, ModuleT};
use tch::{Device, TchError, Tensor};

/// One step of an encoder or decoder.
#[derive(Debug)]
pub(super) enum Layer {
    /// Convolution, batch norm where there is one, activation.
    Conv { name: String, shape: Shape, conv: nn::Conv2D, norm: Option<nn::BatchNorm>, activation: Activation },
    /// Transposed convolution from 1 x 1, batch norm, activation.
    Grow { conv: nn::ConvTranspose2D, norm: nn::BatchNorm, activation: Activation },
    /// Maximum over windows.
    MaxPool(MaxPool),
    /// ReLU(body(x) + shortcut(x)); an empty shortcut is x itself.
    Residual { name: String, body: Vec<Layer>, shortcut: Vec<Layer> },
    /// Mean over all places, to 1 x 1.
    Mean,
    /// Twice the side, bilinear.
    Upsample,
    /// Hyperbolic tangent.
    Tanh,
}

/// PyTorch's default.
const BATCH_NORM_EPSILON: f64 = 1e-5;

/// Runs `layers` in order.
pub(super) fn chain(layers: &[Layer], x: &Tensor, train: bool) -> Tensor {
    let (mut x, mut rest) = (x.shallow_clone(), layers.iter().peekable());
    while let Some(layer) = rest.next() {
        x = match (layer, rest.peek().copied()) {
            (Layer::Upsample, Some(Layer::Conv { conv, norm, activation, .. })) => {
                rest.next();
                settle(upsampled::convolution(&x, conv), norm.as_ref(), *activation, train)
            }
            _ => layer.forward(&x, train),
        };
    }
    x
}

/// A convolution's shape.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub inputs: i64,
    pub outputs: i64,
    pub kernel: i64,
    pub stride: i64,
    pub padding: i64,
}

impl Shape {
    /// An odd kernel, padded so that stride 1 keeps the size.
    pub(super) fn same(inputs: i64, outputs: i64, kernel: i64, stride: i64) -> Shape {
        Shape { inputs, outputs, kernel, stride, padding: kernel / 2 }
    }

    /// A kernel over a whole map of kernel x kernel places, to 1 x 1 or (transposed) from it.
    pub(super) fn whole(inputs: i64, outputs: i64, kernel: i64) -> Shape {
        Shape { inputs, outputs, kernel, stride: 1, padding: 0 }
    }
}

impl Layer {
    /// Convolution with batch norm (and so no bias) and activation.
    pub(super) fn conv_norm(path: &nn::Path, name: &str, shape: Shape, activation: Activation) -> Layer {
        Layer::conv_norm_at(&(path / name / "conv"), &(path / name / "norm"), name, shape, activation)
    }

    /// As [`conv_norm`](Layer::conv_norm), with the two paths that the variables are to have.
    pub(super) fn conv_norm_at(
        conv: &nn::Path,
        norm: &nn::Path,
        name: &str,
        shape: Shape,
        activation: Activation,
    ) -> Layer {
        let (conv, norm) = (conv2d(conv, shape, false), batch_norm(norm, shape.outputs));
        Layer::Conv { name: name.to_owned(), shape, conv, norm: Some(norm), activation }
    }

    /// Convolution with a batch norm that has neither scale nor shift, and no activation.
    pub(super) fn conv_plain_norm(path: &nn::Path, name: &str, shape: Shape) -> Layer {
        let conv = conv2d(&(path / name / "conv"), shape, false);
        let config = nn::BatchNormConfig { eps: BATCH_NORM_EPSILON, affine: false, ..Default::default() };
        let norm = nn::batch_norm2d(path / name / "norm", shape.outputs, config);
        Layer::Conv { name: name.to_owned(), shape, conv, norm: Some(norm), activation: Activation::Identity }
    }

    /// Convolution with a bias, no batch norm and no activation.
    pub(super) fn conv(path: &nn::Path, name: &str, shape: Shape) -> Layer {
        let conv = conv2d(&(path / name / "conv"), shape, true);
        Layer::Conv { name: name.to_owned(), shape, conv, norm: None, activation: Activation::Identity }
    }

    /// From a \[b, inputs, 1, 1\] embedding to \[b, outputs, kernel, kernel\].
    pub(super) fn grow(path: &nn::Path, name: &str, shape: Shape, activation: Activation) -> Layer {
        let config = nn::ConvTransposeConfig {
            bias: false,
            // PyTorch takes the transposed weight's second dimension for the fan-in.
            ws_init: uniform(shape.outputs * shape.kernel * shape.kernel),
            ..Default::default()
        };
        let conv = nn::conv_transpose2d(path / name / "conv", shape.inputs, shape.outputs, shape.kernel, config);
        Layer::Grow { conv, norm: batch_norm(&(path / name / "norm"), shape.outputs), activation }
    }

    fn forward(&self, x: &Tensor, train: bool) -> Tensor {
        match self {
            Layer::Conv { conv, shape, norm, activation, .. } => {
                settle(convolved(x, conv, *shape), norm.as_ref(), *activation, train)
            }
            Layer::Grow { conv, norm, activation } => settle(grown(x, conv), Some(norm), *activation, train),
            Layer::MaxPool(pool) => {
                let (size, stride, padding) = (pool.size as i64, pool.stride as i64, pool.padding as i64);
                x.max_pool2d([size; 2], [stride; 2], [padding; 2], [1, 1], false)
            }
            Layer::Residual { body, shortcut, .. } => (chain(body, x, train) + chain(shortcut, x, train)).relu(),
            Layer::Mean => x.mean_dim([2i64, 3].as_slice(), true, None::<tch::Kind>),
            Layer::Upsample => upsampled::twice(x),
            Layer::Tanh => x.tanh(),
        }
    }

    /// The layer as inference sees it; of an encoder's layers only.
    pub(super) fn fold(&self) -> Result<FoldedLayer, TchError> {
        match self {
            Layer::MaxPool(pool) => Ok(FoldedLayer::MaxPool(pool.clone())),
            Layer::Residual { name, body, shortcut } => {
                let fold = |layers: &[Layer]| layers.iter().map(Layer::fold).collect::<Result<Vec<_>, _>>();
                let (body, shortcut) = (fold(body)?, fold(shortcut)?);
                Ok(FoldedLayer::Residual(FoldedResidual { name: name.clone(), body, shortcut }))
            }
            _ => self.fold_conv().map(FoldedLayer::Conv),
        }
    }

    /// As [`fold`](Layer::fold), of a convolution only.
    pub(super) fn fold_conv(&self) -> Result<FoldedConv, TchError> {
        let Layer::Conv { name, shape, conv, norm, activation } = self else {
            return Err(TchError::Kind("this layer has no folded form".to_owned()));
        };
        let (weight, bias) = fold_norm(conv, norm.as_ref())?;
        Ok(FoldedConv {
            name: name.clone(),
            weight,
            bias,
            stride: shape.stride as usize,
            padding: shape.padding as usize,
            activation: *activation,
        })
    }
}

/// w' = w gamma / sqrt(var + eps), b' = beta + (b - mean) gamma / sqrt(var + eps), computed in f64.
fn fold_norm(conv: &nn::Conv2D, norm: Option<&nn::BatchNorm>) -> Result<(Array4<f32>, Array1<f32>), TchError> {
    let doubles = |t: &Tensor| Vec::<f64>::try_from(&t.detach().to_kind(tch::Kind::Double).contiguous().view([-1]));
    let outputs = conv.ws.size()[0] as usize;
    let bias = conv.bs.as_ref().map_or_else(|| Ok(vec![0.0; outputs]), doubles)?;
    let (scale, shift) = match norm {
        None => (vec![1.0; outputs], bias),
        Some(norm) => {
            let gamma = norm.ws.as_ref().map_or_else(|| Ok(vec![1.0; outputs]), doubles)?;
            let beta = norm.bs.as_ref().map_or_else(|| Ok(vec![0.0; outputs]), doubles)?;
            let (mean, var) = (doubles(&norm.running_mean)?, doubles(&norm.running_var)?);
            let scale: Vec<f64> = gamma.iter().zip(&var).map(|(g, v)| g / (v + BATCH_NORM_EPSILON).sqrt()).collect();
            let shift = (0..outputs).map(|o| beta[o] + (bias[o] - mean[o]) * scale[o]).collect();
            (scale, shift)
        }
    };
    let weight = doubles(&conv.ws)?;
    let each = weight.len() / outputs;
    let weight: Vec<f32> = weight.iter().enumerate().map(|(i, w)| (w * scale[i / each]) as f32).collect();
    let size: Vec<usize> = conv.ws.size().iter().map(|&s| s as usize).collect();
    let weight = Array4::from_shape_vec((size[0], size[1], size[2], size[3]), weight);
    let weight = weight.map_err(|e| TchError::Shape(e.to_string()))?;
    Ok((weight, shift.into_iter().map(|v| v as f32).collect()))
}

/// The transposed convolution of a single place, \[b, inputs, 1, 1\]: one matrix product, several times as fast as libtorch's
/// convolution in this shape.
fn grown(x: &Tensor, conv: &nn::ConvTranspose2D) -> Tensor {
    let (_, outputs, kernel, _) = conv.ws.size4().unwrap_or_default();
    x.flatten(1, -1).matmul(&conv.ws.flatten(1, -1)).view([-1, outputs, kernel, kernel])
}

/// A convolution. One of 1 x 1 with a stride is given the places that it looks at and no others: for the gradient of such weights
/// oneDNN's kernel for processors with AVX2 and no more writes beyond its buffer, where channels are not a multiple of eight.
fn convolved(x: &Tensor, conv: &nn::Conv2D, shape: Shape) -> Tensor {
    if shape.kernel > 1 || shape.stride == 1 || x.device() != Device::Cpu {
        return conv.forward(x);
    }
    let places = x.slice(2, None, None, shape.stride).slice(3, None, None, shape.stride);
    places.conv2d(&conv.ws, conv.bs.as_ref(), [1, 1], [0, 0], [1, 1], 1)
}

/// What follows a convolution: batch norm, where there is one, and activation; in training on the CPU by the operator that
/// does both at once.
fn settle(x: Tensor, norm: Option<&nn::BatchNorm>, activation: Activation, train: bool) -> Tensor {
    match norm {
        Some(norm) if train && x.device() == Device::Cpu => {
            native::norm_activation(&x, norm, BATCH_NORM_EPSILON, slope(activation))
        }
        Some(norm) => activate(norm.forward_t(&x, train), activation),
        None => activate(x, activation),
    }
}

fn activate(x: Tensor, activation: Activation) -> Tensor {
    match activation {
        Activation::Identity => x,
        Activation::Relu => x.relu(),
        Activation::LeakyRelu(slope) => native::leaky_relu(&x, f64::from(slope)),
    }
}

/// What an activation multiplies negative values by.
fn slope(activation: Activation) -> f64 {
    match activation {
        Activation::Identity => 1.0,
        Activation::Relu => 0.0,
        Activation::LeakyRelu(slope) => f64::from(slope),
    }
}

/// PyTorch's own initialisation, which tch's differs from: Kaiming uniform with a = sqrt 5 is 1 / sqrt(fan in).
fn uniform(fan_in: i64) -> Init {
    let bound = 1.0 / (fan_in as f64).sqrt();
    Init::Uniform { lo: -bound, up: bound }
}

fn conv2d(path: &nn::Path, shape: Shape, bias: bool) -> nn::Conv2D {
    let init = uniform(shape.inputs * shape.kernel * shape.kernel);
    let config = nn::ConvConfig {
        stride: shape.stride,
        padding: shape.padding,
        bias,
        ws_init: init,
        bs_init: init,
        ..Default::default()
    };
    let mut conv = nn::conv2d(path, shape.inputs, shape.outputs, shape.kernel, config);
    // As the gradient comes, which then need not be copied to be kept.
    let channels_last = conv.ws.permute([0, 2, 3, 1]).contiguous().permute([0, 3, 1, 2]);
    conv.ws.set_data(&channels_last.detach());
    conv
}

fn batch_norm(path: &nn::Path, channels: i64) -> nn::BatchNorm {
    let config = nn::BatchNormConfig {
        eps: BATCH_NORM_EPSILON,
        ws_init: Init::Const(1.0),
        bs_init: Init::Const(0.0),
        ..Default::default()
    };
    nn::batch_norm2d(path, channels, config)
}
