//! The code with processors' instructions, and its tests, without all that is around it: a checker of memory builds or
//! interprets whatever it runs, and tract would take it half an hour. The files are the product's own.
#![allow(dead_code, reason = "what uses the rest is elsewhere")]

#[path = "../../../shared/src/dot.rs"]
pub mod dot;

/// As in salad-edge.
#[path = "../../../edge/src/integer"]
pub mod integer {
    mod conv;
    mod kernel;
    mod tensor;
}
