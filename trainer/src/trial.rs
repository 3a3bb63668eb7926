//! The start of a run without its folder: images, network, bank, optimiser, loader. What `bench` times and `trace` writes down.

use crate::config::Config;
use crate::images;
use crate::loader::{Batch, Loader};
use crate::memory_bank::MemoryBank;
use crate::model::Model;
use crate::neighbours::Neighbourhoods;
use crate::optimiser::Adam;
use crate::precision::Precision;
use crate::step::{Learner, Stage};
use crate::train::{TrainError, loader, prepare_device};
use salad_shared::preprocess::Frame;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tch::{Device, Tensor};

/// A run that has not begun.
#[derive(Debug)]
pub struct Trial {
    /// Its configuration.
    pub config: Config,
    /// Where it runs.
    pub device: Device,
    /// In which numbers.
    pub precision: Precision,
    /// Its network, newly drawn.
    pub model: Model,
    /// Its bank.
    pub bank: MemoryBank,
    /// Its optimiser.
    pub adam: Adam,
    /// Its batches.
    pub loader: Loader,
    /// How long the training images took to decode and resize, all together.
    pub loading: Duration,
    frames: Arc<Vec<Frame>>,
}

impl Trial {
    /// Reads the training images and builds the rest.
    pub fn new(config: &Config) -> Result<Trial, TrainError> {
        let (device, precision) = prepare_device(config)?;
        // The frames of a video have to lie somewhere.
        let scratch = tempfile::tempdir().map_err(|source| TrainError::Io { path: std::env::temp_dir(), source })?;
        let items = images::open(config, scratch.path())?.train;
        let began = Instant::now();
        let frames = images::load(config, &items)?.frames;
        let loading = began.elapsed();
        let frames = Arc::new(frames);
        let model = Model::new(&config.network, &config.input_spec(), config.seed, device);
        let rows = frames.len() * config.places(frames.len()).each();
        let bank = MemoryBank::random(rows, config.network.embedding_dim, device);
        let adam = Adam::new(model.trainable(), config.train.weight_decay);
        let loader = loader(config, &frames, config.train.loader_threads)?.for_device(device);
        Ok(Trial { config: config.clone(), device, precision, model, bank, adam, loader, loading, frames })
    }

    /// Images it trains on.
    pub fn images(&self) -> usize {
        self.frames.len()
    }

    /// Its batches, made by the thread that takes them.
    pub fn unthreaded_loader(&self) -> Result<Loader, TrainError> {
        Ok(loader(&self.config, &self.frames, 0)?.for_device(self.device))
    }

    /// The neighbourhoods that a round would have if it began now.
    pub fn neighbourhoods(&self, round: u32) -> Neighbourhoods {
        Neighbourhoods::discover(self.bank.rows(), round, &self.config.curriculum()).0
    }

    /// One step at the full learning rate, as [`Learner::step`] makes it, with a batch on the device.
    pub fn step(
        &mut self,
        batch: &Batch,
        neighbourhoods: Option<&Neighbourhoods>,
        reached: impl FnMut(Stage),
    ) -> Tensor {
        let (bank, adam) = (&mut self.bank, &mut self.adam);
        let mut learner =
            Learner { config: &self.config.train, model: &self.model, bank, adam, precision: self.precision };
        learner.step(batch, neighbourhoods, self.config.train.learning_rate, reached)
    }
}
