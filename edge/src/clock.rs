//! Time, injected: the real clock, and one that a test or a fast replay moves by itself.

use jiff::Timestamp;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// One moment on both scales: decisions use the first, people read the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Since the clock was made; never goes back, whatever is done to the computer's clock.
    pub elapsed: Duration,
    /// Calendar time.
    pub wall: Timestamp,
}

impl Moment {
    /// This moment, later by `duration`.
    pub fn plus(&self, duration: Duration) -> Moment {
        let wall = self.wall.saturating_add(duration).unwrap_or(Timestamp::MAX);
        Moment { elapsed: self.elapsed.saturating_add(duration), wall }
    }

    /// This moment, earlier by `duration`, but not before the clock was made.
    pub fn minus(&self, duration: Duration) -> Moment {
        let wall = self.wall.saturating_sub(duration).unwrap_or(Timestamp::MIN);
        Moment { elapsed: self.elapsed.saturating_sub(duration), wall }
    }
}

/// Where time comes from.
pub trait Clock: Send + Sync {
    /// The present moment.
    fn now(&self) -> Moment;

    /// Returns when `duration` has passed on this clock.
    fn sleep(&self, duration: Duration);
}

/// The computer's clock.
#[derive(Debug)]
pub struct RealClock {
    start: Instant,
}

impl RealClock {
    /// Starts now.
    pub fn start() -> RealClock {
        RealClock { start: Instant::now() }
    }
}

impl Clock for RealClock {
    fn now(&self) -> Moment {
        Moment { elapsed: self.start.elapsed(), wall: Timestamp::now() }
    }

    fn sleep(&self, duration: Duration) {
        std::thread::sleep(duration);
    }
}

/// A clock that stands still except when somebody sleeps on it, which takes no time at all.
#[derive(Debug)]
pub struct SimulatedClock {
    now: Mutex<Moment>,
}

impl SimulatedClock {
    /// Starts at `wall`.
    pub fn starting_at(wall: Timestamp) -> SimulatedClock {
        SimulatedClock { now: Mutex::new(Moment { elapsed: Duration::ZERO, wall }) }
    }
}

impl Clock for SimulatedClock {
    fn now(&self) -> Moment {
        *self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sleep(&self, duration: Duration) {
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        *now = now.plus(duration);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_simulated_clock_moves_only_when_slept_on() {
        let clock = SimulatedClock::starting_at(Timestamp::UNIX_EPOCH);
        assert_eq!(clock.now(), clock.now());
        clock.sleep(Duration::from_millis(1500));
        assert_eq!(clock.now().elapsed, Duration::from_millis(1500));
        assert_eq!(clock.now().wall.to_string(), "1970-01-01T00:00:01.5Z");
    }

    #[test]
    fn the_real_clock_never_goes_back() {
        let clock = RealClock::start();
        let first = clock.now();
        clock.sleep(Duration::from_millis(1));
        assert!(clock.now().elapsed > first.elapsed);
    }

    #[test]
    fn a_moment_at_an_end_of_time_stays_there() {
        let last = Moment { elapsed: Duration::MAX, wall: Timestamp::MAX };
        assert_eq!(last.plus(Duration::from_secs(9)), last);
        let first = Moment { elapsed: Duration::ZERO, wall: Timestamp::MIN };
        assert_eq!(first.minus(Duration::from_secs(9)), first);
    }
}
