//! End-to-end tests: they drive the built programs as a user would. One binary, so that tract is linked once.

mod cases;
mod harness;
