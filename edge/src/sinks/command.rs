//! A program of the user's own, with the message on its standard input.

use super::payload::Payload;
use super::{Failure, Sink};
use crate::event::Message;
use rustix::process::{Pid, Signal, kill_process_group};
use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// How often it is looked whether the program has ended.
const LOOK: Duration = Duration::from_millis(20);

/// Of what a program says, so much is repeated in the log.
const WORDS_BYTES: u64 = 400;

/// The program, and how long it may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandSpec {
    /// The program.
    pub program: String,
    /// Its arguments, each as it is: no shell reads them.
    pub arguments: Vec<String>,
    /// It is ended when it takes longer, with all that it has started.
    pub timeout: Duration,
}

/// A command.
#[derive(Debug)]
pub struct CommandSink {
    spec: CommandSpec,
    device: String,
}

impl CommandSink {
    /// `device` is the name this device has in alerts.
    pub fn new(spec: CommandSpec, device: &str) -> CommandSink {
        CommandSink { spec, device: device.to_owned() }
    }

    fn run(&self, input: Vec<u8>) -> io::Result<(ExitStatus, String)> {
        let mut command = Command::new(&self.spec.program);
        command.args(&self.spec.arguments).process_group(0);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        // Threads, since a program may neither read nor end.
        let (stdin, stderr) = (child.stdin.take(), child.stderr.take());
        let writer = thread::spawn(move || stdin.map(|mut stdin| stdin.write_all(&input)));
        let reader = thread::spawn(move || {
            let mut words = Vec::new();
            let _ = stderr.map(|stderr| stderr.take(WORDS_BYTES).read_to_end(&mut words));
            String::from_utf8_lossy(&words).split_whitespace().collect::<Vec<_>>().join(" ")
        });
        let status = self.wait(&mut child);
        if status.is_err() {
            // With what it has started.
            let _ = kill_process_group(Pid::from_child(&child), Signal::KILL);
            child.wait()?;
        }
        // What it started may hold the pipes for longer than anybody wants to wait.
        let words = if reader.is_finished() || status.is_ok() && ends_soon(&reader) {
            reader.join().unwrap_or_default()
        } else {
            String::new()
        };
        drop(writer);
        Ok((status?, words))
    }

    fn wait(&self, child: &mut Child) -> io::Result<ExitStatus> {
        let start = Instant::now();
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(status);
            }
            if start.elapsed() >= self.spec.timeout {
                let secs = self.spec.timeout.as_secs_f64();
                return Err(io::Error::other(format!("took longer than {secs} s, and was ended")));
            }
            thread::sleep(LOOK);
        }
    }
}

impl Sink for CommandSink {
    fn deliver(&mut self, message: &Message) -> Result<String, Failure> {
        let input = Payload::new(&self.device, message, false).json();
        let program = &self.spec.program;
        match self.run(input) {
            Ok((status, _)) if status.success() => Ok(format!("{program} has ended well")),
            Ok((status, words)) => Err(Failure::Later(format!("{program}: {status}: {words}"))),
            Err(error) => Err(Failure::Later(format!("{program}: {error}"))),
        }
    }
}

fn ends_soon(reader: &thread::JoinHandle<String>) -> bool {
    (0..10).any(|_| {
        thread::sleep(LOOK);
        reader.is_finished()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::tests::anomaly;

    fn shell(script: &str, timeout: Duration) -> CommandSink {
        let arguments = vec!["-c".to_owned(), script.to_owned()];
        CommandSink::new(CommandSpec { program: "sh".into(), arguments, timeout }, "line 3")
    }

    #[test]
    fn the_message_stands_on_standard_input() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("told.json");
        let message = anomaly(jiff::Timestamp::UNIX_EPOCH, 0.5);
        shell(&format!("cat > {}", path.display()), Duration::from_secs(20)).deliver(&message).unwrap();
        let told: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        assert_eq!((&told["device"], &told["id"]), (&"line 3".into(), &message.id().into()));
        assert_eq!((&told["subject"], &told["kind"]), (&"anomaly".into(), &"new".into()));
    }

    #[test]
    fn a_program_that_fails_hangs_or_is_missing_is_tried_again() {
        let message = anomaly(jiff::Timestamp::UNIX_EPOCH, 0.5);
        let problem = |mut sink: CommandSink| match sink.deliver(&message) {
            Err(Failure::Later(problem)) => problem,
            other => unreachable!("{other:?}"),
        };
        let long = Duration::from_secs(20);
        let failed = problem(shell("echo no paper >&2; exit 3", long));
        assert!(failed.contains("no paper") && failed.contains('3'), "{failed}");
        let start = Instant::now();
        let hung = problem(shell("sleep 60 & sleep 60", Duration::from_millis(200)));
        assert!(hung.contains("0.2 s") && start.elapsed() < long, "{hung}");
        let spec = CommandSpec { program: "/none/such".into(), arguments: Vec::new(), timeout: long };
        assert!(problem(CommandSink::new(spec, "line 3")).contains("/none/such"));
    }
}
