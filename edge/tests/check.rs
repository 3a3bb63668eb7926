//! `salad-edge check`: what is wrong with a configuration and with everything that it names.

#![allow(clippy::unwrap_used, reason = "a test program")]

mod driver;
mod support;

use driver::output;
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use support::{bundle, write_frames};

const GOOD: &str = "bundle = \"m.salad\"\n[source]\nreplay = { path = \"frames\", fps = 5 }\n\
                    [events]\nstore = \"out/events.db\"\n[[sinks]]\nname = \"all\"\njson_lines = { path = \"out/all.jsonl\" }\n";

fn folder(config: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    bundle().write(&dir.path().join("m.salad")).unwrap();
    write_frames(&dir.path().join("frames"), &[false]);
    fs::write(dir.path().join("edge.toml"), config).unwrap();
    dir
}

/// Severity, line, field and problem.
type Finding = (String, Option<u64>, String, String);

/// Exit code and findings.
fn check(dir: &Path) -> (i32, Vec<Finding>) {
    let checked = output(dir, &["check", "--config", "edge.toml", "--json"]);
    let said: Value = serde_json::from_slice(&checked.stdout).unwrap();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let finding = |f: &Value| (text(&f["severity"]), f["line"].as_u64(), text(&f["field"]), text(&f["problem"]));
    assert_eq!(said["good"], checked.status.success());
    (checked.status.code().unwrap(), said["findings"].as_array().unwrap().iter().map(finding).collect())
}

#[test]
fn a_good_configuration_has_no_findings_and_nothing_is_made() {
    let dir = folder(GOOD);
    assert_eq!(check(dir.path()), (0, Vec::new()));
    assert!(!dir.path().join("out").exists());
    let text = output(dir.path(), &["check", "--config", "edge.toml"]);
    assert_eq!(String::from_utf8(text.stdout).unwrap(), "edge.toml: good; 0 errors, 0 warnings\n");
}

#[test]
fn what_the_configuration_names_is_looked_at_and_all_of_it_told_at_once() {
    let config = "bundle = \"m.salad\"\nform = \"f32\"\n[source]\nreplay = { path = \"frames\", fps = 5 }\n\
                  [regions]\nexclude = [[[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]]\n[decision]\nthreshold = 0.2\n\
                  [events]\nlog = \"frames\"\nstore = \"events.db\"\n[snapshots]\ndir = \"m.salad/x\"\n\
                  [[sinks]]\nname = \"a\"\ncommand = { run = [\"/no/such/program\"] }\n\
                  [[sinks]]\nname = \"b\"\n[sinks.webhook]\nurl = \"http://me:secret@x.org\"\nsecret = { file = \"secret\" }\n";
    let dir = folder(config);
    let mut header = b"SQLite format 3\0".to_vec();
    header.resize(100, 0);
    header[63] = 99;
    fs::write(dir.path().join("events.db"), header).unwrap();
    fs::write(dir.path().join("secret"), "hush\n").unwrap();
    fs::set_permissions(dir.path().join("secret"), fs::Permissions::from_mode(0o644)).unwrap();
    let (code, findings) = check(dir.path());
    let told: Vec<_> = findings.iter().map(|(s, line, field, _)| (s.as_str(), line.unwrap(), field.as_str())).collect();
    let expected = [
        ("error", 6, "regions.exclude"),
        ("error", 10, "events.log"),
        ("error", 11, "events.store"),
        ("error", 13, "snapshots.dir"),
        ("warning", 8, "decision.threshold"),
        ("warning", 16, "sinks.command.run"),
        ("warning", 20, "sinks.webhook.url"),
        ("warning", 21, "sinks.webhook.secret"),
    ];
    assert_eq!((code, told.as_slice()), (1, expected.as_slice()));
    let problems = findings.iter().map(|f| f.3.as_str()).collect::<Vec<_>>().join("\n");
    for words in ["update salad-edge", "m.salad is no folder", "frames is a folder", "chmod o= ", "above the bundle's"]
    {
        assert!(problems.contains(words), "{words} is not in {problems}");
    }
    assert!(!problems.contains("hush") && !problems.contains("me:secret"));
}

#[test]
fn a_damaged_bundle_is_told_beside_errors_of_the_configuration() {
    let dir = folder(&GOOD.replace("fps = 5", "fps = 0"));
    fs::write(dir.path().join("m.salad"), "no bundle").unwrap();
    let (code, findings) = check(dir.path());
    let told: Vec<_> = findings.iter().map(|(_, line, field, _)| (line.unwrap(), field.as_str())).collect();
    assert_eq!((code, told), (1, vec![(1, "bundle"), (3, "source.replay.fps")]));
}

#[test]
fn a_threshold_below_normal_images_and_nobody_to_tell_are_warned_of() {
    let config = GOOD.split("[events]").next().unwrap().to_owned() + "[decision]\nthreshold = 0.01\n";
    let (code, findings) = check(folder(&config).path());
    assert_eq!(code, 0);
    let told: Vec<_> = findings.iter().map(|f| (f.2.as_str(), f.3.split(':').next().unwrap())).collect();
    let forms = ["f32", "int8"].map(|form| format!("1 of 1 normal validation images score above it in {form}"));
    let expected = [
        ("decision.threshold", forms[0].as_str()),
        ("decision.threshold", forms[1].as_str()),
        ("sinks", "there is none"),
        ("events.store", "there is none"),
    ];
    assert_eq!(told, expected);
}
