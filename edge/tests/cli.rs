//! The built program, driven as a user would.

#![allow(clippy::unwrap_used, reason = "a test program")]

mod driver;
mod support;

use driver::{output, program, stderr};
use salad_shared::bundle::Bundle;
use salad_shared::manifest::Form;
use salad_shared::preprocess::Frame;
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use support::{anomalous_frame, bundle, expected_score, normal_frame, write_frames};

const CONFIG: &str = r#"
bundle = "m.salad"
form = "f32"
[source]
replay = { path = "frames", fps = 1, pace = "fast" }
[decision]
window_frames = 3
trigger_frames = 2
cooldown_secs = 2
[events]
log = "out/events.jsonl"
[snapshots]
dir = "out/snapshots"
"#;

/// A folder with a bundle, the frames and a configuration.
fn folder(verdicts: &[bool], config: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    bundle().write(&dir.path().join("m.salad")).unwrap();
    write_frames(&dir.path().join("frames"), verdicts);
    fs::write(dir.path().join("edge.toml"), config).unwrap();
    dir
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn json_lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn events(dir: &Path) -> Vec<Value> {
    json_lines(&fs::read_to_string(dir.join("out/events.jsonl")).unwrap())
}

fn make_video(path: &Path, folder: &Path) {
    let made = Command::new("ffmpeg")
        .args(["-nostdin", "-loglevel", "error", "-framerate", "5", "-i"])
        .arg(folder.join("%04d.jpg"))
        .args(["-c:v", "mjpeg", "-q:v", "2", "-y"])
        .arg(path)
        .status()
        .unwrap();
    assert!(made.success());
}

#[test]
fn inspect_prints_text_and_json_and_refuses_damage() {
    let dir = folder(&[], CONFIG);
    let text = output(dir.path(), &["inspect", "m.salad", "--card"]);
    assert!(text.status.success());
    assert!(stdout(&text).contains("angular-mean") && stdout(&text).contains("The tiny model"));
    let json: Value = serde_json::from_str(&stdout(&output(dir.path(), &["inspect", "m.salad", "--json"]))).unwrap();
    assert_eq!(json["manifest"]["name"], "tiny");

    let good = fs::read(dir.path().join("m.salad")).unwrap();
    let damaged = dir.path().join("damaged.salad");
    for at in (0..good.len()).step_by(good.len() / 7) {
        fs::write(&damaged, &good[..at]).unwrap();
        let refused = output(dir.path(), &["inspect", "damaged.salad"]);
        assert!(!refused.status.success() && stderr(&refused).contains("damaged.salad"), "{}", stderr(&refused));
    }
    assert!(stderr(&output(dir.path(), &["inspect", "none.salad"])).contains("none.salad"));
}

#[test]
fn score_gives_the_formulas_scores_in_order_from_any_number_of_threads() {
    let verdicts: Vec<bool> = (0..23).map(|i| i % 3 == 0).collect();
    let dir = folder(&verdicts, CONFIG);
    for (form, name) in [(Form::F32, "f32"), (Form::Int8, "int8")] {
        let mut all = Vec::new();
        for threads in ["1", "4"] {
            let args = ["score", "m.salad", "frames", "--json", "--form", name, "--threads", threads];
            let scored = output(dir.path(), &args);
            assert!(scored.status.success(), "{}", stderr(&scored));
            all.push(stdout(&scored));
        }
        assert_eq!(all[0], all[1]);
        let lines = json_lines(&all[0]);
        assert_eq!(lines.len(), verdicts.len());
        for (i, (line, verdict)) in lines.iter().zip(&verdicts).enumerate() {
            let path = format!("frames/{i:04}.jpg");
            let frame = Frame::decode(&fs::read(dir.path().join(&path)).unwrap()).unwrap();
            let expected = expected_score(&bundle(), &frame, form);
            assert!((line["score"].as_f64().unwrap() - f64::from(expected)).abs() < 1e-4);
            assert_eq!(
                (&line["path"], &line["anomalous"], &line["form"]),
                (&path.into(), &(*verdict).into(), &name.into())
            );
            assert_eq!(line["nearest"].as_array().unwrap().len(), 2);
            assert!(line.get("frame").is_none());
        }
    }
}

#[test]
fn score_takes_a_threshold_and_prints_text() {
    let dir = folder(&[false, true], CONFIG);
    let text = stdout(&output(dir.path(), &["score", "m.salad", "frames/0001.jpg", "frames/0000.jpg"]));
    let words: Vec<Vec<&str>> = text.lines().map(|l| l.split_whitespace().collect()).collect();
    assert_eq!((words[0][1], words[0][2]), ("anomalous", "frames/0001.jpg"));
    assert_eq!((words[1][1], words[1][2]), ("normal", "frames/0000.jpg"));
    let all = stdout(&output(dir.path(), &["score", "m.salad", "frames", "--threshold", "-1"]));
    assert!(all.lines().all(|l| l.contains(" anomalous ")) && all.lines().count() == 2);
    assert!(!output(dir.path(), &["score", "m.salad", "frames", "--threshold", "nan"]).status.success());
}

#[test]
fn score_names_each_bad_image_and_scores_the_rest() {
    let dir = folder(&[false, true, false], CONFIG);
    let at = |name: &str| dir.path().join("frames").join(name);
    let jpeg = fs::read(at("0001.jpg")).unwrap();
    fs::write(at("0001.jpg"), &jpeg[..jpeg.len() / 2]).unwrap();
    fs::write(at("0003.png"), "not a picture").unwrap();
    fs::write(at("0004.png"), "").unwrap();
    fs::create_dir(dir.path().join("empty")).unwrap();
    // One pixel, and grey: both fine.
    fs::write(at("0005.pgm"), b"P5 1 1 255\n\x90").unwrap();
    let scored = output(dir.path(), &["score", "m.salad", "frames", "none.jpg", "empty", "frames/0002.jpg", "--json"]);
    assert_eq!(scored.status.code(), Some(1));
    let lines = json_lines(&stdout(&scored));
    let paths: Vec<&str> = lines.iter().map(|l| l["path"].as_str().unwrap()).collect();
    assert_eq!(paths, ["frames/0000.jpg", "frames/0002.jpg", "frames/0005.pgm", "frames/0002.jpg"]);
    for name in ["frames/0001.jpg: ", "frames/0003.png: ", "frames/0004.png: ", "none.jpg: ", "empty: "] {
        assert!(stderr(&scored).lines().any(|l| l.starts_with(name)), "{name} is not in {}", stderr(&scored));
    }
}

#[test]
fn score_takes_videos_and_says_what_is_missing_without_ffmpeg() {
    let dir = folder(&[false, true, true], CONFIG);
    make_video(&dir.path().join("v.avi"), &dir.path().join("frames"));
    fs::write(dir.path().join("w.mp4"), "no video").unwrap();
    let scored = output(dir.path(), &["score", "m.salad", "v.avi", "w.mp4", "frames/0000.jpg", "--json"]);
    assert!(stderr(&scored).contains("w.mp4: not scored: ffmpeg cannot read it"), "{}", stderr(&scored));
    let lines = json_lines(&stdout(&scored));
    let told: Vec<_> = lines.iter().map(|l| (l["frame"].as_u64(), l["anomalous"].as_bool().unwrap())).collect();
    assert_eq!(told, [(Some(0), false), (Some(1), true), (Some(2), true), (None, false)]);

    let without = program(dir.path(), &["score", "m.salad", "v.avi"]).env("PATH", "").output().unwrap();
    assert_eq!(without.status.code(), Some(1));
    assert!(
        stderr(&without).contains("v.avi") && stderr(&without).contains("apt install ffmpeg"),
        "{}",
        stderr(&without)
    );
}

#[test]
fn the_onnx_of_another_network_is_a_stated_error() {
    let dir = folder(&[false], CONFIG);
    let mut other: Bundle = bundle();
    other.encoder_f32 = support::Net { size: 32, ..Default::default() }.onnx();
    other.write(&dir.path().join("m.salad")).unwrap();
    let score: &[&str] = &["score", "m.salad", "frames", "--form", "f32"];
    for args in [score, &["run", "--config", "edge.toml"]] {
        let refused = output(dir.path(), args);
        assert_eq!(refused.status.code(), Some(1));
        assert!(stderr(&refused).contains("m.salad: encoder.onnx: its input is FLOAT [1, 3, 32, 32]"));
    }
    assert!(!dir.path().join("out").exists());
}

#[test]
fn run_writes_events_snapshots_and_frame_lines() {
    let (f, t) = (false, true);
    let dir = folder(&[f, t, t, f, f, f], CONFIG);
    let ran = output(dir.path(), &["run", "--config", "edge.toml", "--json"]);
    assert!(ran.status.success(), "{}", stderr(&ran));
    let lines = json_lines(&stdout(&ran));
    assert_eq!(lines.iter().map(|l| l["anomalous"] == true).collect::<Vec<_>>(), [f, t, t, f, f, f]);
    let events = events(dir.path());
    assert_eq!(events.iter().map(|e| e["kind"].as_str().unwrap()).collect::<Vec<_>>(), ["new", "end"]);
    assert_eq!(events[1]["reason"], "calm");
    assert_eq!(lines[2]["event"], events[0]["id"]);
    assert_eq!(lines[2]["time"], events[0]["time"]);
    let snapshot = PathBuf::from(events[0]["snapshot"].as_str().unwrap());
    let picture = Frame::decode(&fs::read(dir.path().join(snapshot)).unwrap()).unwrap();
    assert_eq!(picture.width(), 24 + 4 + 24);
    // Again, from another folder: the log goes on, paths still start at the configuration's folder.
    let elsewhere = tempfile::tempdir().unwrap();
    let config = dir.path().join("edge.toml");
    assert!(output(elsewhere.path(), &["run", "--config", config.to_str().unwrap()]).status.success());
    assert_eq!(self::events(dir.path()).len(), 4);
}

#[test]
fn run_plays_a_video() {
    let (f, t) = (false, true);
    let dir = folder(&[f, t, t], &CONFIG.replace("\"frames\"", "\"v.avi\""));
    make_video(&dir.path().join("v.avi"), &dir.path().join("frames"));
    let ran = output(dir.path(), &["run", "--config", "edge.toml"]);
    assert!(ran.status.success(), "{}", stderr(&ran));
    let events = events(dir.path());
    assert_eq!((events.len(), &events[1]["reason"]), (2, &"source-ended".into()));
    assert!(events[0]["top_frame"].as_str().unwrap().ends_with("v.avi#1"));
}

#[test]
fn run_goes_on_with_a_full_disk_and_fails_at_the_end() {
    let dir = folder(&[true; 4], &CONFIG.replace("out/events.jsonl", "/dev/full"));
    let ran = output(dir.path(), &["run", "--config", "edge.toml", "--json"]);
    assert_eq!(ran.status.code(), Some(1));
    assert_eq!(stdout(&ran).lines().count(), 4);
    let said = stderr(&ran);
    assert_eq!(said.matches("event log /dev/full: cannot be written").count(), 1, "{said}");
    assert!(said.contains("2 of 2 writes were lost"), "{said}");
}

#[test]
fn bad_configurations_are_stated_errors_and_touch_nothing() {
    let cases = [
        ("fps = 1", "fps = 1, speed = 2", "edge.toml:5: "),
        ("window_frames = 3", "window_frames = \"three\"", "`window_frames = \"three\"`"),
        ("window_frames = 3", "window_frames = 1", "decision.trigger_frames = 2"),
        ("m.salad", "none.salad", "bundle = "),
        ("\"frames\"", "\"nothing\"", "source.replay.path = "),
        ("cooldown_secs = 2", "release_threshold = 0.5", "decision.release_threshold = 0.5"),
        ("out/events.jsonl", "frames", "events.log"),
        ("out/snapshots", "m.salad", "snapshots.dir"),
    ];
    for (from, to, expected) in cases {
        let dir = folder(&[false], &CONFIG.replace(from, to));
        let refused = output(dir.path(), &["run", "--config", "edge.toml"]);
        assert_eq!(refused.status.code(), Some(1), "{to}");
        assert!(stderr(&refused).contains(expected), "{to}: {}", stderr(&refused));
        assert!(!dir.path().join("out/snapshots").exists(), "{to}");
    }
    let dir = folder(&[], CONFIG);
    let empty = output(dir.path(), &["run", "--config", "edge.toml"]);
    assert!(empty.status.code() == Some(1) && stderr(&empty).contains("no usable frame"));
    assert!(stderr(&output(dir.path(), &["run", "--config", "none.toml"])).contains("none.toml"));
}

/// Frames that never end, one a second of simulated time, with an event open from the second frame on.
fn endless() -> tempfile::TempDir {
    folder(&[true], &CONFIG.replace("fps = 1", "fps = 1, loop = true"))
}

/// Starts `run --json` and waits until it tells of an open event.
fn started(dir: &Path) -> (Child, BufReader<std::process::ChildStdout>) {
    let mut command = program(dir, &["run", "--config", "edge.toml", "--json"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while !line.contains("\"event\":\"") {
        line.clear();
        assert!(lines.read_line(&mut line).unwrap() > 0, "it ended by itself");
    }
    (child, lines)
}

#[test]
fn told_to_end_it_ends_the_open_event_and_is_content() {
    for signal in ["-TERM", "-INT"] {
        let dir = endless();
        let (mut child, mut lines) = started(dir.path());
        // The shell's own: a small system has no program of this name.
        let kill = format!("kill {signal} {}", child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
        std::io::copy(&mut lines, &mut std::io::sink()).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(0), "{signal}");
        let last = events(dir.path()).pop().unwrap();
        assert_eq!((&last["kind"], &last["reason"]), (&"end".into(), &"shutdown".into()));
    }
}

#[test]
fn what_is_enrolled_is_listed_exported_and_undone_and_raises_no_event() {
    let config = CONFIG.replace("[events]", "[events]\nstore = \"events.db\"");
    let (f, t) = (false, true);
    let dir = folder(&[f, t, t, f, f, f], &config);
    let enrol = |arguments: &[&str]| output(dir.path(), &[&["enrol", "--config", "edge.toml"], arguments].concat());
    let run = || assert!(output(dir.path(), &["run", "--config", "edge.toml"]).status.success());
    let said = |arguments: &[&str]| {
        let done = enrol(arguments);
        assert!(done.status.success(), "{}", stderr(&done));
        stdout(&done)
    };
    assert!(stderr(&enrol(&[])).contains("there is no event store yet"));
    run();
    assert_eq!(said(&[]), "");
    let id = events(dir.path())[0]["id"].as_str().unwrap().to_owned();
    let refused = enrol(&[&id]);
    assert!(!refused.status.success() && stderr(&refused).contains("--yes confirms it"), "{}", stderr(&refused));
    assert_eq!(said(&[&id, "--yes"]), format!("{id}: normal from now on, as enrolment 1\n"));
    assert!(said(&[]).starts_with(&format!("1: {id}, added ")));
    let before = events(dir.path()).len();
    run();
    assert_eq!(events(dir.path()).len(), before);
    assert_eq!(said(&["--export", "good"]), "good: 2 new pictures\n");
    assert_eq!(said(&["--undo", "1"]), "1: taken away\n");
    assert_eq!(
        said(&["--picture", "good/enrolled-1-0.jpg"]),
        "good/enrolled-1-0.jpg: normal from now on, as enrolment 2\n"
    );
    run();
    assert_eq!(events(dir.path()).len(), before);
    assert_eq!(said(&["--undo", "2"]), "2: taken away\n");
    run();
    assert!(events(dir.path()).len() > before);
    assert!(stderr(&enrol(&["--picture", "none.jpg"])).contains("none.jpg"));
    fs::write(dir.path().join("edge.toml"), CONFIG).unwrap();
    assert!(stderr(&enrol(&[])).contains("events.store"));
}

#[test]
fn a_reader_that_leaves_is_a_clean_end() {
    let dir = endless();
    let (mut child, lines) = started(dir.path());
    drop(lines);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(events(dir.path()).pop().unwrap()["reason"], "shutdown");

    write_frames(&dir.path().join("many"), &[false; 300]);
    let mut command = program(dir.path(), &["score", "m.salad", "many", "--form", "f32"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let ended = child.wait_with_output().unwrap();
    assert_eq!((ended.status.code(), stderr(&ended).as_str()), (Some(0), ""));
}

#[test]
fn frames_of_the_fixture_are_what_the_tests_take_them_for() {
    let bundle = bundle();
    for form in [Form::F32, Form::Int8] {
        let threshold = bundle.manifest.thresholds.get(form).value;
        assert!(expected_score(&bundle, &normal_frame(), form) < threshold * 0.9);
        assert!(expected_score(&bundle, &anomalous_frame(), form) > threshold);
    }
}
