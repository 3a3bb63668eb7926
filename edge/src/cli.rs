//! The command line's grammar, for the program itself and for its manual pages and completions.

use crate::model::FormChoice;
use clap::{Parser, Subcommand};
use std::path::PathBuf;

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
    /// Watch a source of frames and tell of events, as a configuration file says.
    Run {
        /// The configuration file; packaging/edge.toml is an example with every setting.
        #[arg(long)]
        config: PathBuf,
        /// Print a JSON line for each frame.
        #[arg(long)]
        json: bool,
    },
}

fn finite(text: &str) -> Result<f32, String> {
    let value: f32 = text.parse().map_err(|_| "not a number".to_owned())?;
    if value.is_finite() { Ok(value) } else { Err("not a finite number".to_owned()) }
}
