//! `edge.toml`: read as it is written (raw), then checked once as a whole. Nothing is built before that has ended.

mod checker;
mod document;
mod error;
mod mqtt;
mod raw;
mod raw_sinks;
mod raw_source;
#[cfg(test)]
mod schema;
pub mod sinks;
pub mod source;
pub mod web;

use crate::decision::DecisionParams;
use crate::drift::{DriftSpec, seldom_above};
use crate::lens::LensSpec;
use crate::logging::LogLevel;
use crate::model::FormChoice;
use crate::motion::MotionSpec;
use crate::regions::RegionSpec;
use crate::store::StoreSettings;
use checker::Checker;
use document::{Document, Form};
pub use error::{ConfigError, Warning};
use raw::RawConfig;
use sinks::SinkSpec;
use source::SourceSpec;
use std::path::{Path, PathBuf};
use std::time::Duration;
use web::WebSettings;

/// The release threshold that nobody has chosen, as a share of the threshold: at least, and at most.
const RELEASE_RATIO: f32 = 0.75;
const MOST_RELEASE_RATIO: f32 = 0.9;

/// Checked settings, paths complete.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// What the device is called in alerts.
    pub name: String,
    /// What is logged.
    pub log_level: LogLevel,
    /// The model bundle; a file that is there.
    pub bundle: PathBuf,
    /// The device's own page.
    pub web: Option<WebSettings>,
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
    /// The configuration file, and the line of the release threshold in it, for errors.
    file: PathBuf,
    line: Option<usize>,
}

/// The release threshold.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Release {
    /// A share of the threshold.
    Ratio(f32),
    /// A score.
    Threshold(f32),
    /// Where scores are usual, see [`DecisionSettings::params`].
    Usual,
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

/// A configuration, and all there is to say about it.
#[derive(Debug)]
pub struct Examined {
    /// The settings, where nothing is wrong with them.
    pub config: Option<Config>,
    /// The bundle and its form, where there is such a file, whatever else is wrong.
    pub bundle: Option<(PathBuf, FormChoice)>,
    /// All that is wrong, in the order of the lines.
    pub errors: Vec<ConfigError>,
    /// What is not wrong but may not be meant.
    pub warnings: Vec<Warning>,
}

impl Config {
    /// Reads and checks a configuration file. Relative paths in it start at its own folder.
    pub fn read(path: &Path) -> Result<Config, ConfigError> {
        Config::parse(&read(path)?, path)
    }

    /// Checks a configuration's text, which came from `path`; the error is the first.
    pub fn parse(text: &str, path: &Path) -> Result<Config, ConfigError> {
        let Examined { config, errors, .. } = Config::examine(text, path);
        first(path, config, errors)
    }

    /// Checks a configuration's text, which came from `path`, and goes on after an error, to find them all. What is wrong with
    /// the values of a section is found once its keys and types are right.
    pub fn examine(text: &str, path: &Path) -> Examined {
        let (found, errors, warnings) = checked(text, path, |checker, raw| {
            let bundle = raw.bundle.as_ref().map(|bundle| (checker.complete(bundle), raw.form));
            (checker.check(raw), bundle.filter(|(path, _)| path.is_file()))
        });
        let (config, bundle) = found.map_or((None, None), |(config, bundle)| (config.ok(), bundle));
        Examined { config: config.filter(|_| errors.is_empty()), bundle, errors, warnings }
    }
}

impl CameraConfig {
    /// Reads a configuration file of which only the source and its regions are needed; the rest is checked for its form
    /// alone, and there may be no bundle yet.
    pub fn read(path: &Path) -> Result<CameraConfig, ConfigError> {
        let text = read(path)?;
        let (found, errors, _) = checked(&text, path, |checker, raw| checker.camera(raw.source, raw.regions));
        first(path, found.and_then(Result::ok), errors)
    }

    /// A local camera, in the form that `source.camera.device` has, with the defaults for all else.
    pub fn of_device(device: &str) -> Result<CameraConfig, ConfigError> {
        let (path, source) = (Path::new("--device"), raw_source::RawSource::of_device(device));
        let (found, errors, _) = checked("", path, |checker, _| checker.camera(source, None));
        first(path, found.and_then(Result::ok), errors)
    }
}

/// The line, from 1 on, of a field such as `decision.threshold` in a configuration's text, or else of the section that it is
/// missing from. `sink` is the place of the sink it belongs to.
pub fn line_of(text: &str, field: &str, sink: Option<usize>) -> Option<usize> {
    Document::parse(text, Path::new("")).ok()?.line(field, sink)
}

/// Reads a configuration's text.
pub fn read(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|source| ConfigError::Io { path: path.into(), source })
}

/// What `work` makes of a configuration's text; what it has found wrong, in the order of the lines; and what it warns of.
fn checked<T>(
    text: &str,
    path: &Path,
    work: impl FnOnce(&Checker<'_>, RawConfig) -> T,
) -> (Option<T>, Vec<ConfigError>, Vec<Warning>) {
    let document = match Document::parse(text, path) {
        Ok(document) => document,
        Err(errors) => return (None, errors, Vec::new()),
    };
    let (form, mut errors) = document.form();
    let Some(Form { raw, broken, sinks }) = form else { return (None, errors, Vec::new()) };
    let checker = Checker::new(&document, broken, sinks);
    let made = work(&checker, raw);
    let (mut found, warnings) = checker.end();
    errors.append(&mut found);
    errors.sort_by_key(ConfigError::order);
    (Some(made), errors, warnings)
}

fn first<T>(path: &Path, value: Option<T>, errors: Vec<ConfigError>) -> Result<T, ConfigError> {
    match errors.into_iter().next() {
        Some(error) => Err(error),
        None => {
            value.ok_or_else(|| ConfigError::Io { path: path.into(), source: std::io::ErrorKind::InvalidData.into() })
        }
    }
}

impl DecisionSettings {
    /// The decision's parameters with the threshold in force: the configured one, or else the model's. Where nothing is said
    /// of the release threshold it is 0.75 of that, but not so low that normal pictures would keep an event open:
    /// 19 of 20 are below it, up to 0.9 of the threshold.
    pub fn params(&self, model_threshold: f32, normal_scores: &[f32]) -> Result<DecisionParams, ConfigError> {
        let threshold = self.threshold.unwrap_or(model_threshold);
        let release_threshold = match self.release {
            Release::Ratio(ratio) => threshold * ratio,
            Release::Threshold(value) => value,
            Release::Usual => {
                let usual = seldom_above(normal_scores).unwrap_or(f32::INFINITY);
                usual.max(threshold * RELEASE_RATIO).min(threshold * MOST_RELEASE_RATIO)
            }
        };
        if release_threshold > threshold {
            return Err(ConfigError::Value {
                path: self.file.clone(),
                line: self.line,
                field: "decision.release_threshold",
                value: release_threshold.to_string(),
                remedy: format!("has to be at most the threshold, {threshold}"),
            });
        }
        Ok(DecisionParams { threshold, release_threshold, ..self.params })
    }
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
        let params = config.decision.params(0.5, &[]).unwrap();
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
                        release_ratio release_threshold max_gap_secs names";
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
            assert!(error.contains("edge.toml:5: ") && error.contains(expected), "{line}: {error}");
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
        assert_eq!(config.decision.params(0.4, &[]).unwrap().release_threshold, 0.3);
        let error = config.decision.params(0.2, &[]).unwrap_err().to_string();
        assert!(error.contains("decision.release_threshold = 0.3") && error.contains("0.2"), "{error}");
        let config = Config::parse(&format!("{text}[decision]\nthreshold = 0.7\n"), &path).unwrap();
        assert_eq!(config.decision.params(0.4, &[]).unwrap().threshold, 0.7);
    }

    #[test]
    fn an_event_ends_where_normal_pictures_are() {
        let (dir, text) = folder();
        let config = Config::parse(&text, &dir.path().join("edge.toml")).unwrap();
        let release = |normal: f32| config.decision.params(1.0, &[normal; 20]).unwrap().release_threshold;
        assert_eq!([0.1, 0.8, 2.0].map(release), [0.75, 0.8, 0.9]);
    }

    #[test]
    fn a_missing_configuration_is_named() {
        assert!(Config::read(Path::new("none.toml")).unwrap_err().to_string().contains("none.toml"));
    }
}
