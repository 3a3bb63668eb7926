//! What is wrong with a configuration: where, and what to do about it.

use crate::source::child::redacted;
use std::fmt::{self, Display};
use std::path::{Path, PathBuf};

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{}: {source}; give the path of a configuration file with --config", path.display())]
    Io {
        /// The configuration file.
        path: PathBuf,
        /// The operating system's words.
        source: std::io::Error,
    },
    /// It is not TOML, or has a key or a type that does not belong there.
    #[error("{}{}: {}{problem}", path.display(), Line(*line), Quoted(text))]
    Syntax {
        /// The configuration file.
        path: PathBuf,
        /// The line's number, from 1 on, where it is known.
        line: Option<usize>,
        /// The line, with no passwords; empty where it is not known.
        text: String,
        /// What is wrong there.
        problem: String,
    },
    /// A value that cannot be.
    #[error("{}{}: {field} = {value}: {remedy}", path.display(), Line(*line))]
    Value {
        /// The configuration file.
        path: PathBuf,
        /// The line's number, from 1 on: of the field, or of the section it is missing from.
        line: Option<usize>,
        /// The field, with its section.
        field: &'static str,
        /// What it was.
        value: String,
        /// What it may be.
        remedy: String,
    },
}

impl ConfigError {
    /// The line's number, from 1 on, where it is known.
    pub fn line(&self) -> Option<usize> {
        match self {
            ConfigError::Io { .. } => None,
            ConfigError::Syntax { line, .. } | ConfigError::Value { line, .. } => *line,
        }
    }

    /// What errors are told in the order of: their lines, and last what has none.
    pub(super) fn order(&self) -> usize {
        self.line().unwrap_or(usize::MAX)
    }

    /// The field, where it is one whose value cannot be.
    pub fn field(&self) -> Option<&'static str> {
        if let ConfigError::Value { field, .. } = self { Some(field) } else { None }
    }

    /// What is wrong and what to do, without file, line and field.
    pub fn problem(&self) -> String {
        match self {
            ConfigError::Io { source, .. } => format!("{source}; give the path of a configuration file with --config"),
            ConfigError::Syntax { text, problem, .. } => format!("{}{problem}", Quoted(text)),
            ConfigError::Value { value, remedy, .. } => format!("{value}: {remedy}"),
        }
    }

    /// toml's own message is a drawing of several lines; this is the same on one.
    pub(super) fn syntax(path: &Path, text: &str, error: &toml::de::Error) -> ConfigError {
        let line = error.span().and_then(|span| line_of(text, span.start));
        let shown = line.and_then(|line| text.lines().nth(line - 1)).unwrap_or_default();
        let problem = error.message().split_whitespace().collect::<Vec<_>>().join(" ");
        // A value that does not belong there can be an address with a password.
        let (text, problem) = (redacted(shown.trim(), &[]), redacted(&problem, &[]));
        ConfigError::Syntax { path: path.into(), line, text, problem }
    }
}

/// What may be meant, and is worth a word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// The line's number, from 1 on, where it is known.
    pub line: Option<usize>,
    /// The field, with its section.
    pub field: &'static str,
    /// What follows from it, and what to do.
    pub problem: String,
}

/// The number, from 1 on, of the line at a place in a text, bytes.
pub(super) fn line_of(text: &str, place: usize) -> Option<usize> {
    Some(text.get(..place.min(text.len()))?.matches('\n').count() + 1)
}

/// `:12`, or nothing.
struct Line(Option<usize>);

impl Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |line| write!(f, ":{line}"))
    }
}

/// A line in quotes, or nothing.
struct Quoted<'a>(&'a str);

impl Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, "`{}`: ", self.0) }
    }
}
