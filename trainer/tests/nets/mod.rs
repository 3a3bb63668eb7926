//! Encoders with seeded random weights and smooth random images, for the tests of ONNX and quantization.

#![allow(dead_code, clippy::unwrap_used)]

use ndarray::{Array1, Array2, Array4};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use salad_shared::preprocess::InputSpec;
use salad_trainer::folded::{
    Activation, FoldedConv, FoldedLayer, FoldedMember, FoldedNet, FoldedResidual, MaxPool, Readout,
};

/// Like the network `edge`: 3x3 convolutions of stride 2, each but the first after one of stride 1, and ReLU; size is 16
/// times a small number.
pub fn edge(size: u32, widths: &[usize], d: usize, seed: u64) -> FoldedNet {
    let mut net = Builder::new(size, 3, seed);
    for (i, &width) in widths.iter().enumerate() {
        if i > 0 {
            let same = net.channels;
            net.conv(same, 3, 1, 1, Activation::Relu);
        }
        net.conv(width, 3, 2, 1, Activation::Relu);
    }
    net.finish(d)
}

/// Like the network `unet`: blocks of two 3x3 convolutions with leaky ReLU, max pooling between them.
pub fn unet(size: u32, widths: &[usize], d: usize, seed: u64) -> FoldedNet {
    let mut net = Builder::new(size, 3, seed);
    for (i, &width) in widths.iter().enumerate() {
        if i > 0 {
            net.pool(2, 2, 0);
        }
        net.conv(width, 3, 1, 1, Activation::LeakyRelu(0.1));
        net.conv(width, 3, 1, 1, Activation::LeakyRelu(0.1));
    }
    net.finish(d)
}

/// Like the network `resnet18`, with a block a stage: a 7x7 convolution of stride 2 and padded max pooling, then 3x3
/// convolutions with a shortcut, of which every second block's is a convolution too, and a mean over all places.
pub fn resnet(size: u32, widths: &[usize], d: usize, seed: u64) -> FoldedNet {
    let mut net = Builder::new(size, 3, seed);
    net.conv(widths[0], 7, 2, 3, Activation::Relu);
    net.pool(3, 2, 1);
    for &width in widths {
        net.block(width, 2);
        net.block(width, 1);
    }
    net.conv(d, 1, 1, 0, Activation::Identity);
    let Some(FoldedLayer::Conv(linear)) = net.layers.pop() else { unreachable!() };
    let member = FoldedMember { layers: net.layers, readout: Readout::Pooled(linear), weight: 1.0 };
    FoldedNet { input: net.input, members: vec![member] }
}

/// Two or more of these as the members of one.
pub fn joined(nets: impl IntoIterator<Item = FoldedNet>) -> FoldedNet {
    FoldedNet::join(nets).unwrap()
}

/// n images of bytes scaled to -1..=1: noise of several grain sizes, so that neighbouring pixels are alike.
pub fn images(net: &FoldedNet, n: usize, seed: u64) -> Vec<Vec<f32>> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let (c, h, w) = (net.input.channels as usize, net.input.height as usize, net.input.width as usize);
    (0..n)
        .map(|_| {
            let mut image = vec![0.0_f32; c * h * w];
            for grain in [2, 4, 8, 16, 32] {
                let (rows, columns) = (h.div_ceil(grain), w.div_ceil(grain));
                let cells: Vec<f32> = (0..c * rows * columns).map(|_| normal(&mut rng)).collect();
                let gain = 0.2 * (grain as f32 / 32.0).sqrt();
                for (i, value) in image.iter_mut().enumerate() {
                    let (channel, y, x) = (i / (h * w), i / w % h, i % w);
                    *value += gain * cells[(channel * rows + y / grain) * columns + x / grain];
                }
            }
            image.iter().map(|v| ((v + 1.0) * 127.5).round().clamp(0.0, 255.0) / 127.5 - 1.0).collect()
        })
        .collect()
}

/// Cosine of each pair of rows; the rows are unit vectors.
pub fn cosines(a: &Array2<f32>, b: &Array2<f32>) -> Vec<f32> {
    assert_eq!(a.dim(), b.dim());
    a.rows().into_iter().zip(b.rows()).map(|(x, y)| x.dot(&y)).collect()
}

/// The smallest of `values`.
pub fn smallest(values: &[f32]) -> f32 {
    values.iter().copied().fold(f32::INFINITY, f32::min)
}

/// A value of the standard normal distribution.
pub fn normal(rng: &mut ChaCha8Rng) -> f32 {
    let (a, b): (f32, f32) = (rng.random::<f32>().max(1e-7), rng.random());
    (-2.0 * a.ln()).sqrt() * (std::f32::consts::TAU * b).cos()
}

struct Builder {
    layers: Vec<FoldedLayer>,
    input: InputSpec,
    channels: usize,
    size: usize,
    rng: ChaCha8Rng,
}

impl Builder {
    fn new(size: u32, channels: u32, seed: u64) -> Builder {
        // The test runner keeps the cores busy already; libtorch's threads would wait for each other.
        tch::set_num_threads(1);
        Builder {
            layers: Vec::new(),
            input: InputSpec { width: size, height: size, channels },
            channels: channels as usize,
            size: size as usize,
            rng: ChaCha8Rng::seed_from_u64(seed),
        }
    }

    /// A convolution with a batch norm of random statistics folded in.
    fn conv(&mut self, out: usize, k: usize, stride: usize, padding: usize, activation: Activation) {
        let fan_in = self.channels * k * k;
        let gain = (2.0 / fan_in as f32).sqrt();
        let mut weight = Array4::zeros((out, self.channels, k, k));
        let mut bias = Array1::zeros(out);
        for (mut row, b) in weight.outer_iter_mut().zip(bias.iter_mut()) {
            let (scale, shift) = (0.6 + 0.8 * self.rng.random::<f32>(), 0.1 * normal(&mut self.rng));
            let (mean, variance) = (0.1 * normal(&mut self.rng), 0.5 + self.rng.random::<f32>());
            let factor = scale / (variance + 1e-5).sqrt();
            row.mapv_inplace(|_: f32| gain * factor * normal(&mut self.rng));
            *b = shift - mean * factor;
        }
        let name = format!("conv{}", self.layers.len());
        self.layers.push(FoldedLayer::Conv(FoldedConv { name, weight, bias, stride, padding, activation }));
        self.channels = out;
        self.size = (self.size + 2 * padding - k) / stride + 1;
    }

    fn pool(&mut self, size: usize, stride: usize, padding: usize) {
        let name = format!("pool{}", self.layers.len());
        self.layers.push(FoldedLayer::MaxPool(MaxPool { name, size, stride, padding }));
        self.size = (self.size + 2 * padding - size) / stride + 1;
    }

    /// A residual block; its shortcut is a convolution where the shape changes.
    fn block(&mut self, out: usize, stride: usize) {
        let before = std::mem::take(&mut self.layers);
        let (channels, size) = (self.channels, self.size);
        self.conv(out, 3, stride, 1, Activation::Relu);
        self.conv(out, 3, 1, 1, Activation::Identity);
        let mut body = std::mem::replace(&mut self.layers, before);
        let mut shortcut = Vec::new();
        if stride > 1 || channels != out {
            let before = std::mem::take(&mut self.layers);
            (self.channels, self.size) = (channels, size);
            self.conv(out, 1, stride, 0, Activation::Identity);
            shortcut = std::mem::replace(&mut self.layers, before);
        }
        let name = format!("block{}", self.layers.len());
        for (i, layer) in body.iter_mut().chain(&mut shortcut).enumerate() {
            if let FoldedLayer::Conv(conv) = layer {
                conv.name = format!("{name}.conv{i}");
            }
        }
        self.layers.push(FoldedLayer::Residual(FoldedResidual { name, body, shortcut }));
    }

    fn finish(mut self, d: usize) -> FoldedNet {
        let k = self.size;
        self.conv(d, k, 1, 0, Activation::Identity);
        let member = FoldedMember { layers: self.layers, readout: Readout::Flatten, weight: 1.0 };
        FoldedNet { input: self.input, members: vec![member] }
    }
}
