//! What is done with the store's tables, on the disk and in memory alike.

use super::{Pending, StoreSettings};
use crate::event::{EventKind, Message};
use crate::sinks::filter::Filter;
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};
use std::time::Duration;

/// The window of a filter's rate.
const HOUR: Duration = Duration::from_secs(3600);

/// The share of the events that goes when the file is too large.
const SHARE_FREED: i64 = 10;

/// How a sink does.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SinkState {
    /// Its name.
    pub name: String,
    /// Messages it has yet to take.
    pub pending: i64,
    /// Messages it has taken.
    pub delivered: i64,
    /// Messages it would not take.
    pub refused: i64,
    /// When it last took one, UTC.
    pub last_success: Option<Timestamp>,
}

/// An event as it is kept.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredEvent {
    /// The last message about it.
    pub message: Message,
    /// Whether it is still going on.
    pub is_open: bool,
}

/// Writes a message, its event, and a row for each sink that is to have it.
pub fn write(
    connection: &mut Connection,
    seq: i64,
    message: &Message,
    sinks: &[(String, Filter)],
) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    let body = serde_json::to_string(message).map_err(|e| rusqlite::Error::ToSqlConversionFailure(e.into()))?;
    let ended = (message.kind() == EventKind::End).then(|| message.time().as_millisecond());
    upsert_event(
        &transaction,
        message.id(),
        message.subject().name(),
        message.started().as_millisecond(),
        ended,
        &body,
    )?;
    let mut wanted = false;
    for (name, filter) in sinks {
        if wants(&transaction, name, filter, message)? {
            wanted = true;
            transaction.prepare_cached("INSERT INTO pending (sink, seq) VALUES (?, ?)")?.execute(params![name, seq])?;
        }
    }
    if wanted {
        transaction.prepare_cached("INSERT INTO messages (seq, body) VALUES (?, ?)")?.execute(params![seq, body])?;
    }
    transaction.commit()
}

/// Whether a sink is to have a message: by its filter for the first message about an event, and then as it was told of that
/// event. What it heard the beginning of, it hears the end of.
fn wants(transaction: &Transaction<'_>, sink: &str, filter: &Filter, message: &Message) -> rusqlite::Result<bool> {
    let told = transaction
        .prepare_cached("SELECT 1 FROM told WHERE sink = ? AND event = ?")?
        .exists(params![sink, message.id()])?;
    match message.kind() {
        EventKind::End => return Ok(told),
        EventKind::Update if told => return Ok(filter.updates),
        _ if told => return Ok(true),
        _ => {}
    }
    if !filter.admits(message) {
        return Ok(false);
    }
    let time = message.time();
    if let Some(limit) = filter.max_per_hour {
        let hour_ago = time.saturating_sub(HOUR).unwrap_or(Timestamp::MIN).as_millisecond();
        let recently: u32 = transaction
            .prepare_cached("SELECT count(*) FROM told WHERE sink = ? AND time > ?")?
            .query_row(params![sink, hour_ago], |row| row.get(0))?;
        if recently >= limit {
            return Ok(false);
        }
    }
    transaction.prepare_cached("INSERT INTO told (sink, event, time) VALUES (?, ?, ?)")?.execute(params![
        sink,
        message.id(),
        time.as_millisecond()
    ])?;
    Ok(true)
}

fn upsert_event(
    transaction: &Transaction<'_>,
    id: &str,
    subject: &str,
    started: i64,
    ended: Option<i64>,
    last: &str,
) -> rusqlite::Result<()> {
    let text = "INSERT INTO events (id, subject, started, ended, last) VALUES (?, ?, ?, ?, ?)
                ON CONFLICT (id) DO UPDATE SET ended = excluded.ended, last = excluded.last";
    transaction.prepare_cached(text)?.execute(params![id, subject, started, ended, last])?;
    Ok(())
}

/// The first message after `after` that a sink has to have.
pub fn next(connection: &Connection, sink: &str, after: i64) -> rusqlite::Result<Option<Pending>> {
    let text =
        "SELECT seq, body FROM pending JOIN messages USING (seq) WHERE sink = ? AND seq > ? ORDER BY seq LIMIT 1";
    let found = |row: &Row<'_>| Ok(Pending { seq: row.get(0)?, body: row.get(1)? });
    connection.prepare_cached(text)?.query_row(params![sink, after], found).optional()
}

/// Notes that a sink has taken, or will never take, what it was to have up to `seq`, and forgets messages nobody waits for.
pub fn settle(
    connection: &mut Connection,
    sink: &str,
    seq: i64,
    delivered: bool,
    now: Timestamp,
) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    let gone =
        transaction.prepare_cached("DELETE FROM pending WHERE sink = ? AND seq <= ?")?.execute(params![sink, seq])?;
    if gone == 0 {
        return Ok(());
    }
    transaction
        .prepare_cached(
            "DELETE FROM messages WHERE seq <= ? AND NOT EXISTS (SELECT 1 FROM pending WHERE pending.seq = messages.seq)",
        )?
        .execute([seq])?;
    let state = SinkState {
        name: sink.to_owned(),
        delivered: i64::from(delivered),
        refused: i64::from(!delivered),
        last_success: delivered.then_some(now),
        ..SinkState::default()
    };
    add_to_sink(&transaction, &state)?;
    transaction.commit()
}

fn add_to_sink(transaction: &Transaction<'_>, state: &SinkState) -> rusqlite::Result<()> {
    let text = "INSERT INTO sinks (name, delivered, refused, last_success) VALUES (?, ?, ?, ?)
                ON CONFLICT (name) DO UPDATE SET delivered = delivered + excluded.delivered,
                refused = refused + excluded.refused, last_success = coalesce(excluded.last_success, last_success)";
    let last = state.last_success.map(|time| time.as_millisecond());
    transaction.prepare_cached(text)?.execute(params![state.name, state.delivered, state.refused, last])?;
    Ok(())
}

/// How a sink does.
pub fn sink_state(connection: &Connection, name: &str) -> rusqlite::Result<SinkState> {
    let pending = connection
        .prepare_cached("SELECT count(*) FROM pending WHERE sink = ?")?
        .query_row([name], |row| row.get(0))?;
    let counted = connection
        .prepare_cached("SELECT delivered, refused, last_success FROM sinks WHERE name = ?")?
        .query_row([name], |row| Ok((row.get(0)?, row.get(1)?, row.get::<_, Option<i64>>(2)?)))
        .optional()?;
    let (delivered, refused, last) = counted.unwrap_or((0, 0, None));
    let last_success = last.and_then(|ms| Timestamp::from_millisecond(ms).ok());
    Ok(SinkState { name: name.to_owned(), pending, delivered, refused, last_success })
}

/// A setting's value, where it was set.
pub fn setting(connection: &Connection, name: &str) -> rusqlite::Result<Option<String>> {
    connection.query_row("SELECT value FROM settings WHERE name = ?", [name], |row| row.get(0)).optional()
}

/// Sets a setting, or unsets it.
pub fn set(connection: &Connection, name: &str, value: Option<&str>) -> rusqlite::Result<()> {
    match value {
        Some(value) => connection.execute("INSERT OR REPLACE INTO settings VALUES (?, ?)", [name, value]),
        None => connection.execute("DELETE FROM settings WHERE name = ?", [name]),
    }
    .map(drop)
}

/// Which events are asked for.
#[derive(Debug, Clone, Copy, Default)]
pub struct EventQuery<'a> {
    /// Only those about this; see [`Subject::name`](crate::event::Subject::name).
    pub subject: Option<&'a str>,
    /// Only those that began before the event of this id.
    pub before: Option<&'a str>,
    /// Only the one of this id.
    pub id: Option<&'a str>,
    /// At most so many.
    pub count: u32,
}

impl EventQuery<'_> {
    /// The latest ones.
    pub fn latest(count: u32) -> EventQuery<'static> {
        EventQuery { count, ..EventQuery::default() }
    }
}

/// Events, the newest first.
pub fn events(connection: &Connection, query: EventQuery<'_>) -> rusqlite::Result<Vec<StoredEvent>> {
    let text = "SELECT last, ended IS NULL FROM events WHERE subject = coalesce(?1, subject) AND id < coalesce(?2, '~')
                AND id = coalesce(?3, id) ORDER BY id DESC LIMIT ?4";
    let EventQuery { subject, before, id, count } = query;
    let mut statement = connection.prepare_cached(text)?;
    let rows =
        statement.query_map(params![subject, before, id, count], |row| Ok((row.get::<_, String>(0)?, row.get(1)?)))?;
    // What a newer program wrote may be of a kind that is not known here.
    let known = rows.filter_map(|row| match row {
        Ok((body, is_open)) => serde_json::from_str(&body).ok().map(|message| Ok(StoredEvent { message, is_open })),
        Err(error) => Some(Err(error)),
    });
    known.collect()
}

/// The last message of each event that has not ended.
pub fn open_events(connection: &Connection) -> rusqlite::Result<Vec<Message>> {
    let mut found = connection.prepare("SELECT last FROM events WHERE ended IS NULL ORDER BY id")?;
    let bodies: Vec<String> = found.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    Ok(bodies.iter().filter_map(|body| serde_json::from_str(body).ok()).collect())
}

/// The place of the last message that is kept, 0 where there is none.
pub fn last_seq(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("SELECT coalesce(max(seq), 0) FROM messages", [], |row| row.get(0))
}

/// Forgets what is kept for sinks that are no more.
pub fn forget_other_sinks(connection: &Connection, names: &[&str]) -> rusqlite::Result<()> {
    let known: Vec<String> = {
        let mut found = connection.prepare("SELECT DISTINCT sink FROM pending UNION SELECT name FROM sinks")?;
        found.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?
    };
    for name in known.iter().filter(|name| !names.contains(&name.as_str())) {
        connection.execute("DELETE FROM pending WHERE sink = ?", [name])?;
        connection.execute("DELETE FROM told WHERE sink = ?", [name])?;
        connection.execute("DELETE FROM sinks WHERE name = ?", [name])?;
    }
    connection.execute("DELETE FROM messages WHERE seq NOT IN (SELECT seq FROM pending)", [])?;
    Ok(())
}

/// Forgets events and minutes of too long ago, and the oldest tenth while the file is too large, but no event that is open. What a
/// sink has yet to be told stays.
pub fn prune(connection: &mut Connection, settings: &StoreSettings, now: Timestamp) -> rusqlite::Result<()> {
    let since = now.saturating_sub(settings.max_age).unwrap_or(Timestamp::MIN).as_millisecond();
    forget_events(connection, "ended < ?", since)?;
    connection.execute("DELETE FROM minutes WHERE start < ? / 1000", [since])?;
    let pragma = |connection: &Connection, name: &str| -> rusqlite::Result<i64> {
        connection.pragma_query_value(None, name, |row| row.get(0))
    };
    let used = (pragma(connection, "page_count")? - pragma(connection, "freelist_count")?)
        .saturating_mul(pragma(connection, "page_size")?);
    if used > i64::try_from(settings.max_bytes).unwrap_or(i64::MAX) {
        let events: i64 = connection.query_row("SELECT count(*) FROM events", [], |row| row.get(0))?;
        let few = "ended IS NOT NULL AND id IN (SELECT id FROM events ORDER BY id LIMIT ?)";
        forget_events(connection, few, (events / SHARE_FREED).max(1))?;
        let few = "DELETE FROM minutes WHERE start IN (SELECT start FROM minutes ORDER BY start
                   LIMIT (SELECT count(*) / ? FROM minutes))";
        connection.execute(few, [SHARE_FREED])?;
    }
    // In small steps: what is free is used again, or given back.
    connection.execute_batch("PRAGMA incremental_vacuum(64)")
}

fn forget_events(connection: &mut Connection, which: &str, value: i64) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    transaction.execute(&format!("DELETE FROM events WHERE {which}"), [value])?;
    transaction.execute("DELETE FROM told WHERE event NOT IN (SELECT id FROM events)", [])?;
    transaction.commit()
}

/// Forgets all but so many of the newest messages; gives how many went.
pub fn keep_newest(connection: &Connection, count: u64) -> rusqlite::Result<usize> {
    let oldest = last_seq(connection)?.saturating_sub(i64::try_from(count).unwrap_or(i64::MAX));
    connection.prepare_cached("DELETE FROM pending WHERE seq <= ?")?.execute([oldest])?;
    connection.prepare_cached("DELETE FROM messages WHERE seq <= ?")?.execute([oldest])
}

/// Copies which sink is told of which event.
pub fn copy_told(from: &Connection, to: &Connection) -> rusqlite::Result<()> {
    each(from, "SELECT sink, event, time FROM told", |row| {
        let (sink, event, time): (String, String, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let text = "INSERT OR IGNORE INTO told (sink, event, time) VALUES (?, ?, ?)";
        to.prepare_cached(text)?.execute(params![sink, event, time]).map(drop)
    })
}

/// Adds all that one store has to another, all or nothing.
pub fn copy(from: &Connection, to: &mut Connection) -> rusqlite::Result<()> {
    let transaction = to.transaction()?;
    each(from, "SELECT id, subject, started, ended, last FROM events", |row| {
        let (id, subject, last): (String, String, String) = (row.get(0)?, row.get(1)?, row.get(4)?);
        upsert_event(&transaction, &id, &subject, row.get(2)?, row.get(3)?, &last)
    })?;
    each(from, "SELECT seq, body FROM messages", |row| {
        let (seq, body): (i64, String) = (row.get(0)?, row.get(1)?);
        transaction.execute("INSERT INTO messages (seq, body) VALUES (?, ?)", params![seq, body]).map(drop)
    })?;
    each(from, "SELECT sink, seq FROM pending", |row| {
        let (sink, seq): (String, i64) = (row.get(0)?, row.get(1)?);
        transaction.execute("INSERT INTO pending (sink, seq) VALUES (?, ?)", params![sink, seq]).map(drop)
    })?;
    copy_told(from, &transaction)?;
    each(from, "SELECT name FROM sinks", |row| {
        let name: String = row.get(0)?;
        add_to_sink(&transaction, &sink_state(from, &name)?)
    })?;
    transaction.commit()
}

fn each(
    connection: &Connection,
    text: &str,
    mut work: impl FnMut(&Row<'_>) -> rusqlite::Result<()>,
) -> rusqlite::Result<()> {
    let mut statement = connection.prepare(text)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        work(row)?;
    }
    Ok(())
}
