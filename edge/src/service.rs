//! systemd's side of the program: when it is ready, how it does, and that it is alive. Outside of systemd nothing happens.

use crate::summary::Summary;
use sd_notify::NotifyState;
use std::time::{Duration, Instant};

/// Between two status lines, where no watchdog asks for more.
const STATUS_INTERVAL: Duration = Duration::from_secs(10);

/// Tells systemd that frames are being worked on. It is called from the loop that does the work, so that a program that
/// hangs goes silent, and is started again.
#[derive(Debug)]
pub struct Service {
    interval: Duration,
    last: Option<Instant>,
}

impl Service {
    /// The program is ready.
    pub fn ready() -> Service {
        notify(&[NotifyState::Ready]);
        // Twice within the time, as systemd asks for.
        let interval = sd_notify::watchdog_enabled().map_or(STATUS_INTERVAL, |limit| limit / 2);
        Service { interval: interval.min(STATUS_INTERVAL), last: None }
    }

    /// The loop has come round.
    pub fn beat(&mut self, summary: &Summary) {
        let now = Instant::now();
        if self.last.is_some_and(|last| now - last < self.interval) {
            return;
        }
        self.last = Some(now);
        let camera = match summary.trouble {
            Some(trouble) => format!("camera {trouble}"),
            None => "camera works".to_owned(),
        };
        let Summary { frames, events, dropped, .. } = summary;
        let status = format!("{camera}; {frames} frames scored, {dropped} dropped, {events} events");
        notify(&[NotifyState::Watchdog, NotifyState::Status(&status)]);
    }

    /// The program is about to end.
    pub fn stopping(&self) {
        notify(&[NotifyState::Stopping]);
    }
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        log::debug!("systemd cannot be told: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_systemd_nothing_happens_and_beats_have_their_interval() {
        let mut service = Service { interval: Duration::from_secs(60), last: None };
        service.beat(&Summary::default());
        let first = service.last;
        service.beat(&Summary::default());
        assert!(first.is_some() && service.last == first);
        service.stopping();
    }
}
