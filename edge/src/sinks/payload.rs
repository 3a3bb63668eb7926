//! What is sent of a message: its JSON with the device's name and its key, and the picture where it is asked for.

use crate::event::{EventKind, Message};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

/// A message as a sink sends it.
#[derive(Debug, Serialize)]
pub struct Payload<'a> {
    /// The device's name, from the configuration.
    pub device: &'a str,
    /// The same whenever this message is sent; see [`Message::key`].
    pub key: String,
    /// The message.
    #[serde(flatten)]
    pub message: &'a Message,
    /// The event's picture, a JPEG in Base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot_jpeg: Option<String>,
}

impl<'a> Payload<'a> {
    /// With the picture on request, where there still is one.
    pub fn new(device: &'a str, message: &'a Message, with_picture: bool) -> Payload<'a> {
        let snapshot_jpeg = if with_picture { picture(message).map(|jpeg| STANDARD.encode(jpeg)) } else { None };
        Payload { device, key: message.key(), message, snapshot_jpeg }
    }

    /// In JSON.
    pub fn json(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }
}

/// The bytes of a message's picture; the oldest pictures may have been deleted.
pub fn picture(message: &Message) -> Option<Vec<u8>> {
    std::fs::read(message.snapshot()?).ok()
}

/// One sentence for people.
pub fn sentence(device: &str, message: &Message) -> String {
    match message {
        Message::Anomaly(event) => {
            let what = match event.kind {
                EventKind::New => "something does not look normal",
                EventKind::Update => "it looks less normal than before",
                EventKind::End => "over",
            };
            format!("{device}: {what} (score {:.3}, threshold {:.3})", event.top_score, event.threshold)
        }
        Message::Camera(event) | Message::Device(event) => {
            let over = if event.kind == EventKind::End { ", over" } else { "" };
            let subject = message.subject().name();
            format!("{device}: {subject} {}{over}: {}", event.trouble, event.detail)
        }
    }
}
