//! `edge`: small and made for integer arithmetic on ARM. Plain ReLU, strides instead of pooling, no depthwise convolutions.
//! 0.10 GFLOP at 128 x 128 x 3.

use super::layer::{Layer, Shape};
use crate::folded::Activation::Relu;
use tch::nn;

/// Channels of each stage.
pub(super) const WIDTHS: [i64; 5] = [16, 32, 64, 128, 192];

/// Each stage halves the side with a 3 x 3 convolution of stride 2; all but the first and the last add a 3 x 3 of stride 1.
/// A 1 x 1 convolution over the map that is left makes the embedding, so that each place of the picture has its share of
/// it; that map is normalised over images and places (no scale, no shift), so that what is alike everywhere cancels and
/// embeddings of like pictures do not collapse. The decoder mirrors it with up-sampling.
pub(super) fn layers(root: &nn::Path, widths: &[i64], dim: i64, side: i64, channels: i64) -> (Vec<Layer>, Vec<Layer>) {
    let (encoder_path, decoder_path) = (root / "encoder", root / "decoder");
    let last = widths.len() - 1;
    let left = side >> widths.len();
    let mut encoder = Vec::new();
    let mut inputs = channels;
    for (stage, &outputs) in widths.iter().enumerate() {
        let down = Shape::same(inputs, outputs, 3, 2);
        encoder.push(Layer::conv_norm(&encoder_path, &format!("stage{stage}_down"), down, Relu));
        if stage != 0 && stage != last {
            let keep = Shape::same(outputs, outputs, 3, 1);
            encoder.push(Layer::conv_norm(&encoder_path, &format!("stage{stage}_keep"), keep, Relu));
        }
        inputs = outputs;
    }
    let embed = Shape::same(inputs, dim / (left * left), 1, 1);
    encoder.push(Layer::conv_plain_norm(&encoder_path, "embed", embed));

    let grow = Shape::whole(dim, widths[last], left);
    let mut decoder = vec![Layer::grow(&decoder_path, "grow", grow, Relu)];
    for stage in (0..widths.len()).rev() {
        // The last step, at full size, is the costly one: it maps straight to the picture.
        let inputs = widths[stage];
        decoder.push(Layer::Upsample);
        decoder.push(match stage {
            0 => Layer::conv(&decoder_path, "image", Shape::same(inputs, channels, 3, 1)),
            _ => {
                let up = Shape::same(inputs, widths[stage - 1], 3, 1);
                Layer::conv_norm(&decoder_path, &format!("stage{stage}_up"), up, Relu)
            }
        });
    }
    decoder.push(Layer::Tanh);
    (encoder, decoder)
}
