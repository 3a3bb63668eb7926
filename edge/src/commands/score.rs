//! `salad-edge score`: a score for each image, whatever number of threads works on them, in the order they were named.

use super::{Outcome, unless_broken_pipe};
use crate::encoder::EncoderError;
use crate::event::{Nearest, nearest};
use crate::model::{FormChoice, Model, ModelError};
use crate::scorer::Scorer;
use crate::source::SourceError;
use crate::source::files::{is_video, list, read_image};
use crate::source::video::{Video, VideoNext};
use salad_shared::manifest::Form;
use salad_shared::preprocess::Frame;
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// Jobs that may wait for each thread: enough to keep it busy, few enough that a video is not held in memory.
const JOBS_AHEAD: usize = 2;

/// What to score, and how.
#[derive(Debug, Clone)]
pub struct ScoreOptions {
    /// The model bundle.
    pub bundle: PathBuf,
    /// Images, folders, videos.
    pub paths: Vec<PathBuf>,
    /// The numeric form.
    pub form: FormChoice,
    /// A JSON line for each image instead of text.
    pub json: bool,
    /// Threads, each with an encoder of its own; one a processor where it is not given.
    pub threads: Option<u16>,
    /// In place of the bundle's threshold.
    pub threshold: Option<f32>,
}

/// Why nothing could be scored, or the scores not be told.
#[derive(Debug, thiserror::Error)]
pub enum ScoreError {
    /// The model.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The model's encoder.
    #[error(transparent)]
    Encoder(#[from] EncoderError),
    /// The output cannot be written.
    #[error("standard output: {0}")]
    Output(#[from] io::Error),
}

/// Scores everything in the options' paths to `out`, a line each, in their order. What cannot be scored is named on `err`,
/// left out, and makes the outcome [`Outcome::Partial`].
pub fn score(options: &ScoreOptions, out: &mut dyn Write, err: &mut dyn Write) -> Result<Outcome, ScoreError> {
    let model = Model::read(&options.bundle, options.form)?;
    let threshold = options.threshold.unwrap_or(model.threshold);
    let processors = || thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let threads = options.threads.map_or_else(processors, |threads| usize::from(threads.max(1)));
    let scorers = (0..threads).map(|_| model.scorer()).collect::<Result<Vec<Scorer>, _>>()?;
    let mut printer = Printer { out, err, json: options.json, form: model.form, threshold, outcome: Outcome::Complete };

    thread::scope(|scope| {
        let (job_sender, jobs) = sync_channel(JOBS_AHEAD * threads);
        let (done_sender, done) = sync_channel(JOBS_AHEAD * threads);
        let jobs = Arc::new(Mutex::new(jobs));
        scope.spawn(move || find_jobs(&options.paths, &job_sender));
        for scorer in scorers {
            let (jobs, done) = (Arc::clone(&jobs), done_sender.clone());
            scope.spawn(move || work(scorer, &jobs, &done));
        }
        drop((jobs, done_sender));
        let printed = in_order(&done, |result| printer.print(result));
        // Where printing broke off, the workers find that nobody takes their results and end, and then the finder.
        drop(done);
        unless_broken_pipe(printed)
    })?;
    Ok(printer.outcome)
}

/// Something to score, numbered in order.
struct Job {
    number: u64,
    path: PathBuf,
    frame: Option<u64>,
    content: Content,
}

enum Content {
    ImageFile,
    Frame(Frame),
    Unusable(String),
}

struct Done {
    number: u64,
    path: PathBuf,
    frame: Option<u64>,
    /// The score, and the nearest prototypes.
    result: Result<(f32, Vec<Nearest>), String>,
}

/// Sends everything there is in `paths`, and what cannot be looked into as such.
fn find_jobs(paths: &[PathBuf], jobs: &SyncSender<Job>) {
    let mut number = 0;
    // Nobody takes jobs any more when the output is closed.
    let mut send = |path: &Path, frame, content| {
        number += 1;
        jobs.send(Job { number: number - 1, path: path.into(), frame, content }).is_ok()
    };
    for path in paths {
        if !path.is_dir() {
            if !find_in_file(path, &mut send) {
                return;
            }
            continue;
        }
        let mut empty = true;
        for found in list(path) {
            empty = false;
            let goes_on = match found {
                Ok(file) => find_in_file(&file, &mut send),
                Err(SourceError::Io { path, source }) => send(&path, None, Content::Unusable(source.to_string())),
                Err(other) => send(path, None, Content::Unusable(other.to_string())),
            };
            if !goes_on {
                return;
            }
        }
        if empty && !send(path, None, Content::Unusable("no image and no video in this folder".to_owned())) {
            return;
        }
    }
}

/// One file's jobs; says whether any more are wanted.
fn find_in_file(path: &Path, send: &mut dyn FnMut(&Path, Option<u64>, Content) -> bool) -> bool {
    if !is_video(path) {
        return send(path, None, Content::ImageFile);
    }
    let mut video = match Video::open(path) {
        Ok(video) => video,
        Err(error) => return send(path, None, Content::Unusable(video_problem(error))),
    };
    let mut number = 0;
    loop {
        let goes_on = match video.next(Duration::from_secs(1)) {
            Ok(VideoNext::Frame(frame)) => {
                number += 1;
                send(path, Some(number - 1), Content::Frame(frame))
            }
            Ok(VideoNext::Nothing) => true,
            Ok(VideoNext::Ended) => return true,
            Err(error) => return send(path, None, Content::Unusable(video_problem(error))),
        };
        if !goes_on {
            return false;
        }
    }
}

/// The error without the path, which the line begins with.
fn video_problem(error: SourceError) -> String {
    match error {
        SourceError::Io { source, .. } => source.to_string(),
        SourceError::Video { problem, .. } => format!("ffmpeg cannot read it: {problem}"),
        SourceError::Empty { .. } => "no frame in it".to_owned(),
        SourceError::NoFfmpeg { .. } => {
            "reading a video takes ffmpeg, which is not installed; run: apt install ffmpeg".to_owned()
        }
    }
}

fn work(mut scorer: Scorer, jobs: &Mutex<Receiver<Job>>, done: &SyncSender<Done>) {
    let mut decoder = scorer.decoder();
    loop {
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Job { number, path, frame, content }) = job else { return };
        let picture = match content {
            Content::ImageFile => read_image(&path, &mut decoder).map(|picture| picture.frame),
            Content::Frame(frame) => Ok(frame),
            Content::Unusable(problem) => Err(problem),
        };
        let result = picture.and_then(|picture| {
            let image = scorer.score(&picture).map_err(|e| e.to_string())?;
            Ok((image.score, nearest(&image.neighbours)))
        });
        if done.send(Done { number, path, frame, result }).is_err() {
            return;
        }
    }
}

/// Hands on results by number, the early ones kept until their turn.
fn in_order(done: &Receiver<Done>, mut print: impl FnMut(Done) -> io::Result<()>) -> io::Result<()> {
    let mut early = BTreeMap::new();
    let mut due = 0;
    for result in done {
        early.insert(result.number, result);
        while let Some(result) = early.remove(&due) {
            print(result)?;
            due += 1;
        }
    }
    Ok(())
}

struct Printer<'a> {
    out: &'a mut dyn Write,
    err: &'a mut dyn Write,
    json: bool,
    form: Form,
    threshold: f32,
    outcome: Outcome,
}

/// What `--json` prints for an image.
#[derive(Serialize)]
struct Line<'a> {
    path: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    frame: Option<u64>,
    score: f32,
    anomalous: bool,
    nearest: &'a [Nearest],
    form: Form,
}

impl Printer<'_> {
    fn print(&mut self, done: Done) -> io::Result<()> {
        let Done { path, frame, result, .. } = done;
        let path = path.to_string_lossy();
        let name = frame.map_or(path.to_string(), |n| format!("{path}#{n}"));
        let (score, nearest) = match result {
            Ok(scored) => scored,
            Err(problem) => {
                self.outcome = Outcome::Partial;
                return writeln!(self.err, "{name}: not scored: {problem}");
            }
        };
        let anomalous = score > self.threshold;
        if self.json {
            let line = Line { path: &path, frame, score, anomalous, nearest: &nearest, form: self.form };
            serde_json::to_writer(&mut *self.out, &line)?;
            writeln!(self.out)?;
        } else {
            writeln!(self.out, "{score:.6} {:<9} {name}", if anomalous { "anomalous" } else { "normal" })?;
        }
        self.out.flush()
    }
}
