//! `salad-edge enrol`: what is normal too, from the shell.

use crate::config::{Config, ConfigError};
use crate::encoder::EncoderError;
use crate::enrol::{EnrolError, Enrolments};
use crate::model::{Model, ModelError};
use crate::regions::Regions;
use crate::samples::Sample;
use crate::store::{Store, StoreError};
use clap::Args;
use jiff::Timestamp;
use salad_shared::preprocess::{Frame, FrameError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What is to be done; by default what is enrolled is listed.
#[derive(Debug, Args)]
pub struct EnrolOptions {
    /// The configuration file of the service, which may be running: it follows within a second.
    #[arg(long)]
    pub config: PathBuf,
    /// Ids of events whose frames show the normal state.
    #[arg(conflicts_with_all = ["undo", "export"])]
    pub events: Vec<String>,
    /// A picture of the normal state, as the camera takes it.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["undo", "export"])]
    pub picture: Vec<PathBuf>,
    /// Enrol what is unlike everything that is known, too.
    #[arg(long)]
    pub yes: bool,
    /// Take an enrolment away again, by its number in the list.
    #[arg(long, value_name = "NUMBER")]
    pub undo: Vec<i64>,
    /// Write the frames of all enrolments into a folder, for the next training.
    #[arg(long, value_name = "FOLDER")]
    pub export: Option<PathBuf>,
}

/// Why something was not enrolled.
#[derive(Debug, thiserror::Error)]
pub enum EnrolCommandError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// It has no store.
    #[error("{}: events.store: what is enrolled is kept in the event store; name a file for it", .0.display())]
    NoStore(PathBuf),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The model.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// Its encoder.
    #[error(transparent)]
    Encoder(#[from] EncoderError),
    /// What was to be enrolled.
    #[error(transparent)]
    Enrol(#[from] EnrolError),
    /// An event that is unlike everything.
    #[error("{0}; --yes confirms it")]
    Unconfirmed(EnrolError),
    /// A picture.
    #[error("{}: {source}", path.display())]
    Picture {
        /// The picture.
        path: PathBuf,
        /// What is wrong with it.
        source: FrameError,
    },
    /// A picture cannot be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The picture.
        path: PathBuf,
        /// The operating system's words.
        source: io::Error,
    },
    /// The list cannot be printed.
    #[error("standard output: {0}")]
    Output(io::Error),
}

/// Does what is asked, and says what was done.
pub fn enrol(options: &EnrolOptions, out: &mut dyn Write) -> Result<(), EnrolCommandError> {
    let config = Config::read(&options.config)?;
    let settings = config.store.clone().ok_or_else(|| EnrolCommandError::NoStore(options.config.clone()))?;
    let model = Model::read(&config.bundle, config.form)?;
    let enrolments = Enrolments::open(Arc::new(Store::visit(settings)?), model.scoring())?;
    let mut say = |line: String| super::unless_broken_pipe(writeln!(out, "{line}")).map_err(EnrolCommandError::Output);

    for event in &options.events {
        let id = enrolments.enrol(event, options.yes).map_err(|error| match error {
            EnrolError::Far(_) => EnrolCommandError::Unconfirmed(error),
            other => other.into(),
        })?;
        say(format!("{event}: normal from now on, as enrolment {id}"))?;
    }
    for path in &options.picture {
        let sample = sample(&config, &model, path)?;
        let id = enrolments.add_picture(&path.display().to_string(), sample)?;
        say(format!("{}: normal from now on, as enrolment {id}", path.display()))?;
    }
    for &id in &options.undo {
        enrolments.withdraw(id)?;
        say(format!("{id}: taken away"))?;
    }
    if let Some(folder) = &options.export {
        let count = enrolments.export(folder)?;
        say(format!("{}: {count} new pictures", folder.display()))?;
    }
    let is_list = options.events.is_empty() && options.picture.is_empty() && options.undo.is_empty();
    if is_list && options.export.is_none() {
        for enrolment in enrolments.list()? {
            let other = if enrolments.counts(&enrolment.encoder) { "" } else { ", of another model" };
            let (id, time, source, frames) = (enrolment.id, enrolment.time, enrolment.source, enrolment.frames);
            say(format!("{id}: {source}, added {time:.0}, frames: {frames}{other}"))?;
        }
    }
    Ok(())
}

/// A picture as a frame of the camera.
fn sample(config: &Config, model: &Model, path: &Path) -> Result<Sample, EnrolCommandError> {
    let file = std::fs::read(path).map_err(|source| EnrolCommandError::Io { path: path.into(), source })?;
    let frame = Frame::decode(&file).map_err(|source| EnrolCommandError::Picture { path: path.into(), source })?;
    let regions = &config.camera.regions;
    let seen = if regions.is_whole() { frame } else { Regions::new(regions.clone()).apply(frame) };
    let mut scorer = model.scorer()?;
    scorer.score(&seen)?;
    Ok(Sample::of(&scorer, model.threshold, &seen, Some(&file), Timestamp::now()))
}
