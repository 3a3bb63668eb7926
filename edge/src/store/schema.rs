//! The store's tables, and how the file is opened.

use super::StoreError;
use rusqlite::{Connection, ErrorCode};
use std::io::Read;
use std::path::Path;
use std::time::Duration;

/// Somebody who looks into the file with another program may hold it for a moment.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// What makes each version of the tables from the one before it. The file keeps its version; a step that was published is
/// never changed. Times are milliseconds since 1970, UTC; messages are JSON.
const STEPS: [&str; 3] = [
    "
CREATE TABLE events (
    id TEXT PRIMARY KEY,
    subject TEXT NOT NULL,
    started INTEGER NOT NULL,
    ended INTEGER,
    last TEXT NOT NULL              -- the last message of the event
) WITHOUT ROWID;
CREATE TABLE messages (             -- those that some sink has yet to be told
    seq INTEGER PRIMARY KEY,
    body TEXT NOT NULL
);
CREATE TABLE pending (              -- which sink has yet to be told which
    sink TEXT NOT NULL,
    seq INTEGER NOT NULL,
    PRIMARY KEY (sink, seq)
) WITHOUT ROWID;
CREATE INDEX pending_by_seq ON pending (seq);
CREATE TABLE told (                 -- which sink is told of which event, and since when
    sink TEXT NOT NULL,
    event TEXT NOT NULL,
    time INTEGER NOT NULL,
    PRIMARY KEY (sink, event)
) WITHOUT ROWID;
CREATE INDEX told_by_time ON told (sink, time);
CREATE TABLE sinks (
    name TEXT PRIMARY KEY,
    delivered INTEGER NOT NULL DEFAULT 0,
    refused INTEGER NOT NULL DEFAULT 0,
    last_success INTEGER
) WITHOUT ROWID;
CREATE TABLE settings (             -- what was changed while the program ran
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;
",
    "
CREATE TABLE samples (              -- frames of events, as the encoder sees them and as people do
    id INTEGER PRIMARY KEY,
    event TEXT NOT NULL,
    encoder TEXT NOT NULL,
    time INTEGER NOT NULL,
    score REAL NOT NULL,
    rows BLOB NOT NULL,             -- embeddings, f32, little-endian, one after the other
    picture BLOB NOT NULL           -- JPEG
);
CREATE INDEX samples_by_event ON samples (event);
CREATE TRIGGER forget_samples AFTER DELETE ON events BEGIN
    DELETE FROM samples WHERE event = old.id;
END;
CREATE TABLE enrolments (           -- what somebody has called normal
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    time INTEGER NOT NULL,
    source TEXT NOT NULL,           -- an event's id, or a picture's name
    encoder TEXT NOT NULL
);
CREATE TABLE enrolled (
    id INTEGER PRIMARY KEY,
    enrolment INTEGER NOT NULL,
    time INTEGER NOT NULL,
    score REAL NOT NULL,
    rows BLOB NOT NULL,
    picture BLOB NOT NULL
);
CREATE INDEX enrolled_by_enrolment ON enrolled (enrolment);
",
    "
CREATE TABLE minutes (              -- scores by the minute
    start INTEGER PRIMARY KEY,      -- seconds since 1970, UTC
    frames INTEGER NOT NULL,
    anomalous INTEGER NOT NULL,
    lowest REAL NOT NULL,
    mean REAL NOT NULL,
    highest REAL NOT NULL
);
",
];

/// Opens the store's file, and makes folder, file and tables where they are missing.
pub fn open(path: &Path) -> Result<Connection, StoreError> {
    if let Some(folder) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).map_err(|source| StoreError::Io { path: folder.into(), source })?;
    }
    let failed = |source| StoreError::Sqlite { path: path.into(), source };
    let mut connection = Connection::open(path).map_err(failed)?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(failed)?;
    // Before there is a table, so that the file can become smaller again.
    connection.pragma_update(None, "auto_vacuum", "INCREMENTAL").map_err(failed)?;
    connection.pragma_update(None, "journal_mode", "WAL").map_err(failed)?;
    connection.pragma_update(None, "synchronous", "FULL").map_err(failed)?;
    connection.pragma_update(None, "journal_size_limit", 1 << 20).map_err(failed)?;
    let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(failed)?;
    let steps = usize::try_from(version).ok().and_then(|version| STEPS.get(version..));
    let Some(steps) = steps else { return Err(StoreError::Newer { path: path.into(), version }) };
    take_steps(&mut connection, steps).map_err(failed)?;
    // Reads what a damaged file cannot give.
    connection.query_row("SELECT count(*) FROM pending, sinks", [], |_| Ok(())).map_err(failed)?;
    Ok(connection)
}

/// What stands in the way of opening the store's file, as far as its first bytes tell; nothing is changed.
pub fn look_at(path: &Path) -> Result<(), StoreError> {
    let failed = |source| StoreError::Io { path: path.into(), source };
    let mut head = Vec::new();
    std::fs::File::open(path).and_then(|file| file.take(100).read_to_end(&mut head)).map_err(failed)?;
    let Some(version) = head.get(60..64).and_then(|bytes| bytes.try_into().ok()).map(u32::from_be_bytes) else {
        return Ok(()); // It is empty, as one that was just made.
    };
    if !head.starts_with(b"SQLite format 3\0") {
        let problem = "is no event store, and would be put aside under another name";
        return Err(failed(std::io::Error::new(std::io::ErrorKind::InvalidData, problem)));
    }
    if version as usize > STEPS.len() {
        return Err(StoreError::Newer { path: path.into(), version: version.into() });
    }
    Ok(())
}

/// The same tables in memory, with what decides whether a sink is told: which events it has been told of.
pub fn in_memory(disk: &Connection) -> rusqlite::Result<Connection> {
    let mut memory = Connection::open_in_memory()?;
    take_steps(&mut memory, &STEPS)?;
    super::tables::copy_told(disk, &memory)?;
    Ok(memory)
}

/// Whether an error says that the file is no store, or none any more.
pub fn is_damaged(error: &StoreError) -> bool {
    matches!(error, StoreError::Sqlite { source, .. } if matches!(
        source.sqlite_error_code(),
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt)
    ))
}

/// The last steps of [`STEPS`], all or none of them.
fn take_steps(connection: &mut Connection, steps: &[&str]) -> rusqlite::Result<()> {
    if steps.is_empty() {
        return Ok(());
    }
    let transaction = connection.transaction()?;
    for step in steps {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "user_version", STEPS.len() as i64)?;
    transaction.commit()
}
