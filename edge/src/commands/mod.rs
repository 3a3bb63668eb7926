//! What the program's subcommands do.

pub mod inspect;
pub mod run;
pub mod score;

use std::io;

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
