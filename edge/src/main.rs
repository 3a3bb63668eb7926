//! `salad-edge`: the command line. Parsing only; what the commands do is in the library.

use clap::{Parser, Subcommand};
use salad_edge::commands::Outcome;
use salad_edge::commands::inspect::{InspectOptions, inspect};
use salad_edge::commands::run::run;
use salad_edge::commands::score::{ScoreOptions, score};
use salad_edge::model::FormChoice;
use salad_shared::message::message;
use signal_hook::consts::TERM_SIGNALS;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Finds what does not look like the normal images a model was trained on.
#[derive(Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
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

fn main() -> ExitCode {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("info,tract=error")).init();
    match dispatch(Cli::parse().command) {
        Ok(Outcome::Complete) => ExitCode::SUCCESS,
        Ok(Outcome::Partial) => ExitCode::FAILURE,
        Err(error) => {
            // Standard error may be closed, and there is nowhere else to say so.
            let _ = writeln!(io::stderr(), "error: {}", message(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

fn dispatch(command: Command) -> anyhow::Result<Outcome> {
    let mut out = io::stdout();
    match command {
        Command::Inspect { bundle, json, card } => {
            inspect(&bundle, InspectOptions { json, card }, &mut out)?;
            Ok(Outcome::Complete)
        }
        Command::Score { bundle, paths, form, json, threads, threshold } => {
            let options = ScoreOptions { bundle, paths, form, json, threads, threshold };
            Ok(score(&options, &mut out, &mut io::stderr())?)
        }
        Command::Run { config, json } => {
            let stop = Arc::new(AtomicBool::new(false));
            for &signal in TERM_SIGNALS {
                // The second of them ends the program at once, should the first not be heard.
                signal_hook::flag::register_conditional_shutdown(signal, 1, Arc::clone(&stop))?;
                signal_hook::flag::register(signal, Arc::clone(&stop))?;
            }
            Ok(run(&config, json.then_some(&mut out as &mut dyn Write), &stop)?)
        }
    }
}

fn finite(text: &str) -> Result<f32, String> {
    let value: f32 = text.parse().map_err(|_| "not a number".to_owned())?;
    if value.is_finite() { Ok(value) } else { Err("not a finite number".to_owned()) }
}
