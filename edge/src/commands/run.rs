//! `salad-edge run`: the pipeline of a configuration file, until the source ends or the program is told to stop.

use super::Outcome;
use crate::config::sinks::SinkSpec;
use crate::config::{Config, ConfigError};
use crate::controls::Controls;
use crate::decision::Decision;
use crate::encoder::EncoderError;
use crate::enrol::Enrolments;
use crate::gates::Gates;
use crate::live::Live;
use crate::logging;
use crate::metrics::{Build, Metrics};
use crate::model::{Model, ModelError};
use crate::pipeline::{Pipeline, PipelineError};
use crate::reload::{Reload, frame_size};
use crate::service::Service;
use crate::setup::{OpenError, event_log, snapshots};
use crate::sinks::outbox::Outbox;
use crate::sinks::{self, Sinks};
use crate::source::{self, SourceError};
use crate::store::{Store, StoreError};
use crate::summary::Summary;
use crate::web::{Page, Web, WebError};
use jiff::Timestamp;
use salad_shared::decoder::Decoder;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// How long sinks may take, at the end, for what is waiting for them.
const FAREWELL: Duration = Duration::from_secs(5);

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
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The event store cannot be opened.
    #[error("{0}; change events.store in the configuration, or free the path")]
    Store(#[from] StoreError),
    /// The page cannot be served.
    #[error(transparent)]
    Web(#[from] WebError),
    /// A sink's thread cannot be started.
    #[error("sinks: {0}")]
    Threads(io::Error),
    /// The run itself.
    #[error(transparent)]
    Pipeline(#[from] PipelineError),
}

/// Reads the configuration, builds the pipeline and runs it until its source ends or `stop` is set; when `again` is set, the
/// configuration is read again. `frame_lines` gets a JSON line for each frame.
pub fn run(
    path: &Path,
    frame_lines: Option<&mut dyn Write>,
    stop: &AtomicBool,
    again: &AtomicBool,
) -> Result<Outcome, RunError> {
    let config = Config::read(path)?;
    logging::set_level(config.log_level);
    let model = Model::read(&config.bundle, config.form)?;
    let decision = Decision::new(config.decision.params(model.threshold, &model.normal_scores)?);
    let (width, height) = frame_size(&config, &model);
    let source = source::open(&config.camera.source, Decoder::covering(width, height))?;
    let store = open_store(&config)?;
    let enrolments = store.clone().map(|store| Enrolments::open(store, model.scoring())).transpose()?.map(Arc::new);
    let controls = Arc::new(Controls::new(decision.params().threshold, store.clone()).with(enrolments));
    let build = Build { model: model.manifest.name.clone(), form: model.form.to_string() };
    let metrics = Arc::new(Metrics::new(build, store.clone()));
    let live = Arc::new(Live::default());
    let page = store.clone().zip(config.web.as_ref()).map(|(store, settings)| {
        Web::start(settings, Arc::clone(&store), |access| Page {
            name: config.name.clone(),
            live: Arc::clone(&live),
            controls: Arc::clone(&controls),
            store,
            metrics: Arc::clone(&metrics),
            model: model.clone(),
            started: Timestamp::now(),
            access,
            names: settings.names.clone(),
        })
    });
    let page = page.transpose()?;
    let mut sinks = open_sinks(&config, &model, store, &controls)?;
    sinks.counted_by(Arc::clone(&metrics));
    sinks.shown_by(Arc::clone(&live));
    log::info!("model {} in {}, threshold {}", model.manifest.name, model.form, decision.params().threshold);

    let pipeline = Pipeline::new(&model, Gates::of(&config, &model), decision, &mut sinks, frame_lines)?;
    let reload = Reload::new(again, path.to_owned(), config, &model, Arc::clone(&controls));
    let mut pipeline = pipeline.controlled_by(controls).reloaded_by(reload).measured_by(metrics);
    if page.is_some() {
        pipeline = pipeline.shown_by(live);
    }
    // Only now, so that a camera's time to start is not spent on the rest of the start.
    let mut source = source::ahead::where_cores_are(source);
    let mut service = Service::ready();
    let (summary, result) = pipeline.run(source.as_mut(), stop, &mut |summary| service.beat(summary));
    service.stopping();
    drop(page);
    sinks.finish(FAREWELL);

    let Summary { frames, still, anomalous, skipped, obstructed, unlit, dropped, events, .. } = summary;
    log::info!(
        "{frames} frames scored, {anomalous} of them anomalous, {still} still, {unlit} in bad light; {skipped} skipped, \
         {obstructed} obstructed, {dropped} dropped; {events} events"
    );
    let losses = sinks.losses();
    for loss in &losses {
        log::error!("{loss}");
    }
    result?;
    Ok(if losses.is_empty() { Outcome::Complete } else { Outcome::Partial })
}

fn open_store(config: &Config) -> Result<Option<Arc<Store>>, StoreError> {
    let filters = || config.sinks.iter().map(|spec| (spec.name.clone(), spec.filter.clone())).collect();
    let open = |settings| Store::open(settings, filters(), Timestamp::now()).map(Arc::new);
    config.store.clone().map(open).transpose()
}

fn open_sinks(
    config: &Config,
    model: &Model,
    store: Option<Arc<Store>>,
    controls: &Arc<Controls>,
) -> Result<Sinks, RunError> {
    let (log, snapshots) = (event_log(config)?, snapshots(config, model)?);
    let outbox = store.map(|store| {
        let build = |spec: &SinkSpec| Ok((spec.name.clone(), sinks::build(spec, &config.name, Some(controls))?));
        let sinks: io::Result<Vec<_>> = config.sinks.iter().map(build).collect();
        sinks.and_then(|sinks| Outbox::start(store, sinks)).map_err(RunError::Threads)
    });
    Ok(Sinks::new(log, snapshots, outbox.transpose()?))
}
