//! The built program and a real mail server: what it sends there, and to whom it does not give a password.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test program")]

mod broker;
mod driver;
mod support;

use broker::{certificates, wait};
use driver::{output, stderr};
use salad_shared::preprocess::Frame;
use serde_json::Value;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

const USER: &str = "camera";
const PASSWORD: &str = "a secret: 100 %";

/// The Python of `make test`, which has the server's library; says so where there is none, which continuous integration does
/// not forgive.
fn python() -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/python/bin/python");
    let command = |path| Command::new(path).args(["-c", "import aiosmtpd"]).stderr(Stdio::null()).status();
    if command(&path).is_ok_and(|status| status.success()) {
        return Some(path);
    }
    assert!(std::env::var_os("CI").is_none(), "aiosmtpd is missing: scripts/setup-python.sh installs it");
    // Past the test harness, which would keep it to itself.
    let _ = writeln!(io::stderr(), "SKIPPED: no mail server here; scripts/setup-python.sh installs one");
    None
}

/// A mail server; killed when the test ends.
struct Server {
    child: Child,
    dir: tempfile::TempDir,
}

impl Server {
    fn start(python: &Path, login: &[&str]) -> Server {
        let dir = tempfile::tempdir().unwrap();
        certificates(dir.path());
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/smtp/server.py");
        let mut command = Command::new(python);
        let said = fs::File::create(dir.path().join("said")).unwrap();
        command.arg(script).arg(dir.path()).args(login).stdout(Stdio::null()).stderr(said);
        let server = Server { child: command.spawn().unwrap(), dir };
        wait("the server", || server.dir.path().join("port").exists());
        server
    }

    fn port(&self) -> String {
        fs::read_to_string(self.dir.path().join("port")).unwrap()
    }

    /// What it has taken.
    fn messages(&self) -> Vec<Value> {
        let read = |n: usize| fs::read(self.dir.path().join(format!("{n}.json"))).ok();
        (0..).map_while(read).map(|text| serde_json::from_slice(&text).unwrap()).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A folder with a replay of one event, whose sink `shift` has these settings.
fn device(port: &str, settings: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    support::bundle().write(&dir.path().join("m.salad")).unwrap();
    support::write_frames(&dir.path().join("frames"), &[false, true, true, false, false, false]);
    fs::write(dir.path().join("password"), format!("{PASSWORD}\n")).unwrap();
    let config = format!(
        "name = \"Line 3\"\nbundle = \"m.salad\"\nform = \"f32\"\n\
         [source]\nreplay = {{ path = \"frames\", fps = 1, pace = \"fast\" }}\n\
         [decision]\nwindow_frames = 3\ntrigger_frames = 2\n[events]\nstore = \"events.db\"\n[snapshots]\ndir = \"snapshots\"\n\
         [[sinks]]\nname = \"shift\"\nemail = {{ host = \"127.0.0.1\", port = {port}, from = \"Salad <salad@example.org>\", \
         to = [\"a@example.org\", \"B <b@example.org>\"], {settings} }}\n"
    );
    fs::write(dir.path().join("edge.toml"), config).unwrap();
    dir
}

fn with_login(ca: &Path) -> String {
    format!("security = \"starttls\", ca_file = {ca:?}, user = \"{USER}\", password = {{ file = \"password\" }}")
}

/// Both messages of the event, as a mail program reads them.
fn an_event_is_mailed(server: &Server, settings: &str) -> Vec<Value> {
    let device = device(&server.port(), settings);
    let ran = output(device.path(), &["run", "--config", "edge.toml"]);
    assert!(ran.status.success(), "{}", stderr(&ran));
    assert!(!stderr(&ran).contains(PASSWORD) && !stderr(&ran).contains("ERROR"), "{}", stderr(&ran));
    let messages = server.messages();
    assert_eq!(messages.len(), 2, "{messages:?} {}", stderr(&ran));
    for (n, message) in messages.iter().enumerate() {
        assert_eq!(message["sender"], "salad@example.org");
        assert_eq!(message["receivers"], serde_json::json!(["a@example.org", "b@example.org"]));
        assert!(message["subject"].as_str().unwrap().contains("Line 3"), "{message}");
        let picture = fs::read(server.dir.path().join(format!("{n}.jpg"))).unwrap();
        let picture = Frame::decode(&picture).unwrap();
        assert_eq!((picture.width(), picture.height()), (24 + 4 + 24, 24));
    }
    assert_eq!(messages[0]["thread"], messages[1]["thread"]);
    assert_ne!(messages[0]["id"], messages[1]["id"]);
    messages
}

#[test]
fn an_event_is_mailed_with_its_picture_over_starttls_after_a_login() {
    let Some(python) = python() else { return };
    let server = Server::start(&python, &[USER, PASSWORD]);
    let messages = an_event_is_mailed(&server, &with_login(&server.dir.path().join("ca.pem")));
    assert!(messages.iter().all(|message| message["tls"] == true && message["user"] == USER), "{messages:?}");
}

#[test]
fn an_event_is_mailed_to_a_server_of_ones_own_in_plain() {
    let Some(python) = python() else { return };
    let server = Server::start(&python, &[]);
    let messages = an_event_is_mailed(&server, "security = \"none\"");
    assert!(messages.iter().all(|message| message["tls"] == false && message["user"].is_null()), "{messages:?}");
}

#[test]
fn a_server_that_is_not_trusted_or_does_not_know_the_password_gets_no_message() {
    let Some(python) = python() else { return };
    let ca = |server: &Server| server.dir.path().join("ca.pem");
    let (server, other) = (Server::start(&python, &[USER, "another"]), Server::start(&python, &[USER, PASSWORD]));
    for (settings, words) in [(with_login(&ca(&other)), "certificate"), (with_login(&ca(&server)), "535")] {
        let device = device(&server.port(), &settings);
        let refused = output(device.path(), &["test-sink", "shift", "--config", "edge.toml"]);
        assert!(!refused.status.success() && stderr(&refused).contains(words), "{}", stderr(&refused));
        assert!(!stderr(&refused).contains(PASSWORD));
        // What could not be sent waits in the store.
        let ran = output(device.path(), &["run", "--config", "edge.toml"]);
        assert!(stderr(&ran).contains("trying again until it works"), "{}", stderr(&ran));
        let store = rusqlite::Connection::open(device.path().join("events.db")).unwrap();
        let pending: u32 = store.query_row("SELECT count(*) FROM pending", [], |row| row.get(0)).unwrap();
        assert_eq!(pending, 2);
    }
    assert!(server.messages().is_empty());
}
