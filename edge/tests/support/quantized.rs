//! Quantized encoders as the trainer writes them, with drawn weights.

use super::{byte, floats, int, ints, model, node, signed, unit_length};
use fastrand::Rng;
use tract_onnx::pb;

/// Both sides of the picture, pixels, unless said otherwise.
pub const SIDE: i64 = 24;

/// A quantized graph with each kind of node, under construction.
pub struct Graph {
    rng: Rng,
    /// Both sides of the picture, pixels.
    pub side: i64,
    /// So far.
    pub nodes: Vec<pb::NodeProto>,
    constants: Vec<pb::TensorProto>,
}

impl Graph {
    /// Begins with the picture's quantization, `q` in steps of `image_step`.
    pub fn new(seed: u64) -> Graph {
        let constants = vec![
            floats("image_step", &[], &[1.0 / 127.0]),
            floats("step", &[], &[0.031_25]),
            floats("sum_step", &[], &[0.046_875]),
            byte("zero", 0),
            byte("middle", 128),
            signed("weight_zero", &[], &[0]),
            floats("eps", &[], &[1e-12]),
        ];
        let quantize = node("QuantizeLinear", &["image", "image_step", "middle"], "q", vec![]);
        Graph { rng: Rng::with_seed(seed), side: SIDE, nodes: vec![quantize], constants }
    }

    /// Adds a node.
    pub fn node(&mut self, op: &str, input: &[&str], output: &str, attributes: Vec<pb::AttributeProto>) {
        self.nodes.push(node(op, input, output, attributes));
    }

    /// Adds a quantized convolution with padding of half its side, of `input`: a value, and the names of its step and its zero
    /// point; the result has the step `step` and the zero point `zero`.
    pub fn conv(&mut self, input: [&str; 3], output: (&str, &str), shape: [i64; 4]) {
        self.weighted(input, output, shape, 1);
    }

    /// The same, depthwise: each channel by itself.
    pub fn depthwise(&mut self, input: [&str; 3], output: (&str, &str), [channels, side, stride]: [i64; 3]) {
        self.weighted(input, output, [channels, 1, side, stride], channels);
    }

    fn weighted(
        &mut self,
        input: [&str; 3],
        (output, zero): (&str, &str),
        [out, channels, side, stride]: [i64; 4],
        groups: i64,
    ) {
        let names = ["w", "s", "b"].map(|part| format!("{output}.{part}"));
        let terms = channels * side * side;
        let weights: Vec<i8> = (0..out * terms).map(|_| self.rng.i8(-127..=127)).collect();
        // Powers of two, so that every runtime computes the same multiplier.
        let steps: Vec<f32> =
            (0..out).map(|_| 2.0_f32.powi(-6 - self.rng.i32(0..2) - terms.ilog2() as i32 / 2)).collect();
        let bias: Vec<u8> = (0..out).flat_map(|_| self.rng.i32(-2000..2000).to_le_bytes()).collect();
        self.constants.push(signed(&names[0], &[out, channels, side, side], &weights));
        self.constants.push(floats(&names[1], &[out], &steps));
        self.constants.push(pb::TensorProto {
            name: names[2].clone(),
            dims: vec![out],
            data_type: pb::tensor_proto::DataType::Int32 as i32,
            raw_data: bias,
            ..Default::default()
        });
        let [w, s, b] = names.each_ref().map(String::as_str);
        let inputs = [input[0], input[1], input[2], w, s, "weight_zero", "step", zero, b];
        let pads = ints("pads", &[side / 2; 4]);
        self.node(
            "QLinearConv",
            &inputs,
            output,
            vec![ints("kernel_shape", &[side; 2]), ints("strides", &[stride; 2]), pads, int("group", groups)],
        );
    }

    /// Adds the embeddings of unit length of a map in floats, one or one a place, called `output`.
    pub fn read_out(&mut self, map: &str, output: &str, places: bool) {
        let [rows, flat] = ["rows", "flat"].map(|part| format!("{output}.{part}"));
        if places {
            self.node("Transpose", &[map], &rows, vec![ints("perm", &[0, 2, 3, 1])]);
        }
        let (from, axis) = if places { (rows.as_str(), 3) } else { (map, 1) };
        self.node("Flatten", &[from], &flat, vec![int("axis", axis)]);
        self.nodes.extend(unit_length(&flat, output));
    }

    /// The same of a map's means, after a linear map of its `channels` to `dim` values.
    pub fn read_out_means(&mut self, map: &str, output: &str, [dim, channels]: [i64; 2]) {
        let [means, linear, w, b] = ["means", "linear", "w", "b"].map(|part| format!("{output}.{part}"));
        let mut drawn = |n| (0..n).map(|_| self.rng.f32() - 0.5).collect::<Vec<_>>();
        let (weights, bias) = (drawn(dim * channels), drawn(dim));
        self.constants.push(floats(&w, &[dim, channels, 1, 1], &weights));
        self.constants.push(floats(&b, &[dim], &bias));
        self.node("GlobalAveragePool", &[map], &means, vec![]);
        self.node("Conv", &[&means, &w, &b], &linear, vec![ints("kernel_shape", &[1, 1])]);
        self.read_out(&linear, output, false);
    }

    /// Bytes of the file, whose last value is `embedding`, of this shape.
    pub fn finish(self, shape: [i64; 2], channels: i64) -> Vec<u8> {
        model(self.nodes, self.constants, [1, channels, self.side, self.side], shape)
    }
}

/// The shape of the embeddings of [`with_every_node`].
pub fn shape_of_every_node(places: bool) -> [i64; 2] {
    if places { [36, 8 + 4] } else { [1, 8 * 36 + 10] }
}

/// A graph with each kind of node that is known, of two members: a map of 8 channels and 6 x 6 places, whole or place by
/// place, and one of 4, by its means or place by place.
pub fn with_every_node(seed: u64, channels: i64, places: bool) -> Graph {
    let mut graph = Graph::new(seed);
    graph.conv(["q", "image_step", "middle"], ("stem", "zero"), [12, channels, 3, 1]);
    let pool = vec![ints("kernel_shape", &[3, 3]), ints("strides", &[2, 2]), ints("pads", &[1; 4])];
    graph.node("MaxPool", &["stem"], "pool", pool);
    graph.depthwise(["pool", "step", "zero"], ("each", "zero"), [12, 5, 1]);
    graph.conv(["each", "step", "zero"], ("leaky", "middle"), [20, 12, 3, 2]);
    graph.node("DequantizeLinear", &["leaky", "step", "middle"], "leaky_float", vec![]);
    let mut slope = node("LeakyRelu", &["leaky_float"], "leaked", vec![int("alpha", 0)]);
    slope.attribute[0].f = 0.1001;
    slope.attribute[0].r#type = pb::attribute_proto::AttributeType::Float as i32;
    graph.nodes.push(slope);
    graph.node("QuantizeLinear", &["leaked", "step", "middle"], "entering", vec![]);
    graph.depthwise(["entering", "step", "middle"], ("branch", "middle"), [20, 3, 1]);
    graph.conv(["branch", "step", "middle"], ("body", "middle"), [20, 20, 3, 1]);
    graph.node("DequantizeLinear", &["body", "step", "middle"], "body_float", vec![]);
    graph.node("DequantizeLinear", &["entering", "step", "middle"], "shortcut", vec![]);
    graph.node("Add", &["shortcut", "body_float"], "sum", vec![]);
    graph.node("Relu", &["sum"], "sum_relu", vec![]);
    graph.node("QuantizeLinear", &["sum_relu", "sum_step", "zero"], "block", vec![]);
    graph.conv(["block", "sum_step", "zero"], ("last", "middle"), [8, 20, 1, 1]);
    graph.node("DequantizeLinear", &["last", "step", "middle"], "first_map", vec![]);
    graph.conv(["q", "image_step", "middle"], ("second_stem", "zero"), [5, channels, 3, 2]);
    graph.conv(["second_stem", "step", "zero"], ("second", "middle"), [4, 5, 3, 2]);
    graph.node("DequantizeLinear", &["second", "step", "middle"], "second_map", vec![]);
    graph.read_out("first_map", "first", places);
    if places {
        graph.read_out("second_map", "second_rows", true);
    } else {
        graph.read_out_means("second_map", "second_rows", [10, 4]);
    }
    graph.node("Mul", &["second_rows", "sum_step"], "weighted", vec![]);
    graph.node("Concat", &["first", "weighted"], "both", vec![int("axis", 1)]);
    graph.nodes.extend(unit_length("both", "embedding"));
    graph
}
