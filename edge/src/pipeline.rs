//! The way of a frame, from the source to the sinks.

use crate::clock::Moment;
use crate::decision::{Change, Decision};
use crate::encoder::EncoderError;
use crate::event::{CameraEvent, EndReason, Event, EventKind, Message, Nearest, Trouble, nearest, new_id};
use crate::lens::{Lens, Look};
use crate::model::Model;
use crate::motion::Motion;
use crate::regions::Regions;
use crate::scorer::Scorer;
use crate::sinks::Sinks;
use crate::sinks::snapshot::Shown;
use crate::source::{Captured, Next, Source, SourceError, TroubleChange};
use salad_shared::manifest::Form;
use salad_shared::patch::{HeatMap, HeatScale};
use salad_shared::preprocess::Frame;
use serde::Serialize;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How long a source is waited for before the pipeline looks whether it is to stop.
const PATIENCE: Duration = Duration::from_millis(200);

/// Between two warnings of frames that are skipped.
const WARNING_INTERVAL: Duration = Duration::from_secs(10);

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

/// What a run has come to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// Frames with a score.
    pub frames: u64,
    /// Of these, frames in which too little had moved, so that they got the score of the one before.
    pub still: u64,
    /// Frames on which the lens was covered.
    pub obstructed: u64,
    /// Frames that came in time, but of which a newer one came before they were taken.
    pub dropped: u64,
    /// Frames that could not be used.
    pub skipped: u64,
    /// Scored frames over the threshold.
    pub anomalous: u64,
    /// Events that began; troubles with the camera are not counted.
    pub events: u64,
    /// What is wrong with the camera now.
    pub trouble: Option<Trouble>,
}

/// What stands between the source and the scorer, in their order.
#[derive(Debug, Default)]
pub struct Gates {
    /// Keeps back frames on which the lens is covered.
    pub lens: Option<Lens>,
    /// What of a frame counts.
    pub regions: Option<Regions>,
    /// Keeps back frames in which nothing has moved.
    pub motion: Option<Motion>,
}

/// The pipeline of one run.
pub struct Pipeline<'s, 'o> {
    scorer: Scorer,
    form: Form,
    heat_scale: Option<HeatScale>,
    gates: Gates,
    decision: Decision,
    sinks: &'s mut Sinks,
    frame_lines: Option<&'o mut dyn Write>,
    open: Option<OpenEvent>,
    peak: Option<Peak>,
    last_frame: Option<Moment>,
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
            decision,
            sinks,
            frame_lines,
            open: None,
            peak: None,
            last_frame: None,
            troubles: Vec::new(),
            last_warning: None,
            failing_since: None,
            summary: Summary::default(),
        })
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
            if self.failing_since.is_none_or(|since| since.elapsed() < FAILING_LIMIT) {
                beat(&self.summary);
            }
        };
        if let Some(at) = self.last_frame.filter(|_| self.decision.close()) {
            self.tell(EventKind::End, at, Some(reason));
        }
        (self.summary, result)
    }

    /// One frame: gates, score, decision, event, sinks. Only the frame lines can fail.
    fn take(&mut self, captured: Captured) -> io::Result<()> {
        let Captured { picture, name, at } = captured;
        let (mut frame, file) = picture.into_parts();
        // Before regions are painted, since their edges have contrast enough for a lens that sees nothing.
        if self.is_covered(&frame, at) {
            self.summary.obstructed += 1;
            self.failing_since = None;
            return Ok(());
        }
        if let Some(regions) = &mut self.gates.regions {
            frame = regions.apply(frame);
        }
        let moved = self.gates.motion.as_mut().is_none_or(|motion| motion.wants(&frame, at.elapsed));
        if !moved && self.summary.frames > 0 {
            self.summary.still += 1;
        } else if let Err(error) = self.scorer.score(&frame) {
            self.failing_since.get_or_insert_with(Instant::now);
            self.skip(&name, &error.to_string());
            return Ok(());
        }
        self.failing_since = None;
        let scored = self.scorer.last();
        let score = scored.score;
        let step = self.decision.step(score, at.elapsed);
        self.summary.frames += 1;
        self.summary.anomalous += u64::from(step.over);
        self.last_frame = Some(at);

        let line = FrameLine { time: at.wall, frame: name.clone(), score, anomalous: step.over, event: None };
        if step.peak {
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
        self.print(line)
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
                let shown = Shown {
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
        if kind == EventKind::End {
            (self.open, self.peak) = (None, None);
        }
    }

    /// Whether the lens is covered, so that the frame says nothing of the scene.
    fn is_covered(&mut self, frame: &Frame, at: Moment) -> bool {
        let Some(lens) = &mut self.gates.lens else { return false };
        let change = |begins, detail| TroubleChange { trouble: Trouble::Obstructed, begins, at, detail, attempts: 0 };
        match lens.look(frame, at.elapsed) {
            Look::Free => false,
            Look::FreeAgain => {
                self.camera(change(false, "the scene is seen again".to_owned()));
                false
            }
            Look::Covered => true,
            Look::TellCovered(detail) => {
                self.camera(change(true, detail));
                true
            }
        }
    }

    /// Tells the sinks about a trouble with the camera. What is still wrong when the program ends stays open.
    fn camera(&mut self, change: TroubleChange) {
        let TroubleChange { trouble, begins, at, detail, attempts } = change;
        self.failing_since = None;
        let (kind, open) = if begins {
            let open = OpenTrouble { trouble, id: new_id(at.wall), started: at };
            self.troubles.push(open.clone());
            (EventKind::New, open)
        } else {
            let Some(place) = self.troubles.iter().position(|open| open.trouble == trouble) else { return };
            (EventKind::End, self.troubles.remove(place))
        };
        self.summary.trouble = self.troubles.last().map(|open| open.trouble);
        self.sinks.send(&Message::Camera(CameraEvent {
            kind,
            id: open.id,
            time: at.wall,
            started: open.started.wall,
            trouble,
            detail,
            attempts,
        }));
    }

    fn skip(&mut self, name: &str, problem: &str) {
        self.summary.skipped += 1;
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

#[derive(Debug, Clone)]
struct OpenTrouble {
    trouble: Trouble,
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
mod tests {
    use super::*;
    use crate::clock::SimulatedClock;
    use crate::config::SnapshotSettings;
    use crate::decision::DecisionParams;
    use crate::model::FormChoice;
    use crate::scorer::tests::broken_scorer;
    use crate::sinks::snapshot::Snapshots;
    use crate::source::Picture;
    use crate::source::replay::{Replay, ReplaySpec};
    use crate::store::EventLog;
    use crate::support::{bundle, write_frames};
    use salad_shared::decoder::Decoder;
    use std::path::Path;
    use std::sync::Arc;

    /// 2 of 3 at one frame a second.
    fn decision(threshold: f32) -> Decision {
        Decision::new(DecisionParams {
            threshold,
            release_threshold: threshold,
            window_frames: 3,
            trigger_frames: 2,
            cooldown: Duration::from_secs(2),
            update_interval: Duration::from_secs(1),
            max_gap: Duration::from_secs(30),
        })
    }

    fn decoder() -> Decoder {
        Decoder::covering(16, 16)
    }

    struct Ran {
        summary: Summary,
        events: Vec<Event>,
        lines: Vec<serde_json::Value>,
        losses: Vec<String>,
    }

    /// Plays the frames in `dir/frames` and writes log and snapshots to `dir`.
    fn run(dir: &Path, log: &Path, stop: bool) -> Ran {
        let model = Model::load(&bundle(), FormChoice::F32).unwrap();
        let clock = Arc::new(SimulatedClock::starting_at("2026-01-01T00:00:00Z".parse().unwrap()));
        let spec = ReplaySpec { path: dir.join("frames"), fps: 1.0, repeat: false };
        let mut source = Replay::open(spec, clock, decoder()).unwrap();
        let settings = SnapshotSettings { dir: dir.join("snapshots"), max_bytes: 1 << 20, jpeg_quality: 90 };
        let snapshots = Snapshots::open(settings, Arc::clone(&model.thumbnails)).unwrap();
        let mut sinks = Sinks::new(Some(EventLog::open(log).unwrap()), Some(snapshots));
        let mut lines = Vec::new();
        let gates = Gates::default();
        let pipeline = Pipeline::new(&model, gates, decision(model.threshold), &mut sinks, Some(&mut lines)).unwrap();
        let (summary, result) = pipeline.run(&mut source, &AtomicBool::new(stop), &mut |_| {});
        result.unwrap();
        fn read<T: serde::de::DeserializeOwned>(text: &str) -> Vec<T> {
            text.lines().map(|l| serde_json::from_str(l).unwrap()).collect()
        }
        let events = if log.starts_with(dir) { read(&std::fs::read_to_string(log).unwrap()) } else { Vec::new() };
        Ran { summary, events, lines: read(std::str::from_utf8(&lines).unwrap()), losses: sinks.losses() }
    }

    #[test]
    fn frames_become_events_in_the_log_and_on_pictures() {
        let dir = tempfile::tempdir().unwrap();
        let (f, t) = (false, true);
        // An event from 2 s (opened with the second of two) to 5 s, another that is open at the end.
        write_frames(&dir.path().join("frames"), &[f, t, t, f, f, f, f, f, t, t]);
        let ran = run(dir.path(), &dir.path().join("events.jsonl"), false);
        assert_eq!(ran.summary, Summary { frames: 10, anomalous: 4, events: 2, ..Summary::default() });
        let told: Vec<_> = ran.events.iter().map(|e| (e.kind, e.reason, e.time.to_string())).collect();
        let at = |second: u32| format!("2026-01-01T00:00:0{second}Z");
        let expected = [
            (EventKind::New, None, at(2)),
            (EventKind::End, Some(EndReason::Calm), at(5)),
            (EventKind::New, None, at(9)),
            (EventKind::End, Some(EndReason::SourceEnded), at(9)),
        ];
        assert_eq!(told, expected);
        let first = &ran.events[0];
        assert_eq!(first.id, ran.events[1].id);
        assert!(ran.events[2].id > first.id);
        // Equal scores: the first frame over the threshold is the peak, and it precedes the event's start.
        assert!(first.top_frame.ends_with("0001.jpg"));
        assert_eq!((first.top_time.to_string(), first.started.to_string()), (at(1), at(2)));
        assert!(first.top_score > first.threshold && first.nearest.len() == 2 && first.form == Form::F32);
        let picture = Frame::decode(&std::fs::read(first.snapshot.as_ref().unwrap()).unwrap()).unwrap();
        assert_eq!((picture.width(), picture.height()), (24 + 4 + 24, 24));
        let with_event: Vec<bool> = ran.lines.iter().map(|l| l["event"].is_string()).collect();
        assert_eq!(with_event, [f, f, t, t, t, f, f, f, f, t]);
        assert_eq!(ran.lines[1]["anomalous"], true);
        assert!(ran.losses.is_empty());
    }

    #[test]
    fn a_higher_score_is_told_and_pictured_anew() {
        let dir = tempfile::tempdir().unwrap();
        let frames = dir.path().join("frames");
        write_frames(&frames, &[true; 4]);
        // The first two are only a little colourful.
        for name in ["0000.jpg", "0001.jpg"] {
            std::fs::write(frames.join(name), crate::support::frame(24, [190, 148, 120]).to_jpeg(95)).unwrap();
        }
        let ran = run(dir.path(), &dir.path().join("events.jsonl"), false);
        let kinds: Vec<EventKind> = ran.events.iter().map(|e| e.kind).collect();
        assert_eq!(kinds, [EventKind::New, EventKind::Update, EventKind::End]);
        assert!(ran.events[1].top_score > ran.events[0].top_score && ran.events[0].top_score > 0.1);
        assert!(ran.events[1].top_frame.ends_with("0002.jpg"));
        let snapshot = ran.events[1].snapshot.as_ref().unwrap();
        assert_eq!(Some(snapshot), ran.events[0].snapshot.as_ref());
        let picture = Frame::decode(&std::fs::read(snapshot).unwrap()).unwrap();
        assert!(picture.rgb()[0] > 230 && picture.rgb()[1] < 30, "the picture is not that of the top score");
    }

    #[test]
    fn a_snapshot_has_all_pixels_of_a_frame_that_was_scored_with_fewer() {
        let dir = tempfile::tempdir().unwrap();
        let frames = dir.path().join("frames");
        write_frames(&frames, &[true; 3]);
        let large = crate::support::frame(200, [220, 35, 35]).to_jpeg(95);
        assert_eq!(decoder().decode(&large).unwrap().frame.width(), 100);
        for file in std::fs::read_dir(&frames).unwrap() {
            std::fs::write(file.unwrap().path(), &large).unwrap();
        }
        let ran = run(dir.path(), &dir.path().join("events.jsonl"), false);
        assert_eq!((ran.summary.frames, ran.summary.events), (3, 1));
        let picture = Frame::decode(&std::fs::read(ran.events[0].snapshot.as_ref().unwrap()).unwrap()).unwrap();
        assert_eq!((picture.width(), picture.height()), (200 + 4 + 200, 200));
        assert!(picture.pixel(100, 100)[0] > 200 && picture.pixel(100, 100)[1] < 50);
    }

    #[test]
    fn a_torn_frame_is_skipped_and_a_full_disk_is_survived() {
        let dir = tempfile::tempdir().unwrap();
        write_frames(&dir.path().join("frames"), &[true; 5]);
        let torn = dir.path().join("frames/0002.jpg");
        let bytes = std::fs::read(&torn).unwrap();
        std::fs::write(&torn, &bytes[..bytes.len() / 3]).unwrap();
        let ran = run(dir.path(), Path::new("/dev/full"), false);
        assert_eq!(ran.summary, Summary { frames: 4, skipped: 1, anomalous: 4, events: 1, ..Summary::default() });
        assert_eq!(ran.losses, ["event log /dev/full: 2 of 2 writes were lost"]);
        assert_eq!(std::fs::read_dir(dir.path().join("snapshots")).unwrap().count(), 1);
    }

    #[test]
    fn told_to_stop_it_stops_before_the_next_frame() {
        let dir = tempfile::tempdir().unwrap();
        write_frames(&dir.path().join("frames"), &[true; 5]);
        assert_eq!(run(dir.path(), &dir.path().join("events.jsonl"), true).summary, Summary::default());
    }

    /// Gives the frames it was made with, sets the stop flag with the last, and then fails.
    struct Failing<'a> {
        frames: Vec<Frame>,
        taken: u32,
        stop: Option<&'a AtomicBool>,
    }

    impl Source for Failing<'_> {
        fn next(&mut self, _: Duration) -> Result<Next, SourceError> {
            let Some(frame) = self.frames.pop() else { return Err(SourceError::Empty { path: "camera".into() }) };
            if let Some(stop) = self.stop.filter(|_| self.frames.is_empty()) {
                stop.store(true, Ordering::Relaxed);
            }
            self.taken += 1;
            let start = Moment { elapsed: Duration::ZERO, wall: jiff::Timestamp::UNIX_EPOCH };
            let at = start.plus(Duration::from_secs(self.taken.into()));
            Ok(Next::Frame(Captured { picture: Picture::of(frame), name: "camera".into(), at }))
        }
    }

    fn run_failing(stop_with_last: bool, lines: &mut dyn Write) -> (Vec<Event>, Result<(), PipelineError>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events.jsonl");
        let mut sinks = Sinks::new(Some(EventLog::open(&path).unwrap()), None);
        let model = Model::load(&bundle(), FormChoice::Int8).unwrap();
        let pipeline = Pipeline::new(&model, Gates::default(), decision(0.1), &mut sinks, Some(lines)).unwrap();
        let stop = AtomicBool::new(false);
        let frames = vec![crate::support::anomalous_frame(); 3];
        let mut source = Failing { frames, taken: 0, stop: stop_with_last.then_some(&stop) };
        let (_, result) = pipeline.run(&mut source, &stop, &mut |_| {});
        let text = std::fs::read_to_string(&path).unwrap();
        (text.lines().map(|l| serde_json::from_str(l).unwrap()).collect(), result)
    }

    #[test]
    fn beats_are_withheld_once_scoring_has_failed_for_long() {
        let model = Model::load(&bundle(), FormChoice::F32).unwrap();
        let beats = |broken: bool, failing_for: Duration| {
            let mut sinks = Sinks::new(None, None);
            let mut pipeline = Pipeline::new(&model, Gates::default(), decision(0.1), &mut sinks, None).unwrap();
            if broken {
                pipeline.scorer = broken_scorer(&model);
            }
            pipeline.failing_since = Instant::now().checked_sub(failing_for);
            let mut source = Failing { frames: vec![crate::support::anomalous_frame(); 3], taken: 0, stop: None };
            let mut beats = 0;
            let (summary, _) = pipeline.run(&mut source, &AtomicBool::new(false), &mut |_| beats += 1);
            assert_eq!(summary.skipped, if broken { 3 } else { 0 });
            beats
        };
        assert_eq!(beats(true, FAILING_LIMIT), 0);
        assert_eq!(beats(true, Duration::ZERO), 3);
        assert_eq!(beats(false, FAILING_LIMIT), 3);
    }

    #[test]
    fn an_open_event_is_ended_whatever_ends_the_run() {
        let reasons = |events: &[Event]| events.iter().map(|e| e.reason).collect::<Vec<_>>();
        let (events, result) = run_failing(false, &mut io::sink());
        assert_eq!(reasons(&events), [None, Some(EndReason::SourceEnded)]);
        assert!(matches!(result, Err(PipelineError::Source(_))));

        let (events, result) = run_failing(true, &mut io::sink());
        assert_eq!(reasons(&events), [None, Some(EndReason::Shutdown)]);
        assert!(result.is_ok());

        struct NobodyReads(u32);
        impl Write for NobodyReads {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                self.0 += 1;
                if self.0 > 1 { Err(io::ErrorKind::BrokenPipe.into()) } else { Ok(()) }
            }
        }
        let (events, result) = run_failing(false, &mut NobodyReads(0));
        assert_eq!(reasons(&events), [None, Some(EndReason::Shutdown)]);
        assert!(result.is_ok());
    }
}
