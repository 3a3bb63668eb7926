//! The spine of a run: data -> phase 1 -> rounds of phase 2 {neighbourhoods, epochs, validate, checkpoint}.
//!
//! What follows the training (condense, evaluate, quantize, export, report) is in [`crate::finish`].

use crate::checkpoint::{self, CheckpointError, Named, Saved, State};
use crate::choice::{self, Choice, ChoiceError};
use crate::config::{BankStart, Config, ConfigError};
use crate::dataset::DatasetError;
use crate::device;
use crate::folded::FoldedNet;
use crate::history::{EpochRow, FIRST_LOSSES, History, RoundRow};
use crate::images::{Images, load_images};
use crate::init::{self, InitError, InitialWeights};
use crate::loader::{self, Loader, LoaderError};
use crate::memory_bank::MemoryBank;
use crate::model::Model;
use crate::monitor::{Monitor, MonitorError, StepAt, Written};
use crate::neighbours::Neighbourhoods;
use crate::optimiser::Adam;
use crate::precision::Precision;
use crate::probe::Probe;
use crate::progress::Progress;
use crate::step::Learner;
use crate::warnings;
use salad_shared::atomic;
use salad_shared::preprocess::Frame;
use salad_shared::threshold::MIN_SCORES;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tch::{Device, Kind, TchError, Tensor, no_grad};

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
    /// The files that grow while a run trains.
    #[error(transparent)]
    Monitor(#[from] MonitorError),
    /// The weights to end with.
    #[error(transparent)]
    Choice(#[from] ChoiceError),
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

/// A run that has been trained.
#[derive(Debug)]
pub struct Trained {
    /// Its configuration.
    pub config: Config,
    /// Its images.
    pub images: Images,
    /// Its network, with the weights of `choice`; of an ensemble the first member's.
    pub model: Model,
    /// The networks of an ensemble's other members.
    pub others: Vec<Model>,
    /// Which weights it ended with; of an ensemble the first member.
    pub choice: Choice,
    /// What happened; of an ensemble to the first member, but for the warnings, which are those of all.
    pub history: History,
    /// The weights from elsewhere that members began with, by the member's number.
    pub initial_weights: Vec<(u32, InitialWeights)>,
}

impl Trained {
    fn new(config: &Config, images: Images, members: Vec<Member>) -> Result<Trained, TrainError> {
        let mut members = members.into_iter();
        let Some(Member { model, choice, mut history }) = members.next() else {
            return Err(TrainError::Refused("no network has been trained".into()));
        };
        let mut others = Vec::new();
        let mut initial_weights: Vec<_> =
            history.initial_weights.clone().map(|weights| (1, weights)).into_iter().collect();
        for (number, member) in (2..).zip(members) {
            initial_weights.extend(member.history.initial_weights.map(|weights| (number, weights)));
            let new = member.history.warnings.into_iter().filter(|w| !history.warnings.contains(w));
            let new: Vec<_> = new.map(|w| format!("member {number}: {w}")).collect();
            history.warnings.extend(new);
            others.push(member.model);
        }
        Ok(Trained { config: config.clone(), images, model, others, choice, history, initial_weights })
    }

    /// The encoder as inference sees it, all members side by side.
    pub fn fold(&self) -> Result<FoldedNet, TchError> {
        let models = std::iter::once(&self.model).chain(&self.others);
        let nets = models.zip(self.config.member_networks()).map(|(model, network)| {
            let mut net = model.net.fold()?;
            net.members.iter_mut().for_each(|member| member.weight = network.weight as f32);
            Ok(if network.mirror { net.beside_its_mirror() } else { net })
        });
        let joined = FoldedNet::join(nets.collect::<Result<Vec<_>, TchError>>()?);
        joined.ok_or_else(|| TchError::Shape("an ensemble without members".into()))
    }
}

/// A network that has been trained.
struct Member {
    model: Model,
    choice: Choice,
    history: History,
}

/// How long a run may go on within a round without a checkpoint: writing one may cost more than a short epoch.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(60);

/// How a run begins and ends.
#[derive(Debug, Clone, Copy, Default)]
pub struct Extent {
    /// Go on where the checkpoint stands.
    pub resume: bool,
    /// Stop once so many epochs are done, to be resumed another time.
    pub stop_after: Option<u32>,
}

/// Trains into the folder `run`, or goes on where its checkpoint stands: one network, or an ensemble's members one after the
/// other, the first in `run` itself and the others in folders within. `None` where it was told to stop on the way.
pub fn train(config: &Config, run: &Path, extent: Extent) -> Result<Option<Trained>, TrainError> {
    let (device, _) = prepare_device(config)?;
    if config.members() as usize <= config.ensemble.len() {
        let (members, networks) = (config.members(), 1 + config.ensemble.len());
        log::info!("train.members = {members}: of {networks} networks the others are left out");
    }
    let mut members = Vec::new();
    for number in 1..=config.members() {
        let (config, folder) = (config.of_member(number), member_folder(run, number));
        // The run may have been stopped before this member began.
        let resume = extent.resume && (number == 1 || checkpoint::is_in(&folder));
        let saved = saved_in(&folder, &config, resume)?;
        members.push((config, folder, saved));
    }
    // Weights that do not fit are told before images are read, once for each network.
    let mut fitting = Vec::new();
    for (own_config, _, saved) in &members {
        let network = &own_config.network;
        if let (None, Some(weights), false) = (saved, &network.init, fitting.contains(&network)) {
            init::load(&Model::new(network, &config.input_spec(), config.seed, device), weights)?;
            fitting.push(network);
        }
    }
    for (own_config, folder, saved) in &members {
        prepare_folder(folder, own_config, saved.as_ref())?;
    }
    let images = load_images(config, run)?;
    check_validation(images.validation.items.len(), &config.data.root)?;
    let mut trained = Vec::new();
    for (number, (own_config, folder, saved)) in (1..).zip(members) {
        if config.members() > 1 {
            log::info!("member {number} of {}", config.members());
        }
        match train_member(&own_config, &folder, &images, saved, extent.stop_after)? {
            Some(member) => trained.push(member),
            None => return Ok(None),
        }
    }
    Trained::new(config, images, trained).map(Some)
}

/// Where a member of a run's ensemble is: the first in the run's folder.
fn member_folder(run: &Path, number: u32) -> PathBuf {
    if number == 1 { run.to_owned() } else { run.join(format!("member-{number}")) }
}

/// Trains one network in the folder `run`, or goes on from `saved`. `None` where it was told to stop on the way.
fn train_member(
    config: &Config,
    run: &Path,
    images: &Images,
    saved: Option<Saved>,
    stop_after: Option<u32>,
) -> Result<Option<Member>, TrainError> {
    let (device, precision) = prepare_device(config)?;
    let mut model = Model::new(&config.network, &config.input_spec(), config.seed, device);
    let mut history = History::default();
    if saved.is_none()
        && let Some(weights) = &config.network.init
    {
        history.initial_weights = Some(init::load(&model, weights)?);
    }
    let n = images.train.items.len();
    let places = config.places(n);
    let mut bank = match config.train.bank_start {
        BankStart::Random => MemoryBank::random(n * places.each(), config.network.embedding_dim, device),
        BankStart::Encode => {
            MemoryBank::from_rows(&model.embed_places(&images.train.frames, places.grid_unmoved(0..n).as_ref()))
        }
    };
    let mut adam = Adam::new(model.trainable(), config.train.weight_decay);
    let mut neighbourhoods = None;
    let (mut start, mut written) = (0, Written::default());
    if let Some((state, mut tensors)) = saved {
        if state.dataset_sha256 != images.sha256 {
            return Err(TrainError::Refused(format!(
                "{}: the training images are not those the run began with; train anew into another --out",
                run.display()
            )));
        }
        let mut take = |name: &str| take_tensor(&mut tensors, run, name);
        model.restore(&mut take)?;
        let (rows, saved) = (bank.rows().size(), take("bank")?.to_device(device));
        if saved.size() != rows {
            return Err(TrainError::Refused(format!(
                "{}: the memory bank has {:?} rows and values, and these training images {rows:?}: other images can be read than \
                 when the run began; mend them, or train anew into another --out",
                run.display(),
                saved.size()
            )));
        }
        bank = MemoryBank::from_saved(saved);
        adam.restore(state.optimiser_steps, &mut take)?;
        if state.round > 0 {
            let (prototypical, members) = (take("prototypical")?.to_device(device), take("members")?.to_device(device));
            neighbourhoods = Some(Neighbourhoods { prototypical, members });
        }
        (history, start, written) = (state.history, state.epochs_done, state.written);
        log::info!("going on after epoch {start}");
    }

    let of_images = warnings::of_images(images);
    history.warn(warnings::standing(&of_images, &history.probes));

    let schedule = config.schedule();
    let loader = loader(config, &images.train.frames, config.train.loader_threads)?.for_device(device);
    let probe = Probe::new(config, images, &places);
    let mut monitor = Monitor::open(run, written)?;
    let end = stop_after.map_or(schedule.epochs(), |stop| stop.min(schedule.epochs()));
    let mut progress = Progress::epochs(schedule.epochs(), start);
    let mut saved_at = Instant::now();
    for (epoch, batches) in (start..end).zip(loader.epochs(start.into()..end.into())) {
        if choice::has_stopped(&config.train, &history.probes) {
            break;
        }
        let began = Instant::now();
        let stage = schedule.stage(epoch);
        if stage.begins && stage.round > 0 {
            let (found, stats) = Neighbourhoods::discover(bank.rows(), stage.round, &config.curriculum());
            neighbourhoods = Some(found);
            let row = RoundRow::new(stage.round, &stats);
            monitor.round(&row)?;
            history.rounds.push(row);
        }
        let rows_before = stage.ends.then(|| probe.rows_of(&bank));
        let mut run_epoch = Epoch {
            config,
            model: &model,
            bank: &mut bank,
            adam: &mut adam,
            precision,
            first: &mut history.first_losses,
            monitor: &mut monitor,
        };
        let mut row = run_epoch.run(epoch, batches, neighbourhoods.as_ref())?;
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
        monitor.epoch(&row)?;
        if let Some(before) = rows_before {
            let probed = probe.measure(stage.round, &model, &bank, &before, row.validation_reconstruction)?;
            monitor.probed(&probed, probe.pictures(&model)?.as_ref())?;
            history.probes.push(probed);
            history.warn(warnings::standing(&of_images, &history.probes));
            choice::keep_round(&config.train, run, &model, &history.probes)?;
        }
        history.epochs.push(row);
        history.write_csv(run).map_err(|(path, source)| TrainError::Io { path, source })?;
        if stage.ends || epoch + 1 == end || saved_at.elapsed() >= CHECKPOINT_EVERY {
            let state = State {
                version: 1,
                config: config.to_toml(),
                dataset_sha256: images.sha256.clone(),
                epochs_done: epoch + 1,
                round: stage.round,
                optimiser_steps: adam.steps(),
                history: history.clone(),
                written: monitor.commit()?,
                tensors: String::new(),
                tensors_sha256: String::new(),
            };
            checkpoint::save(run, state, &tensors_to_save(&model, &bank, &adam, neighbourhoods.as_ref()))?;
            choice::drop_rounds(&config.train, run, &history.probes);
            saved_at = Instant::now();
        }
    }
    progress.finish();
    let done = history.epochs.len() as u32;
    if done < schedule.epochs() {
        if !choice::has_stopped(&config.train, &history.probes) {
            log::info!("stopped after epoch {done}; --resume goes on");
            return Ok(None);
        }
        log::info!("stopped after epoch {done}: train.patience_rounds without a better round");
    }
    let choice = choice::settle(&config.train, run, &history, &mut model, &loader)?;
    log::info!("the weights are {choice}");
    Ok(Some(Member { model, choice, history }))
}

/// The configuration that the run in a folder began with, as TOML.
pub fn saved_config(run: &Path) -> Result<String, TrainError> {
    match checkpoint::load(run)? {
        Some((state, _)) => Ok(state.config),
        None => Err(no_checkpoint(run)),
    }
}

/// Takes up a finished run as its checkpoint left it, to evaluate or export it anew. `adjust` may change what
/// follows the training (score, prototypes, threshold, where the data is).
pub fn open(run: &Path, adjust: impl FnOnce(&str) -> Result<Config, ConfigError>) -> Result<Trained, TrainError> {
    let first = load_member(run, 1)?;
    let config = adjust(&first.0.config)?;
    let mut saved = vec![first];
    for number in 2..=config.members() {
        saved.push(load_member(run, number)?);
    }
    for (number, (state, _)) in (1..).zip(&saved) {
        let (folder, own_config) = (member_folder(run, number), config.of_member(number));
        same_training(&folder, &state.config, &own_config, true)?;
        let epochs = own_config.schedule().epochs();
        if state.epochs_done < epochs && !choice::has_stopped(&own_config.train, &state.history.probes) {
            return Err(TrainError::Refused(format!(
                "{}: the run is not finished, it stands at epoch {} of {epochs}; `train --resume --out {}` goes on",
                folder.display(),
                state.epochs_done,
                run.display()
            )));
        }
    }
    prepare_device(&config)?;
    let images = load_images(&config, run)?;
    if saved.iter().any(|(state, _)| state.dataset_sha256 != images.sha256) {
        log::warn!("the training images are not those the run was trained on");
    }
    let mut members = Vec::new();
    for (number, saved) in (1..).zip(saved) {
        members.push(open_member(&config.of_member(number), &member_folder(run, number), &images, saved)?);
    }
    Trained::new(&config, images, members)
}

/// The checkpoint of a member of a run's ensemble.
fn load_member(run: &Path, number: u32) -> Result<Saved, TrainError> {
    let folder = member_folder(run, number);
    checkpoint::load(&folder)?.ok_or_else(|| {
        let how = match number {
            1 => "`train --out` makes one".to_owned(),
            _ => format!("`train --resume --out {}` with the same settings trains this member", run.display()),
        };
        TrainError::Refused(format!("{}: holds no checkpoint.json; {how}", folder.display()))
    })
}

/// Takes up one network as its checkpoint left it.
fn open_member(config: &Config, run: &Path, images: &Images, saved: Saved) -> Result<Member, TrainError> {
    let (device, _) = prepare_device(config)?;
    let (state, mut tensors) = saved;
    let mut model = Model::new(&config.network, &config.input_spec(), config.seed, device);
    model.restore(|name| take_tensor(&mut tensors, run, name))?;
    let mut history = state.history;
    history.warn(warnings::standing(&warnings::of_images(images), &history.probes));
    let loader = loader(config, &images.train.frames, config.train.loader_threads)?;
    let choice = choice::settle(&config.train, run, &history, &mut model, &loader)?;
    Ok(Member { model, choice, history })
}

/// Sets libtorch for the threads, the device and the precision of a configuration.
pub(crate) fn prepare_device(config: &Config) -> Result<(Device, Precision), TrainError> {
    let device = device::parse(&config.train.device).map_err(TrainError::Refused)?;
    if config.train.threads > 0 {
        tch::set_num_threads(config.train.threads as i32);
    }
    Ok((device, config.train.precision.prepare(device)))
}

/// One epoch's parts, borrowed from the run.
struct Epoch<'a> {
    config: &'a Config,
    model: &'a Model,
    bank: &'a mut MemoryBank,
    adam: &'a mut Adam,
    precision: Precision,
    first: &'a mut Vec<f64>,
    monitor: &'a mut Monitor,
}

impl Epoch<'_> {
    /// Every image once: forward, losses, backward, step, bank.
    fn run(
        &mut self,
        epoch: u32,
        batches: loader::Epoch,
        neighbourhoods: Option<&Neighbourhoods>,
    ) -> Result<EpochRow, TrainError> {
        let schedule = self.config.schedule();
        let steps = batches.len();
        // [reconstruction, sample-specific, aggregation, total], weighted by the batch's images
        let mut sums = Tensor::zeros([4], (Kind::Double, self.model.store.device()));
        let (mut images, mut learning_rate) = (0usize, 0.0);
        let (config, device) = (self.config, self.model.store.device());
        let (bank, adam) = (&mut *self.bank, &mut *self.adam);
        let mut learner = Learner { config: &config.train, model: self.model, bank, adam, precision: self.precision };
        for (step, batch) in batches.enumerate() {
            let progress = (f64::from(epoch) + step as f64 / steps as f64) / f64::from(schedule.epochs());
            learning_rate = config.train.learning_rate * schedule.rate_at(progress);
            let batch = batch.to_device(device);
            let terms = learner.step(&batch, neighbourhoods, learning_rate, |_| ());
            if self.first.len() < FIRST_LOSSES {
                self.first.push(terms.double_value(&[3]));
            }
            let at = StepAt { step: learner.adam.steps(), epoch, round: schedule.stage(epoch).round, learning_rate };
            self.monitor.step(at, &terms)?;
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

fn no_checkpoint(run: &Path) -> TrainError {
    TrainError::Refused(format!(
        "{}: holds no checkpoint to resume, the first is written when an epoch is done: train without --resume",
        run.display()
    ))
}

/// The checkpoint in a run's folder to go on from, if one is wanted.
fn saved_in(run: &Path, config: &Config, resume: bool) -> Result<Option<Saved>, TrainError> {
    let saved = checkpoint::load(run)?;
    match (&saved, resume) {
        (Some(_), false) => Err(TrainError::Refused(format!(
            "{}: holds a run already; --resume goes on with it, another --out begins a new one",
            run.display()
        ))),
        (None, true) => Err(no_checkpoint(run)),
        (Some((state, _)), true) => {
            same_training(run, &state.config, config, config.train.keep_rounds)?;
            Ok(saved)
        }
        (None, false) => Ok(None),
    }
}

/// Makes the run's folder and writes its configuration; that of a checkpoint too, so that what may differ from when the run
/// began counts for `evaluate` and the others from now on.
fn prepare_folder(run: &Path, config: &Config, saved: Option<&Saved>) -> Result<(), TrainError> {
    std::fs::create_dir_all(run).map_err(|source| TrainError::Io { path: run.into(), source })?;
    let (path, config) = (run.join("config.toml"), config.to_toml());
    atomic::write(&path, config.as_bytes()).map_err(|source| TrainError::Io { path, source })?;
    match saved {
        Some((state, _)) if state.config != config => {
            Ok(checkpoint::save_state(run, &State { config, ..state.clone() })?)
        }
        _ => Ok(()),
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
/// change, and where things are and run; which weights are kept where `other_keep` says so, since those of rounds that are
/// over may be gone.
fn same_training(run: &Path, saved: &str, config: &Config, other_keep: bool) -> Result<(), TrainError> {
    let began = Config::load_text("checkpoint.json", saved, &[])?;
    let mut like = began.clone();
    like.name.clone_from(&config.name);
    like.data.root.clone_from(&config.data.root);
    like.data.cache_dir.clone_from(&config.data.cache_dir);
    like.train.device.clone_from(&config.train.device);
    like.train.members = config.train.members;
    like.ensemble.clone_from(&config.ensemble);
    (like.network.weight, like.network.mirror) = (config.network.weight, config.network.mirror);
    like.train.threads = config.train.threads;
    like.train.loader_threads = config.train.loader_threads;
    if other_keep {
        like.train.keep = config.train.keep;
        like.train.average_rounds = config.train.average_rounds;
    }
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
        "{}: the configuration is not the one the run began with ({}); only name, data.root, score, network.weight, \
         network.mirror, network.patch.top, condense, quantize, threshold, train.device, threads, train.members, the ensemble's \
         networks that are not trained yet and train.keep (to resume, with train.keep_rounds alone) may differ: leave the rest \
         out, or train anew into another --out",
        run.display(),
        run.join("config.toml").display()
    )))
}

/// The batches of a run over its training images, made by `threads` workers.
pub(crate) fn loader(config: &Config, frames: &Arc<Vec<Frame>>, threads: usize) -> Result<Loader, LoaderError> {
    let (t, places, augment) = (&config.train, config.places(frames.len()), config.augment.clone());
    let (frames, input) = (Arc::clone(frames), config.input_spec());
    let loader = Loader::new(frames, input, augment, t.views, t.batch_size, config.seed, threads)?;
    Ok(loader.with_places(places).with_negatives(t.negatives))
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
