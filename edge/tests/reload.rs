//! The built program, told to read its configuration again while frames come and an event is open.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test program")]

mod driver;
mod support;

use driver::program;
use serde_json::Value;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

const HEAD: &str = "bundle = \"m.salad\"\nform = \"f32\"\n[source]\n\
                    pipe = { command = [\"sh\", \"camera.sh\"], fps = 20, frozen_after_secs = 0 }\n\
                    [lens]\nobstructed_after_secs = 0\n[drift]\nafter_mins = 0\nlight_after_secs = 0\n\
                    [events]\nlog = \"log.jsonl\"\nstore = \"events.db\"\n\
                    [decision]\nwindow_frames = 3\ntrigger_frames = 2\ncooldown_secs = 0\nupdate_interval_secs = 3600\n";

/// A run whose camera shows what the test wants; killed when a test fails.
struct Run {
    child: Child,
    dir: tempfile::TempDir,
}

impl Run {
    fn start(config: &str) -> Run {
        let dir = tempfile::tempdir().unwrap();
        support::bundle().write(&dir.path().join("m.salad")).unwrap();
        let write = |name: &str, bytes: &[u8]| fs::write(dir.path().join(name), bytes).unwrap();
        write("normal.jpg", &support::normal_frame().to_jpeg(95));
        write("red.jpg", &support::anomalous_frame().to_jpeg(95));
        write("now.jpg", &support::normal_frame().to_jpeg(95));
        write("camera.sh", b"while cat now.jpg; do sleep 0.05; done");
        write("edge.toml", config.as_bytes());
        let said = File::create(dir.path().join("said")).unwrap();
        let mut command = program(dir.path(), &["run", "--config", "edge.toml"]);
        command.env_remove("RUST_LOG").stdout(Stdio::null()).stderr(said);
        Run { child: command.spawn().unwrap(), dir }
    }

    /// Shows a picture from now on, `normal` or `red`.
    fn show(&self, picture: &str) {
        let path = |name: &str| self.dir.path().join(name);
        fs::copy(path(&format!("{picture}.jpg")), path("next.jpg")).unwrap();
        fs::rename(path("next.jpg"), path("now.jpg")).unwrap();
    }

    /// Has another configuration read, and waits for the word about it.
    fn reload(&self, config: &str, word: &str) {
        fs::write(self.dir.path().join("edge.toml"), config).unwrap();
        let before = self.said().matches(word).count();
        signal(&self.child, "HUP");
        self.wait(|| self.said().matches(word).count() > before);
    }

    fn said(&self) -> String {
        fs::read_to_string(self.dir.path().join("said")).unwrap()
    }

    /// The kinds of all messages in a file, in their order, and the ids of their events.
    fn told(&self, file: &str) -> Vec<(String, String)> {
        let text = fs::read_to_string(self.dir.path().join(file)).unwrap_or_default();
        let lines = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        let word = |event: &Value, key: &str| event[key].as_str().unwrap().to_owned();
        lines
            .map(|line| serde_json::from_str::<Value>(line).unwrap())
            .map(|e| (word(&e, "kind"), word(&e, "id")))
            .collect()
    }

    fn wait_for(&self, file: &str, count: usize) {
        self.wait(|| self.told(file).len() >= count);
    }

    fn wait(&self, done: impl Fn() -> bool) {
        let start = Instant::now();
        while !done() {
            assert!(start.elapsed() < PATIENCE, "{}", self.said());
            sleep(Duration::from_millis(10));
        }
    }

    /// An event, from its beginning to its end, by the log.
    fn event(&self) {
        let before = self.told("log.jsonl").len();
        self.show("red");
        self.wait_for("log.jsonl", before + 1);
        self.show("normal");
        self.wait_for("log.jsonl", before + 2);
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn signal(child: &Child, name: &str) {
    let kill = format!("kill -{name} {}", child.id());
    assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
}

fn sink(name: &str, settings: &str) -> String {
    format!("[[sinks]]\nname = \"{name}\"\n{settings}\njson_lines = {{ path = \"{name}.jsonl\" }}\n")
}

#[test]
fn sinks_change_while_an_event_is_open_and_every_event_is_delivered() {
    let mut run = Run::start(&format!("{HEAD}{}", sink("one", "")));
    run.show("red");
    run.wait_for("one.jsonl", 1);
    // Neither what is no TOML nor what cannot be changes anything.
    run.reload("nonsense", "the configuration stays as it was");
    run.reload(&format!("{HEAD}{}wrong = 3\n", sink("two", "")), "the configuration stays as it was");
    run.reload(&HEAD.replace("trigger_frames = 2", "trigger_frames = 9"), "the configuration stays as it was");
    assert!(run.said().contains("edge.toml:15: decision.trigger_frames = 9"), "{}", run.said());
    // Another sink, and another filter of the first; and what cannot change.
    let both = format!("{HEAD}{}{}", sink("one", "subjects = [\"camera\"]"), sink("two", "min_score = 0.0"));
    let both = both.replace("fps = 20", "fps = 10").replace("\"f32\"", "\"int8\"");
    run.reload(&format!("log_level = \"debug\"\n{both}"), "read again and in force");
    assert!(run.said().contains("edge.toml: form, source: changes take effect"), "{}", run.said());
    run.show("normal");
    // Whoever heard its beginning hears its end.
    run.wait_for("one.jsonl", 2);
    run.event();
    run.wait_for("two.jsonl", 2);
    // The first is no more, and the second another.
    let third =
        format!("{HEAD}[snapshots]\ndir = \"pictures\"\n{}", sink("two", "").replace("two.jsonl", "three.jsonl"));
    run.reload(&third, "read again and in force");
    run.event();
    run.wait_for("three.jsonl", 2);
    signal(&run.child, "TERM");
    assert!(run.child.wait().unwrap().success());
    let log = run.told("log.jsonl");
    assert_eq!(log.iter().map(|(kind, _)| kind.as_str()).collect::<Vec<_>>(), ["new", "end"].repeat(3));
    for (file, events) in [("one.jsonl", &log[..2]), ("two.jsonl", &log[2..4]), ("three.jsonl", &log[4..])] {
        assert_eq!(run.told(file), events, "{file}");
    }
    assert_eq!(fs::read_dir(run.dir.path().join("pictures")).unwrap().count(), 1);
    let debug = |said: &str| said.matches("DEBUG salad_edge").count();
    assert!(debug(&run.said()) > 0 && !run.said().contains("panicked"), "{}", run.said());
}

/// Reads frame lines until one is as wanted; each has to be the frame after the one before.
fn read_until(lines: &mut impl BufRead, last: &mut Option<jiff::Timestamp>, wanted: impl Fn(&Value) -> bool) -> Value {
    loop {
        let mut line = String::new();
        assert!(lines.read_line(&mut line).unwrap() > 0, "it ended by itself");
        let frame: Value = serde_json::from_str(&line).unwrap();
        let time: jiff::Timestamp = frame["time"].as_str().unwrap().parse().unwrap();
        if let Some(last) = last {
            assert_eq!(time.duration_since(*last).as_secs(), 1);
        }
        *last = Some(time);
        if wanted(&frame) {
            return frame;
        }
    }
}

#[test]
fn no_frame_is_lost_and_an_open_event_goes_on_until_the_new_decision_ends_it() {
    let dir = tempfile::tempdir().unwrap();
    support::bundle().write(&dir.path().join("m.salad")).unwrap();
    support::write_frames(&dir.path().join("frames"), &[true]);
    let config = |decision: &str| {
        let text = format!(
            "bundle = \"m.salad\"\nform = \"f32\"\n[source]\nreplay = {{ path = \"frames\", fps = 1, pace = \"fast\", \
             loop = true }}\n[events]\nlog = \"log.jsonl\"\n[decision]\n{decision}\n"
        );
        fs::write(dir.path().join("edge.toml"), text).unwrap();
    };
    config("");
    let mut command = program(Path::new(dir.path()), &["run", "--config", "edge.toml", "--json"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let (mut lines, mut last) = (BufReader::new(child.stdout.take().unwrap()), None);
    let open = read_until(&mut lines, &mut last, |frame| frame["event"].is_string());
    config("cooldown_secs = 5\n[regions]\ncrop = [0.0, 0.0, 0.5, 0.5]");
    signal(&child, "HUP");
    for _ in 0..200 {
        let frame = read_until(&mut lines, &mut last, |_| true);
        assert_eq!(frame["event"], open["event"]);
    }
    config("threshold = 1.9");
    signal(&child, "HUP");
    read_until(&mut lines, &mut last, |frame| frame["event"].is_null() && frame["anomalous"] == false);
    signal(&child, "TERM");
    std::io::copy(&mut lines, &mut std::io::sink()).unwrap();
    assert!(child.wait().unwrap().success());
    let log = fs::read_to_string(dir.path().join("log.jsonl")).unwrap();
    let events: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let kinds: Vec<_> = events.iter().map(|e| (e["kind"].as_str().unwrap(), e["reason"].as_str())).collect();
    assert_eq!(kinds, [("new", None), ("end", Some("calm"))]);
    let threshold = events[1]["threshold"].as_f64().unwrap();
    assert!((threshold - 1.9).abs() < 1e-6 && events[1]["id"] == open["event"]);
}

#[test]
fn a_gate_that_is_replaced_ends_its_trouble_and_frames_count_again() {
    let run = Run::start(&HEAD.replace("obstructed_after_secs = 0", "obstructed_after_secs = 0.2"));
    // The picture is a plain one.
    run.wait_for("log.jsonl", 1);
    run.reload(HEAD, "read again and in force");
    run.wait_for("log.jsonl", 2);
    run.event();
    let told = run.told("log.jsonl");
    assert_eq!(told.iter().map(|(kind, _)| kind.as_str()).collect::<Vec<_>>(), ["new", "end", "new", "end"]);
    assert!(told[0].1 == told[1].1 && told[1].1 != told[2].1 && told[2].1 == told[3].1);
}
