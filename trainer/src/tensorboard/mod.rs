//! TensorBoard's files, as much of them as a run writes: events (numbers, pictures) and the embedding projector's data.
//!
//! The format is small and has not changed in years: records with a checksum ([`record`]) around Protocol Buffers
//! ([`proto`]). The crates that write it bring another Protocol Buffers library and can only begin new files, where a
//! resumed run has to go on with its own.

pub mod projector;
pub mod proto;
pub mod record;

use crate::png::png;
use prost::Message;
use proto::{Event, Image, Summary, Value};
use salad_shared::preprocess::Frame;
use std::time::SystemTime;

/// The folder in a run's that TensorBoard is pointed at.
pub const FOLDER: &str = "tensorboard";

/// The event file in it: TensorBoard takes every file whose name holds `tfevents`.
pub const EVENT_FILE: &str = "events.out.tfevents.salad";

/// The record that every event file begins with.
pub fn version() -> Vec<u8> {
    event(Event { file_version: Some("brain.Event:2".into()), ..Default::default() })
}

/// Numbers of one step, each under its tag, as one record.
pub fn numbers(step: i64, values: &[(&str, f64)]) -> Vec<u8> {
    let value = |&(tag, value): &(&str, f64)| Value {
        tag: tag.to_owned(),
        simple_value: Some(value as f32),
        ..Default::default()
    };
    event(Event { step, summary: Some(Summary { value: values.iter().map(value).collect() }), ..Default::default() })
}

/// A picture under its tag, as a record.
pub fn picture(step: i64, tag: &str, frame: &Frame) -> Vec<u8> {
    let image = Image {
        height: frame.height() as i32,
        width: frame.width() as i32,
        colorspace: 3,
        encoded_image_string: png(frame),
    };
    let value = Value { tag: tag.to_owned(), image: Some(image), ..Default::default() };
    event(Event { step, summary: Some(Summary { value: vec![value] }), ..Default::default() })
}

fn event(event: Event) -> Vec<u8> {
    let wall_time = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    record::framed(&Event { wall_time, ..event }.encode_to_vec())
}
