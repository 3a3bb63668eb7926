//! What a run writes while it trains, and which weights it ends with.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test program")]

mod small_run;

use prost::Message;
use salad_trainer::choice::has_stopped;
use salad_trainer::config::{Config, Keep};
use salad_trainer::finish::finish;
use salad_trainer::network::to_floats;
use salad_trainer::rounds;
use salad_trainer::tensorboard::projector;
use salad_trainer::tensorboard::proto::Event;
use salad_trainer::tensorboard::record::masked_crc32c;
use salad_trainer::train::{Extent, Trained};
use small_run::{config, images, one_at_a_time, opened, prepared, run, weights};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

fn reopened(folder: &Path, keep: Keep) -> Trained {
    opened(folder, &[("train.keep", format!("{keep:?}").to_lowercase().into())]).unwrap()
}

/// The events of a run, checked record by record.
fn events(folder: &Path) -> Vec<Event> {
    let bytes = std::fs::read(folder.join("tensorboard/events.out.tfevents.salad")).unwrap();
    let (mut rest, mut found) = (&bytes[..], Vec::new());
    while !rest.is_empty() {
        let length = u64::from_le_bytes(rest[..8].try_into().unwrap()) as usize;
        let data = &rest[12..12 + length];
        let checksums = [8, 12 + length].map(|at| u32::from_le_bytes(rest[at..at + 4].try_into().unwrap()));
        assert_eq!(checksums, [masked_crc32c(&rest[..8]), masked_crc32c(data)]);
        found.push(Event::decode(data).unwrap());
        rest = &rest[16 + length..];
    }
    found
}

/// For each tag its steps, and its values but for times.
fn tags(events: &[Event]) -> BTreeMap<String, Vec<(i64, Option<f32>)>> {
    let mut tags: BTreeMap<String, Vec<_>> = BTreeMap::new();
    for event in events {
        for value in event.summary.iter().flat_map(|s| &s.value) {
            let shown = value.simple_value.filter(|_| value.tag != "epoch/seconds");
            tags.entry(value.tag.clone()).or_default().push((event.step, shown));
        }
    }
    tags
}

#[test]
fn a_resumed_run_writes_what_an_unbroken_one_does_and_no_step_twice() {
    let (dir, config) = prepared();
    let [whole, broken] = ["whole", "broken"].map(|name| dir.path().join(name));
    run(&config, &whole, Extent::default()).unwrap();
    assert!(run(&config, &broken, Extent { resume: false, stop_after: Some(3) }).is_none());
    // As after a crash in the middle of an epoch: more was written than the checkpoint knows of.
    for file in ["steps.csv", "tensorboard/events.out.tfevents.salad"] {
        let path = broken.join(file);
        let written = std::fs::read(&path).unwrap();
        std::fs::write(&path, [&written[..], &written[..written.len() / 3]].concat()).unwrap();
    }
    run(&config, &broken, Extent { resume: true, stop_after: None }).unwrap();

    let text = |folder: &Path, file: &str| std::fs::read_to_string(folder.join(file)).unwrap();
    for file in ["steps.csv", "rounds.csv"] {
        assert_eq!(text(&whole, file), text(&broken, file));
    }
    let steps = text(&whole, "steps.csv");
    let numbers: Vec<i64> = steps.lines().skip(1).map(|l| l.split(',').next().unwrap().parse().unwrap()).collect();
    assert_eq!(numbers, (1..=numbers.len() as i64).collect::<Vec<_>>());
    assert_eq!(numbers.len(), 6 * 3, "six epochs of three batches");
    assert_eq!(text(&whole, "rounds.csv").lines().count(), 1 + 3);

    let (first, second) = (events(&whole), events(&broken));
    assert_eq!(first[0].file_version.as_deref(), Some("brain.Event:2"));
    assert_eq!(first.len(), second.len());
    let (first, second) = (tags(&first), tags(&second));
    assert_eq!(first, second);
    let at = |tag: &str| first[tag].iter().map(|(step, _)| *step).collect::<Vec<_>>();
    assert_eq!(at("loss/aggregation"), numbers);
    assert_eq!(at("learning_rate"), numbers);
    assert_eq!(at("epoch/total"), [1, 2, 3, 4, 5, 6]);
    assert_eq!(at("entropy/q50"), [1, 2]);
    assert_eq!(at("round/neighbour_similarity_mean"), [1, 2]);
    assert_eq!(at("probe/effective_rank"), [0, 1, 2]);
    assert_eq!(at("reconstruction"), [0, 1, 2]);
}

#[test]
fn the_pictures_show_images_over_their_reconstructions() {
    let (dir, config) = prepared();
    let out = dir.path().join("run");
    let trained = run(&config, &out, Extent::default()).unwrap();
    let pictures: Vec<_> = events(&out)
        .into_iter()
        .filter_map(|e| e.summary?.value.into_iter().next()?.image)
        .map(|image| (image.width, image.height, image::load_from_memory(&image.encoded_image_string).unwrap()))
        .collect();
    assert_eq!(pictures.len(), 3);
    let shown = trained.images.validation.frames.iter().step_by(trained.images.validation.frames.len().div_ceil(8));
    for (width, height, picture) in pictures {
        let picture = picture.into_rgb8();
        assert_eq!((picture.width() as i32, picture.height() as i32), (width, height));
        assert_eq!((width, height), (32 * shown.clone().count() as i32, 2 * 32));
        let top_left = image::imageops::crop_imm(&picture, 0, 0, 32, 32).to_image();
        assert_eq!(top_left.as_raw(), trained.images.validation.frames[0].rgb());
    }
}

/// Ends a run in each way, from one training.
fn ended(dir: &Path, config: &Config) -> (PathBuf, [Trained; 3]) {
    let mut config = config.clone();
    config.train.keep_rounds = true;
    let out = dir.join("run");
    run(&config, &out, Extent::default()).unwrap();
    let all = [Keep::Last, Keep::Best, Keep::Average].map(|keep| reopened(&out, keep));
    (out, all)
}

#[test]
fn what_a_run_ends_with_is_what_it_says() {
    let (dir, config) = prepared();
    let (out, [last, best, average]) = ended(dir.path(), &config);
    let of_round = |round: u32| {
        let bytes = std::fs::read(out.join(format!("rounds/round-{round:03}.safetensors"))).unwrap();
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let floats = |data: &[u8]| data.chunks(4).map(|c| f32::from_le_bytes(c.try_into().unwrap())).collect();
        file.iter().map(|(name, view)| (name.to_owned(), floats(view.data()))).collect::<BTreeMap<_, Vec<f32>>>()
    };
    let bits = |rows: &BTreeMap<String, Vec<f32>>| -> Vec<(String, Vec<u32>)> {
        rows.iter().map(|(name, values)| (name.clone(), values.iter().map(|v| v.to_bits()).collect())).collect()
    };
    assert_eq!(last.choice.rounds, [2]);
    assert_eq!(weights(&last), bits(&of_round(2)));
    let [chosen] = best.choice.rounds[..] else { panic!("{:?}", best.choice) };
    assert_eq!(weights(&best), bits(&of_round(chosen)));
    assert_ne!(of_round(1), of_round(2));

    assert_eq!(average.choice.rounds, [0, 1, 2]);
    let rounds = [0, 1, 2].map(of_round);
    for (name, variable) in average.model.variables() {
        let found = to_floats(&variable).unwrap();
        let mean = |i: usize| rounds.iter().map(|r| r[&name][i]).sum::<f32>() / 3.0;
        let off = found.iter().enumerate().map(|(i, v)| (v - mean(i)).abs()).fold(0.0, f32::max);
        if name.ends_with("running_var") {
            // Taken anew: those of averaged weights are not the average of the statistics.
            assert!(off > 1e-4 && found.iter().all(|v| *v >= 0.0), "{name}: {off}");
        } else if !name.ends_with("running_mean") {
            assert!(off < 1e-6, "{name}: {off}");
        }
    }
}

#[test]
fn a_run_that_kept_what_it_needs_is_finished_from_it() {
    let (dir, mut config) = prepared();
    config.train.keep = Keep::Average;
    config.train.average_rounds = 2;
    let out = dir.path().join("run");
    let trained = run(&config, &out, Extent::default()).unwrap();
    let names: Vec<_> = std::fs::read_dir(out.join("rounds")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "{names:?}");
    assert_eq!(weights(&trained), weights(&reopened(&out, Keep::Average)));
    // Resumed at its end, it ends the same.
    let again = run(&config, &out, Extent { resume: true, stop_after: None }).unwrap();
    assert_eq!(weights(&trained), weights(&again));
    std::fs::remove_dir_all(out.join("rounds")).unwrap();
    let error = opened(&out, &[]).unwrap_err().to_string();
    assert!(error.contains("round-001.safetensors") && error.contains("train.keep_rounds"), "{error}");
}

#[test]
fn a_run_stops_once_rounds_bring_nothing_and_stays_stopped() {
    let (dir, mut config) = prepared();
    (config.train.rate, config.train.round_epochs, config.train.patience_rounds) = (0.05, 1, 1);
    let out = dir.path().join("run");
    let trained = run(&config, &out, Extent::default()).unwrap();
    let done = trained.history.epochs.len();
    assert!(done < config.schedule().epochs() as usize, "twenty rounds on end, each better than all before");
    assert!(has_stopped(&config.train, &trained.history.probes));
    assert_eq!(done, 2 + trained.history.probes.len() - 1);
    let again = run(&config, &out, Extent { resume: true, stop_after: None }).unwrap();
    assert_eq!((again.history.epochs.len(), weights(&again)), (done, weights(&trained)));
    assert_eq!(weights(&reopened(&out, Keep::Best)), weights(&trained));
}

#[test]
fn rounds_are_judged_by_the_test_set() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    for folder in ["train/good", "test/good", "test/dark"] {
        std::fs::create_dir_all(data.join(folder)).unwrap();
    }
    images(&data.join("train/good"));
    for i in 0..12 {
        let from = data.join(format!("train/good/{i:02}.png"));
        let picture = image::open(&from).unwrap().into_rgb8();
        std::fs::rename(&from, data.join(format!("test/good/{i:02}.png"))).unwrap();
        let dark = image::RgbImage::from_fn(32, 32, |x, y| image::Rgb(picture.get_pixel(x, y).0.map(|v| v / 3)));
        dark.save(data.join(format!("test/dark/{i:02}.png"))).unwrap();
    }
    let mut config = config(&data);
    config.data.validation_share = 0.5;
    let (out, [_, mut best, _]) = ended(dir.path(), &config);
    let turn = one_at_a_time();
    let compared = rounds::compare(&out, &mut best).unwrap();
    assert_eq!(compared.rounds.iter().map(|r| r.probe.round).collect::<Vec<_>>(), [0, 1, 2]);
    assert!(compared.rounds.iter().all(|r| (0.0..=1.0).contains(&r.test_auroc)));
    let of = |round: u32| compared.rounds[round as usize].test_auroc;
    assert_eq!(compared.kept[..2], [(Keep::Last, of(2)), (Keep::Best, of(best.choice.rounds[0]))]);
    assert!(compared.correlations.iter().any(|(name, _)| *name == "effective_rank"));
    assert!(compared.correlations.iter().flat_map(|(_, r)| r).all(|r| (-1.0..=1.0).contains(r)));

    // The finished run's embeddings, for the projector.
    let finished = finish(&best).unwrap();
    projector::write(&finished, &out).unwrap();
    drop(turn);
    let read = |file: &str| std::fs::read_to_string(out.join("tensorboard").join(file)).unwrap();
    let (tensors, metadata) = (read("projector/tensors.tsv"), read("projector/metadata.tsv"));
    assert_eq!(tensors.lines().count(), 48);
    assert!(tensors.lines().all(|l| l.split('\t').filter(|v| v.parse::<f32>().is_ok()).count() == 16));
    assert_eq!(metadata.lines().count(), 1 + 48);
    assert!(metadata.starts_with("name\tset\tkind\tscore\n") && metadata.contains("test/dark/03.png\ttest\tdark\t"));
    let sheet = image::open(out.join("tensorboard/projector/sprite.png")).unwrap();
    assert_eq!((sheet.width(), sheet.height()), (7 * 64, 7 * 64));
    for file in ["tensors.tsv", "metadata.tsv", "sprite.png"] {
        assert!(read("projector_config.pbtxt").contains(&format!("\"projector/{file}\"")), "{file}");
    }
}
