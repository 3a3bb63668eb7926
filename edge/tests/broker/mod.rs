//! A real broker, mosquitto, for tests, and somebody who listens to it.
#![allow(dead_code, reason = "each test program uses its own part of it")]

use std::fs::{self, File};
use std::io::{self, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Longer than anything here takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The user that brokers with passwords know, and the password.
pub const USER: &str = "camera";
/// The user's password.
pub const PASSWORD: &str = "a secret: 100 %";

/// Whether there is a broker to test with; says so where there is none, which continuous integration does not forgive.
pub fn is_here() -> bool {
    if program().is_some() {
        return true;
    }
    assert!(std::env::var_os("CI").is_none(), "mosquitto is missing: scripts/setup.sh brokers installs it");
    // Past the test harness, which would keep it to itself.
    let _ =
        writeln!(io::stderr(), "SKIPPED: no MQTT broker here; as root, scripts/setup.sh brokers installs mosquitto");
    false
}

fn program() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin"), PathBuf::from("/usr/local/sbin")]);
    folders.map(|folder| folder.join("mosquitto")).find(|program| program.is_file())
}

/// A broker; killed when the test ends.
pub struct Broker {
    child: Option<Child>,
    /// Its files, and what it says.
    pub dir: tempfile::TempDir,
    /// Where it listens.
    pub port: u16,
}

impl Broker {
    /// For everybody.
    pub fn open() -> Broker {
        Broker::start("allow_anonymous true\n", false)
    }

    /// For [`USER`] alone.
    pub fn with_password() -> Broker {
        Broker::start("password_file passwords\n", false)
    }

    /// Over TLS, with an authority of its own (`ca.pem`), for [`USER`] alone; with `clients` also for those alone that have a
    /// certificate (`client.pem` and `client.key` are one).
    pub fn with_tls(clients: bool) -> Broker {
        let settings = format!(
            "password_file passwords\ncafile ca.pem\ncertfile server.pem\nkeyfile server.key\nrequire_certificate {clients}\n"
        );
        Broker::start(&settings, true)
    }

    fn start(settings: &str, tls: bool) -> Broker {
        let dir = tempfile::tempdir().unwrap();
        // Free a moment ago.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        if tls {
            certificates(dir.path());
        }
        // What it holds is on the disk at once, so that it can be killed at any time.
        let config = format!(
            "listener {port} 127.0.0.1\n{settings}user root\nlog_type all\nlog_dest file log\npersistence true\n\
             autosave_interval 1\nautosave_on_changes true\n"
        );
        fs::write(dir.path().join("mosquitto.conf"), config).unwrap();
        let mut broker = Broker { child: None, dir, port };
        broker.set_password(PASSWORD);
        broker.again();
        broker
    }

    /// Sets the user's password; a broker that runs reads it.
    pub fn set_password(&self, password: &str) {
        let done = self.command("mosquitto_passwd", &["-b", "-c", "passwords", USER, password]).status().unwrap();
        assert!(done.success());
        let reloads = || self.log().matches("Reloading config").count();
        if self.child.is_some() {
            let before = reloads();
            self.signal("HUP");
            wait("the broker", || reloads() > before);
        }
    }

    /// Starts it, and waits until it listens.
    pub fn again(&mut self) {
        let mut command = Command::new(program().unwrap());
        command.args(["-c", "mosquitto.conf"]).current_dir(self.dir.path());
        self.child = Some(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        wait("the broker", || TcpStream::connect(("127.0.0.1", self.port)).is_ok());
    }

    /// Kills it, with no good-bye.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Sends it a signal, if it runs.
    pub fn signal(&self, name: &str) {
        if let Some(child) = &self.child {
            signal(child, name);
        }
    }

    /// What it has said so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// Publishes as somebody else, and waits until the broker has it.
    pub fn publish(&self, topic: &str, payload: &str, flags: &[&str]) {
        let done = self.client("mosquitto_pub").args(["-q", "1", "-t", topic, "-m", payload]).args(flags).status();
        assert!(done.unwrap().success());
    }

    /// Listens to all topics.
    pub fn listen(&self) -> Listener {
        let path = self.dir.path().join("heard");
        let mut command = self.client("mosquitto_sub");
        // The broker keeps what comes while it is away.
        command.args(["-c", "-i", "listener", "-q", "1", "-t", "#", "-F", "%r %t %x"]);
        let child = command.stdout(File::create(&path).unwrap()).stderr(Stdio::null()).spawn().unwrap();
        wait("the listener", || self.log().contains("Sending SUBACK to listener"));
        Listener { child, path }
    }

    fn client(&self, program: &str) -> Command {
        let port = self.port.to_string();
        let mut command = self.command(program, &["-h", "127.0.0.1", "-p", &port, "-u", USER, "-P", PASSWORD]);
        if self.dir.path().join("ca.pem").exists() {
            command.args(["--cafile", "ca.pem", "--cert", "client.pem", "--key", "client.key"]);
        }
        command
    }

    fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(self.dir.path());
        command
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Somebody who listens to a broker.
pub struct Listener {
    child: Child,
    path: PathBuf,
}

/// What was published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// Whether it came from what the broker keeps.
    pub kept: bool,
    /// The topic.
    pub topic: String,
    /// What was said.
    pub payload: Vec<u8>,
}

impl Said {
    /// As text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.payload).into_owned()
    }

    /// As JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.payload).unwrap()
    }
}

impl Listener {
    /// All that was heard so far.
    pub fn heard(&self) -> Vec<Said> {
        let text = fs::read_to_string(&self.path).unwrap();
        let whole = text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
        whole.map(|line| said(line).unwrap()).collect()
    }

    /// What was heard under a topic.
    pub fn under(&self, topic: &str) -> Vec<Said> {
        self.heard().into_iter().filter(|said| said.topic == topic).collect()
    }

    /// The same, as text.
    pub fn texts(&self, topic: &str) -> Vec<String> {
        self.under(topic).iter().map(Said::text).collect()
    }

    /// Waits until what was heard last under a topic is this.
    pub fn wait_for(&self, topic: &str, text: &str) {
        wait(&format!("{text} under {topic}"), || self.texts(topic).last().is_some_and(|last| last == text));
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `KEPT TOPIC HEXADECIMAL`; there may be spaces in a topic, and nothing in a payload.
fn said(line: &str) -> Option<Said> {
    let (kept, rest) = line.split_once(' ')?;
    let (topic, digits) = rest.rsplit_once(' ')?;
    let byte = |at: usize| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok();
    let payload = (0..digits.len()).step_by(2).map(byte).collect::<Option<_>>()?;
    Some(Said { kept: kept == "1", topic: topic.to_owned(), payload })
}

/// Waits until something is so.
pub fn wait(what: &str, is_so: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "{what}: waited in vain");
        sleep(Duration::from_millis(20));
    }
}

/// Sends a signal to a child.
pub fn signal(child: &Child, name: &str) {
    let kill = format!("kill -{name} {}", child.id());
    assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
}

/// An authority, and certificates of it for a server on 127.0.0.1 and a client.
pub fn certificates(dir: &Path) {
    let script = "set -e
        key='-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes'
        openssl req -x509 $key -keyout ca.key -out ca.pem -days 2 -subj '/CN=Authority of a test'
        for name in server client; do
            openssl req $key -keyout $name.key -out $name.csr -subj /CN=$name
            echo 'subjectAltName = IP:127.0.0.1' > extensions
            openssl x509 -req -in $name.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile extensions -out $name.pem
        done";
    let made = Command::new("sh").args(["-c", script]).current_dir(dir).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}
