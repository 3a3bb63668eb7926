//! What the program's subcommands do.

pub mod bench;
pub mod cameras;
pub mod capture;
pub mod check;
pub mod collect;
pub mod enrol;
pub mod inspect;
pub mod password;
pub mod run;
pub mod score;
pub mod snapshot;
pub mod test_sink;

use crate::clock::Moment;
use crate::config::source::SourceSpec;
use std::io;
use std::time::Duration;

/// How a command ended that did not break off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// All of it was done.
    Complete,
    /// Something was lost on the way, and has been named on standard error.
    Partial,
}

/// Where nobody reads the output any more, the work is done: `salad-edge score ... | head` is no failure.
fn unless_broken_pipe(result: io::Result<()>) -> io::Result<()> {
    result.or_else(|e| if e.kind() == io::ErrorKind::BrokenPipe { Ok(()) } else { Err(e) })
}

/// A camera's first frames are darker or brighter than what it settles at.
const SETTLE: Duration = Duration::from_secs(1);

/// Tells frames of a camera that is still finding its exposure.
#[derive(Debug)]
struct Settling {
    wait: Duration,
    first: Option<Duration>,
}

impl Settling {
    /// A replay needs none.
    fn of(source: &SourceSpec) -> Settling {
        Settling { wait: if source.is_live() { SETTLE } else { Duration::ZERO }, first: None }
    }

    /// Whether the frame taken at `at` can be used.
    fn is_over(&mut self, at: Moment) -> bool {
        at.elapsed.saturating_sub(*self.first.get_or_insert(at.elapsed)) >= self.wait
    }
}
