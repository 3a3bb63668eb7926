//! The trained encoder as inference sees it: batch norm folded into the convolutions, plain arrays, no libtorch. What the
//! quantizer and the ONNX writer work on.

use ndarray::{Array1, Array4};
use salad_shared::preprocess::InputSpec;

/// An encoder for one input size: a chain of layers from \[1, channels, height, width\] to a map, which is then flattened
/// and scaled to unit length.
#[derive(Debug, Clone, PartialEq)]
pub struct FoldedNet {
    /// The input.
    pub input: InputSpec,
    /// The layers, first to last; the last is a convolution without activation.
    pub layers: Vec<FoldedLayer>,
}

/// One layer of a [`FoldedNet`].
#[derive(Debug, Clone, PartialEq)]
pub enum FoldedLayer {
    /// A convolution with its activation.
    Conv(FoldedConv),
    /// Max pooling over size x size windows, stride = size, no padding.
    MaxPool {
        /// Unique in the net.
        name: String,
        /// Window and stride.
        size: usize,
    },
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
            FoldedLayer::MaxPool { name, .. } => name,
        }
    }
}

impl FoldedNet {
    /// Length d of the embedding: channels x rows x columns of the last layer's result.
    pub fn embedding_dim(&self) -> usize {
        let (height, width) = self.sizes().last().unwrap_or((0, 0));
        self.convolutions().last().map_or(0, |c| c.bias.len()) * height * width
    }

    /// The convolutions, first to last.
    pub fn convolutions(&self) -> impl Iterator<Item = &FoldedConv> {
        self.layers.iter().filter_map(|l| match l {
            FoldedLayer::Conv(c) => Some(c),
            FoldedLayer::MaxPool { .. } => None,
        })
    }

    /// Weights and biases.
    pub fn parameters(&self) -> u64 {
        self.convolutions().map(|c| (c.weight.len() + c.bias.len()) as u64).sum()
    }

    /// Floating-point operations of one image, two for each multiply-add.
    pub fn flop(&self) -> u64 {
        let cost = |(layer, (height, width)): (&FoldedLayer, (usize, usize))| match layer {
            FoldedLayer::MaxPool { .. } => 0,
            FoldedLayer::Conv(c) => 2 * (c.weight.len() * height * width) as u64,
        };
        self.layers.iter().zip(self.sizes()).map(cost).sum()
    }

    /// Rows and columns of each layer's result.
    fn sizes(&self) -> impl Iterator<Item = (usize, usize)> {
        let input = (self.input.height as usize, self.input.width as usize);
        self.layers.iter().scan(input, |size, layer| {
            let step = |side: usize, kernel: usize| match layer {
                FoldedLayer::MaxPool { size, .. } => side / size.max(&1),
                FoldedLayer::Conv(c) => (side + 2 * c.padding).saturating_sub(kernel) / c.stride.max(1) + 1,
            };
            let (kernel_height, kernel_width) = match layer {
                FoldedLayer::MaxPool { .. } => (1, 1),
                FoldedLayer::Conv(c) => (c.weight.dim().2, c.weight.dim().3),
            };
            *size = (step(size.0, kernel_height), step(size.1, kernel_width));
            Some(*size)
        })
    }
}
