//! What the trainer and the edge say to data and configurations they cannot use.

use crate::harness::pictures::{Defect, data_set, picture};
use crate::harness::trained::edge;
use crate::harness::{command, listing, ran, refuse, run};
use image::DynamicImage;
use std::path::Path;

fn train_args<'a>(data: &'a str, out: &'a str) -> Vec<&'a str> {
    let mut args =
        vec!["train", data, "--out", out, "--size", "32", "--device", "cpu", "--set", "network.widths=[8,8]"];
    args.extend(["--set", "train.phase1_epochs=1", "--set", "train.round_epochs=1", "--set", "train.rate=1.0"]);
    args
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn data_that_is_not_there() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("run");
    let missing = dir.path().join("nowhere");
    refuse("salad-trainer", &train_args(text(&missing), text(&out)), &["nowhere"]);
    let empty = dir.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    refuse("salad-trainer", &train_args(text(&empty), text(&out)), &["empty", "image"]);
    refuse("salad-trainer", &["train", "--out", text(&out)], &["data.root"]);
}

#[test]
fn too_few_images_for_a_threshold() {
    let dir = tempfile::tempdir().unwrap();
    let (data, out) = (dir.path().join("few"), dir.path().join("run"));
    std::fs::create_dir(&data).unwrap();
    for i in 0..12 {
        picture(i, Defect::None).save(data.join(format!("{i}.png"))).unwrap();
    }
    refuse("salad-trainer", &train_args(text(&data), text(&out)), &["few", "validation"]);
}

/// A data set of 101 good images and one file more.
fn with_one_more(root: &Path, name: &str, bytes: &[u8]) {
    let folder = root.join("train/good");
    std::fs::create_dir_all(&folder).unwrap();
    for i in 0..101 {
        picture(i, Defect::None).save(folder.join(format!("{i:03}.png"))).unwrap();
    }
    std::fs::write(folder.join(name), bytes).unwrap();
}

fn png(image: &DynamicImage) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    image.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    bytes.into_inner()
}

#[test]
fn one_truncated_image_is_named_and_skipped_and_two_stop_the_run() {
    let dir = tempfile::tempdir().unwrap();
    let (data, out) = (dir.path().join("data"), dir.path().join("run"));
    let whole = png(&DynamicImage::ImageRgb8(picture(1, Defect::None)));
    with_one_more(&data, "torn.png", &whole[..whole.len() / 3]);
    // One of 102 is less than 1 %, whichever set it fell into.
    for seed in ["1", "2", "3", "4", "5", "6"] {
        let out = dir.path().join(seed);
        let args = [&train_args(text(&data), text(&out))[..], &["--seed", seed]].concat();
        let trained = run("salad-trainer", &args);
        assert_eq!(trained.code, Some(0), "{}", trained.stderr);
        assert!(trained.stderr.contains("torn.png"), "{}", trained.stderr);
    }
    std::fs::write(data.join("train/good/torn2.png"), &whole[..60]).unwrap();
    std::fs::write(data.join("train/good/torn3.png"), &whole[..60]).unwrap();
    refuse("salad-trainer", &train_args(text(&data), text(&out)), &["torn"]);
}

#[test]
fn odd_images_are_used() {
    let dir = tempfile::tempdir().unwrap();
    let (data, out) = (dir.path().join("data"), dir.path().join("run"));
    let grey = DynamicImage::ImageRgb8(picture(7, Defect::None)).to_luma8();
    let odd = [
        ("one_pixel.png", DynamicImage::new_rgb8(1, 1)),
        ("grey.png", DynamicImage::ImageLuma8(grey.clone())),
        ("rgba.png", DynamicImage::ImageLuma8(grey.clone()).to_rgba8().into()),
        ("grey16.png", DynamicImage::ImageLuma8(grey.clone()).to_luma16().into()),
        ("rgb16.png", DynamicImage::ImageLuma8(grey).to_rgb16().into()),
    ];
    for (name, image) in &odd {
        with_one_more(&data, name, &png(image));
    }
    let trained = run("salad-trainer", &train_args(text(&data), text(&out)));
    assert_eq!(trained.code, Some(0), "{}", trained.stderr);
    for (name, _) in &odd {
        let path = data.join("train/good").join(name);
        let scored = run("salad-edge", &["score", text(&edge().bundle), text(&path), "--json"]);
        assert_eq!(scored.code, Some(0), "{name}: {}", scored.stderr);
        let json: serde_json::Value = serde_json::from_str(&scored.stdout).unwrap();
        assert!(json["score"].as_f64().unwrap().is_finite(), "{name}: {json}");
    }
}

#[test]
fn the_edge_names_what_it_cannot_score_and_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let whole = png(&DynamicImage::ImageRgb8(picture(1, Defect::None)));
    for (name, bytes) in [("a.png", &whole[..]), ("b.png", &whole[..200]), ("c.png", b""), ("d.png", &whole)] {
        std::fs::write(dir.path().join(name), bytes).unwrap();
    }
    let scored = refuse("salad-edge", &["score", text(&edge().bundle), text(dir.path())], &["b.png", "c.png"]);
    assert!(scored.stdout.contains("a.png") && scored.stdout.contains("d.png"), "{}", scored.stdout);
    refuse("salad-edge", &["score", text(&edge().bundle), "/nowhere.png"], &["/nowhere.png"]);
}

#[test]
fn recipes_with_faults() {
    let dir = tempfile::tempdir().unwrap();
    let recipe = dir.path().join("recipe.toml");
    for (text_of, expected) in [
        ("[train]\nlearning_rat = 0.1\n", vec!["recipe.toml", "learning_rat", "learning_rate"]),
        ("[train]\nlearning_rate = \"fast\"\n", vec!["recipe.toml", "learning_rate"]),
        ("[train]\nlearning_rate = -1\n", vec!["recipe.toml", "train.learning_rate"]),
        ("[network]\nkind = \"resnet\"\n", vec!["recipe.toml", "resnet"]),
        ("not toml at all", vec!["recipe.toml"]),
    ] {
        std::fs::write(&recipe, text_of).unwrap();
        refuse("salad-trainer", &["train", "data", "--config", text(&recipe)], &expected);
    }
    let missing = refuse("salad-trainer", &["train", "data", "--config", "/no/recipe.toml"], &["/no/recipe.toml"]);
    assert_eq!(missing.stderr.matches("os error").count(), 1, "{}", missing.stderr);
    refuse("salad-trainer", &["train", "data", "--set", "seed"], &["KEY=VALUE"]);
    refuse("salad-trainer", &["train", "data", "--device", "gpu"], &["train.device"]);
    refuse(
        "salad-trainer",
        &["train", "data", "--init", "w.safetensors"],
        &["network.init", "w.safetensors", "resnet18"],
    );
    refuse("salad-trainer", &["evaluate", text(dir.path())], &["checkpoint.json"]);
    assert_eq!(listing(dir.path()), ["recipe.toml"]);
}

#[test]
fn weights_to_begin_with_that_are_none() {
    let dir = tempfile::tempdir().unwrap();
    let (out, weights) = (dir.path().join("run"), dir.path().join("weights.pth"));
    let args =
        ["train", "data", "--out", text(&out), "--network", "resnet18", "--size", "64", "--init", text(&weights)];
    refuse("salad-trainer", &args, &["weights.pth", "No such file"]);
    std::fs::write(&weights, b"PK\x03\x04 a pickle in a zip file").unwrap();
    refuse("salad-trainer", &args, &["weights.pth: is not a whole safetensors file", "save_file"]);
}

#[test]
fn a_full_disk_during_export_leaves_nothing() {
    // A mount namespace of the test's own gives it a small disk; where that is not allowed the test says so.
    let probe = command_in_namespace("true", "").output();
    if !probe.is_ok_and(|o| o.status.success()) {
        println!("skipped: no mount namespace can be made here");
        return;
    }
    let export = format!(
        "{} export {} --to \"$DISK/full.salad\"; code=$?; echo left: $(ls -A \"$DISK\"); exit $code",
        crate::harness::program("salad-trainer").display(),
        edge().out.display()
    );
    let ran = ran(&command_in_namespace(&export, "64k").output().unwrap());
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    assert!(ran.stderr.contains("full.salad") && ran.stderr.contains("No space left"), "{}", ran.stderr);
    assert!(ran.stdout.lines().any(|l| l.trim() == "left:"), "{}", ran.stdout);
}

/// A shell whose $DISK is an empty file system of `size` (none where that is empty).
fn command_in_namespace(script: &str, size: &str) -> std::process::Command {
    let mount = if size.is_empty() {
        "true".to_owned()
    } else {
        format!("DISK=$(mktemp -d) && mount -t tmpfs -o size={size} tmpfs \"$DISK\"")
    };
    let mut unshare = std::process::Command::new("unshare");
    unshare.args(["--mount", "--map-root-user", "sh", "-c", &format!("{mount} && {{ {script}; }}")]);
    unshare.env("RUST_LOG", "warn");
    unshare
}

#[test]
fn a_data_set_with_a_test_set_and_nothing_normal_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let (data, out) = (dir.path().join("data"), dir.path().join("run"));
    data_set(&data);
    std::fs::remove_dir_all(data.join("test/good")).unwrap();
    let trained = ran(&command("salad-trainer").args(train_args(text(&data), text(&out))).output().unwrap());
    assert_eq!(trained.code, Some(0), "{}", trained.stderr);
    assert!(trained.stdout.contains("nothing to evaluate"), "{}", trained.stdout);
    assert!(out.join("report.html").exists());
}
