//! The folded encoder run with libtorch, and the layer steps that the integer simulation shares with it.

use crate::folded::{Activation, FoldedConv, FoldedLayer, FoldedNet, MaxPool, Readout, Size};
use ndarray::Array2;
use salad_shared::preprocess::InputSpec;
use std::collections::HashSet;
use tch::{Kind, TchError, Tensor};

/// The smallest length an embedding is divided by, so that a network that gives zeros does not give NaN.
pub const MIN_NORM: f32 = 1e-12;

/// Pixels a batch holds at most: what bounds the memory of the first, widest layers.
const PIXELS_PER_BATCH: usize = 1 << 20;

/// Why an encoder could not be run.
#[derive(Debug, thiserror::Error)]
pub enum ForwardError {
    /// The layers do not fit each other.
    #[error("layer {layer:?}: {problem}")]
    Layer {
        /// The layer's name.
        layer: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The number of values is not images x channels x height x width.
    #[error("{values} values do not make {images} images of {channels} x {height} x {width}")]
    Images {
        /// Values given.
        values: usize,
        /// Images claimed.
        images: usize,
        /// Of the network's input.
        channels: u32,
        /// Of the network's input.
        height: u32,
        /// Of the network's input.
        width: u32,
    },
    /// libtorch's own words.
    #[error("libtorch: {0}")]
    Torch(#[from] TchError),
}

impl FoldedNet {
    /// Embeddings \[n, d\] of `images` (\[n, channels, height, width\], values -1..=1), each of unit length. On the CPU,
    /// in batches, without gradient.
    pub fn encode(&self, images: &[f32], n: usize) -> Result<Array2<f32>, ForwardError> {
        self.check()?;
        let _guard = tch::no_grad_guard();
        let members = self.members.iter().map(|m| Ok((steps(&m.layers)?, FloatReadout::new(&m.readout)?, m.weight)));
        let members = members.collect::<Result<Vec<_>, TchError>>()?;
        let mut rows = Vec::with_capacity(n * self.vectors() * self.embedding_dim());
        for x in batches(&self.input, images, n)? {
            let x = x?;
            let vectors = members
                .iter()
                .map(|(steps, readout, weight)| Ok((readout.run(&run(steps, x.shallow_clone())?)?, *weight)));
            push_rows(&side_by_side(&vectors.collect::<Result<Vec<_>, TchError>>()?)?, &mut rows)?;
        }
        matrix(rows, n * self.vectors(), self.embedding_dim())
    }

    /// Says which layer does not fit, if one does not: names have to be unique, channels have to match, no window may
    /// be larger than its padded input, the branches of a residual block have to give results of one shape, the members
    /// as many vectors, and what is read out has to be a convolution's without activation.
    pub fn check(&self) -> Result<(), ForwardError> {
        let mut names = HashSet::new();
        let refuse = |layer: &str, problem: String| Err(ForwardError::Layer { layer: layer.to_owned(), problem });
        for member in &self.members {
            let shape = (self.input.channels as usize, self.input_size());
            let (channels, size) = check_layers(&member.layers, shape, &mut names)?;
            let last = member.layers.last();
            let name = last.map_or("", FoldedLayer::name);
            let is_plain = matches!(last, Some(FoldedLayer::Conv(c)) if c.activation == Activation::Identity);
            match &member.readout {
                Readout::Pooled(linear) => check_linear(linear, channels, &mut names)?,
                _ if !is_plain => {
                    return refuse(name, "the last layer has to be a convolution without activation".into());
                }
                Readout::Places { rows, columns } if size != (*rows, *columns) => {
                    return refuse(name, format!("gives {} x {} places, not {rows} x {columns}", size.0, size.1));
                }
                _ => {}
            }
            if member.readout.vectors() != self.vectors() {
                return refuse(name, "gives another number of vectors than the members before".into());
            }
        }
        if self.members.is_empty() { refuse("", "there is no layer".into()) } else { Ok(()) }
    }
}

/// Says what is wrong with the linear layer of a readout, which takes the means of so many channels, if anything is.
fn check_linear<'a>(linear: &'a FoldedConv, channels: usize, names: &mut HashSet<&'a str>) -> Result<(), ForwardError> {
    let one = (1, 1);
    let problem = match check_conv(linear, (channels, one)) {
        Ok((_, size)) if size == one && linear.activation == Activation::Identity && names.insert(&linear.name) => {
            return Ok(());
        }
        Ok(_) => "has to be 1 x 1, without activation, its name not taken".into(),
        Err(problem) => problem,
    };
    Err(ForwardError::Layer { layer: linear.name.clone(), problem })
}

/// A convolution's tensors.
pub(crate) struct FloatConv {
    weight: Tensor,
    bias: Tensor,
    stride: i64,
    padding: i64,
    activation: Activation,
}

impl FloatConv {
    pub(crate) fn new(conv: &FoldedConv) -> Result<FloatConv, TchError> {
        Ok(FloatConv {
            weight: tensor4(&conv.weight.iter().copied().collect::<Vec<_>>(), conv.weight.dim())?,
            bias: Tensor::f_from_slice(&conv.bias.to_vec())?,
            stride: conv.stride as i64,
            padding: conv.padding as i64,
            activation: conv.activation,
        })
    }

    /// The convolution with its bias, before the activation.
    pub(crate) fn pre_activation(&self, x: &Tensor) -> Result<Tensor, TchError> {
        x.f_conv2d(&self.weight, Some(&self.bias), [self.stride; 2], [self.padding; 2], [1, 1], 1)
    }
}

/// `images` as tensors \[batch, channels, height, width\], first to last.
pub(crate) fn batches<'a>(
    input: &InputSpec,
    images: &'a [f32],
    n: usize,
) -> Result<impl Iterator<Item = Result<Tensor, TchError>> + use<'a>, ForwardError> {
    let (c, h, w) = (input.channels as usize, input.height as usize, input.width as usize);
    if n.checked_mul(c * h * w) != Some(images.len()) {
        return Err(ForwardError::Images {
            values: images.len(),
            images: n,
            channels: input.channels,
            height: input.height,
            width: input.width,
        });
    }
    let per_batch = (PIXELS_PER_BATCH / (h * w).max(1)).clamp(1, 64);
    let shape = [-1, c as i64, h as i64, w as i64];
    let chunks = images.chunks((per_batch * c * h * w).max(1));
    Ok(chunks.map(move |chunk| Tensor::f_from_slice(chunk)?.f_view(shape)))
}

/// The activation function.
pub(crate) fn activate(x: &Tensor, activation: Activation) -> Result<Tensor, TchError> {
    match activation {
        Activation::Identity => Ok(x.shallow_clone()),
        Activation::Relu => x.f_relu(),
        // The slope is below 1, so the larger of the two is the function.
        Activation::LeakyRelu(slope) => x.f_maximum(&x.f_mul_scalar(f64::from(slope))?),
    }
}

/// Max pooling.
pub(crate) fn max_pool(x: &Tensor, pool: &MaxPool) -> Result<Tensor, TchError> {
    x.f_max_pool2d([pool.size as i64; 2], [pool.stride as i64; 2], [pool.padding as i64; 2], [1, 1], false)
}

/// A readout made ready to run.
pub(crate) enum FloatReadout {
    Flatten,
    Pooled(FloatConv),
    Places,
}

impl FloatReadout {
    pub(crate) fn new(readout: &Readout) -> Result<FloatReadout, TchError> {
        match readout {
            Readout::Flatten => Ok(FloatReadout::Flatten),
            Readout::Pooled(linear) => FloatConv::new(linear).map(FloatReadout::Pooled),
            Readout::Places { .. } => Ok(FloatReadout::Places),
        }
    }

    /// The last map, \[n, c, rows, columns\], as vectors \[n, d\], or \[n x places, d\] image by image.
    pub(crate) fn run(&self, x: &Tensor) -> Result<Tensor, TchError> {
        match self {
            FloatReadout::Flatten => x.f_flatten(1, -1),
            FloatReadout::Places => x.f_permute([0, 2, 3, 1])?.f_flatten(0, 2),
            FloatReadout::Pooled(linear) => {
                linear.pre_activation(&x.f_mean_dim([2_i64, 3].as_slice(), true, Kind::Float)?)?.f_flatten(1, -1)
            }
        }
    }
}

/// Vectors \[n, d\] of unit length of the members' vectors and weights.
pub(crate) fn side_by_side(members: &[(Tensor, f32)]) -> Result<Tensor, TchError> {
    if let [(only, _)] = members {
        return unit_rows(only);
    }
    let weighted = members.iter().map(|(x, weight)| unit_rows(x)?.f_mul_scalar(f64::from(weight.sqrt())));
    unit_rows(&Tensor::f_cat(&weighted.collect::<Result<Vec<_>, _>>()?, 1)?)
}

/// Rows of x (\[n, d\]) scaled to unit length.
fn unit_rows(x: &Tensor) -> Result<Tensor, TchError> {
    let norm = x.f_mul(x)?.f_sum_dim_intlist(1_i64, true, Kind::Float)?.f_sqrt()?;
    x.f_div(&norm.f_clamp_min(f64::from(MIN_NORM))?)
}

/// Appends the values of x, an f32 tensor, row by row.
pub(crate) fn push_rows(x: &Tensor, rows: &mut Vec<f32>) -> Result<(), TchError> {
    rows.extend(Vec::<f32>::try_from(&x.f_contiguous()?.f_view(-1_i64)?)?);
    Ok(())
}

/// `rows` as \[n, d\].
pub(crate) fn matrix(rows: Vec<f32>, n: usize, d: usize) -> Result<Array2<f32>, ForwardError> {
    let values = rows.len();
    Array2::from_shape_vec((n, d), rows).map_err(|_| ForwardError::Layer {
        layer: "embedding".into(),
        problem: format!("{values} values do not make {n} embeddings of {d}"),
    })
}

/// Values as a tensor of four dimensions.
pub(crate) fn tensor4(values: &[f32], dim: (usize, usize, usize, usize)) -> Result<Tensor, TchError> {
    Tensor::f_from_slice(values)?.f_view([dim.0 as i64, dim.1 as i64, dim.2 as i64, dim.3 as i64])
}

/// A layer made ready to run.
enum Step<'a> {
    Conv(FloatConv),
    MaxPool(&'a MaxPool),
    Residual(Vec<Step<'a>>, Vec<Step<'a>>),
}

fn steps(layers: &[FoldedLayer]) -> Result<Vec<Step<'_>>, TchError> {
    layers
        .iter()
        .map(|layer| match layer {
            FoldedLayer::Conv(conv) => FloatConv::new(conv).map(Step::Conv),
            FoldedLayer::MaxPool(pool) => Ok(Step::MaxPool(pool)),
            FoldedLayer::Residual(r) => Ok(Step::Residual(steps(&r.body)?, steps(&r.shortcut)?)),
        })
        .collect()
}

fn run(steps: &[Step], x: Tensor) -> Result<Tensor, TchError> {
    steps.iter().try_fold(x, |x, step| match step {
        Step::Conv(conv) => activate(&conv.pre_activation(&x)?, conv.activation),
        Step::MaxPool(pool) => max_pool(&x, pool),
        Step::Residual(body, shortcut) => run(body, x.shallow_clone())?.f_add(&run(shortcut, x)?)?.f_relu(),
    })
}

/// Channels and size of a map.
type MapShape = (usize, Size);

/// Checks `layers` on an input of `shape`; gives the shape of their result.
fn check_layers<'a>(
    layers: &'a [FoldedLayer],
    shape: MapShape,
    names: &mut HashSet<&'a str>,
) -> Result<MapShape, ForwardError> {
    layers.iter().try_fold(shape, |shape, layer| {
        let problem = |problem| ForwardError::Layer { layer: layer.name().to_owned(), problem };
        if layer.name().is_empty() || !names.insert(layer.name()) {
            return Err(problem("its name is empty or taken".into()));
        }
        match layer {
            FoldedLayer::Conv(conv) => check_conv(conv, shape).map_err(problem),
            FoldedLayer::MaxPool(pool) => check_pool(pool, shape).map_err(problem),
            FoldedLayer::Residual(residual) => {
                let body = check_layers(&residual.body, shape, names)?;
                let shortcut = check_layers(&residual.shortcut, shape, names)?;
                let describe = |(channels, (h, w)): MapShape| format!("{channels} x {h} x {w}");
                if body == shortcut {
                    return Ok(body);
                }
                Err(problem(format!("adds a body of {} to a shortcut of {}", describe(body), describe(shortcut))))
            }
        }
    })
}

fn check_conv(conv: &FoldedConv, (inputs, size): MapShape) -> Result<MapShape, String> {
    let (out, channels, kh, kw) = conv.weight.dim();
    let (h, w) = (size.0 + 2 * conv.padding, size.1 + 2 * conv.padding);
    if channels != inputs || out == 0 || conv.bias.len() != out {
        return Err(format!(
            "a weight of {:?} and a bias of {} do not fit an input of {inputs} channels",
            conv.weight.dim(),
            conv.bias.len(),
        ));
    }
    if conv.stride == 0 || kh == 0 || kw == 0 || kh > h || kw > w {
        return Err(format!("a kernel of {kh} x {kw} with stride {} over a padded input of {h} x {w}", conv.stride));
    }
    if let Activation::LeakyRelu(slope) = conv.activation
        && !(0.0..1.0).contains(&slope)
    {
        return Err(format!("a leaky ReLU of slope {slope}: has to be from 0 to below 1"));
    }
    Ok((out, conv.result_size(size)))
}

fn check_pool(pool: &MaxPool, (channels, size): MapShape) -> Result<MapShape, String> {
    let least = size.0.min(size.1) + 2 * pool.padding;
    if pool.size == 0 || pool.stride == 0 || pool.padding > pool.size / 2 || pool.size > least {
        return Err(format!(
            "a pool of {} with stride {} and padding {} over an input of {} x {}",
            pool.size, pool.stride, pool.padding, size.0, size.1
        ));
    }
    Ok((channels, pool.result_size(size)))
}
