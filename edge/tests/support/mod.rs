//! What tests need and no trainer is there to give: a tiny encoder written by hand, a bundle around it, and pictures.
#![allow(dead_code, reason = "each test program uses its own part of it")]

pub mod quantized;

use ndarray::Array2;
use prost::Message;
use salad_shared::bank::FloatBank;
use salad_shared::bundle::{Bundle, Calibration};
use salad_shared::manifest::{
    Agreement, BankInfo, EncoderInfo, FORMAT_NAME, FORMAT_VERSION, Form, Forms, Manifest, Provenance,
};
use salad_shared::patch::PatchGrid;
use salad_shared::preprocess::{Frame, InputSpec, Preprocessor};
use salad_shared::score::{ScoreKind, ScoreSpec};
use salad_shared::threshold::{FalseAlarmBudget, Threshold, ThresholdMethod};
use std::collections::BTreeMap;
use std::path::Path;
use tract_onnx::pb;

/// A convolution over the whole input, d outputs, unit length: the smallest thing that is an encoder.
pub struct Net {
    /// Both sides of the input, pixels.
    pub size: i64,
    /// Length d of the embedding.
    pub dim: i64,
    /// Whether the output is scaled to unit length.
    pub normalised: bool,
    /// Whether all outputs have the other sign.
    pub mirrored: bool,
}

impl Default for Net {
    fn default() -> Net {
        Net { size: 16, dim: 4, normalised: true, mirrored: false }
    }
}

impl Net {
    /// The ONNX file's bytes. Output j < 3 is the mean of channel j, output 3 a constant, any further ones 0.
    pub fn onnx(&self) -> Vec<u8> {
        let plane = (self.size * self.size) as usize;
        let sign = if self.mirrored { -1.0 } else { 1.0 };
        let weight = |j: usize, c: usize| if j == c { sign / plane as f32 } else { 0.0 };
        let weights: Vec<f32> = (0..self.dim as usize)
            .flat_map(|j| (0..3).flat_map(move |c| std::iter::repeat_n(weight(j, c), plane)))
            .collect();
        let bias: Vec<f32> = (0..self.dim).map(|j| if j == 3 { 0.1 * sign } else { 0.0 }).collect();
        let mut nodes = vec![
            node("Conv", &["image", "w", "b"], "c", vec![ints("kernel_shape", &[self.size, self.size])]),
            node("Flatten", &["c"], if self.normalised { "z" } else { "embedding" }, vec![int("axis", 1)]),
        ];
        if self.normalised {
            nodes.extend(unit_length("z", "embedding"));
        }
        let constants = vec![
            floats("w", &[self.dim, 3, self.size, self.size], &weights),
            floats("b", &[self.dim], &bias),
            floats("eps", &[], &[1e-12]),
        ];
        model(nodes, constants, [1, 3, self.size, self.size], [1, self.dim])
    }
}

/// A bundle whose normal pictures are grey ([`normal_frame`]) and whose threshold, 0.1, anything colourful exceeds. Its
/// "int8" encoder is the f32 one: what quantizing does is the trainer's to test.
pub fn bundle() -> Bundle {
    let rows = [[0.5, 0.5, 0.5, 0.5], [0.3, 0.3, 0.3, 0.854_4], [0.57, 0.57, 0.57, 0.158_9]];
    let bank = FloatBank::new(Array2::from_shape_fn((3, 4), |(i, j)| rows[i][j]));
    let threshold = Threshold {
        value: 0.1,
        interval_90: [0.08, 0.12],
        method: ThresholdMethod::EmpiricalQuantile,
        budget: FalseAlarmBudget { alarms: 1.0, period_secs: 604_800.0, fps: 5.0 },
        target_rate: 1.0 / 3_024_000.0,
        samples: 2,
        note: "made by hand".into(),
    };
    let onnx = Net::default().onnx();
    Bundle {
        manifest: Manifest {
            format: FORMAT_NAME.into(),
            version: FORMAT_VERSION,
            name: "tiny".into(),
            input: InputSpec { width: 16, height: 16, channels: 3 },
            encoder: EncoderInfo {
                network: "edge".into(),
                embedding_dim: 4,
                parameters: 3076,
                flop: 6144,
                calibration: "min-max".into(),
                weight_scales: "per-tensor".into(),
            },
            bank: BankInfo { prototypes: 3, images: 9, method: "k-centre".into() },
            score: ScoreSpec { kind: ScoreKind::AngularMean, k: 2, tau: 0.1 },
            patches: None,
            heat: None,
            thresholds: Forms { f32: threshold.clone(), int8: threshold },
            agreement: Agreement {
                images: 2,
                embedding_cosine_mean: 0.999,
                embedding_cosine_min: 0.99,
                score_correlation: Some(0.999),
                rank_correlation: None,
                test_auroc: Some(Forms { f32: 0.99, int8: 0.98 }),
            },
            provenance: Provenance {
                writer: "test".into(),
                created: "2026-01-01T00:00:00Z".into(),
                seed: 1,
                dataset_sha256: "00".repeat(32),
                config: String::new(),
                notes: BTreeMap::from([("line".to_owned(), "3".to_owned())]),
            },
        },
        encoder_f32: onnx.clone(),
        encoder_int8: onnx,
        bank_int8: bank.quantize(),
        bank,
        thumbnails: (0..3).map(|i| frame(8, [40 * i, 200, 40]).to_jpeg(90)).collect(),
        calibration: Calibration { images: vec!["a".into()], f32: vec![0.05], int8: vec![0.05] },
        model_card: "# The tiny model\nMade by hand.\n".into(),
    }
}

/// A grid of so many places a side, `stride` pixels apart.
pub fn grid(side: u32, stride: u32) -> PatchGrid {
    PatchGrid { rows: side, columns: side, stride, receptive_field: 16, top: 3 }
}

/// The score that the formulas of docs/method.md give a picture, without tract: the net's arithmetic in plain Rust.
pub fn expected_score(bundle: &Bundle, frame: &Frame, form: Form) -> f32 {
    let mut input = Vec::new();
    Preprocessor::new(bundle.manifest.input.clone()).run(frame, &mut input);
    let means: Vec<f32> = input.chunks_exact(256).map(|c| c.iter().sum::<f32>() / 256.0).collect();
    let z = [means[0], means[1], means[2], 0.1];
    let length = z.iter().map(|v| v * v).sum::<f32>().sqrt();
    let z = z.map(|v| v / length);
    match form {
        Form::F32 => bundle.manifest.score.score(&bundle.bank, &z).0,
        Form::Int8 => bundle.manifest.score.score(&bundle.bank_int8, &z).0,
    }
}

/// A square frame of one colour.
pub fn frame(side: u32, colour: [u8; 3]) -> Frame {
    Frame::new(side, side, colour.repeat((side * side) as usize)).unwrap()
}

/// A frame that the bundle finds normal.
pub fn normal_frame() -> Frame {
    frame(24, [148, 148, 148])
}

/// A frame that the bundle finds anomalous.
pub fn anomalous_frame() -> Frame {
    frame(24, [250, 5, 5])
}

/// Writes `verdicts` as numbered pictures, an anomalous one for each `true`.
pub fn write_frames(folder: &Path, verdicts: &[bool]) {
    std::fs::create_dir_all(folder).unwrap();
    for (i, &anomalous) in verdicts.iter().enumerate() {
        let frame = if anomalous { anomalous_frame() } else { normal_frame() };
        std::fs::write(folder.join(format!("{i:04}.jpg")), frame.to_jpeg(95)).unwrap();
    }
}

/// A node with one output, named as it.
pub fn node(op: &str, input: &[&str], output: &str, attribute: Vec<pb::AttributeProto>) -> pb::NodeProto {
    pb::NodeProto {
        name: output.into(),
        op_type: op.into(),
        input: input.iter().map(|&s| s.into()).collect(),
        output: vec![output.into()],
        attribute,
        ..Default::default()
    }
}

/// The nodes that scale the vectors `from` to unit length, at least the constant `eps`, and call them `output`.
pub fn unit_length(from: &str, output: &str) -> [pb::NodeProto; 3] {
    let [length, at_least] = ["length", "at_least"].map(|part| format!("{output}.{part}"));
    [
        node("ReduceL2", &[from], &length, vec![ints("axes", &[1]), int("keepdims", 1)]),
        node("Max", &[&length, "eps"], &at_least, vec![]),
        node("Div", &[from, &at_least], output, vec![]),
    ]
}

/// The file's bytes of a graph from `image` to `embedding`, of these shapes.
pub fn model(
    nodes: Vec<pb::NodeProto>,
    constants: Vec<pb::TensorProto>,
    image: [i64; 4],
    embedding: [i64; 2],
) -> Vec<u8> {
    let graph = pb::GraphProto {
        name: "test".into(),
        node: nodes,
        initializer: constants,
        input: vec![value("image", &image)],
        output: vec![value("embedding", &embedding)],
        ..Default::default()
    };
    let opset = pb::OperatorSetIdProto { domain: String::new(), version: 14 };
    pb::ModelProto { ir_version: 8, graph: Some(graph), opset_import: vec![opset], ..Default::default() }
        .encode_to_vec()
}

/// An attribute of several integers.
pub fn ints(name: &str, ints: &[i64]) -> pb::AttributeProto {
    let kind = pb::attribute_proto::AttributeType::Ints as i32;
    pb::AttributeProto { name: name.into(), r#type: kind, ints: ints.to_vec(), ..Default::default() }
}

/// An attribute of one integer.
pub fn int(name: &str, i: i64) -> pb::AttributeProto {
    let kind = pb::attribute_proto::AttributeType::Int as i32;
    pb::AttributeProto { name: name.into(), r#type: kind, i, ..Default::default() }
}

/// A constant tensor of floats.
pub fn floats(name: &str, dims: &[i64], values: &[f32]) -> pb::TensorProto {
    pb::TensorProto {
        name: name.into(),
        dims: dims.to_vec(),
        data_type: pb::tensor_proto::DataType::Float as i32,
        raw_data: values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        ..Default::default()
    }
}

/// A constant tensor of int8.
pub fn signed(name: &str, dims: &[i64], values: &[i8]) -> pb::TensorProto {
    pb::TensorProto {
        name: name.into(),
        dims: dims.to_vec(),
        data_type: pb::tensor_proto::DataType::Int8 as i32,
        raw_data: values.iter().map(|&v| v as u8).collect(),
        ..Default::default()
    }
}

/// A constant byte.
pub fn byte(name: &str, value: u8) -> pb::TensorProto {
    pb::TensorProto {
        name: name.into(),
        data_type: pb::tensor_proto::DataType::Uint8 as i32,
        raw_data: vec![value],
        ..Default::default()
    }
}

/// A float input or output.
pub fn value(name: &str, dims: &[i64]) -> pb::ValueInfoProto {
    use pb::tensor_shape_proto::{Dimension, dimension::Value};
    let dim = dims.iter().map(|&d| Dimension { value: Some(Value::DimValue(d)), ..Default::default() }).collect();
    let tensor = pb::type_proto::Tensor {
        elem_type: pb::tensor_proto::DataType::Float as i32,
        shape: Some(pb::TensorShapeProto { dim }),
    };
    let kind = pb::TypeProto { value: Some(pb::type_proto::Value::TensorType(tensor)), ..Default::default() };
    pb::ValueInfoProto { name: name.into(), r#type: Some(kind), ..Default::default() }
}
