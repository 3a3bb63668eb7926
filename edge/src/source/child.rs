//! A capture program: a child whose standard output is frames, of which the newest is kept.
//!
//! Whatever a camera, its driver or its program does, the child can be ended and started anew; a call that never comes back
//! then hangs in the child, not here.

use super::stream::{Packet, Piece, StreamFormat, read_frames};
use rustix::process::{Pid, Signal, kill_process_group};
use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// How much of a child's last words is kept, bytes.
const LAST_WORDS: usize = 2000;

/// What a child's line begins with that is no reason for its end.
pub const WARNING: &str = "warning: ";

/// How long a child may take to end when it is asked to, and when it is made to.
const GRACE: Duration = Duration::from_millis(500);

/// A program to start, and what must not be told about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launch {
    /// The program; no shell sees it or its arguments.
    pub program: OsString,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// The Debian package that has it, for the error when it is missing.
    pub package: Option<&'static str>,
    /// Words that are replaced by stars wherever the child's own words are repeated.
    pub secrets: Vec<String>,
}

/// A capture program that runs.
#[derive(Debug)]
pub struct Capture {
    child: Child,
    /// A child of our own ends when this closes, should this program be killed.
    stdin: Option<ChildStdin>,
    shared: Arc<Shared>,
}

/// What [`Capture::take`] found.
#[derive(Debug)]
pub enum Taken {
    /// The newest frame, and when it came.
    Frame(Packet, Instant),
    /// A frame that breaks off.
    Torn,
    /// Nothing within the timeout.
    Nothing,
    /// The program has ended; its last words, or how it ended.
    Ended(String),
}

/// A child that cannot be killed, since it hangs in the kernel.
#[derive(Debug)]
pub struct Leftover(Child);

impl Leftover {
    /// Whether it has ended by now.
    pub fn is_gone(&mut self) -> bool {
        !matches!(self.0.try_wait(), Ok(None))
    }
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    latest: Option<(Packet, Instant)>,
    torn: u64,
    dropped: u64,
    /// What the reader of frames has come to, and then the child's last words.
    ended: Option<Result<(), String>>,
    last_words: Option<String>,
}

impl Capture {
    /// Starts the program. Of its frames at most `fps` a second are kept, the newest of those until it is taken.
    pub fn start(launch: &Launch, format: StreamFormat, fps: f64) -> Result<Capture, String> {
        let mut command = Command::new(&launch.program);
        command.args(&launch.args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // A group of its own: a Ctrl-C in the terminal is for this program to act on, and what the child starts ends with it.
        command.process_group(0);
        let mut child = command.spawn().map_err(|e| launch.failed(&e))?;
        let shared = Arc::new(Shared::default());
        if let Some(out) = child.stdout.take() {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                let mut pace = Pace::new(fps);
                let result = read_frames(format, out, |piece| shared.put(piece, &mut pace));
                shared.change(|state| state.ended = Some(result));
            });
        }
        if let Some(err) = child.stderr.take() {
            let (shared, secrets) = (Arc::clone(&shared), launch.secrets.clone());
            thread::spawn(move || {
                let words = last_words(err, &secrets);
                shared.change(|state| state.last_words = Some(words));
            });
        }
        Ok(Capture { stdin: child.stdin.take(), child, shared })
    }

    /// The newest frame, waited for.
    pub fn take(&mut self, timeout: Duration) -> Taken {
        let state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        let nothing = |s: &mut State| s.latest.is_none() && s.torn == 0 && s.ended.is_none();
        let waited = self.shared.changed.wait_timeout_while(state, timeout, nothing);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if state.torn > 0 {
            state.torn -= 1;
            return Taken::Torn;
        }
        if let Some((packet, arrived)) = state.latest.take() {
            return Taken::Frame(packet, arrived);
        }
        let Some(result) = state.ended.clone() else { return Taken::Nothing };
        drop(state);
        Taken::Ended(self.end_words(result))
    }

    /// Frames that were replaced by newer ones before they were taken.
    pub fn dropped(&self) -> u64 {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner).dropped
    }

    /// Ends the program and all that it has started: asked first, since some camera services need a proper good-bye, then
    /// killed. What cannot be killed is given back.
    pub fn stop(mut self) -> Option<Leftover> {
        drop(self.stdin.take());
        if self.ends_by(Signal::TERM) || self.ends_by(Signal::KILL) {
            return None;
        }
        Some(Leftover(self.child))
    }

    fn ends_by(&mut self, signal: Signal) -> bool {
        // An error means that there is nobody left in the group.
        let _ = kill_process_group(Pid::from_child(&self.child), signal);
        let ended = self.ends();
        if ended {
            // The child is gone; what it had started may not be.
            let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        }
        ended
    }

    /// Whether the child is gone, now or within a moment.
    fn ends(&mut self) -> bool {
        let start = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) {
            if start.elapsed() >= GRACE {
                return false;
            }
            thread::sleep(Duration::from_millis(5));
        }
        true
    }

    /// After the stream has ended: what the program has to say of it.
    fn end_words(&mut self, result: Result<(), String>) -> String {
        // Standard output can be closed a little before standard error, and both before the end.
        let state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        let silent = |s: &mut State| s.last_words.is_none();
        let waited = self.shared.changed.wait_timeout_while(state, GRACE, silent);
        let words = waited.unwrap_or_else(PoisonError::into_inner).0.last_words.clone();
        if let Some(words) = words.filter(|words| !words.is_empty()) {
            return words;
        }
        if let Err(problem) = result {
            return problem;
        }
        self.ends();
        match self.child.try_wait() {
            Ok(Some(status)) => exit_words(status),
            _ => "it closed its output and said nothing".to_owned(),
        }
    }
}

impl Launch {
    fn failed(&self, error: &io::Error) -> String {
        let program = self.program.to_string_lossy();
        match (error.kind(), self.package) {
            (io::ErrorKind::NotFound, Some(package)) => {
                format!("{program} is not installed; run: apt install {package}")
            }
            (io::ErrorKind::NotFound, None) => format!("{program}: no such program; correct source.pipe.command"),
            _ => format!("{program} cannot be started: {error}"),
        }
    }
}

impl Shared {
    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_all();
    }

    /// Keeps a frame where one is due; always wants more.
    fn put(&self, piece: Piece, pace: &mut Pace) -> bool {
        match piece {
            Piece::Torn => self.change(|state| state.torn += 1),
            Piece::Frame(packet) => {
                let now = Instant::now();
                if pace.is_due(now) {
                    self.change(|state| state.dropped += u64::from(state.latest.replace((packet, now)).is_some()));
                }
            }
        }
        true
    }
}

/// Thins out a stream to a rate: on average that rate, where the stream has more.
#[derive(Debug)]
struct Pace {
    period: Duration,
    due: Option<Instant>,
}

impl Pace {
    fn new(fps: f64) -> Pace {
        Pace { period: Duration::try_from_secs_f64(1.0 / fps).unwrap_or(Duration::ZERO), due: None }
    }

    fn is_due(&mut self, now: Instant) -> bool {
        let due = self.due.unwrap_or(now);
        // Cameras are not punctual: a little early is on time.
        if now + self.period / 4 < due {
            return false;
        }
        // A frame that is late does not move the next one, but a pause is not made up for.
        self.due = Some((due + self.period).max(now));
        true
    }
}

/// Reads a child's standard error to its end, so that the child never waits, passes on its warnings as they come, and keeps
/// the end of what else it says, on one line. Nothing has the secrets in it.
pub fn last_words(stream: impl Read, secrets: &[String]) -> String {
    let mut stream = BufReader::new(stream);
    let (mut kept, mut line) = (Vec::new(), Vec::new());
    while let Ok(1..) = stream.by_ref().take(LAST_WORDS as u64).read_until(b'\n', &mut line) {
        match String::from_utf8_lossy(&line).strip_prefix(WARNING) {
            Some(warning) => log::warn!("{}", redacted(warning.trim_end(), secrets)),
            None => {
                kept.extend_from_slice(&line);
                kept.drain(..kept.len().saturating_sub(LAST_WORDS));
            }
        }
        line.clear();
    }
    let words = String::from_utf8_lossy(&kept).split_whitespace().collect::<Vec<_>>().join(" ");
    redacted(words.strip_prefix("error: ").unwrap_or(&words), secrets)
}

/// How a child ended that said nothing.
pub fn exit_words(status: ExitStatus) -> String {
    format!("it ended with {status} and said nothing")
}

/// `text` without the secrets, and without what may be a login in any address in it: all before the last `@`, since a password
/// can have a slash in it, and the query, in which many cameras take theirs.
pub fn redacted(text: &str, secrets: &[String]) -> String {
    let mut text = text.to_owned();
    for secret in secrets.iter().filter(|s| !s.is_empty()) {
        text = text.replace(secret.as_str(), "***");
    }
    let mut clean = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some((before, after)) = rest.split_once("://") {
        let end = after.find(|c: char| c.is_whitespace() || "\"'`".contains(c)).unwrap_or(after.len());
        let (address, further) = after.split_at(end);
        let address = address.rsplit_once('@').map_or(address, |(_, host)| host);
        clean.push_str(before);
        clean.push_str("://");
        clean.push_str(address.split(['?', '#']).next().unwrap_or_default());
        rest = further;
    }
    clean + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::pixels::PixelFormat;
    use std::io::Write;
    use std::path::PathBuf;

    const RAW: StreamFormat = StreamFormat::Raw { format: PixelFormat::Gray8, width: 1, height: 1 };
    const PATIENCE: Duration = Duration::from_secs(30);

    fn shell(script: &str) -> Capture {
        let launch = Launch {
            program: "sh".into(),
            args: vec!["-c".into(), script.into()],
            package: None,
            secrets: vec!["hunter2".into()],
        };
        Capture::start(&launch, RAW, 1e12).unwrap()
    }

    fn end_of(capture: &mut Capture) -> String {
        loop {
            match capture.take(PATIENCE) {
                Taken::Ended(words) => return words,
                Taken::Nothing => panic!("it does not end"),
                _ => {}
            }
        }
    }

    #[test]
    fn the_newest_frame_is_taken_and_older_ones_are_counted() {
        // What ends the wait is the test's to say, by a line on the child's standard input.
        let mut capture = shell("printf abc; read go; printf d; cat");
        let start = Instant::now();
        while capture.dropped() < 2 && start.elapsed() < PATIENCE {
            thread::sleep(Duration::from_millis(5));
        }
        let Taken::Frame(packet, _) = capture.take(PATIENCE) else { panic!() };
        assert_eq!((packet.bytes.as_slice(), capture.dropped()), (&b"c"[..], 2));
        capture.stdin.as_mut().unwrap().write_all(b"go\n").unwrap();
        let Taken::Frame(packet, _) = capture.take(PATIENCE) else { panic!() };
        assert_eq!(packet.bytes, b"d");
        assert!(matches!(capture.take(Duration::from_millis(10)), Taken::Nothing));
        assert!(capture.stop().is_none());
    }

    #[test]
    fn how_a_program_ends_is_told_without_its_secrets() {
        let mut capture = shell("echo 'cannot open rtsp://me:hunter2@10.0.0.7/a with hunter2' >&2; exit 3");
        assert_eq!(end_of(&mut capture), "cannot open rtsp://10.0.0.7/a with ***");
        assert!(end_of(&mut shell("exit 3")).contains("exit status: 3"));
        assert!(end_of(&mut shell("exec >&-; sleep 60")).contains("closed its output"));
    }

    #[test]
    fn a_program_that_will_not_end_is_killed_with_its_children() {
        let dir = tempfile::tempdir().unwrap();
        let pids = dir.path().join("pids");
        let script = format!(
            "trap '' TERM; sh -c 'trap \"\" TERM; echo $$ >>{0}; sleep 60' & echo $$ >>{0}; wait",
            pids.display()
        );
        let capture = shell(&script);
        let start = Instant::now();
        let written = || std::fs::read_to_string(&pids).unwrap_or_default().lines().count() == 2;
        while !written() && start.elapsed() < PATIENCE {
            thread::sleep(Duration::from_millis(5));
        }
        assert!(capture.stop().is_none());
        for pid in std::fs::read_to_string(&pids).unwrap().lines() {
            // An orphan that was killed may be a zombie until its new parent has looked.
            let status = std::fs::read_to_string(PathBuf::from(format!("/proc/{pid}/status"))).unwrap_or_default();
            assert!(status.is_empty() || status.contains("State:\tZ"), "{pid} lives: {status}");
        }
    }

    #[test]
    fn a_missing_program_names_its_package() {
        let mut launch =
            Launch { program: "no-such-program".into(), args: vec![], package: Some("nsp"), secrets: vec![] };
        assert!(Capture::start(&launch, RAW, 1.0).unwrap_err().contains("apt install nsp"));
        launch.package = None;
        assert!(Capture::start(&launch, RAW, 1.0).unwrap_err().contains("source.pipe.command"));
    }

    #[test]
    fn a_stream_is_thinned_out_to_the_rate() {
        let start = Instant::now();
        let kept = |camera_fps: u32, wanted: f64| {
            let mut pace = Pace::new(wanted);
            (0..camera_fps * 10).filter(|&i| pace.is_due(start + Duration::from_secs(1) * i / camera_fps)).count()
        };
        for (camera, wanted, expected) in
            [(30, 5.0, 50), (30, 20.0, 200), (30, 30.0, 300), (10, 30.0, 100), (25, 15.0, 150)]
        {
            let kept = kept(camera, wanted);
            assert!(kept.abs_diff(expected) <= 2, "{camera} to {wanted}: {kept} for {expected}");
        }
    }

    #[test]
    fn addresses_lose_their_passwords() {
        let secrets = ["p@ss/word".to_owned()];
        for (text, clean) in [
            ("no address", "no address"),
            ("rtsp://u:p@h:554/x?y", "rtsp://h:554/x"),
            ("a http://h/p b https://u@h", "a http://h/p b https://h"),
            ("'http://h/?user=a&pwd=b': 401", "'http://h/': 401"),
            ("rtsp://u:p@ss/word@h/x", "rtsp://h/x"),
            ("rtsp://me:hun/ter2@h/x", "rtsp://h/x"),
        ] {
            assert_eq!(redacted(text, &secrets), clean);
        }
    }
}
