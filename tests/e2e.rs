//! End-to-end tests: they drive the built programs as a user would. One binary, so that tract is linked once.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test program")]

mod cases;
mod harness;
