//! The way of a frame, from the source to the sinks.

mod troubles;

use crate::clock::Moment;
use crate::controls::{Asked, Controls};
use crate::decision::{Change, Decision, Step};
use crate::drift::{Change as Drifting, Drift};
use crate::encoder::EncoderError;
use crate::enrol::Enrolments;
use crate::event::{EndReason, Event, EventKind, Message, Nearest, Trouble, nearest, new_id};
use crate::gates::Gates;
use crate::live::{Live, Point, Shown};
use crate::metrics::{Build, Metrics, Outcome, Stage};
use crate::model::Model;
use crate::reload::{Changed, Reload};
use crate::samples::{Sample, Sampler};
use crate::scorer::Scorer;
use crate::sinks::Sinks;
use crate::sinks::snapshot;
use crate::source::{Captured, Next, Source, SourceError};
use crate::store::Minutes;
use crate::summary::Summary;
use salad_shared::decoder::Decoder;
use salad_shared::manifest::Form;
use salad_shared::patch::{HeatMap, HeatScale};
use salad_shared::preprocess::Frame;
use serde::Serialize;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use troubles::OpenTrouble;

/// How long a source is waited for before the pipeline looks whether it is to stop.
const PATIENCE: Duration = Duration::from_millis(200);

/// Between two warnings of frames that are skipped.
const WARNING_INTERVAL: Duration = Duration::from_secs(10);

/// Between two looks at what other programs have enrolled.
const FOLLOW_INTERVAL: Duration = Duration::from_secs(1);

/// How long scoring may fail before the program no longer counts as healthy.
const FAILING_LIMIT: Duration = Duration::from_secs(10);

/// Why a pipeline ended early.
#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    /// The source failed.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The lines for each frame cannot be written.
    #[error("standard output: {0}")]
    Output(io::Error),
}

/// The pipeline of one run.
pub struct Pipeline<'s, 'o> {
    scorer: Scorer,
    form: Form,
    heat_scale: Option<HeatScale>,
    gates: Gates,
    decision: Decision,
    controls: Arc<Controls>,
    enrolments: Option<Arc<Enrolments>>,
    sampler: Sampler,
    /// When it was last looked what other programs have enrolled.
    followed: Option<Instant>,
    reload: Option<Reload<'s>>,
    metrics: Arc<Metrics>,
    minutes: Minutes,
    live: Option<Arc<Live>>,
    /// Decodes what the source has decoded too small for regions that have changed.
    decoder: Option<Decoder>,
    sinks: &'s mut Sinks,
    frame_lines: Option<&'o mut dyn Write>,
    open: Option<OpenEvent>,
    peak: Option<Peak>,
    /// When the last frame was taken that was scored, and the last of all.
    last_frame: Option<Moment>,
    last_seen: Option<Moment>,
    troubles: Vec<OpenTrouble>,
    last_warning: Option<Instant>,
    /// Since when no frame could be scored.
    failing_since: Option<Instant>,
    summary: Summary,
}

impl<'s, 'o> Pipeline<'s, 'o> {
    /// `frame_lines` gets a JSON line for each scored frame.
    pub fn new(
        model: &Model,
        gates: Gates,
        decision: Decision,
        sinks: &'s mut Sinks,
        frame_lines: Option<&'o mut dyn Write>,
    ) -> Result<Pipeline<'s, 'o>, EncoderError> {
        Ok(Pipeline {
            scorer: model.scorer()?,
            form: model.form,
            heat_scale: model.heat_scale,
            gates,
            controls: Arc::new(Controls::new(decision.params().threshold, None)),
            decision,
            enrolments: None,
            sampler: Sampler::default(),
            followed: None,
            reload: None,
            metrics: Arc::new(Metrics::new(
                Build { model: model.manifest.name.clone(), form: model.form.to_string() },
                None,
            )),
            minutes: Minutes::default(),
            live: None,
            decoder: None,
            sinks,
            frame_lines,
            open: None,
            peak: None,
            last_frame: None,
            last_seen: None,
            troubles: Vec::new(),
            last_warning: None,
            failing_since: None,
            summary: Summary::default(),
        })
    }

    /// Does what others ask of it by these controls. What was enrolled there is normal too, and of events is kept what
    /// enrolling needs.
    pub fn controlled_by(mut self, controls: Arc<Controls>) -> Pipeline<'s, 'o> {
        self.enrolments = controls.enrolments().cloned();
        if let Some(enrolments) = &self.enrolments {
            self.scorer = self.scorer.with(Arc::clone(enrolments));
        }
        self.controls = controls;
        self
    }

    /// Shows what it does to whoever looks.
    pub fn shown_by(mut self, live: Arc<Live>) -> Pipeline<'s, 'o> {
        self.live = Some(live);
        self
    }

    /// Takes over what is changed in the configuration.
    pub fn reloaded_by(mut self, reload: Reload<'s>) -> Pipeline<'s, 'o> {
        self.reload = Some(reload);
        self
    }

    /// Notes there how frames and scores do.
    pub fn measured_by(mut self, metrics: Arc<Metrics>) -> Pipeline<'s, 'o> {
        self.metrics = metrics;
        self
    }

    /// Runs until the source ends, `stop` is set, or nobody reads the frame lines any more; an event that is open then is
    /// ended, after an error too. `beat` is called each time round, several times a second, unless frames come and none can
    /// be scored any more.
    pub fn run(
        mut self,
        source: &mut dyn Source,
        stop: &AtomicBool,
        beat: &mut dyn FnMut(&Summary),
    ) -> (Summary, Result<(), PipelineError>) {
        let (reason, result) = loop {
            if stop.load(Ordering::Relaxed) {
                break (EndReason::Shutdown, Ok(()));
            }
            match source.next(PATIENCE) {
                Ok(Next::Frame(captured)) => match self.take(captured) {
                    Ok(()) => {}
                    Err(error) if error.kind() == io::ErrorKind::BrokenPipe => break (EndReason::Shutdown, Ok(())),
                    Err(error) => break (EndReason::Shutdown, Err(PipelineError::Output(error))),
                },
                Ok(Next::Bad { name, problem }) => self.skip(&name, &problem),
                // A capture that was told to end with this program is no trouble.
                Ok(Next::Trouble(_)) if stop.load(Ordering::Relaxed) => {}
                Ok(Next::Trouble(change)) => self.camera(change),
                Ok(Next::Nothing) => {}
                Ok(Next::Ended) => break (EndReason::SourceEnded, Ok(())),
                Err(error) => break (EndReason::SourceEnded, Err(error.into())),
            }
            self.summary.dropped = source.dropped();
            self.metrics.beat(self.summary.dropped);
            self.sinks.look_after();
            self.follow_enrolments();
            if let Some(changed) = self.reload.as_mut().and_then(|reload| reload.look(self.sinks)) {
                self.take_over(changed);
            }
            if self.failing_since.is_none_or(|since| since.elapsed() < FAILING_LIMIT) {
                beat(&self.summary);
            }
        };
        if let Some(at) = self.last_frame.filter(|_| self.decision.close()) {
            self.tell(EventKind::End, at, Some(reason));
        }
        if let Some(minute) = self.minutes.end() {
            self.sinks.keep_minute(&minute);
        }
        (self.summary, result)
    }

    /// Goes on with other settings. A gate that is replaced says first that it is open.
    fn take_over(&mut self, changed: Changed) {
        let Changed { decision, decoder, lens, regions, motion, light, drift } = changed;
        self.decision.set_params(decision);
        self.decoder = decoder;
        let replaced = [
            (Trouble::Obstructed, lens.is_some()),
            (Trouble::Light, light.is_some()),
            (Trouble::Drift, drift.is_some()),
        ];
        for (trouble, _) in replaced.into_iter().filter(|(_, is_replaced)| *is_replaced) {
            if let Some(at) = self.last_seen {
                self.camera_trouble(EventKind::End, trouble, at, "it is looked at anew, by other settings".to_owned());
            }
        }
        let gates = &mut self.gates;
        gates.lens = lens.unwrap_or(gates.lens.take());
        gates.regions = regions.unwrap_or(gates.regions.take());
        gates.motion = motion.unwrap_or(gates.motion.take());
        gates.light = light.unwrap_or(gates.light.take());
        gates.drift = drift.unwrap_or(gates.drift.take());
    }

    /// One frame: gates, score, decision, event, sinks. Only the frame lines can fail.
    fn take(&mut self, captured: Captured) -> io::Result<()> {
        let Captured { picture, name, at } = captured;
        self.last_seen = Some(at);
        if let Some(duration) = picture.decoded_in {
            self.metrics.took(Stage::Decode, duration);
        }
        let (mut frame, file) = picture.into_parts();
        if let (Some(decoder), Some(file)) = (&mut self.decoder, &file) {
            frame = decoder.decode(file).map_or(frame, |decoded| decoded.frame);
        }
        // Before regions are painted, since their edges have contrast enough for a lens that sees nothing.
        if self.is_covered(&frame, at) {
            self.summary.obstructed += 1;
            self.metrics.frame(Outcome::Obstructed);
            self.failing_since = None;
            return Ok(());
        }
        if let Some(regions) = &mut self.gates.regions {
            frame = regions.apply(frame);
        }
        let moved = self.gates.motion.as_mut().is_none_or(|motion| motion.wants(&frame, at.elapsed));
        let still = !moved && self.summary.frames > 0;
        if still {
            self.summary.still += 1;
        } else {
            match self.scorer.timed(&frame) {
                Ok(stages) => self.metrics.scored(&stages),
                Err(error) => {
                    self.failing_since.get_or_insert_with(Instant::now);
                    self.skip(&name, &error.to_string());
                    return Ok(());
                }
            }
        }
        let scored = Instant::now();
        self.failing_since = None;
        self.summary.frames += 1;
        // Before the second look, which goes by the threshold in force.
        let asked = self.controls.score(self.scorer.last().score, at.wall);
        self.decision.set_threshold(asked.threshold);
        if asked.paused && self.decision.close() {
            self.tell(EventKind::End, at, Some(EndReason::Paused));
        }
        let caution = self.look_again(&frame, at);
        let score = self.scorer.last().score;
        let Some(caution) = caution else {
            self.summary.unlit += 1;
            self.metrics.frame(Outcome::Unlit);
            return self.print(FrameLine { time: at.wall, frame: name, score, anomalous: false, event: None });
        };
        // At least so much above what is usual; what the light has taken from a score nobody knows.
        let shift = self.shift(score, at);
        let judged = score / caution - shift;
        let step = if asked.paused {
            Step { over: judged > asked.threshold, peak: false, change: None }
        } else {
            self.decision.step_between(judged, score - shift, at.elapsed)
        };
        self.note(score, &asked, step.over, still, at);
        self.summary.anomalous += u64::from(step.over);
        self.last_frame = Some(at);
        self.sample(step, &frame, file.as_deref(), at);
        self.show(judged, &frame, at);

        let line = FrameLine { time: at.wall, frame: name.clone(), score, anomalous: step.over, event: None };
        if step.peak {
            let scored = self.scorer.last();
            let (nearest, heat) = (nearest(&scored.neighbours), scored.heat.clone());
            self.peak = Some(Peak { frame, file, name, at, score, nearest, heat, snapshot: None });
        }
        match step.change {
            Some(Change::Open) => {
                self.summary.events += 1;
                self.open = Some(OpenEvent { id: new_id(at.wall), started: at });
                self.tell(EventKind::New, at, None);
            }
            Some(Change::Update) => self.tell(EventKind::Update, at, None),
            Some(Change::End) => self.tell(EventKind::End, at, Some(EndReason::Calm)),
            None => {}
        }
        self.metrics.took(Stage::Decide, scored.elapsed());
        self.print(line)
    }

    /// Shows a frame and its score to whoever looks.
    fn show(&self, score: f32, frame: &Frame, at: Moment) {
        let Some(live) = &self.live else { return };
        let event = self.open.as_ref().map(|open| open.id.as_str());
        live.note(Point { time: at.wall, score }, *self.decision.params(), event, &self.summary);
        if live.is_watched() {
            let heat = self.scorer.last().heat.clone().zip(self.heat_scale);
            live.show(Shown { frame: frame.clone(), heat, time: at.wall });
        }
    }

    /// Takes in, now and then, what another program has enrolled.
    fn follow_enrolments(&mut self) {
        let Some(enrolments) = &self.enrolments else { return };
        if self.followed.is_some_and(|last| last.elapsed() < FOLLOW_INTERVAL) {
            return;
        }
        self.followed = Some(Instant::now());
        if let Err(error) = enrolments.refresh() {
            log::debug!("{error}; what was enrolled cannot be followed");
        }
    }

    /// Keeps some of the frames over the threshold, as long as they may be an event's.
    fn sample(&mut self, step: Step, frame: &Frame, file: Option<&[u8]>, at: Moment) {
        if self.enrolments.is_none() {
            return;
        }
        if step.over {
            let (scorer, threshold) = (&self.scorer, self.decision.params().threshold);
            self.sampler.offer(|| Sample::of(scorer, threshold, frame, file, at.wall));
        } else if self.open.is_none() {
            self.sampler.reset();
        }
        if let (Some(enrolments), Some(open)) = (&self.enrolments, &self.open) {
            enrolments.keep(&open.id, &self.sampler.take());
        }
    }

    /// Notes a frame's score for those who look at all of them.
    fn note(&mut self, score: f32, asked: &Asked, over: bool, still: bool, at: Moment) {
        self.metrics.score(score, asked.threshold);
        self.metrics.frame(match (still, over) {
            (true, _) => Outcome::Still,
            (false, true) => Outcome::Anomalous,
            (false, false) => Outcome::Normal,
        });
        if let Some(minute) = self.minutes.add(score, over, at.wall) {
            self.sinks.keep_minute(&minute);
        }
    }

    /// Tells the sinks about the open event, with the picture of its peak.
    fn tell(&mut self, kind: EventKind, at: Moment, reason: Option<EndReason>) {
        let (Some(open), Some(peak)) = (&self.open, &mut self.peak) else { return };
        if peak.snapshot.is_none() {
            peak.snapshot = {
                // People get all pixels, of which the score took fewer.
                let whole = peak.file.as_deref().and_then(|file| Frame::decode(file).ok());
                let whole = match &mut self.gates.regions {
                    Some(regions) => whole.map(|frame| regions.apply(frame)),
                    None => whole,
                };
                let shown = snapshot::Shown {
                    frame: whole.as_ref().unwrap_or(&peak.frame),
                    heat: peak.heat.as_ref().zip(self.heat_scale),
                    prototype: peak.nearest.first().map(|n| n.index),
                };
                self.sinks.picture(&open.id, &shown)
            };
        }
        self.sinks.send(&Message::Anomaly(Event {
            kind,
            id: open.id.clone(),
            time: at.wall,
            started: open.started.wall,
            top_score: peak.score,
            top_time: peak.at.wall,
            top_frame: peak.name.clone(),
            threshold: self.decision.params().threshold,
            form: self.form,
            nearest: peak.nearest.clone(),
            snapshot: peak.snapshot.clone(),
            reason,
        }));
        if let Some(enrolments) = self.enrolments.as_ref().filter(|_| kind == EventKind::New) {
            enrolments.keep(&open.id, &self.sampler.take());
        }
        if kind == EventKind::End {
            (self.open, self.peak) = (None, None);
            self.sampler.reset();
        }
    }

    /// Whether the lens is covered, so that the frame says nothing of the scene.
    fn is_covered(&mut self, frame: &Frame, at: Moment) -> bool {
        let Some(lens) = &mut self.gates.lens else { return false };
        let look = lens.look(frame, at.elapsed);
        self.tell_gate(look, Trouble::Obstructed, at, "the scene is seen again")
    }

    /// Looks again, as in usual light, at a frame whose score is too high, in which case the scorer has that score; gives by
    /// what it is to be divided. `None` where the light is too unusual for a high score to mean anything.
    fn look_again(&mut self, frame: &Frame, at: Moment) -> Option<f32> {
        let limit = self.decision.params().threshold + self.gates.drift.as_ref().map_or(0.0, Drift::shift);
        let is_over = |scorer: &Scorer, caution: f32| scorer.last().score > limit * caution;
        let Some(light) = &mut self.gates.light else { return Some(1.0) };
        let correction = if is_over(&self.scorer, 1.0) {
            light.correction(frame, at.elapsed)
        } else {
            light.learn(frame, at.elapsed);
            None
        };
        if let Some(usual) = correction.and_then(|correction| correction.apply(frame)) {
            self.scorer.score(&usual).ok()?;
        }
        let caution = correction.map_or(1.0, |correction| correction.caution());
        let is_over = is_over(&self.scorer, caution);
        // What is anomalous in usual light is not the light's doing.
        let blamed = correction.filter(|correction| correction.is_too_much() || !is_over);
        let look = light.look(blamed, at.elapsed);
        self.tell_gate(look, Trouble::Light, at, "the light has been as usual for a while");
        if is_over && blamed.is_some() { None } else { Some(caution) }
    }

    /// By how much scores are above what is usual, with this one, in a scene that has drifted.
    fn shift(&mut self, score: f32, at: Moment) -> f32 {
        let Some(drift) = &mut self.gates.drift else { return 0.0 };
        let (usual, unusual) = drift.usual();
        let change = drift.step(score, at.elapsed);
        let shift = drift.shift();
        let detail = |median: f32| {
            format!(
                "the median score is {median:.3}, normal ones are about {usual:.3} and seldom above {unusual:.3}: the scene or \
                 the camera has changed; scores are judged by their distance from that"
            )
        };
        match change {
            None => {}
            Some(Drifting::Begins(median)) => self.camera_trouble(EventKind::New, Trouble::Drift, at, detail(median)),
            Some(Drifting::Lasts(median)) => self.camera_trouble(EventKind::Update, Trouble::Drift, at, detail(median)),
            Some(Drifting::Ends) => {
                self.camera_trouble(EventKind::End, Trouble::Drift, at, "scores are as usual again".to_owned());
            }
        }
        shift
    }

    fn skip(&mut self, name: &str, problem: &str) {
        self.summary.skipped += 1;
        self.metrics.frame(Outcome::Skipped);
        // A camera that tears each of its pictures is not to fill the log.
        if self.last_warning.is_none_or(|at| at.elapsed() >= WARNING_INTERVAL) {
            self.last_warning = Some(Instant::now());
            log::warn!("{name}: skipped: {problem}; {} so far", self.summary.skipped);
        }
    }

    fn print(&mut self, mut line: FrameLine) -> io::Result<()> {
        let Some(out) = &mut self.frame_lines else { return Ok(()) };
        line.event = self.open.as_ref().map(|open| open.id.clone());
        serde_json::to_writer(&mut *out, &line)?;
        out.write_all(b"\n")?;
        out.flush()
    }
}

struct OpenEvent {
    id: String,
    started: Moment,
}

/// The frame with the highest score of an event, or of what may become one.
struct Peak {
    frame: Frame,
    /// Of a picture that has more pixels than `frame`.
    file: Option<Vec<u8>>,
    name: String,
    at: Moment,
    score: f32,
    nearest: Vec<Nearest>,
    heat: Option<HeatMap>,
    snapshot: Option<std::path::PathBuf>,
}

/// What `--json` prints for a frame.
#[derive(Serialize)]
struct FrameLine {
    time: jiff::Timestamp,
    frame: String,
    score: f32,
    anomalous: bool,
    event: Option<String>,
}

#[cfg(test)]
mod tests;
