//! The trainer's command line: parsing only.

use anyhow::{Context, bail};
use clap::{Args, Parser, Subcommand};
use salad_shared::message::message;
use salad_trainer::config::Config;
use salad_trainer::tensorboard::projector;
use salad_trainer::{bench, demo_scene, device, finish, rounds, trace, train};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;

/// Trains SALAD anomaly detectors on pictures of the normal state.
#[derive(Parser)]
#[command(name = "salad-trainer", version, about, max_term_width = 120)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Train on a folder of normal images, then evaluate, quantize, export the bundle and write the report.
    Train {
        /// The data set: a folder of normal images, an MVTec-style folder, a video, CIFAR-10 or MNIST files.
        data: Option<PathBuf>,
        /// A recipe (TOML); flags win over it.
        #[arg(long)]
        config: Option<PathBuf>,
        /// The run's folder: checkpoint, scores, report and bundle go there.
        #[arg(long, default_value = "run")]
        out: PathBuf,
        /// Weights that a resnet18's encoder begins with, of an ensemble's networks the first: a safetensors file, named as
        /// torchvision names them.
        #[arg(long, value_name = "WEIGHTS")]
        init: Option<PathBuf>,
        /// Go on with the run in --out where it was stopped.
        #[arg(long)]
        resume: bool,
        /// Stop once so many epochs are done, of an ensemble in any member; --resume goes on another time.
        #[arg(long, value_name = "EPOCHS", value_parser = clap::value_parser!(u32).range(1..))]
        stop_after: Option<u32>,
        #[command(flatten)]
        overrides: Overrides,
    },
    /// Evaluate a trained run: figures on the terminal, evaluation.json and scores.csv.
    Evaluate {
        /// The run's folder.
        run: PathBuf,
        #[command(flatten)]
        overrides: Overrides,
    },
    /// Condense, quantize and write the bundle of a trained run anew.
    Export {
        /// The run's folder.
        run: PathBuf,
        /// The bundle to write, in place of NAME.salad in the run's folder.
        #[arg(long, value_name = "BUNDLE")]
        to: Option<PathBuf>,
        #[command(flatten)]
        overrides: Overrides,
    },
    /// Write the report of a trained run anew.
    Report {
        /// The run's folder.
        run: PathBuf,
        #[command(flatten)]
        overrides: Overrides,
    },
    /// Evaluate every round of a run that was trained with train.keep_rounds=true, of an ensemble the first member: how well
    /// the choice of weights without labels tracks the test set.
    Rounds {
        /// The run's folder.
        run: PathBuf,
        /// Print JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        overrides: Overrides,
    },
    /// Time a recipe's training here by stage, and say what holds it back.
    Bench {
        /// The data set.
        data: Option<PathBuf>,
        /// A recipe (TOML); flags win over it.
        #[arg(long)]
        config: Option<PathBuf>,
        /// Seconds to measure, besides reading the images.
        #[arg(long, default_value_t = 20.0, value_parser = seconds)]
        seconds: f64,
        /// Print the figures as JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        overrides: Overrides,
    },
    /// Write down the first steps of a recipe's training, for another implementation to follow.
    Trace {
        /// The data set.
        data: Option<PathBuf>,
        /// A recipe (TOML); flags win over it.
        #[arg(long)]
        config: Option<PathBuf>,
        /// The folder to write into.
        #[arg(long)]
        out: PathBuf,
        /// Steps of phase 1, and then as many of phase 2.
        #[arg(long, default_value_t = NonZeroUsize::new(20).unwrap_or(NonZeroUsize::MIN))]
        steps: NonZeroUsize,
        #[command(flatten)]
        overrides: Overrides,
    },
    /// Render the demo's fixed-camera scene: training images, test images with defects, a stream with its truth.
    DemoScene {
        /// The folder to render into.
        out: PathBuf,
        /// Seed of the scene.
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
}

/// Changes to the recipe.
#[derive(Args)]
struct Overrides {
    /// The model's name; the bundle is NAME.salad.
    #[arg(long)]
    name: Option<String>,
    /// Seed of everything random.
    #[arg(long, value_parser = clap::value_parser!(i64).range(0..))]
    seed: Option<i64>,
    /// `edge-s`, `edge` (or `edge-m`), `edge-l`, `unet` or `resnet18`; of an ensemble's networks the first.
    #[arg(long)]
    network: Option<String>,
    /// Side of the square that images are resized to, pixels.
    #[arg(long)]
    size: Option<u32>,
    /// `auto`, `cpu`, `cuda` or `cuda:N`.
    #[arg(long)]
    device: Option<String>,
    /// Threads of libtorch on the CPU, 0 for all.
    #[arg(long)]
    threads: Option<u32>,
    /// Prototypes that the bundle keeps, a number or `all`.
    #[arg(long)]
    prototypes: Option<String>,
    /// False alarms that are acceptable, such as 1/week.
    #[arg(long)]
    false_alarms: Option<String>,
    /// Frames that the device will score a second.
    #[arg(long)]
    fps: Option<f64>,
    /// Any other key of the recipe, such as train.views=4; can be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
}

impl Overrides {
    /// As keys of the recipe, in the order they apply.
    fn keys(&self, data: Option<&PathBuf>) -> anyhow::Result<Vec<(String, toml::Value)>> {
        let text = |key: &str, v: &Option<String>| v.clone().map(|v| (key.to_owned(), toml::Value::String(v)));
        let number = |key: &str, v: Option<i64>| v.map(|v| (key.to_owned(), toml::Value::Integer(v)));
        let prototypes = self.prototypes.as_ref().map(|p| {
            let value = p.parse().map_or_else(|_| toml::Value::String(p.clone()), toml::Value::Integer);
            ("condense.prototypes".to_owned(), value)
        });
        let data = data.map(|d| ("data.root".to_owned(), toml::Value::String(d.to_string_lossy().into_owned())));
        let mut keys: Vec<_> = [
            data,
            text("name", &self.name),
            number("seed", self.seed),
            text("network.kind", &self.network),
            number("input.size", self.size.map(i64::from)),
            text("train.device", &self.device),
            number("train.threads", self.threads.map(i64::from)),
            prototypes,
            text("threshold.false_alarms", &self.false_alarms),
            self.fps.map(|f| ("threshold.fps".to_owned(), toml::Value::Float(f))),
        ]
        .into_iter()
        .flatten()
        .collect();
        for set in &self.sets {
            let Some((key, value)) = set.split_once('=') else { bail!("--set {set}: has to be KEY=VALUE") };
            // A bare word is taken as text, so that --set train.schedule=constant needs no quotes.
            let parsed = format!("value = {value}").parse::<toml::Table>().ok().and_then(|mut t| t.remove("value"));
            keys.push((key.trim().to_owned(), parsed.unwrap_or_else(|| toml::Value::String(value.to_owned()))));
        }
        Ok(keys)
    }
}

fn main() -> ExitCode {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("info")).init();
    let cli = Cli::parse();
    device::settle_environment();
    device::load_cuda();
    // libtorch's operators panic where they fail, out of memory above all: that is the user's to know, not a crash.
    std::panic::set_hook(Box::new(|panic| log::debug!("{panic}")));
    match std::panic::catch_unwind(|| run(&cli.command)) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(e)) => {
            eprintln!("error: {}", message(e.as_ref()));
            ExitCode::FAILURE
        }
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned())).unwrap_or_default();
            let first = text.lines().next().unwrap_or("no reason given");
            if text.contains("Torch(") {
                eprintln!("error: libtorch failed: {first}");
                eprintln!("If memory ran out, lower train.batch_size, train.views or input.size.");
            } else {
                eprintln!("error: a fault in the program: {first}; RUST_LOG=debug says where");
            }
            ExitCode::FAILURE
        }
    }
}

fn run(command: &Command) -> anyhow::Result<()> {
    match command {
        Command::Train { data, config, out, init, resume, stop_after, overrides } => {
            let mut keys = overrides.keys(data.as_ref())?;
            keys.extend(init.as_ref().map(|path| ("network.init".to_owned(), path.to_string_lossy().as_ref().into())));
            let config = match config {
                None if *resume => Config::load_text("checkpoint.json", &train::saved_config(out)?, &keys)?,
                recipe => Config::load(recipe.as_deref(), &keys)?,
            };
            let extent = train::Extent { resume: *resume, stop_after: *stop_after };
            let Some(trained) = train::train(&config, out, extent)? else { return Ok(()) };
            let finished = finish::finish(&trained)?;
            finished.write_evaluation(out)?;
            finished.write_bundle(&finished.bundle_path(out))?;
            finished.write_report(out)?;
            projector::write(&finished, out)?;
            println!("{finished}");
        }
        Command::Evaluate { run, overrides } => {
            let trained = open(run, overrides)?;
            let finished = finish::finish(&trained)?;
            finished.write_evaluation(run)?;
            println!("{finished}");
        }
        Command::Export { run, to, overrides } => {
            let trained = open(run, overrides)?;
            let finished = finish::finish(&trained)?;
            let path = to.clone().unwrap_or_else(|| finished.bundle_path(run));
            finished.write_bundle(&path)?;
            println!("{finished}");
            println!("{}", path.display());
        }
        Command::Report { run, overrides } => {
            let trained = open(run, overrides)?;
            let path = finish::finish(&trained)?.write_report(run)?;
            println!("{}", path.display());
        }
        Command::Rounds { run, json, overrides } => {
            let compared = rounds::compare(run, &mut open(run, overrides)?)?;
            if *json { println!("{}", serde_json::to_string(&compared)?) } else { println!("{compared}") }
        }
        Command::Bench { data, config, seconds, json, overrides } => {
            let config = Config::load(config.as_deref(), &overrides.keys(data.as_ref())?)?;
            let report = bench::run(&config, *seconds)?;
            if *json {
                println!("{}", serde_json::to_string(&report)?);
            } else {
                println!("{report}");
            }
        }
        Command::Trace { data, config, out, steps, overrides } => {
            let config = Config::load(config.as_deref(), &overrides.keys(data.as_ref())?)?;
            trace::write(&config, steps.get(), out)?;
        }
        Command::DemoScene { out, seed } => {
            demo_scene::render(out, &demo_scene::Options { seed: *seed, ..Default::default() })
                .with_context(|| format!("rendering into {}", out.display()))?;
        }
    }
    Ok(())
}

/// A time to measure.
fn seconds(text: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| "has to be a number of seconds".to_owned())?;
    if (0.1..=3600.0).contains(&value) { Ok(value) } else { Err("has to be from 0.1 to 3600 seconds".into()) }
}

fn open(run: &std::path::Path, overrides: &Overrides) -> anyhow::Result<train::Trained> {
    let keys = overrides.keys(None)?;
    Ok(train::open(run, |saved| Config::load_text("checkpoint.json", saved, &keys))?)
}
