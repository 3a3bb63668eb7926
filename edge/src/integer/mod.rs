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
    use crate::support::quantized::{SIDE, shape_of_every_node, with_every_node};
    use crate::support::{int, ints, node};
    use fastrand::Rng;
    use prost::Message;
    use salad_shared::manifest::Form;
    use salad_shared::preprocess::InputSpec;
    use tract_onnx::pb;

    const INPUT: InputSpec = InputSpec { width: SIDE as u32, height: SIDE as u32, channels: 3 };

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
            let shape = shape_of_every_node(places);
            let onnx = with_every_node(seed, channels, places).finish(shape, channels);
            let shape = shape.map(|n| n as usize);
            let input = InputSpec { channels: channels as u32, ..INPUT };
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
        let mut graph = with_every_node(1, 3, false);
        graph.node("Abs", &["first_map"], "mapped", vec![]);
        let bytes = graph.finish(shape_of_every_node(false), 3);
        let mut proto = pb::ModelProto::decode(bytes.as_slice()).unwrap();
        assert!(read(&proto, &INPUT).is_none());
        // The extra node taken away, or a second reader of what a leaky ReLU is folded into.
        let nodes = &mut proto.graph.as_mut().unwrap().node;
        nodes.retain(|n| n.op_type != "Abs");
        assert!(read(&proto, &INPUT).is_some());
        let second = node("MaxPool", &["leaky"], "second", vec![ints("kernel_shape", &[1, 1])]);
        proto.graph.as_mut().unwrap().node.insert(5, second);
        assert!(read(&proto, &INPUT).is_none());
    }

    #[test]
    fn members_that_are_put_together_in_another_way_are_left_to_tract() {
        let with = |change: &dyn Fn(&mut Vec<pb::NodeProto>)| {
            let mut graph = with_every_node(1, 3, false);
            change(&mut graph.nodes);
            read(&pb::ModelProto::decode(graph.finish(shape_of_every_node(false), 3).as_slice()).unwrap(), &INPUT)
        };
        let concat = |change: &'static dyn Fn(&mut Vec<String>)| {
            with(&move |nodes| change(&mut nodes.iter_mut().find(|n| n.op_type == "Concat").unwrap().input))
        };
        let mut spec = with(&|_| ()).unwrap();
        assert!(concat(&|input| input.swap(0, 1)).is_none());
        assert!(concat(&|input| input.truncate(1)).is_none());
        assert!(concat(&|input| input.push("first".into())).is_none());
        assert!(concat(&|input| *input = vec!["first_map".into(), "second_map".into()]).is_none());
        // A result that is not among them, and another least length.
        assert!(with(&|nodes| nodes.push(node("Flatten", &["first_map"], "z", vec![int("axis", 1)]))).is_none());
        let least = |nodes: &mut Vec<pb::NodeProto>| {
            nodes.iter_mut().find(|n| n.op_type == "Max").unwrap().input[1] = "step".into();
        };
        assert!(with(&least).is_none());
        // One embedding beside one for each place.
        assert!(Net::new(&spec, Path::Portable).is_some());
        spec.results[0].readout = net::Readout::Places;
        assert!(Net::new(&spec, Path::Portable).is_none());
    }

    #[test]
    fn an_attribute_or_a_domain_that_is_not_looked_at_is_left_to_tract() {
        let onnx = with_every_node(1, 3, false).finish(shape_of_every_node(false), 3);
        let whole = pb::ModelProto::decode(onnx.as_slice()).unwrap();
        let with = |change: &dyn Fn(&mut pb::NodeProto)| {
            let mut proto = whole.clone();
            change(&mut proto.graph.as_mut().unwrap().node[1]);
            read(&proto, &INPUT).is_some()
        };
        let named = |name: &str, text: &str| {
            let attribute = pb::AttributeProto { s: text.as_bytes().to_vec(), ..ints(name, &[]) };
            with(&move |node| node.attribute.push(attribute.clone()))
        };
        assert!(named("auto_pad", "NOTSET"));
        assert!(!named("auto_pad", "SAME_UPPER"));
        assert!(!named("activation", "Relu"));
        assert!(!with(&|node| node.domain = "com.example".into()));
    }

    #[test]
    fn groups_of_several_channels_are_left_to_tract() {
        let onnx = with_every_node(1, 3, false).finish(shape_of_every_node(false), 3);
        let whole = pb::ModelProto::decode(onnx.as_slice()).unwrap();
        for (output, groups) in [("each", 6), ("each", 0), ("each", -1), ("body", 20), ("body", 2)] {
            let mut proto = whole.clone();
            let node = proto.graph.as_mut().unwrap().node.iter_mut().find(|n| n.output == [output]).unwrap();
            node.attribute.iter_mut().find(|a| a.name == "group").unwrap().i = groups;
            assert!(read(&proto, &INPUT).is_none(), "{output}: {groups}");
        }
    }
}
