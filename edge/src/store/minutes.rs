//! Scores by the minute: what a chart of weeks shows, for next to nothing on the disk.

use jiff::Timestamp;
use rusqlite::{Connection, Row, params};

const MINUTE_SECS: i64 = 60;

/// The scores of one minute.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Minute {
    /// When it begins, UTC; a whole minute.
    pub start: Timestamp,
    /// How many frames have a score, at least 1.
    pub frames: u64,
    /// How many of them were anomalous.
    pub anomalous: u64,
    /// The lowest score.
    pub lowest: f32,
    /// The mean score.
    pub mean: f32,
    /// The highest score.
    pub highest: f32,
}

/// Gathers scores until their minute is over.
#[derive(Debug, Default)]
pub struct Minutes {
    current: Option<Minute>,
}

impl Minutes {
    /// Takes in a frame's score; gives the minute before, once that is over.
    pub fn add(&mut self, score: f32, anomalous: bool, time: Timestamp) -> Option<Minute> {
        let second = time.as_second();
        let start = Timestamp::from_second(second - second.rem_euclid(MINUTE_SECS)).unwrap_or(time);
        let one = Minute { start, frames: 1, anomalous: anomalous.into(), lowest: score, mean: score, highest: score };
        match &mut self.current {
            Some(current) if current.start == start => {
                current.frames += 1;
                current.anomalous += one.anomalous;
                current.lowest = current.lowest.min(score);
                current.highest = current.highest.max(score);
                current.mean += (score - current.mean) / current.frames as f32;
                None
            }
            current => current.replace(one),
        }
    }

    /// The minute that is not over yet.
    pub fn end(&mut self) -> Option<Minute> {
        self.current.take()
    }
}

/// Writes a minute, in one transaction. What is there of the same minute, from before a restart, becomes one with it.
pub(super) fn write(connection: &Connection, minute: &Minute) -> rusqlite::Result<()> {
    let text = "INSERT INTO minutes (start, frames, anomalous, lowest, mean, highest) VALUES (?, ?, ?, ?, ?, ?)
                ON CONFLICT (start) DO UPDATE SET frames = frames + excluded.frames,
                anomalous = anomalous + excluded.anomalous, lowest = min(lowest, excluded.lowest),
                mean = (mean * frames + excluded.mean * excluded.frames) / (frames + excluded.frames),
                highest = max(highest, excluded.highest)";
    let Minute { start, frames, anomalous, lowest, mean, highest } = *minute;
    let values = params![start.as_second(), frames as i64, anomalous as i64, lowest, mean, highest];
    connection.prepare_cached(text)?.execute(values).map(drop)
}

/// The minutes that begin at `since` or later, in their order.
pub(super) fn read(connection: &Connection, since: Timestamp) -> rusqlite::Result<Vec<Minute>> {
    let text = "SELECT start, frames, anomalous, lowest, mean, highest FROM minutes WHERE start >= ? ORDER BY start";
    let minute = |row: &Row<'_>| {
        Ok(Minute {
            start: Timestamp::from_second(row.get(0)?).unwrap_or_default(),
            frames: row.get::<_, i64>(1)?.unsigned_abs(),
            anomalous: row.get::<_, i64>(2)?.unsigned_abs(),
            lowest: row.get(3)?,
            mean: row.get(4)?,
            highest: row.get(5)?,
        })
    };
    connection.prepare_cached(text)?.query_map([since.as_second()], minute)?.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_minute_is_given_when_the_next_begins_and_the_last_at_the_end() {
        let mut minutes = Minutes::default();
        assert_eq!(minutes.add(0.2, false, at(119)), None);
        let first = minutes.add(0.1, false, at(120)).unwrap();
        assert_eq!((first.start, first.frames, first.lowest, first.highest), (at(60), 1, 0.2, 0.2));
        assert_eq!(minutes.add(0.5, true, at(150)), None);
        assert_eq!(minutes.add(0.3, false, at(179)), None);
        let second = minutes.end().unwrap();
        assert!((second.mean - 0.3).abs() < 1e-6);
        let expected = Minute { start: at(120), frames: 3, anomalous: 1, lowest: 0.1, mean: second.mean, highest: 0.5 };
        assert_eq!(second, expected);
        assert_eq!(minutes.end(), None);
        // A clock that is set back gives the minute that was open, too.
        minutes.add(0.2, false, at(600));
        assert_eq!(minutes.add(0.2, false, at(5)).unwrap().start, at(600));
    }
}
