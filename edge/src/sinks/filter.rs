//! Which events a sink is told of.

use crate::event::{Message, Subject};
use jiff::civil::{Time, Weekday};
use jiff::tz::TimeZone;

/// What a sink is told of; a message about an event that the sink was told of is not asked again.
#[derive(Debug, Clone, PartialEq)]
pub struct Filter {
    /// Which subjects.
    pub subjects: Vec<Subject>,
    /// The least top score of an anomaly.
    pub min_score: f32,
    /// When; `None` for always.
    pub schedule: Option<Schedule>,
    /// At most so many events an hour.
    pub max_per_hour: Option<u32>,
    /// Whether updates of open events are sent.
    pub updates: bool,
}

impl Default for Filter {
    fn default() -> Filter {
        Filter { subjects: Subject::ALL.to_vec(), min_score: 0.0, schedule: None, max_per_hour: None, updates: true }
    }
}

impl Filter {
    /// Whether an event begins to concern the sink with this message.
    pub fn admits(&self, message: &Message) -> bool {
        self.subjects.contains(&message.subject())
            && message.top_score().is_none_or(|score| score >= self.min_score)
            && self.schedule.as_ref().is_none_or(|schedule| schedule.contains(message))
    }
}

/// Hours of days of the week.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    /// On which days; hours over midnight belong to the day they begin on.
    pub days: Vec<Weekday>,
    /// From this time on.
    pub from: Time,
    /// Up to this time; the same as `from` is the whole day, an earlier one is on the next day.
    pub to: Time,
    /// Whose time.
    pub zone: TimeZone,
}

impl Schedule {
    fn contains(&self, message: &Message) -> bool {
        let at = self.zone.to_datetime(message.time());
        let (time, today) = (at.time(), at.weekday());
        let on = |day: Weekday| self.days.contains(&day);
        if self.from < self.to {
            return on(today) && (self.from..self.to).contains(&time);
        }
        if time >= self.from { on(today) } else { (time < self.to || self.from == self.to) && on(today.previous()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::tests::{anomaly, trouble};
    use jiff::Timestamp;

    fn at(time: &str) -> Message {
        anomaly(time.parse::<Timestamp>().unwrap(), 0.5)
    }

    fn schedule(from: i8, to: i8) -> Schedule {
        let hour = |hour| Time::new(hour, 0, 0, 0).unwrap();
        let days = vec![Weekday::Monday, Weekday::Friday];
        Schedule { days, from: hour(from), to: hour(to), zone: TimeZone::UTC }
    }

    #[test]
    fn hours_of_one_day_are_those_of_that_day() {
        let day = schedule(6, 22);
        // 2026-01-05 is a Monday.
        assert!(day.contains(&at("2026-01-05T06:00:00Z")) && day.contains(&at("2026-01-05T21:59:59Z")));
        assert!(!day.contains(&at("2026-01-05T05:59:59Z")) && !day.contains(&at("2026-01-05T22:00:00Z")));
        assert!(!day.contains(&at("2026-01-06T12:00:00Z")));
    }

    #[test]
    fn hours_over_midnight_belong_to_the_day_they_begin_on() {
        let night = schedule(22, 6);
        assert!(night.contains(&at("2026-01-05T23:00:00Z")) && night.contains(&at("2026-01-06T05:00:00Z")));
        assert!(!night.contains(&at("2026-01-05T05:00:00Z")) && !night.contains(&at("2026-01-05T12:00:00Z")));
        let whole = schedule(7, 7);
        assert!(whole.contains(&at("2026-01-05T08:00:00Z")) && whole.contains(&at("2026-01-06T06:59:00Z")));
        assert!(!whole.contains(&at("2026-01-05T06:59:00Z")));
    }

    #[test]
    fn an_event_concerns_a_sink_by_its_subject_and_score() {
        let time = Timestamp::UNIX_EPOCH;
        let filter = Filter { subjects: vec![Subject::Anomaly], min_score: 0.4, ..Filter::default() };
        assert!(filter.admits(&anomaly(time, 0.4)) && !filter.admits(&anomaly(time, 0.39)));
        assert!(!filter.admits(&trouble(time)) && Filter::default().admits(&trouble(time)));
    }
}
