//! When frames that say nothing about the scene are told of: not at once, and once.

use std::time::Duration;

/// What a frame means to a gate.
#[derive(Debug, Clone, PartialEq)]
pub enum Look {
    /// The gate is open: the frame counts.
    Open,
    /// It is open again, after it was told to be shut.
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
    shut_since: Option<Duration>,
    told: bool,
}

impl Gate {
    /// It is told to be shut after so long.
    pub fn new(after: Duration) -> Gate {
        Gate { after, shut_since: None, told: false }
    }

    /// A frame at which the gate is open.
    pub fn open(&mut self) -> Look {
        self.shut_since = None;
        if std::mem::take(&mut self.told) { Look::OpenAgain } else { Look::Open }
    }

    /// A frame taken at `now`, at which the gate is shut; `seen` is for people.
    pub fn shut(&mut self, now: Duration, seen: impl FnOnce() -> String) -> Look {
        let since = *self.shut_since.get_or_insert(now);
        if self.told || now.saturating_sub(since) < self.after {
            return Look::Shut;
        }
        self.told = true;
        Look::TellShut(seen())
    }
}
