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
    members(&mut chain, &net.members, |chain, name, member| {
        float_layers(chain, &member.layers);
        read_out(chain, name, &member.readout);
        member.weight
    });
    chain.finish(net.vectors(), net.embedding_dim())
}

/// The int8 form: the image is quantized once, then QLinearConv with int8 weights and uint8 values, whose zero point is 128,
/// or 0 after a ReLU, which is the saturation at 0; max pooling on the integers; leaky ReLU and the sum of a residual block
/// between DequantizeLinear and QuantizeLinear (there is no integer form of them in ONNX), and one DequantizeLinear for each
/// member before readout and unit length.
pub fn to_onnx_int8(net: &QuantizedNet) -> Vec<u8> {
    let mut chain = Chain::new(&net.input);
    chain.byte(MIDDLE, 128);
    chain.byte(ZERO, 0);
    chain.int8s(WEIGHT_ZERO, &[], [0]);
    let image = Quantization::new(&mut chain, "image.scale", net.input_scale, Activation::Identity);
    chain.node("image.quantize", "QuantizeLinear", &image.inputs(), vec![]);
    members(&mut chain, &net.members, |chain, name, member| {
        let last = integer_layers(chain, &member.layers, image.clone());
        chain.node(&name("dequantize"), "DequantizeLinear", &last.inputs(), vec![]);
        read_out(chain, name, &member.readout);
        member.weight
    });
    chain.finish(net.vectors(), net.embedding_dim)
}

/// Names of zero points: of values of either sign, of values after a ReLU, and of weights.
const MIDDLE: &str = "middle";
const ZERO: &str = "zero";
const WEIGHT_ZERO: &str = "weight_zero";

/// Name of the least length that vectors are divided by.
const MIN_LENGTH: &str = "min_norm";

/// The names of a value's scale and zero point.
#[derive(Clone)]
struct Quantization {
    scale: String,
    zero: &'static str,
}

impl Quantization {
    /// Adds a scale called `name` for what `after` leaves.
    fn new(chain: &mut Chain, name: &str, scale: f32, after: Activation) -> Quantization {
        chain.floats(name, &[], [scale]);
        Quantization { scale: name.into(), zero: if after == Activation::Relu { ZERO } else { MIDDLE } }
    }

    fn inputs(&self) -> [&str; 2] {
        [&self.scale, self.zero]
    }
}

/// Makes a node's name.
type Name<'a> = &'a dyn Fn(&str) -> String;

/// Adds each member, which takes the newest value there is now, by `add`, which is told how nodes of its own are called and
/// tells the member's weight; then its vectors' unit length, and, of several, their vectors, weighted and one after the other,
/// and the unit length of these.
fn members<M>(chain: &mut Chain, members: &[M], add: impl Fn(&mut Chain, Name, &M) -> f32) {
    chain.floats(MIN_LENGTH, &[], [MIN_NORM]);
    let entering = chain.value.clone();
    let mut vectors = Vec::new();
    for (number, member) in (1..).zip(members) {
        let name = |node: &str| if members.len() == 1 { node.into() } else { format!("member{number}.{node}") };
        chain.value.clone_from(&entering);
        let weight = add(chain, &name, member);
        unit_length(chain, &name);
        if members.len() > 1 && weight != 1.0 {
            chain.floats(&name("weight"), &[], [weight.sqrt()]);
            chain.node(&name("weighted"), "Mul", &[&name("weight")], vec![]);
        }
        vectors.push(chain.value.clone());
    }
    if let [first, others @ ..] = vectors.as_slice()
        && !others.is_empty()
    {
        chain.value.clone_from(first);
        let others: Vec<&str> = others.iter().map(String::as_str).collect();
        chain.node("members", "Concat", &others, vec![int("axis", 1)]);
        unit_length(chain, &str::to_owned);
    }
}

/// Scales the newest value, \[vectors, d\], to vectors of unit length.
fn unit_length(chain: &mut Chain, name: Name) {
    let vectors = chain.value.clone();
    chain.node(&name("length"), "ReduceL2", &[], vec![ints("axes", &[1]), int("keepdims", 1)]);
    chain.node(&name("length_at_least"), "Max", &[MIN_LENGTH], vec![]);
    let length = std::mem::replace(&mut chain.value, vectors);
    chain.node(&name("unit"), "Div", &[&length], vec![]);
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

/// Adds layers whose input is quantized as `entering` says; says how their result is.
fn integer_layers(chain: &mut Chain, layers: &[QuantizedLayer], entering: Quantization) -> Quantization {
    let mut quantization = entering;
    for layer in layers {
        match layer {
            QuantizedLayer::Conv(conv) => quantization = quantized_convolution(chain, conv, &quantization),
            QuantizedLayer::MaxPool(pool) => max_pool(chain, pool),
            QuantizedLayer::Residual(residual) => {
                let name = |part: &str| format!("{}.{part}", residual.name);
                let entering = chain.value.clone();
                let body_result = integer_layers(chain, &residual.body, quantization.clone());
                chain.node(&name("body"), "DequantizeLinear", &body_result.inputs(), vec![]);
                let body = std::mem::replace(&mut chain.value, entering);
                let shortcut = integer_layers(chain, &residual.shortcut, quantization);
                chain.node(&name("shortcut"), "DequantizeLinear", &shortcut.inputs(), vec![]);
                chain.node(&name("add"), "Add", &[&body], vec![]);
                chain.node(&name("activation"), "Relu", &[], vec![]);
                quantization = Quantization::new(chain, &name("scale"), residual.output_scale, Activation::Relu);
                chain.node(&name("quantize"), "QuantizeLinear", &quantization.inputs(), vec![]);
            }
        }
    }
    quantization
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

/// Adds a convolution whose input is quantized as `entering` says; says how its result is.
fn quantized_convolution(chain: &mut Chain, conv: &QuantizedConv, entering: &Quantization) -> Quantization {
    let name = |part: &str| format!("{}.{part}", conv.name);
    let (weight, weight_scale, bias) = (name("weight"), name("weight_scale"), name("bias"));
    chain.int8s(&weight, conv.weight.shape(), conv.weight.iter().copied());
    // A scale for the whole tensor has to be a scalar.
    let scales = if conv.weight_scales.len() == 1 { vec![] } else { vec![conv.weight_scales.len()] };
    chain.floats(&weight_scale, &scales, conv.weight_scales.iter().copied());
    chain.int32s(&bias, &[conv.bias.len()], conv.bias.iter().copied());
    let result = Quantization::new(chain, &name("scale"), conv.output_scale, conv.activation);
    let ([scale, zero], [result_scale, result_zero]) = (entering.inputs(), result.inputs());
    let inputs = [scale, zero, &weight, &weight_scale, WEIGHT_ZERO, result_scale, result_zero, &bias];
    let attributes = convolution_attributes(conv.weight.shape(), conv.stride, conv.padding);
    chain.node(&conv.name, "QLinearConv", &inputs, attributes);
    if let Activation::LeakyRelu(slope) = conv.activation {
        chain.node(&name("dequantize"), "DequantizeLinear", &result.inputs(), vec![]);
        chain.node(&name("activation"), "LeakyRelu", &[], vec![float("alpha", slope)]);
        chain.node(&name("quantize"), "QuantizeLinear", &result.inputs(), vec![]);
    }
    result
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

fn read_out(chain: &mut Chain, name: Name, readout: &Readout) {
    if let Readout::Pooled(linear) = readout {
        chain.node(&name("mean"), "GlobalAveragePool", &[], vec![]);
        convolution(chain, linear);
    }
    let mut batch_axes = 1;
    if let Readout::Places { .. } = readout {
        chain.node(&name("places"), "Transpose", &[], vec![ints("perm", &[0, 2, 3, 1])]);
        batch_axes = 3;
    }
    chain.node(&name("flatten"), "Flatten", &[], vec![int("axis", batch_axes)]);
}

fn max_pool(chain: &mut Chain, pool: &MaxPool) {
    let attributes = vec![
        ints("kernel_shape", &[pool.size as i64; 2]),
        ints("strides", &[pool.stride as i64; 2]),
        ints("pads", &[pool.padding as i64; 4]),
    ];
    chain.node(&pool.name, "MaxPool", &[], attributes);
}
