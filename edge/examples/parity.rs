//! Writes a bundle whose encoder is drawn and not trained, and pictures: what processors are compared by where no trainer is
//! at hand. `parity OUT` makes OUT/drawn.salad and OUT/pictures/*.jpg, the same each time.
//!
//! The encoder is built as the trainer's are: convolutions with strides and ReLU, in float, and as QLinearConv. Its embedding
//! is the last map, flattened.

use anyhow::Context;
use ndarray::Array2;
use salad_edge::encoder::Encoder;
use salad_shared::bank::FloatBank;
use salad_shared::bundle::Bundle;
use salad_shared::manifest::Form;
use salad_shared::preprocess::{Frame, InputSpec, Preprocessor};
use std::fs;
use std::path::PathBuf;
use support::{byte, floats, int, ints, node, signed};
use tract_onnx::pb;

#[path = "../tests/support/mod.rs"]
#[allow(clippy::unwrap_used, reason = "written for tests")]
mod support;

/// Both sides of the input, pixels.
const SIDE: i64 = 64;
/// Channels before the first layer and after each. Every layer halves the map.
const CHANNELS: [i64; 4] = [3, 16, 32, 16];
/// Values of the last map, the embedding's length d.
const DIM: i64 = CHANNELS[3] * (SIDE / 8) * (SIDE / 8);
/// What an int8 step of an activation stands for: layers keep the spread near 1, and 4 is then rarely passed.
const STEP: f32 = 4.0 / 255.0;

fn main() -> anyhow::Result<()> {
    let out: PathBuf = std::env::args_os().nth(1).context("usage: parity OUT")?.into();
    let mut rng = fastrand::Rng::with_seed(1);
    let layers: Vec<Layer> = CHANNELS.windows(2).map(|c| Layer::draw(c[1], c[0], &mut rng)).collect();
    let prototypes: Vec<Frame> = (0..16).map(|_| picture(&mut rng)).collect();
    let pictures = out.join("pictures");
    fs::create_dir_all(&pictures)?;
    bundle(&layers, &prototypes)?.write(&out.join("drawn.salad"))?;
    for i in 0..20 {
        fs::write(pictures.join(format!("{i:02}.jpg")), picture(&mut rng).to_jpeg(90))?;
    }
    Ok(())
}

/// A frame with a gradient and some blocks of colour on it.
fn picture(rng: &mut fastrand::Rng) -> Frame {
    let (width, height) = (rng.u32(90..160), rng.u32(70..120));
    let mut frame = support::frame(1, [0; 3]).resized(width, height);
    let slope = [0; 3].map(|_| (rng.f32(), rng.f32()));
    for y in 0..height {
        for x in 0..width {
            let at = |(a, b): (f32, f32)| (127.0 * (a * x as f32 / width as f32 + b * y as f32 / height as f32)) as u8;
            frame.set_pixel(x as usize, y as usize, slope.map(at));
        }
    }
    for _ in 0..rng.u32(3..9) {
        let (left, top, side) = (rng.u32(0..width - 8), rng.u32(0..height - 8), rng.u32(4..40));
        let colour = [rng.u8(..), rng.u8(..), rng.u8(..)];
        for y in top..height.min(top + side) {
            for x in left..width.min(left + side) {
                frame.set_pixel(x as usize, y as usize, colour);
            }
        }
    }
    frame
}

/// A 3 x 3 convolution of stride 2.
struct Layer {
    shape: [i64; 4],
    weights: Vec<f32>,
}

impl Layer {
    fn draw(out: i64, into: i64, rng: &mut fastrand::Rng) -> Layer {
        let deviation = (2.0 / (into * 9) as f32).sqrt();
        // A sum of uniform numbers is normal enough.
        let mut normal = || (0..12).map(|_| rng.f32()).sum::<f32>() - 6.0;
        let weights = (0..out * into * 9).map(|_| deviation * normal()).collect();
        Layer { shape: [out, into, 3, 3], weights }
    }

    /// One scale for all weights, as the trainer has it.
    fn step(&self) -> f32 {
        self.weights.iter().fold(0.0_f32, |m, w| m.max(w.abs())) / 127.0
    }
}

fn bundle(layers: &[Layer], prototypes: &[Frame]) -> anyhow::Result<Bundle> {
    let mut bundle = support::bundle();
    bundle.manifest.name = "drawn".into();
    bundle.manifest.input = InputSpec { width: SIDE as u32, height: SIDE as u32, channels: 3 };
    bundle.manifest.encoder.embedding_dim = DIM as u32;
    bundle.manifest.bank.prototypes = prototypes.len() as u32;
    bundle.encoder_f32 = float_onnx(layers);
    bundle.encoder_int8 = int8_onnx(layers);
    bundle.bank = bank(&bundle, prototypes, Form::F32)?;
    bundle.bank_int8 = bank(&bundle, prototypes, Form::Int8)?.quantize();
    bundle.thumbnails = prototypes.iter().map(|p| p.thumbnail(32).to_jpeg(90)).collect();
    Ok(bundle)
}

/// The prototypes as this form's encoder sees them.
fn bank(bundle: &Bundle, prototypes: &[Frame], form: Form) -> anyhow::Result<FloatBank> {
    let mut preprocessor = Preprocessor::new(bundle.manifest.input.clone());
    let mut encoder = Encoder::new(bundle, form)?;
    let (mut rows, mut embedding) = (Vec::new(), Vec::new());
    for prototype in prototypes {
        encoder.encode(preprocessor.resized(prototype), &mut embedding)?;
        rows.append(&mut embedding);
    }
    Ok(FloatBank::new(Array2::from_shape_vec((prototypes.len(), DIM as usize), rows)?))
}

fn float_onnx(layers: &[Layer]) -> Vec<u8> {
    let (mut nodes, mut constants) = (Vec::new(), Vec::new());
    let mut last = "image".to_owned();
    for (i, layer) in layers.iter().enumerate() {
        let (weights, map, relu) = (format!("w{i}"), format!("conv{i}"), format!("relu{i}"));
        constants.push(floats(&weights, &layer.shape, &layer.weights));
        nodes.push(node("Conv", &[&last, &weights], &map, geometry()));
        nodes.push(node("Relu", &[&map], &relu, vec![]));
        last = relu;
    }
    model(nodes, constants, &last)
}

fn int8_onnx(layers: &[Layer]) -> Vec<u8> {
    let mut constants =
        vec![floats("s_image", &[], &[1.0 / 127.0]), floats("s", &[], &[STEP]), signed("weight_zero", &[], &[0])];
    constants.extend([byte("zero", 0), byte("middle", 128)]);
    let mut nodes = vec![node("QuantizeLinear", &["image", "s_image", "middle"], "quantized", vec![])];
    let (mut last, mut scale, mut zero) = ("quantized".to_owned(), "s_image", "middle");
    for (i, layer) in layers.iter().enumerate() {
        let (weights, step, map) = (format!("w{i}"), format!("s_w{i}"), format!("conv{i}"));
        let rounded: Vec<i8> = layer.weights.iter().map(|w| (w / layer.step()).round() as i8).collect();
        constants.push(signed(&weights, &layer.shape, &rounded));
        constants.push(floats(&step, &[], &[layer.step()]));
        let inputs = [&last, scale, zero, &weights, &step, "weight_zero", "s", "zero"];
        nodes.push(node("QLinearConv", &inputs, &map, geometry()));
        (last, scale, zero) = (map, "s", "zero");
    }
    nodes.push(node("DequantizeLinear", &[&last, "s", "zero"], "map", vec![]));
    model(nodes, constants, "map")
}

fn geometry() -> Vec<pb::AttributeProto> {
    vec![ints("kernel_shape", &[3, 3]), ints("strides", &[2, 2]), ints("pads", &[1, 1, 1, 1])]
}

/// The graph, from the last map on: flattened, and of unit length.
fn model(mut nodes: Vec<pb::NodeProto>, mut constants: Vec<pb::TensorProto>, map: &str) -> Vec<u8> {
    constants.push(floats("eps", &[], &[1e-12]));
    nodes.push(node("Flatten", &[map], "z", vec![int("axis", 1)]));
    nodes.extend(support::unit_length("z", "embedding"));
    support::model(nodes, constants, [1, 3, SIDE, SIDE], [1, DIM])
}
