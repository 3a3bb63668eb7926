//! What a device's topics say: what each message changes, and all of it, for a broker that may have forgotten.

use super::discovery::{self, CAMERA, DEVICE, FINE, PROBLEM, SNAPSHOT, Shown};
use super::frigate;
use super::link::Publication;
use super::topics::Topics;
use crate::event::{Event, EventKind, Message, Subject, TroubleEvent};
use crate::sinks::payload;
use std::path::PathBuf;

/// The board. It changes when the broker has what it says ([`Board::took`]).
#[derive(Debug)]
pub struct Board {
    topics: Topics,
    name: String,
    shown: Shown,
    is_trial: bool,
    /// The last message of the open event.
    open: Option<Event>,
    camera: Vec<TroubleEvent>,
    device: Vec<TroubleEvent>,
    snapshot: Option<PathBuf>,
}

impl Board {
    /// Of a device that is called `name`. For a trial, nothing but events is published: the states are those of the service
    /// that runs.
    pub fn new(topics: Topics, name: &str, shown: Shown, is_trial: bool) -> Board {
        let name = name.to_owned();
        Board { topics, name, shown, is_trial, open: None, camera: Vec::new(), device: Vec::new(), snapshot: None }
    }

    /// The topics.
    pub fn topics(&self) -> &Topics {
        &self.topics
    }

    /// All that the topics say, to be published after each connection.
    pub fn all(&self) -> Vec<Publication> {
        if self.is_trial {
            return Vec::new();
        }
        let told = |subject| self.shown.subjects.contains(&subject);
        let state = |name: &str, payload: &str| Publication::state(self.topics.of(name), payload);
        let mut all = Vec::new();
        if let Some(topic) = self.topics.discovery() {
            let payload = discovery::payload(&self.topics, &self.name, &self.shown);
            all.push(Publication::state(topic, payload.to_string()));
        }
        if told(Subject::Anomaly) {
            all.push(state(PROBLEM, if self.open.is_some() { "ON" } else { "OFF" }));
        }
        if told(Subject::Camera) {
            all.push(state(CAMERA, &trouble(&self.camera)));
        }
        if told(Subject::Device) {
            all.push(state(DEVICE, &trouble(&self.device)));
        }
        let picture = self.snapshot.as_ref().and_then(|path| std::fs::read(path).ok());
        all.extend(picture.map(|jpeg| Publication::state(self.topics.of(SNAPSHOT), jpeg)));
        all.push(Publication::state(self.topics.availability(), "online"));
        all
    }

    /// What a message changes, in the order in which it is published: the picture is there when the alarm goes off.
    pub fn changes(&self, message: &Message, with_picture: bool) -> Vec<Publication> {
        let state = |name: &str, payload: String| Publication::state(self.topics.of(name), payload);
        match message {
            Message::Anomaly(event) => {
                let mut changes = Vec::new();
                if !self.is_trial {
                    let picture = (self.shown.snapshot && with_picture).then(|| payload::picture(message)).flatten();
                    changes.extend(picture.map(|jpeg| Publication::state(self.topics.of(SNAPSHOT), jpeg)));
                    let problem = if event.kind == EventKind::End { "OFF" } else { "ON" };
                    changes.push(state(PROBLEM, problem.to_owned()));
                }
                let before = self.open.as_ref().filter(|open| open.id == event.id);
                let event = frigate::event(&self.name, &message.key(), before, event, self.is_trial);
                let payload = event.to_string().into_bytes();
                changes.push(Publication { topic: self.topics.events(), payload, retain: false });
                changes
            }
            Message::Camera(event) => vec![state(CAMERA, trouble(&after(&self.camera, event)))],
            Message::Device(event) => vec![state(DEVICE, trouble(&after(&self.device, event)))],
        }
    }

    /// Whether this is the topic of the picture.
    pub fn is_picture(&self, topic: &str) -> bool {
        topic == self.topics.of(SNAPSHOT)
    }

    /// Notes that the broker has what a message changes.
    pub fn took(&mut self, message: &Message, with_picture: bool) {
        match message {
            Message::Anomaly(event) => {
                if self.shown.snapshot && with_picture && event.snapshot.is_some() {
                    self.snapshot.clone_from(&event.snapshot);
                }
                self.open = (event.kind != EventKind::End).then(|| event.clone());
            }
            Message::Camera(event) => self.camera = after(&self.camera, event),
            Message::Device(event) => self.device = after(&self.device, event),
        }
    }
}

/// The troubles that are still there after a message about one of them.
fn after(troubles: &[TroubleEvent], event: &TroubleEvent) -> Vec<TroubleEvent> {
    let others = troubles.iter().filter(|t| t.id != event.id).cloned();
    others.chain((event.kind != EventKind::End).then(|| event.clone())).collect()
}

/// The name of the latest trouble, or that there is none.
fn trouble(troubles: &[TroubleEvent]) -> String {
    let name = troubles.last().and_then(|event| serde_json::to_value(event.trouble).ok());
    name.as_ref().and_then(|name| name.as_str()).unwrap_or(FINE).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Trouble;
    use crate::event::new_id;
    use crate::event::tests::{anomaly, ended, trouble as covered};
    use jiff::Timestamp;
    use std::path::Path;

    fn board(is_trial: bool) -> Board {
        let shown = Shown { subjects: Subject::ALL.to_vec(), snapshot: true, score: true };
        Board::new(Topics::new("salad", "line", Some("homeassistant")), "line", shown, is_trial)
    }

    fn said(publications: &[Publication]) -> Vec<(String, String)> {
        let text = |p: &Publication| (p.topic.clone(), String::from_utf8_lossy(&p.payload).into_owned());
        publications.iter().map(text).collect()
    }

    fn with_picture(message: Message, path: &Path) -> Message {
        let Message::Anomaly(event) = message else { unreachable!() };
        Message::Anomaly(Event { snapshot: Some(path.into()), ..event })
    }

    fn topics(publications: &[Publication]) -> Vec<&str> {
        publications.iter().map(|p| p.topic.as_str()).collect()
    }

    #[test]
    fn an_event_is_pictured_switched_on_told_and_switched_off() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.jpg");
        std::fs::write(&path, "JPEG").unwrap();
        let mut board = board(false);
        let begun = with_picture(anomaly(Timestamp::UNIX_EPOCH, 0.5), &path);
        let changes = board.changes(&begun, true);
        assert_eq!(topics(&changes), ["salad/line/snapshot", "salad/line/problem", "salad/events"]);
        assert_eq!(
            said(&changes)[..2],
            [("salad/line/snapshot".into(), "JPEG".into()), ("salad/line/problem".into(), "ON".into())]
        );
        assert_eq!(changes.iter().map(|p| p.retain).collect::<Vec<_>>(), [true, true, false]);
        assert_eq!(topics(&board.changes(&begun, false)), ["salad/line/problem", "salad/events"]);
        // Nothing has changed before the broker has it.
        assert_eq!(said(&board.all())[1], ("salad/line/problem".into(), "OFF".into()));
        board.took(&begun, false);
        assert!(!topics(&board.all()).contains(&"salad/line/snapshot"));
        assert_eq!(said(&board.all())[1], ("salad/line/problem".into(), "ON".into()));
        let over = ended(&begun, Timestamp::from_second(9).unwrap());
        let changes = board.changes(&over, true);
        assert_eq!(said(&changes)[1].1, "OFF");
        let told: serde_json::Value = serde_json::from_slice(&changes[2].payload).unwrap();
        assert_eq!((&told["before"]["end_time"], &told["after"]["end_time"]), (&serde_json::Value::Null, &9.0.into()));
        board.took(&over, true);
        let all = board.all();
        let expected = [
            "homeassistant/device/salad_line/config",
            "salad/line/problem",
            "salad/line/camera",
            "salad/line/device",
            "salad/line/snapshot",
            "salad/line/availability",
        ];
        assert_eq!(topics(&all), expected);
        assert_eq!(said(&all)[1].1, "OFF");
        std::fs::remove_file(&path).unwrap();
        assert!(!topics(&board.all()).contains(&"salad/line/snapshot"));
    }

    #[test]
    fn a_camera_is_fine_when_all_its_troubles_are_over() {
        let mut board = board(false);
        let now = Timestamp::UNIX_EPOCH;
        let covered = covered(now);
        let Message::Camera(event) = covered.clone() else { unreachable!() };
        let offline = TroubleEvent { id: new_id(now), trouble: Trouble::Offline, ..event.clone() };
        let over = |event: TroubleEvent| Message::Camera(TroubleEvent { kind: EventKind::End, ..event });
        let mut states = Vec::new();
        for message in [covered, Message::Camera(offline.clone()), over(event), over(offline)] {
            states.extend(said(&board.changes(&message, true)).into_iter().map(|(_, state)| state));
            board.took(&message, true);
        }
        assert_eq!(states, ["camera_obstructed", "camera_offline", "camera_offline", "ok"]);
    }

    #[test]
    fn a_trial_leaves_the_states_alone() {
        let board = board(true);
        assert!(board.all().is_empty());
        let changes = board.changes(&anomaly(Timestamp::UNIX_EPOCH, 0.5), true);
        assert_eq!(topics(&changes), ["salad/events"]);
        assert!(said(&changes)[0].1.contains(r#""false_positive":true"#));
    }
}
