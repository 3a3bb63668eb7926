//! How fast a recipe trains here, and what holds it back: the stages of a step, and a step as a whole.

use crate::config::Config;
use crate::loader::Batch;
use crate::neighbours::Neighbourhoods;
use crate::precision::Precision;
use crate::train::TrainError;
use crate::trial::Trial;
use serde::Serialize;
use std::fmt;
use std::time::{Duration, Instant};
use tch::{Cuda, Device};

/// Steps that are not timed: libtorch builds its kernels in the first.
const WARM_UP_STEPS: usize = 3;

/// Share of the time above which waiting for images is what holds a step back.
const WAITS: f64 = 0.1;

/// What was measured. Times are means over steps, in milliseconds.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The recipe, with every default.
    pub config: Config,
    /// Where it ran.
    pub device: String,
    /// In which numbers.
    pub precision: Precision,
    /// libtorch's threads on the CPU.
    pub threads: i32,
    /// Training images.
    pub images: usize,
    /// Rows of the memory bank.
    pub bank_rows: i64,
    /// Images a second over whole steps, augmentation included; each image in all its views.
    pub images_per_second: f64,
    /// The same for each second of processor time, by whatever thread: a figure that others on the machine disturb less.
    pub images_per_cpu_second: f64,
    /// Share of that time in which the step waited for its images.
    pub waiting_share: f64,
    /// Images decoded and resized a second, before the first epoch.
    pub loaded_per_second: f64,
    /// One thread, one batch.
    pub augment_ms: f64,
    /// Images a batch.
    pub batch: f64,
    /// Waiting for images, and copying them to the device.
    pub fetch_ms: f64,
    /// Encoder and decoder.
    pub forward_ms: f64,
    /// The three losses.
    pub loss_ms: f64,
    /// Their gradient.
    pub backward_ms: f64,
    /// The optimiser.
    pub step_ms: f64,
    /// The bank's moving average.
    pub bank_ms: f64,
}

/// Measures the recipe for about `seconds` (besides reading its images): one third whole steps, one third steps that wait
/// for the device after each stage, the rest augmentation on one thread.
pub fn run(config: &Config, seconds: f64) -> Result<Report, TrainError> {
    let mut trial = Trial::new(config)?;
    let third = Duration::from_secs_f64(seconds / 3.0);
    // The last round: every image has its neighbourhood, which is most work.
    let found = trial.neighbourhoods(config.schedule().rounds.max(1));
    let whole = whole_steps(&mut trial, &found, third);
    let stages = stages(&mut trial, &found, third);
    let (augment, batch) = augmentation(&trial, third)?;
    let device = trial.device;
    Ok(Report {
        config: config.clone(),
        device: if device.is_cuda() { format!("{device:?}") } else { "cpu".into() },
        precision: trial.precision,
        threads: tch::get_num_threads(),
        images: trial.images(),
        bank_rows: trial.bank.rows().size()[0],
        images_per_second: whole.images as f64 / whole.took.as_secs_f64(),
        images_per_cpu_second: whole.images as f64 / whole.cpu_seconds,
        waiting_share: whole.waited.as_secs_f64() / whole.took.as_secs_f64(),
        loaded_per_second: trial.images() as f64 / trial.loading.as_secs_f64().max(1e-9),
        augment_ms: augment,
        batch,
        fetch_ms: stages[0],
        forward_ms: stages[1],
        loss_ms: stages[2],
        backward_ms: stages[3],
        step_ms: stages[4],
        bank_ms: stages[5],
    })
}

struct Whole {
    images: usize,
    took: Duration,
    cpu_seconds: f64,
    waited: Duration,
}

/// Steps as training takes them.
fn whole_steps(trial: &mut Trial, found: &Neighbourhoods, limit: Duration) -> Whole {
    let mut whole = Whole { images: 0, took: Duration::ZERO, cpu_seconds: 0.0, waited: Duration::ZERO };
    let (mut began, mut cpu) = (Instant::now(), cpu_seconds());
    let loader = trial.loader.clone();
    let mut batches = loader.epochs(0..u64::MAX).flatten();
    // cuDNN tries its algorithms out on each size of batch, of which the last of an epoch has its own.
    let warm_up = WARM_UP_STEPS + if trial.device.is_cuda() { loader.batches() } else { 0 };
    for at in 0.. {
        let asked = Instant::now();
        let Some(batch) = batches.next() else { break };
        let waited = asked.elapsed();
        let size = batch.size;
        let batch = batch.to_device(trial.device);
        let _ = trial.step(&batch, Some(found), |_| ());
        if at < warm_up {
            synchronise(trial.device);
            (began, cpu) = (Instant::now(), cpu_seconds());
            continue;
        }
        whole.images += size;
        whole.waited += waited;
        if began.elapsed() >= limit {
            break;
        }
    }
    synchronise(trial.device);
    (whole.took, whole.cpu_seconds) = (began.elapsed(), cpu_seconds() - cpu);
    whole
}

/// Milliseconds of fetching and of each [`Stage`](crate::step::Stage), the device waited for after each.
fn stages(trial: &mut Trial, found: &Neighbourhoods, limit: Duration) -> [f64; 6] {
    let device = trial.device;
    let mut sums = [Duration::ZERO; 6];
    let mut steps = 0;
    let began = Instant::now();
    let loader = trial.loader.clone();
    let mut batches = loader.epochs(0..u64::MAX).flatten();
    while steps == 0 || began.elapsed() < limit {
        let mut last = Instant::now();
        let mut lap = |stage: usize| {
            synchronise(device);
            let now = Instant::now();
            if let Some(sum) = sums.get_mut(stage) {
                *sum += now - last;
            }
            last = now;
        };
        let Some(batch) = batches.next() else { break };
        let batch: Batch = batch.to_device(device);
        lap(0);
        let _ = trial.step(&batch, Some(found), |stage| lap(1 + stage as usize));
        steps += 1;
    }
    sums.map(|sum| sum.as_secs_f64() * 1e3 / f64::from(steps))
}

/// Milliseconds that one thread takes for a batch, and images a batch.
fn augmentation(trial: &Trial, limit: Duration) -> Result<(f64, f64), TrainError> {
    let loader = trial.unthreaded_loader()?;
    let began = Instant::now();
    let (mut batches, mut images) = (0, 0);
    for batch in (0..).flat_map(|epoch| loader.epoch(epoch)) {
        batches += 1;
        images += batch.size;
        if began.elapsed() >= limit {
            break;
        }
    }
    Ok((began.elapsed().as_secs_f64() * 1e3 / f64::from(batches), images as f64 / f64::from(batches)))
}

/// Processor time that this process has used, all threads.
fn cpu_seconds() -> f64 {
    const TICKS_PER_SECOND: f64 = 100.0;
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // Counted from behind the program's name, which may hold anything.
    let after = stat.rsplit(')').next().unwrap_or_default();
    after.split_whitespace().skip(11).take(2).filter_map(|f| f.parse::<f64>().ok()).sum::<f64>() / TICKS_PER_SECOND
}

fn synchronise(device: Device) {
    if let Device::Cuda(number) = device {
        Cuda::synchronize(number as i64);
    }
}

impl Report {
    /// What holds the training back, in a sentence.
    pub fn verdict(&self) -> String {
        let t = &self.config.train;
        if self.waiting_share > WAITS {
            let share = self.waiting_share * 100.0;
            return format!(
                "Augmentation holds the training back: the step waits for images {share:.0} % of the time. More \
                 train.loader_threads help while cores are free, then less [augment] or fewer train.views."
            );
        }
        let (network, rest) = (self.forward_ms + self.backward_ms, self.loss_ms + self.bank_ms);
        let whole = self.fetch_ms + network + rest + self.step_ms;
        let part = |ms: f64| format!("{:.0} % of a step", ms / whole * 100.0);
        if network >= rest.max(self.step_ms) {
            let other = match (self.precision, self.device.as_str()) {
                (_, "cpu") => ", or a GPU",
                (Precision::F32 | Precision::Tf32, _) => ", or train.precision = \"bf16\"",
                _ => "",
            };
            return format!(
                "The network holds the training back: {}, and images are ready in time. A smaller input.size, fewer \
                 network.widths or train.views help{other}.",
                part(network)
            );
        }
        if self.step_ms > rest {
            return format!(
                "The optimiser holds the training back: {}. A larger train.batch_size helps.",
                part(self.step_ms)
            );
        }
        format!(
            "The memory bank holds the training back: {} goes into {} rows of {}. A smaller network.embedding_dim or a larger \
             train.batch_size ({} now) help.",
            part(rest),
            self.bank_rows,
            self.config.network.embedding_dim,
            t.batch_size
        )
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (c, t) = (&self.config, &self.config.train);
        writeln!(
            f,
            "{}{} at {} x {}, {} images of {} views a step, {:?} on {}, {} threads and {} that augment; {} images",
            c.network.kind.name(),
            if c.members() > 1 { ", the first member," } else { "" },
            c.input.size,
            c.input.size,
            t.batch_size,
            t.views,
            self.precision,
            self.device,
            self.threads,
            t.loader_threads,
            self.images
        )?;
        let stages = [
            ("images", self.fetch_ms, "waiting for them, copying them to the device"),
            ("forward", self.forward_ms, ""),
            ("loss", self.loss_ms, ""),
            ("backward", self.backward_ms, ""),
            ("step", self.step_ms, "the optimiser"),
            ("bank", self.bank_ms, ""),
        ];
        let whole: f64 = stages.iter().map(|s| s.1).sum();
        writeln!(f, "\nstage        images/s         ms   share")?;
        let mut row = |name: &str, per_second: f64, ms: f64, share: &str, note: &str| {
            let note = if note.is_empty() { String::new() } else { format!("   {note}") };
            writeln!(f, "{name:<10} {per_second:>10.1} {ms:>10.2} {share:>7}{note}")
        };
        let loaded = self.batch * 1e3 / self.loaded_per_second;
        row("load", self.loaded_per_second, loaded, "once", "decode and resize, before the first epoch")?;
        row("augment", self.batch * 1e3 / self.augment_ms, self.augment_ms, "beside", "one thread")?;
        for (name, ms, note) in stages {
            row(name, self.batch * 1e3 / ms.max(1e-6), ms, &format!("{:.1} %", ms / whole * 100.0), note)?;
        }
        let ms = self.batch * 1e3 / self.images_per_second;
        let per_cpu = format!("as training takes it; {:.1} images a CPU second", self.images_per_cpu_second);
        row("whole step", self.images_per_second, ms, "", &per_cpu)?;
        write!(f, "\n{}", self.verdict())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::step::Stage;

    fn report() -> Report {
        Report {
            config: Config::default(),
            device: "cpu".into(),
            precision: Precision::F32,
            threads: 2,
            images: 500,
            bank_rows: 500,
            images_per_second: 100.0,
            images_per_cpu_second: 60.0,
            waiting_share: 0.0,
            loaded_per_second: 400.0,
            augment_ms: 10.0,
            batch: 32.0,
            fetch_ms: 1.0,
            forward_ms: 100.0,
            loss_ms: 2.0,
            backward_ms: 200.0,
            step_ms: 3.0,
            bank_ms: 1.0,
        }
    }

    #[test]
    fn the_verdict_names_the_largest_part() {
        for (report, expected) in [
            (report(), "The network holds"),
            (Report { waiting_share: 0.3, ..report() }, "Augmentation holds"),
            (Report { step_ms: 400.0, ..report() }, "The optimiser holds"),
            (Report { loss_ms: 400.0, ..report() }, "The memory bank holds"),
        ] {
            assert!(report.verdict().starts_with(expected), "{}", report.verdict());
        }
    }

    #[test]
    fn a_stage_has_its_place_in_the_table() {
        let text = report().to_string();
        let row =
            |name: &str| text.lines().find(|l| l.starts_with(name)).unwrap().split_whitespace().collect::<Vec<_>>();
        // 32 images in 200 ms, of 307 ms.
        assert_eq!(row("backward"), ["backward", "160.0", "200.00", "65.1", "%"]);
        assert_eq!(row("load")[1..4], ["400.0", "80.00", "once"]);
        assert!(cpu_seconds() > 0.0);
        assert_eq!([Stage::Forward, Stage::Bank].map(|s| s as usize), [0, 4]);
    }
}
