//! What Salad's trainer and edge runtime have in common, so that a score means the same on both sides.
//!
//! Pure code: no network, no threads, no neural-network runtime. Files are touched in [`bundle`] and [`atomic`] only.

pub mod atomic;
pub mod bank;
pub mod bundle;
pub mod decoder;
mod dot;
mod draws;
mod jpeg;
pub mod manifest;
pub mod message;
pub mod metrics;
pub mod patch;
pub mod preprocess;
pub mod score;
pub mod threshold;
