//! How an error is put to a person: one line, each cause said once.

use std::error::Error;

/// An error with its causes. Many errors name their cause themselves; it is then not said again.
pub fn message(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let words = inner.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    enum Outer {
        #[error("a.toml: {source}")]
        Naming { source: std::io::Error },
        #[error("a.toml")]
        Silent { source: std::io::Error },
    }

    #[test]
    fn a_cause_is_said_once() {
        let cause = || std::io::Error::other("the disk is gone");
        assert_eq!(message(&Outer::Naming { source: cause() }), "a.toml: the disk is gone");
        assert_eq!(message(&Outer::Silent { source: cause() }), "a.toml: the disk is gone");
    }
}
