//! `mqtt = { ... }` of a sink.

use super::checker::{Checked, Checker};
use super::raw_sinks::RawSecret;
use super::sinks::Secret;
use crate::sinks::mqtt::{ClientCertificate, MqttSpec, Protocol, TlsSpec, is_prefix, tls_config};
use serde::Deserialize;
use std::path::PathBuf;

/// The most seconds of silence that the protocol knows are more than anybody wants.
const MOST_KEEP_ALIVE_SECS: u16 = 3600;

/// An MQTT broker.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RawMqtt {
    /// Its name or address.
    pub host: String,
    /// Its port (1883, or 8883 over TLS).
    pub port: Option<u16>,
    /// Over TLS, trusting the web's certificates (false, unless one of the next three is there).
    pub tls: Option<bool>,
    /// Certificates (PEM) to trust instead.
    pub ca_file: Option<PathBuf>,
    /// A certificate (PEM) by which the broker knows the device; with client_key.
    pub client_certificate: Option<PathBuf>,
    /// Its key (PEM).
    pub client_key: Option<PathBuf>,
    /// Where the broker wants one.
    pub user: Option<String>,
    /// Where the user's password is.
    pub password: Option<RawSecret>,
    /// 4, which is MQTT 3.1.1, or 5.
    #[serde(default = "default_protocol")]
    pub protocol: u8,
    /// What topics begin with.
    #[serde(default = "default_prefix")]
    pub prefix: String,
    /// Home Assistant's prefix; empty not to be found.
    #[serde(default = "default_discovery")]
    pub discovery: String,
    /// Pictures of events are published.
    #[serde(default = "default_snapshot")]
    pub snapshot: bool,
    /// The score is published so often where it changes, seconds; 0: never.
    #[serde(default = "default_score_secs")]
    pub score_interval_secs: f64,
    /// The broker takes the device for offline after one and a half times so long, 1 to 3600.
    #[serde(default = "default_keep_alive_secs")]
    pub keep_alive_secs: u16,
    /// For a connection and for each acknowledgement, 0.1 to 600.
    #[serde(default = "default_timeout_secs")]
    pub timeout_secs: f64,
}

fn default_protocol() -> u8 {
    4
}

fn default_prefix() -> String {
    "salad".to_owned()
}

fn default_discovery() -> String {
    "homeassistant".to_owned()
}

fn default_snapshot() -> bool {
    true
}

fn default_score_secs() -> f64 {
    5.0
}

fn default_keep_alive_secs() -> u16 {
    30
}

fn default_timeout_secs() -> f64 {
    10.0
}

impl Checker<'_> {
    pub(super) fn mqtt(&self, raw: RawMqtt) -> Checked<MqttSpec> {
        let error = |field, value: &str, remedy: &str| self.error(field, value, remedy.to_owned());
        if raw.host.is_empty() || raw.host.contains(|c: char| c.is_whitespace() || c.is_control() || c == '/') {
            error("sinks.mqtt.host", &raw.host, "has to be a name or an address, with no mqtt:// before it");
        }
        let protocol = match raw.protocol {
            4 => Ok(Protocol::V4),
            5 => Ok(Protocol::V5),
            other => Err(error("sinks.mqtt.protocol", &other.to_string(), "has to be 4 (which is 3.1.1) or 5")),
        };
        if raw.port == Some(0) {
            error("sinks.mqtt.port", "0", "has to be from 1 to 65535");
        }
        if raw.user.is_none() && raw.password.is_some() {
            error("sinks.mqtt.password", "(secret)", "needs a user beside it");
        }
        if raw.user.as_ref().is_some_and(|user| user.is_empty() || user.contains(char::is_control)) {
            error(
                "sinks.mqtt.user",
                raw.user.as_deref().unwrap_or_default(),
                "has to be one line with something in it",
            );
        }
        for (field, prefix, may_be_empty) in
            [("sinks.mqtt.prefix", &raw.prefix, false), ("sinks.mqtt.discovery", &raw.discovery, true)]
        {
            if !(is_prefix(prefix) || may_be_empty && prefix.is_empty()) {
                error(field, prefix, "has to be a topic without wildcards, with no / before or after it");
            }
        }
        if !(1..=MOST_KEEP_ALIVE_SECS).contains(&raw.keep_alive_secs) {
            let remedy = format!("has to be from 1 to {MOST_KEEP_ALIVE_SECS}");
            error("sinks.mqtt.keep_alive_secs", &raw.keep_alive_secs.to_string(), &remedy);
        }
        let interval = self.duration("sinks.mqtt.score_interval_secs", raw.score_interval_secs);
        let timeout = self.timeout("sinks.mqtt.timeout_secs", raw.timeout_secs);
        let password = raw.password.map(|secret| self.secret("sinks.mqtt.password", &secret)).transpose();
        let tls = self.tls(raw.tls, raw.ca_file, raw.client_certificate, raw.client_key)?;
        let (interval, password) = (interval?, password?);
        if tls.is_none() && password.is_some() {
            self.warn("sinks.mqtt.password", "goes over the network as it is; set tls = true where the broker can");
        }
        Ok(MqttSpec {
            host: raw.host,
            port: raw.port.unwrap_or(if tls.is_some() { 8883 } else { 1883 }),
            tls,
            user: raw.user,
            password,
            protocol: protocol?,
            prefix: raw.prefix,
            discovery: (!raw.discovery.is_empty()).then_some(raw.discovery),
            with_snapshot: raw.snapshot,
            score_interval: (!interval.is_zero()).then_some(interval),
            keep_alive_secs: raw.keep_alive_secs,
            timeout: timeout?,
        })
    }

    /// TLS where it is asked for, by itself or by a certificate.
    fn tls(
        &self,
        asked: Option<bool>,
        ca_file: Option<PathBuf>,
        certificate: Option<PathBuf>,
        key: Option<PathBuf>,
    ) -> Checked<Option<TlsSpec>> {
        let has_files = ca_file.is_some() || certificate.is_some() || key.is_some();
        match asked {
            Some(false) if has_files => {
                let remedy = "stands beside certificates, which are for TLS".to_owned();
                return Err(self.error("sinks.mqtt.tls", false, remedy));
            }
            Some(false) | None if !has_files => return Ok(None),
            _ => {}
        }
        let client = match (certificate, key) {
            (Some(certificate), Some(key)) => Some(ClientCertificate {
                chain: self.read("sinks.mqtt.client_certificate", &certificate, |path| std::fs::read(path))?,
                key: Secret::new(self.read("sinks.mqtt.client_key", &key, |path| std::fs::read_to_string(path))?),
            }),
            (None, None) => None,
            _ => {
                let remedy = "client_certificate and client_key go together".to_owned();
                return Err(self.error("sinks.mqtt.client_key", "(missing)", remedy));
            }
        };
        let authorities = ca_file.map(|path| self.authorities("sinks.mqtt.ca_file", &path)).transpose()?;
        let spec = TlsSpec { authorities, client };
        tls_config(&spec).map_err(|problem| self.error("sinks.mqtt.tls", true, problem))?;
        Ok(Some(spec))
    }
}
