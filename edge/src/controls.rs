//! What can be changed while the program runs: whether alerts are paused, the threshold, and what is normal too. And the
//! latest score, for those who show it.
//!
//! The pipeline asks with each frame; sinks that hear commands change it. What was changed is kept in the event store,
//! where there is one, so that it holds after a restart too.

use crate::enrol::Enrolments;
use crate::store::Store;
use jiff::Timestamp;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// No score is higher, whatever the formula.
pub const MOST_THRESHOLD: f32 = 2.0;

/// Names in the store.
const PAUSED: &str = "paused";
const THRESHOLD: &str = "threshold";

/// Shared by the pipeline and the sinks.
#[derive(Debug)]
pub struct Controls {
    state: Mutex<State>,
    store: Option<Arc<Store>>,
    enrolments: Option<Arc<Enrolments>>,
}

/// What holds now.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Asked {
    /// Frames are scored, but neither begin nor prolong an event.
    pub paused: bool,
    /// The threshold in force.
    pub threshold: f32,
}

/// A frame's score.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scored {
    /// The score.
    pub score: f32,
    /// Time of the frame, UTC.
    pub time: Timestamp,
}

#[derive(Debug)]
struct State {
    asked: Asked,
    /// The threshold of model and configuration.
    usual: f32,
    /// The threshold that was set in its place.
    changed: Option<f32>,
    latest: Option<Scored>,
}

impl Controls {
    /// With the threshold that model and configuration give, and what is kept in the store.
    pub fn new(threshold: f32, store: Option<Arc<Store>>) -> Controls {
        let kept = |name| match store.as_ref().map(|store| store.setting(name)) {
            Some(Ok(value)) => value,
            Some(Err(error)) => {
                log::warn!("{error}; what was set for {name} does not hold");
                None
            }
            None => None,
        };
        let paused = kept(PAUSED).as_deref() == Some("true");
        let changed = kept(THRESHOLD).and_then(|text| text.parse().ok()).filter(|&t| is_threshold(t));
        if paused {
            log::warn!("alerts are paused, as they were before; the page or a command over MQTT ends that");
        }
        if let Some(changed) = changed {
            log::info!("the threshold is {changed}, as it was set while the program ran, and not {threshold}");
        }
        let asked = Asked { paused, threshold: changed.unwrap_or(threshold) };
        Controls {
            state: Mutex::new(State { asked, usual: threshold, changed, latest: None }),
            store,
            enrolments: None,
        }
    }

    /// The controls, by which prototypes can be enrolled as well.
    pub fn with(self, enrolments: Option<Arc<Enrolments>>) -> Controls {
        Controls { enrolments, ..self }
    }

    /// What was enrolled, where there is a store to keep it.
    pub fn enrolments(&self) -> Option<&Arc<Enrolments>> {
        self.enrolments.as_ref()
    }

    /// What holds now.
    pub fn asked(&self) -> Asked {
        self.state().asked
    }

    /// Notes a frame's score, and says what holds for that frame.
    pub fn score(&self, score: f32, time: Timestamp) -> Asked {
        let mut state = self.state();
        state.latest = Some(Scored { score, time });
        state.asked
    }

    /// The score of the latest frame, once there was one.
    pub fn latest(&self) -> Option<Scored> {
        self.state().latest
    }

    /// Pauses alerts, or ends that.
    pub fn pause(&self, paused: bool) {
        self.state().asked.paused = paused;
        log::info!("alerts are {}", if paused { "paused" } else { "no longer paused" });
        self.keep(PAUSED, paused.then_some("true"));
    }

    /// Changes the threshold; `None` goes back to that of model and configuration. Says whether it can be one: a score, 0
    /// to [`MOST_THRESHOLD`].
    pub fn set_threshold(&self, threshold: Option<f32>) -> bool {
        if threshold.is_some_and(|t| !is_threshold(t)) {
            return false;
        }
        let now = {
            let mut state = self.state();
            state.changed = threshold;
            state.asked.threshold = threshold.unwrap_or(state.usual);
            state.asked.threshold
        };
        log::info!("the threshold is now {now}");
        self.keep(THRESHOLD, threshold.map(|t| t.to_string()).as_deref());
        true
    }

    /// Notes another threshold of model and configuration; one that was set in its place goes on.
    pub fn set_usual(&self, threshold: f32) {
        let mut state = self.state();
        state.usual = threshold;
        state.asked.threshold = state.changed.unwrap_or(threshold);
    }

    fn keep(&self, name: &str, value: Option<&str>) {
        let Some(store) = &self.store else { return };
        if let Err(error) = store.set(name, value) {
            log::warn!("{error}; what was set for {name} holds until the program ends");
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_threshold(threshold: f32) -> bool {
    (0.0..=MOST_THRESHOLD).contains(&threshold)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Moment;
    use crate::decision::{Decision, DecisionParams};
    use crate::event::{EndReason, Event, EventKind};
    use crate::gates::Gates;
    use crate::model::{FormChoice, Model};
    use crate::pipeline::Pipeline;
    use crate::sinks::Sinks;
    use crate::sinks::json_lines::EventLog;
    use crate::source::{Captured, Next, Picture, Source, SourceError};
    use crate::store::StoreSettings;
    use crate::summary::Summary;
    use crate::support::{anomalous_frame, bundle};
    use std::path::Path;
    use std::sync::atomic::AtomicBool;
    use std::time::Duration;

    fn controls(dir: &Path) -> Controls {
        let settings = StoreSettings { path: dir.join("events.db"), max_age: Duration::MAX, max_bytes: u64::MAX };
        let store = Store::open(settings, Vec::new(), Timestamp::UNIX_EPOCH).unwrap();
        Controls::new(0.3, Some(Arc::new(store)))
    }

    #[test]
    fn what_was_set_holds_after_a_restart_until_it_is_unset() {
        let dir = tempfile::tempdir().unwrap();
        let first = controls(dir.path());
        assert_eq!(first.asked(), Asked { paused: false, threshold: 0.3 });
        first.pause(true);
        assert!(first.set_threshold(Some(0.123_456_79)));
        drop(first);
        let second = controls(dir.path());
        assert_eq!(second.asked(), Asked { paused: true, threshold: 0.123_456_79 });
        second.set_usual(0.4);
        assert_eq!(second.asked().threshold, 0.123_456_79);
        second.pause(false);
        assert!(second.set_threshold(None));
        assert_eq!(second.asked().threshold, 0.4);
        second.set_usual(0.3);
        assert_eq!(second.asked().threshold, 0.3);
        drop(second);
        assert_eq!(controls(dir.path()).asked(), Asked { paused: false, threshold: 0.3 });
    }

    #[test]
    fn what_is_no_threshold_changes_nothing() {
        let controls = Controls::new(0.3, None);
        for wrong in [f32::NAN, -0.1, 2.1, f32::INFINITY] {
            assert!(!controls.set_threshold(Some(wrong)));
        }
        assert_eq!(controls.asked().threshold, 0.3);
    }

    #[test]
    fn the_latest_score_is_told() {
        let controls = Controls::new(0.3, None);
        assert_eq!(controls.latest(), None);
        controls.score(0.1, Timestamp::UNIX_EPOCH);
        assert!(!controls.score(0.2, Timestamp::UNIX_EPOCH).paused);
        assert_eq!(controls.latest().unwrap().score, 0.2);
    }

    #[test]
    fn paused_frames_are_scored_and_no_event_and_a_new_threshold_holds_at_once() {
        /// Anomalous frames; what is asked changes before some of them.
        struct Asking(Arc<Controls>, u32);
        impl Source for Asking {
            fn next(&mut self, _: Duration) -> Result<Next, SourceError> {
                self.1 += 1;
                match self.1 {
                    4 => self.0.pause(true),
                    8 => self.0.pause(false),
                    12 => assert!(self.0.set_threshold(Some(1.9))),
                    17 => return Ok(Next::Ended),
                    _ => {}
                }
                let start = Moment { elapsed: Duration::ZERO, wall: Timestamp::UNIX_EPOCH };
                let at = start.plus(Duration::from_secs(self.1.into()));
                Ok(Next::Frame(Captured { picture: Picture::of(anomalous_frame()), name: "camera".into(), at }))
            }
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events.jsonl");
        let mut sinks = Sinks::new(Some(EventLog::open(&path).unwrap()), None, None);
        let model = Model::load(&bundle(), FormChoice::F32).unwrap();
        let controls = Arc::new(Controls::new(0.1, None));
        let decision = Decision::new(DecisionParams {
            threshold: 0.1,
            release_threshold: 0.1,
            window_frames: 3,
            trigger_frames: 2,
            cooldown: Duration::from_secs(2),
            update_interval: Duration::from_secs(1),
            max_gap: Duration::from_secs(30),
        });
        let pipeline = Pipeline::new(&model, Gates::default(), decision, &mut sinks, None).unwrap();
        let (summary, _) = pipeline.controlled_by(Arc::clone(&controls)).run(
            &mut Asking(Arc::clone(&controls), 0),
            &AtomicBool::new(false),
            &mut |_| {},
        );
        assert_eq!(summary, Summary { frames: 16, anomalous: 11, events: 2, ..Summary::default() });
        let text = std::fs::read_to_string(&path).unwrap();
        let events: Vec<Event> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        let told: Vec<_> = events.iter().map(|e| (e.time.as_second(), e.kind, e.reason)).collect();
        let expected = [
            (2, EventKind::New, None),
            (4, EventKind::End, Some(EndReason::Paused)),
            (9, EventKind::New, None),
            (14, EventKind::End, Some(EndReason::Calm)),
        ];
        assert_eq!(told, expected);
        assert_eq!((events[2].threshold, events[3].threshold), (0.1, 1.9));
        assert_eq!(controls.latest().unwrap().time.as_second(), 16);
    }
}
