//! `salad-edge run`: the pipeline of a configuration file, until the source ends or the program is told to stop.

use super::Outcome;
use crate::config::{Config, ConfigError};
use crate::decision::Decision;
use crate::encoder::EncoderError;
use crate::lens::Lens;
use crate::model::{Model, ModelError};
use crate::motion::Motion;
use crate::pipeline::{Gates, Pipeline, PipelineError, Summary};
use crate::regions::Regions;
use crate::service::Service;
use crate::sinks::Sinks;
use crate::sinks::snapshot::Snapshots;
use crate::source::{self, SourceError};
use crate::store::EventLog;
use salad_shared::decoder::Decoder;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Why a run could not begin, or broke off.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The model.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The model's encoder.
    #[error(transparent)]
    Encoder(#[from] EncoderError),
    /// The source.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A log or a folder that cannot be opened at the start.
    #[error("{}: {source}; change {field} in the configuration, or free the path", path.display())]
    Sink {
        /// The log or the folder.
        path: PathBuf,
        /// The configuration's field.
        field: &'static str,
        /// The operating system's words.
        source: io::Error,
    },
    /// The run itself.
    #[error(transparent)]
    Pipeline(#[from] PipelineError),
}

/// Reads the configuration, builds the pipeline and runs it until its source ends or `stop` is set. `frame_lines` gets a
/// JSON line for each frame.
pub fn run(config: &Path, frame_lines: Option<&mut dyn Write>, stop: &AtomicBool) -> Result<Outcome, RunError> {
    let config = Config::read(config)?;
    let model = Model::read(&config.bundle, config.form)?;
    let decision = Decision::new(config.decision.params(model.threshold)?);
    let input = &model.manifest.input;
    let (width, height) = config.camera.regions.whole(input.width, input.height);
    let source = source::open(&config.camera.source, Decoder::covering(width, height))?;
    let mut source = source::ahead::where_cores_are(source);
    let mut sinks = sinks(&config, &model)?;
    log::info!("model {} in {}, threshold {}", model.manifest.name, model.form, decision.params().threshold);

    let pipeline = Pipeline::new(&model, gates(&config, &model), decision, &mut sinks, frame_lines)?;
    let mut service = Service::ready();
    let (summary, result) = pipeline.run(source.as_mut(), stop, &mut |summary| service.beat(summary));
    service.stopping();

    let Summary { frames, still, anomalous, skipped, obstructed, dropped, events, .. } = summary;
    log::info!(
        "{frames} frames scored, {anomalous} of them anomalous, {still} still; {skipped} skipped, {obstructed} obstructed, \
         {dropped} dropped; {events} events"
    );
    let losses = sinks.losses();
    for loss in &losses {
        log::error!("{loss}");
    }
    result?;
    Ok(if losses.is_empty() { Outcome::Complete } else { Outcome::Partial })
}

fn gates(config: &Config, model: &Model) -> Gates {
    let regions = &config.camera.regions;
    Gates {
        lens: config.lens.map(|spec| Lens::new(spec, &model.thumbnails)),
        regions: (!regions.is_whole()).then(|| Regions::new(regions.clone())),
        motion: config.motion.map(Motion::new),
    }
}

fn sinks(config: &Config, model: &Model) -> Result<Sinks, RunError> {
    let failed = |path: &Path, field| {
        let path = path.to_owned();
        move |source| RunError::Sink { path, field, source }
    };
    let log = config.event_log.as_ref();
    let log = log.map(|path| EventLog::open(path).map_err(failed(path, "events.log"))).transpose()?;
    let snapshots = config.snapshots.as_ref().map(|settings| {
        let opened = Snapshots::open(settings.clone(), Arc::clone(&model.thumbnails));
        opened.map_err(failed(&settings.dir, "snapshots.dir"))
    });
    Ok(Sinks::new(log, snapshots.transpose()?))
}
