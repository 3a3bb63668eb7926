//! The event log: JSON lines, one an event message, on the disk before the program goes on.

use super::{Failure, Sink};
use crate::event::Message;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// An append-only log. A line that a power cut or a full disk left half-written stays as it is; the next event starts on a
/// line of its own, so that a reader loses that one line and no other.
#[derive(Debug)]
pub struct EventLog {
    path: PathBuf,
    file: File,
    torn: bool,
}

impl EventLog {
    /// Opens the log, creating it and the folders above it where they are missing.
    pub fn open(path: &Path) -> io::Result<EventLog> {
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder)?;
        let is_new = !path.exists();
        let mut options = OpenOptions::new();
        options.append(true).create(true);
        // A device or a pipe can be written to but has no last line to look at.
        let is_file = is_new || std::fs::metadata(path)?.is_file();
        let mut file = options.read(is_file).open(path)?;
        let torn = is_file && ends_mid_line(&mut file)?;
        if is_new {
            File::open(folder)?.sync_all()?;
        }
        Ok(EventLog { path: path.into(), file, torn })
    }

    /// The log's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Appends one message and waits until the disk has it.
    pub fn append(&mut self, message: &Message) -> io::Result<()> {
        let mut line = if self.torn { "\n".to_owned() } else { String::new() };
        line.push_str(&serde_json::to_string(message)?);
        line.push('\n');
        // Until the whole line is known to be there, the next must not be put behind it.
        self.torn = true;
        self.file.write_all(line.as_bytes())?;
        self.torn = false;
        match self.file.sync_data() {
            // What cannot be synced: a pipe, a terminal.
            Err(e) if e.kind() == io::ErrorKind::InvalidInput => Ok(()),
            other => other,
        }
    }
}

/// The log as a sink of its own, out of the store.
#[derive(Debug)]
pub struct JsonLines {
    path: PathBuf,
    log: Option<EventLog>,
}

impl JsonLines {
    /// A log at `path`, opened with the first message.
    pub fn new(path: PathBuf) -> JsonLines {
        JsonLines { path, log: None }
    }
}

impl Sink for JsonLines {
    fn deliver(&mut self, message: &Message) -> Result<String, Failure> {
        let failed = |e: io::Error| Failure::Later(format!("{}: {e}", self.path.display()));
        let log = match &mut self.log {
            Some(log) => log,
            empty => empty.insert(EventLog::open(&self.path).map_err(failed)?),
        };
        let appended = log.append(message).map_err(failed);
        if appended.is_err() {
            self.log = None;
        }
        appended.map(|()| format!("written to {}", self.path.display()))
    }
}

fn ends_mid_line(file: &mut File) -> io::Result<bool> {
    if file.seek(SeekFrom::End(0))? == 0 {
        return Ok(false);
    }
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    Ok(last != *b"\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::tests::anomaly;
    use jiff::Timestamp;

    fn event() -> Message {
        anomaly(Timestamp::UNIX_EPOCH, 0.75)
    }

    #[test]
    fn events_are_appended_and_kept_when_the_log_is_opened_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new/folder/events.jsonl");
        let events = [event(), event(), event()];
        for event in &events {
            EventLog::open(&path).unwrap().append(event).unwrap();
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let read: Vec<Message> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        assert_eq!(read, events);
    }

    #[test]
    fn a_torn_last_line_costs_that_line_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events.jsonl");
        EventLog::open(&path).unwrap().append(&event()).unwrap();
        let whole = std::fs::read(&path).unwrap();
        let cut = [whole.as_slice(), &whole[..whole.len() / 2]].concat();
        std::fs::write(&path, cut).unwrap();
        let mut log = EventLog::open(&path).unwrap();
        log.append(&event()).unwrap();
        log.append(&event()).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let good: Vec<bool> = text.lines().map(|l| serde_json::from_str::<Message>(l).is_ok()).collect();
        assert_eq!(good, [true, false, true, true]);
    }

    #[test]
    fn a_full_disk_is_an_error_each_time() {
        let mut log = EventLog::open(Path::new("/dev/full")).unwrap();
        for _ in 0..2 {
            assert_eq!(log.append(&event()).unwrap_err().kind(), io::ErrorKind::StorageFull);
        }
    }

    #[test]
    fn a_folder_cannot_be_a_log() {
        let dir = tempfile::tempdir().unwrap();
        assert!(EventLog::open(dir.path()).is_err());
    }
}
