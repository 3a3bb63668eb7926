//! The encoder's int8 form, run in integers from the bytes of a picture on.
//!
//! tract runs a quantized convolution as im2col, matrix product and several passes over the result; on a small device the
//! copying costs more than the products. Here maps are channels last with a border, so that a window's row is a run of
//! bytes that is read where it lies, and all that follows a convolution happens while its sums are in registers.

mod conv;
mod kernel;
mod net;
mod onnx;
mod tensor;

pub use kernel::Path;
pub use net::{Buffers, Net};
pub use onnx::read;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoder::EncoderPlan;
    use crate::support::{floats, int, ints, node, signed, value};
    use fastrand::Rng;
    use prost::Message;
    use salad_shared::manifest::Form;
    use salad_shared::preprocess::InputSpec;
    use tract_onnx::pb;

    const SIDE: i64 = 24;

    /// A quantized graph with each kind of node, under construction.
    struct Graph {
        rng: Rng,
        nodes: Vec<pb::NodeProto>,
        constants: Vec<pb::TensorProto>,
    }

    impl Graph {
        fn new(seed: u64) -> Graph {
            let constants = vec![
                floats("image_step", &[], &[1.0 / 127.0]),
                floats("step", &[], &[0.031_25]),
                floats("sum_step", &[], &[0.046_875]),
                signed("zero", &[], &[0]),
                floats("eps", &[], &[1e-12]),
            ];
            let quantize = node("QuantizeLinear", &["image", "image_step", "zero"], "q", vec![]);
            Graph { rng: Rng::with_seed(seed), nodes: vec![quantize], constants }
        }

        fn node(&mut self, op: &str, input: &[&str], output: &str, attributes: Vec<pb::AttributeProto>) {
            self.nodes.push(node(op, input, output, attributes));
        }

        fn conv(&mut self, input: [&str; 2], output: &str, [out, channels, side, stride]: [i64; 4]) {
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
            let inputs = [input[0], input[1], "zero", w, s, "zero", "step", "zero", b];
            let pads = ints("pads", &[side / 2; 4]);
            self.node(
                "QLinearConv",
                &inputs,
                output,
                vec![ints("kernel_shape", &[side; 2]), ints("strides", &[stride; 2]), pads],
            );
        }

        /// Bytes of the file; the graph's last value is `map`, in floats, and its embeddings `shape`.
        fn finish(mut self, places: bool, shape: [i64; 2], channels: i64) -> Vec<u8> {
            if places {
                self.node("Transpose", &["map"], "rows", vec![ints("perm", &[0, 2, 3, 1])]);
            }
            self.node(
                "Flatten",
                &[if places { "rows" } else { "map" }],
                "z",
                vec![int("axis", if places { 3 } else { 1 })],
            );
            self.node("ReduceL2", &["z"], "l", vec![ints("axes", &[1]), int("keepdims", 1)]);
            self.node("Max", &["l", "eps"], "m", vec![]);
            self.node("Div", &["z", "m"], "embedding", vec![]);
            let graph = pb::GraphProto {
                name: "drawn".into(),
                node: self.nodes,
                initializer: self.constants,
                input: vec![value("image", &[1, channels, SIDE, SIDE])],
                output: vec![value("embedding", &shape)],
                ..Default::default()
            };
            let opset = pb::OperatorSetIdProto { domain: String::new(), version: 14 };
            let opset_import = vec![opset];
            pb::ModelProto { ir_version: 8, graph: Some(graph), opset_import, ..Default::default() }.encode_to_vec()
        }
    }

    /// The last part of each: a map of 8 channels in floats.
    fn with_every_node(seed: u64, channels: i64) -> Graph {
        let mut graph = Graph::new(seed);
        graph.conv(["q", "image_step"], "stem", [12, channels, 3, 1]);
        graph.node("Relu", &["stem"], "stem_relu", vec![]);
        let pool = vec![ints("kernel_shape", &[3, 3]), ints("strides", &[2, 2]), ints("pads", &[1; 4])];
        graph.node("MaxPool", &["stem_relu"], "pool", pool);
        graph.conv(["pool", "step"], "leaky", [20, 12, 3, 2]);
        graph.node("DequantizeLinear", &["leaky", "step", "zero"], "leaky_float", vec![]);
        let mut slope = node("LeakyRelu", &["leaky_float"], "leaked", vec![int("alpha", 0)]);
        slope.attribute[0].f = 0.1001;
        slope.attribute[0].r#type = pb::attribute_proto::AttributeType::Float as i32;
        graph.nodes.push(slope);
        graph.node("QuantizeLinear", &["leaked", "step", "zero"], "entering", vec![]);
        graph.conv(["entering", "step"], "body", [20, 20, 3, 1]);
        graph.node("DequantizeLinear", &["body", "step", "zero"], "body_float", vec![]);
        graph.node("DequantizeLinear", &["entering", "step", "zero"], "shortcut", vec![]);
        graph.node("Add", &["shortcut", "body_float"], "sum", vec![]);
        graph.node("Relu", &["sum"], "sum_relu", vec![]);
        graph.node("QuantizeLinear", &["sum_relu", "sum_step", "zero"], "block", vec![]);
        graph.conv(["block", "sum_step"], "last", [8, 20, 1, 1]);
        graph.node("DequantizeLinear", &["last", "step", "zero"], "map", vec![]);
        graph
    }

    fn encode(plan: &EncoderPlan) -> Vec<f32> {
        let mut rng = Rng::with_seed(7);
        let picture: Vec<u8> = (0..3 * SIDE * SIDE).map(|_| rng.u8(..)).collect();
        let mut embeddings = Vec::new();
        plan.encoder().unwrap().encode(&picture, &mut embeddings).unwrap();
        embeddings
    }

    #[test]
    fn a_quantized_graph_gives_what_tract_makes_of_it() {
        for (seed, places, channels) in [(1, false, 3), (2, true, 3), (3, false, 1)] {
            let shape = if places { [36, 8] } else { [1, 288] };
            let onnx = with_every_node(seed, channels).finish(places, shape.map(|n| n as i64), channels);
            let input = InputSpec { width: SIDE as u32, height: SIDE as u32, channels: channels as u32 };
            let ours = EncoderPlan::new(&onnx, Form::Int8, input.clone(), shape).unwrap();
            let tracts = EncoderPlan::with_tract(&onnx, Form::Int8, input, shape).unwrap();
            assert_eq!((ours.engine(), tracts.engine()), (Path::best().name(), "tract"));
            let (a, b) = (encode(&ours), encode(&tracts));
            let different = a.iter().zip(&b).filter(|(a, b)| (*a - *b).abs() > 1e-6).count();
            assert_eq!((different, a.len()), (0, b.len()), "{a:?} {b:?}");
            assert!(a.iter().filter(|&&v| v != 0.0).count() > a.len() / 4, "{a:?}");
        }
    }

    #[test]
    fn a_graph_with_something_else_in_it_is_left_to_tract() {
        let mut graph = with_every_node(1, 3);
        graph.node("Abs", &["map"], "abs", vec![]);
        graph.nodes.last_mut().unwrap().output = vec!["mapped".into()];
        let bytes = graph.finish(false, [1, 288], 3);
        let mut proto = pb::ModelProto::decode(bytes.as_slice()).unwrap();
        assert!(read(&proto).is_none());
        // The extra node off the path to the output, or a second reader of what a ReLU is folded into.
        let nodes = &mut proto.graph.as_mut().unwrap().node;
        nodes.retain(|n| n.op_type != "Abs");
        assert!(read(&proto).is_some());
        let second = node("Relu", &["stem"], "second", vec![]);
        proto.graph.as_mut().unwrap().node.insert(3, second);
        assert!(read(&proto).is_none());
    }
}
