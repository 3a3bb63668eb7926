//! From normal images to a bundle to scores: the trainer and the edge agree, and so do int8 and f32.

use crate::harness::trained::{Run, edge, ensemble, patches, resnet18, unet};
use crate::harness::{listing, refuse, run, succeed};
use salad_edge::encoder::Encoder;
use salad_edge::model::{FormChoice, Model};
use salad_shared::bundle::Bundle;
use salad_shared::manifest::Form;
use salad_shared::metrics::{auroc, pearson};
use salad_shared::preprocess::{Frame, Preprocessor};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

/// Largest difference between the trainer's and the edge's f32 score of an image.
const SCORE: f32 = 1e-4;
/// What the test set's scores have to show.
struct Bounds {
    /// Least correlation between int8 and f32.
    correlation: f64,
    /// Largest difference between the AUROC of int8 and of f32.
    difference: f64,
    /// Least AUROC of f32.
    auroc: f64,
}
const BOUNDS: Bounds = Bounds { correlation: 0.995, difference: 0.005, auroc: 0.9 };
/// For one vector a whole picture: pictures that are so much alike lie close together, and many ranks hang on little.
const POOLED_BOUNDS: Bounds = Bounds { correlation: 0.99, difference: 0.02, auroc: 0.75 };
/// Least cosine between tract's and onnxruntime's int8 embedding of an image.
const COSINE: f32 = 0.999;

/// Scores of the test images by name, as `salad-edge score --json` gives them.
fn edge_scores(run: &Run, form: &str) -> BTreeMap<String, f32> {
    let (bundle, test) = (run.bundle.to_str().unwrap(), run.data.join("test"));
    let ran = succeed("salad-edge", &["score", bundle, test.to_str().unwrap(), "--form", form, "--json"]);
    let lines = ran.stdout.lines().map(|line| {
        let json: serde_json::Value = serde_json::from_str(line).unwrap();
        let path = Path::new(json["path"].as_str().unwrap()).strip_prefix(&run.data).unwrap();
        (path.to_str().unwrap().to_owned(), json["score"].as_f64().unwrap() as f32)
    });
    lines.collect()
}

/// Rows of the trainer's scores.csv: name, split, kind, f32, int8.
fn trainer_scores(run: &Run) -> Vec<(String, String, f32)> {
    let text = std::fs::read_to_string(run.out.join("scores.csv")).unwrap();
    let rows = text.lines().skip(1).map(|line| line.split(',').collect::<Vec<_>>());
    rows.filter(|r| r[1] == "test").map(|r| (r[0].to_owned(), r[2].to_owned(), r[3].parse().unwrap())).collect()
}

fn check_parity(run: &Run, bounds: &Bounds) {
    let trainer = trainer_scores(run);
    let (f32, int8) = (edge_scores(run, "f32"), edge_scores(run, "int8"));
    assert_eq!(trainer.len(), 100);
    assert_eq!(f32.len(), 100);
    for (name, _, score) in &trainer {
        let found = f32[name];
        assert!((found - score).abs() <= SCORE, "{name}: trainer {score}, edge {found}");
    }
    let paired = |wanted: &dyn Fn(&str) -> bool, scores: &BTreeMap<String, f32>| -> Vec<f32> {
        trainer.iter().filter(|t| wanted(&t.1)).map(|t| scores[&t.0]).collect()
    };
    let correlation = pearson(&paired(&|_| true, &f32), &paired(&|_| true, &int8)).unwrap().unwrap();
    let area = |scores| auroc(&paired(&str::is_empty, scores), &paired(&|k| !k.is_empty(), scores)).unwrap();
    let (auroc_f32, auroc_int8) = (area(&f32), area(&int8));
    println!("correlation {correlation:.5}, AUROC f32 {auroc_f32:.4}, int8 {auroc_int8:.4}");
    assert!(correlation >= bounds.correlation, "int8 against f32: correlation {correlation}");
    assert!((auroc_f32 - auroc_int8).abs() <= bounds.difference, "AUROC f32 {auroc_f32}, int8 {auroc_int8}");
    assert!(auroc_f32 > bounds.auroc, "it has learned nothing: AUROC {auroc_f32}");
}

#[test]
fn trainer_and_edge_agree_on_edge() {
    check_parity(edge(), &BOUNDS);
}

#[test]
fn trainer_and_edge_agree_on_unet() {
    check_parity(unet(), &BOUNDS);
}

#[test]
fn trainer_and_edge_agree_on_patches() {
    check_parity(patches(), &BOUNDS);
}

#[test]
fn trainer_and_edge_agree_on_resnet18() {
    check_parity(resnet18(), &POOLED_BOUNDS);
}

#[test]
fn trainer_and_edge_agree_on_an_ensemble_which_is_left_to_our_own_kernels() {
    check_parity(ensemble(), &BOUNDS);
    let bundle = Bundle::read(&ensemble().bundle).unwrap();
    assert_eq!(bundle.manifest.encoder.network, "edge + resnet18");
    assert_ne!(Model::load(&bundle, FormChoice::Int8).unwrap().engine(), "tract");
}

#[test]
fn a_network_beside_its_mirror_is_left_to_our_own_kernels() {
    let run = ensemble();
    let (mirrored, out) = (run.out.join("mirrored.salad"), run.out.to_str().unwrap());
    succeed(
        "salad-trainer",
        &["export", out, "--to", mirrored.to_str().unwrap(), "--threads", "1", "--set", "network.mirror=true"],
    );
    let bundle = Bundle::read(&mirrored).unwrap();
    assert_eq!(bundle.manifest.encoder.network, "edge and its mirror + resnet18");
    let picture = Frame::decode(&std::fs::read(run.data.join("test/good/000.png")).unwrap()).unwrap();
    let score = |form| Model::load(&bundle, form).unwrap().scorer().unwrap().score(&picture).unwrap().score;
    assert_ne!(Model::load(&bundle, FormChoice::Int8).unwrap().engine(), "tract");
    let [f32, int8] = [FormChoice::F32, FormChoice::Int8].map(score);
    assert!((f32 - int8).abs() < 0.05 * f32, "{f32} {int8}");
}

/// Both ONNX files pass the reference checker, and the reference runtime's embeddings are tract's.
fn check_onnx(run: &Run) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let python = root.join("target/python/bin/python");
    if !python.exists() {
        println!("skipped: {} is absent; `make test` installs it", python.display());
        return;
    }
    let bundle = Bundle::read(&run.bundle).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let names = ["test/good/000.png", "test/good/001.png", "test/hole/000.png", "test/blot/000.png"];
    let mut preprocessor = Preprocessor::new(bundle.manifest.input.clone());
    let frames = names.map(|name| Frame::decode(&std::fs::read(run.data.join(name)).unwrap()).unwrap());
    let mut images = Vec::new();
    for frame in &frames {
        let mut image = Vec::new();
        preprocessor.run(frame, &mut image);
        images.extend(image);
    }
    let inputs = dir.path().join("inputs.f32");
    std::fs::write(&inputs, images.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>()).unwrap();
    for (form, onnx) in [(Form::F32, &bundle.encoder_f32), (Form::Int8, &bundle.encoder_int8)] {
        let (model, out) = (dir.path().join(format!("{form}.onnx")), dir.path().join(format!("{form}.f32")));
        std::fs::write(&model, onnx).unwrap();
        let script = root.join("tests/harness/check_onnx.py");
        let checked = Command::new(&python).arg(script).args([&model, &inputs, &out]).output().unwrap();
        assert!(checked.status.success(), "{form}: {}", String::from_utf8_lossy(&checked.stderr));
        let reference: Vec<f32> =
            std::fs::read(&out).unwrap().chunks(4).map(|c| f32::from_le_bytes(c.try_into().unwrap())).collect();
        let mut encoder = Encoder::new(&bundle, form).unwrap();
        let (mut encoded, mut embedding) = (Vec::new(), Vec::new());
        for frame in &frames {
            encoder.encode(preprocessor.resized(frame), &mut embedding).unwrap();
            encoded.append(&mut embedding);
        }
        assert_eq!(encoded.len(), reference.len());
        let dim = bundle.bank.rows().ncols();
        for (z, reference) in encoded.chunks(dim).zip(reference.chunks(dim)) {
            let cosine: f32 = z.iter().zip(reference).map(|(a, b)| a * b).sum();
            assert!(cosine >= COSINE, "{form}: cosine {cosine}");
        }
    }
}

#[test]
fn onnxruntime_agrees_with_tract_on_edge() {
    check_onnx(edge());
}

#[test]
fn onnxruntime_agrees_with_tract_on_unet() {
    check_onnx(unet());
}

#[test]
fn onnxruntime_agrees_with_tract_on_patches() {
    check_onnx(patches());
}

#[test]
fn onnxruntime_agrees_with_tract_on_resnet18() {
    check_onnx(resnet18());
}

#[test]
fn onnxruntime_agrees_with_tract_on_an_ensemble() {
    check_onnx(ensemble());
}

#[test]
fn a_run_leaves_what_it_promises() {
    let found = listing(&edge().out);
    for name in [
        "checkpoint.json",
        "config.toml",
        "evaluation.json",
        "history.csv",
        "plates.salad",
        "report.html",
        "rounds.csv",
        "scores.csv",
        "steps.csv",
    ] {
        assert!(found.iter().any(|f| f == name), "{name} is not among {found:?}");
    }
    let board = listing(&edge().out.join("tensorboard"));
    assert_eq!(board, ["events.out.tfevents.salad", "projector", "projector_config.pbtxt"]);
    assert_eq!(listing(&edge().out.join("tensorboard/projector")), ["metadata.tsv", "sprite.png", "tensors.tsv"]);
    let page = std::fs::read_to_string(edge().out.join("report.html")).unwrap();
    assert!(page.contains("<svg") && page.contains("data:image/jpeg;base64,"));
    for outside in ["src=\"http", "href=\"http", "@import", "url(http"] {
        assert!(!page.contains(outside), "the report needs a network: {outside}");
    }
}

#[test]
fn a_bundle_is_a_tar_that_other_programs_can_check() {
    let dir = tempfile::tempdir().unwrap();
    let unpacked = Command::new("tar").arg("xf").arg(&edge().bundle).current_dir(&dir).status().unwrap();
    assert!(unpacked.success());
    let checked = Command::new("sha256sum").args(["-c", "--quiet", "SHA256SUMS"]).current_dir(&dir).status().unwrap();
    assert!(checked.success());
}

#[test]
fn a_run_can_be_evaluated_exported_and_reported_anew() {
    let run = edge();
    let dir = tempfile::tempdir().unwrap();
    let (out, other) = (run.out.to_str().unwrap(), dir.path().join("ten.salad"));
    let said = succeed("salad-trainer", &["evaluate", out]);
    assert!(said.stdout.contains("AUROC"), "{}", said.stdout);
    let args = ["export", out, "--to", other.to_str().unwrap(), "--prototypes", "10", "--false-alarms", "3/day"];
    succeed("salad-trainer", &args);
    let bundle = Bundle::read(&other).unwrap();
    assert_eq!(bundle.manifest.bank.prototypes, 10);
    assert_eq!(bundle.thumbnails.len(), 10);
    assert_eq!(bundle.manifest.thresholds.int8.budget.alarms, 3.0);
    let inspected = succeed("salad-edge", &["inspect", other.to_str().unwrap()]);
    assert!(inspected.stdout.contains("prototypes.safetensors"), "{}", inspected.stdout);
    succeed("salad-trainer", &["report", out]);
    // Another split or another network is another training.
    for other in [["--seed", "9"], ["--size", "32"], ["--set", "data.validation_share=0.5"]] {
        refuse("salad-trainer", &[&["export", out][..], &other].concat(), &["not the one the run began with"]);
    }
}

#[test]
fn a_stopped_run_is_not_exported_and_resumes_with_what_it_began_with() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("stopped");
    let (data, out) = (edge().data.to_str().unwrap(), out.to_str().unwrap());
    let short = ["--size", "32", "--set", "network.widths=[8,8]", "--set", "train.round_epochs=0"];
    let begin = ["train", data, "--out", out, "--stop-after", "1", "--set", "train.phase1_epochs=2"];
    succeed("salad-trainer", &[&begin[..], &short].concat());
    refuse("salad-trainer", &["export", out], &["epoch 1 of 2", "--resume"]);
    succeed("salad-trainer", &["train", "--out", out, "--resume"]);
    succeed("salad-trainer", &["export", out]);
}

#[test]
fn the_help_of_every_command_is_there() {
    for (program, commands) in [
        ("salad-trainer", &["train", "evaluate", "export", "report", "rounds", "demo-scene"][..]),
        ("salad-edge", &["inspect", "score", "run"][..]),
    ] {
        for command in commands {
            assert_eq!(run(program, &[command, "--help"]).code, Some(0), "{program} {command}");
        }
    }
}
