//! The built program, as a child of a test.
#![allow(dead_code, reason = "each test program uses its own part of it")]

use std::path::Path;
use std::process::{Command, Output};

/// The program with arguments, in a folder.
pub fn program(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_salad-edge"));
    command.current_dir(dir).args(args);
    command
}

/// What the program came to; it must never panic.
pub fn output(dir: &Path, args: &[&str]) -> Output {
    let output = program(dir, args).output().unwrap();
    assert!(!stderr(&output).contains("panicked"), "{}", stderr(&output));
    assert!(output.status.code().is_some_and(|code| code != 101));
    output
}

/// What it said on standard error.
pub fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}
