//! Salad's trainer: SALAD's two-phase training on libtorch, evaluation, condensation, quantization and export.
//!
//! [`train`] is the spine and reads top to bottom; everything else is a step of it.

pub mod checkpoint;
pub mod device;
pub mod folded;
pub mod history;
pub mod losses;
pub mod memory_bank;
pub mod model;
pub mod neighbours;
pub mod network;
pub mod optimiser;
pub mod schedule;
