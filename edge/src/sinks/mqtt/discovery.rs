//! How Home Assistant finds a device and what can be seen and set on it: one payload for the whole device, as
//! <https://www.home-assistant.io/integrations/mqtt/#device-discovery-payload> has it. `tests/alerts/home_assistant.py` holds
//! it against Home Assistant's own schemas.

use super::topics::Topics;
use crate::controls::MOST_THRESHOLD;
use crate::event::Subject;
use serde_json::{Map, Value, json};

/// Names of the things below the device's topic.
pub const PROBLEM: &str = "problem";
/// The latest score.
pub const SCORE: &str = "score";
/// The picture of the latest event.
pub const SNAPSHOT: &str = "snapshot";
/// Whether alerts are paused.
pub const PAUSE: &str = "pause";
/// The threshold in force.
pub const THRESHOLD: &str = "threshold";
/// What was said of events that are normal.
pub const NORMAL: &str = "normal";
/// What is wrong with the camera.
pub const CAMERA: &str = "camera";
/// What is wrong with the device.
pub const DEVICE: &str = "device";

/// Said of a camera and a device with which nothing is wrong.
pub const FINE: &str = "ok";
/// Said to call the latest event normal.
pub const LATEST: &str = "latest";
/// Said to have the threshold of model and configuration again.
pub const USUAL: &str = "default";

/// What is shown of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// What the sink is told of.
    pub subjects: Vec<Subject>,
    /// Whether pictures are published.
    pub snapshot: bool,
    /// Whether the score is published.
    pub score: bool,
}

/// The payload for a device that is called `name` among people.
pub fn payload(topics: &Topics, name: &str, shown: &Shown) -> Value {
    let version = env!("CARGO_PKG_VERSION");
    json!({
        "device": {
            "identifiers": [format!("salad_{}", topics.device)],
            "name": name,
            "manufacturer": "Salad",
            "model": "salad-edge",
            "sw_version": version,
        },
        "origin": { "name": "salad-edge", "sw_version": version },
        "availability": [{
            "topic": topics.availability(),
            "payload_available": "online",
            "payload_not_available": "offline",
        }],
        "qos": 1,
        "components": components(topics, shown),
    })
}

fn components(topics: &Topics, shown: &Shown) -> Map<String, Value> {
    let told = |subject| shown.subjects.contains(&subject);
    let trouble = format!("{{{{ 'OFF' if value == '{FINE}' else 'ON' }}}}");
    let mut all = Components { topics, made: Map::new() };
    if told(Subject::Anomaly) {
        all.add(
            PROBLEM,
            "binary_sensor",
            "Anomaly",
            json!({ "device_class": "problem", "state_topic": topics.of(PROBLEM) }),
        );
    }
    if shown.score {
        let rest = json!({
            "state_topic": topics.of(SCORE),
            "state_class": "measurement",
            "suggested_display_precision": 3,
            "icon": "mdi:chart-bell-curve-cumulative",
        });
        all.add(SCORE, "sensor", "Score", rest);
    }
    if shown.snapshot && told(Subject::Anomaly) {
        all.add(
            SNAPSHOT,
            "image",
            "Snapshot",
            json!({ "image_topic": topics.of(SNAPSHOT), "content_type": "image/jpeg" }),
        );
    }
    for (subject, id, name) in [(Subject::Camera, CAMERA, "Camera"), (Subject::Device, DEVICE, "Device")] {
        if told(subject) {
            let rest = json!({
                "device_class": "problem",
                "entity_category": "diagnostic",
                "state_topic": topics.of(id),
                "value_template": trouble,
            });
            all.add(id, "binary_sensor", name, rest);
        }
    }
    let rest = json!({
        "entity_category": "config",
        "icon": "mdi:pause",
        "state_topic": topics.of(PAUSE),
        "command_topic": topics.set(PAUSE),
    });
    all.add(PAUSE, "switch", "Pause alerts", rest);
    let rest = json!({
        "entity_category": "config",
        "icon": "mdi:tune-vertical",
        "state_topic": topics.of(THRESHOLD),
        "command_topic": topics.set(THRESHOLD),
        "min": 0,
        "max": MOST_THRESHOLD,
        "step": 0.001,
        "mode": "box",
    });
    all.add(THRESHOLD, "number", "Threshold", rest);
    let rest = json!({
        "entity_category": "config",
        "icon": "mdi:restore",
        "command_topic": topics.set(THRESHOLD),
        "payload_press": USUAL,
    });
    all.add("usual_threshold", "button", "Usual threshold", rest);
    if told(Subject::Anomaly) {
        let rest = json!({
            "icon": "mdi:check-circle-outline",
            "command_topic": topics.set(NORMAL),
            "payload_press": LATEST,
        });
        all.add(NORMAL, "button", "Latest event is normal", rest);
        let rest = json!({
            "entity_category": "diagnostic",
            "icon": "mdi:message-check-outline",
            "state_topic": topics.of(NORMAL),
            // Home Assistant keeps no longer states.
            "value_template": "{{ value[:255] }}",
        });
        all.add("normal_answer", "sensor", "Latest answer", rest);
    }
    all.made
}

struct Components<'a> {
    topics: &'a Topics,
    made: Map<String, Value>,
}

impl Components<'_> {
    fn add(&mut self, id: &str, platform: &str, name: &str, mut rest: Value) {
        rest["platform"] = platform.into();
        rest["name"] = name.into();
        rest["unique_id"] = format!("salad_{}_{id}", self.topics.device).into();
        self.made.insert(id.to_owned(), rest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    const ALL: [&str; 10] =
        [PROBLEM, SCORE, SNAPSHOT, PAUSE, THRESHOLD, CAMERA, DEVICE, "usual_threshold", NORMAL, "normal_answer"];

    fn of(subjects: &[Subject], snapshot: bool, score: bool) -> Value {
        let topics = Topics::new("salad", "Line 3", Some("homeassistant"));
        payload(&topics, "Line 3", &Shown { subjects: subjects.to_vec(), snapshot, score })
    }

    /// What the documentation has of each platform: the keys that must be there, and those that may.
    fn documented(platform: &str) -> (&'static [&'static str], &'static [&'static str]) {
        match platform {
            "binary_sensor" => (&["state_topic"], &["device_class", "value_template"]),
            "sensor" => (&["state_topic"], &["state_class", "suggested_display_precision", "value_template"]),
            "image" => (&["image_topic"], &["content_type"]),
            "switch" => (&["command_topic"], &["state_topic"]),
            "number" => (&["command_topic"], &["state_topic", "min", "max", "step", "mode"]),
            "button" => (&["command_topic"], &["payload_press"]),
            other => panic!("{other} is no platform of these"),
        }
    }

    #[test]
    fn the_payload_keeps_to_the_documented_keys() {
        let payload = of(&Subject::ALL, true, true);
        let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<HashSet<_>>();
        let expected = ["device", "origin", "availability", "qos", "components"].map(str::to_owned);
        assert_eq!(keys(&payload), expected.into());
        assert!(payload["origin"]["name"].is_string() && payload["device"]["identifiers"][0] == "salad_Line_3");
        assert_eq!(payload["device"]["sw_version"], env!("CARGO_PKG_VERSION"));
        assert_eq!(keys(&payload["components"]), ALL.map(str::to_owned).into());
        let mut ids = HashSet::new();
        for component in payload["components"].as_object().unwrap().values() {
            let (required, optional) = documented(component["platform"].as_str().unwrap());
            let common = ["platform", "unique_id", "name", "entity_category", "icon"];
            for key in keys(component) {
                assert!([&common, required, optional].concat().contains(&&*key), "{key}");
            }
            for key in ["unique_id", "name"].iter().chain(required) {
                assert!(component[*key].is_string(), "{key}");
            }
            for (_, topic) in component.as_object().unwrap().iter().filter(|(key, _)| key.ends_with("_topic")) {
                assert!(topic.as_str().unwrap().starts_with("salad/Line_3/"), "{topic}");
            }
            assert!(ids.insert(component["unique_id"].as_str().unwrap().to_owned()));
        }
    }

    #[test]
    fn only_what_the_sink_is_told_of_is_shown() {
        let names = |payload: &Value| payload["components"].as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        let quiet = of(&[Subject::Camera], true, false);
        assert_eq!(names(&quiet), [CAMERA, PAUSE, THRESHOLD, "usual_threshold"]);
        assert!(!names(&of(&Subject::ALL, false, true)).contains(&SNAPSHOT.to_owned()));
    }
}
