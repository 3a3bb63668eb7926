//! The event store: what has happened, and what each sink has yet to be told, in one SQLite file.
//!
//! An event is on the disk before anything is sent. With each message goes a row for each sink that is to have it, in one
//! transaction; the row goes when the sink has taken the message. So whatever is cut off where, nothing is lost, and a
//! message whose row could not be deleted any more is sent again, under the same key.
//!
//! Where nothing can be written, messages are kept in memory in the same form, and go to the disk when that can be written
//! again.

mod enrolled;
mod minutes;
mod schema;
mod tables;

use crate::event::Message;
use crate::sinks::filter::Filter;
pub use enrolled::Enrolment;
use jiff::Timestamp;
pub use minutes::{Minute, Minutes};
use rusqlite::Connection;
pub use schema::look_at;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
pub use tables::{EventQuery, SinkState, StoredEvent};

/// How many messages are kept in memory while nothing can be written.
const MOST_IN_MEMORY: u64 = 10_000;

/// After so many messages and minutes old ones are looked for.
const PRUNE_EVERY: u64 = 100;

/// Where the store is and what it keeps.
#[derive(Debug, Clone, PartialEq)]
pub struct StoreSettings {
    /// The file.
    pub path: PathBuf,
    /// Events that ended longer ago are forgotten.
    pub max_age: Duration,
    /// The oldest events are forgotten so that the file stays below this, bytes.
    pub max_bytes: u64,
}

/// Why the store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// SQLite's words.
    #[error("{}: {source}", path.display())]
    Sqlite {
        /// The store's file.
        path: PathBuf,
        /// What SQLite says.
        source: rusqlite::Error,
    },
    /// The operating system's words.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or the folder.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A newer program has written it.
    #[error("{}: written by a newer salad-edge (version {version}); update salad-edge, or name another file", path.display())]
    Newer {
        /// The store's file.
        path: PathBuf,
        /// Version of its tables.
        version: i64,
    },
}

impl StoreError {
    /// Whether it is for want of space.
    pub fn is_full(&self) -> bool {
        match self {
            StoreError::Sqlite { source, .. } => source.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull),
            StoreError::Io { source, .. } => source.kind() == std::io::ErrorKind::StorageFull,
            StoreError::Newer { .. } => false,
        }
    }
}

/// Where a message was written.
#[derive(Debug)]
pub enum Recorded {
    /// On the disk.
    OnDisk,
    /// In memory only, since the disk cannot be written.
    InMemory(StoreError),
}

/// What a sink gets next.
#[derive(Debug, Clone, PartialEq)]
pub struct Pending {
    /// Its place in the order of all messages.
    pub seq: i64,
    /// The message, JSON.
    pub body: String,
}

/// The store; threads share it.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    state: Mutex<State>,
    news: Condvar,
}

#[derive(Debug)]
struct State {
    settings: StoreSettings,
    sinks: Vec<(String, Filter)>,
    disk: Connection,
    /// What could not be written to the disk yet; its sequence goes on from the disk's.
    memory: Option<Connection>,
    next_seq: i64,
    since_prune: u64,
}

impl Store {
    /// Opens the store, making it where it is missing, for sinks with these names and filters. Events that were open when
    /// the program last ended are ended now. A file that is no store any more is put aside under another name.
    pub fn open(settings: StoreSettings, sinks: Vec<(String, Filter)>, now: Timestamp) -> Result<Store, StoreError> {
        let path = &settings.path;
        let disk = match schema::open(path) {
            Err(error) if schema::is_damaged(&error) => {
                let aside = put_aside(path, now)?;
                log::error!("{error}; it was put aside as {}, and a new store begins", aside.display());
                schema::open(path)?
            }
            other => other?,
        };
        let failed = |source| StoreError::Sqlite { path: path.clone(), source };
        let names: Vec<&str> = sinks.iter().map(|(name, _)| name.as_str()).collect();
        tables::forget_other_sinks(&disk, &names).map_err(failed)?;
        let next_seq = tables::last_seq(&disk).map_err(failed)? + 1;
        let open = tables::open_events(&disk).map_err(failed)?;
        let (path, since_prune) = (path.clone(), PRUNE_EVERY);
        let state = State { settings, sinks, disk, memory: None, next_seq, since_prune };
        let store = Store { path, state: Mutex::new(state), news: Condvar::new() };
        for event in open {
            store.record(&event.interrupted(now));
        }
        Ok(store)
    }

    /// Opens a store that another program may be running with: no event is ended, and no sink's messages are forgotten.
    pub fn visit(settings: StoreSettings) -> Result<Store, StoreError> {
        let path = settings.path.clone();
        if !path.exists() {
            let source =
                std::io::Error::new(std::io::ErrorKind::NotFound, "there is no event store yet; `run` makes it");
            return Err(StoreError::Io { path, source });
        }
        let disk = schema::open(&path)?;
        let next_seq = tables::last_seq(&disk).map_err(|source| StoreError::Sqlite { path: path.clone(), source })? + 1;
        let state = State { disk, memory: None, next_seq, since_prune: 0, settings, sinks: Vec::new() };
        Ok(Store { path, state: Mutex::new(state), news: Condvar::new() })
    }

    /// The store's file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Goes on for sinks with these names and filters, and with another age and size; its path stays. What was kept for other
    /// sinks is forgotten.
    pub fn change(&self, settings: &StoreSettings, sinks: Vec<(String, Filter)>) -> Result<(), StoreError> {
        let mut state = self.state();
        state.settings = settings.clone();
        state.sinks = sinks;
        let names: Vec<&str> = state.sinks.iter().map(|(name, _)| name.as_str()).collect();
        let mut places = std::iter::once(&state.disk).chain(&state.memory);
        places.try_for_each(|place| tables::forget_other_sinks(place, &names)).map_err(|source| self.failure(source))
    }

    /// Writes a message down, on the disk if that is possible, and wakes the sinks it is for.
    pub fn record(&self, message: &Message) -> Recorded {
        let mut state = self.state();
        let seq = state.next_seq;
        state.next_seq += 1;
        let written = self.to_disk(&mut state, seq, message);
        let recorded = match written {
            Ok(()) => Recorded::OnDisk,
            Err(error) => {
                if let Err(lost) = self.to_memory(&mut state, seq, message) {
                    log::error!("{}: the message {} is lost: {lost}", self.path().display(), message.key());
                }
                Recorded::InMemory(error)
            }
        };
        drop(state);
        self.news.notify_all();
        recorded
    }

    /// Moves what is kept in memory to the disk, where that can be written again; says whether nothing is left in memory.
    pub fn settle(&self) -> bool {
        self.bring_to_disk(&mut self.state()).is_ok()
    }

    /// The first message after `after` that a sink has to have, once there is one; `None` after `patience`, or when
    /// somebody has called [`wake`](Store::wake).
    pub fn next(&self, sink: &str, after: i64, patience: Duration) -> Result<Option<Pending>, StoreError> {
        let state = self.state();
        if let Some(found) = self.find(&state, sink, after)? {
            return Ok(Some(found));
        }
        let state = self.news.wait_timeout(state, patience).unwrap_or_else(PoisonError::into_inner).0;
        self.find(&state, sink, after)
    }

    /// Makes all calls of [`next`](Store::next) return.
    pub fn wake(&self) {
        self.news.notify_all();
    }

    /// Notes that a sink has taken all messages up to `seq`; what nobody waits for any more is forgotten.
    pub fn delivered(&self, sink: &str, seq: i64, now: Timestamp) -> Result<(), StoreError> {
        self.on_both(|connection| tables::settle(connection, sink, seq, true, now))
    }

    /// Notes that a sink will never take a message.
    pub fn refused(&self, sink: &str, seq: i64, now: Timestamp) -> Result<(), StoreError> {
        self.on_both(|connection| tables::settle(connection, sink, seq, false, now))
    }

    /// How each sink does, in the order they were given.
    pub fn sinks(&self) -> Result<Vec<SinkState>, StoreError> {
        let state = self.state();
        let names = state.sinks.iter().map(|(name, _)| name);
        let on = |connection: &Connection, name: &str| tables::sink_state(connection, name);
        names
            .map(|name| {
                let mut found = on(&state.disk, name)?;
                if let Some(memory) = &state.memory {
                    let more = on(memory, name)?;
                    found.pending += more.pending;
                    found.delivered += more.delivered;
                    found.refused += more.refused;
                }
                Ok(found)
            })
            .collect::<Result<_, _>>()
            .map_err(|source| self.failure(source))
    }

    /// What was set under a name, if anything was.
    pub fn setting(&self, name: &str) -> Result<Option<String>, StoreError> {
        tables::setting(&self.state().disk, name).map_err(|source| self.failure(source))
    }

    /// Sets what holds under a name, or unsets it.
    pub fn set(&self, name: &str, value: Option<&str>) -> Result<(), StoreError> {
        tables::set(&self.state().disk, name, value).map_err(|source| self.failure(source))
    }

    /// Keeps the scores of a minute, for as long as events are kept. While the disk cannot be written, minutes are lost.
    pub fn keep_minute(&self, minute: &Minute) -> Result<(), StoreError> {
        let mut state = self.state();
        minutes::write(&state.disk, minute).map_err(|source| self.failure(source))?;
        self.prune_now_and_then(&mut state, minute.start);
        Ok(())
    }

    /// The scores of minutes that begin at `since` or later, in their order; of a minute without frames there is nothing.
    pub fn minutes(&self, since: Timestamp) -> Result<Vec<Minute>, StoreError> {
        minutes::read(&self.state().disk, since).map_err(|source| self.failure(source))
    }

    /// Events, the newest first.
    pub fn events(&self, query: EventQuery<'_>) -> Result<Vec<StoredEvent>, StoreError> {
        let state = self.state();
        let mut events = tables::events(&state.disk, query).map_err(|source| self.failure(source))?;
        if let Some(memory) = &state.memory {
            let newer = tables::events(memory, query).map_err(|source| self.failure(source))?;
            events.retain(|event| newer.iter().all(|n| n.message.id() != event.message.id()));
            events.extend(newer);
            events.sort_by(|a, b| b.message.id().cmp(a.message.id()));
            events.truncate(query.count as usize);
        }
        Ok(events)
    }

    /// The event of this id.
    pub fn event(&self, id: &str) -> Result<Option<StoredEvent>, StoreError> {
        Ok(self.events(EventQuery { id: Some(id), count: 1, ..EventQuery::default() })?.pop())
    }

    fn to_disk(&self, state: &mut State, seq: i64, message: &Message) -> Result<(), StoreError> {
        self.bring_to_disk(state)?;
        tables::write(&mut state.disk, seq, message, &state.sinks).map_err(|source| self.failure(source))?;
        self.prune_now_and_then(state, message.time());
        Ok(())
    }

    fn prune_now_and_then(&self, state: &mut State, now: Timestamp) {
        state.since_prune += 1;
        if state.since_prune >= PRUNE_EVERY {
            state.since_prune = 0;
            if let Err(error) = tables::prune(&mut state.disk, &state.settings, now) {
                log::warn!("{}: old events cannot be deleted: {error}", self.path().display());
            }
        }
    }

    fn bring_to_disk(&self, state: &mut State) -> Result<(), StoreError> {
        if let Some(memory) = &state.memory {
            tables::copy(memory, &mut state.disk).map_err(|source| self.failure(source))?;
            state.memory = None;
        }
        Ok(())
    }

    fn to_memory(&self, state: &mut State, seq: i64, message: &Message) -> Result<(), StoreError> {
        let memory = match &mut state.memory {
            Some(memory) => memory,
            empty => {
                let fresh = schema::in_memory(&state.disk).map_err(|source| self.failure(source))?;
                empty.insert(fresh)
            }
        };
        tables::write(memory, seq, message, &state.sinks).map_err(|source| self.failure(source))?;
        let lost = tables::keep_newest(memory, MOST_IN_MEMORY).map_err(|source| self.failure(source))?;
        if lost > 0 {
            log::error!("{}: {lost} message is lost: too many are waiting in memory", self.path().display());
        }
        Ok(())
    }

    fn find(&self, state: &State, sink: &str, after: i64) -> Result<Option<Pending>, StoreError> {
        let places = std::iter::once(&state.disk).chain(&state.memory);
        for connection in places {
            if let Some(found) = tables::next(connection, sink, after).map_err(|source| self.failure(source))? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// Both, since what was in memory a moment ago may have come to the disk.
    fn on_both(&self, work: impl Fn(&mut Connection) -> rusqlite::Result<()>) -> Result<(), StoreError> {
        let mut state = self.state();
        if let Some(memory) = &mut state.memory {
            work(memory).map_err(|source| self.failure(source))?;
        }
        work(&mut state.disk).map_err(|source| self.failure(source))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failure(&self, source: rusqlite::Error) -> StoreError {
        StoreError::Sqlite { path: self.path.clone(), source }
    }
}

/// Renames a file that is no store, with what SQLite keeps beside it.
fn put_aside(path: &Path, now: Timestamp) -> Result<PathBuf, StoreError> {
    let named = |ending: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(ending);
        PathBuf::from(name)
    };
    let aside = named(&now.strftime(".damaged-%Y%m%dT%H%M%SZ").to_string());
    std::fs::rename(path, &aside).map_err(|source| StoreError::Io { path: path.into(), source })?;
    for ending in ["-wal", "-shm"] {
        let _ = std::fs::remove_file(named(ending));
    }
    Ok(aside)
}

#[cfg(test)]
mod tests;
