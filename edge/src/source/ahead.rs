//! Reads and decodes the next frame while this one is scored.

use super::{Next, Source, SourceError};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// How long the source is waited for before the thread looks whether it is still wanted.
const PATIENCE: Duration = Duration::from_millis(100);

/// What a source says, in its order, from a thread of its own that is one frame ahead.
///
/// The thread hands over one frame before it asks for the next, so that a source never has more than one frame decoded
/// in vain, and still drops those of which newer ones come.
#[derive(Debug)]
pub struct Ahead {
    said: Option<Receiver<Result<Next, SourceError>>>,
    dropped: Arc<AtomicU64>,
    reader: Option<JoinHandle<()>>,
}

/// A thread of its own for `source`, unless there is a single processor, where that would gain nothing.
pub fn where_cores_are(source: Box<dyn Source + Send>) -> Box<dyn Source + Send> {
    match thread::available_parallelism() {
        Ok(processors) if processors.get() > 1 => Box::new(Ahead::of(source)),
        _ => source,
    }
}

impl Ahead {
    /// Starts at once. Dropping it ends the source.
    pub fn of(mut source: Box<dyn Source + Send>) -> Ahead {
        let (sender, said) = sync_channel(0);
        let dropped = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&dropped);
        let reader = thread::spawn(move || {
            loop {
                let says = source.next(PATIENCE);
                let last = matches!(says, Ok(Next::Ended) | Err(_));
                count.store(source.dropped(), Ordering::Relaxed);
                if sender.send(says).is_err() || last {
                    return;
                }
            }
        });
        Ahead { said: Some(said), dropped, reader: Some(reader) }
    }
}

impl Source for Ahead {
    fn next(&mut self, timeout: Duration) -> Result<Next, SourceError> {
        let said = self.said.as_ref().map_or(Err(RecvTimeoutError::Disconnected), |said| said.recv_timeout(timeout));
        match said {
            Ok(said) => said,
            Err(RecvTimeoutError::Timeout) => Ok(Next::Nothing),
            Err(RecvTimeoutError::Disconnected) => {
                // A panic there is one here, as it would be without the thread.
                if let Some(Err(panic)) = self.reader.take().map(JoinHandle::join) {
                    std::panic::resume_unwind(panic);
                }
                Ok(Next::Ended)
            }
        }
    }

    fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        drop(self.said.take());
        // Whoever ends the program wants captures to be ended first.
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Moment;
    use crate::source::{Captured, Picture};
    use crate::support::normal_frame;
    use std::path::PathBuf;
    use std::sync::atomic::AtomicBool;

    /// Says what it was made with, the last first; then that there is nothing, and after that fails.
    struct Script {
        left: Vec<Next>,
        asked: Arc<AtomicU64>,
        ended: Arc<AtomicBool>,
        panics: bool,
    }

    impl Source for Script {
        fn next(&mut self, _: Duration) -> Result<Next, SourceError> {
            self.asked.fetch_add(1, Ordering::Relaxed);
            assert!(!self.panics, "as told");
            self.left.pop().map_or_else(|| Err(SourceError::Empty { path: PathBuf::from("x") }), Ok)
        }

        fn dropped(&self) -> u64 {
            7
        }
    }

    impl Drop for Script {
        fn drop(&mut self) {
            self.ended.store(true, Ordering::Relaxed);
        }
    }

    fn frame(name: &str) -> Next {
        let at = Moment { elapsed: Duration::ZERO, wall: jiff::Timestamp::UNIX_EPOCH };
        Next::Frame(Captured { picture: Picture::of(normal_frame()), name: name.to_owned(), at })
    }

    fn script(left: Vec<Next>, panics: bool) -> (Ahead, Arc<AtomicU64>, Arc<AtomicBool>) {
        let (asked, ended) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let source = Script { left, asked: Arc::clone(&asked), ended: Arc::clone(&ended), panics };
        (Ahead::of(Box::new(source)), asked, ended)
    }

    #[test]
    fn everything_comes_once_and_in_order_and_the_error_last() {
        let bad = Next::Bad { name: "b".into(), problem: "torn".into() };
        let (mut ahead, _, ended) = script(vec![frame("c"), Next::Nothing, bad, frame("a")], false);
        let mut told = Vec::new();
        let error = loop {
            match ahead.next(Duration::from_secs(60)) {
                Ok(Next::Frame(captured)) => told.push(captured.name),
                Ok(Next::Bad { name, .. }) => told.push(name + " is bad"),
                Ok(_) => {}
                Err(error) => break error,
            }
        };
        assert_eq!(told, ["a", "b is bad", "c"]);
        assert!(matches!(error, SourceError::Empty { .. }));
        assert_eq!(ahead.dropped(), 7);
        assert!(matches!(ahead.next(Duration::from_secs(60)), Ok(Next::Ended)));
        drop(ahead);
        assert!(ended.load(Ordering::Relaxed));
    }

    #[test]
    fn it_is_one_frame_ahead_and_dropping_it_ends_the_source() {
        let (mut ahead, asked, ended) = script((0..50).map(|_| frame("a")).collect(), false);
        assert!(matches!(ahead.next(Duration::from_secs(60)), Ok(Next::Frame(_))));
        drop(ahead);
        assert!(ended.load(Ordering::Relaxed));
        assert_eq!(asked.load(Ordering::Relaxed), 2);
    }

    #[test]
    #[should_panic(expected = "as told")]
    fn a_panic_of_the_source_is_one_of_the_program() {
        let (mut ahead, ..) = script(Vec::new(), true);
        let _ = ahead.next(Duration::from_secs(60));
    }
}
