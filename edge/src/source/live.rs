//! A camera as a source: a capture program that is watched, ended when it stalls, and started again until it comes back.
//!
//! ```text
//!              frames come                 no frame in time, or the program ends
//!   Waiting ----------------> Streaming ------------------------------------------+
//!      ^  start the program                                                       |
//!      +------------------------------- after a pause, 0.25 s doubled to 4 s <----+
//! ```
//!
//! The first time that leads back to `Waiting` the camera is reported offline, and the next usable frame ends that. After a
//! capture that ended within two seconds of its first frame, the next has to last as long before the camera counts as back and
//! the pause is short again: one that gives a frame and ends, over and over, is one trouble and not many. Frames
//! that are all the same, to the last byte, are reported as a frozen camera and not passed on, and the program is started
//! again once.

use super::child::{Capture, Launch, Leftover, Taken};
use super::stream::{Packet, StreamFormat};
use super::{Captured, Next, Source, SourceError, TroubleChange};
use crate::clock::Clock;
use crate::event::Trouble;
use salad_shared::decoder::Decoder;
use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::{Duration, Instant};

const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(4);

/// A capture that lasts so long from its first frame on works; or as long as the frame time-out, where that is shorter.
const STEADY_AFTER: Duration = Duration::from_secs(2);

/// A camera, and how long it may be silent.
#[derive(Debug, Clone, PartialEq)]
pub struct LiveSpec {
    /// What people call it; without secrets.
    pub name: String,
    /// The capture program.
    pub launch: Launch,
    /// What that writes.
    pub format: StreamFormat,
    /// Frames wanted a second, at most.
    pub fps: f64,
    /// The longest time from the program's start to its first frame.
    pub start_timeout: Duration,
    /// The longest time between two frames.
    pub frame_timeout: Duration,
    /// How long all frames may be the same before the camera counts as frozen.
    pub frozen_after: Option<Duration>,
}

/// A camera that is being read.
pub struct Live {
    spec: LiveSpec,
    clock: Arc<dyn Clock>,
    decoder: Decoder,
    capture: Option<Running>,
    leftovers: Vec<Leftover>,
    retry: Retry,
    offline: bool,
    /// Whether a frame is enough for the camera to count as back.
    steady: bool,
    sameness: Sameness,
    size: Option<(u32, u32)>,
    waiting: VecDeque<Next>,
    number: u64,
    dropped: u64,
}

struct Running {
    capture: Capture,
    /// Of the start, and then of each frame.
    last_sign: Instant,
    first_frame: Option<Instant>,
}

/// When the program may be started again.
struct Retry {
    attempts: u32,
    pause: Duration,
    at: Instant,
}

impl Live {
    /// A camera that is opened with the first call of [`next`](Source::next).
    pub fn new(spec: LiveSpec, clock: Arc<dyn Clock>, decoder: Decoder) -> Live {
        let retry = Retry { attempts: 0, pause: FIRST_PAUSE, at: Instant::now() };
        Live {
            spec,
            clock,
            decoder,
            capture: None,
            leftovers: Vec::new(),
            retry,
            offline: false,
            steady: true,
            sameness: Sameness::default(),
            size: None,
            waiting: VecDeque::new(),
            number: 0,
            dropped: 0,
        }
    }

    /// Frames that the camera sent in time and that nobody took.
    pub fn dropped(&self) -> u64 {
        self.dropped + self.capture.as_ref().map_or(0, |running| running.capture.dropped())
    }

    fn start(&mut self) {
        self.retry.attempts += 1;
        self.leftovers.retain_mut(|leftover| !leftover.is_gone());
        if !self.leftovers.is_empty() {
            // One more would hang as well, and leave one more behind.
            self.give_up("the former capture hangs in the kernel and cannot be ended");
            return;
        }
        match Capture::start(&self.spec.launch, self.spec.format, self.spec.fps) {
            Ok(capture) => {
                self.capture = Some(Running { capture, last_sign: Instant::now(), first_frame: None });
            }
            Err(problem) => self.give_up(&problem),
        }
    }

    /// Ends the capture, says that the camera is offline where that is new, and sets the time of the next start.
    fn give_up(&mut self, problem: &str) {
        if let Some(first) = self.capture.as_ref().and_then(|running| running.first_frame) {
            self.steady = self.is_steady(first.elapsed());
        }
        self.stop();
        self.retry.at = Instant::now() + self.retry.pause;
        self.retry.pause = (self.retry.pause * 2).min(LONGEST_PAUSE);
        if !std::mem::replace(&mut self.offline, true) {
            self.report(Trouble::Offline, true, problem.to_owned());
        } else {
            log::debug!("{}: still offline: {problem}", self.spec.name);
        }
    }

    fn is_steady(&self, lasted: Duration) -> bool {
        lasted >= STEADY_AFTER.min(self.spec.frame_timeout)
    }

    fn stop(&mut self) {
        if let Some(running) = self.capture.take() {
            self.dropped += running.capture.dropped();
            self.leftovers.extend(running.capture.stop());
        }
    }

    fn report(&mut self, trouble: Trouble, begins: bool, detail: String) {
        let attempts = self.retry.attempts;
        self.waiting.push_back(Next::Trouble(TroubleChange {
            trouble,
            begins,
            at: self.clock.now(),
            detail,
            attempts,
        }));
    }

    fn take(&mut self, timeout: Duration) {
        let Some(running) = &mut self.capture else { return };
        match running.capture.take(timeout) {
            Taken::Frame(packet, arrived) => self.take_frame(packet, arrived),
            Taken::Torn => {
                let name = self.next_name();
                self.waiting.push_back(Next::Bad { name, problem: "the picture breaks off".to_owned() });
                self.check_silence();
            }
            Taken::Nothing => self.check_silence(),
            Taken::Ended(words) => self.give_up(&words),
        }
    }

    /// Pictures that cannot be used are no sign of life.
    fn check_silence(&mut self) {
        let Some(running) = &self.capture else { return };
        let limit = if running.first_frame.is_some() { self.spec.frame_timeout } else { self.spec.start_timeout };
        if running.last_sign.elapsed() >= limit {
            self.give_up(&format!("no usable frame for {:.1} s", limit.as_secs_f64()));
        }
    }

    fn take_frame(&mut self, packet: Packet, arrived: Instant) {
        let print = fingerprint(&packet);
        let taken = packet.taken;
        let name = self.next_name();
        let picture = match packet.decode(&mut self.decoder) {
            Ok(picture) => picture,
            Err(error) => {
                self.waiting.push_back(Next::Bad { name, problem: error.to_string() });
                self.check_silence();
                return;
            }
        };
        if let Some(running) = &mut self.capture {
            running.last_sign = arrived;
            let first = *running.first_frame.get_or_insert(arrived);
            self.steady = self.steady || self.is_steady(arrived.saturating_duration_since(first));
        }
        let size = picture.size;
        if self.size.replace(size) != Some(size) {
            log::info!("{}: frames of {} x {} pixels", self.spec.name, size.0, size.1);
        }
        if self.steady {
            if std::mem::take(&mut self.offline) {
                let attempts = self.retry.attempts;
                self.report(Trouble::Offline, false, format!("frames come again, after {attempts} attempts"));
            }
            (self.retry.attempts, self.retry.pause) = (0, FIRST_PAUSE);
        }
        match self.sameness.look(print, arrived, self.spec.frozen_after) {
            Same::No => {}
            Same::Ended => self.report(Trouble::Frozen, false, "frames differ again".to_owned()),
            Same::Begins(time) => {
                let detail = format!("all frames have been the same for {:.0} s", time.as_secs_f64());
                self.report(Trouble::Frozen, true, detail);
                self.stop();
                return;
            }
            Same::GoesOn => return,
        }
        // The driver's time where it gives one, else when the frame came; neither can lie in the future.
        let now = self.clock.now();
        let age = taken.and_then(|taken| Duration::try_from(now.wall.duration_since(taken)).ok());
        let age = age.filter(|age| *age < self.spec.frame_timeout).unwrap_or_else(|| arrived.elapsed());
        self.waiting.push_back(Next::Frame(Captured { picture, name, at: now.minus(age) }));
    }

    fn next_name(&mut self) -> String {
        self.number += 1;
        format!("{}#{}", self.spec.name, self.number)
    }
}

impl Source for Live {
    fn next(&mut self, timeout: Duration) -> Result<Next, SourceError> {
        let end = Instant::now() + timeout;
        while self.waiting.is_empty() {
            let now = Instant::now();
            if self.capture.is_some() {
                self.take(end.saturating_duration_since(now));
            } else if self.retry.at <= now {
                self.start();
            } else {
                std::thread::sleep(self.retry.at.min(end).saturating_duration_since(now));
            }
            if Instant::now() >= end {
                break;
            }
        }
        Ok(self.waiting.pop_front().unwrap_or(Next::Nothing))
    }

    fn dropped(&self) -> u64 {
        Live::dropped(self)
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.stop();
    }
}

fn fingerprint(packet: &Packet) -> u64 {
    let mut hasher = DefaultHasher::new();
    packet.bytes.hash(&mut hasher);
    hasher.finish()
}

/// Tells a camera that sends one picture for ever.
#[derive(Debug, Default)]
struct Sameness {
    /// The last frame, and since when it has been the same.
    last: Option<(u64, Instant)>,
    frozen: bool,
}

#[derive(Debug, PartialEq)]
enum Same {
    No,
    Begins(Duration),
    GoesOn,
    Ended,
}

impl Sameness {
    fn look(&mut self, print: u64, now: Instant, limit: Option<Duration>) -> Same {
        let since = match self.last {
            Some((last, since)) if last == print => since,
            _ => {
                self.last = Some((print, now));
                return if std::mem::take(&mut self.frozen) { Same::Ended } else { Same::No };
            }
        };
        let time = now.saturating_duration_since(since);
        match limit {
            _ if self.frozen => Same::GoesOn,
            Some(limit) if time >= limit => {
                self.frozen = true;
                Same::Begins(time)
            }
            _ => Same::No,
        }
    }
}
