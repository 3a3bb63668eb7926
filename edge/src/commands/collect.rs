//! `salad-edge collect`: pictures of the normal state from the device's own camera, in the layout the trainer reads.

use super::{Outcome, Settling};
use crate::config::CameraConfig;
use crate::picking::{Passed, PickSpec, Picker};
use crate::regions::Regions;
use crate::source::files::{list, read_image};
use crate::source::{self, Next, SourceError};
use indicatif::{ProgressBar, ProgressStyle};
use jiff::Timestamp;
use salad_shared::atomic;
use salad_shared::decoder::Decoder;
use std::collections::BTreeMap;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_millis(200);

/// Pictures are trained on: little may be lost.
const JPEG_QUALITY: u8 = 95;

/// Where normal pictures lie in the trainer's layout.
const NORMAL: &str = "train/good";

/// After so many frames in a row that are like a picture that is there, what can be done is said.
const ALIKE_HINT: u64 = 50;

/// Between two lines of progress where there is no terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(10);

/// What to collect.
#[derive(Debug, Clone)]
pub struct CollectOptions {
    /// The data set's folder; made when it is missing.
    pub out: PathBuf,
    /// How many pictures to add.
    pub count: u64,
    /// The least time between two of them.
    pub every: Duration,
    /// Which to keep.
    pub pick: PickSpec,
}

/// Why collecting broke off. What was written before stays.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    /// The source.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A picture or the folder cannot be written.
    #[error("{}: {source}; {kept} pictures are there, free space and run it again", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// The operating system's words.
        source: io::Error,
        /// Pictures written by this run.
        kept: u64,
    },
}

/// Collects until there are enough pictures, the source ends or `stop` is set; the outcome is complete with enough.
pub fn collect(camera: &CameraConfig, options: &CollectOptions, stop: &AtomicBool) -> Result<Outcome, CollectError> {
    let folder = options.out.join(NORMAL);
    let failed = |path: &Path, kept| {
        let path = path.to_owned();
        move |source| CollectError::Write { path, source, kept }
    };
    std::fs::create_dir_all(&folder).map_err(failed(&folder, 0))?;
    let mut picker = Picker::new(options.pick);
    let there = remember(&folder, &mut picker);
    if there > 0 {
        log::info!("{}: {there} pictures are there already; {} are added", folder.display(), options.count);
    }
    let mut source = source::open(&camera.source, Decoder::whole())?;
    let mut regions = Regions::new(camera.regions.clone());
    let mut settling = Settling::of(&camera.source);
    let mut progress = Progress::new(options.count);
    let mut due = None;
    while progress.kept < options.count && !stop.load(Ordering::Relaxed) {
        match source.next(PATIENCE)? {
            Next::Frame(captured) => {
                if !settling.is_over(captured.at) || due.is_some_and(|due| captured.at.elapsed < due) {
                    continue;
                }
                let free = picker.sees(&captured.picture.frame);
                let frame = regions.apply(captured.picture.frame);
                if let Err(why) = free.and_then(|()| picker.look(&frame)) {
                    progress.pass(why);
                    continue;
                }
                let path = folder.join(name(captured.at.wall));
                atomic::write(&path, &frame.to_jpeg(JPEG_QUALITY)).map_err(failed(&path, progress.kept))?;
                due = Some(captured.at.elapsed + options.every);
                progress.keep();
            }
            Next::Bad { name, problem } => log::warn!("{name}: skipped: {problem}"),
            Next::Trouble(change) => {
                let what = if change.begins { "" } else { "no longer " };
                log::warn!("camera {what}{}: {}", change.trouble, change.detail);
                // Exposure starts anew with the camera.
                settling = Settling::of(&camera.source);
            }
            Next::Nothing => progress.line(),
            Next::Ended => break,
        }
    }
    progress.end(&folder);
    Ok(if progress.kept == options.count { Outcome::Complete } else { Outcome::Partial })
}

/// So that a run that goes on with a folder adds nothing that is like what is there; how many that is.
fn remember(folder: &Path, picker: &mut Picker) -> usize {
    let mut decoder = Decoder::whole();
    let pictures = list(folder).flatten().filter_map(|path| read_image(&path, &mut decoder).ok());
    pictures.map(|picture| picker.remember(&picture.frame)).count()
}

/// A picture's file name: when it was taken, UTC.
fn name(taken: Timestamp) -> String {
    format!("{}.jpg", taken.strftime("%Y%m%dT%H%M%S.%3fZ"))
}

/// A bar on a terminal, else a line now and then.
struct Progress {
    count: u64,
    kept: u64,
    passed: BTreeMap<String, u64>,
    bar: Option<ProgressBar>,
    last_line: Instant,
    /// Frames in a row that were like one that is there.
    alike: u64,
}

impl Progress {
    fn new(count: u64) -> Progress {
        let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {msg} {eta}").ok();
        let bar = io::stderr().is_terminal().then(|| ProgressBar::new(count));
        let bar = bar.map(|bar| style.map_or(bar.clone(), |style| bar.with_style(style)));
        Progress { count, kept: 0, passed: BTreeMap::new(), bar, last_line: Instant::now(), alike: 0 }
    }

    fn keep(&mut self) {
        self.kept += 1;
        self.alike = 0;
        if let Some(bar) = &self.bar {
            bar.set_position(self.kept);
        }
        self.line();
    }

    fn pass(&mut self, why: Passed) {
        *self.passed.entry(why.to_string()).or_default() += 1;
        self.alike = if why == Passed::Alike { self.alike + 1 } else { 0 };
        if self.alike == ALIKE_HINT {
            let hint = || {
                log::warn!(
                    "the last {ALIKE_HINT} frames are like pictures that are there: let the scene vary as it will later, or \
                     take frames that are alike with --min-change 0"
                );
            };
            match &self.bar {
                Some(bar) => bar.suspend(hint),
                None => hint(),
            }
        }
        if let Some(bar) = &self.bar {
            bar.set_message(self.passed_words());
        }
        self.line();
    }

    fn line(&mut self) {
        if self.bar.is_none() && self.last_line.elapsed() >= LINE_INTERVAL {
            self.last_line = Instant::now();
            log::info!("{} of {} pictures{}", self.kept, self.count, self.passed_words());
        }
    }

    fn end(&self, folder: &Path) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        let Progress { count, kept, .. } = self;
        log::info!("{}: {kept} of {count} pictures{}", folder.display(), self.passed_words());
    }

    fn passed_words(&self) -> String {
        let words: Vec<String> = self.passed.iter().map(|(why, count)| format!("{count} {why}")).collect();
        if words.is_empty() { String::new() } else { format!("; frames passed over: {}", words.join(", ")) }
    }
}
