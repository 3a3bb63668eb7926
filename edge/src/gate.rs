//! When frames that say nothing about the scene are told of: not at once, and once.

use std::time::Duration;

/// What a frame means to a gate.
#[derive(Debug, Clone, PartialEq)]
pub enum Look {
    /// The gate is open: the frame counts.
    Open,
    /// It has been open again for long enough, after it was told to be shut.
    OpenAgain,
    /// It is shut: the frame says nothing about the scene.
    Shut,
    /// It has been shut for so long that this should be told; for people, what there is to be seen.
    TellShut(String),
}

/// A gate's sense of time.
#[derive(Debug, Clone)]
pub struct Gate {
    after: Duration,
    settled: Duration,
    shut_since: Option<Duration>,
    last_shut: Duration,
    told: bool,
}

impl Gate {
    /// It is told to be shut after `after`, and to be open again when it has not been shut for `settled`.
    pub fn new(after: Duration, settled: Duration) -> Gate {
        Gate { after, settled, shut_since: None, last_shut: Duration::ZERO, told: false }
    }

    /// A frame taken at `now`, at which the gate is open.
    pub fn open(&mut self, now: Duration) -> Look {
        self.shut_since = None;
        if self.told && now.saturating_sub(self.last_shut) >= self.settled {
            self.told = false;
            return Look::OpenAgain;
        }
        Look::Open
    }

    /// A frame taken at `now`, at which the gate is shut; `seen` is for people.
    pub fn shut(&mut self, now: Duration, seen: impl FnOnce() -> String) -> Look {
        let since = *self.shut_since.get_or_insert(now);
        self.last_shut = now;
        if self.told || now.saturating_sub(since) < self.after {
            return Look::Shut;
        }
        self.told = true;
        Look::TellShut(seen())
    }
}
