//! The images of a run in memory: what trains, what validates and what tests.

use crate::config::Config;
use crate::dataset::{DataConfig, Dataset, DatasetError, Item, Loaded, TestItem, load_frames};
use crate::progress::Progress;
use salad_shared::preprocess::Frame;
use std::iter::Peekable;
use std::path::Path;
use std::sync::Arc;

/// The images of a run, decoded and resized, with what they are called.
#[derive(Debug)]
pub struct Images {
    /// Normal images that are trained on.
    pub train: Set<Item>,
    /// Normal images that choose and calibrate.
    pub validation: Set<Item>,
    /// Images that only judge; may be empty.
    pub test: Set<TestItem>,
    /// Name and reason of each image that could not be read.
    pub skipped: Vec<(String, String)>,
    /// SHA-256 over the names and sizes of the training and validation images.
    pub sha256: String,
    /// The layout the data was found in.
    pub layout: String,
}

/// Items and their frames, in one order.
#[derive(Debug)]
pub struct Set<T> {
    /// What they are.
    pub items: Vec<T>,
    /// Their pixels, at the network's input size.
    pub frames: Arc<Vec<Frame>>,
    /// Each image's own \[width, height\], pixels, before it was resized.
    pub sizes: Vec<[u32; 2]>,
}

/// The data set that a configuration names; frames of videos are kept in `data.cache_dir`, or else in the folder `frames`.
pub(crate) fn open(config: &Config, frames: &Path) -> Result<Dataset, DatasetError> {
    let cache_dir = config.data.cache_dir.clone().unwrap_or_else(|| frames.to_owned());
    Dataset::open(&DataConfig { cache_dir: Some(cache_dir), ..config.data.clone() }, config.seed)
}

/// Decodes and resizes images, and shows how far it is.
pub(crate) fn load(config: &Config, items: &[Item]) -> Result<Loaded, DatasetError> {
    let bar = Progress::images("images", items.len());
    let loaded = load_frames(items, &config.input_spec(), config.train.loader_threads, &|done, _| bar.at(done))?;
    bar.finish();
    Ok(loaded)
}

/// Reads the images that a configuration names into memory; frames of videos are kept in the folder `run`, so that it can be
/// evaluated again without ffmpeg.
pub fn load_images(config: &Config, run: &Path) -> Result<Images, DatasetError> {
    let dataset = open(config, &run.join("frames"))?;
    let sha256 = dataset.digest();
    // All at once, so that the share of bad images that is accepted is one of the whole data set.
    let tested = dataset.test.iter().map(|t| &t.item);
    let items: Vec<Item> = dataset.train.iter().chain(&dataset.validation).chain(tested).cloned().collect();
    let loaded = load(config, &items)?;
    let frames = loaded.frames.into_iter().zip(loaded.sizes);
    let mut frames = loaded.positions.into_iter().zip(frames).peekable();
    let validation_at = dataset.train.len();
    let test_at = validation_at + dataset.validation.len();
    Ok(Images {
        train: take_set(dataset.train, 0, &mut frames),
        validation: take_set(dataset.validation, validation_at, &mut frames),
        test: take_set(dataset.test, test_at, &mut frames),
        skipped: loaded.skipped,
        sha256,
        layout: dataset.layout,
    })
}

/// The items that have a frame, with their frames and sizes. `frames` come with their position in the order of loading, in
/// which the first of `items` stands at `start`.
fn take_set<T>(
    items: Vec<T>,
    start: usize,
    frames: &mut Peekable<impl Iterator<Item = (usize, (Frame, [u32; 2]))>>,
) -> Set<T> {
    let (mut kept, mut own, mut sizes) = (Vec::with_capacity(items.len()), Vec::new(), Vec::new());
    for (position, item) in (start..).zip(items) {
        if let Some((_, (frame, size))) = frames.next_if(|(at, _)| *at == position) {
            kept.push(item);
            own.push(frame);
            sizes.push(size);
        }
    }
    Set { items: kept, frames: Arc::new(own), sizes }
}
