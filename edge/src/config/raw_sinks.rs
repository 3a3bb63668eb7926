//! `[[sinks]]` as they are written.

use super::mqtt::RawMqtt;
use crate::event::Subject;
use crate::sinks::email::Security;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Somebody who is told of events: a filter, and exactly one of webhook, command, email, gpio, mqtt and json_lines.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RawSink {
    /// Letters, digits, `-`, `_` and `.`, at most 64; unlike all others.
    pub name: String,
    /// What it is told of (all).
    pub subjects: Option<Vec<Subject>>,
    /// Anomalies whose top score has reached this.
    #[serde(default)]
    pub min_score: f32,
    /// Only events that begin then, local time, such as `22:00-06:00`.
    pub hours: Option<String>,
    /// Only events that begin on these days, local time.
    pub days: Option<Vec<RawDay>>,
    /// No more events than this in an hour, at least 1 (no limit).
    pub max_per_hour: Option<u32>,
    /// False: only the beginning and the end of an event.
    #[serde(default = "yes")]
    pub updates: bool,
    /// An HTTP POST of JSON.
    pub webhook: Option<RawWebhook>,
    /// A program, with the JSON on its standard input.
    pub command: Option<RawCommand>,
    /// An e-mail.
    pub email: Option<RawEmail>,
    /// A line of the board's pins, active while an event goes on.
    pub gpio: Option<RawGpio>,
    /// A file with one JSON object a line, written out of the store.
    pub json_lines: Option<RawJsonLines>,
    /// An MQTT broker, with Home Assistant's discovery.
    pub mqtt: Option<RawMqtt>,
}

/// An HTTP POST of JSON.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RawWebhook {
    /// http:// or https://.
    pub url: String,
    /// Names of headers, and where their values are.
    #[serde(default)]
    pub headers: BTreeMap<String, RawSecret>,
    /// Signs each body: HMAC-SHA-256 in the header X-Salad-Signature-256.
    pub secret: Option<RawSecret>,
    /// The body is a CloudEvent 1.0.
    #[serde(default)]
    pub cloud_events: bool,
    /// The picture goes along, a JPEG in Base64.
    #[serde(default)]
    pub snapshot: bool,
    /// For the whole request, 0.1 to 600.
    #[serde(default = "default_timeout_secs")]
    pub timeout_secs: f64,
    /// Certificates (PEM) to trust instead of the web's.
    pub ca_file: Option<PathBuf>,
}

/// A program, with the JSON on its standard input; tried again unless it exits with 0.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RawCommand {
    /// The program and its arguments, each as it is (no shell reads them).
    pub run: Vec<String>,
    /// It is ended when it takes longer, 0.1 to 600.
    #[serde(default = "default_timeout_secs")]
    pub timeout_secs: f64,
}

/// An e-mail.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RawEmail {
    /// The mail server.
    pub host: String,
    /// Its port (465, 587 or 25, by security).
    pub port: Option<u16>,
    /// How the connection is kept secret; none for a server in a network of its own.
    #[serde(default = "tls")]
    pub security: Security,
    /// Where the server wants one; with password.
    pub user: Option<String>,
    /// Where the user's password is.
    pub password: Option<RawSecret>,
    /// The sender, such as `Salad <salad@example.org>`.
    pub from: String,
    /// The receivers, at least one.
    pub to: Vec<String>,
    /// The picture goes along.
    #[serde(default = "yes")]
    pub snapshot: bool,
    /// For each step of the conversation, 0.1 to 600.
    #[serde(default = "default_timeout_secs")]
    pub timeout_secs: f64,
    /// Certificates (PEM) to trust beside the web's.
    pub ca_file: Option<PathBuf>,
}

/// A line of the board's pins, active while an event goes on.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RawGpio {
    /// The chip.
    #[serde(default = "first_chip")]
    pub chip: PathBuf,
    /// The line's number on it.
    pub line: u32,
    /// A low voltage is active.
    #[serde(default)]
    pub active_low: bool,
    /// Active for so long when an event begins, instead, 0.1 to 600 (none).
    pub pulse_secs: Option<f64>,
}

/// A file with one JSON object a line.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RawJsonLines {
    /// The file.
    pub path: PathBuf,
}

/// Where a secret is: never in the configuration itself, which people copy and send around.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RawSecret {
    /// A file with it, one line.
    pub file: Option<PathBuf>,
    /// An environment variable with it.
    pub env: Option<String>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum RawDay {
    Mon,
    Tue,
    Wed,
    Thu,
    Fri,
    Sat,
    Sun,
}

fn yes() -> bool {
    true
}

fn tls() -> Security {
    Security::Tls
}

fn first_chip() -> PathBuf {
    "/dev/gpiochip0".into()
}

fn default_timeout_secs() -> f64 {
    10.0
}
