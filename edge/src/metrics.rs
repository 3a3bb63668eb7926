//! What a program that watches many devices wants to know of this one, in OpenMetrics' text form. docs/metrics.md lists it.
//!
//! The pipeline fills it; a frame costs some atomic additions and locks nobody else holds for long, and takes no memory.

use crate::event::Subject;
use crate::scorer::Stages;
use crate::store::{SinkState, Store};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

/// What the text form is called over HTTP.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The loop comes round several times a second; without that for so long the program is not ready.
const READY: Duration = Duration::from_secs(10);

type Label = [(&'static str, &'static str); 1];

/// What the model and the program are called.
#[derive(Debug, Clone)]
pub struct Build {
    /// The bundle's name.
    pub model: String,
    /// The numeric form.
    pub form: String,
}

/// A part of the work on a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// From a file's bytes to pixels; of pictures that come as pixels nothing is known.
    Decode,
    /// To the model's input.
    Resize,
    /// To embeddings.
    Encode,
    /// Among the prototypes, and the score.
    Search,
    /// Light, drift and the decision, and telling of an event.
    Decide,
}

/// Their names, in their order.
const STAGES: [&str; 5] = ["decode", "resize", "encode", "search", "decide"];

/// What became of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Scored, and not over the threshold.
    Normal,
    /// Scored, and over the threshold.
    Anomalous,
    /// Too little had moved: it got the score of the one before.
    Still,
    /// In too unusual a light for its score to count.
    Unlit,
    /// The lens was covered.
    Obstructed,
    /// It could not be used.
    Skipped,
}

/// Their names, in their order.
const OUTCOMES: [&str; 6] = ["normal", "anomalous", "still", "unlit", "obstructed", "skipped"];

/// All figures of one run; shared by the pipeline and whoever shows them.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    stages: [Histogram; 5],
    frames: [Counter; 6],
    dropped: Counter,
    score: Histogram,
    threshold: Gauge<f64, AtomicU64>,
    events: [Counter; 3],
    camera_up: Gauge,
    start: Instant,
    /// When the loop last came round, milliseconds since the start, from 1 on.
    beat: AtomicU64,
}

impl Metrics {
    /// All at zero; sinks are those of `store`.
    pub fn new(build: Build, store: Option<Arc<Store>>) -> Metrics {
        let mut registry = Registry::default();
        let info = Info::new(vec![
            ("version", env!("CARGO_PKG_VERSION").to_owned()),
            ("model", escaped(&build.model)),
            ("form", build.form),
        ]);
        registry.register("salad_build", "The program and its model", info);
        // 10 microseconds to 2.6 seconds.
        let stages =
            Family::<Label, Histogram>::new_with_constructor(|| Histogram::new(exponential_buckets(1e-5, 2.0, 19)));
        registry.register_with_unit(
            "salad_frame",
            "Time that a part of the work on a frame took",
            Unit::Seconds,
            stages.clone(),
        );
        let frames = Family::<Label, Counter>::default();
        registry.register("salad_frames", "Frames, by what became of them", frames.clone());
        let dropped = Counter::default();
        registry.register(
            "salad_frames_dropped",
            "Frames of which a newer one came before they were taken",
            dropped.clone(),
        );
        // 0.005 to 2, which no score exceeds.
        let score = Histogram::new(exponential_buckets(0.005, 1.35, 21));
        registry.register("salad_score", "Anomaly scores of frames", score.clone());
        let threshold = Gauge::<f64, AtomicU64>::default();
        registry.register("salad_threshold", "The threshold in force", threshold.clone());
        let events = Family::<Label, Counter>::default();
        registry.register("salad_events", "Events that began, by subject", events.clone());
        let camera_up = Gauge::default();
        registry.register("salad_camera_up", "Whether the camera gives frames", camera_up.clone());
        registry.register_collector(Box::new(Sinks(store)));
        registry.register_collector(Box::new(Process(SystemTime::now())));
        // Made now, so that a frame only has to find its place.
        let stages = STAGES.map(|name| stages.get_or_create(&[("stage", name)]).clone());
        let frames = OUTCOMES.map(|name| frames.get_or_create(&[("outcome", name)]).clone());
        let events = Subject::ALL.map(|subject| events.get_or_create(&[("subject", subject.name())]).clone());
        let (start, beat) = (Instant::now(), AtomicU64::new(0));
        Metrics { registry, stages, frames, dropped, score, threshold, events, camera_up, start, beat }
    }

    /// How long a part of the work on a frame took.
    pub fn took(&self, stage: Stage, duration: Duration) {
        self.stages[stage as usize].observe(duration.as_secs_f64());
    }

    /// How long the parts of a score took.
    pub fn scored(&self, stages: &Stages) {
        self.took(Stage::Resize, stages.resize);
        self.took(Stage::Encode, stages.encode);
        self.took(Stage::Search, stages.search);
    }

    /// What became of a frame. One that came shows that the camera is up.
    pub fn frame(&self, outcome: Outcome) {
        self.frames[outcome as usize].inc();
        if outcome != Outcome::Skipped {
            self.camera_up.set(1);
        }
    }

    /// A frame's score, and the threshold in force.
    pub fn score(&self, score: f32, threshold: f32) {
        self.score.observe(score.into());
        self.threshold.set(threshold.into());
    }

    /// An event began.
    pub fn event(&self, subject: Subject) {
        self.events[subject as usize].inc();
    }

    /// The camera gives no frames any more.
    pub fn camera_down(&self) {
        self.camera_up.set(0);
    }

    /// The loop has come round; so many frames were dropped by then.
    pub fn beat(&self, dropped: u64) {
        self.dropped.inner().store(dropped, Ordering::Relaxed);
        self.beat.store(self.since_start(Instant::now()).max(1), Ordering::Relaxed);
    }

    /// Whether frames come and are worked on.
    pub fn is_ready(&self) -> bool {
        self.is_ready_at(Instant::now())
    }

    /// The text, which ends with `# EOF`.
    pub fn render(&self) -> String {
        let mut text = String::new();
        // Only writing could fail, and a string takes all.
        let _ = text::encode(&mut text, &self.registry);
        text
    }

    fn is_ready_at(&self, now: Instant) -> bool {
        let beat = self.beat.load(Ordering::Relaxed);
        let silent = Duration::from_millis(self.since_start(now).saturating_sub(beat));
        beat > 0 && silent < READY && self.camera_up.get() == 1
    }

    fn since_start(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.start).as_millis()).unwrap_or(u64::MAX)
    }
}

/// A label's value as the text form wants it; the library takes it as it is.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// How the sinks do, as the store knows when it is asked.
#[derive(Debug)]
struct Sinks(Option<Arc<Store>>);

impl Collector for Sinks {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let states = self.0.as_ref().map_or_else(|| Ok(Vec::new()), |store| store.sinks());
        let states = states.unwrap_or_else(|error| {
            log::warn!("{error}; metrics are without sinks");
            Vec::new()
        });
        type Column = (&'static str, &'static str, MetricType, fn(&SinkState) -> i64);
        let columns: [Column; 3] = [
            ("salad_sink_pending", "Messages that a sink has yet to take", MetricType::Gauge, |state| state.pending),
            ("salad_sink_delivered", "Messages that a sink has taken", MetricType::Counter, |state| state.delivered),
            ("salad_sink_refused", "Messages that a sink would not take", MetricType::Counter, |state| state.refused),
        ];
        for (name, help, kind, value) in columns {
            let mut metric = encoder.encode_descriptor(name, help, None, kind)?;
            for state in &states {
                let labels = [("sink", state.name.as_str())];
                let metric = metric.encode_family(&labels)?;
                match kind {
                    MetricType::Gauge => ConstGauge::new(value(state)).encode(metric)?,
                    _ => ConstCounter::new(value(state).unsigned_abs()).encode(metric)?,
                }
            }
        }
        Ok(())
    }
}

/// When the program was started.
#[derive(Debug)]
struct Process(SystemTime);

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let start = self.0.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let help = "When the program was started, since 1970";
        let unit = Some(&Unit::Seconds);
        let metric = encoder.encode_descriptor("process_start_time", help, unit, MetricType::Gauge)?;
        ConstGauge::new(start).encode(metric)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::tests::anomaly;
    use crate::sinks::filter::Filter;
    use crate::store::StoreSettings;
    use jiff::Timestamp;
    use std::collections::BTreeSet;

    fn metrics(store: Option<Arc<Store>>) -> Metrics {
        Metrics::new(Build { model: "a \"quoted\" name".into(), form: "int8".into() }, store)
    }

    /// Samples' names, without labels and values.
    fn names(text: &str) -> BTreeSet<&str> {
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        samples.filter_map(|line| line.split(['{', ' ']).next()).collect()
    }

    #[test]
    fn what_happens_shows_under_its_name_in_base_units() {
        let dir = tempfile::tempdir().unwrap();
        let settings = StoreSettings { path: dir.path().join("e.db"), max_age: Duration::MAX, max_bytes: u64::MAX };
        let sinks = ["a", "b"].map(|name| (name.to_owned(), Filter::default()));
        let store = Arc::new(Store::open(settings, sinks.to_vec(), Timestamp::UNIX_EPOCH).unwrap());
        for second in 1..=3 {
            store.record(&anomaly(Timestamp::from_second(second).unwrap(), 0.5));
        }
        store.delivered("a", 1, Timestamp::UNIX_EPOCH).unwrap();
        store.refused("a", 2, Timestamp::UNIX_EPOCH).unwrap();
        let metrics = metrics(Some(store));
        let ms = Duration::from_millis(3);
        metrics.scored(&Stages { resize: ms, encode: 2 * ms, search: ms });
        metrics.took(Stage::Decode, ms);
        metrics.score(0.25, 0.5);
        metrics.frame(Outcome::Normal);
        metrics.frame(Outcome::Still);
        metrics.frame(Outcome::Skipped);
        metrics.event(Subject::Camera);
        metrics.beat(7);
        let text = metrics.render();
        for line in [
            "salad_build_info{version=\"0.1.0\",model=\"a \\\"quoted\\\" name\",form=\"int8\"} 1",
            "# TYPE salad_frame_seconds histogram",
            "# UNIT salad_frame_seconds seconds",
            "salad_frame_seconds_count{stage=\"encode\"} 1",
            "salad_frame_seconds_sum{stage=\"encode\"} 0.006",
            "salad_frame_seconds_count{stage=\"decide\"} 0",
            "salad_frames_total{outcome=\"normal\"} 1",
            "salad_frames_total{outcome=\"still\"} 1",
            "salad_frames_total{outcome=\"skipped\"} 1",
            "salad_frames_total{outcome=\"anomalous\"} 0",
            "salad_frames_dropped_total 7",
            "salad_score_sum 0.25",
            "salad_threshold 0.5",
            "salad_events_total{subject=\"anomaly\"} 0",
            "salad_events_total{subject=\"camera\"} 1",
            "salad_camera_up 1",
            "salad_sink_pending{sink=\"a\"} 1",
            "salad_sink_pending{sink=\"b\"} 3",
            "salad_sink_delivered_total{sink=\"a\"} 1",
            "salad_sink_refused_total{sink=\"a\"} 1",
            "# TYPE process_start_time_seconds gauge",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn it_is_ready_while_the_camera_gives_frames_and_the_loop_comes_round() {
        let metrics = metrics(None);
        assert!(!metrics.is_ready());
        metrics.beat(0);
        assert!(!metrics.is_ready(), "no frame has come");
        metrics.frame(Outcome::Obstructed);
        assert!(metrics.is_ready());
        assert!(!metrics.is_ready_at(Instant::now() + 2 * READY));
        metrics.camera_down();
        metrics.frame(Outcome::Skipped);
        assert!(!metrics.is_ready());
    }

    #[test]
    fn the_dashboard_and_its_description_name_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let settings = StoreSettings { path: dir.path().join("e.db"), max_age: Duration::MAX, max_bytes: u64::MAX };
        let sinks = vec![("a".to_owned(), Filter::default())];
        let store = Store::open(settings, sinks, Timestamp::UNIX_EPOCH).unwrap();
        let text = metrics(Some(Arc::new(store))).render();
        let known = names(&text);
        let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let mentioned = |text: &'static str| -> BTreeSet<&str> {
            let words = text.split(|c: char| !is_part(c));
            words.filter(|word| word.starts_with("salad_") || word.starts_with("process_")).collect()
        };
        let dashboard = include_str!("../packaging/grafana.json");
        serde_json::from_str::<serde_json::Value>(dashboard).unwrap();
        let shown = mentioned(dashboard);
        assert!(shown.len() > 10 && shown.is_subset(&known), "{:?}", shown.difference(&known));
        // The description has each metric, by the name of its family.
        let families: BTreeSet<&str> =
            text.lines().filter_map(|l| l.strip_prefix("# TYPE ")?.split(' ').next()).collect();
        let described = mentioned(include_str!("../../docs/metrics.md"));
        for family in families {
            let all = [family.to_owned(), format!("{family}_total"), format!("{family}_info")];
            assert!(all.iter().any(|name| described.contains(name.as_str())), "{family} is not described");
        }
    }
}
