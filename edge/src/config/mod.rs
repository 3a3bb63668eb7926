//! `edge.toml`: read as it is written (raw), then checked once as a whole. Nothing is built before that has ended.

mod mqtt;
mod raw;
pub mod sinks;
pub mod source;

use crate::decision::DecisionParams;
use crate::drift::DriftSpec;
use crate::lens::LensSpec;
use crate::model::FormChoice;
use crate::motion::MotionSpec;
use crate::regions::RegionSpec;
use crate::source::child::redacted;
use crate::store::StoreSettings;
use raw::{RawConfig, RawDecision, RawDrift, RawEvents, RawLens, RawMotion, RawRegions, RawSnapshots};
use sinks::SinkSpec;
use source::SourceSpec;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Checked settings, paths complete.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// What the device is called in alerts.
    pub name: String,
    /// The model bundle; a file that is there.
    pub bundle: PathBuf,
    /// Which numeric form to run.
    pub form: FormChoice,
    /// Where frames come from, and what of them counts.
    pub camera: CameraConfig,
    /// How a covered lens is told; `None` not to look.
    pub lens: Option<LensSpec>,
    /// Which frames are scored; `None` for all.
    pub motion: Option<MotionSpec>,
    /// What counts as a scene that has changed; `None` not to look.
    pub drift: Option<DriftSettings>,
    /// When frames become an event.
    pub decision: DecisionSettings,
    /// The event log.
    pub event_log: Option<PathBuf>,
    /// The event store.
    pub store: Option<StoreSettings>,
    /// Who is told of events, out of the store.
    pub sinks: Vec<SinkSpec>,
    /// Pictures of events.
    pub snapshots: Option<SnapshotSettings>,
}

/// What `[drift]` asks for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DriftSettings {
    /// A scene that has changed; `None` not to look.
    pub scene: Option<DriftSpec>,
    /// After which time unusual light is told; `None`: light is not looked at.
    pub light_after: Option<Duration>,
}

/// The part of the settings that needs no model.
#[derive(Debug, Clone, PartialEq)]
pub struct CameraConfig {
    /// Where frames come from.
    pub source: SourceSpec,
    /// What of a frame counts.
    pub regions: RegionSpec,
}

/// What `[decision]` asks for; the threshold may be the bundle's to give.
#[derive(Debug, Clone, PartialEq)]
pub struct DecisionSettings {
    /// Overrides the bundle's threshold.
    pub threshold: Option<f32>,
    /// Where an event may end.
    pub release: Release,
    /// The parameters, all but their two thresholds.
    params: DecisionParams,
    /// The configuration file, for errors.
    file: PathBuf,
}

/// The release threshold.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Release {
    /// A share of the threshold.
    Ratio(f32),
    /// A score.
    Threshold(f32),
}

/// What `[snapshots]` asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotSettings {
    /// The folder; made when it is missing.
    pub dir: PathBuf,
    /// Most that the snapshots in it take, bytes.
    pub max_bytes: u64,
    /// 1 to 100.
    pub jpeg_quality: u8,
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{}: {source}; give the path of a configuration file with --config", path.display())]
    Io {
        /// The configuration file.
        path: PathBuf,
        /// The operating system's words.
        source: std::io::Error,
    },
    /// It is not TOML, or has a key or a type that does not belong there.
    #[error("{}{place}: {problem}", path.display())]
    Syntax {
        /// The configuration file.
        path: PathBuf,
        /// Line number and line, where they are known.
        place: String,
        /// What is wrong there.
        problem: String,
    },
    /// A value that cannot be.
    #[error("{}: {field} = {value}: {remedy}", path.display())]
    Value {
        /// The configuration file.
        path: PathBuf,
        /// The field, with its section.
        field: &'static str,
        /// What it was.
        value: String,
        /// What it may be.
        remedy: String,
    },
}

impl Config {
    /// Reads and checks a configuration file. Relative paths in it start at its own folder.
    pub fn read(path: &Path) -> Result<Config, ConfigError> {
        Config::parse(&read(path)?, path)
    }

    /// Checks a configuration's text, which came from `path`.
    pub fn parse(text: &str, path: &Path) -> Result<Config, ConfigError> {
        Checker { path }.check(parse(text, path)?)
    }
}

impl CameraConfig {
    /// Reads a configuration file of which only the source and its regions are needed; the rest is checked for its form
    /// alone, and there may be no bundle yet.
    pub fn read(path: &Path) -> Result<CameraConfig, ConfigError> {
        let raw = parse(&read(path)?, path)?;
        Checker { path }.camera(raw.source, raw.regions)
    }

    /// A local camera, in the form that `source.camera.device` has, with the defaults for all else.
    pub fn of_device(device: &str) -> Result<CameraConfig, ConfigError> {
        Checker { path: Path::new("--device") }.camera(source::RawSource::of_device(device), None)
    }
}

fn read(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|source| ConfigError::Io { path: path.into(), source })
}

fn parse(text: &str, path: &Path) -> Result<RawConfig, ConfigError> {
    toml::from_str(text).map_err(|e| syntax_error(path, text, &e))
}

impl DecisionSettings {
    /// The decision's parameters with the threshold in force: the configured one, or else `model_threshold`.
    pub fn params(&self, model_threshold: f32) -> Result<DecisionParams, ConfigError> {
        let threshold = self.threshold.unwrap_or(model_threshold);
        let release_threshold = match self.release {
            Release::Ratio(ratio) => threshold * ratio,
            Release::Threshold(value) => value,
        };
        if release_threshold > threshold {
            return Err(Checker { path: &self.file }.error(
                "decision.release_threshold",
                release_threshold,
                format!("has to be at most the threshold, {threshold}"),
            ));
        }
        Ok(DecisionParams { threshold, release_threshold, ..self.params })
    }
}

const DEFAULT_RELEASE_RATIO: f32 = 0.9;

const NO_BUNDLE: &str = "give the .salad file that the trainer exported";

struct Checker<'a> {
    path: &'a Path,
}

impl Checker<'_> {
    fn check(&self, raw: RawConfig) -> Result<Config, ConfigError> {
        let Some(bundle) = raw.bundle.map(|bundle| self.complete(&bundle)) else {
            return Err(self.error("bundle", "(missing)", NO_BUNDLE.to_owned()));
        };
        if !bundle.is_file() {
            return Err(self.error("bundle", bundle.display(), format!("no such file; {NO_BUNDLE}")));
        }
        let camera = self.camera(raw.source, raw.regions)?;
        // Replays are of any pictures, such as plain ones: nobody covers their lens.
        let lens = raw.lens.or_else(|| camera.source.is_live().then(RawLens::default));
        let drift = raw.drift.or_else(|| camera.source.is_live().then(RawDrift::default));
        let (event_log, store) = self.events(raw.events)?;
        let sinks = self.sinks(raw.sinks)?;
        if let (Some(sink), None) = (sinks.first(), &store) {
            let remedy = format!("the sink {} needs it: name a file, such as \"events.db\"", sink.name);
            return Err(self.error("events.store", "(missing)", remedy));
        }
        Ok(Config {
            name: self.name(raw.name)?,
            bundle,
            form: raw.form,
            lens: lens.map(|raw| self.lens(&raw)).transpose()?.flatten(),
            motion: raw.motion.map(|raw| self.motion(&raw)).transpose()?.flatten(),
            drift: drift.map(|raw| self.drift(&raw)).transpose()?,
            decision: self.decision(&raw.decision, camera.source.fps())?,
            camera,
            event_log,
            store,
            sinks,
            snapshots: raw.snapshots.map(|raw| self.snapshots(&raw)).transpose()?,
        })
    }

    fn camera(&self, source: source::RawSource, regions: Option<RawRegions>) -> Result<CameraConfig, ConfigError> {
        let RawRegions { crop, include, exclude } =
            regions.unwrap_or(RawRegions { crop: None, include: Vec::new(), exclude: Vec::new() });
        let regions = RegionSpec { crop, include, exclude };
        regions.check().map_err(|(field, value, remedy)| self.error(field, value, remedy.to_owned()))?;
        Ok(CameraConfig { source: self.source(source)?, regions })
    }

    fn name(&self, name: Option<String>) -> Result<String, ConfigError> {
        let Some(name) = name else {
            let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
            return Ok(if host.trim().is_empty() { "salad".to_owned() } else { host.trim().to_owned() });
        };
        if name.trim().is_empty() || name.chars().count() > 64 || name.contains(char::is_control) {
            return Err(self.error("name", name, "has to be 1 to 64 characters".to_owned()));
        }
        Ok(name)
    }

    fn events(&self, raw: Option<RawEvents>) -> Result<(Option<PathBuf>, Option<StoreSettings>), ConfigError> {
        let Some(raw) = raw else { return Ok((None, None)) };
        if raw.log.is_none() && raw.store.is_none() {
            let remedy = "give log, store or both; leave [events] out to have neither".to_owned();
            return Err(self.error("events.log", "(missing)", remedy));
        }
        if raw.max_bytes < 1 << 20 {
            return Err(self.error("events.max_bytes", raw.max_bytes, "has to be at least 1048576".to_owned()));
        }
        let max_age = self.duration("events.max_age_days", raw.max_age_days * 86_400.0)?;
        let store =
            raw.store.map(|path| StoreSettings { path: self.complete(&path), max_age, max_bytes: raw.max_bytes });
        Ok((raw.log.map(|log| self.complete(&log)), store))
    }

    fn lens(&self, raw: &RawLens) -> Result<Option<LensSpec>, ConfigError> {
        if let Some(contrast) = raw.min_contrast.filter(|c| !(0.0..=127.0).contains(c)) {
            return Err(self.error("lens.min_contrast", contrast, "has to be from 0 to 127".to_owned()));
        }
        let after = self.duration("lens.obstructed_after_secs", raw.obstructed_after_secs)?;
        Ok((!after.is_zero()).then_some(LensSpec { after, min_contrast: raw.min_contrast }))
    }

    fn drift(&self, raw: &RawDrift) -> Result<DriftSettings, ConfigError> {
        let after = self.duration("drift.after_mins", raw.after_mins * 60.0)?;
        let reminder = self.duration("drift.reminder_hours", raw.reminder_hours * 3600.0)?;
        if reminder.is_zero() {
            return Err(self.error("drift.reminder_hours", raw.reminder_hours, "has to be more than 0".to_owned()));
        }
        let light_after = self.duration("drift.light_after_secs", raw.light_after_secs)?;
        Ok(DriftSettings {
            scene: (!after.is_zero()).then_some(DriftSpec { after, reminder }),
            light_after: (!light_after.is_zero()).then_some(light_after),
        })
    }

    fn motion(&self, raw: &RawMotion) -> Result<Option<MotionSpec>, ConfigError> {
        if !(0.0..=1.0).contains(&raw.min_share) {
            return Err(self.error("motion.min_share", raw.min_share, "has to be from 0 to 1".to_owned()));
        }
        if !(0.0..=255.0).contains(&raw.min_change) {
            return Err(self.error("motion.min_change", raw.min_change, "has to be from 0 to 255".to_owned()));
        }
        let max_still = self.duration("motion.max_still_secs", raw.max_still_secs)?;
        let spec = MotionSpec { min_share: raw.min_share, min_change: raw.min_change, max_still };
        Ok((spec.min_share > 0.0).then_some(spec))
    }

    fn decision(&self, raw: &RawDecision, fps: f64) -> Result<DecisionSettings, ConfigError> {
        let (n, k) = (raw.window_frames, raw.trigger_frames);
        if !(1..=10_000).contains(&n) {
            return Err(self.error("decision.window_frames", n, "has to be from 1 to 10000".to_owned()));
        }
        if !(1..=n).contains(&k) {
            let remedy = format!("has to be from 1 to window_frames, which is {n}");
            return Err(self.error("decision.trigger_frames", k, remedy));
        }
        if let Some(threshold) = raw.threshold.filter(|t| !t.is_finite() || *t < 0.0) {
            return Err(self.error("decision.threshold", threshold, "has to be a score, 0 or more".to_owned()));
        }
        let release = match (raw.release_ratio, raw.release_threshold) {
            (Some(ratio), Some(_)) => {
                let remedy = "stands beside release_threshold; keep one of the two".to_owned();
                return Err(self.error("decision.release_ratio", ratio, remedy));
            }
            (Some(ratio), None) if !(0.0..=1.0).contains(&ratio) => {
                return Err(self.error("decision.release_ratio", ratio, "has to be from 0 to 1".to_owned()));
            }
            (None, Some(value)) if !value.is_finite() => {
                return Err(self.error("decision.release_threshold", value, "has to be a finite number".to_owned()));
            }
            (None, Some(value)) => Release::Threshold(value),
            (ratio, None) => Release::Ratio(ratio.unwrap_or(DEFAULT_RELEASE_RATIO)),
        };
        // A source that misses a frame now and then, or is a slow one, has no gap.
        let max_gap_secs = raw.max_gap_secs.unwrap_or((10.0 / fps).max(10.0));
        Ok(DecisionSettings {
            threshold: raw.threshold,
            release,
            params: DecisionParams {
                threshold: 0.0,
                release_threshold: 0.0,
                window_frames: n as usize,
                trigger_frames: k as usize,
                cooldown: self.duration("decision.cooldown_secs", raw.cooldown_secs)?,
                update_interval: self.duration("decision.update_interval_secs", raw.update_interval_secs)?,
                max_gap: self.duration("decision.max_gap_secs", max_gap_secs)?,
            },
            file: self.path.into(),
        })
    }

    fn snapshots(&self, raw: &RawSnapshots) -> Result<SnapshotSettings, ConfigError> {
        if raw.max_bytes == 0 {
            let remedy = "has to be at least 1; leave [snapshots] out to have none".to_owned();
            return Err(self.error("snapshots.max_bytes", raw.max_bytes, remedy));
        }
        if !(1..=100).contains(&raw.jpeg_quality) {
            return Err(self.error("snapshots.jpeg_quality", raw.jpeg_quality, "has to be from 1 to 100".to_owned()));
        }
        let dir = self.complete(&raw.dir);
        Ok(SnapshotSettings { dir, max_bytes: raw.max_bytes, jpeg_quality: raw.jpeg_quality })
    }

    fn duration(&self, field: &'static str, secs: f64) -> Result<Duration, ConfigError> {
        const YEAR_SECS: f64 = 366.0 * 86_400.0;
        if !(0.0..=YEAR_SECS).contains(&secs) {
            return Err(self.error(field, secs, "has to be from 0 to 31622400 (a year)".to_owned()));
        }
        Ok(Duration::from_secs_f64(secs))
    }

    /// The path from the root, so that what is written into the log can be found from anywhere.
    fn complete(&self, path: &Path) -> PathBuf {
        let path = self.path.parent().unwrap_or(Path::new("")).join(path);
        std::path::absolute(&path).unwrap_or(path)
    }

    fn error(&self, field: &'static str, value: impl std::fmt::Display, remedy: String) -> ConfigError {
        ConfigError::Value { path: self.path.into(), field, value: value.to_string(), remedy }
    }
}

/// toml's own message is a drawing of several lines; this is the same on one.
fn syntax_error(path: &Path, text: &str, error: &toml::de::Error) -> ConfigError {
    let start = error.span().map(|span| span.start.min(text.len()));
    let place = start.and_then(|start| {
        let number = text.get(..start)?.matches('\n').count() + 1;
        let line = text.lines().nth(number - 1)?.trim();
        Some(format!(":{number}: `{}`", redacted(line, &[])))
    });
    let problem = error.message().split_whitespace().collect::<Vec<_>>().join(" ");
    // A value that does not belong there can be an address with a password.
    ConfigError::Syntax { path: path.into(), place: place.unwrap_or_default(), problem: redacted(&problem, &[]) }
}

#[cfg(test)]
mod tests {
    use super::source::Pace;
    use super::*;
    use std::fs;

    /// A folder with what the smallest configuration needs, and that configuration.
    fn folder() -> (tempfile::TempDir, String) {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("m.salad"), "x").unwrap();
        fs::create_dir(dir.path().join("frames")).unwrap();
        let text = "bundle = \"m.salad\"\n[source]\nreplay = { path = \"frames\", fps = 5 }\n";
        (dir, text.to_owned())
    }

    fn error_of(change: impl Fn(String) -> String) -> String {
        let (dir, text) = folder();
        Config::parse(&change(text), &dir.path().join("edge.toml")).unwrap_err().to_string()
    }

    #[test]
    fn the_smallest_configuration_gets_the_defaults() {
        let (dir, text) = folder();
        let config = Config::parse(&text, &dir.path().join("edge.toml")).unwrap();
        assert_eq!(config.bundle, dir.path().join("m.salad"));
        assert_eq!(config.form, FormChoice::Auto);
        let SourceSpec::Replay { replay, pace } = &config.camera.source else { panic!() };
        assert_eq!((*pace, replay.repeat), (Pace::Real, false));
        assert!(config.camera.regions.is_whole() && config.lens.is_none() && config.motion.is_none());
        let params = config.decision.params(0.5).unwrap();
        assert_eq!((params.window_frames, params.trigger_frames), (5, 3));
        assert_eq!((params.threshold, params.release_threshold), (0.5, 0.45));
        assert_eq!((params.cooldown.as_secs(), params.max_gap.as_secs()), (2, 10));
        assert!(config.event_log.is_none() && config.snapshots.is_none());
    }

    #[test]
    fn the_packaged_example_is_a_whole_configuration() {
        let dir = tempfile::tempdir().unwrap();
        let text = include_str!("../../packaging/edge.toml");
        fs::write(dir.path().join("model.salad"), "x").unwrap();
        fs::create_dir(dir.path().join("frames")).unwrap();
        let config = Config::parse(text, &dir.path().join("edge.toml")).unwrap();
        assert!(config.event_log.is_some() && config.snapshots.is_some());
        assert!(config.camera.source.is_live() && config.lens.is_some() && config.motion.is_none());
        assert!(config.store.is_some() && config.sinks.is_empty());
        // The sinks that are commented out, all together.
        let (text, sinks) = text.split_once("# [[sinks]]").unwrap();
        for secret in ["webhook.secret", "mail.password", "mqtt.password"] {
            fs::write(dir.path().join(secret), "hush\n").unwrap();
        }
        let setting = |line: &&str| {
            line.starts_with("[[sinks]]") || line.split_once(" = ").is_some_and(|(key, _)| !key.contains(' '))
        };
        let lines: Vec<&str> = sinks.lines().filter_map(|line| line.strip_prefix("# ")).filter(setting).collect();
        let with_sinks = format!("{text}\n[[sinks]]\n{}", lines.join("\n"));
        let config = Config::parse(&with_sinks, &dir.path().join("edge.toml")).unwrap();
        let names: Vec<&str> = config.sinks.iter().map(|sink| sink.name.as_str()).collect();
        assert_eq!(names, ["office", "siren", "shift", "lamp", "home", "archive"]);
        // Each other setting that is commented out is another choice, and taken too.
        let key = |line: &str| line.split_once(" = ").map(|(key, _)| key.to_owned()).filter(|key| !key.contains(' '));
        let choices = text.lines().filter_map(|line| line.strip_prefix("# ").filter(|choice| key(choice).is_some()));
        let mut tried = Vec::new();
        for choice in choices {
            let key_of_choice = key(choice).unwrap();
            let other = match key_of_choice.as_str() {
                "release_threshold" => "release_ratio",
                "pipe" | "replay" => "camera",
                same => same,
            };
            let kept = |line: &&str| key(line).is_none_or(|k| k != other);
            let with = |line| if line == format!("# {choice}") { choice } else { line };
            let lines: Vec<&str> = text.lines().filter(kept).map(with).collect();
            Config::parse(&lines.join("\n"), &dir.path().join("edge.toml")).unwrap();
            tried.push(key_of_choice);
        }
        let expected = "name form form camera pipe pipe pipe pipe pipe replay crop include exclude min_contrast min_share threshold \
                        release_threshold max_gap_secs";
        assert_eq!(tried.join(" "), expected);
    }

    #[test]
    fn a_key_or_a_type_that_does_not_belong_there_is_named_with_its_line() {
        let error = error_of(|t| t + "[decision]\nwindow_frame = 3\n");
        assert!(error.contains("edge.toml:5: `window_frame = 3`") && error.contains("window_frames"), "{error}");
        let error = error_of(|t| t + "[decision]\nwindow_frames = \"five\"\n");
        assert!(error.contains(":5: `window_frames = \"five\"`") && error.contains("invalid type"), "{error}");
        let error = error_of(|t| t.replace("bundle", "bundel"));
        assert!(error.contains("bundel"), "{error}");
        assert!(error_of(|t| t.replace("fps = 5", "fps = 5, pace = \"slow\"")).contains("`real` or `fast`"));
        assert!(error_of(|t| t + "[").contains("edge.toml:4"));
        assert!(!error_of(|t| t + "[decision]\nö = \"\u{1}").contains('\n'));
    }

    #[test]
    fn values_out_of_range_are_named_with_the_remedy() {
        let cases = [
            ("window_frames = 0", "decision.window_frames = 0"),
            ("trigger_frames = 6", "decision.trigger_frames = 6: has to be from 1 to window_frames, which is 5"),
            ("threshold = nan", "decision.threshold = NaN"),
            ("threshold = -0.1", "decision.threshold = -0.1"),
            ("release_ratio = 1.5", "decision.release_ratio = 1.5"),
            ("release_ratio = 0.5\nrelease_threshold = 0.1", "keep one of the two"),
            ("release_threshold = inf", "decision.release_threshold = inf"),
            ("cooldown_secs = -1", "decision.cooldown_secs = -1"),
            ("update_interval_secs = inf", "decision.update_interval_secs = inf"),
        ];
        for (line, expected) in cases {
            let error = error_of(|t| format!("{t}[decision]\n{line}\n"));
            assert!(error.contains("edge.toml: ") && error.contains(expected), "{line}: {error}");
        }
        assert!(error_of(|t| t.replace("= 5", "= 0")).contains("source.replay.fps = 0"));
        assert!(error_of(|t| t.replace("m.salad", "none.salad")).contains("none.salad: no such file"));
        assert!(error_of(|t| t.replace("frames", "none")).contains("source.replay.path"));
        let snapshots = |line: &str| error_of(|t| format!("{t}[snapshots]\ndir = \"s\"\n{line}\n"));
        assert!(snapshots("max_bytes = 0").contains("snapshots.max_bytes = 0"));
        assert!(snapshots("jpeg_quality = 101").contains("snapshots.jpeg_quality = 101"));
    }

    #[test]
    fn the_release_threshold_is_held_against_the_threshold_in_force() {
        let (dir, text) = folder();
        let path = dir.path().join("edge.toml");
        let config = Config::parse(&format!("{text}[decision]\nrelease_threshold = 0.3\n"), &path).unwrap();
        assert_eq!(config.decision.params(0.4).unwrap().release_threshold, 0.3);
        let error = config.decision.params(0.2).unwrap_err().to_string();
        assert!(error.contains("decision.release_threshold = 0.3") && error.contains("0.2"), "{error}");
        let config = Config::parse(&format!("{text}[decision]\nthreshold = 0.7\n"), &path).unwrap();
        assert_eq!(config.decision.params(0.4).unwrap().threshold, 0.7);
    }

    #[test]
    fn a_missing_configuration_is_named() {
        assert!(Config::read(Path::new("none.toml")).unwrap_err().to_string().contains("none.toml"));
    }
}
