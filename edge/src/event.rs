//! Events as the sinks get them, one JSON object each: anomalies, and troubles with the camera.

use jiff::Timestamp;
use salad_shared::bank::Neighbour;
use salad_shared::manifest::Form;
use serde::{Deserialize, Serialize};
use std::fmt::{self, Display};
use std::path::PathBuf;

/// How many prototypes are told with a score.
pub const NEAREST_TOLD: usize = 3;

/// What a sink gets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "subject", rename_all = "lowercase")]
pub enum Message {
    /// Something does not look normal.
    Anomaly(Event),
    /// Something is wrong with the camera.
    Camera(CameraEvent),
}

/// A message about a trouble with the camera.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CameraEvent {
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

/// What can be wrong with a camera.
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
}

impl Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Trouble::Offline => "offline",
            Trouble::Frozen => "frozen",
            Trouble::Obstructed => "obstructed",
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
mod tests {
    use super::*;

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
        let time = Timestamp::UNIX_EPOCH;
        let event = Event {
            kind: EventKind::End,
            id: new_id(time),
            time,
            started: time,
            top_score: 0.75,
            top_time: time,
            top_frame: "a.jpg".into(),
            threshold: 0.5,
            form: Form::Int8,
            nearest: vec![Nearest { index: 2, similarity: 0.9 }],
            snapshot: None,
            reason: Some(EndReason::SourceEnded),
        };
        let message = Message::Anomaly(event);
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
        let time = Timestamp::UNIX_EPOCH;
        let event = CameraEvent {
            kind: EventKind::New,
            id: new_id(time),
            time,
            started: time,
            trouble: Trouble::Obstructed,
            detail: "covered".into(),
            attempts: 0,
        };
        let message = Message::Camera(event);
        let json = serde_json::to_string(&message).unwrap();
        assert!(json.contains(r#""subject":"camera""#) && json.contains(r#""trouble":"camera_obstructed""#), "{json}");
        assert_eq!(serde_json::from_str::<Message>(&json).unwrap(), message);
    }
}
