//! The built program's page, asked over real connections as a browser, a program and another site's page would ask.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test program")]

mod driver;
mod support;

use driver::program;
use serde_json::Value;
use std::fs::{self, File};
use std::io::{Cursor, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

const CONFIG: &str = "bundle = \"m.salad\"\nform = \"f32\"\n[source]\n\
                      pipe = { command = [\"sh\", \"camera.sh\"], fps = 20, frozen_after_secs = 0 }\n\
                      [lens]\nobstructed_after_secs = 0\n[drift]\nafter_mins = 0\nlight_after_secs = 0\n\
                      [events]\nlog = \"log.jsonl\"\nstore = \"events.db\"\n[snapshots]\ndir = \"pictures\"\n\
                      [decision]\nwindow_frames = 3\ntrigger_frames = 2\ncooldown_secs = 0\n\
                      [web]\nlisten = \"127.0.0.1:0\"\nnames = [\"camera.example.org\"]\n";

const PASSWORD: &str = "a good one";

/// What came back.
struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// A header's value; empty where there is none.
    fn header(&self, name: &str) -> String {
        let found =
            self.head.lines().filter_map(|line| line.split_once(": ")).find(|(n, _)| n.eq_ignore_ascii_case(name));
        found.map_or_else(String::new, |(_, value)| value.to_owned())
    }
}

/// A running page whose camera shows red; killed when a test fails.
struct Run {
    child: Child,
    dir: tempfile::TempDir,
    port: u16,
}

impl Run {
    fn start() -> Run {
        let dir = tempfile::tempdir().unwrap();
        support::bundle().write(&dir.path().join("m.salad")).unwrap();
        let write = |name: &str, bytes: &[u8]| fs::write(dir.path().join(name), bytes).unwrap();
        write("red.jpg", &support::anomalous_frame().to_jpeg(95));
        write("camera.sh", b"while cat red.jpg; do sleep 0.05; done");
        write("edge.toml", CONFIG.as_bytes());
        let mut run = Run { child: spawn(&dir), dir, port: 0 };
        let said = || fs::read_to_string(run.dir.path().join("said")).unwrap();
        let port = || Some(said().split_once("http://127.0.0.1:")?.1.split_once('/')?.0.parse().unwrap());
        let start = Instant::now();
        run.port = loop {
            if let Some(port) = port() {
                break port;
            }
            let ended = run.child.try_wait().unwrap().is_some();
            assert!(!ended && start.elapsed() < PATIENCE, "{}", said());
            sleep(Duration::from_millis(10));
        };
        run
    }

    /// Sends a request with these header lines and gives the answer.
    fn ask(&self, request: &str, headers: &[&str], body: &str) -> Answer {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        let host = format!("Host: 127.0.0.1:{}", self.port);
        let own = headers.iter().all(|line| !line.starts_with("Host:"));
        let mut text = format!("{request} HTTP/1.1\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
        for line in headers.iter().copied().chain(own.then_some(host.as_str())) {
            text += &format!("{line}\r\n");
        }
        stream.write_all(format!("{text}\r\n{body}").as_bytes()).unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, head, body: bytes[end + 4..].to_vec() }
    }

    fn post(&self, path: &str, headers: &[&str], form: &str) -> Answer {
        let kind = "Content-Type: application/x-www-form-urlencoded";
        self.ask(&format!("POST {path}"), &[&[kind], headers].concat(), form)
    }

    /// Sets the first password; gives the line with the session's cookie.
    fn enter(&self) -> String {
        cookie(&self.post("/first", &[], &form_of_password()))
    }

    /// The id of the first event, once it is in the store.
    fn event(&self, cookie: &str) -> String {
        let start = Instant::now();
        loop {
            let events = self.ask("GET /api/v1/events?subject=anomaly", &[cookie], "").json();
            if let Some(id) = events[0]["id"].as_str().filter(|_| events[0]["snapshot"].is_string()) {
                return id.to_owned();
            }
            assert!(start.elapsed() < PATIENCE, "{events}");
            sleep(Duration::from_millis(20));
        }
    }

    /// What forms of a session carry.
    fn csrf(&self, cookie: &str) -> String {
        let page = self.ask("GET /settings", &[cookie], "").text();
        page.split_once("name=\"csrf\" value=\"").unwrap().1.split_once('"').unwrap().0.to_owned()
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(dir: &tempfile::TempDir) -> Child {
    let said = File::create(dir.path().join("said")).unwrap();
    let mut command = program(dir.path(), &["run", "--config", "edge.toml"]);
    command.env_remove("RUST_LOG").stdout(Stdio::null()).stderr(said).spawn().unwrap()
}

fn form_of_password() -> String {
    format!("password={}", PASSWORD.replace(' ', "+"))
}

fn cookie(answer: &Answer) -> String {
    assert_eq!(answer.status, 303, "{}", answer.text());
    let set = answer.header("set-cookie");
    assert!(set.contains("HttpOnly") && set.contains("SameSite=Strict"), "{set}");
    format!("Cookie: {}", set.split(';').next().unwrap())
}

const PAGE: &str = "Accept: text/html";

#[test]
fn nobody_gets_in_without_the_password_that_was_set_first() {
    let run = Run::start();
    assert_eq!(run.ask("GET /healthz", &[], "").status, 200);
    assert_eq!(run.ask("GET /", &[PAGE], "").header("location"), "/first");
    let paths = ["state", "scores", "events", "live.jpg", "enrolments", "events/x", "events/x/archive.zip"];
    for path in paths {
        assert_eq!(run.ask(&format!("GET /api/v1/{path}"), &[], "").status, 401, "{path}");
    }
    for path in ["/threshold", "/pause"] {
        assert_eq!(run.post(&format!("/api/v1{path}"), &[], "").status, 401);
    }
    assert_eq!(run.ask("GET /metrics", &[], "").status, 401);
    assert_eq!(run.post("/first", &[], "password=short").status, 422);
    let first = run.enter();
    assert_eq!(run.post("/first", &[], "password=another+one").status, 409);
    assert_eq!(run.ask("GET /", &[PAGE], "").header("location"), "/login");
    assert_eq!(run.ask("GET /api/v1/state", &[&first], "").status, 200);
    let second = cookie(&run.post("/login", &[], &form_of_password()));
    assert_ne!(first, second);
    let csrf = run.csrf(&second);
    assert_eq!(run.post("/logout", &[&second], &format!("csrf={csrf}")).status, 303);
    assert_eq!(run.ask("GET /api/v1/state", &[&second], "").status, 401);
    assert_eq!(run.ask("GET /api/v1/state", &[&first], "").status, 200);
    // Whoever guesses has to wait, with the right password too.
    let refused = (0..20).map(|_| run.post("/login", &[], "password=a+bad+one")).find(|answer| answer.status != 403);
    let refused = refused.unwrap();
    assert_eq!(refused.status, 429);
    assert!(refused.header("retry-after").parse::<u64>().unwrap() > 0);
}

#[test]
fn another_sites_page_changes_nothing_and_sees_nothing() {
    let run = Run::start();
    let cookie = run.enter();
    let csrf = run.csrf(&cookie);
    let form = format!("csrf={csrf}&threshold=0.5");
    let threshold = || run.ask("GET /api/v1/state", &[&cookie], "").json()["threshold"].clone();
    let before = threshold();
    let own = format!("Origin: http://127.0.0.1:{}", run.port);
    for origin in ["Origin: http://evil.example", "Origin: null"] {
        assert_eq!(run.post("/settings/threshold", &[&cookie, origin], &form).status, 403);
    }
    for form in ["threshold=0.5", "csrf=&threshold=0.5", "csrf=0&threshold=0.5"] {
        assert_eq!(run.post("/settings/threshold", &[&cookie, &own], form).status, 403);
    }
    let kind = "Content-Type: application/json";
    assert_eq!(run.ask("POST /api/v1/threshold", &[&cookie, kind], "{\"threshold\":0.5}").status, 403);
    assert_eq!(threshold(), before);
    assert_eq!(run.ask("GET /login", &["Host: evil.example"], "").status, 421);
    assert_eq!(run.ask("GET /login", &["Host: camera.example.org"], "").status, 200);
    assert_eq!(run.post("/settings/threshold", &[&cookie, &own], &form).status, 303);
    assert_eq!(threshold().as_f64(), Some(0.5));
    let policy = run.ask("GET /", &[&cookie, PAGE], "").header("content-security-policy");
    assert!(policy.contains("default-src 'self'") && policy.contains("frame-ancestors 'none'"), "{policy}");
}

#[test]
fn a_program_with_a_token_asks_and_changes_until_it_is_revoked() {
    let run = Run::start();
    let cookie = run.enter();
    let csrf = run.csrf(&cookie);
    let page = run.post("/settings/token", &[&cookie], &format!("csrf={csrf}&name=home")).text();
    let token = page.split_once("<code id=\"token\">").unwrap().1.split_once('<').unwrap().0;
    let bearer = format!("Authorization: Bearer {token}");
    let kind = "Content-Type: application/json";
    let post = |path: &str, body: &str| run.ask(&format!("POST /api/v1/{path}"), &[&bearer, kind], body).status;
    assert_eq!(run.ask("GET /api/v1/state", &["Authorization: Bearer salad_0"], "").status, 401);
    assert_eq!(post("threshold", "{\"threshold\":0.75}"), 200);
    assert_eq!(post("pause", "{\"paused\":true}"), 204);
    let state = run.ask("GET /api/v1/state", &[&bearer], "").json();
    assert_eq!((state["threshold"].as_f64(), state["paused"].as_bool()), (Some(0.75), Some(true)));
    for bad in ["-1", "3", "\"x\"", "null", "{}"] {
        assert_eq!(post("threshold", &format!("{{\"threshold\":{bad}}}")), 422, "{bad}");
    }
    assert_eq!(post("threshold", "{\"threshold\":\"default\"}"), 200);
    // All that is described is there.
    let described = run.ask("GET /api/openapi.json", &[], "").json();
    for (path, methods) in described["paths"].as_object().unwrap() {
        let path = path.replace("{id}", "none");
        for method in methods.as_object().unwrap().keys().filter(|method| *method == "get") {
            let answer = run.ask(&format!("{} {path}", method.to_uppercase()), &[&bearer], "");
            assert!(!answer.text().contains("no such page"), "{path}");
        }
    }
    let sha256 = run.ask("GET /settings", &[&cookie], "").text();
    let sha256 = sha256.split_once("name=\"sha256\" value=\"").unwrap().1.split_once('"').unwrap().0.to_owned();
    assert!(!token.contains(&sha256));
    assert_eq!(run.post("/settings/revoke", &[&cookie], &format!("csrf={csrf}&sha256={sha256}")).status, 303);
    assert_eq!(run.ask("GET /api/v1/state", &[&bearer], "").status, 401);
}

#[test]
fn an_event_has_a_page_a_picture_and_a_file_and_paths_lead_nowhere_else() {
    let run = Run::start();
    let cookie = run.enter();
    let id = run.event(&cookie);
    let get = |path: &str| run.ask(&format!("GET {path}"), &[&cookie, PAGE], "");
    assert!(get("/events").text().contains(&id));
    assert!(!get("/events?subject=device").text().contains(&id));
    let page = get(&format!("/events/{id}"));
    assert!(page.status == 200 && page.text().contains("Is this normal?"), "{}", page.text());
    let start = Instant::now();
    let snapshot = loop {
        let answer = get(&format!("/events/{id}/snapshot.jpg"));
        if answer.status == 200 {
            break answer.body;
        }
        assert!(start.elapsed() < PATIENCE);
        sleep(Duration::from_millis(20));
    };
    let mut archive = zip::ZipArchive::new(Cursor::new(get(&format!("/events/{id}/archive.zip")).body)).unwrap();
    let event: Value = serde_json::from_reader(archive.by_name("event.json").unwrap()).unwrap();
    assert_eq!(event["id"].as_str(), Some(id.as_str()));
    let mut kept = Vec::new();
    archive.by_name("snapshot.jpg").unwrap().read_to_end(&mut kept).unwrap();
    assert!(kept.starts_with(&[0xff, 0xd8]) && snapshot.starts_with(&[0xff, 0xd8]));
    let tricks =
        ["..", "%2e%2e", "..%2f..%2fedge.toml", "..%2fevents.db", "%00", "x%27%20or%20%271", &id[..id.len() - 1]];
    for trick in tricks {
        for path in ["", "/snapshot.jpg", "/archive.zip", "/frames/0"] {
            let status = get(&format!("/events/{trick}{path}")).status;
            assert!([400, 404].contains(&status), "{trick}{path}: {status}");
        }
    }
    for path in ["/prototypes/99", "/prototypes/-1", "/normal/1/0", "/style.css/../../edge.toml", "//etc/passwd"] {
        let status = get(path).status;
        assert!([400, 404].contains(&status), "{path}: {status}");
    }
    for path in ["/", "/health", "/normal", "/settings", "/api"] {
        assert_eq!(get(path).status, 200, "{path}");
    }
    assert!(get("/api/v1/live.jpg").body.starts_with(&[0xff, 0xd8]));
    let points = get("/api/v1/scores?hours=0.1").json();
    assert!(points["points"][0]["max"].as_f64().unwrap() > 0.0);
    assert!(!get("/api/v1/preview?threshold=0.05").json()["events"].as_array().unwrap().is_empty());
    assert!(get("/api/v1/preview?threshold=1.9").json()["events"].as_array().unwrap().is_empty());
    assert_eq!(get("/api/v1/preview?threshold=NaN").status, 422);
}
