//! Reads a quantized encoder from its ONNX graph.
//!
//! What is known: uint8 with a zero point of 128, or of 0 after a ReLU; QuantizeLinear of the picture; QLinearConv with int8
//! weights, dense or depthwise; LeakyRelu between DequantizeLinear and QuantizeLinear of one scale; MaxPool; DequantizeLinear of
//! two maps, Add, Relu, QuantizeLinear. After the last DequantizeLinear: Flatten of the map, of its places, or of its mean and a
//! 1 x 1 convolution; ReduceL2, Max and Div to unit length. An ensemble has all this once for each member, whose embeddings, some
//! multiplied by a weight, Concat puts one after the other, to be scaled to unit length again. A graph with anything else in it is
//! left to tract.

use super::conv::{Activation, ConvSpec};
use super::net::{AddSpec, NetSpec, PoolSpec, Readout, ResultSpec, StepSpec};
use super::tensor::Range;
use salad_shared::preprocess::InputSpec;
use std::collections::HashMap;
use tract_onnx::pb;

/// The encoder in a graph, whose one input is as `input` says; `None` where there is anything in it that is not known here.
pub fn read(model: &pb::ModelProto, input: &InputSpec) -> Option<NetSpec> {
    let graph = model.graph.as_ref()?;
    graph.node.iter().all(is_known).then_some(())?;
    let mut reader = Reader::new(graph, input)?;
    for node in &graph.node {
        reader.take(node)?;
    }
    let [output] = graph.output.as_slice() else { return None };
    (reader.values.get(&output.name)? == &Value::Unit(reader.whole()?)).then_some(reader.spec)
}

/// Members of an ensemble at most.
const MAX_RESULTS: usize = 16;

/// Whether a node is one of ONNX's own operators with none but attributes that are looked at here, or that say nothing.
fn is_known(node: &pb::NodeProto) -> bool {
    const LOOKED_AT: [&str; 12] = [
        "alpha",
        "axes",
        "axis",
        "ceil_mode",
        "dilations",
        "group",
        "keepdims",
        "kernel_shape",
        "pads",
        "perm",
        "storage_order",
        "strides",
    ];
    ["", "ai.onnx"].contains(&node.domain.as_str())
        && node.attribute.iter().all(|attribute| {
            LOOKED_AT.contains(&attribute.name.as_str()) || attribute.name == "auto_pad" && attribute.s == b"NOTSET"
        })
}

/// How a map's integers are to be read.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Quantization {
    /// What one step is worth.
    scale: f32,
    range: Range,
}

/// What a name stands for: maps by their number.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Value {
    /// The picture.
    Picture,
    /// Integers.
    Int(usize, Quantization),
    /// The same in floats.
    Float(usize, Quantization),
    /// A leaky ReLU of that, with its slope.
    Leaky(usize, Quantization, f32),
    /// The sum of two maps, with what their steps are worth, and whether a ReLU follows.
    Sum([usize; 2], [f32; 2], bool),
    /// A map's values place by place.
    Places(usize, Quantization),
    /// The means of a map's channels.
    Means(usize, Quantization),
    /// A linear map of those, a result by its number.
    Linear(usize),
    /// Embeddings.
    Vectors(Of),
    /// Their lengths.
    Lengths(Of),
    /// Their lengths, where they are above the least.
    AtLeast(Of),
    /// Embeddings of unit length.
    Unit(Of),
    /// A result's, times its weight.
    Weighted(usize),
}

/// Whose embeddings these are.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Of {
    /// A result's, by its number.
    Result(usize),
    /// Those of so many results, all there were, one after the other.
    All(usize),
}

struct Reader<'a> {
    constants: HashMap<&'a str, &'a pb::TensorProto>,
    /// How often each name is read.
    readers: HashMap<&'a str, usize>,
    values: HashMap<String, Value>,
    spec: NetSpec,
}

impl<'a> Reader<'a> {
    fn new(graph: &'a pb::GraphProto, input: &InputSpec) -> Option<Reader<'a>> {
        let constants: HashMap<_, _> = graph.initializer.iter().map(|t| (t.name.as_str(), t)).collect();
        let mut readers = HashMap::new();
        let names = graph.node.iter().flat_map(|n| &n.input).chain(graph.output.iter().map(|o| &o.name));
        names.for_each(|name| *readers.entry(name.as_str()).or_default() += 1);
        let picture = graph.input.iter().find(|i| !constants.contains_key(i.name.as_str()))?;
        let (size, channels) = ([input.height as usize, input.width as usize], input.channels as usize);
        let (steps, results, min_norm) = (Vec::new(), Vec::new(), 0.0);
        let spec = NetSpec { size, channels, scale: 0.0, steps, results, min_norm };
        let values = HashMap::from([(picture.name.clone(), Value::Picture)]);
        Some(Reader { constants, readers, values, spec })
    }

    /// Reads a node; `None` for a graph that is not for us.
    fn take(&mut self, node: &pb::NodeProto) -> Option<()> {
        let [output] = node.output.as_slice() else { return None };
        let first = self.value(node, 0)?;
        let value = match (node.op_type.as_str(), first) {
            ("QuantizeLinear", Value::Picture) => {
                let quantization = self.quantization(node, 1)?;
                (quantization.range == Range::Signed).then_some(())?;
                self.spec.scale = quantization.scale;
                Value::Int(0, quantization)
            }
            ("QLinearConv", Value::Int(map, quantization)) => self.convolution(node, map, quantization)?,
            ("MaxPool", Value::Int(map, quantization)) => {
                self.spec.steps.push(StepSpec::MaxPool(map, pool(node)?));
                Value::Int(self.spec.steps.len(), quantization)
            }
            ("DequantizeLinear", Value::Int(map, quantization)) => {
                (self.quantization(node, 1)? == quantization).then_some(Value::Float(map, quantization))?
            }
            ("LeakyRelu", Value::Float(map, quantization)) => Value::Leaky(map, quantization, slope(node)),
            ("QuantizeLinear", Value::Leaky(map, quantization, slope)) => {
                (self.quantization(node, 1)? == quantization).then_some(())?;
                self.leak(map, quantization, slope)?;
                Value::Int(map, quantization)
            }
            ("Add", Value::Float(a, quantization_a)) => {
                let Value::Float(b, quantization_b) = self.value(node, 1)? else { return None };
                Value::Sum([a, b], [quantization_a.scale, quantization_b.scale], false)
            }
            ("Relu", Value::Sum(maps, scales, false)) => Value::Sum(maps, scales, true),
            ("QuantizeLinear", Value::Sum(maps, scales, true)) => {
                let quantization = self.quantization(node, 1)?;
                (quantization.range == Range::Unsigned).then_some(())?;
                self.spec.steps.push(StepSpec::Add(maps, AddSpec { scales, scale: quantization.scale }));
                Value::Int(self.spec.steps.len(), quantization)
            }
            ("Transpose", Value::Float(map, quantization)) => {
                let is_last = Attributes(node).ints("perm") == Some(&[0, 2, 3, 1]);
                is_last.then_some(Value::Places(map, quantization))?
            }
            ("GlobalAveragePool", Value::Float(map, quantization)) => Value::Means(map, quantization),
            ("Conv", Value::Means(map, quantization)) => {
                let readout = self.linear(node)?;
                Value::Linear(self.result(map, quantization, readout)?)
            }
            ("Flatten", before) => Value::Vectors(Of::Result(match (before, Attributes(node).int("axis", 1)) {
                (Value::Float(map, quantization), 1) => self.result(map, quantization, Readout::Flat)?,
                (Value::Places(map, quantization), 3) => self.result(map, quantization, Readout::Places)?,
                (Value::Linear(result), 1) => result,
                _ => return None,
            })),
            ("Mul", Value::Unit(Of::Result(result))) => {
                // Nothing else may take what is not weighted.
                (self.readers.get(node.input.first()?.as_str()) == Some(&1)).then_some(())?;
                self.spec.results.get_mut(result)?.weight = self.scale(node, 1)?;
                Value::Weighted(result)
            }
            ("Concat", Value::Unit(_) | Value::Weighted(_)) => {
                let part = |input: &String| match self.values.get(input) {
                    Some(Value::Unit(Of::Result(result)) | Value::Weighted(result)) => Some(*result),
                    _ => None,
                };
                let all = (0..self.spec.results.len()).map(Some);
                let is_all = node.input.iter().map(part).eq(all) && Attributes(node).int("axis", 0) == 1;
                is_all.then_some(Value::Vectors(Of::All(self.spec.results.len())))?
            }
            ("ReduceL2", Value::Vectors(of)) => {
                let attributes = Attributes(node);
                let is_length = attributes.ints("axes") == Some(&[1]) && attributes.int("keepdims", 1) == 1;
                is_length.then_some(Value::Lengths(of))?
            }
            ("Max", Value::Lengths(of)) => {
                let least = self.scale(node, 1)?;
                // One for the whole graph.
                ([0.0, least].contains(&self.spec.min_norm) && node.input.len() == 2).then_some(())?;
                self.spec.min_norm = least;
                Value::AtLeast(of)
            }
            ("Div", Value::Vectors(of)) => (self.value(node, 1)? == Value::AtLeast(of)).then_some(Value::Unit(of))?,
            _ => return None,
        };
        self.values.insert(output.clone(), value);
        Some(())
    }

    /// Adds what a last map is read out to; gives its number.
    fn result(&mut self, map: usize, quantization: Quantization, readout: Readout) -> Option<usize> {
        let number = self.spec.results.len();
        (number < MAX_RESULTS).then_some(())?;
        self.spec.results.push(ResultSpec { map, scale: quantization.scale, readout, weight: 1.0 });
        Some(number)
    }

    /// What embeddings the graph has to give.
    fn whole(&self) -> Option<Of> {
        match self.spec.results.len() {
            0 => None,
            1 => Some(Of::Result(0)),
            results => Some(Of::All(results)),
        }
    }

    /// A 1 x 1 convolution of the means of a map's channels.
    fn linear(&self, node: &pb::NodeProto) -> Option<Readout> {
        let weight = self.constant(node, 1)?;
        let [out, inputs, 1, 1] = *dims(weight)?.as_slice() else { return None };
        let bias = floats(self.constant(node, 2)?)?;
        let attributes = Attributes(node);
        let is_plain = bias.len() == out && attributes.all("pads", 0) == Some(0) && attributes.int("group", 1) == 1;
        is_plain.then_some(Readout::Pooled { weight: floats(weight)?, inputs, bias })
    }

    fn convolution(&mut self, node: &pb::NodeProto, map: usize, entering: Quantization) -> Option<Value> {
        (self.quantization(node, 1)? == entering).then_some(())?;
        int8s(self.constant(node, 5)?)?.iter().all(|&zero| zero == 0).then_some(())?;
        let (weight, result) = (self.constant(node, 3)?, self.quantization(node, 6)?);
        let shape: [usize; 4] = dims(weight)?.try_into().ok()?;
        let weight_scales = floats(self.constant(node, 4)?)?;
        let [out, inputs, rows, columns] = shape;
        let scales = |o: usize| if weight_scales.len() == 1 { weight_scales.first() } else { weight_scales.get(o) };
        let multiplier = |o: usize| Some(entering.scale * scales(o)? / result.scale);
        let attributes = Attributes(node);
        let groups = usize::try_from(attributes.int("group", 1)).ok()?;
        let depthwise = groups > 1;
        let known = attributes.all("dilations", 1) == Some(1)
            && (groups == 1 || (groups == out && inputs == 1))
            && attributes.ints("kernel_shape").is_none_or(|k| k == [rows as i64, columns as i64]);
        known.then_some(())?;
        let conv = ConvSpec {
            weight: int8s(weight)?,
            shape,
            depthwise,
            bias: if node.input.len() > 8 { int32s(self.constant(node, 8)?)? } else { vec![0; out] },
            multiplier: (0..out).map(multiplier).collect::<Option<_>>()?,
            stride: attributes.all("strides", 1)?,
            padding: attributes.all("pads", 0)?,
            // Saturation at 0 is a ReLU.
            activation: if result.range == Range::Unsigned { Activation::Relu } else { Activation::Identity },
        };
        conv.is_sound(entering.range).then_some(())?;
        self.spec.steps.push(StepSpec::Conv(map, conv));
        Some(Value::Int(self.spec.steps.len(), result))
    }

    /// Makes a leaky ReLU part of the convolution that made a map, when nothing else reads what was before it.
    fn leak(&mut self, map: usize, quantization: Quantization, slope: f32) -> Option<()> {
        let is_before = |value: &Value| match *value {
            Value::Int(m, _) | Value::Float(m, _) | Value::Leaky(m, ..) => m == map,
            Value::Sum(maps, ..) => maps.contains(&map),
            // Made of one of the above, which then has another reader.
            _ => false,
        };
        let mut before = self.values.iter().filter(|(_, value)| is_before(value));
        before.all(|(name, _)| self.readers.get(name.as_str()) == Some(&1)).then_some(())?;
        (quantization.range == Range::Signed && leaks_alike(quantization.scale, slope)).then_some(())?;
        match self.spec.steps.get_mut(map.checked_sub(1)?)? {
            StepSpec::Conv(_, conv) if conv.activation == Activation::Identity => {
                conv.activation = Activation::LeakyRelu(slope);
            }
            _ => return None,
        }
        Some(())
    }

    fn value(&self, node: &pb::NodeProto, place: usize) -> Option<Value> {
        self.values.get(node.input.get(place)?).copied()
    }

    fn constant(&self, node: &pb::NodeProto, place: usize) -> Option<&'a pb::TensorProto> {
        self.constants.get(node.input.get(place)?.as_str()).copied()
    }

    /// A scale for a whole tensor.
    fn scale(&self, node: &pb::NodeProto, place: usize) -> Option<f32> {
        let values = floats(self.constant(node, place)?)?;
        let &[scale] = values.as_slice() else { return None };
        (scale.is_finite() && scale > 0.0).then_some(scale)
    }

    /// A scale and the zero point after it.
    fn quantization(&self, node: &pb::NodeProto, place: usize) -> Option<Quantization> {
        let range = match bytes(self.constant(node, place + 1)?)? {
            [0] => Range::Unsigned,
            [128] => Range::Signed,
            _ => return None,
        };
        Some(Quantization { scale: self.scale(node, place)?, range })
    }
}

/// Whether the float arithmetic of the three nodes is what [`Activation::LeakyRelu`] does, for each integer.
fn leaks_alike(scale: f32, slope: f32) -> bool {
    (0.0..=1.0).contains(&slope)
        && (-128..128).all(|q: i32| {
            let x = q as f32 * scale;
            let there = ((if x < 0.0 { x * slope } else { x }) / scale).round_ties_even().clamp(-128.0, 127.0);
            let (whole, leaked) = (q as f32, q as f32 * slope);
            there == whole.max(leaked).round_ties_even()
        })
}

fn slope(node: &pb::NodeProto) -> f32 {
    node.attribute.iter().find(|a| a.name == "alpha").map_or(0.01, |a| a.f)
}

fn pool(node: &pb::NodeProto) -> Option<PoolSpec> {
    let attributes = Attributes(node);
    let (size, stride) = (attributes.all("kernel_shape", 0)?, attributes.all("strides", 1)?);
    let padding = attributes.all("pads", 0)?;
    let known = attributes.all("dilations", 1) == Some(1)
        && attributes.int("ceil_mode", 0) == 0
        && attributes.int("storage_order", 0) == 0
        && (1..=64).contains(&size)
        && stride > 0
        && padding < size;
    known.then_some(PoolSpec { size, stride, padding })
}

struct Attributes<'a>(&'a pb::NodeProto);

impl Attributes<'_> {
    fn ints(&self, name: &str) -> Option<&[i64]> {
        self.0.attribute.iter().find(|a| a.name == name).map(|a| a.ints.as_slice())
    }

    fn int(&self, name: &str, otherwise: i64) -> i64 {
        self.0.attribute.iter().find(|a| a.name == name).map_or(otherwise, |a| a.i)
    }

    /// The one number that all of a list are; `otherwise` where there is no list.
    fn all(&self, name: &str, otherwise: usize) -> Option<usize> {
        let Some(values) = self.ints(name) else { return Some(otherwise) };
        let first = *values.first()?;
        values.iter().all(|&v| v == first).then(|| usize::try_from(first).ok().filter(|&v| v <= 64))?
    }
}

fn dims(tensor: &pb::TensorProto) -> Option<Vec<usize>> {
    tensor.dims.iter().map(|&d| usize::try_from(d).ok().filter(|d| (1..=1 << 24).contains(d))).collect()
}

/// Bytes of a tensor of one type that has as many of them as its shape says.
fn raw(tensor: &pb::TensorProto, kind: pb::tensor_proto::DataType, size: usize) -> Option<&[u8]> {
    let len = dims(tensor)?.into_iter().try_fold(size, usize::checked_mul)?;
    (tensor.data_type == kind as i32 && tensor.raw_data.len() == len).then_some(tensor.raw_data.as_slice())
}

fn floats(tensor: &pb::TensorProto) -> Option<Vec<f32>> {
    let bytes = raw(tensor, pb::tensor_proto::DataType::Float, 4)?;
    Some(bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect())
}

fn int32s(tensor: &pb::TensorProto) -> Option<Vec<i32>> {
    let bytes = raw(tensor, pb::tensor_proto::DataType::Int32, 4)?;
    Some(bytes.as_chunks().0.iter().map(|b| i32::from_le_bytes(*b)).collect())
}

fn int8s(tensor: &pb::TensorProto) -> Option<Vec<i8>> {
    Some(raw(tensor, pb::tensor_proto::DataType::Int8, 1)?.iter().map(|&b| b as i8).collect())
}

fn bytes(tensor: &pb::TensorProto) -> Option<&[u8]> {
    raw(tensor, pb::tensor_proto::DataType::Uint8, 1)
}
