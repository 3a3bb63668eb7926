//! `salad-edge`: from the command line to the command; both are in the library.

use clap::Parser;
use salad_edge::cli::{Cli, Command};
use salad_edge::commands::Outcome;
use salad_edge::commands::bench::{BenchOptions, bench};
use salad_edge::commands::cameras::cameras;
use salad_edge::commands::capture::capture;
use salad_edge::commands::check::check;
use salad_edge::commands::collect::{CollectOptions, collect};
use salad_edge::commands::enrol::enrol;
use salad_edge::commands::inspect::{InspectOptions, inspect};
use salad_edge::commands::password;
use salad_edge::commands::run::run;
use salad_edge::commands::score::{ScoreOptions, score};
use salad_edge::commands::snapshot::snapshot;
use salad_edge::commands::test_sink::test_sink;
use salad_edge::logging;
use salad_edge::picking::PickSpec;
use salad_shared::message::message;
use signal_hook::consts::{SIGHUP, TERM_SIGNALS};
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

fn main() -> ExitCode {
    logging::start();
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
        Command::Bench { bundle, picture, seconds, rate, json } => {
            bench(&BenchOptions { bundle, picture, seconds, rate, json }, &mut out)?;
            Ok(Outcome::Complete)
        }
        Command::Cameras { json } => {
            cameras(json, &mut out)?;
            Ok(Outcome::Complete)
        }
        Command::Snapshot { picture, camera, regions } => {
            let stop = stop_on_signals()?;
            snapshot(&camera.read()?, regions, &picture, &stop)?;
            Ok(Outcome::Complete)
        }
        Command::Collect { folder, camera, count, every, min_sharpness, min_change } => {
            let options = CollectOptions { out: folder, count, every, pick: PickSpec { min_sharpness, min_change } };
            let stop = stop_on_signals()?;
            Ok(collect(&camera.read()?, &options, &stop)?)
        }
        Command::Run { config, json } => {
            let stop = stop_on_signals()?;
            let again = Arc::new(AtomicBool::new(false));
            signal_hook::flag::register(SIGHUP, Arc::clone(&again))?;
            Ok(run(&config, json.then_some(&mut out as &mut dyn Write), &stop, &again)?)
        }
        Command::Enrol(options) => {
            enrol(&options, &mut out)?;
            Ok(Outcome::Complete)
        }
        Command::Check { config, json } => Ok(check(&config, json, &mut out)?),
        Command::Password { config, reset: _ } => {
            password::reset(&config)?;
            writeln!(out, "the page has no password any more, and sets a first one when it is next opened")?;
            Ok(Outcome::Complete)
        }
        Command::TestSink { name, config } => {
            test_sink(&config, &name, &mut out)?;
            Ok(Outcome::Complete)
        }
        Command::Capture { spec } => {
            capture(&spec, &mut out)?;
            Ok(Outcome::Complete)
        }
    }
}

/// Becomes true with the first signal to end; the second ends the program at once, should the first not be heard.
fn stop_on_signals() -> io::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for &signal in TERM_SIGNALS {
        signal_hook::flag::register_conditional_shutdown(signal, 1, Arc::clone(&stop))?;
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    Ok(stop)
}
