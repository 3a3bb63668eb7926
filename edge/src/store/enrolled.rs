//! Samples of events, and what somebody has called normal. On the disk alone: where that is full, events come first.

use super::{Store, StoreError};
use crate::samples::Sample;
use jiff::Timestamp;
use rusqlite::{Connection, Row, params};

/// Prototypes that were added, as one.
#[derive(Debug, Clone, PartialEq)]
pub struct Enrolment {
    /// Its number, never used again.
    pub id: i64,
    /// When it was added, UTC.
    pub time: Timestamp,
    /// The event that it is of, or the name of a picture.
    pub source: String,
    /// The encoder whose embeddings these are.
    pub encoder: String,
    /// How many frames it has.
    pub frames: u32,
}

impl Store {
    /// Keeps samples of an event, whose embeddings are an encoder's.
    pub fn keep_samples(&self, event: &str, encoder: &str, samples: &[Sample]) -> Result<(), StoreError> {
        self.on_disk(|disk| {
            let transaction = disk.transaction()?;
            for sample in samples {
                transaction
                    .prepare_cached(
                        "INSERT INTO samples (event, encoder, time, score, rows, picture) VALUES (?, ?, ?, ?, ?, ?)",
                    )?
                    .execute(params![
                        event,
                        encoder,
                        sample.time.as_millisecond(),
                        sample.score,
                        to_bytes(&sample.rows),
                        sample.picture
                    ])?;
            }
            transaction.commit()
        })
    }

    /// The samples of an event for an encoder, the earliest first.
    pub fn samples(&self, event: &str, encoder: &str) -> Result<Vec<Sample>, StoreError> {
        self.on_disk(|disk| {
            let text =
                "SELECT time, score, rows, picture FROM samples WHERE event = ? AND encoder = ? ORDER BY time, id";
            disk.prepare_cached(text)?.query_map([event, encoder], sample)?.collect()
        })
    }

    /// The embeddings of all samples of events for an encoder, by event.
    pub fn sampled_rows(&self, encoder: &str) -> Result<Vec<(String, Vec<f32>)>, StoreError> {
        self.on_disk(|disk| {
            let text = "SELECT event, rows FROM samples WHERE encoder = ? ORDER BY event";
            disk.prepare_cached(text)?.query_map([encoder], |row| Ok((row.get(0)?, floats(row, 1)?)))?.collect()
        })
    }

    /// Adds prototypes of an encoder; gives their number.
    pub fn enrol(&self, source: &str, encoder: &str, samples: &[Sample], time: Timestamp) -> Result<i64, StoreError> {
        self.on_disk(|disk| {
            let transaction = disk.transaction()?;
            let text = "INSERT INTO enrolments (time, source, encoder) VALUES (?, ?, ?)";
            transaction.prepare_cached(text)?.execute(params![time.as_millisecond(), source, encoder])?;
            let id = transaction.last_insert_rowid();
            for sample in samples {
                transaction
                    .prepare_cached(
                        "INSERT INTO enrolled (enrolment, time, score, rows, picture) VALUES (?, ?, ?, ?, ?)",
                    )?
                    .execute(params![
                        id,
                        sample.time.as_millisecond(),
                        sample.score,
                        to_bytes(&sample.rows),
                        sample.picture
                    ])?;
            }
            transaction.commit()?;
            Ok(id)
        })
    }

    /// Takes prototypes away again; says whether there were any of this number.
    pub fn withdraw(&self, id: i64) -> Result<bool, StoreError> {
        self.on_disk(|disk| {
            let transaction = disk.transaction()?;
            transaction.execute("DELETE FROM enrolled WHERE enrolment = ?", [id])?;
            let count = transaction.execute("DELETE FROM enrolments WHERE id = ?", [id])?;
            transaction.commit()?;
            Ok(count > 0)
        })
    }

    /// All that was added and not taken away, the newest first.
    pub fn enrolments(&self) -> Result<Vec<Enrolment>, StoreError> {
        self.on_disk(|disk| {
            let text =
                "SELECT id, time, source, encoder, (SELECT count(*) FROM enrolled WHERE enrolment = enrolments.id)
                        FROM enrolments ORDER BY id DESC";
            let read = |row: &Row<'_>| {
                Ok(Enrolment {
                    id: row.get(0)?,
                    time: timestamp(row, 1)?,
                    source: row.get(2)?,
                    encoder: row.get(3)?,
                    frames: row.get(4)?,
                })
            };
            disk.prepare_cached(text)?.query_map([], read)?.collect()
        })
    }

    /// The embeddings that were added for an encoder, the oldest first.
    pub fn enrolled_rows(&self, encoder: &str) -> Result<Vec<Vec<f32>>, StoreError> {
        self.on_disk(|disk| {
            let text = "SELECT rows FROM enrolled JOIN enrolments ON enrolments.id = enrolment
                        WHERE encoder = ? ORDER BY enrolled.id";
            disk.prepare_cached(text)?.query_map([encoder], |row| floats(row, 0))?.collect()
        })
    }

    /// The frames of an enrolment, the earliest first.
    pub fn enrolled(&self, id: i64) -> Result<Vec<Sample>, StoreError> {
        self.on_disk(|disk| {
            let text = "SELECT time, score, rows, picture FROM enrolled WHERE enrolment = ? ORDER BY time, id";
            disk.prepare_cached(text)?.query_map([id], sample)?.collect()
        })
    }

    /// A number that changes when another program has written to the store.
    pub fn others_writes(&self) -> Result<i64, StoreError> {
        self.on_disk(|disk| disk.pragma_query_value(None, "data_version", |row| row.get(0)))
    }

    fn on_disk<T>(&self, work: impl FnOnce(&mut Connection) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        work(&mut self.state().disk).map_err(|source| self.failure(source))
    }
}

fn sample(row: &Row<'_>) -> rusqlite::Result<Sample> {
    Ok(Sample { time: timestamp(row, 0)?, score: row.get(1)?, rows: floats(row, 2)?, picture: row.get(3)? })
}

fn timestamp(row: &Row<'_>, column: usize) -> rusqlite::Result<Timestamp> {
    let milliseconds = row.get(column)?;
    Timestamp::from_millisecond(milliseconds)
        .map_err(|_| rusqlite::Error::IntegralValueOutOfRange(column, milliseconds))
}

/// f32, little-endian.
fn to_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn floats(row: &Row<'_>, column: usize) -> rusqlite::Result<Vec<f32>> {
    let bytes = row.get_ref(column)?.as_blob()?;
    Ok(bytes.as_chunks().0.iter().map(|&four| f32::from_le_bytes(four)).collect())
}
