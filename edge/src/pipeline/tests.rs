//! The pipeline with frames of a bundle whose verdicts are known.

use super::*;
use crate::clock::SimulatedClock;
use crate::config::SnapshotSettings;
use crate::decision::DecisionParams;
use crate::model::FormChoice;
use crate::scorer::tests::broken_scorer;
use crate::sinks::json_lines::EventLog;
use crate::sinks::outbox::Outbox;
use crate::sinks::snapshot::Snapshots;
use crate::source::Picture;
use crate::source::replay::{Replay, ReplaySpec};
use crate::store::{Store, StoreSettings};
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
    let mut sinks = Sinks::new(Some(EventLog::open(log).unwrap()), Some(snapshots), None);
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
    let mut sinks = Sinks::new(Some(EventLog::open(&path).unwrap()), None, None);
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
        let mut sinks = Sinks::new(None, None, None);
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

#[test]
fn frames_events_and_minutes_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    let frames = dir.path().join("frames");
    write_frames(&frames, &[false, true, true, false]);
    std::fs::write(frames.join("0004.jpg"), "no picture").unwrap();
    let model = Model::load(&bundle(), FormChoice::F32).unwrap();
    let clock = Arc::new(SimulatedClock::starting_at("2026-01-01T00:00:00Z".parse().unwrap()));
    // One each twenty seconds.
    let mut source = Replay::open(ReplaySpec { path: frames, fps: 0.05, repeat: false }, clock, decoder()).unwrap();
    let settings = StoreSettings { path: dir.path().join("e.db"), max_age: Duration::MAX, max_bytes: u64::MAX };
    let store = Arc::new(Store::open(settings, Vec::new(), jiff::Timestamp::UNIX_EPOCH).unwrap());
    let metrics = Arc::new(Metrics::new(Build { model: "tiny".into(), form: "f32".into() }, Some(Arc::clone(&store))));
    let mut sinks = Sinks::new(None, None, Some(Outbox::start(Arc::clone(&store), Vec::new()).unwrap()));
    sinks.counted_by(Arc::clone(&metrics));
    let pipeline = Pipeline::new(&model, Gates::default(), decision(model.threshold), &mut sinks, None).unwrap();
    let pipeline = pipeline.measured_by(Arc::clone(&metrics));
    pipeline.run(&mut source, &AtomicBool::new(false), &mut |_| {}).1.unwrap();
    let text = metrics.render();
    for line in [
        "salad_frames_total{outcome=\"normal\"} 2",
        "salad_frames_total{outcome=\"anomalous\"} 2",
        "salad_frames_total{outcome=\"skipped\"} 1",
        "salad_frame_seconds_count{stage=\"decode\"} 4",
        "salad_frame_seconds_count{stage=\"search\"} 4",
        "salad_frame_seconds_count{stage=\"decide\"} 4",
        "salad_score_count 4",
        "salad_events_total{subject=\"anomaly\"} 1",
        "salad_camera_up 1",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
    let minutes = store.minutes(jiff::Timestamp::UNIX_EPOCH).unwrap();
    let kept: Vec<_> =
        minutes.iter().map(|minute| (minute.start.to_string(), minute.frames, minute.anomalous)).collect();
    assert_eq!(kept, [("2026-01-01T00:00:00Z".to_owned(), 3, 2), ("2026-01-01T00:01:00Z".to_owned(), 1, 0)]);
    assert!(minutes[0].lowest < model.threshold && minutes[0].highest > model.threshold);
}
