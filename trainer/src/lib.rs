//! Salad's trainer: SALAD's two-phase training on libtorch, evaluation, condensation, quantization and export.
//!
//! [`train`] is the spine and reads top to bottom; everything else is a step of it.

pub mod condense;
pub mod folded;
pub mod forward;
pub mod onnx;
pub mod quantize;
