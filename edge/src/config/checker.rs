//! The check of what is written: each section by itself, so that all that is wrong is found.

use super::document::{Document, Section, VERSION};
use super::error::{ConfigError, Warning};
use super::raw::{RawConfig, RawDecision, RawDrift, RawEvents, RawLens, RawMotion, RawRegions, RawSnapshots};
use super::raw_source::RawSource;
use super::{CameraConfig, Config, DecisionSettings, DriftSettings, Release, SnapshotSettings};
use crate::decision::DecisionParams;
use crate::drift::DriftSpec;
use crate::lens::LensSpec;
use crate::motion::MotionSpec;
use crate::regions::RegionSpec;
use crate::store::StoreSettings;
use std::cell::{Cell, RefCell};
use std::path::{Path, PathBuf};
use std::time::Duration;

const NO_BUNDLE: &str = "give the .salad file that the trainer exported";

/// Checks what is written, and notes all that is wrong with it.
pub(super) struct Checker<'a> {
    document: &'a Document<'a>,
    /// Sections whose form is wrong, so that what is missing in them says nothing.
    broken: Vec<Section>,
    /// The places, among all sinks of the file, of those that have the right form.
    pub(super) sinks: Vec<usize>,
    /// The place of the sink that is being checked, among all of the file.
    pub(super) sink: Cell<Option<usize>>,
    errors: RefCell<Vec<ConfigError>>,
    warnings: RefCell<Vec<Warning>>,
}

/// Something is wrong, and has been noted.
#[derive(Debug)]
pub(super) struct Told;

/// What was checked. Where several things are, each is looked at before the first that is wrong ends it.
pub(super) type Checked<T> = Result<T, Told>;

impl<'a> Checker<'a> {
    /// Of a document whose sections `broken` have a wrong form, and whose sinks at these places have the right one.
    pub(super) fn new(document: &'a Document<'a>, broken: Vec<Section>, sinks: Vec<usize>) -> Checker<'a> {
        let sink = Cell::new(None);
        Checker { document, broken, sinks, sink, errors: RefCell::default(), warnings: RefCell::default() }
    }

    /// All that was wrong, and all that may not be meant.
    pub(super) fn end(self) -> (Vec<ConfigError>, Vec<Warning>) {
        (self.errors.take(), self.warnings.take())
    }

    /// The whole of it.
    pub(super) fn check(&self, raw: RawConfig) -> Checked<Config> {
        if let Some(version) = raw.version.filter(|&version| i64::from(version) != VERSION) {
            self.error("version", version, format!("has to be {VERSION}"));
        }
        let bundle = self.bundle(raw.bundle);
        let camera = self.camera(raw.source, raw.regions);
        // Replays are of any pictures, such as plain ones: nobody covers their lens.
        let is_live = camera.as_ref().is_ok_and(|camera| camera.source.is_live());
        let lens = raw.lens.or_else(|| is_live.then(RawLens::default));
        let drift = raw.drift.or_else(|| is_live.then(RawDrift::default));
        let lens = lens.map(|raw| self.lens(&raw)).transpose();
        let drift = drift.map(|raw| self.drift(&raw)).transpose();
        let motion = raw.motion.map(|raw| self.motion(&raw)).transpose();
        let decision = self.decision(&raw.decision, camera.as_ref().map_or(1.0, |camera| camera.source.fps()));
        let has_store = raw.events.as_ref().is_some_and(|events| events.store.is_some());
        let events = self.events(raw.events);
        let first_sink = raw.sinks.first().map(|sink| sink.name.clone());
        let sinks = self.sinks(raw.sinks);
        if let (Some(sink), false) = (first_sink, has_store) {
            let remedy = format!("the sink {sink} needs it: name a file, such as \"events.db\"");
            self.error("events.store", "(missing)", remedy);
        }
        let web = raw.web.map(|raw| self.web(raw, has_store)).transpose();
        let name = self.name(raw.name);
        let snapshots = raw.snapshots.map(|raw| self.snapshots(&raw)).transpose();
        let (event_log, store) = events?;
        Ok(Config {
            name: name?,
            log_level: raw.log_level,
            bundle: bundle?,
            form: raw.form,
            camera: camera?,
            lens: lens?.flatten(),
            motion: motion?.flatten(),
            drift: drift?,
            decision: decision?,
            event_log,
            store,
            sinks: sinks?,
            web: web?,
            snapshots: snapshots?,
        })
    }

    fn bundle(&self, bundle: Option<PathBuf>) -> Checked<PathBuf> {
        let Some(bundle) = bundle.map(|bundle| self.complete(&bundle)) else {
            return Err(self.error("bundle", "(missing)", NO_BUNDLE.to_owned()));
        };
        if !bundle.is_file() {
            return Err(self.error("bundle", bundle.display(), format!("no such file; {NO_BUNDLE}")));
        }
        Ok(bundle)
    }

    pub(super) fn camera(&self, source: RawSource, regions: Option<RawRegions>) -> Checked<CameraConfig> {
        let RawRegions { crop, include, exclude } =
            regions.unwrap_or(RawRegions { crop: None, include: Vec::new(), exclude: Vec::new() });
        let regions = RegionSpec { crop, include, exclude };
        let fits = regions.check().map_err(|(field, value, remedy)| self.error(field, value, remedy.to_owned()));
        let source = self.source(source);
        fits.and_then(|()| Ok(CameraConfig { source: source?, regions }))
    }

    fn name(&self, name: Option<String>) -> Checked<String> {
        let Some(name) = name else {
            let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
            return Ok(if host.trim().is_empty() { "salad".to_owned() } else { host.trim().to_owned() });
        };
        if name.trim().is_empty() || name.chars().count() > 64 || name.contains(char::is_control) {
            return Err(self.error("name", name, "has to be 1 to 64 characters".to_owned()));
        }
        Ok(name)
    }

    fn events(&self, raw: Option<RawEvents>) -> Checked<(Option<PathBuf>, Option<StoreSettings>)> {
        let Some(raw) = raw else { return Ok((None, None)) };
        if raw.log.is_none() && raw.store.is_none() {
            let remedy = "give log, store or both; leave [events] out to have neither".to_owned();
            self.error("events.log", "(missing)", remedy);
        }
        if raw.max_bytes < 1 << 20 {
            self.error("events.max_bytes", raw.max_bytes, "has to be at least 1048576".to_owned());
        }
        let max_age = self.duration("events.max_age_days", raw.max_age_days * 86_400.0)?;
        let store =
            raw.store.map(|path| StoreSettings { path: self.complete(&path), max_age, max_bytes: raw.max_bytes });
        Ok((raw.log.map(|log| self.complete(&log)), store))
    }

    fn lens(&self, raw: &RawLens) -> Checked<Option<LensSpec>> {
        if let Some(contrast) = raw.min_contrast.filter(|c| !(0.0..=127.0).contains(c)) {
            self.error("lens.min_contrast", contrast, "has to be from 0 to 127".to_owned());
        }
        let after = self.duration("lens.obstructed_after_secs", raw.obstructed_after_secs)?;
        Ok((!after.is_zero()).then_some(LensSpec { after, min_contrast: raw.min_contrast }))
    }

    fn drift(&self, raw: &RawDrift) -> Checked<DriftSettings> {
        let after = self.duration("drift.after_mins", raw.after_mins * 60.0);
        let reminder = self.duration("drift.reminder_hours", raw.reminder_hours * 3600.0);
        if reminder.as_ref().is_ok_and(Duration::is_zero) {
            self.error("drift.reminder_hours", raw.reminder_hours, "has to be more than 0".to_owned());
        }
        let light_after = self.duration("drift.light_after_secs", raw.light_after_secs)?;
        let (after, reminder) = (after?, reminder?);
        Ok(DriftSettings {
            scene: (!after.is_zero()).then_some(DriftSpec { after, reminder }),
            light_after: (!light_after.is_zero()).then_some(light_after),
        })
    }

    fn motion(&self, raw: &RawMotion) -> Checked<Option<MotionSpec>> {
        if !(0.0..=1.0).contains(&raw.min_share) {
            self.error("motion.min_share", raw.min_share, "has to be from 0 to 1".to_owned());
        }
        if !(0.0..=255.0).contains(&raw.min_change) {
            self.error("motion.min_change", raw.min_change, "has to be from 0 to 255".to_owned());
        }
        let max_still = self.duration("motion.max_still_secs", raw.max_still_secs)?;
        let spec = MotionSpec { min_share: raw.min_share, min_change: raw.min_change, max_still };
        Ok((spec.min_share > 0.0).then_some(spec))
    }

    fn decision(&self, raw: &RawDecision, fps: f64) -> Checked<DecisionSettings> {
        let (n, k) = (raw.window_frames, raw.trigger_frames);
        if !(1..=10_000).contains(&n) {
            self.error("decision.window_frames", n, "has to be from 1 to 10000".to_owned());
        } else if !(1..=n).contains(&k) {
            let remedy = format!("has to be from 1 to window_frames, which is {n}");
            self.error("decision.trigger_frames", k, remedy);
        }
        if let Some(threshold) = raw.threshold.filter(|t| !t.is_finite() || *t < 0.0) {
            self.error("decision.threshold", threshold, "has to be a score, 0 or more".to_owned());
        }
        let release = self.release(raw);
        // A source that misses a frame now and then, or is a slow one, has no gap.
        let max_gap_secs = raw.max_gap_secs.unwrap_or((10.0 / fps).max(10.0));
        let cooldown = self.duration("decision.cooldown_secs", raw.cooldown_secs);
        let update_interval = self.duration("decision.update_interval_secs", raw.update_interval_secs);
        let max_gap = self.duration("decision.max_gap_secs", max_gap_secs);
        Ok(DecisionSettings {
            threshold: raw.threshold,
            release: release?,
            params: DecisionParams {
                threshold: 0.0,
                release_threshold: 0.0,
                window_frames: n as usize,
                trigger_frames: k as usize,
                cooldown: cooldown?,
                update_interval: update_interval?,
                max_gap: max_gap?,
            },
            file: self.document.path().into(),
            line: self.document.line("decision.release_threshold", None),
        })
    }

    fn release(&self, raw: &RawDecision) -> Checked<Release> {
        match (raw.release_ratio, raw.release_threshold) {
            (Some(ratio), Some(_)) => {
                let remedy = "stands beside release_threshold; keep one of the two".to_owned();
                Err(self.error("decision.release_ratio", ratio, remedy))
            }
            (Some(ratio), None) if !(0.0..=1.0).contains(&ratio) => {
                Err(self.error("decision.release_ratio", ratio, "has to be from 0 to 1".to_owned()))
            }
            (None, Some(value)) if !value.is_finite() => {
                Err(self.error("decision.release_threshold", value, "has to be a finite number".to_owned()))
            }
            (None, Some(value)) => Ok(Release::Threshold(value)),
            (Some(ratio), None) => Ok(Release::Ratio(ratio)),
            (None, None) => Ok(Release::Usual),
        }
    }

    fn snapshots(&self, raw: &RawSnapshots) -> Checked<SnapshotSettings> {
        if raw.max_bytes == 0 {
            let remedy = "has to be at least 1; leave [snapshots] out to have none".to_owned();
            self.error("snapshots.max_bytes", raw.max_bytes, remedy);
        }
        if !(1..=100).contains(&raw.jpeg_quality) {
            self.error("snapshots.jpeg_quality", raw.jpeg_quality, "has to be from 1 to 100".to_owned());
        }
        let dir = self.complete(&raw.dir);
        Ok(SnapshotSettings { dir, max_bytes: raw.max_bytes, jpeg_quality: raw.jpeg_quality })
    }

    pub(super) fn duration(&self, field: &'static str, secs: f64) -> Checked<Duration> {
        const YEAR_SECS: f64 = 366.0 * 86_400.0;
        if !(0.0..=YEAR_SECS).contains(&secs) {
            return Err(self.error(field, secs, "has to be from 0 to 31622400 (a year)".to_owned()));
        }
        Ok(Duration::from_secs_f64(secs))
    }

    /// The path from the root, so that what is written into the log can be found from anywhere.
    pub(super) fn complete(&self, path: &Path) -> PathBuf {
        let path = self.document.path().parent().unwrap_or(Path::new("")).join(path);
        std::path::absolute(&path).unwrap_or(path)
    }

    pub(super) fn error(&self, field: &'static str, value: impl std::fmt::Display, remedy: String) -> Told {
        let section = Section(field.split('.').next().unwrap_or_default().to_owned(), self.sink.get());
        if !self.broken.contains(&section) {
            self.errors.borrow_mut().push(ConfigError::Value {
                path: self.document.path().into(),
                line: self.document.line(field, self.sink.get()),
                field,
                value: value.to_string(),
                remedy,
            });
        }
        Told
    }

    pub(super) fn warn(&self, field: &'static str, problem: &str) {
        let line = self.document.line(field, self.sink.get());
        self.warnings.borrow_mut().push(Warning { line, field, problem: problem.to_owned() });
    }
}
