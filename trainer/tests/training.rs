//! A whole small run: it learns, it repeats, and resumed it equals one that was not stopped.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test program")]

mod small_run;

use salad_trainer::config::{Config, Keep};
use salad_trainer::finish::finish;
use salad_trainer::model::Model;
use salad_trainer::network::{NetworkConfig, NetworkKind};
use salad_trainer::train::{Extent, Trained};
use small_run::{attempt, one_at_a_time, opened, prepared, run, weights, weights_of};

/// Total losses of the first ten steps of [`config`]'s run. A change here is a change of the method: say so in
/// CHANGELOG.md.
const FIRST_LOSSES: [f64; 10] =
    [0.736_194, 0.747_910, 0.967_032, 0.732_545, 0.814_940, 0.916_415, 0.831_229, 0.836_331, 0.875_911, 0.753_546];
/// Relative: processors sum in different orders, and Adam's first steps follow the sign of the smallest gradients.
const PINNED: f64 = 1e-3;

#[test]
fn a_resumed_run_equals_an_unbroken_one_bit_for_bit() {
    let (dir, mut config) = prepared();

    let whole = run(&config, &dir.path().join("whole"), Extent::default()).unwrap();
    let broken = dir.path().join("broken");
    // Stopped in phase 1, and in the middle of a round, whose neighbourhoods have to be the same after it.
    let stops = [Some(1), Some(3), None];
    let mut last = None;
    for (i, stop_after) in stops.into_iter().enumerate() {
        // The number of threads that augment is not part of a run's identity.
        config.train.loader_threads = i;
        last = run(&config, &broken, Extent { resume: i > 0, stop_after });
    }
    let resumed = last.unwrap();
    assert_eq!(weights(&whole), weights(&resumed));
    let timeless = |trained: &Trained| {
        let mut history = trained.history.clone();
        history.epochs.iter_mut().for_each(|e| e.seconds = 0.0);
        history
    };
    assert_eq!(timeless(&whole), timeless(&resumed));
    assert_eq!(whole.history.rounds.len(), 2);
    assert_eq!(whole.history.rounds[1].prototypical, whole.images.train.items.len());
}

#[test]
fn an_ensembles_members_are_runs_of_their_own_side_by_side() {
    let (dir, mut config) = prepared();
    (config.train.phase1_epochs, config.train.round_epochs, config.train.members) = (1, 1, 2);
    let whole = run(&config, &dir.path().join("whole"), Extent::default()).unwrap();
    assert_eq!(whole.others.len(), 1);
    assert_ne!(weights_of(&whole.others[0]), weights(&whole));

    // Stopped in the first member, then in the second.
    let (out, resume) = (dir.path().join("run"), Extent { resume: true, stop_after: None });
    assert!(run(&config, &out, Extent { resume: false, stop_after: Some(1) }).is_none());
    config.train.members = 1;
    assert!(run(&config, &out, resume).unwrap().others.is_empty());
    config.train.members = 2;
    assert!(run(&config, &out, Extent { resume: true, stop_after: Some(2) }).is_none());
    let resumed = run(&config, &out, resume).unwrap();
    assert_eq!(weights(&resumed), weights(&whole));
    assert_eq!(weights_of(&resumed.others[0]), weights_of(&whole.others[0]));

    let finished = finish(&resumed).unwrap();
    assert_eq!((finished.folded.members.len(), finished.folded.embedding_dim()), (2, 32));
    assert_eq!(finished.bundle().manifest.encoder.network, "2 x edge");

    // What it was resumed with is what it is opened with.
    assert_eq!(opened(&out, &[]).unwrap().others.len(), 1);
    let with = |members: i64| opened(&out, &[("train.members", members.into())]);
    assert_eq!(finish(&with(1).unwrap()).unwrap().folded.embedding_dim(), 16);
    let error = with(3).unwrap_err().to_string();
    assert!(error.contains("member-3: holds no checkpoint.json") && error.contains("--resume"), "{error}");
    let alone = opened(&out.join("member-2"), &[]).unwrap();
    assert_eq!(weights(&alone), weights_of(&whole.others[0]));
}

#[test]
fn an_ensembles_members_may_be_of_other_networks() {
    let (dir, mut config) = prepared();
    (config.train.phase1_epochs, config.train.round_epochs, config.augment.hflip) = (1, 0, 0.5);
    let (kind, widths) = (NetworkKind::Resnet18, vec![4, 4, 8, 8]);
    config.ensemble = vec![NetworkConfig { kind, widths, embedding_dim: 12, ..Default::default() }];
    let out = dir.path().join("run");
    let trained = run(&config, &out, Extent::default()).unwrap();
    let finished = finish(&trained).unwrap();
    assert_eq!((finished.folded.members.len(), finished.folded.embedding_dim()), (2, 16 + 12));
    assert_eq!(finished.bundle().manifest.encoder.network, "edge + resnet18");

    // A weight may change after training; a member that is trained has the network it has, and its run stays as it is.
    let resume = Extent { resume: true, stop_after: None };
    config.ensemble[0].weight = 0.5;
    let weighted = run(&config, &out, resume).unwrap().fold().unwrap();
    assert_eq!(weighted.members.iter().map(|member| member.weight).collect::<Vec<_>>(), [1.0, 0.5]);
    config.ensemble[0].mirror = true;
    let mirrored = run(&config, &out, resume).unwrap();
    let mirrored = finish(&mirrored).unwrap();
    assert_eq!((mirrored.folded.members.len(), mirrored.folded.embedding_dim()), (3, 16 + 2 * 12));
    assert_eq!(mirrored.bundle().manifest.encoder.network, "edge + resnet18 and its mirror");
    config.ensemble[0].embedding_dim = 8;
    let error = attempt(&config, &out, resume).unwrap_err().to_string();
    assert!(error.contains("member-2: the configuration is not the one"), "{error}");
    assert_eq!(opened(&out, &[]).unwrap().config.ensemble[0].embedding_dim, 12);
}

#[test]
fn the_first_losses_of_a_seeded_run_are_pinned_and_fall() {
    let (dir, config) = prepared();
    let trained = run(&config, &dir.path().join("run"), Extent::default()).unwrap();
    let found = &trained.history.first_losses;
    assert_eq!(found.len(), FIRST_LOSSES.len());
    for (step, (found, pinned)) in found.iter().zip(FIRST_LOSSES).enumerate() {
        assert!(
            (found - pinned).abs() <= PINNED * pinned,
            "step {step}: {found}, pinned {pinned}; all: {:?}",
            trained.history.first_losses
        );
    }
    let epochs = &trained.history.epochs;
    assert!(epochs[5].reconstruction < 0.7 * epochs[0].reconstruction, "{epochs:?}");
}

#[test]
fn what_a_run_cannot_go_on_with_is_refused() {
    let (dir, config) = prepared();
    let out = dir.path().join("run");
    let refused = |config: &Config, extent| attempt(config, &out, extent).unwrap_err().to_string();
    let resume = Extent { resume: true, stop_after: None };
    assert!(refused(&config, resume).contains("no checkpoint to resume"));
    run(&config, &out, Extent { resume: false, stop_after: Some(1) });
    assert!(refused(&config, Extent::default()).contains("--resume"));
    let mut other = config.clone();
    other.train.learning_rate *= 2.0;
    assert!(refused(&other, resume).contains("configuration"));
    // The weights of rounds that are over may be gone.
    let mut other = config.clone();
    other.train.keep = Keep::Average;
    assert!(refused(&other, resume).contains("configuration"));
    std::fs::remove_file(config.data.root.join("00.png")).unwrap();
    assert!(refused(&config, resume).contains("training images are not those"));
}

#[test]
fn weights_to_begin_with_are_read_once_and_stay_on_record() {
    let (dir, mut config) = prepared();
    config.network.kind = NetworkKind::Resnet18;
    config.network.widths = vec![4, 4, 8, 8];
    config.train.phase1_epochs = 1;
    config.train.round_epochs = 1;
    let drawn = run(&config, &dir.path().join("drawn"), Extent::default()).unwrap();

    let file = dir.path().join("elsewhere.safetensors");
    let turn = one_at_a_time();
    let other = Model::new(&config.network, &config.input_spec(), 77, tch::Device::Cpu);
    drop(turn);
    let encoder = other.variables().into_iter().filter_map(|(name, t)| {
        let name = name.strip_prefix("encoder.").filter(|n| !n.starts_with("embed"))?;
        Some((name.to_owned(), t.contiguous()))
    });
    tch::Tensor::write_safetensors(&encoder.collect::<Vec<_>>(), &file).unwrap();
    config.network.init = Some(file.clone());
    let out = dir.path().join("run");
    assert!(run(&config, &out, Extent { resume: false, stop_after: Some(1) }).is_none());
    std::fs::remove_file(&file).unwrap();
    let resumed = run(&config, &out, Extent { resume: true, stop_after: None }).unwrap();
    assert_ne!(resumed.history.first_losses, drawn.history.first_losses);

    let bundle = finish(&resumed).unwrap().bundle();
    let note = &bundle.manifest.provenance.notes["network.init"];
    assert!(note.starts_with("elsewhere.safetensors, SHA-256 ") && note.len() == 31 + 64, "{note}");
    assert!(bundle.model_card.contains("`elsewhere.safetensors`"), "{}", bundle.model_card);
    assert!(finish(&drawn).unwrap().bundle().manifest.provenance.notes.is_empty());
}
