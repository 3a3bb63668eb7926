//! Salad's edge runtime: frames in, anomaly scores, decisions and events out. `pipeline` is the place to start reading.

pub mod cli;
pub mod clock;
pub mod commands;
pub mod config;
pub mod controls;
pub mod decision;
pub mod drift;
pub mod encoder;
pub mod enrol;
pub mod event;
pub mod gate;
pub mod gates;
mod grey;
mod integer;
pub mod lens;
pub mod light;
pub mod live;
pub mod logging;
pub mod metrics;
pub mod model;
pub mod motion;
mod noise;
pub mod picking;
pub mod pipeline;
pub mod regions;
pub mod reload;
pub mod samples;
pub mod scorer;
pub mod service;
pub mod setup;
pub mod sinks;
pub mod source;
pub mod store;
pub mod summary;
pub mod web;

#[cfg(test)]
#[path = "../tests/support/mod.rs"]
mod support;
