//! Runs that went wrong, and data that mislead, say so: at once, in the history, in the report and in the model card.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test program")]

mod small_run;

use salad_trainer::augment::AugmentConfig;
use salad_trainer::bundle_parts::model_card;
use salad_trainer::config::{Config, Prototypes};
use salad_trainer::finish::finish;
use salad_trainer::train::{Extent, Trained};
use small_run::{config, opened, picture, run};
use std::path::{Path, PathBuf};

/// Pictures enough for no warning, trained on for a moment; `change` may spoil data or configuration first.
fn trained(change: impl FnOnce(&Path, &mut Config)) -> (tempfile::TempDir, PathBuf, Trained) {
    let dir = tempfile::tempdir().unwrap();
    let (data, out) = (dir.path().join("data"), dir.path().join("run"));
    for (folder, first, count) in [("train/good", 0, 60), ("test/good", 60, 12), ("test/dark", 72, 12)] {
        std::fs::create_dir_all(data.join(folder)).unwrap();
        for i in first..first + count {
            picture(i).save(data.join(folder).join(format!("{i:02}.png"))).unwrap();
        }
    }
    let mut config = config(&data);
    change(&data, &mut config);
    let trained = run(&config, &out, Extent::default()).unwrap();
    (dir, out, trained)
}

/// That the one warning of a run is about `expected`, and stands wherever people look.
fn check(change: impl FnOnce(&Path, &mut Config), expected: &[&str]) {
    let (_dir, out, trained) = trained(change);
    let [warning] = &trained.history.warnings[..] else { panic!("{:?}", trained.history.warnings) };
    for words in expected {
        assert!(warning.contains(words), "no {words:?} in: {warning}");
    }
    assert!(!warning.contains('\n'));
    let saved = opened(&out, &[]).unwrap();
    assert_eq!(saved.history.warnings, trained.history.warnings);
    let checkpoint: serde_json::Value =
        serde_json::from_slice(&std::fs::read(out.join("checkpoint.json")).unwrap()).unwrap();
    assert_eq!(checkpoint["history"]["warnings"][0], **warning);

    let finished = finish(&trained).unwrap();
    assert!(finished.to_string().contains(&format!("warning: {warning}\n")));
    assert!(model_card(&finished).contains(&format!("- Warning: {warning}.\n")));
    let page = std::fs::read_to_string(finished.write_report(&out).unwrap()).unwrap();
    let escaped = warning.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    assert!(page.contains(&format!("<li>{escaped}</li>")), "{warning}");
}

#[test]
fn a_run_as_it_should_be_is_silent() {
    assert_eq!(trained(|_, _| {}).2.history.warnings, Vec::<String>::new());
}

#[test]
fn few_images() {
    let change = |data: &Path, _: &mut Config| {
        for i in 36..60 {
            std::fs::remove_file(data.join(format!("train/good/{i:02}.png"))).unwrap();
        }
    };
    check(change, &["36 normal images", "collect more"]);
}

#[test]
fn a_bank_that_is_never_updated() {
    check(|_, config| config.train.bank_rate = 1e-6, &["100 % of the memory bank's rows", "train.bank_rate"]);
}

#[test]
fn embeddings_that_are_one_point() {
    // One picture over and over: nothing is left to tell apart, whatever the network learns.
    let change = |data: &Path, config: &mut Config| {
        for i in 0..60 {
            picture(0).save(data.join(format!("train/good/{i:02}.png"))).unwrap();
        }
        config.augment = AugmentConfig::off();
    };
    check(change, &["collapsed to one point", "train.w_con"]);
}

#[test]
fn prototypes_that_do_not_stand_for_the_bank() {
    let (_dir, _, mut trained) = trained(|_, config| config.condense.prototypes = Prototypes::Count(1));
    let warnings = finish(&trained).unwrap().warnings();
    let [warning] = &warnings[..] else { panic!("{warnings:?}") };
    assert!(warning.starts_with("1 prototypes do not stand for the 40 embeddings"), "{warning}");
    assert!(warning.contains("condense.prototypes"), "{warning}");
    trained.config.condense.prototypes = Prototypes::Word("all".into());
    assert_eq!(finish(&trained).unwrap().warnings(), Vec::<String>::new());
}

#[test]
fn test_images_that_are_training_images() {
    let change = |data: &Path, _: &mut Config| {
        let picture = image::open(data.join("train/good/07.png")).unwrap();
        picture.save(data.join("test/good/60.bmp")).unwrap();
        std::fs::remove_file(data.join("test/good/60.png")).unwrap();
    };
    check(change, &["1 of 24 test images are the same as training images", "test/good/60.bmp = train/good/07.png"]);
}

#[test]
fn anomalies_of_another_size() {
    let change = |data: &Path, _: &mut Config| {
        for i in 72..84 {
            let path = data.join(format!("test/dark/{i:02}.png"));
            let picture = image::open(&path).unwrap();
            picture.crop_imm(0, 0, 32, 24).save(&path).unwrap();
        }
    };
    check(change, &["anomalous test images have other proportions", "1.33 against 1.00"]);
}

#[test]
fn normal_test_images_in_another_light() {
    let change = |data: &Path, _: &mut Config| {
        for i in 60..72 {
            let path = data.join(format!("test/good/{i:02}.png"));
            image::open(&path).unwrap().brighten(40).save(&path).unwrap();
        }
    };
    check(change, &["normal test images are brighter", "in every light"]);
}
