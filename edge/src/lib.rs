//! Salad's edge runtime: frames in, anomaly scores, decisions and events out. `pipeline` is the place to start reading.

pub mod cli;
pub mod clock;
pub mod commands;
pub mod config;
pub mod decision;
pub mod encoder;
pub mod event;
pub mod model;
pub mod pipeline;
pub mod sinks;
pub mod source;
pub mod store;

#[cfg(test)]
#[path = "../tests/support/mod.rs"]
mod support;
