//! Salad's trainer: SALAD's two-phase training on libtorch, evaluation, condensation, quantization and export.
//!
//! [`train`] is the spine and reads top to bottom; [`finish`] is what follows it; everything else is a step of one of them.

pub mod augment;
pub mod bench;
pub mod bundle_parts;
pub mod checkpoint;
pub mod condense;
pub mod config;
pub mod dataset;
pub mod demo_scene;
pub mod device;
pub mod evaluate;
pub mod finish;
pub mod folded;
pub mod forward;
pub mod history;
pub mod init;
pub mod loader;
pub mod losses;
pub mod memory_bank;
pub mod model;
pub mod native;
pub mod neighbours;
pub mod network;
pub mod onnx;
pub mod optimiser;
pub mod pixel;
pub mod places;
pub mod precision;
pub mod progress;
pub mod projection;
pub mod quantize;
pub mod report;
pub mod report_data;
pub mod schedule;
pub mod step;
pub mod synthetic;
pub mod trace;
pub mod train;
pub mod trial;
