//! The trained encoder as inference sees it: batch norm folded into the convolutions, plain arrays, no libtorch. What the
//! quantizer and the ONNX writer work on.

use ndarray::{Array1, Array4, Axis};
use salad_shared::preprocess::InputSpec;

/// An encoder for one input size; or several, the members of an ensemble: their vectors of unit length stand one after the
/// other, each times the root of its weight, scaled to unit length again, so that the cosine of two embeddings is the weighted
/// mean of the members'.
#[derive(Debug, Clone, PartialEq)]
pub struct FoldedNet {
    /// The input.
    pub input: InputSpec,
    /// One, or the members of an ensemble, which may be of different kinds but give as many vectors.
    pub members: Vec<FoldedMember>,
}

/// A chain of layers from \[1, channels, height, width\] to a map, and what becomes of it.
#[derive(Debug, Clone, PartialEq)]
pub struct FoldedMember {
    /// First to last.
    pub layers: Vec<FoldedLayer>,
    /// What becomes of the last one's map.
    pub readout: Readout,
    /// What it weighs beside the other members.
    pub weight: f32,
}

/// How the last map, \[c, rows, columns\], becomes a vector or several, each then scaled to unit length. In floats in either form:
/// the integers of the int8 form end with that map.
#[derive(Debug, Clone, PartialEq)]
pub enum Readout {
    /// Every place has its share: d = c x rows x columns. The map is that of a convolution without activation.
    Flatten,
    /// The mean over all places (global average pooling), then a linear layer: a 1 x 1 convolution without activation.
    Pooled(FoldedConv),
    /// A vector for each place, row by row: d = c. The map is that of a convolution without activation.
    Places {
        /// Places from top to bottom.
        rows: usize,
        /// Places from left to right.
        columns: usize,
    },
}

impl Readout {
    /// Vectors of an image.
    pub fn vectors(&self) -> usize {
        match self {
            Readout::Flatten | Readout::Pooled(_) => 1,
            Readout::Places { rows, columns } => rows * columns,
        }
    }
}

/// One layer of a [`FoldedNet`].
#[derive(Debug, Clone, PartialEq)]
pub enum FoldedLayer {
    /// A convolution with its activation.
    Conv(FoldedConv),
    /// Max pooling.
    MaxPool(MaxPool),
    /// Two branches, added.
    Residual(FoldedResidual),
}

/// A convolution, square kernel, batch norm folded in.
#[derive(Debug, Clone, PartialEq)]
pub struct FoldedConv {
    /// Unique in the net.
    pub name: String,
    /// \[out, in, k, k\].
    pub weight: Array4<f32>,
    /// \[out\].
    pub bias: Array1<f32>,
    /// Stride in both directions.
    pub stride: usize,
    /// Zero padding on all four sides.
    pub padding: usize,
    /// What follows the convolution.
    pub activation: Activation,
}

/// Max pooling over size x size windows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MaxPool {
    /// Unique in the net.
    pub name: String,
    /// The window's side.
    pub size: usize,
    /// Stride in both directions.
    pub stride: usize,
    /// On all four sides, at most half the window's; what lies there is never the maximum.
    pub padding: usize,
}

/// ReLU(body(x) + shortcut(x)).
#[derive(Debug, Clone, PartialEq)]
pub struct FoldedResidual {
    /// Unique in the net.
    pub name: String,
    /// One branch.
    pub body: Vec<FoldedLayer>,
    /// The other; empty where it is x itself.
    pub shortcut: Vec<FoldedLayer>,
}

/// An activation function.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Activation {
    /// None.
    Identity,
    /// max(x, 0).
    Relu,
    /// x where positive, slope * x elsewhere.
    LeakyRelu(f32),
}

impl FoldedLayer {
    /// The layer's name.
    pub fn name(&self) -> &str {
        match self {
            FoldedLayer::Conv(conv) => &conv.name,
            FoldedLayer::MaxPool(pool) => &pool.name,
            FoldedLayer::Residual(residual) => &residual.name,
        }
    }

    /// Puts `before` in front of its name, and of those of the layers within.
    fn rename(&mut self, before: &str) {
        let name = match self {
            FoldedLayer::Conv(conv) => &mut conv.name,
            FoldedLayer::MaxPool(pool) => &mut pool.name,
            FoldedLayer::Residual(residual) => {
                residual.body.iter_mut().chain(&mut residual.shortcut).for_each(|layer| layer.rename(before));
                &mut residual.name
            }
        };
        name.insert_str(0, before);
    }

    /// Mirrors the kernels, left to right.
    fn mirror(&mut self) {
        match self {
            FoldedLayer::Conv(conv) => conv.mirror(),
            FoldedLayer::MaxPool(_) => {}
            FoldedLayer::Residual(residual) => {
                residual.body.iter_mut().chain(&mut residual.shortcut).for_each(FoldedLayer::mirror);
            }
        }
    }
}

impl FoldedMember {
    /// Puts `before` in front of the names of all layers.
    fn rename(&mut self, before: &str) {
        self.layers.iter_mut().for_each(|layer| layer.rename(before));
        if let Readout::Pooled(linear) = &mut self.readout {
            linear.name.insert_str(0, before);
        }
    }

    /// Mirrors the kernels, left to right.
    fn mirror(&mut self) {
        self.layers.iter_mut().for_each(FoldedLayer::mirror);
        if let Readout::Pooled(linear) = &mut self.readout {
            linear.mirror();
        }
    }

    /// The convolutions with the size of their results, the readout's linear layer last, for an input of `size`.
    fn trace(&self, size: Size) -> Vec<(&FoldedConv, Size)> {
        let mut convolutions = Vec::new();
        trace(&self.layers, size, &mut convolutions);
        if let Readout::Pooled(linear) = &self.readout {
            convolutions.push((linear, (1, 1)));
        }
        convolutions
    }

    /// Length of a vector, for an input of `size`.
    fn embedding_dim(&self, size: Size) -> usize {
        let values = self.trace(size).last().map_or(0, |(conv, (height, width))| conv.bias.len() * height * width);
        values / self.readout.vectors()
    }
}

impl FoldedNet {
    /// Encoders of one input as the members of one ensemble. The names of layers say which member they are of, but for the
    /// first's. `None` for no encoder.
    pub fn join(nets: impl IntoIterator<Item = FoldedNet>) -> Option<FoldedNet> {
        (1..)
            .zip(nets)
            .map(|(number, mut net): (u32, _)| {
                if number > 1 {
                    let before = format!("member{number}.");
                    net.members.iter_mut().for_each(|member| member.rename(&before));
                }
                net
            })
            .reduce(|mut joined, net| {
                joined.members.extend(net.members);
                joined
            })
    }

    /// The encoder and, as further members, itself with mirrored kernels; each has half of the weight. The latter sees a picture as
    /// the former sees its mirror image, the vectors of places where the places are. With strided 3 x 3 convolutions, which have their
    /// places at the left of each two pixels, that image is moved by a pixel, and its map begins one place later.
    pub fn beside_its_mirror(mut self) -> FoldedNet {
        self.members.iter_mut().for_each(|member| member.weight /= 2.0);
        let mirrored = self.members.iter().map(|member| {
            let mut member = member.clone();
            member.mirror();
            member.rename("mirror.");
            member
        });
        self.members.extend(mirrored.collect::<Vec<_>>());
        self
    }

    /// Length d of the embedding.
    pub fn embedding_dim(&self) -> usize {
        self.members.iter().map(|member| member.embedding_dim(self.input_size())).sum()
    }

    /// Vectors of an image.
    pub fn vectors(&self) -> usize {
        self.members.first().map_or(1, |member| member.readout.vectors())
    }

    /// Rows and columns of the places that have a vector each; none where the whole image has one.
    pub fn places(&self) -> Option<[usize; 2]> {
        match self.members.first()?.readout {
            Readout::Places { rows, columns } => Some([rows, columns]),
            _ => None,
        }
    }

    /// The convolutions, first to last, member by member; of a residual block the body's before the shortcut's, and the
    /// linear layer of the readout last.
    pub fn convolutions(&self) -> impl Iterator<Item = &FoldedConv> {
        self.trace().into_iter().map(|(conv, _)| conv)
    }

    /// Side of the square of the input that a place of the last map sees, pixels.
    pub fn receptive_field(&self) -> usize {
        self.members.iter().map(|member| field(&member.layers, (1, 1)).0).max().unwrap_or(0)
    }

    /// Weights and biases.
    pub fn parameters(&self) -> u64 {
        self.convolutions().map(|c| (c.weight.len() + c.bias.len()) as u64).sum()
    }

    /// Floating-point operations of one image's convolutions, two for each multiply-add.
    pub fn flop(&self) -> u64 {
        self.trace().iter().map(|(conv, (height, width))| 2 * (conv.weight.len() * height * width) as u64).sum()
    }

    /// The convolutions with the size of their results.
    fn trace(&self) -> Vec<(&FoldedConv, Size)> {
        self.members.iter().flat_map(|member| member.trace(self.input_size())).collect()
    }

    /// Rows and columns of the input.
    pub(crate) fn input_size(&self) -> Size {
        (self.input.height as usize, self.input.width as usize)
    }
}

impl FoldedConv {
    fn mirror(&mut self) {
        self.weight.invert_axis(Axis(3));
        self.weight = self.weight.as_standard_layout().into_owned();
    }

    /// The size of the result for an input of `size`.
    pub(crate) fn result_size(&self, size: Size) -> Size {
        let (.., kernel_height, kernel_width) = self.weight.dim();
        let side = |side, kernel| places(side, kernel, self.stride, self.padding);
        (side(size.0, kernel_height), side(size.1, kernel_width))
    }
}

impl MaxPool {
    /// The size of the result for an input of `size`.
    pub(crate) fn result_size(&self, size: Size) -> Size {
        let side = |side| places(side, self.size, self.stride, self.padding);
        (side(size.0), side(size.1))
    }
}

/// Rows and columns of a map.
pub(crate) type Size = (usize, usize);

/// How many places a window takes along a side.
fn places(side: usize, window: usize, stride: usize, padding: usize) -> usize {
    (side + 2 * padding).saturating_sub(window) / stride.max(1) + 1
}

/// The side of what a place sees, and how far apart places are, in pixels of the input, after `layers`.
fn field(layers: &[FoldedLayer], before: (usize, usize)) -> (usize, usize) {
    layers.iter().fold(before, |(field_before, apart), layer| {
        let (window, stride) = match layer {
            FoldedLayer::Conv(conv) => (conv.weight.dim().2, conv.stride),
            FoldedLayer::MaxPool(pool) => (pool.size, pool.stride),
            FoldedLayer::Residual(residual) => {
                let [body, shortcut] = [&residual.body, &residual.shortcut].map(|b| field(b, (field_before, apart)));
                return body.max(shortcut);
            }
        };
        (field_before + window.saturating_sub(1) * apart, apart * stride)
    })
}

/// Follows a map of `size` through `layers`; adds their convolutions, and gives the size of the result.
fn trace<'a>(layers: &'a [FoldedLayer], size: Size, convolutions: &mut Vec<(&'a FoldedConv, Size)>) -> Size {
    layers.iter().fold(size, |size, layer| match layer {
        FoldedLayer::Conv(conv) => {
            let size = conv.result_size(size);
            convolutions.push((conv, size));
            size
        }
        FoldedLayer::MaxPool(pool) => pool.result_size(size),
        FoldedLayer::Residual(residual) => {
            let result = trace(&residual.body, size, convolutions);
            trace(&residual.shortcut, size, convolutions);
            result
        }
    })
}
