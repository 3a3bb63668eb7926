//! The configuration as it is written.

use super::sinks::RawSink;
use super::source::RawSource;
use crate::model::FormChoice;
use crate::regions::Point;
use serde::Deserialize;
use std::path::PathBuf;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawConfig {
    pub version: Option<u32>,
    pub name: Option<String>,
    pub bundle: Option<PathBuf>,
    #[serde(default)]
    pub form: FormChoice,
    #[serde(default)]
    pub source: RawSource,
    #[serde(default)]
    pub decision: RawDecision,
    pub regions: Option<RawRegions>,
    pub lens: Option<RawLens>,
    pub motion: Option<RawMotion>,
    pub drift: Option<RawDrift>,
    pub events: Option<RawEvents>,
    pub snapshots: Option<RawSnapshots>,
    #[serde(default)]
    pub sinks: Vec<RawSink>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawDecision {
    pub threshold: Option<f32>,
    pub window_frames: u32,
    pub trigger_frames: u32,
    pub release_ratio: Option<f32>,
    pub release_threshold: Option<f32>,
    pub cooldown_secs: f64,
    pub update_interval_secs: f64,
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

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawEvents {
    pub log: Option<PathBuf>,
    pub store: Option<PathBuf>,
    #[serde(default = "default_max_age_days")]
    pub max_age_days: f64,
    #[serde(default = "default_store_bytes")]
    pub max_bytes: u64,
}

fn default_max_age_days() -> f64 {
    90.0
}

fn default_store_bytes() -> u64 {
    100_000_000
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawSnapshots {
    pub dir: PathBuf,
    #[serde(default = "default_max_bytes")]
    pub max_bytes: u64,
    #[serde(default = "default_jpeg_quality")]
    pub jpeg_quality: u8,
}

fn default_max_bytes() -> u64 {
    500_000_000
}

fn default_jpeg_quality() -> u8 {
    85
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawLens {
    pub obstructed_after_secs: f64,
    pub min_contrast: Option<f32>,
}

impl Default for RawLens {
    fn default() -> RawLens {
        RawLens { obstructed_after_secs: 2.0, min_contrast: None }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawDrift {
    pub after_mins: f64,
    pub reminder_hours: f64,
    pub light_after_secs: f64,
}

impl Default for RawDrift {
    fn default() -> RawDrift {
        RawDrift { after_mins: 15.0, reminder_hours: 24.0, light_after_secs: 10.0 }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawMotion {
    pub min_share: f32,
    pub min_change: f32,
    pub max_still_secs: f64,
}

impl Default for RawMotion {
    fn default() -> RawMotion {
        RawMotion { min_share: 0.005, min_change: 15.0, max_still_secs: 30.0 }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawRegions {
    pub crop: Option<[f32; 4]>,
    #[serde(default)]
    pub include: Vec<Vec<Point>>,
    #[serde(default)]
    pub exclude: Vec<Vec<Point>>,
}
