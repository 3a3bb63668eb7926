//! What the end-to-end tests have in common: the built programs, how to run them, pictures and a trained run.

pub mod pictures;
pub mod trained;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A program of the workspace, built beside this test by `cargo build --release --workspace` (as `make test` does).
pub fn program(name: &str) -> PathBuf {
    let here = std::env::current_exe().expect("a test knows its own path");
    let folder = here.ancestors().nth(2).expect("tests lie two folders below the profile's");
    let path = folder.join(name);
    assert!(path.exists(), "{} is missing: run `make test`, or cargo build --release --workspace", path.display());
    path
}

/// What a program said and how it ended.
#[derive(Debug)]
pub struct Ran {
    /// Exit status; `None` after a signal.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// Runs a program to its end.
pub fn run(name: &str, args: &[&str]) -> Ran {
    let output = command(name).args(args).output().expect("the program starts");
    ran(&output)
}

/// As [`run`], and it has to succeed.
pub fn succeed(name: &str, args: &[&str]) -> Ran {
    let ran = run(name, args);
    assert_eq!(ran.code, Some(0), "{name} {args:?}\n{}\n{}", ran.stdout, ran.stderr);
    ran
}

/// As [`run`], and it has to fail as a program does that knows why: status 1 or 2, a message on standard error with each
/// of `expected`, and no panic.
pub fn refuse(name: &str, args: &[&str], expected: &[&str]) -> Ran {
    let ran = run(name, args);
    assert!(matches!(ran.code, Some(1 | 2)), "{name} {args:?} ended with {:?}\n{}", ran.code, ran.stderr);
    for word in expected {
        assert!(ran.stderr.contains(word), "{name} {args:?}: no {word:?} in\n{}", ran.stderr);
    }
    for word in ["panicked", "RUST_BACKTRACE", "libtorch failed"] {
        assert!(!ran.stderr.contains(word), "{name} {args:?} panicked:\n{}", ran.stderr);
    }
    ran
}

/// A program with quiet logs.
pub fn command(name: &str) -> Command {
    let mut command = Command::new(program(name));
    command.stdin(Stdio::null()).env("RUST_LOG", "warn").env_remove("RUST_BACKTRACE");
    command
}

/// An [`Output`] as text.
pub fn ran(output: &Output) -> Ran {
    Ran {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Names of what lies in a folder, sorted.
pub fn listing(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("the folder is there");
    let mut names: Vec<String> = entries.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}
