//! The built program with cameras that misbehave: capture programs that stall, end, tear pictures, freeze or go dark.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test program")]

mod driver;
mod support;

use driver::{output, program, stderr};
use salad_shared::preprocess::Frame;
use serde_json::Value;
use std::fs;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};
use support::bundle;

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A frame of `side` pixels with stripes, which a lens has to see, of `colour` on average.
fn striped(side: u32, colour: [u8; 3], shift: u32) -> Vec<u8> {
    let swing =
        |v: u8, x: u32| if ((x + shift) / 4).is_multiple_of(2) { v.saturating_sub(30) } else { v.saturating_add(30) };
    let rgb = (0..side * side).flat_map(|i| colour.map(|v| swing(v, i % side))).collect();
    Frame::new(side, side, rgb).unwrap().to_jpeg(95)
}

/// A folder with a bundle, pictures, and a configuration whose camera is a shell script in it.
fn folder(script: &str, settings: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    bundle().write(&dir.path().join("m.salad")).unwrap();
    let write = |name: &str, bytes: &[u8]| fs::write(dir.path().join(name), bytes).unwrap();
    for shift in 0..4 {
        write(&format!("normal{shift}.jpg"), &striped(24, [148; 3], shift));
        write(&format!("large{shift}.jpg"), &striped(64, [148; 3], shift));
        write(&format!("red{shift}.jpg"), &striped(24, [220, 35, 35], shift));
        write(&format!("dark{shift}.jpg"), &support::frame(24, [4 + shift as u8; 3]).to_jpeg(95));
    }
    let whole = striped(24, [148; 3], 0);
    write("torn.jpg", &whole[..whole.len() - 20]);
    // `show KIND COUNT` sends frames, twenty a second.
    let show = "show() { n=0; while [ $n -lt $2 ]; do cat $1$((n % 4)).jpg; sleep 0.05; n=$((n + 1)); done; }\n";
    write("camera.sh", format!("{show}{script}\n").as_bytes());
    let config = format!(
        "bundle = \"m.salad\"\nform = \"f32\"\n[source]\npipe = {{ command = [\"sh\", \"camera.sh\"], fps = 20, \
         frame_timeout_secs = 1, start_timeout_secs = 20{settings} }}\n[lens]\nobstructed_after_secs = 0.3\n[decision]\n\
         window_frames = 3\ntrigger_frames = 2\n[events]\nlog = \"events.jsonl\"\n"
    );
    write("edge.toml", config.as_bytes());
    dir
}

/// A run in the background; killed when a test fails.
struct Run {
    child: Option<Child>,
    dir: tempfile::TempDir,
}

impl Run {
    fn start(dir: tempfile::TempDir) -> Run {
        let mut command = program(dir.path(), &["run", "--config", "edge.toml"]);
        let child = Some(command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap());
        Run { child, dir }
    }

    /// What has been told so far: a trouble's or an anomaly's name with a `+` for its beginning and a `-` for its end.
    fn told(&self) -> Vec<String> {
        let sign = |e: &Value| match e["kind"].as_str() {
            Some("new") => "+",
            Some("end") => "-",
            _ => "~",
        };
        let name = |e: &Value| e["trouble"].as_str().unwrap_or("anomaly").to_owned();
        self.events().iter().map(|e| sign(e).to_owned() + &name(e)).filter(|word| !word.starts_with('~')).collect()
    }

    fn events(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.dir.path().join("events.jsonl")).unwrap_or_default();
        // The last line may be on its way.
        text.split_inclusive('\n').filter(|l| l.ends_with('\n')).map(|l| serde_json::from_str(l).unwrap()).collect()
    }

    /// Waits until that many events have been told.
    fn wait_for(&self, count: usize) -> Vec<String> {
        let start = Instant::now();
        while self.told().len() < count {
            assert!(start.elapsed() < PATIENCE, "{:?}", self.told());
            sleep(Duration::from_millis(20));
        }
        self.told()
    }

    /// Ends it as a user would; what it said.
    fn end(&mut self) -> String {
        let child = self.child.take().unwrap();
        terminate(&child);
        let output = child.wait_with_output().unwrap();
        let said = stderr(&output);
        assert!(output.status.success() && !said.contains("panicked"), "{said}");
        said
    }
}

fn terminate(child: &Child) {
    let kill = format!("kill -TERM {}", child.id());
    assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
}

impl Drop for Run {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[test]
fn a_camera_that_stalls_is_offline_and_comes_back() {
    // Stalls at its first start and at its second, and never ends by itself.
    let script = "echo >> starts; show normal 5; [ $(wc -l < starts) -gt 2 ] || exec sleep 601; show normal 100000";
    let mut run = Run::start(folder(script, ""));
    assert_eq!(run.wait_for(4), ["+camera_offline", "-camera_offline", "+camera_offline", "-camera_offline"]);
    let events = run.events();
    assert_eq!(events[0]["detail"], "no usable frame for 1.0 s");
    let time = |e: &Value| e["time"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    // Told after the time-out, over when frames come: a second of silence, a pause and a start in between.
    let gap = time(&events[1]).duration_since(time(&events[0]));
    assert!(gap.as_secs_f64() < 6.0, "{gap}");
    assert_eq!(events[0]["id"], events[1]["id"]);
    assert_ne!(events[0]["id"], events[2]["id"]);
    run.end();
    // None of the three programs is left.
    let command = |e: &fs::DirEntry| fs::read(e.path().join("cmdline")).unwrap_or_default();
    let left = fs::read_dir("/proc").unwrap().filter(|e| command(e.as_ref().unwrap()) == b"sleep\x00601\x00");
    assert_eq!(left.count(), 0);
}

#[test]
fn a_camera_that_ends_says_why_and_is_started_again() {
    let script =
        "echo >> starts; [ $(wc -l < starts) -gt 3 ] || { echo 'error: unplugged' >&2; exit 1; }; show normal 100000";
    let mut run = Run::start(folder(script, ""));
    assert_eq!(run.wait_for(2), ["+camera_offline", "-camera_offline"]);
    let events = run.events();
    assert_eq!(events[0]["detail"], "unplugged");
    assert_eq!((&events[0]["attempts"], &events[1]["attempts"]), (&1.into(), &4.into()));
    run.end();
}

#[test]
fn a_torn_picture_a_changed_size_and_an_anomaly_are_told_apart() {
    let script = "show normal 5; cat torn.jpg; show normal 5; show large 10; show red 20; show normal 100000";
    let mut run = Run::start(folder(script, ""));
    assert_eq!(run.wait_for(2), ["+anomaly", "-anomaly"]);
    let said = run.end();
    assert!(said.contains("breaks off") || said.contains("skipped"), "{said}");
    assert!(said.contains("24 x 24 pixels") && said.contains("64 x 64 pixels"), "{said}");
    assert!(said.contains("; 1 skipped, 0 obstructed"), "{said}");
}

#[test]
fn a_covered_lens_is_no_anomaly() {
    let mut run = Run::start(folder("show normal 10; show dark 30; show normal 100000", ""));
    assert_eq!(run.wait_for(2), ["+camera_obstructed", "-camera_obstructed"]);
    sleep(Duration::from_millis(300));
    assert_eq!(run.told().len(), 2);
    run.end();
}

#[test]
fn a_covered_lens_is_told_through_regions_too() {
    let dir = folder("show dark 100000", "");
    let mut config = fs::read_to_string(dir.path().join("edge.toml")).unwrap();
    config.push_str("[regions]\nexclude = [[[0.0, 0.0], [0.3, 0.0], [0.3, 0.3], [0.0, 0.3]]]\n");
    fs::write(dir.path().join("edge.toml"), config).unwrap();
    let mut run = Run::start(dir);
    assert_eq!(run.wait_for(1), ["+camera_obstructed"]);
    assert!(run.end().contains(" 0 frames scored"));
    let args = ["collect", "--config", "edge.toml", "--count", "1", "--every", "10ms", "set"];
    let mut child = program(run.dir.path(), &args).stderr(Stdio::null()).spawn().unwrap();
    sleep(Duration::from_secs(3));
    // Asked and not killed, so that it ends its capture program.
    terminate(&child);
    child.wait().unwrap();
    assert_eq!(fs::read_dir(run.dir.path().join("set/train/good")).unwrap().count(), 0);
}

#[test]
fn a_camera_that_gives_a_frame_and_ends_over_and_over_is_one_trouble() {
    let script = "echo >> starts; if [ $(wc -l < starts) -lt 5 ]; then show normal 1; else show normal 100000; fi";
    let mut run = Run::start(folder(script, ""));
    assert_eq!(run.wait_for(2), ["+camera_offline", "-camera_offline"]);
    assert_eq!(fs::read_to_string(run.dir.path().join("starts")).unwrap().lines().count(), 5);
    run.end();
    assert_eq!(run.told().len(), 2);
}

#[test]
fn a_frozen_picture_is_told_and_the_camera_opened_again() {
    let script = "echo >> starts; show normal 5; [ $(wc -l < starts) -gt 1 ] && show normal 100000; \
                  while :; do cat normal0.jpg; sleep 0.05; done";
    let mut run = Run::start(folder(script, ", frozen_after_secs = 1"));
    assert_eq!(run.wait_for(2), ["+camera_frozen", "-camera_frozen"]);
    assert_eq!(fs::read_to_string(run.dir.path().join("starts")).unwrap().lines().count(), 2);
    run.end();
}

#[test]
fn a_local_camera_that_is_not_there_is_waited_for() {
    let dir = folder("", "");
    let config = fs::read_to_string(dir.path().join("edge.toml")).unwrap();
    let source = config.lines().find(|l| l.starts_with("pipe")).unwrap();
    fs::write(dir.path().join("edge.toml"), config.replace(source, "camera = { device = 4711 }")).unwrap();
    let snapshot = output(dir.path(), &["snapshot", "--config", "edge.toml", "a.jpg"]);
    assert_eq!(snapshot.status.code(), Some(1));
    assert!(stderr(&snapshot).contains("no /dev/video4711; there"), "{}", stderr(&snapshot));
    assert!(!dir.path().join("a.jpg").exists());
    let mut run = Run::start(dir);
    assert_eq!(run.wait_for(1), ["+camera_offline"]);
    assert!(run.events()[0]["detail"].as_str().unwrap().starts_with("camera 4711: no /dev/video4711"));
    run.end();
}

#[test]
fn a_snapshot_is_a_frame_with_its_regions() {
    let dir = folder("show large 100000", "");
    let mut config = fs::read_to_string(dir.path().join("edge.toml")).unwrap();
    config.push_str("[regions]\nexclude = [[[0.5, 0.0], [1.0, 0.0], [1.0, 1.0], [0.5, 1.0]]]\n");
    fs::write(dir.path().join("edge.toml"), config).unwrap();
    let snapshot = |flags: &[&str]| {
        let written = output(dir.path(), &[&["snapshot", "--config", "edge.toml", "a.jpg"], flags].concat());
        assert!(written.status.success(), "{}", stderr(&written));
        Frame::decode(&fs::read(dir.path().join("a.jpg")).unwrap()).unwrap()
    };
    let mean = |frame: &Frame, x: std::ops::Range<usize>| {
        let sum: u32 = x.clone().map(|x| u32::from(frame.pixel(x, 32)[1])).sum();
        sum / x.len() as u32
    };
    let plain = snapshot(&[]);
    assert!(mean(&plain, 40..56) > 120);
    let drawn = snapshot(&["--regions"]);
    assert!(mean(&drawn, 8..24) > 120 && mean(&drawn, 40..56) < 70);
    let refused = output(dir.path(), &["snapshot", "--config", "edge.toml", "a.png"]);
    assert!(stderr(&refused).contains("ends in .jpg"), "{}", stderr(&refused));
    let refused = output(dir.path(), &["snapshot", "--device", "webcam", "a.jpg"]);
    assert!(stderr(&refused).contains("source.camera.device = webcam"), "{}", stderr(&refused));
}

#[test]
fn collecting_keeps_what_differs_and_goes_on_with_a_folder() {
    let dir = folder("show normal 30; show dark 5; show large 100000", "");
    let collect = |count: &str| {
        let args = ["collect", "--config", "edge.toml", "--count", count, "--every", "10ms", "set"];
        output(dir.path(), &args)
    };
    let pictures = || {
        let names = fs::read_dir(dir.path().join("set/train/good")).unwrap().map(|e| e.unwrap().path());
        names.collect::<Vec<_>>()
    };
    // Of four normal and four large pictures no two are alike.
    let first = collect("6");
    assert!(first.status.success(), "{}", stderr(&first));
    assert_eq!(pictures().len(), 6);
    assert!(stderr(&first).contains("like one that is there"), "{}", stderr(&first));
    assert!(pictures().iter().all(|p| Frame::decode(&fs::read(p).unwrap()).is_ok()));
    let second = collect("1");
    assert!(second.status.success() && stderr(&second).contains("6 pictures are there already"), "{}", stderr(&second));
    assert_eq!(pictures().len(), 7);
}

#[test]
fn a_full_disk_ends_collecting_with_what_is_there() {
    let dir = folder("show normal 100000", "");
    fs::write(dir.path().join("set"), "no folder").unwrap();
    let refused = output(dir.path(), &["collect", "--config", "edge.toml", "--count", "2", "set"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("set/train/good: Not a directory"), "{}", stderr(&refused));
    let both = output(dir.path(), &["collect", "--config", "edge.toml", "--device", "0", "set"]);
    assert!(stderr(&both).contains("cannot be used with"), "{}", stderr(&both));
}

#[test]
fn cameras_are_listed_as_text_and_json() {
    let dir = tempfile::tempdir().unwrap();
    let text = output(dir.path(), &["cameras"]);
    assert!(text.status.success() && !text.stdout.is_empty());
    let json = output(dir.path(), &["cameras", "--json"]);
    assert!(serde_json::from_slice::<Value>(&json.stdout).unwrap().is_array());
}
