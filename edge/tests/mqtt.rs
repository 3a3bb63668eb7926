//! The built program and a real broker: what it says there, what it hears, and what happens when one of them goes.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test program")]

mod broker;
mod driver;
mod support;

use broker::{Broker, Listener, PASSWORD, USER, signal, wait};
use driver::{output, program, stderr};
use rusqlite::Connection;
use salad_shared::preprocess::Frame;
use serde_json::Value;
use std::collections::HashSet;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::Duration;

/// How a broker for [`USER`] alone is reached.
fn with_password() -> String {
    format!(", user = \"{USER}\", password = {{ file = \"password\" }}")
}

/// A device whose camera sees what the test wants. Killed when the test ends.
struct Device {
    child: Option<Child>,
    dir: tempfile::TempDir,
}

impl Device {
    /// With a sink `home` on the broker, and more of its settings.
    fn start(broker: &Broker, settings: &str) -> Device {
        let dir = tempfile::tempdir().unwrap();
        support::bundle().write(&dir.path().join("m.salad")).unwrap();
        let write = |name: &str, bytes: &[u8]| fs::write(dir.path().join(name), bytes).unwrap();
        write("normal.jpg", &support::normal_frame().to_jpeg(95));
        write("red.jpg", &support::anomalous_frame().to_jpeg(95));
        write("now.jpg", &support::normal_frame().to_jpeg(95));
        write("camera.sh", b"while [ ! -e offline ] && cat now.jpg; do sleep 0.05; done");
        write("password", format!("{PASSWORD}\n").as_bytes());
        let config = format!(
            "name = \"Line 3\"\nbundle = \"m.salad\"\nform = \"f32\"\n\
             [source]\npipe = {{ command = [\"sh\", \"camera.sh\"], fps = 20, frozen_after_secs = 0 }}\n\
             [lens]\nobstructed_after_secs = 0\n[drift]\nafter_mins = 0\nlight_after_secs = 0\n\
             [decision]\nwindow_frames = 3\ntrigger_frames = 2\ncooldown_secs = 0\nupdate_interval_secs = 3600\n\
             [events]\nstore = \"events.db\"\n[snapshots]\ndir = \"snapshots\"\n\
             [[sinks]]\nname = \"home\"\nmqtt = {{ host = \"127.0.0.1\", port = {}, score_interval_secs = 0.2{settings} }}\n",
            broker.port
        );
        write("edge.toml", config.as_bytes());
        let mut device = Device { child: None, dir };
        device.again();
        device
    }

    fn again(&mut self) {
        let log = File::options().create(true).append(true).open(self.dir.path().join("said")).unwrap();
        let mut command = program(self.dir.path(), &["run", "--config", "edge.toml"]);
        self.child = Some(command.stdout(Stdio::null()).stderr(log).spawn().unwrap());
    }

    /// Shows a picture from now on, `normal` or `red`.
    fn show(&self, picture: &str) {
        let path = |name: &str| self.dir.path().join(name);
        fs::copy(path(&format!("{picture}.jpg")), path("next.jpg")).unwrap();
        fs::rename(path("next.jpg"), path("now.jpg")).unwrap();
    }

    /// Lets an event begin and end, and waits for the store to have both.
    fn event(&self) {
        let before = self.events();
        self.show("red");
        wait("an event", || self.events() == (before.0 + 1, before.1));
        self.show("normal");
        wait("its end", || self.events() == (before.0 + 1, before.1 + 1));
    }

    /// How many events the store has, and how many of them have ended.
    fn events(&self) -> (u32, u32) {
        self.count("SELECT count(*), count(ended) FROM events")
    }

    /// How many messages wait for the sink.
    fn pending(&self) -> u32 {
        self.count("SELECT count(*), 0 FROM pending").0
    }

    fn count(&self, query: &str) -> (u32, u32) {
        let store = Connection::open(self.dir.path().join("events.db")).unwrap();
        store.busy_timeout(Duration::from_secs(10)).unwrap();
        store.query_row(query, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap_or_default()
    }

    fn said(&self) -> String {
        fs::read_to_string(self.dir.path().join("said")).unwrap()
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Ends it as a user would.
    fn end(&mut self) {
        let mut child = self.child.take().unwrap();
        signal(&child, "TERM");
        assert!(child.wait().unwrap().success() && !self.said().contains("panicked"), "{}", self.said());
    }

    /// Kills it, with no good-bye.
    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The messages about events, in their order; what came again under its key counts once, as it is meant to.
fn messages(listener: &Listener) -> Vec<Value> {
    let mut keys = HashSet::new();
    let all = listener.under("salad/events").iter().map(broker::Said::json).collect::<Vec<_>>();
    all.into_iter().filter(|message| keys.insert(message["key"].as_str().unwrap().to_owned())).collect()
}

/// Their types, and the ids of their events.
fn events(listener: &Listener) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    messages(listener).iter().map(|message| (text(&message["type"]), text(&message["after"]["id"]))).collect()
}

fn states_events_and_pictures(broker: &Broker, settings: &str) {
    let listener = broker.listen();
    let mut device = Device::start(broker, settings);
    listener.wait_for("salad/Line_3/availability", "online");
    listener.wait_for("salad/Line_3/problem", "OFF");
    listener.wait_for("salad/Line_3/camera", "ok");
    listener.wait_for("salad/Line_3/pause", "OFF");
    listener.wait_for("salad/Line_3/threshold", "0.1");
    let discovery = listener.under("homeassistant/device/salad_Line_3/config")[0].json();
    assert_eq!(discovery["device"]["name"], "Line 3");
    assert_eq!(discovery["components"]["problem"]["state_topic"], "salad/Line_3/problem");
    device.event();
    listener.wait_for("salad/Line_3/problem", "OFF");
    wait("nothing to wait", || device.pending() == 0);
    assert_eq!(listener.texts("salad/Line_3/problem"), ["OFF", "ON", "OFF"]);
    let told = events(&listener);
    assert_eq!(told.iter().map(|(kind, _)| kind.as_str()).collect::<Vec<_>>(), ["new", "end"]);
    assert_eq!(told[0].1, told[1].1);
    let first = listener.under("salad/events")[0].json();
    assert_eq!((&first["after"]["camera"], &first["after"]["has_snapshot"]), (&"Line 3".into(), &true.into()));
    let picture = &listener.under("salad/Line_3/snapshot")[0];
    let picture = Frame::decode(&picture.payload).unwrap();
    assert_eq!((picture.width(), picture.height()), (24 + 4 + 24, 24));
    // The event may have been too short for its score to be published.
    device.show("red");
    wait("scores", || listener.texts("salad/Line_3/score").len() >= 2);
    let scores = listener.texts("salad/Line_3/score");
    assert!(scores.windows(2).all(|pair| pair[0] != pair[1]), "{scores:?}");
    device.end();
    listener.wait_for("salad/Line_3/availability", "offline");
    assert!(!device.said().contains(PASSWORD) && !device.said().contains("ERROR"), "{}", device.said());
    // Whoever comes later finds the states as they are.
    drop(listener);
    let later = broker.listen();
    later.wait_for("salad/Line_3/availability", "offline");
    let kept = later.heard();
    assert!(kept.iter().all(|said| said.kept) && kept.iter().any(|said| said.topic == "salad/Line_3/snapshot"));
    assert!(later.under("salad/events").is_empty());
}

#[test]
fn states_events_and_pictures_are_told_over_tls_in_the_older_protocol() {
    if broker::is_here() {
        let broker = Broker::with_tls(false);
        let ca = broker.dir.path().join("ca.pem");
        states_events_and_pictures(&broker, &format!("{}, protocol = 4, ca_file = {ca:?}", with_password()));
    }
}

#[test]
fn states_events_and_pictures_are_told_with_a_certificate_of_our_own_in_the_newer_protocol() {
    if broker::is_here() {
        let broker = Broker::with_tls(true);
        let [ca, certificate, key] = ["ca.pem", "client.pem", "client.key"].map(|name| broker.dir.path().join(name));
        let files = format!("ca_file = {ca:?}, client_certificate = {certificate:?}, client_key = {key:?}");
        states_events_and_pictures(&broker, &format!("{}, protocol = 5, {files}", with_password()));
    }
}

#[test]
fn a_broker_whose_certificate_is_not_trusted_gets_no_password() {
    if broker::is_here() {
        let (broker, other) = (Broker::with_tls(false), Broker::with_tls(false));
        let ca = other.dir.path().join("ca.pem");
        let device = Device::start(&broker, &format!("{}, ca_file = {ca:?}", with_password()));
        wait("words", || device.said().contains("invalid peer certificate"));
        assert!(!broker.log().contains("as salad-"), "{}", broker.log());
    }
}

#[test]
fn a_broker_that_is_killed_gets_what_it_has_missed_in_its_order() {
    if !broker::is_here() {
        return;
    }
    for protocol in ["4", "5"] {
        let mut broker = Broker::open();
        let listener = broker.listen();
        let device = Device::start(&broker, &format!(", protocol = {protocol}"));
        device.event();
        wait("nothing to wait", || device.pending() == 0 && events(&listener).len() == 2);
        broker.kill();
        device.event();
        device.event();
        assert_eq!(device.pending(), 4);
        broker.again();
        wait("what was missed", || events(&listener).len() == 6);
        wait("nothing to wait", || device.pending() == 0);
        let told = events(&listener);
        let ids: Vec<&String> = told.iter().map(|(_, id)| id).collect();
        assert!(ids.is_sorted() && ids[1] < ids[2] && ids[3] < ids[4], "{ids:?}");
        let kinds: Vec<&str> = told.iter().map(|(kind, _)| kind.as_str()).collect();
        assert_eq!(kinds, ["new", "end"].repeat(3));
        let said = device.said();
        assert_eq!(said.matches("trying again until it works").count(), 2, "{said}");
        assert!(said.contains("connected to 127.0.0.1") && said.contains("takes messages again"), "{said}");
    }
}

#[test]
fn a_broker_that_hangs_is_given_up_and_tried_again() {
    if !broker::is_here() {
        return;
    }
    for protocol in ["4", "5"] {
        let broker = Broker::open();
        let listener = broker.listen();
        let device = Device::start(&broker, &format!(", timeout_secs = 1, protocol = {protocol}"));
        listener.wait_for("salad/Line_3/availability", "online");
        broker.signal("STOP");
        device.event();
        wait("words", || device.said().contains("no acknowledgement for 1 s"));
        assert_eq!(device.pending(), 2);
        broker.signal("CONT");
        wait("nothing to wait", || device.pending() == 0);
        // What the broker had when it stopped, it has been told again.
        wait("the events", || events(&listener).iter().any(|(kind, _)| kind == "end"));
        listener.wait_for("salad/Line_3/problem", "OFF");
    }
}

#[test]
fn a_wrong_password_is_told_once_and_tried_again() {
    if !broker::is_here() {
        return;
    }
    for protocol in ["4", "5"] {
        let broker = Broker::with_password();
        broker.set_password("another");
        let device = Device::start(&broker, &format!("{}, protocol = {protocol}", with_password()));
        wait("attempts", || broker.log().matches("not authorised").count() >= 3);
        let said = device.said();
        assert_eq!(said.matches("look at user and password").count(), 1, "{said}");
        assert!(!said.contains(PASSWORD), "{said}");
        broker.set_password(PASSWORD);
        wait("a connection", || device.said().contains("connected to 127.0.0.1"));
        assert_eq!(device.said().matches("ERROR").count(), 1);
    }
}

#[test]
fn a_device_that_is_killed_is_offline_by_its_last_will_and_its_event_is_ended_later() {
    if !broker::is_here() {
        return;
    }
    for protocol in ["4", "5"] {
        let broker = Broker::open();
        let listener = broker.listen();
        let mut device = Device::start(&broker, &format!(", protocol = {protocol}"));
        device.show("red");
        listener.wait_for("salad/Line_3/problem", "ON");
        device.kill();
        listener.wait_for("salad/Line_3/availability", "offline");
        device.show("normal");
        device.again();
        listener.wait_for("salad/Line_3/availability", "online");
        wait("the end", || events(&listener).len() == 2);
        let told = &messages(&listener)[1];
        assert_eq!((&told["type"], &told["after"]["reason"]), (&"end".into(), &"interrupted".into()));
        listener.wait_for("salad/Line_3/problem", "OFF");
    }
}

#[test]
fn home_assistant_pauses_sets_the_threshold_and_is_told_again_when_it_starts() {
    if !broker::is_here() {
        return;
    }
    for protocol in ["4", "5"] {
        let broker = Broker::open();
        // Meant long ago, if ever.
        broker.publish("salad/Line_3/pause/set", "ON", &["-r"]);
        let listener = broker.listen();
        let mut device = Device::start(&broker, &format!(", protocol = {protocol}"));
        listener.wait_for("salad/Line_3/pause", "OFF");
        wait("words", || device.said().contains("is not obeyed: salad/Line_3/pause/set"));
        device.show("red");
        listener.wait_for("salad/Line_3/problem", "ON");
        broker.publish("salad/Line_3/pause/set", "ON", &[]);
        listener.wait_for("salad/Line_3/pause", "ON");
        listener.wait_for("salad/Line_3/problem", "OFF");
        wait("the end", || messages(&listener).last().is_some_and(|last| last["after"]["reason"] == "paused"));
        // A restart changes nothing: it is still red, and nobody is told.
        device.end();
        let scores = || listener.texts("salad/Line_3/score").len();
        let before = scores();
        device.again();
        wait("a score", || scores() > before);
        sleep(Duration::from_millis(500));
        listener.wait_for("salad/Line_3/pause", "ON");
        assert_eq!(device.events().0, 1);
        broker.publish("salad/Line_3/threshold/set", "1.5", &[]);
        listener.wait_for("salad/Line_3/threshold", "1.5");
        broker.publish("salad/Line_3/pause/set", "OFF", &[]);
        listener.wait_for("salad/Line_3/pause", "OFF");
        sleep(Duration::from_millis(500));
        assert_eq!(device.events().0, 1);
        broker.publish("salad/Line_3/threshold/set", "high", &[]);
        wait("words", || device.said().contains("not understood: \"high\""));
        broker.publish("salad/Line_3/threshold/set", "default", &[]);
        listener.wait_for("salad/Line_3/threshold", "0.1");
        listener.wait_for("salad/Line_3/problem", "ON");
        let discovered = || listener.under("homeassistant/device/salad_Line_3/config").len();
        let before = discovered();
        broker.publish("homeassistant/status", "online", &[]);
        wait("the discovery", || discovered() == before + 1);
        // `make test-home-assistant` shows it to Home Assistant's own schemas.
        let discovery = listener.under("homeassistant/device/salad_Line_3/config").pop().unwrap();
        fs::write(Path::new(env!("CARGO_TARGET_TMPDIR")).join("discovery.json"), discovery.payload).unwrap();
        listener.wait_for("salad/Line_3/problem", "ON");
        device.end();
        listener.wait_for("salad/Line_3/problem", "OFF");
    }
}

#[test]
fn an_event_that_is_called_normal_does_not_come_again_until_that_is_taken_back() {
    if !broker::is_here() {
        return;
    }
    let broker = Broker::open();
    let listener = broker.listen();
    let mut device = Device::start(&broker, "");
    let ask = |said: &str, expected: &str| {
        broker.publish("salad/Line_3/normal/set", said, &[]);
        let answered = || listener.texts("salad/Line_3/normal").last().is_some_and(|text| text.contains(expected));
        wait(expected, answered);
    };
    listener.wait_for("salad/Line_3/pause", "OFF");
    ask("latest", "no such event");
    device.show("red");
    listener.wait_for("salad/Line_3/problem", "ON");
    ask("latest", "Confirm it");
    ask("latest confirmed", "as enrolment 1");
    listener.wait_for("salad/Line_3/problem", "OFF");
    ask("undo 7", "no such enrolment");
    ask("undo 1", "taken away");
    listener.wait_for("salad/Line_3/problem", "ON");
    ask("undo", "no such event");
    ask("what now please", "not understood");
    device.end();
}

#[test]
fn a_camera_in_trouble_is_told_and_a_sink_without_discovery_is_not_found() {
    if broker::is_here() {
        let broker = Broker::open();
        let listener = broker.listen();
        let device = Device::start(&broker, ", prefix = \"works/hall 2\", discovery = \"\", snapshot = false");
        listener.wait_for("works/hall 2/Line_3/camera", "ok");
        fs::write(device.path().join("offline"), "").unwrap();
        listener.wait_for("works/hall 2/Line_3/camera", "camera_offline");
        fs::remove_file(device.path().join("offline")).unwrap();
        listener.wait_for("works/hall 2/Line_3/camera", "ok");
        device.event();
        listener.wait_for("works/hall 2/Line_3/problem", "OFF");
        let others = |topic: &str| !topic.starts_with("works/hall 2/") || topic.ends_with("/snapshot");
        assert!(!listener.heard().iter().any(|said| others(&said.topic)));
    }
}

#[test]
fn a_trial_says_what_came_of_it_and_leaves_the_service_alone() {
    if broker::is_here() {
        let broker = Broker::with_password();
        let listener = broker.listen();
        let device = Device::start(&broker, &format!("{}, protocol = 5", with_password()));
        listener.wait_for("salad/Line_3/availability", "online");
        let before = listener.under("salad/Line_3/problem").len();
        let trial = || output(device.path(), &["test-sink", "home", "--config", "edge.toml"]);
        let taken = trial();
        let text = String::from_utf8(taken.stdout.clone()).unwrap();
        assert!(taken.status.success(), "{}", stderr(&taken));
        assert!(text.lines().count() == 2 && text.contains("has acknowledged salad/events"), "{text}");
        wait("the event", || events(&listener).len() == 2);
        assert_eq!(listener.under("salad/events")[0].json()["after"]["false_positive"], true);
        assert_eq!(listener.texts("salad/Line_3/availability"), ["online"]);
        assert_eq!(listener.under("salad/Line_3/problem").len(), before);
        broker.set_password("another");
        let refused = trial();
        assert_eq!(refused.status.code(), Some(1));
        assert!(stderr(&refused).contains("look at user and password"), "{}", stderr(&refused));
        let unknown = output(device.path(), &["test-sink", "work", "--config", "edge.toml"]);
        assert!(stderr(&unknown).contains("no such sink") && stderr(&unknown).contains("home"), "{}", stderr(&unknown));
        assert_eq!(unknown.status.code(), Some(1));
    }
}

#[test]
fn settings_that_cannot_be_are_refused_with_their_names() {
    let broker_less = |settings: &str| {
        let dir = tempfile::tempdir().unwrap();
        support::bundle().write(&dir.path().join("m.salad")).unwrap();
        fs::write(dir.path().join("password"), "a\n").unwrap();
        let config = format!(
            "bundle = \"m.salad\"\n[source]\nreplay = {{ path = \".\", fps = 1 }}\n[events]\nstore = \"events.db\"\n\
             [[sinks]]\nname = \"home\"\nmqtt = {{ {settings} }}\n"
        );
        fs::write(dir.path().join("edge.toml"), config).unwrap();
        let refused = output(dir.path(), &["test-sink", "home", "--config", "edge.toml"]);
        assert_eq!(refused.status.code(), Some(1));
        stderr(&refused)
    };
    let cases = [
        ("host = \"mqtt://a\"", "sinks.mqtt.host"),
        ("host = \"a\", port = 0", "sinks.mqtt.port"),
        ("host = \"a\", protocol = 3", "sinks.mqtt.protocol"),
        ("host = \"a\", password = { file = \"password\" }", "sinks.mqtt.password"),
        ("host = \"a\", user = \"u\", password = { file = \"none\" }", "sinks.mqtt.password"),
        ("host = \"a\", prefix = \"a/#\"", "sinks.mqtt.prefix"),
        ("host = \"a\", discovery = \"/\"", "sinks.mqtt.discovery"),
        ("host = \"a\", keep_alive_secs = 0", "sinks.mqtt.keep_alive_secs"),
        ("host = \"a\", ca_file = \"password\"", "sinks.mqtt.ca_file"),
        ("host = \"a\", tls = false, ca_file = \"password\"", "sinks.mqtt.tls"),
        ("host = \"a\", client_key = \"password\"", "sinks.mqtt.client_key"),
        ("host = \"a\", client_certificate = \"password\", client_key = \"password\"", "sinks.mqtt.tls"),
        ("host = \"a\", topic = \"b\"", "topic"),
    ];
    for (settings, field) in cases {
        let said = broker_less(settings);
        assert!(said.contains(field), "{settings}: {said}");
    }
}
