//! `unet`: the paper's network (METHOD "Official encoder"). No skip connections: everything passes through the embedding.

use super::layer::{Layer, Shape};
use crate::folded::Activation::{Identity, LeakyRelu};
use crate::folded::MaxPool;
use tch::nn;

/// Channels of each block.
pub(super) const WIDTHS: [i64; 7] = [16, 32, 64, 128, 256, 512, 1024];

/// Slope of the leaky ReLU.
const SLOPE: f32 = 0.1;

/// Blocks of two 3 x 3 convolutions with max pooling between them, then a convolution over what is left to the embedding;
/// the decoder goes back by bilinear up-sampling, a 1 x 1 convolution to the next block's channels, and a block.
pub(super) fn layers(root: &nn::Path, widths: &[i64], dim: i64, side: i64, channels: i64) -> (Vec<Layer>, Vec<Layer>) {
    let (encoder_path, decoder_path) = (root / "encoder", root / "decoder");
    let last = widths.len() - 1;
    let left = side >> last;
    let mut encoder = Vec::new();
    let mut inputs = channels;
    for (i, &outputs) in widths.iter().enumerate() {
        if i > 0 {
            encoder.push(Layer::MaxPool(MaxPool { name: format!("pool{i}"), size: 2, stride: 2, padding: 0 }));
        }
        block(&mut encoder, &encoder_path, &format!("block{i}"), inputs, outputs);
        inputs = outputs;
    }
    encoder.push(Layer::conv(&encoder_path, "embed", Shape::whole(inputs, dim, left)));

    let grow = Shape::whole(dim, widths[last], left);
    let mut decoder = vec![Layer::grow(&decoder_path, "grow", grow, LeakyRelu(SLOPE))];
    for i in (0..last).rev() {
        let halve = Shape::same(widths[i + 1], widths[i], 1, 1);
        decoder.push(Layer::Upsample);
        decoder.push(Layer::conv_norm(&decoder_path, &format!("halve{i}"), halve, Identity));
        block(&mut decoder, &decoder_path, &format!("block{i}"), widths[i], widths[i]);
    }
    let image = Shape::same(widths[0], channels, 1, 1);
    decoder.push(Layer::conv(&decoder_path, "image", image));
    decoder.push(Layer::Tanh);
    (encoder, decoder)
}

fn block(layers: &mut Vec<Layer>, path: &nn::Path, name: &str, inputs: i64, outputs: i64) {
    for (i, inputs) in [inputs, outputs].into_iter().enumerate() {
        let shape = Shape::same(inputs, outputs, 3, 1);
        layers.push(Layer::conv_norm(path, &format!("{name}_{i}"), shape, LeakyRelu(SLOPE)));
    }
}
