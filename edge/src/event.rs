//! Events as the sinks get them, one JSON object each: anomalies, and troubles with the camera or the device.

use jiff::Timestamp;
use salad_shared::bank::Neighbour;
use salad_shared::manifest::Form;
use serde::{Deserialize, Serialize};
use std::fmt::{self, Display};
use std::path::{Path, PathBuf};

/// How many prototypes are told with a score.
pub const NEAREST_TOLD: usize = 3;

/// What a sink gets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "subject", rename_all = "lowercase")]
pub enum Message {
    /// Something does not look normal.
    Anomaly(Event),
    /// Something is wrong with the camera.
    Camera(TroubleEvent),
    /// Something is wrong with the device.
    Device(TroubleEvent),
}

/// What a message is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum Subject {
    /// The picture.
    Anomaly,
    /// The camera.
    Camera,
    /// The device.
    Device,
}

impl Subject {
    /// All of them.
    pub const ALL: [Subject; 3] = [Subject::Anomaly, Subject::Camera, Subject::Device];

    /// As it stands in a message.
    pub fn name(self) -> &'static str {
        match self {
            Subject::Anomaly => "anomaly",
            Subject::Camera => "camera",
            Subject::Device => "device",
        }
    }
}

impl Message {
    /// What it is about.
    pub fn subject(&self) -> Subject {
        match self {
            Message::Anomaly(_) => Subject::Anomaly,
            Message::Camera(_) => Subject::Camera,
            Message::Device(_) => Subject::Device,
        }
    }

    /// What it says of its event.
    pub fn kind(&self) -> EventKind {
        match self {
            Message::Anomaly(event) => event.kind,
            Message::Camera(event) | Message::Device(event) => event.kind,
        }
    }

    /// The event's id.
    pub fn id(&self) -> &str {
        match self {
            Message::Anomaly(event) => &event.id,
            Message::Camera(event) | Message::Device(event) => &event.id,
        }
    }

    /// When it was said, UTC.
    pub fn time(&self) -> Timestamp {
        match self {
            Message::Anomaly(event) => event.time,
            Message::Camera(event) | Message::Device(event) => event.time,
        }
    }

    /// When the event began, UTC.
    pub fn started(&self) -> Timestamp {
        match self {
            Message::Anomaly(event) => event.started,
            Message::Camera(event) | Message::Device(event) => event.started,
        }
    }

    /// The event's highest score so far, where it is about scores.
    pub fn top_score(&self) -> Option<f32> {
        if let Message::Anomaly(event) = self { Some(event.top_score) } else { None }
    }

    /// The event's picture, where it has one.
    pub fn snapshot(&self) -> Option<&Path> {
        if let Message::Anomaly(event) = self { event.snapshot.as_deref() } else { None }
    }

    /// One for each message, the same whenever the message is sent again, so that a receiver can tell a repetition.
    pub fn key(&self) -> String {
        format!("{}/{}/{}", self.id(), self.kind(), self.time().as_millisecond())
    }

    /// The end of an event that a power cut or a crash has left open.
    pub fn interrupted(self, now: Timestamp) -> Message {
        let ended = |event| TroubleEvent {
            kind: EventKind::End,
            time: now,
            detail: "the program was started again".to_owned(),
            ..event
        };
        match self {
            Message::Anomaly(event) => Message::Anomaly(Event {
                kind: EventKind::End,
                time: now,
                reason: Some(EndReason::Interrupted),
                ..event
            }),
            Message::Camera(event) => Message::Camera(ended(event)),
            Message::Device(event) => Message::Device(ended(event)),
        }
    }
}

/// A message about a trouble with the camera or the device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TroubleEvent {
    /// `new` or `end`.
    pub kind: EventKind,
    /// The same in both messages about one trouble; see [`new_id`].
    pub id: String,
    /// When this was noticed, UTC.
    pub time: Timestamp,
    /// When the trouble was first noticed, UTC.
    pub started: Timestamp,
    /// What is wrong.
    pub trouble: Trouble,
    /// What is known of it, for people.
    pub detail: String,
    /// How often the camera was opened since its last usable frame.
    pub attempts: u32,
}

/// What can be wrong with a camera or a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Trouble {
    /// It gives no usable frames.
    #[serde(rename = "camera_offline")]
    Offline,
    /// All its frames are the same.
    #[serde(rename = "camera_frozen")]
    Frozen,
    /// It is covered, or sees nothing but black or white.
    #[serde(rename = "camera_obstructed")]
    Obstructed,
    /// The light is not what it was in normal pictures, and pictures are scored as they would be in that.
    #[serde(rename = "light_changed")]
    Light,
    /// The scene as a whole is no longer what was trained.
    #[serde(rename = "drift")]
    Drift,
    /// Nothing more can be written: events are kept in memory, and pictures of old ones were deleted.
    #[serde(rename = "disk_full")]
    DiskFull,
}

impl Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Trouble::Offline => "offline",
            Trouble::Frozen => "frozen",
            Trouble::Obstructed => "obstructed",
            Trouble::Light => "in another light",
            Trouble::Drift => "drifted",
            Trouble::DiskFull => "disk full",
        })
    }
}

/// A message about an anomaly.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// What the message says.
    pub kind: EventKind,
    /// The same in all messages about one event, unique, and sorting by the time the event began: see [`new_id`].
    pub id: String,
    /// Time of the frame that caused the message, UTC; where the run ended, of the last frame that was scored.
    pub time: Timestamp,
    /// Time of the frame with which the event opened, UTC.
    pub started: Timestamp,
    /// Highest score so far.
    pub top_score: f32,
    /// Time of the frame with that score, UTC; it can precede `started`, since frames that led to the event count.
    pub top_time: Timestamp,
    /// Name of the frame with that score.
    pub top_frame: String,
    /// The threshold in force.
    pub threshold: f32,
    /// The numeric form that scored.
    pub form: Form,
    /// The prototypes nearest to the frame with the top score, most similar first, at most [`NEAREST_TOLD`].
    pub nearest: Vec<Nearest>,
    /// The picture of the frame with the top score, where one could be written.
    pub snapshot: Option<PathBuf>,
    /// Why the event ended; only with `end`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<EndReason>,
}

/// What a message says about its event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EventKind {
    /// It has begun.
    New,
    /// Its top score has risen.
    Update,
    /// It is over.
    End,
}

impl Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            EventKind::New => "new",
            EventKind::Update => "update",
            EventKind::End => "end",
        })
    }
}

/// Why an event ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EndReason {
    /// The scores came down.
    Calm,
    /// The program was told to stop.
    Shutdown,
    /// There are no more frames.
    SourceEnded,
    /// Somebody has paused alerts.
    Paused,
    /// The program, or the device, went down while the event was open; told when it is up again.
    Interrupted,
}

/// A prototype near to a frame.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Nearest {
    /// Row of the bank, from 0.
    pub index: usize,
    /// Cosine similarity, -1..=1.
    pub similarity: f32,
}

/// The nearest few of the neighbours a score was made from.
pub fn nearest(neighbours: &[Neighbour]) -> Vec<Nearest> {
    let few = neighbours.iter().take(NEAREST_TOLD);
    few.map(|n| Nearest { index: n.index, similarity: n.similarity }).collect()
}

/// An id for an event that opened at `time`: the time to the millisecond, UTC, then 32 random bits, as
/// `20260102T030405.678Z-9f86d081`.
pub fn new_id(time: Timestamp) -> String {
    format!("{}-{:08x}", time.strftime("%Y%m%dT%H%M%S%.3fZ"), fastrand::u32(..))
}

/// Whether `text` has the form that [`new_id`] gives.
pub fn is_id(text: &str) -> bool {
    const FORM: &str = "00000000T000000.000Z-xxxxxxxx";
    text.len() == FORM.len()
        && text.bytes().zip(FORM.bytes()).all(|(c, form)| match form {
            b'0' => c.is_ascii_digit(),
            b'x' => matches!(c, b'0'..=b'9' | b'a'..=b'f'),
            fixed => c == fixed,
        })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The beginning of an anomaly at `time`.
    pub fn anomaly(time: Timestamp, top_score: f32) -> Message {
        Message::Anomaly(Event {
            kind: EventKind::New,
            id: new_id(time),
            time,
            started: time,
            top_score,
            top_time: time,
            top_frame: "a.jpg".into(),
            threshold: 0.5,
            form: Form::Int8,
            nearest: vec![Nearest { index: 2, similarity: 0.9 }],
            snapshot: None,
            reason: None,
        })
    }

    /// The end of what `anomaly` began.
    pub fn ended(message: &Message, time: Timestamp) -> Message {
        let Message::Anomaly(event) = message.clone() else { unreachable!() };
        Message::Anomaly(Event { kind: EventKind::End, time, reason: Some(EndReason::SourceEnded), ..event })
    }

    /// The beginning of a trouble with the camera at `time`.
    pub fn trouble(time: Timestamp) -> Message {
        Message::Camera(TroubleEvent {
            kind: EventKind::New,
            id: new_id(time),
            time,
            started: time,
            trouble: Trouble::Obstructed,
            detail: "covered".into(),
            attempts: 0,
        })
    }

    #[test]
    fn ids_differ_have_their_form_and_sort_by_time() {
        let early: Timestamp = "2026-01-02T03:04:05.678901Z".parse().unwrap();
        let late: Timestamp = "2026-01-02T03:04:05.679Z".parse().unwrap();
        let ids: Vec<String> = (0..50).map(|_| new_id(early)).collect();
        assert!(ids[0].starts_with("20260102T030405.678Z-"), "{}", ids[0]);
        assert!(ids.iter().all(|id| is_id(id) && *id < new_id(late)));
        assert!(ids.iter().skip(1).any(|id| *id != ids[0]));
        assert!(is_id(&new_id(Timestamp::UNIX_EPOCH)));
    }

    #[test]
    fn other_names_are_no_ids() {
        let id = "20260102T030405.678Z-9f86d081";
        assert!(is_id(id));
        for text in ["", "a", &id[1..], &id.to_uppercase(), &format!("{id}0"), &id.replace('T', "t")] {
            assert!(!is_id(text), "{text}");
        }
    }

    #[test]
    fn an_event_is_one_line_of_json_and_comes_back() {
        let message = ended(&anomaly(Timestamp::UNIX_EPOCH, 0.75), Timestamp::UNIX_EPOCH);
        let json = serde_json::to_string(&message).unwrap();
        assert!(
            json.starts_with(r#"{"subject":"anomaly","kind":"end""#)
                && json.contains(r#""time":"1970-01-01T00:00:00Z""#),
            "{json}"
        );
        assert!(json.contains(r#""reason":"source-ended""#) && !json.contains('\n'), "{json}");
        assert_eq!(serde_json::from_str::<Message>(&json).unwrap(), message);
    }

    #[test]
    fn a_trouble_has_its_name_and_comes_back() {
        let message = trouble(Timestamp::UNIX_EPOCH);
        let json = serde_json::to_string(&message).unwrap();
        assert!(json.contains(r#""subject":"camera""#) && json.contains(r#""trouble":"camera_obstructed""#), "{json}");
        assert_eq!(serde_json::from_str::<Message>(&json).unwrap(), message);
    }

    #[test]
    fn what_was_left_open_is_ended_under_its_id() {
        let (begun, now) = (Timestamp::UNIX_EPOCH, Timestamp::from_second(9).unwrap());
        for message in [anomaly(begun, 0.5), trouble(begun)] {
            let end = message.clone().interrupted(now);
            assert_eq!((end.id(), end.kind(), end.time(), end.started()), (message.id(), EventKind::End, now, begun));
            assert_ne!(end.key(), message.key());
        }
    }
}
