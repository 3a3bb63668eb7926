//! Where events go. A sink that fails is said once, counted, and tried again with the next event: it never stops the
//! program.

pub mod snapshot;

use crate::event::Message;
use crate::store::EventLog;
use snapshot::{Shown, Snapshots};
use std::io;
use std::path::PathBuf;

/// The sinks of one run.
#[derive(Debug)]
pub struct Sinks {
    log: Option<(EventLog, Health)>,
    snapshots: Option<(Snapshots, Health)>,
}

impl Sinks {
    /// Any sink may be absent.
    pub fn new(log: Option<EventLog>, snapshots: Option<Snapshots>) -> Sinks {
        let log = log.map(|log| {
            let health = Health::new(format!("event log {}", log.path().display()));
            (log, health)
        });
        let snapshots = snapshots.map(|snapshots| {
            let health = Health::new(format!("snapshots in {}", snapshots.folder().display()));
            (snapshots, health)
        });
        Sinks { log, snapshots }
    }

    /// Writes the picture of an event and says where it is.
    pub fn picture(&mut self, event_id: &str, shown: &Shown<'_>) -> Option<PathBuf> {
        let (snapshots, health) = self.snapshots.as_mut()?;
        let written = snapshots.write(event_id, shown);
        health.note(written)
    }

    /// Sends out a message.
    pub fn send(&mut self, message: &Message) {
        match message {
            Message::Anomaly(event) => {
                log::info!("event {}: {:?}, top score {:.4}", event.id, event.kind, event.top_score);
            }
            Message::Camera(event) => {
                log::warn!("event {}: camera {}: {:?}: {}", event.id, event.trouble, event.kind, event.detail);
            }
        }
        if let Some((log, health)) = &mut self.log {
            let appended = log.append(message);
            health.note(appended);
        }
    }

    /// One line for each sink that lost something.
    pub fn losses(&self) -> Vec<String> {
        let log = self.log.iter().map(|(_, health)| health);
        let snapshots = self.snapshots.iter().map(|(_, health)| health);
        log.chain(snapshots).filter_map(Health::losses).collect()
    }
}

/// How a sink has done.
#[derive(Debug)]
struct Health {
    what: String,
    tried: u64,
    failed: u64,
    failing: bool,
}

impl Health {
    fn new(what: String) -> Health {
        Health { what, tried: 0, failed: 0, failing: false }
    }

    fn note<T>(&mut self, result: io::Result<T>) -> Option<T> {
        self.tried += 1;
        match result {
            Ok(value) => {
                if std::mem::take(&mut self.failing) {
                    log::info!("{}: can be written again", self.what);
                }
                Some(value)
            }
            Err(error) => {
                self.failed += 1;
                if !std::mem::replace(&mut self.failing, true) {
                    log::error!("{}: cannot be written: {error}; going on without it", self.what);
                }
                None
            }
        }
    }

    fn losses(&self) -> Option<String> {
        let Health { what, tried, failed, .. } = self;
        (*failed > 0).then(|| format!("{what}: {failed} of {tried} writes were lost"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SnapshotSettings;
    use crate::event::new_id;
    use crate::support::normal_frame;

    #[test]
    fn a_folder_that_goes_and_comes_back_costs_the_pictures_in_between() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("snapshots");
        let settings = SnapshotSettings { dir: folder.clone(), max_bytes: 1 << 20, jpeg_quality: 90 };
        let mut sinks = Sinks::new(None, Some(Snapshots::open(settings, Vec::new().into()).unwrap()));
        let mut picture = |second| {
            let id = new_id(jiff::Timestamp::from_second(second).unwrap());
            sinks.picture(&id, &Shown { frame: &normal_frame(), heat: None, prototype: None })
        };
        assert!(picture(1).unwrap().exists());
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!(picture(2), None);
        std::fs::create_dir(&folder).unwrap();
        assert!(picture(3).unwrap().exists());
        assert_eq!(sinks.losses(), [format!("snapshots in {}: 1 of 3 writes were lost", folder.display())]);
    }

    #[test]
    fn losses_are_counted_and_what_works_is_not_mentioned() {
        let mut health = Health::new("log".into());
        assert_eq!(health.note(Ok(3)), Some(3));
        assert_eq!(health.losses(), None);
        assert_eq!(health.note::<()>(Err(io::Error::other("full"))), None);
        assert_eq!(health.note::<()>(Err(io::Error::other("full"))), None);
        assert!(health.failing);
        assert_eq!(health.note(Ok(4)), Some(4));
        assert!(!health.failing);
        assert_eq!(health.losses().unwrap(), "log: 2 of 4 writes were lost");
    }
}
