//! Runs that several cases look at, each trained once.

use super::{pictures, succeed};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// A data set and a run trained on it.
#[derive(Debug)]
pub struct Run {
    /// The folder of both; it goes when the process ends.
    _folder: tempfile::TempDir,
    /// The data set.
    pub data: PathBuf,
    /// The run.
    pub out: PathBuf,
    /// Its bundle.
    pub bundle: PathBuf,
}

/// A small `edge` network.
pub fn edge() -> &'static Run {
    static RUN: OnceLock<Run> = OnceLock::new();
    RUN.get_or_init(|| {
        train("edge", &["network.widths=[16,32,48,64]", "network.embedding_dim=128", "train.learning_rate=0.001"])
    })
}

/// A small `unet` network: max pooling, leaky ReLU.
pub fn unet() -> &'static Run {
    static RUN: OnceLock<Run> = OnceLock::new();
    RUN.get_or_init(|| {
        train("unet", &["network.widths=[16,32,64,128,128]", "network.embedding_dim=128", "train.learning_rate=0.0003"])
    })
}

/// A small `edge` network with an embedding for each of 8 x 8 places.
pub fn patches() -> &'static Run {
    static RUN: OnceLock<Run> = OnceLock::new();
    RUN.get_or_init(|| {
        let sets = ["network.widths=[16,32,48]", "network.embedding_dim=32", "train.learning_rate=0.001"];
        train("edge", &[&sets[..], &["network.patch.stride=8", "network.patch.receptive_field=24"]].concat())
    })
}

/// A small `resnet18` network: residual blocks, a 7 x 7 kernel, padded max pooling, a mean over all places. Turned and
/// coloured views give its one vector a picture something to learn where pictures are so much alike.
pub fn resnet18() -> &'static Run {
    static RUN: OnceLock<Run> = OnceLock::new();
    let net = ["network.widths=[16,32,64,128]", "network.stem=imagenet", "network.embedding_dim=64"];
    RUN.get_or_init(|| train("resnet18", &[&net[..], &TURNED].concat()))
}

const TURNED: [&str; 5] = [
    "train.views=1",
    "train.phase1_epochs=16",
    "train.learning_rate=0.001",
    "augment.rotate_degrees=180",
    "augment.hue_degrees=60",
];

/// A small `edge` and beside it a small `resnet18`, trained as [`resnet18`] is.
pub fn ensemble() -> &'static Run {
    static RUN: OnceLock<Run> = OnceLock::new();
    RUN.get_or_init(|| {
        let net = ["network.widths=[16,32,48,64]", "network.embedding_dim=128"];
        let beside =
            r#"ensemble=[{kind="resnet18",widths=[16,32,64,128],stem="imagenet",embedding_dim=64,weight=0.5}]"#;
        train("edge", &[&net[..], &[beside, "augment.hflip=0.5"], &TURNED].concat())
    })
}

/// Trains a network for a few epochs.
fn train(network: &str, sets: &[&str]) -> Run {
    let folder = tempfile::tempdir().unwrap();
    let (data, out) = (folder.path().join("plates"), folder.path().join("run"));
    pictures::data_set(&data);
    train_into(&data, &out, network, sets);
    let bundle = out.join("plates.salad");
    Run { _folder: folder, data, out, bundle }
}

fn train_into(data: &Path, out: &Path, network: &str, sets: &[&str]) {
    let mut args = vec!["train", data.to_str().unwrap(), "--out", out.to_str().unwrap(), "--network", network];
    let size = pictures::SIDE.to_string();
    args.extend(["--size", &size, "--device", "cpu", "--threads", "1", "--fps", "1"]);
    let schedule = ["train.batch_size=16", "train.phase1_epochs=8", "train.round_epochs=4", "train.rate=0.5"];
    for set in schedule.iter().chain(sets) {
        args.extend(["--set", set]);
    }
    succeed("salad-trainer", &args);
}
