//! The command line's grammar, for the program itself and for its manual pages and completions.

use crate::commands::enrol::EnrolOptions;
use crate::config::{CameraConfig, ConfigError};
use crate::model::FormChoice;
use clap::{Args, Parser, Subcommand};
use jiff::SignedDuration;
use std::path::PathBuf;
use std::time::Duration;

/// Finds what does not look like the normal images a model was trained on.
#[derive(Parser)]
#[command(version, about)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the program can do.
#[derive(Subcommand)]
pub enum Command {
    /// Check a model bundle and print what is in it.
    Inspect {
        /// The bundle, NAME.salad.
        bundle: PathBuf,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
        /// Print the model card too.
        #[arg(long)]
        card: bool,
    },
    /// Score images, folders of images (recursively, in sorted order) and videos.
    Score {
        /// The bundle, NAME.salad.
        bundle: PathBuf,
        /// Images, folders, videos.
        #[arg(required = true)]
        paths: Vec<PathBuf>,
        /// Numeric form of encoder and prototypes.
        #[arg(long, value_enum, default_value_t)]
        form: FormChoice,
        /// Print a JSON line for each image.
        #[arg(long)]
        json: bool,
        /// Threads; one a processor where it is not given.
        #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1024))]
        threads: Option<u16>,
        /// Call an image anomalous above this score instead of the bundle's threshold.
        #[arg(long, value_parser = finite, allow_negative_numbers = true)]
        threshold: Option<f32>,
    },
    /// Time a model on this device, stage by stage and in both forms, and say whether it keeps up with a camera.
    Bench {
        /// The bundle, NAME.salad.
        bundle: PathBuf,
        /// A JPEG as the camera gives it; one of 640 x 480 is made up where none is given.
        #[arg(long)]
        picture: Option<PathBuf>,
        /// How long to time each form, seconds, 1 to 3600; minutes show whether the device gets too warm.
        #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=3600))]
        seconds: u32,
        /// Frames a second that are wanted.
        #[arg(long, default_value_t = 5.0, value_parser = positive)]
        rate: f64,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// List the local cameras with their formats, sizes, rates and controls.
    Cameras {
        /// Print one JSON array.
        #[arg(long)]
        json: bool,
    },
    /// Write one frame of a camera as a JPEG.
    Snapshot {
        /// The picture, NAME.jpg.
        picture: PathBuf,
        /// Which camera.
        #[command(flatten)]
        camera: CameraChoice,
        /// Darken what does not count and draw the edges of the configuration's regions.
        #[arg(long)]
        regions: bool,
    },
    /// Collect pictures of the normal state, in the layout the trainer reads.
    Collect {
        /// The data set's folder; pictures go to train/good in it.
        folder: PathBuf,
        /// Which camera.
        #[command(flatten)]
        camera: CameraChoice,
        /// How many pictures to add.
        #[arg(long, default_value_t = 500)]
        count: u64,
        /// The least time between two pictures, such as 2s, 500ms or 1m.
        #[arg(long, default_value = "2s", value_parser = duration)]
        every: Duration,
        /// Pass over frames less sharp than this share of the median of those before, 0 to 1; 0 keeps all.
        #[arg(long, default_value_t = 0.5, value_parser = share)]
        min_sharpness: f32,
        /// Pass over frames in which no place differs in brightness by more than this, 0 to 255, from a picture that is there;
        /// 0 keeps all.
        #[arg(long, default_value_t = 2.0, value_parser = brightness)]
        min_change: f32,
    },
    /// Watch a source of frames and tell of events, as a configuration file says; a hang-up signal has that read again.
    Run {
        /// The configuration file; packaging/edge.toml is an example with every setting.
        #[arg(long)]
        config: PathBuf,
        /// Print a JSON line for each frame.
        #[arg(long)]
        json: bool,
    },
    /// Say that what an event or a picture shows is normal, list what was called so, or take it back.
    Enrol(EnrolOptions),
    /// Check a configuration and everything it names, without starting anything: all that is wrong and what may not be meant,
    /// each with its line and what to do. Exits with 1 where something is wrong.
    Check {
        /// The configuration file.
        #[arg(long, default_value = "/etc/salad-edge/edge.toml")]
        config: PathBuf,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Take the page's password and all its tokens away, so that the page asks for a first password again. Sessions of browsers
    /// end.
    Password {
        /// The configuration file.
        #[arg(long)]
        config: PathBuf,
        /// To be given: there is nothing else to be done with a password here.
        #[arg(long, required = true)]
        reset: bool,
    },
    /// Send a made-up event to one sink of a configuration, its beginning and its end, and print what came of it.
    TestSink {
        /// The sink's name.
        name: String,
        /// The configuration file.
        #[arg(long)]
        config: PathBuf,
    },
    /// What the program starts to read a local camera with.
    #[command(hide = true)]
    Capture {
        /// The camera's settings.
        spec: String,
    },
}

/// A camera by a configuration file, or by itself.
#[derive(Args)]
#[group(required = true, multiple = false)]
pub struct CameraChoice {
    /// A configuration file, of which the sections source and regions count; there need be no bundle yet.
    #[arg(long)]
    pub config: Option<PathBuf>,
    /// A local camera: its number, its path, name:NAME or id:NAME, as `salad-edge cameras` lists them.
    #[arg(long)]
    pub device: Option<String>,
}

impl CameraChoice {
    /// The settings.
    pub fn read(&self) -> Result<CameraConfig, ConfigError> {
        match &self.config {
            Some(config) => CameraConfig::read(config),
            None => CameraConfig::of_device(self.device.as_deref().unwrap_or_default()),
        }
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let parsed = text.parse::<SignedDuration>().ok().and_then(|d| Duration::try_from(d).ok());
    parsed.ok_or_else(|| "not a time such as 2s, 500ms or 1m".to_owned())
}

fn positive(text: &str) -> Result<f64, String> {
    text.parse::<f64>().ok().filter(|v| v.is_finite() && *v > 0.0).ok_or_else(|| "not a number above 0".to_owned())
}

fn share(text: &str) -> Result<f32, String> {
    finite(text).and_then(|v| if (0.0..=1.0).contains(&v) { Ok(v) } else { Err("not from 0 to 1".to_owned()) })
}

fn brightness(text: &str) -> Result<f32, String> {
    finite(text).and_then(|v| if (0.0..=255.0).contains(&v) { Ok(v) } else { Err("not from 0 to 255".to_owned()) })
}

fn finite(text: &str) -> Result<f32, String> {
    let value: f32 = text.parse().map_err(|_| "not a number".to_owned())?;
    if value.is_finite() { Ok(value) } else { Err("not a finite number".to_owned()) }
}
