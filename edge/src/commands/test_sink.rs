//! `salad-edge test-sink`: a made-up event for one sink, so that it need not wait for a real one to be known to work.

use crate::config::{Config, ConfigError};
use crate::event::{EndReason, Event, EventKind, Message, new_id};
use crate::sinks::{self, Failure};
use jiff::Timestamp;
use salad_shared::manifest::Form;
use std::io::{self, Write};
use std::path::Path;

/// What the frame of the event is called.
const FRAME: &str = "salad-edge test-sink";

/// The threshold where the configuration has none.
const THRESHOLD: f32 = 0.5;

/// Why a sink did not take the event.
#[derive(Debug, thiserror::Error)]
pub enum TestSinkError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// It has no such sink.
    #[error("{name}: no such sink in the configuration; it has {}", if known.is_empty() { "none" } else { known })]
    Unknown {
        /// The name that was given.
        name: String,
        /// The names that there are.
        known: String,
    },
    /// The sink cannot be made.
    #[error("sink {name}: {source}")]
    Build {
        /// Its name.
        name: String,
        /// The operating system's words.
        source: io::Error,
    },
    /// It has not taken it.
    #[error("sink {name}: has not taken the {kind} of the event: {problem}")]
    Refused {
        /// Its name.
        name: String,
        /// Which message it was.
        kind: &'static str,
        /// What it said.
        problem: String,
    },
    /// The answers cannot be printed.
    #[error("standard output: {0}")]
    Output(io::Error),
}

/// Sends a made-up event to the sink of this name, whatever its filter says, and prints its answers: one line for the event's
/// beginning, one for its end, so that nothing stays switched on.
pub fn test_sink(config: &Path, name: &str, out: &mut dyn Write) -> Result<(), TestSinkError> {
    let config = Config::read(config)?;
    let Some(spec) = config.sinks.iter().find(|spec| spec.name == name) else {
        let known: Vec<&str> = config.sinks.iter().map(|spec| spec.name.as_str()).collect();
        return Err(TestSinkError::Unknown { name: name.to_owned(), known: known.join(", ") });
    };
    let built = sinks::build(spec, &config.name, None);
    let mut sink = built.map_err(|source| TestSinkError::Build { name: name.to_owned(), source })?;
    let begun = event(config.decision.threshold.unwrap_or(THRESHOLD));
    let over = Event { kind: EventKind::End, time: Timestamp::now(), reason: Some(EndReason::Calm), ..begun.clone() };
    for (kind, event) in [("beginning", begun), ("end", over)] {
        let answer = sink.deliver(&Message::Anomaly(event)).map_err(|failure| {
            let (Failure::Later(problem) | Failure::Never(problem)) = failure;
            TestSinkError::Refused { name: name.to_owned(), kind, problem }
        })?;
        super::unless_broken_pipe(writeln!(out, "{name}: {kind}: {answer}")).map_err(TestSinkError::Output)?;
    }
    Ok(())
}

fn event(threshold: f32) -> Event {
    let now = Timestamp::now();
    Event {
        kind: EventKind::New,
        id: new_id(now),
        time: now,
        started: now,
        top_score: threshold,
        top_time: now,
        top_frame: FRAME.to_owned(),
        threshold,
        form: Form::F32,
        nearest: Vec::new(),
        snapshot: None,
        reason: None,
    }
}
