//! A small run, and the pictures it trains on.

#![allow(dead_code, reason = "not every test program uses all of it")]

use salad_trainer::config::Config;
use salad_trainer::model::Model;
use salad_trainer::train::{Extent, TrainError, Trained, open, train};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Writes thirty-six pictures.
pub fn images(folder: &Path) {
    for i in 0..36 {
        picture(i).save(folder.join(format!("{i:02}.png"))).unwrap();
    }
}

/// A bright square that moves a little on a dark gradient, to another place for each `i` below 144.
pub fn picture(i: u32) -> image::RgbImage {
    let (x0, y0) = (8 + i % 6 - i / 72 * 6, 8 + i / 6 % 12);
    image::RgbImage::from_fn(32, 32, |x, y| {
        let inside = (x0..x0 + 12).contains(&x) && (y0..y0 + 12).contains(&y);
        if inside { image::Rgb([220, 180, 40]) } else { image::Rgb([(2 * x) as u8, (3 * y) as u8, 60]) }
    })
}

pub fn config(folder: &Path) -> Config {
    let text = format!(
        r#"
        seed = 5
        [data]
        root = "{}"
        validation_share = 0.3
        [input]
        size = 32
        [network]
        embedding_dim = 16
        widths = [8, 16, 16]
        [train]
        batch_size = 8
        views = 2
        phase1_epochs = 2
        round_epochs = 2
        rate = 0.5
        neighbours = 3
        learning_rate = 0.001
        device = "cpu"
        threads = 1
        "#,
        folder.display()
    );
    Config::load_text("test", &text, &[]).unwrap()
}

/// A folder with pictures, and a run's configuration for them.
pub fn prepared() -> (tempfile::TempDir, Config) {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    std::fs::create_dir(&data).unwrap();
    images(&data);
    let config = config(&data);
    (dir, config)
}

/// libtorch has one random generator for the whole process: two runs at once would draw from each other's.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

pub fn one_at_a_time() -> MutexGuard<'static, ()> {
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

pub fn attempt(config: &Config, out: &Path, extent: Extent) -> Result<Option<Trained>, TrainError> {
    let _turn = one_at_a_time();
    train(config, out, extent)
}

/// Opens a finished run, with these keys changed.
pub fn opened(out: &Path, keys: &[(&str, toml::Value)]) -> Result<Trained, TrainError> {
    let _turn = one_at_a_time();
    let keys: Vec<_> = keys.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
    open(out, |saved| Config::load_text("checkpoint.json", saved, &keys))
}

pub fn run(config: &Config, out: &Path, extent: Extent) -> Option<Trained> {
    attempt(config, out, extent).unwrap()
}

/// The values of a network, bit by bit.
pub fn weights(trained: &Trained) -> Vec<(String, Vec<u32>)> {
    weights_of(&trained.model)
}

/// The values of one network.
pub fn weights_of(model: &Model) -> Vec<(String, Vec<u32>)> {
    let bits = |t: &tch::Tensor| {
        salad_trainer::network::to_floats(t).unwrap().into_iter().map(f32::to_bits).collect::<Vec<u32>>()
    };
    model.variables().iter().map(|(name, t)| (name.clone(), bits(t))).collect()
}
