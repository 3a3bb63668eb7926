//! The configuration, read again while the program runs. What is wrong with it is said, and the old one goes on; what is right
//! takes effect from the next frame on, with no frame and no event lost.

use crate::config::{Config, ConfigError};
use crate::controls::Controls;
use crate::decision::DecisionParams;
use crate::drift::Drift;
use crate::gates::Gates;
use crate::lens::Lens;
use crate::light::Light;
use crate::logging;
use crate::model::Model;
use crate::motion::Motion;
use crate::regions::Regions;
use crate::setup::{OpenError, event_log, snapshots};
use crate::sinks::{self, Sinks};
use salad_shared::decoder::Decoder;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Waits for being asked to read the configuration again.
pub struct Reload<'a> {
    asked: &'a AtomicBool,
    path: PathBuf,
    /// What is in force.
    running: Config,
    /// How large frames are decoded by the source, which does not change.
    decoded: (u32, u32),
    model: &'a Model,
    controls: Arc<Controls>,
}

/// What the pipeline takes over. A gate that is `None` stays as it is, with all it has seen.
pub struct Changed {
    /// The decision's parameters.
    pub decision: DecisionParams,
    /// Decodes what the source has decoded too small for new regions.
    pub decoder: Option<Decoder>,
    /// Another watch of the lens, or none.
    pub lens: Option<Option<Lens>>,
    /// Other regions, or whole frames.
    pub regions: Option<Option<Regions>>,
    /// Another motion gate, or none.
    pub motion: Option<Option<Motion>>,
    /// Another look at the light, or none.
    pub light: Option<Option<Light>>,
    /// Another watch of the scene, or none.
    pub drift: Option<Option<Drift>>,
}

/// Why the configuration stays as it was.
#[derive(Debug, thiserror::Error)]
enum ReloadError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Open(#[from] OpenError),
}

impl<'a> Reload<'a> {
    /// `running` was read from `path`, and is in force; `asked` becomes true when it is to be read again.
    pub fn new(
        asked: &'a AtomicBool,
        path: PathBuf,
        running: Config,
        model: &'a Model,
        controls: Arc<Controls>,
    ) -> Reload<'a> {
        let decoded = frame_size(&running, model);
        Reload { asked, path, running, decoded, model, controls }
    }

    /// Reads the configuration if somebody has asked for that. Sinks have then changed already, and what comes back is the
    /// pipeline's to take over.
    pub fn look(&mut self, sinks: &mut Sinks) -> Option<Changed> {
        if !self.asked.swap(false, Ordering::Relaxed) {
            return None;
        }
        match self.read(sinks) {
            Ok(changed) => {
                log::info!("{}: read again and in force", self.path.display());
                Some(changed)
            }
            Err(error) => {
                log::error!("{error}; the configuration stays as it was");
                None
            }
        }
    }

    fn read(&mut self, sinks: &mut Sinks) -> Result<Changed, ReloadError> {
        let new = self.without_what_is_fixed(Config::read(&self.path)?);
        let old = &self.running;
        // All that can fail comes first.
        let decision = new.decision.params(self.model.threshold, &self.model.normal_scores)?;
        let log = (new.event_log != old.event_log).then(|| event_log(&new)).transpose()?;
        let pictures = (new.snapshots != old.snapshots).then(|| snapshots(&new, self.model)).transpose()?;
        sinks.replace(log, pictures);
        sinks::change::change(sinks, old, &new, &self.controls);
        self.controls.set_usual(decision.threshold);
        logging::set_level(new.log_level);
        let (width, height) = frame_size(&new, self.model);
        let light_after = |config: &Config| config.drift.and_then(|drift| drift.light_after);
        let scene = |config: &Config| config.drift.and_then(|drift| drift.scene);
        let all = |config: &Config| (config.lens, config.camera.regions.clone(), config.motion, config.drift);
        // They look at normal pictures, which takes a while.
        let made = if all(&new) == all(old) { Gates::default() } else { Gates::of(&new, self.model) };
        let Gates { lens, regions, motion, light, drift } = made;
        let changed = Changed {
            decision,
            decoder: ((width, height) != self.decoded).then(|| Decoder::covering(width, height)),
            lens: (new.lens != old.lens).then_some(lens),
            regions: (new.camera.regions != old.camera.regions).then_some(regions),
            motion: (new.motion != old.motion).then_some(motion),
            light: (light_after(&new) != light_after(old)).then_some(light),
            drift: (scene(&new) != scene(old)).then_some(drift),
        };
        self.running = new;
        Ok(changed)
    }

    /// What cannot change while the program runs stays as it is, and is named in one warning.
    fn without_what_is_fixed(&self, mut new: Config) -> Config {
        let old = &self.running;
        let path = |config: &Config| config.store.as_ref().map(|store| store.path.clone());
        let fixed = [
            ("bundle", new.bundle != old.bundle),
            ("form", new.form != old.form),
            ("source", new.camera.source != old.camera.source),
            ("events.store", path(&new) != path(old)),
            ("web", new.web != old.web),
        ];
        let fields: Vec<&str> = fixed.iter().filter(|(_, changed)| *changed).map(|(field, _)| *field).collect();
        if !fields.is_empty() {
            let (file, fields) = (self.path.display(), fields.join(", "));
            log::warn!(
                "{file}: {fields}: changes take effect when salad-edge is started again; the rest is in force now"
            );
        }
        if path(&new) != path(old) {
            new.store.clone_from(&old.store);
        }
        new.bundle.clone_from(&old.bundle);
        new.form = old.form;
        new.camera.source.clone_from(&old.camera.source);
        new
    }
}

/// The least size of a frame with which nothing is lost that the model looks at.
pub fn frame_size(config: &Config, model: &Model) -> (u32, u32) {
    let input = &model.manifest.input;
    config.camera.regions.whole(input.width, input.height)
}
