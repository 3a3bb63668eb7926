//! Writes the encoder as ONNX, in f32 and in int8: one input `image`, f32 \[1, channels, height, width\], one output
//! `embedding`, f32 \[1, d\], a unit vector.

mod graph;
mod proto;

use crate::folded::{Activation, FoldedLayer, FoldedNet};
use crate::forward::MIN_NORM;
use graph::{Chain, float, int, ints};

/// The f32 form: Conv, Relu or LeakyRelu, MaxPool. The net is one that [`FoldedNet::check`] lets pass.
pub fn to_onnx_f32(net: &FoldedNet) -> Vec<u8> {
    let mut chain = Chain::new(&net.input);
    for layer in &net.layers {
        match layer {
            FoldedLayer::MaxPool { name, size } => max_pool(&mut chain, name, *size),
            FoldedLayer::Conv(conv) => {
                let (weight, bias) = (format!("{}.weight", conv.name), format!("{}.bias", conv.name));
                chain.floats(&weight, conv.weight.shape(), conv.weight.iter().copied());
                chain.floats(&bias, &[conv.bias.len()], conv.bias.iter().copied());
                let attributes = convolution(conv.weight.shape(), conv.stride, conv.padding);
                chain.node(&conv.name, "Conv", &[&weight, &bias], attributes);
                let after = format!("{}.activation", conv.name);
                match conv.activation {
                    Activation::Identity => {}
                    Activation::Relu => chain.node(&after, "Relu", &[], vec![]),
                    Activation::LeakyRelu(slope) => {
                        chain.node(&after, "LeakyRelu", &[], vec![float("alpha", slope)]);
                    }
                }
            }
        }
    }
    chain.finish(net.embedding_dim(), MIN_NORM)
}

/// A convolution's attributes; `shape` is its weight's, \[out, in, height, width\].
fn convolution(shape: &[usize], stride: usize, padding: usize) -> Vec<graph::Attribute> {
    let kernel: Vec<i64> = shape.iter().skip(2).map(|&k| k as i64).collect();
    vec![
        ints("kernel_shape", &kernel),
        ints("strides", &[stride as i64; 2]),
        ints("pads", &[padding as i64; 4]),
        ints("dilations", &[1, 1]),
        int("group", 1),
    ]
}

fn max_pool(chain: &mut Chain, name: &str, size: usize) {
    let size = [size as i64; 2];
    chain.node(name, "MaxPool", &[], vec![ints("kernel_shape", &size), ints("strides", &size)]);
}
