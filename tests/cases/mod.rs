//! The cases, one file a subject.

mod bad_data;
mod broken_bundles;
mod chain;
