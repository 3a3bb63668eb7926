//! `resnet18` (He et al. 2016, arXiv 1512.03385): four stages of two residual blocks, ReLU, global average pooling. Its
//! variables are named as torchvision names them, so that weights trained elsewhere can be taken over. 1.1 GFLOP at
//! 32 x 32 x 3 with the CIFAR stem, 3.6 at 224 x 224 x 3 with the ImageNet stem.

use super::layer::{Layer, Shape};
use crate::folded::Activation::{Identity, Relu};
use crate::folded::MaxPool;
use tch::nn;

/// Channels of each stage.
pub(super) const WIDTHS: [i64; 4] = [64, 128, 256, 512];

/// What comes before the first stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stem {
    /// A 3 x 3 convolution of stride 1.
    Cifar,
    /// A 7 x 7 convolution of stride 2, and 3 x 3 max pooling of stride 2.
    Imagenet,
}

impl Stem {
    /// How often the encoder halves the side: here, and in each stage but the first.
    pub(super) fn halvings(self) -> usize {
        match self {
            Stem::Cifar => 3,
            Stem::Imagenet => 5,
        }
    }
}

/// The stem, the stages, the mean over all places, and a linear layer (a 1 x 1 convolution) to the embedding. Embeddings are
/// normalised over the batch without scale or shift, much as `edge` does it: then they cannot all be one vector, which is
/// what pictures that are alike would otherwise come to. The decoder mirrors the stages with up-sampling.
pub(super) fn layers(
    root: &nn::Path,
    stem: Stem,
    widths: &[i64],
    dim: i64,
    side: i64,
    channels: i64,
) -> (Vec<Layer>, Vec<Layer>) {
    let path = root / "encoder";
    let first = widths[0];
    let into = match stem {
        Stem::Cifar => Shape::same(channels, first, 3, 1),
        Stem::Imagenet => Shape::same(channels, first, 7, 2),
    };
    let mut encoder = vec![Layer::conv_norm_at(&(&path / "conv1"), &(&path / "bn1"), "conv1", into, Relu)];
    if stem == Stem::Imagenet {
        encoder.push(Layer::MaxPool(MaxPool { name: "maxpool".into(), size: 3, stride: 2, padding: 1 }));
    }
    let mut inputs = first;
    for (stage, &outputs) in widths.iter().enumerate() {
        for position in 0..2 {
            let stride = if stage > 0 && position == 0 { 2 } else { 1 };
            encoder.push(block(&path, stage + 1, position, inputs, outputs, stride));
            inputs = outputs;
        }
    }
    encoder.push(Layer::Mean);
    encoder.push(Layer::conv_plain_norm(&path, "embed", Shape::same(inputs, dim, 1, 1)));
    (encoder, decoder(&(root / "decoder"), stem, widths, dim, side, channels))
}

/// Two 3 x 3 convolutions beside the input, or beside a 1 x 1 convolution of it where the shape changes.
fn block(path: &nn::Path, stage: usize, position: usize, inputs: i64, outputs: i64, stride: i64) -> Layer {
    let name = format!("layer{stage}.{position}");
    let path = path / format!("layer{stage}") / position;
    let conv = |number: usize, shape: Shape, activation| {
        let (conv, norm) = (&path / format!("conv{number}"), &path / format!("bn{number}"));
        Layer::conv_norm_at(&conv, &norm, &format!("{name}.conv{number}"), shape, activation)
    };
    let body = vec![
        conv(1, Shape::same(inputs, outputs, 3, stride), Relu),
        conv(2, Shape::same(outputs, outputs, 3, 1), Identity),
    ];
    let shortcut = if (inputs, stride) == (outputs, 1) {
        Vec::new()
    } else {
        let down = &path / "downsample";
        let shape = Shape::same(inputs, outputs, 1, stride);
        vec![Layer::conv_norm_at(&(&down / 0), &(&down / 1), &format!("{name}.downsample"), shape, Identity)]
    };
    Layer::Residual { name, body, shortcut }
}

/// A step up for each of the encoder's halvings, then the picture. With the ImageNet stem the last step, at full size, maps
/// straight to the picture: it is the costly one.
fn decoder(path: &nn::Path, stem: Stem, widths: &[i64], dim: i64, side: i64, channels: i64) -> Vec<Layer> {
    let mut outputs: Vec<i64> = widths.iter().rev().copied().collect();
    if stem == Stem::Imagenet {
        outputs.push((widths[0] / 2).max(1));
    }
    let left = side >> stem.halvings();
    let mut decoder = vec![Layer::grow(path, "grow", Shape::whole(dim, outputs[0], left), Relu)];
    for (step, pair) in outputs.windows(2).enumerate() {
        decoder.push(Layer::Upsample);
        decoder.push(Layer::conv_norm(path, &format!("up{step}"), Shape::same(pair[0], pair[1], 3, 1), Relu));
    }
    if stem == Stem::Imagenet {
        decoder.push(Layer::Upsample);
    }
    decoder.push(Layer::conv(path, "image", Shape::same(outputs[outputs.len() - 1], channels, 3, 1)));
    decoder.push(Layer::Tanh);
    decoder
}
