//! Writes the encoder as ONNX, in f32 and in int8: one input `image`, f32 \[1, channels, height, width\], one output
//! `embedding`, f32 \[P, d\], a unit vector for the image (P = 1) or for each of its places.

mod graph;
mod proto;

use crate::folded::{Activation, FoldedConv, FoldedLayer, FoldedNet, MaxPool, Readout};
use crate::forward::MIN_NORM;
use crate::quantize::{QuantizedConv, QuantizedLayer, QuantizedNet};
use graph::{Chain, float, int, ints};

/// The f32 form: Conv, Relu or LeakyRelu, MaxPool, Add. The net is one that [`FoldedNet::check`] lets pass.
pub fn to_onnx_f32(net: &FoldedNet) -> Vec<u8> {
    let mut chain = Chain::new(&net.input);
    float_layers(&mut chain, &net.layers);
    read_out(&mut chain, &net.readout);
    chain.finish(net.readout.vectors(), net.embedding_dim(), MIN_NORM)
}

/// The int8 form: the image is quantized once, then QLinearConv with symmetric int8 values and scalar zero points of 0,
/// ReLU and max pooling on the int8 tensor, leaky ReLU and the sum of a residual block between DequantizeLinear and
/// QuantizeLinear (there is no integer form of them in ONNX), and one DequantizeLinear before readout and unit length.
pub fn to_onnx_int8(net: &QuantizedNet) -> Vec<u8> {
    let mut chain = Chain::new(&net.input);
    chain.int8s("zero", &[], [0]);
    let scale = "image.scale";
    chain.floats(scale, &[], [net.input_scale]);
    chain.node("image.quantize", "QuantizeLinear", &[scale, "zero"], vec![]);
    let scale = integer_layers(&mut chain, &net.layers, scale);
    chain.node("dequantize", "DequantizeLinear", &[&scale, "zero"], vec![]);
    read_out(&mut chain, &net.readout);
    chain.finish(net.readout.vectors(), net.embedding_dim, MIN_NORM)
}

fn float_layers(chain: &mut Chain, layers: &[FoldedLayer]) {
    for layer in layers {
        match layer {
            FoldedLayer::Conv(conv) => convolution(chain, conv),
            FoldedLayer::MaxPool(pool) => max_pool(chain, pool),
            FoldedLayer::Residual(residual) => {
                let entering = chain.value.clone();
                float_layers(chain, &residual.body);
                let body = std::mem::replace(&mut chain.value, entering);
                float_layers(chain, &residual.shortcut);
                chain.node(&format!("{}.add", residual.name), "Add", &[&body], vec![]);
                chain.node(&format!("{}.activation", residual.name), "Relu", &[], vec![]);
            }
        }
    }
}

/// Adds layers whose input has the scale called `scale`; gives the name of their result's scale.
fn integer_layers(chain: &mut Chain, layers: &[QuantizedLayer], scale: &str) -> String {
    let mut scale = scale.to_owned();
    for layer in layers {
        match layer {
            QuantizedLayer::Conv(conv) => scale = quantized_convolution(chain, conv, &scale),
            QuantizedLayer::MaxPool(pool) => max_pool(chain, pool),
            QuantizedLayer::Residual(residual) => {
                let name = |part: &str| format!("{}.{part}", residual.name);
                let entering = chain.value.clone();
                let body_scale = integer_layers(chain, &residual.body, &scale);
                chain.node(&name("body"), "DequantizeLinear", &[&body_scale, "zero"], vec![]);
                let body = std::mem::replace(&mut chain.value, entering);
                let shortcut_scale = integer_layers(chain, &residual.shortcut, &scale);
                chain.node(&name("shortcut"), "DequantizeLinear", &[&shortcut_scale, "zero"], vec![]);
                chain.node(&name("add"), "Add", &[&body], vec![]);
                chain.node(&name("activation"), "Relu", &[], vec![]);
                scale = name("scale");
                chain.floats(&scale, &[], [residual.output_scale]);
                chain.node(&name("quantize"), "QuantizeLinear", &[&scale, "zero"], vec![]);
            }
        }
    }
    scale
}

fn convolution(chain: &mut Chain, conv: &FoldedConv) {
    let (weight, bias) = (format!("{}.weight", conv.name), format!("{}.bias", conv.name));
    chain.floats(&weight, conv.weight.shape(), conv.weight.iter().copied());
    chain.floats(&bias, &[conv.bias.len()], conv.bias.iter().copied());
    let attributes = convolution_attributes(conv.weight.shape(), conv.stride, conv.padding);
    chain.node(&conv.name, "Conv", &[&weight, &bias], attributes);
    let after = format!("{}.activation", conv.name);
    match conv.activation {
        Activation::Identity => {}
        Activation::Relu => chain.node(&after, "Relu", &[], vec![]),
        Activation::LeakyRelu(slope) => chain.node(&after, "LeakyRelu", &[], vec![float("alpha", slope)]),
    }
}

/// Adds a convolution whose input has the scale called `input_scale`; gives the name of its result's scale.
fn quantized_convolution(chain: &mut Chain, conv: &QuantizedConv, input_scale: &str) -> String {
    let name = |part: &str| format!("{}.{part}", conv.name);
    let (weight, weight_scale, bias, scale) = (name("weight"), name("weight_scale"), name("bias"), name("scale"));
    chain.int8s(&weight, conv.weight.shape(), conv.weight.iter().copied());
    // A scale for the whole tensor has to be a scalar.
    let scales = if conv.weight_scales.len() == 1 { vec![] } else { vec![conv.weight_scales.len()] };
    chain.floats(&weight_scale, &scales, conv.weight_scales.iter().copied());
    chain.int32s(&bias, &[conv.bias.len()], conv.bias.iter().copied());
    chain.floats(&scale, &[], [conv.output_scale]);
    let inputs = [input_scale, "zero", &weight, &weight_scale, "zero", &scale, "zero", &bias];
    let attributes = convolution_attributes(conv.weight.shape(), conv.stride, conv.padding);
    chain.node(&conv.name, "QLinearConv", &inputs, attributes);
    match conv.activation {
        Activation::Identity => {}
        Activation::Relu => chain.node(&name("activation"), "Relu", &[], vec![]),
        Activation::LeakyRelu(slope) => {
            chain.node(&name("dequantize"), "DequantizeLinear", &[&scale, "zero"], vec![]);
            chain.node(&name("activation"), "LeakyRelu", &[], vec![float("alpha", slope)]);
            chain.node(&name("quantize"), "QuantizeLinear", &[&scale, "zero"], vec![]);
        }
    }
    scale
}

/// A convolution's attributes; `shape` is its weight's, \[out, in, height, width\].
fn convolution_attributes(shape: &[usize], stride: usize, padding: usize) -> Vec<graph::Attribute> {
    let kernel: Vec<i64> = shape.iter().skip(2).map(|&k| k as i64).collect();
    vec![
        ints("kernel_shape", &kernel),
        ints("strides", &[stride as i64; 2]),
        ints("pads", &[padding as i64; 4]),
        ints("dilations", &[1, 1]),
        int("group", 1),
    ]
}

fn read_out(chain: &mut Chain, readout: &Readout) {
    if let Readout::Pooled(linear) = readout {
        chain.node("mean", "GlobalAveragePool", &[], vec![]);
        convolution(chain, linear);
    }
    let mut batch_axes = 1;
    if let Readout::Places { .. } = readout {
        chain.node("places", "Transpose", &[], vec![ints("perm", &[0, 2, 3, 1])]);
        batch_axes = 3;
    }
    chain.node("flatten", "Flatten", &[], vec![int("axis", batch_axes)]);
}

fn max_pool(chain: &mut Chain, pool: &MaxPool) {
    let attributes = vec![
        ints("kernel_shape", &[pool.size as i64; 2]),
        ints("strides", &[pool.stride as i64; 2]),
        ints("pads", &[pool.padding as i64; 4]),
    ];
    chain.node(&pool.name, "MaxPool", &[], attributes);
}
