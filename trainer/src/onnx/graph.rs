//! Builds a graph that is a chain: each node takes the value of the one before it. A branch is a value kept aside, from
//! which the chain goes on, or which a later node takes too.

pub(crate) use super::proto::AttributeProto as Attribute;
use super::proto::*;
use prost::Message;
use salad_shared::preprocess::InputSpec;

/// The file format's version and the operator set: the newest that onnx.checker, onnxruntime and tract 0.23.9 were seen
/// to take together. From 18 on ReduceL2 takes its axes another way.
const IR_VERSION: i64 = 8;
const OPSET: i64 = 15;

/// A chain under construction.
pub(crate) struct Chain {
    graph: GraphProto,
    /// The name of the newest value; set to go on from an earlier one.
    pub(crate) value: String,
}

impl Chain {
    /// A chain that starts at the input `image`, f32 \[1, channels, height, width\].
    pub(crate) fn new(input: &InputSpec) -> Chain {
        let dims = [1, i64::from(input.channels), i64::from(input.height), i64::from(input.width)];
        let graph =
            GraphProto { name: "encoder".into(), input: vec![value_info("image", &dims)], ..Default::default() };
        Chain { graph, value: "image".into() }
    }

    /// Adds a node called `name` that takes the newest value and then `others`, constants or earlier values; its output is
    /// the newest value now.
    pub(crate) fn node(&mut self, name: &str, op: &str, others: &[&str], attribute: Vec<AttributeProto>) {
        let mut input = vec![self.value.clone()];
        input.extend(others.iter().map(|&o| o.to_owned()));
        self.value = format!("{name}.out");
        self.graph.node.push(NodeProto {
            input,
            output: vec![self.value.clone()],
            name: name.into(),
            op_type: op.into(),
            attribute,
        });
    }

    /// Adds f32 constants; no dimensions make a scalar.
    pub(crate) fn floats(&mut self, name: &str, dims: &[usize], values: impl IntoIterator<Item = f32>) {
        self.constant(name, dims, FLOAT, values.into_iter().flat_map(f32::to_le_bytes).collect());
    }

    /// Adds a uint8 scalar.
    pub(crate) fn byte(&mut self, name: &str, value: u8) {
        self.constant(name, &[], UINT8, vec![value]);
    }

    /// Adds int8 constants.
    pub(crate) fn int8s(&mut self, name: &str, dims: &[usize], values: impl IntoIterator<Item = i8>) {
        self.constant(name, dims, INT8, values.into_iter().flat_map(i8::to_le_bytes).collect());
    }

    /// Adds int32 constants.
    pub(crate) fn int32s(&mut self, name: &str, dims: &[usize], values: impl IntoIterator<Item = i32>) {
        self.constant(name, dims, INT32, values.into_iter().flat_map(i32::to_le_bytes).collect());
    }

    /// Calls the newest value, \[vectors, d\], `embedding`, and gives the file's bytes.
    pub(crate) fn finish(mut self, vectors: usize, embedding_dim: usize) -> Vec<u8> {
        if let Some(last) = self.graph.node.last_mut() {
            last.output = vec!["embedding".into()];
        }
        self.graph.output.push(value_info("embedding", &[vectors as i64, embedding_dim as i64]));
        let (name, version) = (env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"));
        let property = |key: &str, value: &str| StringStringEntryProto { key: key.into(), value: value.into() };
        ModelProto {
            ir_version: IR_VERSION,
            producer_name: name.into(),
            producer_version: version.into(),
            graph: Some(self.graph),
            opset_import: vec![OperatorSetIdProto { domain: String::new(), version: OPSET }],
            metadata_props: vec![property("producer", name), property("version", version)],
        }
        .encode_to_vec()
    }

    fn constant(&mut self, name: &str, dims: &[usize], data_type: i32, raw_data: Vec<u8>) {
        let dims = dims.iter().map(|&d| d as i64).collect();
        self.graph.initializer.push(TensorProto { dims, data_type, name: name.into(), raw_data });
    }
}

/// An integer attribute.
pub(crate) fn int(name: &str, value: i64) -> AttributeProto {
    AttributeProto { name: name.into(), i: value, r#type: ATTRIBUTE_INT, ..Default::default() }
}

/// A list of integers.
pub(crate) fn ints(name: &str, values: &[i64]) -> AttributeProto {
    AttributeProto { name: name.into(), ints: values.to_vec(), r#type: ATTRIBUTE_INTS, ..Default::default() }
}

/// A float attribute.
pub(crate) fn float(name: &str, value: f32) -> AttributeProto {
    AttributeProto { name: name.into(), f: value, r#type: ATTRIBUTE_FLOAT, ..Default::default() }
}

/// An f32 tensor of fixed shape.
fn value_info(name: &str, dims: &[i64]) -> ValueInfoProto {
    let dim = dims.iter().map(|&d| DimensionProto { dim_value: Some(d) }).collect();
    let tensor_type = TensorTypeProto { elem_type: FLOAT, shape: Some(TensorShapeProto { dim }) };
    ValueInfoProto { name: name.into(), r#type: Some(TypeProto { tensor_type: Some(tensor_type) }) }
}
