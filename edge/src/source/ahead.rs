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
