//! The ONNX files against onnx.checker and onnxruntime. scripts/setup-python.sh installs both under target/python; where
//! that was not done these tests say so and check nothing, while those in quantize.rs always run.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod nets;

use ndarray::Array2;
use salad_trainer::folded::{FoldedNet, Readout};
use salad_trainer::onnx::{to_onnx_f32, to_onnx_int8};
use salad_trainer::quantize::{QuantizeOptions, WeightScales, quantize};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::Command;

const F32_TOLERANCE: f32 = 1e-5;
/// The integers are equal; the unit length is made in floats.
const INT8_TOLERANCE: f32 = 1e-6;

/// An ensemble whose members are read out in two ways, and weigh differently.
fn of_two_kinds() -> FoldedNet {
    let [first, last] = [4, 8].map(|seed| nets::resnet(64, &[8, 16, 24], 20, seed));
    let mut joined = nets::joined([first, nets::edge(64, &[8, 16, 24, 32], 24, 7), last]);
    joined.members[1].weight = 0.3;
    joined
}

#[test]
fn f32_equals_libtorch() {
    for net in [
        nets::edge(64, &[8, 16, 24, 32], 24, 1),
        nets::unet(64, &[8, 16, 32, 48, 64], 40, 2),
        nets::resnet(64, &[8, 16, 24], 20, 4),
        nets::joined([1, 6, 7].map(|seed| nets::edge(64, &[8, 16, 24, 32], 24, seed))),
        of_two_kinds(),
    ] {
        let images = nets::images(&net, 3, 3).concat();
        let Some((embeddings, ops)) = onnxruntime(&net, &to_onnx_f32(&net), &images) else { return };
        assert_eq!(ops["Conv"], net.convolutions().count());
        let expected = net.encode(&images, 3).unwrap();
        let worst = (&embeddings - &expected).iter().fold(0.0_f32, |m, d| m.max(d.abs()));
        assert!(worst < F32_TOLERANCE, "{worst}");
    }
}

#[test]
fn int8_equals_the_simulation() {
    for (net, scales) in [
        (nets::edge(64, &[8, 16, 24, 32], 24, 1), WeightScales::PerTensor),
        (nets::unet(64, &[8, 16, 32, 48, 64], 40, 2), WeightScales::PerTensor),
        (nets::unet(32, &[8, 16, 24], 20, 3), WeightScales::PerChannel),
        (nets::resnet(64, &[8, 16, 24], 20, 4), WeightScales::PerTensor),
        (nets::resnet(64, &[8, 16, 24], 20, 5), WeightScales::PerChannel),
        (nets::joined([1, 6, 7].map(|seed| nets::edge(64, &[8, 16, 24, 32], 24, seed))), WeightScales::PerChannel),
        (of_two_kinds(), WeightScales::PerChannel),
    ] {
        let options = QuantizeOptions { weight_scales: scales, ..Default::default() };
        let quantized = quantize(&net, &nets::images(&net, 16, 4), &options).unwrap();
        let images = nets::images(&net, 3, 3).concat();
        let Some((embeddings, ops)) = onnxruntime(&net, &to_onnx_int8(&quantized), &images) else { return };
        // The fast form: nothing but integer convolutions, one way in and, but for leaky ReLU and sums, one way out of each
        // member.
        let pooled = net.members.iter().filter(|member| matches!(member.readout, Readout::Pooled(_))).count();
        assert_eq!(ops["QLinearConv"], net.convolutions().count() - pooled);
        assert_eq!(ops["Conv"].as_u64().unwrap_or(0), pooled as u64);
        let [leaky, sums] = ["LeakyRelu", "Add"].map(|op| ops[op].as_u64().unwrap_or(0));
        let (quantize, dequantize) = (&ops["QuantizeLinear"], &ops["DequantizeLinear"]);
        assert_eq!(
            (quantize, dequantize),
            (&json!(1 + leaky + sums), &json!(net.members.len() as u64 + leaky + 2 * sums))
        );
        let simulated = quantized.encode(&images, 3).unwrap();
        let worst = (&embeddings - &simulated).iter().fold(0.0_f32, |m, d| m.max(d.abs()));
        assert!(worst < INT8_TOLERANCE, "{worst}");
        let cosines = nets::cosines(&embeddings, &net.encode(&images, 3).unwrap());
        assert!(nets::smallest(&cosines) > 0.995, "{cosines:?}");
    }
}

/// onnxruntime's embeddings of `images`, after onnx.checker has passed the model; and how often each operator occurs.
fn onnxruntime(net: &FoldedNet, model: &[u8], images: &[f32]) -> Option<(Array2<f32>, serde_json::Value)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let python = root.join("target/python/bin/python");
    if !root.join("target/python/STAMP").exists() {
        eprintln!("SKIPPED: no {}: scripts/setup-python.sh makes it", python.display());
        return None;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| -> PathBuf { dir.path().join(name) };
    std::fs::write(path("model.onnx"), model).unwrap();
    std::fs::write(path("in.f32"), images.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>()).unwrap();
    let output = Command::new(python)
        .arg(root.join("tests/harness/check_onnx.py"))
        .args([path("model.onnx"), path("in.f32"), path("out.f32")])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let values: Vec<f32> = std::fs::read(path("out.f32"))
        .unwrap()
        .chunks_exact(4)
        .map(|b| f32::from_le_bytes(b.try_into().unwrap()))
        .collect();
    let n = images.len() / net.input.len();
    assert_eq!(report["n"], n);
    Some((Array2::from_shape_vec((n, net.embedding_dim()), values).unwrap(), report["ops"].clone()))
}
