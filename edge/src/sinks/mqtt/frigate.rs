//! Events as Frigate publishes them, so that what people have built on Frigate's events works on these. The names are those
//! of its documentation (<https://docs.frigate.video/integrations/mqtt>), where they have a meaning here; `key`, `threshold`,
//! `reason`, `form` and `nearest` are our own.

use crate::event::{Event, EventKind};
use jiff::Timestamp;
use serde_json::{Value, json};

/// The label of all events.
const LABEL: &str = "anomaly";

/// A message about an event; `before` is the message before it, where one was sent. What is sent for a trial is marked as a
/// false positive.
pub fn event(device: &str, key: &str, before: Option<&Event>, after: &Event, is_trial: bool) -> Value {
    let object = |event: &Event| object(device, event, is_trial);
    // There is always a state before: in the first message it is the same.
    json!({
        "type": after.kind,
        "key": key,
        "before": object(before.unwrap_or(after)),
        "after": object(after),
    })
}

fn object(device: &str, event: &Event, is_trial: bool) -> Value {
    let has_ended = event.kind == EventKind::End;
    json!({
        "id": event.id,
        "camera": device,
        "label": LABEL,
        "frame_time": seconds(event.time),
        "start_time": seconds(event.started),
        "end_time": has_ended.then(|| seconds(event.time)),
        "top_score": event.top_score,
        "false_positive": is_trial,
        "has_clip": false,
        "has_snapshot": event.snapshot.is_some(),
        "snapshot": { "frame_time": seconds(event.top_time), "score": event.top_score },
        "threshold": event.threshold,
        "reason": event.reason,
        "form": event.form,
        "nearest": event.nearest,
    })
}

/// Seconds since 1970, to the millisecond.
fn seconds(time: Timestamp) -> f64 {
    time.as_millisecond() as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Message;
    use crate::event::tests::{anomaly, ended};

    fn inner(message: &Message) -> &Event {
        let Message::Anomaly(event) = message else { unreachable!() };
        event
    }

    #[test]
    fn an_event_has_the_documented_shape() {
        let begun = anomaly("2026-01-02T03:04:05.678Z".parse().unwrap(), 0.75);
        let over = ended(&begun, "2026-01-02T03:05:00Z".parse().unwrap());
        let first = event("line 3", &begun.key(), None, inner(&begun), false);
        assert_eq!((&first["type"], &first["key"]), (&"new".into(), &begun.key().into()));
        assert_eq!(first["before"], first["after"]);
        let last = event("line 3", &over.key(), Some(inner(&begun)), inner(&over), false);
        assert_eq!((&last["type"], &last["before"]), (&"end".into(), &first["after"]));
        let after = &last["after"];
        assert_eq!((&after["id"], &after["camera"]), (&begun.id().into(), &"line 3".into()));
        assert_eq!((&after["start_time"], &after["end_time"]), (&json!(1_767_323_045.678), &json!(1_767_323_100.0)));
        assert_eq!((&after["top_score"], &after["false_positive"]), (&json!(0.75), &json!(false)));
        assert_eq!((&first["after"]["end_time"], &after["reason"]), (&Value::Null, &"source-ended".into()));
    }
}
