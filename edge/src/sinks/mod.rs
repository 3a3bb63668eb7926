//! Where events go: log and pictures on this device, the store, and from that to everybody who is to know. Whatever fails is
//! said once and counted, and never stops the program.

pub mod change;
pub mod command;
pub mod email;
pub mod filter;
pub mod gpio;
pub mod json_lines;
pub mod mqtt;
pub mod outbox;
pub mod payload;
pub mod snapshot;
pub mod webhook;

use crate::config::sinks::{SinkKind, SinkSpec};
use crate::controls::Controls;
use crate::event::{EventKind, Message, Trouble, TroubleEvent, new_id};
use crate::live::Live;
use crate::metrics::Metrics;
use crate::store::{Minute, Recorded};
use jiff::Timestamp;
use json_lines::EventLog;
use outbox::Outbox;
use snapshot::{Shown, Snapshots};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What is freed at once when the disk is full, bytes.
const FREED: u64 = 4 << 20;

/// The pause after the first attempt that failed.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// Between two looks whether a full disk can be written again.
const RETRY: Duration = Duration::from_secs(10);

/// Somebody who is told of events.
pub trait Sink: Send {
    /// Hands a message over and waits until the other side has it; gives what that answered, for people. The same message
    /// may come again, under the same [`Message::key`].
    fn deliver(&mut self, message: &Message) -> Result<String, Failure>;

    /// The longest time until a message that was not taken is tried again.
    fn longest_pause(&self) -> Duration {
        outbox::LONGEST_PAUSE
    }
}

/// Why a sink has not taken a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// It may later: what hinders it lies outside of the message.
    Later(String),
    /// It never will.
    Never(String),
}

/// Makes a sink; `device` is the name this device has in alerts. Those that hear commands change the controls; without
/// controls it is a trial.
pub fn build(spec: &SinkSpec, device: &str, controls: Option<&Arc<Controls>>) -> io::Result<Box<dyn Sink>> {
    Ok(match &spec.kind {
        SinkKind::Webhook(webhook) => Box::new(webhook::Webhook::new(webhook.clone(), device)),
        SinkKind::Command(command) => Box::new(command::CommandSink::new(command.clone(), device)),
        SinkKind::Email(email) => Box::new(email::Email::new((**email).clone(), device)),
        SinkKind::Gpio(gpio) => Box::new(gpio::Gpio::new(gpio.clone())),
        SinkKind::JsonLines(path) => Box::new(json_lines::JsonLines::new(path.clone())),
        SinkKind::Mqtt(mqtt) => Box::new(mqtt::MqttSink::start((**mqtt).clone(), spec, device, controls.cloned())?),
    })
}

/// The sinks of one run.
#[derive(Debug)]
pub struct Sinks {
    log: Option<(EventLog, Health)>,
    snapshots: Option<(Snapshots, Health)>,
    outbox: Option<(Outbox, Health)>,
    metrics: Option<Arc<Metrics>>,
    live: Option<Arc<Live>>,
    full: Option<Full>,
}

/// The disk is full.
#[derive(Debug, Clone)]
struct Full {
    id: String,
    started: Timestamp,
    last_try: Instant,
}

impl Sinks {
    /// Any of them may be absent.
    pub fn new(log: Option<EventLog>, snapshots: Option<Snapshots>, outbox: Option<Outbox>) -> Sinks {
        let outbox = outbox.map(|outbox| {
            let health = Health::new(format!("event store {}", outbox.store().path().display()));
            (outbox, health)
        });
        let mut sinks = Sinks { log: None, snapshots: None, outbox, metrics: None, live: None, full: None };
        sinks.replace(Some(log), Some(snapshots));
        sinks
    }

    /// Counts events there.
    pub fn counted_by(&mut self, metrics: Arc<Metrics>) {
        self.metrics = Some(metrics);
    }

    /// Keeps the scores of a minute in the store, where there is one.
    pub fn keep_minute(&mut self, minute: &Minute) {
        if let Some((outbox, health)) = &mut self.outbox {
            health.note(outbox.store().keep_minute(minute).map_err(io::Error::other));
        }
    }

    /// Goes on with another log and another folder of pictures, or with none; `None` keeps what is there.
    pub fn replace(&mut self, log: Option<Option<EventLog>>, snapshots: Option<Option<Snapshots>>) {
        if let Some(log) = log {
            self.log = log.map(|log| {
                let health = Health::new(format!("event log {}", log.path().display()));
                (log, health)
            });
        }
        if let Some(snapshots) = snapshots {
            self.snapshots = snapshots.map(|snapshots| {
                let health = Health::new(format!("snapshots in {}", snapshots.folder().display()));
                (snapshots, health)
            });
        }
    }

    /// What is sent out of the store, where there is one.
    pub fn outbox_mut(&mut self) -> Option<&mut Outbox> {
        self.outbox.as_mut().map(|(outbox, _)| outbox)
    }

    /// Writes the picture of an event and says where it is.
    pub fn picture(&mut self, event_id: &str, shown: &Shown<'_>) -> Option<PathBuf> {
        let (snapshots, health) = self.snapshots.as_mut()?;
        let mut written = snapshots.write(event_id, shown);
        if written.as_ref().is_err_and(|e| e.kind() == io::ErrorKind::StorageFull) && free(snapshots) {
            written = snapshots.write(event_id, shown);
        }
        health.note(written)
    }

    /// Shows troubles to whoever looks.
    pub fn shown_by(&mut self, live: Arc<Live>) {
        self.live = Some(live);
    }

    /// Sends out a message.
    pub fn send(&mut self, message: &Message) {
        match message {
            Message::Anomaly(event) => {
                log::info!("event {}: {:?}, top score {:.4}", event.id, event.kind, event.top_score);
            }
            Message::Camera(event) | Message::Device(event) => {
                let subject = message.subject().name();
                log::warn!("event {}: {subject} {}: {:?}: {}", event.id, event.trouble, event.kind, event.detail);
            }
        }
        if let (Some(live), Message::Camera(event) | Message::Device(event)) = (&self.live, message) {
            live.trouble(event);
        }
        if let Some(metrics) = self.metrics.as_ref().filter(|_| message.kind() == EventKind::New) {
            metrics.event(message.subject());
        }
        if let Some((log, health)) = &mut self.log {
            let appended = log.append(message);
            health.note(appended);
        }
        self.record(message);
    }

    /// To be called now and then: whether a disk that was full can be written again.
    pub fn look_after(&mut self) {
        let Some(full) = &mut self.full else { return };
        if full.last_try.elapsed() < RETRY {
            return;
        }
        full.last_try = Instant::now();
        if self.outbox.as_ref().is_some_and(|(outbox, _)| outbox.store().settle())
            && let Some(full) = self.full.take()
        {
            self.tell_full(&full, EventKind::End, "it can be written again");
        }
    }

    /// Lets the sinks take what is waiting, for at most `patience`, and ends them.
    pub fn finish(&mut self, patience: Duration) {
        if let Some((outbox, _)) = &mut self.outbox {
            outbox.finish(patience);
        }
    }

    /// One line for each sink that lost something.
    pub fn losses(&self) -> Vec<String> {
        let log = self.log.iter().map(|(_, health)| health);
        let snapshots = self.snapshots.iter().map(|(_, health)| health);
        log.chain(snapshots).filter_map(Health::losses).collect()
    }

    fn record(&mut self, message: &Message) {
        let Some((outbox, health)) = &mut self.outbox else { return };
        let store = Arc::clone(outbox.store());
        let Recorded::InMemory(error) = store.record(message) else {
            health.note(Ok(()));
            return;
        };
        if error.is_full() && self.snapshots.as_ref().is_some_and(|(snapshots, _)| free(snapshots)) && store.settle() {
            health.note(Ok(()));
        } else {
            let is_full = error.is_full();
            health.note::<()>(Err(io::Error::other(error)));
            if is_full && self.full.is_none() {
                let now = Timestamp::now();
                let full = Full { id: new_id(now), started: now, last_try: Instant::now() };
                self.full = Some(full.clone());
                self.tell_full(&full, EventKind::New, "events are kept in memory and sent; old pictures were deleted");
            }
        }
    }

    fn tell_full(&mut self, full: &Full, kind: EventKind, detail: &str) {
        self.send(&Message::Device(TroubleEvent {
            kind,
            id: full.id.clone(),
            time: Timestamp::now(),
            started: full.started,
            trouble: Trouble::DiskFull,
            detail: detail.to_owned(),
            attempts: 0,
        }));
    }
}

/// The pause after so many attempts that failed: doubled with each up to `longest`, and between half and all of that, so
/// that many devices do not come all at once.
fn backoff(attempts: u32, longest: Duration) -> Duration {
    let doubled = FIRST_PAUSE.saturating_mul(1 << attempts.saturating_sub(1).min(20));
    doubled.min(longest).mul_f64(0.5 + 0.5 * fastrand::f64())
}

/// Deletes the oldest pictures; says whether any went.
fn free(snapshots: &Snapshots) -> bool {
    match snapshots.free(FREED) {
        Ok(freed) => freed > 0,
        Err(error) => {
            log::warn!("snapshots in {}: {error}", snapshots.folder().display());
            false
        }
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
        let mut sinks = Sinks::new(None, Some(Snapshots::open(settings, Vec::new().into()).unwrap()), None);
        let mut picture = |second| {
            let id = new_id(Timestamp::from_second(second).unwrap());
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
