//! `edge`: small and made for integer arithmetic on ARM. Plain ReLU, strides instead of pooling, no depthwise convolutions.
//! 0.10 GFLOP at 128 x 128 x 3.

use super::layer::{Layer, Shape};
use crate::folded::Activation::{Identity, Relu};
use tch::nn;

/// Channels of each stage.
pub(super) const WIDTHS: [i64; 5] = [16, 32, 64, 128, 192];

/// Each stage halves the side with a 3 x 3 convolution of stride 2; all but the first and the last add a 3 x 3 of stride 1.
/// A convolution over what is left gives the embedding. The decoder mirrors it with up-sampling.
pub(super) fn layers(root: &nn::Path, widths: &[i64], dim: i64, side: i64, channels: i64) -> (Vec<Layer>, Vec<Layer>) {
    let (encoder_path, decoder_path) = (root / "encoder", root / "decoder");
    let last = widths.len() - 1;
    let left = side >> widths.len();
    let mut encoder = Vec::new();
    let mut inputs = channels;
    for (stage, &outputs) in widths.iter().enumerate() {
        let down = Shape { inputs, outputs, kernel: 3, stride: 2 };
        encoder.push(Layer::conv_norm(&encoder_path, &format!("stage{stage}_down"), down, Relu));
        if stage != 0 && stage != last {
            let keep = Shape { inputs: outputs, outputs, kernel: 3, stride: 1 };
            encoder.push(Layer::conv_norm(&encoder_path, &format!("stage{stage}_keep"), keep, Relu));
        }
        inputs = outputs;
    }
    encoder.push(Layer::conv_norm(&encoder_path, "embed", Shape { inputs, outputs: dim, kernel: left, stride: 1 }, Identity));

    let grow = Shape { inputs: dim, outputs: widths[last], kernel: left, stride: 1 };
    let mut decoder = vec![Layer::grow(&decoder_path, "grow", grow, Relu)];
    for stage in (0..widths.len()).rev() {
        // The last step, at full size, is the costly one: it maps straight to the picture.
        let inputs = widths[stage];
        decoder.push(Layer::Upsample);
        decoder.push(match stage {
            0 => Layer::conv(&decoder_path, "image", Shape { inputs, outputs: channels, kernel: 3, stride: 1 }),
            _ => {
                let up = Shape { inputs, outputs: widths[stage - 1], kernel: 3, stride: 1 };
                Layer::conv_norm(&decoder_path, &format!("stage{stage}_up"), up, Relu)
            }
        });
    }
    decoder.push(Layer::Tanh);
    (encoder, decoder)
}
