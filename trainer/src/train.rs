//! The spine of a run: data -> phase 1 -> rounds of phase 2 {neighbourhoods, epochs, validate, checkpoint}.
//!
//! What follows the training (condense, evaluate, quantize, export, report) is in [`crate::finish`].

use crate::augment::ToView;
use crate::checkpoint::{self, CheckpointError, Named, Saved, State};
use crate::config::{BankStart, Config, ConfigError};
use crate::dataset::{DataConfig, Dataset, DatasetError, Item, TestItem, load_frames};
use crate::device;
use crate::history::{EpochRow, FIRST_LOSSES, History, RoundRow};
use crate::init::{self, InitError};
use crate::loader::{Loader, LoaderError};
use crate::memory_bank::MemoryBank;
use crate::model::Model;
use crate::neighbours::Neighbourhoods;
use crate::optimiser::Adam;
use crate::places::Places;
use crate::precision::Precision;
use crate::progress::Progress;
use crate::step::Learner;
use salad_shared::atomic;
use salad_shared::preprocess::Frame;
use salad_shared::threshold::MIN_SCORES;
use std::collections::HashMap;
use std::iter::Peekable;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;
use tch::{Kind, TchError, Tensor, no_grad};

/// Images encoded at a time.
const ENCODED_AT_ONCE: usize = 64;

/// Why a run ended early.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The images.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    /// A checkpoint.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The weights to begin with.
    #[error(transparent)]
    Init(#[from] InitError),
    /// The images of an epoch.
    #[error(transparent)]
    Loader(#[from] LoaderError),
    /// libtorch.
    #[error("libtorch: {0}")]
    Tch(#[from] TchError),
    /// A file of the run cannot be written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The operating system's words.
        source: std::io::Error,
    },
    /// Anything else that a person has to mend.
    #[error("{0}")]
    Refused(String),
}

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
}

/// A run that has been trained.
#[derive(Debug)]
pub struct Trained {
    /// Its configuration.
    pub config: Config,
    /// Its images.
    pub images: Images,
    /// Its network.
    pub model: Model,
    /// What happened.
    pub history: History,
}

/// How a run begins and ends.
#[derive(Debug, Clone, Copy, Default)]
pub struct Extent {
    /// Go on where the checkpoint stands.
    pub resume: bool,
    /// Stop once so many epochs are done, to be resumed another time.
    pub stop_after: Option<u32>,
}

/// Trains into the folder `run`, or goes on where its checkpoint stands. `None` where it was told to stop on the way.
pub fn train(config: &Config, run: &Path, extent: Extent) -> Result<Option<Trained>, TrainError> {
    let device = device::parse(&config.train.device).map_err(TrainError::Refused)?;
    if config.train.threads > 0 {
        tch::set_num_threads(config.train.threads as i32);
    }
    let precision = config.train.precision.prepare(device);
    let saved = prepare_folder(config, run, extent.resume)?;
    let mut model = Model::new(&config.network, &config.input_spec(), config.seed, device);
    let mut history = History::default();
    if saved.is_none()
        && let Some(weights) = &config.network.init
    {
        history.initial_weights = Some(init::load(&model, weights)?);
    }
    let images = load_images(config, run)?;
    let n = images.train.items.len();
    check_validation(images.validation.items.len(), &config.data.root)?;

    let places = config.places(n);
    let mut bank = match config.train.bank_start {
        BankStart::Random => MemoryBank::random(n * places.each(), config.network.embedding_dim, device),
        BankStart::Encode => MemoryBank::from_rows(&encode_bank(&model, &images.train.frames, &places)),
    };
    let mut adam = Adam::new(model.trainable(), config.train.weight_decay);
    let mut neighbourhoods = None;
    let mut start = 0;
    if let Some((state, mut tensors)) = saved {
        if state.dataset_sha256 != images.sha256 {
            return Err(TrainError::Refused(format!(
                "{}: the training images are not those the run began with; train anew into another --out",
                run.display()
            )));
        }
        let mut take = |name: &str| take_tensor(&mut tensors, run, name);
        model.restore(&mut take)?;
        bank = MemoryBank::from_saved(take("bank")?.to_device(device));
        adam.restore(state.optimiser_steps, &mut take)?;
        if state.round > 0 {
            let (prototypical, members) = (take("prototypical")?.to_device(device), take("members")?.to_device(device));
            neighbourhoods = Some(Neighbourhoods { prototypical, members });
        }
        (history, start) = (state.history, state.epochs_done);
        log::info!("going on after epoch {start}");
    }

    let schedule = config.schedule();
    let loader = Loader::new(
        Arc::clone(&images.train.frames),
        config.input_spec(),
        config.augment.clone(),
        config.train.views,
        config.train.batch_size,
        config.seed,
        config.train.loader_threads,
    )?
    .with_places(places)
    .for_device(device);
    let end = extent.stop_after.map_or(schedule.epochs(), |stop| stop.min(schedule.epochs()));
    let mut progress = Progress::epochs(schedule.epochs(), start);
    for epoch in start..end {
        let began = Instant::now();
        let stage = schedule.stage(epoch);
        if stage.begins && stage.round > 0 {
            let t = &config.train;
            let (found, stats) = Neighbourhoods::discover(bank.rows(), stage.round, t.rate, t.neighbours, t.tau);
            neighbourhoods = Some(found);
            history.rounds.push(RoundRow::new(stage.round, &stats));
        }
        let first = &mut history.first_losses;
        let mut run_epoch = Epoch { config, model: &model, bank: &mut bank, adam: &mut adam, precision, first };
        let mut row = run_epoch.run(epoch, &loader, neighbourhoods.as_ref())?;
        row.round = stage.round;
        row.seconds = began.elapsed().as_secs_f64();
        row.validation_reconstruction = validation_reconstruction(config, &model, &images.validation.frames)?;
        progress.epoch_done(&row);
        if !row.total.is_finite() {
            return Err(TrainError::Refused(format!(
                "the loss is {} in epoch {}: train anew into another --out with a lower train.learning_rate",
                row.total,
                epoch + 1
            )));
        }
        history.epochs.push(row);
        let state = State {
            version: 1,
            config: config.to_toml(),
            dataset_sha256: images.sha256.clone(),
            epochs_done: epoch + 1,
            round: stage.round,
            optimiser_steps: adam.steps(),
            history: history.clone(),
            tensors: String::new(),
            tensors_sha256: String::new(),
        };
        checkpoint::save(run, state, &tensors_to_save(&model, &bank, &adam, neighbourhoods.as_ref()))?;
        let path = run.join("history.csv");
        history.write_csv(&path).map_err(|source| TrainError::Io { path, source })?;
    }
    progress.finish();
    if end < schedule.epochs() {
        log::info!("stopped after epoch {}; --resume goes on", start.max(end));
        return Ok(None);
    }
    Ok(Some(Trained { config: config.clone(), images, model, history }))
}

/// The configuration that the run in a folder began with, as TOML.
pub fn saved_config(run: &Path) -> Result<String, TrainError> {
    match checkpoint::load(run)? {
        Some((state, _)) => Ok(state.config),
        None => Err(TrainError::Refused(format!("{}: holds no checkpoint to resume", run.display()))),
    }
}

/// Takes up a finished run as its checkpoint left it, to evaluate or export it anew. `adjust` may change what
/// follows the training (score, prototypes, threshold, where the data is).
pub fn open(run: &Path, adjust: impl FnOnce(&str) -> Result<Config, ConfigError>) -> Result<Trained, TrainError> {
    let Some((state, mut tensors)) = checkpoint::load(run)? else {
        return Err(TrainError::Refused(format!(
            "{}: holds no checkpoint.json; `train --out` makes one",
            run.display()
        )));
    };
    let config = adjust(&state.config)?;
    same_training(run, &state.config, &config)?;
    let epochs = config.schedule().epochs();
    if state.epochs_done < epochs {
        return Err(TrainError::Refused(format!(
            "{}: the run is not finished, it stands at epoch {} of {epochs}; `train --resume --out {0}` goes on",
            run.display(),
            state.epochs_done
        )));
    }
    let device = device::parse(&config.train.device).map_err(TrainError::Refused)?;
    let images = load_images(&config, run)?;
    if state.dataset_sha256 != images.sha256 {
        log::warn!("the training images are not those the run was trained on");
    }
    let mut model = Model::new(&config.network, &config.input_spec(), config.seed, device);
    model.restore(|name| take_tensor(&mut tensors, run, name))?;
    Ok(Trained { config, images, model, history: state.history })
}

/// One epoch's parts, borrowed from the run.
struct Epoch<'a> {
    config: &'a Config,
    model: &'a Model,
    bank: &'a mut MemoryBank,
    adam: &'a mut Adam,
    precision: Precision,
    first: &'a mut Vec<f64>,
}

impl Epoch<'_> {
    /// Every image once: forward, losses, backward, step, bank.
    fn run(
        &mut self,
        epoch: u32,
        loader: &Loader,
        neighbourhoods: Option<&Neighbourhoods>,
    ) -> Result<EpochRow, TrainError> {
        let schedule = self.config.schedule();
        let steps = loader.batches();
        // [reconstruction, sample-specific, aggregation, total], weighted by the batch's images
        let mut sums = Tensor::zeros([4], (Kind::Double, self.model.store.device()));
        let (mut images, mut learning_rate) = (0usize, 0.0);
        let (config, device) = (self.config, self.model.store.device());
        let (bank, adam) = (&mut *self.bank, &mut *self.adam);
        let mut learner = Learner { config: &config.train, model: self.model, bank, adam, precision: self.precision };
        for (step, batch) in loader.epoch(u64::from(epoch)).enumerate() {
            let progress = (f64::from(epoch) + step as f64 / steps as f64) / f64::from(schedule.epochs());
            learning_rate = config.train.learning_rate * schedule.rate_at(progress);
            let batch = batch.to_device(device);
            let terms = learner.step(&batch, neighbourhoods, learning_rate, |_| ());
            if self.first.len() < FIRST_LOSSES {
                self.first.push(terms.double_value(&[3]));
            }
            sums += terms * batch.size as f64;
            images += batch.size;
        }
        let means = Vec::<f64>::try_from(&(sums / images.max(1) as f64))?;
        Ok(EpochRow {
            epoch,
            round: 0,
            reconstruction: means[0],
            sample_specific: means[1],
            aggregation: means[2],
            total: means[3],
            learning_rate,
            validation_reconstruction: 0.0,
            seconds: 0.0,
        })
    }
}

/// The rows of the bank as the network encodes them now.
fn encode_bank(model: &Model, frames: &[Frame], places: &Places) -> Tensor {
    let chunks = frames.chunks(ENCODED_AT_ONCE).enumerate().map(|(i, chunk)| {
        let first = i * ENCODED_AT_ONCE;
        let grid = places.grid((first..first + chunk.len()).map(|image| (image, ToView::UNMOVED)));
        let grid = grid.map(|g| g.to_device(model.store.device()));
        no_grad(|| Places::embeddings(&model.net.encode(&model.images(chunk), false), grid.as_ref()))
    });
    Tensor::cat(&chunks.collect::<Vec<_>>(), 0)
}

/// Makes the run's folder and says what is in it: the checkpoint to go on from, if one is wanted.
fn prepare_folder(config: &Config, run: &Path, resume: bool) -> Result<Option<Saved>, TrainError> {
    std::fs::create_dir_all(run).map_err(|source| TrainError::Io { path: run.into(), source })?;
    let saved = checkpoint::load(run)?;
    match (&saved, resume) {
        (Some(_), false) => Err(TrainError::Refused(format!(
            "{}: holds a run already; --resume goes on with it, another --out begins a new one",
            run.display()
        ))),
        (None, true) => Err(TrainError::Refused(format!("{}: holds no checkpoint to resume", run.display()))),
        (Some((state, _)), true) => {
            same_training(run, &state.config, config)?;
            Ok(saved)
        }
        (None, false) => {
            let path = run.join("config.toml");
            atomic::write(&path, config.to_toml().as_bytes()).map_err(|source| TrainError::Io { path, source })?;
            Ok(None)
        }
    }
}

/// Refuses early what could not be finished: a threshold needs [`MIN_SCORES`] validation images.
fn check_validation(found: usize, root: &Path) -> Result<(), TrainError> {
    if found >= MIN_SCORES {
        return Ok(());
    }
    Err(TrainError::Refused(format!(
        "{}: {found} normal images are set aside for validation, and the threshold needs at least {MIN_SCORES}: add normal \
         images, or raise data.validation_share",
        root.display()
    )))
}

/// Refuses a configuration that would not have trained these weights on these images. What follows the training may
/// change, and where things are and run.
fn same_training(run: &Path, saved: &str, config: &Config) -> Result<(), TrainError> {
    let began = Config::load_text("checkpoint.json", saved, &[])?;
    let mut like = began.clone();
    like.name.clone_from(&config.name);
    like.data.root.clone_from(&config.data.root);
    like.data.cache_dir.clone_from(&config.data.cache_dir);
    like.train.device.clone_from(&config.train.device);
    like.train.threads = config.train.threads;
    like.train.loader_threads = config.train.loader_threads;
    like.score = config.score;
    if let (Some(like), Some(patch)) = (&mut like.network.patch, &config.network.patch) {
        like.top = patch.top;
    }
    like.condense.clone_from(&config.condense);
    like.quantize.clone_from(&config.quantize);
    like.threshold.clone_from(&config.threshold);
    if like == *config {
        return Ok(());
    }
    Err(TrainError::Refused(format!(
        "{}: the configuration is not the one the run began with ({}); only name, data.root, score, \
         network.patch.top, condense, quantize, threshold, train.device and threads may differ: leave the rest out, or train anew into another --out",
        run.display(),
        run.join("config.toml").display()
    )))
}

fn load_images(config: &Config, run: &Path) -> Result<Images, TrainError> {
    // The frames of a video are kept with the run, so that it can be evaluated again without ffmpeg.
    let cache_dir = config.data.cache_dir.clone().unwrap_or_else(|| run.join("frames"));
    let dataset = Dataset::open(&DataConfig { cache_dir: Some(cache_dir), ..config.data.clone() }, config.seed)?;
    let sha256 = dataset.digest();
    let spec = config.input_spec();
    // All at once, so that the share of bad images that is accepted is one of the whole data set.
    let tested = dataset.test.iter().map(|t| &t.item);
    let items: Vec<Item> = dataset.train.iter().chain(&dataset.validation).chain(tested).cloned().collect();
    let bar = Progress::images("images", items.len());
    let loaded = load_frames(&items, &spec, config.train.loader_threads, &|done, _| bar.at(done))?;
    bar.finish();
    let mut frames = loaded.positions.into_iter().zip(loaded.frames).peekable();
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

/// The items that have a frame, with their frames. `frames` come with their position in the order of loading, in which the
/// first of `items` stands at `start`.
fn take_set<T>(items: Vec<T>, start: usize, frames: &mut Peekable<impl Iterator<Item = (usize, Frame)>>) -> Set<T> {
    let (mut kept, mut own) = (Vec::with_capacity(items.len()), Vec::with_capacity(items.len()));
    for (position, item) in (start..).zip(items) {
        if let Some((_, frame)) = frames.next_if(|(at, _)| *at == position) {
            kept.push(item);
            own.push(frame);
        }
    }
    Set { items: kept, frames: Arc::new(own) }
}

fn validation_reconstruction(config: &Config, model: &Model, frames: &[Frame]) -> Result<f64, TrainError> {
    let mut sum = 0.0;
    for chunk in frames.chunks(config.train.batch_size) {
        let loss = no_grad(|| {
            let images = model.images(chunk);
            config.train.reconstruction.loss(&model.net.decode(&model.net.encode(&images, false), false), &images)
        });
        sum += f64::try_from(&loss)? * chunk.len() as f64;
    }
    Ok(sum / frames.len().max(1) as f64)
}

fn tensors_to_save(model: &Model, bank: &MemoryBank, adam: &Adam, found: Option<&Neighbourhoods>) -> Named {
    let mut tensors = model.variables();
    tensors.push(("bank".into(), bank.rows().shallow_clone()));
    tensors.extend(adam.state());
    if let Some(found) = found {
        tensors.push(("prototypical".into(), found.prototypical.shallow_clone()));
        tensors.push(("members".into(), found.members.shallow_clone()));
    }
    tensors
}

fn take_tensor(tensors: &mut HashMap<String, Tensor>, run: &Path, name: &str) -> Result<Tensor, TrainError> {
    tensors.remove(name).ok_or_else(|| {
        TrainError::Refused(format!("{}: its checkpoint has no tensor {name}; it is of another network", run.display()))
    })
}
