//! From the store to the sinks: each has a thread of its own, takes messages in their order, and tries until it has one.

use super::{Failure, Sink, backoff};
use crate::store::{Pending, Store};
use jiff::Timestamp;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// The longest time until a message is tried again, where a sink has no shorter one.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// How long a thread sleeps where there is nothing to do; news wake it.
const IDLE: Duration = Duration::from_secs(60);

/// The threads.
#[derive(Debug)]
pub struct Outbox {
    store: Arc<Store>,
    threads: Vec<Thread>,
}

/// A sink's thread, and its end.
#[derive(Debug)]
struct Thread {
    name: String,
    ending: Arc<Ending>,
    handle: JoinHandle<()>,
}

/// Wakes a thread out of its pauses when it is to end.
#[derive(Debug, Default)]
struct Ending {
    is_near: AtomicBool,
    /// With what it is doing, whatever else is waiting.
    at_once: AtomicBool,
    lock: Mutex<()>,
    news: Condvar,
}

impl Outbox {
    /// Starts a thread for each sink; the names are those the store was opened with.
    pub fn start(store: Arc<Store>, sinks: Vec<(String, Box<dyn Sink>)>) -> io::Result<Outbox> {
        let mut outbox = Outbox { store, threads: Vec::new() };
        for (name, sink) in sinks {
            outbox.spawn(&name, None, move || Ok(sink))?;
        }
        Ok(outbox)
    }

    /// Goes on with another sink under a name that the store knows. The one before it ends first, with the message it has in
    /// hand; nobody waits for that here.
    pub fn replace(
        &mut self,
        name: &str,
        build: impl FnOnce() -> io::Result<Box<dyn Sink>> + Send + 'static,
    ) -> io::Result<()> {
        let place = self.threads.iter().position(|thread| thread.name == name);
        let before = place.map(|place| self.threads.swap_remove(place));
        if let Some(before) = &before {
            before.ending.come(true);
        }
        self.spawn(name, before.map(|before| before.handle), build)
    }

    /// Ends a sink, with the message it has in hand; nobody waits for that here.
    pub fn end(&mut self, name: &str) {
        self.threads.iter().filter(|thread| thread.name == name).for_each(|thread| thread.ending.come(true));
        self.store.wake();
    }

    fn spawn(
        &mut self,
        name: &str,
        before: Option<JoinHandle<()>>,
        build: impl FnOnce() -> io::Result<Box<dyn Sink>> + Send + 'static,
    ) -> io::Result<()> {
        self.threads.retain(|thread| !thread.handle.is_finished());
        self.store.wake();
        let (store, ending) = (Arc::clone(&self.store), Arc::new(Ending::default()));
        let work = {
            let (name, ending) = (name.to_owned(), Arc::clone(&ending));
            move || {
                if before.is_some_and(|before| before.join().is_err()) {
                    log::error!("sink {name}: its thread broke down");
                }
                match build() {
                    Ok(sink) => Courier { store, ending, name, sink, last: 0, attempts: 0 }.run(),
                    Err(error) => log::error!("sink {name}: cannot be started: {error}"),
                }
            }
        };
        let handle = thread::Builder::new().name(name.to_owned()).spawn(work)?;
        self.threads.push(Thread { name: name.to_owned(), ending, handle });
        Ok(())
    }

    /// The store that the sinks are told from.
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// Lets each sink take what is waiting for it, for as long as it takes messages and at most `patience`. What is left is
    /// sent when the program runs again.
    pub fn finish(&mut self, patience: Duration) {
        let start = Instant::now();
        while self.threads.iter().any(|thread| !thread.handle.is_finished()) && start.elapsed() < patience {
            self.threads.iter().for_each(|thread| thread.ending.come(false));
            self.store.wake();
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Ending {
    fn come(&self, at_once: bool) {
        // Not between a thread's look and its pause.
        let _guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        self.at_once.fetch_or(at_once, Ordering::Relaxed);
        self.is_near.store(true, Ordering::Relaxed);
        self.news.notify_all();
    }

    fn at_once(&self) -> bool {
        self.at_once.load(Ordering::Relaxed)
    }

    fn is_near(&self) -> bool {
        self.is_near.load(Ordering::Relaxed)
    }

    fn pause(&self, duration: Duration) {
        let guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.is_near() {
            drop(self.news.wait_timeout(guard, duration));
        }
    }
}

/// One sink's thread.
struct Courier {
    store: Arc<Store>,
    ending: Arc<Ending>,
    name: String,
    sink: Box<dyn Sink>,
    /// The last message that needs nothing more, whether or not the store could note it.
    last: i64,
    /// How often the next one was tried.
    attempts: u32,
}

impl Courier {
    fn run(mut self) {
        while !self.ending.at_once() {
            let patience = if self.ending.is_near() { Duration::ZERO } else { IDLE };
            match self.store.next(&self.name, self.last, patience) {
                // That is the next one's to take.
                Ok(Some(_)) if self.ending.at_once() => break,
                Ok(Some(pending)) => self.take(&pending),
                Ok(None) if self.ending.is_near() => break,
                Ok(None) => {}
                Err(error) => {
                    log::error!("sink {}: {error}", self.name);
                    self.ending.pause(LONGEST_PAUSE);
                }
            }
            if self.ending.is_near() && self.attempts > 0 {
                break;
            }
        }
    }

    fn take(&mut self, pending: &Pending) {
        let name = &self.name;
        let outcome = match serde_json::from_str(&pending.body) {
            Ok(message) => self.sink.deliver(&message),
            Err(error) => Err(Failure::Never(format!("the store has a message of another kind: {error}"))),
        };
        let noted = match outcome {
            Ok(answer) => {
                log::debug!("sink {name}: {answer}");
                if std::mem::take(&mut self.attempts) > 0 {
                    log::info!("sink {name}: takes messages again");
                }
                self.store.delivered(name, pending.seq, Timestamp::now())
            }
            Err(Failure::Never(problem)) => {
                log::error!("sink {name}: will not take a message, which is given up: {problem}");
                self.attempts = 0;
                self.store.refused(name, pending.seq, Timestamp::now())
            }
            Err(Failure::Later(problem)) => {
                self.attempts = self.attempts.saturating_add(1);
                let level = if self.attempts == 1 { log::Level::Error } else { log::Level::Debug };
                log::log!(level, "sink {name}: {problem}; trying again until it works");
                self.ending.pause(backoff(self.attempts, self.sink.longest_pause()));
                return;
            }
        };
        self.last = pending.seq;
        if let Err(error) = noted {
            log::warn!("sink {name}: {error}; the message may be sent again after a restart");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Message;
    use crate::event::tests::anomaly;
    use crate::sinks::filter::Filter;
    use crate::store::StoreSettings;
    use std::sync::mpsc::{Receiver, Sender, channel};

    /// Fails as often as it is told before it takes each message.
    struct Stubborn {
        failures: u32,
        left: u32,
        told: Sender<String>,
    }

    impl Sink for Stubborn {
        fn deliver(&mut self, message: &Message) -> Result<String, Failure> {
            if message.id().is_empty() {
                return Err(Failure::Never("no id".into()));
            }
            if self.left > 0 {
                self.left -= 1;
                return Err(Failure::Later("not yet".into()));
            }
            self.left = self.failures;
            self.told.send(message.key()).unwrap();
            Ok("taken".into())
        }
    }

    fn store(dir: &std::path::Path) -> Arc<Store> {
        let settings = StoreSettings { path: dir.join("events.db"), max_age: Duration::MAX, max_bytes: u64::MAX };
        Arc::new(Store::open(settings, vec![("one".into(), Filter::default())], Timestamp::now()).unwrap())
    }

    #[test]
    fn messages_arrive_in_their_order_through_failures_and_restarts() {
        let dir = tempfile::tempdir().unwrap();
        let messages: Vec<Message> = (1..=6).map(|s| anomaly(Timestamp::from_second(s).unwrap(), 0.5)).collect();
        let keys: Vec<String> = messages.iter().map(Message::key).collect();
        let (told, taken) = channel();
        let sink = |failures| -> Vec<(String, Box<dyn Sink>)> {
            vec![("one".into(), Box::new(Stubborn { failures, left: failures, told: told.clone() }))]
        };
        let first = store(dir.path());
        first.record(&messages[0]);
        let mut outbox = Outbox::start(Arc::clone(&first), sink(1)).unwrap();
        messages[1..3].iter().for_each(|message| drop(first.record(message)));
        let seen: Vec<String> = (0..3).map(|_| taken.recv_timeout(Duration::from_secs(30)).unwrap()).collect();
        assert_eq!(seen, keys[..3]);
        outbox.finish(Duration::from_secs(30));
        // Nobody takes these before the program runs again.
        messages[3..].iter().for_each(|message| drop(first.record(message)));
        drop(first);
        let second = store(dir.path());
        let mut outbox = Outbox::start(Arc::clone(&second), sink(0)).unwrap();
        outbox.finish(Duration::from_secs(30));
        let seen: Vec<String> = taken.try_iter().collect();
        // Those of open events were ended when the store was opened anew; they come after.
        assert_eq!(seen[..3], keys[3..]);
        assert_eq!(second.sinks().unwrap()[0].pending, 0);
        assert_eq!(second.sinks().unwrap()[0].delivered, 6 + 6);
    }

    /// Tells what it is given, and keeps it in hand until it may go on.
    struct Held {
        go: Receiver<()>,
        told: Sender<String>,
    }

    impl Sink for Held {
        fn deliver(&mut self, message: &Message) -> Result<String, Failure> {
            self.told.send(message.key()).unwrap();
            self.go.recv_timeout(Duration::from_secs(30)).unwrap();
            Ok("taken".into())
        }
    }

    #[test]
    fn a_sink_that_is_replaced_ends_with_the_message_in_hand_and_the_other_has_the_rest() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        let messages: Vec<Message> = (1..=3).map(|s| anomaly(Timestamp::from_second(s).unwrap(), 0.5)).collect();
        let keys: Vec<String> = messages.iter().map(Message::key).collect();
        messages.iter().for_each(|message| drop(store.record(message)));
        let ((go, held), (told, taken), (told_after, taken_after)) = (channel(), channel(), channel());
        let first: Box<dyn Sink> = Box::new(Held { go: held, told });
        let mut outbox = Outbox::start(Arc::clone(&store), vec![("one".into(), first)]).unwrap();
        assert_eq!(taken.recv_timeout(Duration::from_secs(30)).unwrap(), keys[0]);
        let second = Stubborn { failures: 0, left: 0, told: told_after };
        outbox.replace("one", move || Ok(Box::new(second))).unwrap();
        assert!(taken_after.try_recv().is_err(), "the first still has a message in hand");
        go.send(()).unwrap();
        let rest: Vec<String> = (0..2).map(|_| taken_after.recv_timeout(Duration::from_secs(30)).unwrap()).collect();
        outbox.finish(Duration::from_secs(30));
        assert_eq!((rest.as_slice(), taken.try_iter().count()), (&keys[1..], 0));
        assert_eq!(store.sinks().unwrap()[0].delivered, 3);
    }

    #[test]
    fn what_a_sink_refuses_does_not_hold_up_the_rest() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        let good = anomaly(Timestamp::now(), 0.5);
        let Message::Anomaly(mut bad) = good.clone() else { unreachable!() };
        bad.id = String::new();
        store.record(&Message::Anomaly(bad));
        store.record(&good);
        let (told, taken) = channel();
        let sink = Stubborn { failures: 0, left: 0, told };
        Outbox::start(Arc::clone(&store), vec![("one".into(), Box::new(sink))])
            .unwrap()
            .finish(Duration::from_secs(30));
        assert_eq!(taken.try_iter().collect::<Vec<_>>(), [good.key()]);
        let state = &store.sinks().unwrap()[0];
        assert_eq!((state.delivered, state.refused, state.pending), (1, 1, 0));
    }

    #[test]
    fn pauses_double_up_to_a_limit() {
        for (attempts, secs) in [(1, 1.0), (2, 2.0), (5, 16.0), (9, 256.0), (10, 300.0), (u32::MAX, 300.0)] {
            let pause = backoff(attempts, LONGEST_PAUSE).as_secs_f64();
            assert!((secs * 0.5..=secs).contains(&pause), "{attempts}: {pause}");
        }
    }
}
