//! The configuration as it is written.

use super::raw_sinks::RawSink;
use super::raw_source::RawSource;
use super::web::RawWeb;
use crate::logging::LogLevel;
use crate::model::FormChoice;
use crate::regions::Point;
use serde::Deserialize;
use std::path::PathBuf;

/// The configuration of `salad-edge run`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RawConfig {
    /// The version of this file's form: 1, which is also taken where it is left out.
    pub version: Option<u32>,
    /// What this device is called in alerts, 1 to 64 characters. Left out: its host name.
    pub name: Option<String>,
    /// What is logged, from this level on; RUST_LOG wins.
    #[serde(default)]
    pub log_level: LogLevel,
    /// Required: the model, as the trainer exported it.
    #[cfg_attr(test, schemars(required))]
    pub bundle: Option<PathBuf>,
    /// Numeric form of encoder and prototypes; `auto` times both at the start and takes the faster.
    #[serde(default)]
    pub form: FormChoice,
    /// Required: where frames come from.
    #[serde(default)]
    pub source: RawSource,
    /// When frames become an event.
    #[serde(default)]
    pub decision: RawDecision,
    /// What of a frame counts, in shares of its width and height from the upper left.
    pub regions: Option<RawRegions>,
    /// How a covered, dark or dazzled lens is told.
    pub lens: Option<RawLens>,
    /// Which frames are scored; left out: all.
    pub motion: Option<RawMotion>,
    /// What counts as a scene that has changed as a whole.
    pub drift: Option<RawDrift>,
    /// Where events are kept. Left out: nowhere.
    pub events: Option<RawEvents>,
    /// Pictures of events. Left out: none.
    pub snapshots: Option<RawSnapshots>,
    /// The device's own page; takes events.store. Left out: none.
    pub web: Option<RawWeb>,
    /// Who is told of events; takes events.store.
    #[serde(default)]
    pub sinks: Vec<RawSink>,
}

/// When frames become an event.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RawDecision {
    /// A frame is anomalous when its score is greater. Left out: the bundle's threshold for the form in use.
    pub threshold: Option<f32>,
    /// So many of the last frames are looked at, 1 to 10000.
    pub window_frames: u32,
    /// An event begins when at least so many of them are anomalous, 1 to window_frames.
    pub trigger_frames: u32,
    /// An event ends when the last window_frames frames are all at or below this share of the threshold, 0 to 1. Left out: 0.75,
    /// or so much more, up to 0.9, that 19 of 20 normal pictures are below.
    pub release_ratio: Option<f32>,
    /// The same as a score of its own, at most the threshold; in place of release_ratio.
    pub release_threshold: Option<f32>,
    /// After the end of an event no other begins for so long, seconds.
    pub cooldown_secs: f64,
    /// An open event whose top score has risen is told about again, but not more often than this, seconds.
    pub update_interval_secs: f64,
    /// Frames further apart than this do not count together, seconds. Left out: ten frames' time, at least 10.
    pub max_gap_secs: Option<f64>,
}

impl Default for RawDecision {
    fn default() -> RawDecision {
        RawDecision {
            threshold: None,
            window_frames: 5,
            trigger_frames: 3,
            release_ratio: None,
            release_threshold: None,
            cooldown_secs: 2.0,
            update_interval_secs: 5.0,
            max_gap_secs: None,
        }
    }
}

/// Where events are kept.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RawEvents {
    /// A file with one JSON object a line: new, update and end of each event.
    pub log: Option<PathBuf>,
    /// The event store, an SQLite file: events, and what each sink has yet to be told; needed by sinks.
    pub store: Option<PathBuf>,
    /// Events that ended longer ago are forgotten, days.
    #[serde(default = "default_max_age_days")]
    pub max_age_days: f64,
    /// The oldest events are forgotten so that the store stays below this, bytes, at least 1048576.
    #[serde(default = "default_store_bytes")]
    pub max_bytes: u64,
}

fn default_max_age_days() -> f64 {
    90.0
}

fn default_store_bytes() -> u64 {
    100_000_000
}

/// Pictures of events: the frame with the highest score, beside it the nearest normal image.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RawSnapshots {
    /// The folder; made where it is missing.
    pub dir: PathBuf,
    /// The oldest are deleted so that all together stay below this, bytes.
    #[serde(default = "default_max_bytes")]
    pub max_bytes: u64,
    /// 1 to 100.
    #[serde(default = "default_jpeg_quality")]
    pub jpeg_quality: u8,
}

fn default_max_bytes() -> u64 {
    500_000_000
}

fn default_jpeg_quality() -> u8 {
    85
}

/// How a covered, dark or dazzled lens is told. Replays are not looked at unless this section is there.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RawLens {
    /// After so long, seconds; 0: never.
    pub obstructed_after_secs: f64,
    /// The contrast (standard deviation of brightness, 0 to 127) below which it counts as covered. Left out: from normal images.
    pub min_contrast: Option<f32>,
}

impl Default for RawLens {
    fn default() -> RawLens {
        RawLens { obstructed_after_secs: 2.0, min_contrast: None }
    }
}

/// What counts as a scene that has changed as a whole. Replays are not looked at unless this section is there.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RawDrift {
    /// The median score of so many minutes counts; 0: never.
    pub after_mins: f64,
    /// Told again after so many hours, more than 0.
    pub reminder_hours: f64,
    /// Unusual light is told after so long, seconds; 0: light is not looked at.
    pub light_after_secs: f64,
}

impl Default for RawDrift {
    fn default() -> RawDrift {
        RawDrift { after_mins: 15.0, reminder_hours: 24.0, light_after_secs: 10.0 }
    }
}

/// Which frames are scored; the others keep the last score.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RawMotion {
    /// The share of the picture, 0 to 1, that has to have moved; 0: all frames are scored.
    pub min_share: f32,
    /// How much the brightness of a place has to change to count, 0 to 255.
    pub min_change: f32,
    /// A frame is scored after so long, seconds, moved or not.
    pub max_still_secs: f64,
}

impl Default for RawMotion {
    fn default() -> RawMotion {
        RawMotion { min_share: 0.005, min_change: 15.0, max_still_secs: 30.0 }
    }
}

/// What of a frame counts, in shares of its width and height from the upper left, 0 to 1.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RawRegions {
    /// [left, upper, right, lower]: only this part is looked at.
    pub crop: Option<[f32; 4]>,
    /// Polygons of three or more [x, y]: only what lies in one of them counts.
    #[serde(default)]
    pub include: Vec<Vec<Point>>,
    /// Polygons: what lies in one of them does not count.
    #[serde(default)]
    pub exclude: Vec<Vec<Point>>,
}
