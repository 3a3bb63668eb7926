//! The false-alarm budget as people write it: `1/week`.

use super::{FalseAlarmBudget, ThresholdError};
use std::fmt;

/// The periods a budget can be written in, seconds. A month is 30 days, a year 365.
const PERIODS: [(&str, f64); 7] = [
    ("second", 1.0),
    ("minute", 60.0),
    ("hour", 3600.0),
    ("day", 86_400.0),
    ("week", 604_800.0),
    ("month", 2_592_000.0),
    ("year", 31_536_000.0),
];

impl FalseAlarmBudget {
    /// Reads `N/second`, `/minute`, `/hour`, `/day`, `/week`, `/month` (30 days) or `/year` (365 days), N a positive
    /// number such as 1 or 0.5, at `fps` scored frames a second.
    pub fn parse(text: &str, fps: f64) -> Result<FalseAlarmBudget, ThresholdError> {
        let refuse = |problem: String| ThresholdError::Budget { budget: text.to_owned(), problem };
        let (alarms, period) =
            text.split_once('/').ok_or_else(|| refuse("there is no / between a number and a period".into()))?;
        let alarms = alarms.trim();
        let alarms: f64 = alarms.parse().map_err(|_| refuse(format!("{alarms:?} is not a number")))?;
        let period = period.trim().to_lowercase();
        let &(_, period_secs) = PERIODS.iter().find(|(name, _)| *name == period).ok_or_else(|| {
            let names: Vec<&str> = PERIODS.iter().map(|(name, _)| *name).collect();
            refuse(format!("{period:?} is not a period; there are {}", names.join(", ")))
        })?;
        let budget = FalseAlarmBudget { alarms, period_secs, fps };
        budget.problem().map_or(Ok(budget), |problem| Err(refuse(problem)))
    }

    /// The share of frames that may exceed the threshold: alarms / (seconds x frames a second).
    pub fn target_rate(&self) -> f64 {
        self.alarms / (self.period_secs * self.fps)
    }

    /// Says what is wrong with the numbers, if anything is.
    pub fn check(&self) -> Result<(), ThresholdError> {
        match self.problem() {
            Some(problem) => Err(ThresholdError::Budget { budget: self.to_string(), problem }),
            None => Ok(()),
        }
    }

    fn problem(&self) -> Option<String> {
        for (name, value) in
            [("number of alarms", self.alarms), ("period in seconds", self.period_secs), ("frame rate", self.fps)]
        {
            if !(value > 0.0 && value.is_finite()) {
                return Some(format!("the {name} is {value}, it has to be positive"));
            }
        }
        let rate = self.target_rate();
        if rate >= 1.0 {
            return Some(format!("at {} frames a second every frame could be a false alarm", self.fps));
        }
        // Divisions of extreme numbers end here.
        (rate < f64::MIN_POSITIVE).then(|| "the rate is too small to compute with".to_owned())
    }
}

/// As [`parse`](FalseAlarmBudget::parse) reads it, with the frame rate: `1/week at 5 frames/s`.
impl fmt::Display for FalseAlarmBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match PERIODS.iter().find(|(_, secs)| *secs == self.period_secs) {
            Some((name, _)) => write!(f, "{}/{name}", self.alarms)?,
            None => write!(f, "{} in {} s", self.alarms, self.period_secs)?,
        }
        write!(f, " at {} frames/s", self.fps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budgets_are_read_and_written() {
        let budget = FalseAlarmBudget::parse("1/week", 5.0).unwrap();
        assert_eq!(budget, FalseAlarmBudget { alarms: 1.0, period_secs: 604_800.0, fps: 5.0 });
        assert_eq!(budget.to_string(), "1/week at 5 frames/s");
        assert_eq!(budget.target_rate(), 1.0 / 3_024_000.0);
        assert_eq!(FalseAlarmBudget::parse(" 0.5 / Day ", 2.0).unwrap().to_string(), "0.5/day at 2 frames/s");
        for (name, secs) in PERIODS {
            let budget = FalseAlarmBudget::parse(&format!("1/{name}"), 30.0).unwrap();
            assert_eq!(budget.period_secs, secs);
            assert!(budget.to_string().starts_with(&format!("1/{name}")));
        }
        let odd = FalseAlarmBudget { alarms: 2.0, period_secs: 90.0, fps: 1.0 };
        assert_eq!(odd.to_string(), "2 in 90 s at 1 frames/s");
    }

    #[test]
    fn a_bad_budget_says_what_is_wrong() {
        for (text, fps, says) in [
            ("weekly", 5.0, "no /"),
            ("", 5.0, "no /"),
            ("one/week", 5.0, "\"one\" is not a number"),
            ("1/fortnight", 5.0, "\"fortnight\" is not a period; there are second, minute, hour"),
            ("0/week", 5.0, "number of alarms is 0"),
            ("-1/week", 5.0, "number of alarms is -1"),
            ("NaN/week", 5.0, "number of alarms is NaN"),
            ("inf/week", 5.0, "number of alarms is inf"),
            ("1/week", 0.0, "frame rate is 0"),
            ("1/week", f64::NAN, "frame rate is NaN"),
            ("10/second", 5.0, "every frame could be a false alarm"),
            ("1e-310/year", 5.0, "too small"),
        ] {
            let error = FalseAlarmBudget::parse(text, fps).unwrap_err().to_string();
            assert!(error.contains(says) && error.contains("1/week"), "{text}: {error}");
        }
        let bad = FalseAlarmBudget { alarms: 1.0, period_secs: -1.0, fps: 1.0 };
        assert!(bad.check().unwrap_err().to_string().contains("period in seconds is -1"));
    }
}
