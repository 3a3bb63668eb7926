//! `edge` and its smaller and larger sisters: made for integer arithmetic on ARM. Plain ReLU, strides instead of pooling, no
//! depthwise convolutions. docs/networks.md has what each costs and brings.

use super::layer::{Layer, Shape};
use crate::folded::Activation::Relu;
use tch::nn;

/// Channels of each stage: multiples of 16, which is how many the device's kernels work on side by side.
pub(super) type Widths = [i64; 5];

/// `edge-s`: 0.03 GFLOP at 128 x 128 x 3.
pub(super) const SMALL: Widths = [16, 16, 32, 64, 96];
/// `edge`, or `edge-m`: 0.10 GFLOP.
pub(super) const MEDIUM: Widths = [16, 32, 64, 128, 192];
/// `edge-l`: 0.32 GFLOP.
pub(super) const LARGE: Widths = [32, 64, 128, 192, 256];

/// For whole images. Each stage halves the side with a 3 x 3 convolution of stride 2; all but the first and the last add a 3 x 3 of stride 1.
/// A 1 x 1 convolution over the map that is left makes the embedding, so that each place of the picture has its share of
/// it; that map is normalised over images and places (no scale, no shift), so that what is alike everywhere cancels and
/// embeddings of like pictures do not collapse. The decoder mirrors it with up-sampling.
pub(super) fn layers(root: &nn::Path, widths: &[i64], dim: i64, side: i64, channels: i64) -> (Vec<Layer>, Vec<Layer>) {
    let last = widths.len() - 1;
    let left = side >> widths.len();
    let keeps: Vec<usize> = (0..=last).map(|stage| usize::from(stage != 0 && stage != last)).collect();
    let encoder = encoder(&(root / "encoder"), widths, &keeps, dim / (left * left), channels);
    let path = root / "decoder";
    let grow = Layer::grow(&path, "grow", Shape::whole(dim, widths[last], left), Relu);
    (encoder, decoder(&path, grow, widths, channels))
}

/// For patches: every place of the last map has an embedding of its own, which sees `receptive_field` pixels or the least
/// more that there is. Each stage halves the side; 3 x 3 convolutions of stride 1 are added to the stages after the first
/// in turn until enough is seen.
pub(super) fn patch_layers(
    root: &nn::Path,
    widths: &[i64],
    dim: i64,
    receptive_field: u32,
    channels: i64,
) -> (Vec<Layer>, Vec<Layer>) {
    let encoder = encoder(&(root / "encoder"), widths, &keeps(widths.len(), receptive_field), dim, channels);
    let path = root / "decoder";
    let spread = Layer::conv_norm(&path, "spread", Shape::same(dim, widths[widths.len() - 1], 3, 1), Relu);
    (encoder, decoder(&path, spread, widths, channels))
}

/// How many 3 x 3 convolutions of stride 1 each of `stages` gets for a place to see `receptive_field` pixels.
fn keeps(stages: usize, receptive_field: u32) -> Vec<usize> {
    let mut keeps = vec![0; stages];
    // A 3 x 3 convolution adds twice the distance of the places it works on.
    let mut field: u64 = 1 + (0..stages).map(|s| 2 << s).sum::<u64>();
    for stage in (1..stages).cycle() {
        if field >= u64::from(receptive_field) {
            break;
        }
        keeps[stage] += 1;
        field += 2 << (stage + 1);
    }
    keeps
}

fn encoder(path: &nn::Path, widths: &[i64], keeps: &[usize], dim: i64, channels: i64) -> Vec<Layer> {
    let mut layers = Vec::new();
    let mut inputs = channels;
    for (stage, (&outputs, &keeps)) in widths.iter().zip(keeps).enumerate() {
        let down = Shape::same(inputs, outputs, 3, 2);
        layers.push(Layer::conv_norm(path, &format!("stage{stage}_down"), down, Relu));
        for keep in 0..keeps {
            let shape = Shape::same(outputs, outputs, 3, 1);
            let number = if keep == 0 { String::new() } else { (keep + 1).to_string() };
            layers.push(Layer::conv_norm(path, &format!("stage{stage}_keep{number}"), shape, Relu));
        }
        inputs = outputs;
    }
    layers.push(Layer::conv_plain_norm(path, "embed", Shape::same(inputs, dim, 1, 1)));
    layers
}

/// `first`, from embeddings to a map of the last stage's size and channels, then a step up for each stage.
fn decoder(decoder_path: &nn::Path, first: Layer, widths: &[i64], channels: i64) -> Vec<Layer> {
    let mut decoder = vec![first];
    for stage in (0..widths.len()).rev() {
        // The last step, at full size, is the costly one: it maps straight to the picture.
        let inputs = widths[stage];
        decoder.push(Layer::Upsample);
        decoder.push(match stage {
            0 => Layer::conv(decoder_path, "image", Shape::same(inputs, channels, 3, 1)),
            _ => {
                let up = Shape::same(inputs, widths[stage - 1], 3, 1);
                Layer::conv_norm(decoder_path, &format!("stage{stage}_up"), up, Relu)
            }
        });
    }
    decoder.push(Layer::Tanh);
    decoder
}

#[cfg(test)]
mod tests {
    use super::keeps;

    #[test]
    fn convolutions_are_added_until_enough_is_seen() {
        assert_eq!(keeps(4, 31), [0, 0, 0, 0]);
        assert_eq!(keeps(4, 32), [0, 1, 0, 0]);
        assert_eq!(keeps(4, 87), [0, 1, 1, 1]);
        assert_eq!(keeps(3, 15), [0, 0, 0]);
        assert_eq!(keeps(3, 60), [0, 2, 2]);
    }
}
