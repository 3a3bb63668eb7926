//! HTTP POST of JSON.

use super::payload::Payload;
use super::{Failure, Sink};
use crate::config::sinks::Secret;
use crate::event::Message;
use hmac::{Hmac, KeyInit, Mac};
use serde::Serialize;
use serde_json::json;
use sha2::Sha256;
use std::time::Duration;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

/// The name of the header with the signature.
const SIGNATURE: &str = "X-Salad-Signature-256";

/// Of an answer, so much is repeated in the log.
const ANSWER_CHARS: usize = 200;

/// Whom to send to, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct WebhookSpec {
    /// http or https.
    pub url: String,
    /// Sent with each request.
    pub headers: Vec<(String, Secret)>,
    /// Signs each body: HMAC-SHA-256 in the header `X-Salad-Signature-256`, as `sha256=` and hexadecimal digits.
    pub secret: Option<Secret>,
    /// Whether the body is a CloudEvent (1.0, structured).
    pub cloud_events: bool,
    /// Whether pictures go along.
    pub with_snapshot: bool,
    /// For the whole of a request.
    pub timeout: Duration,
    /// Certificates (PEM) that are trusted instead of the web's, such as a factory's own authority.
    pub authorities: Option<Vec<u8>>,
}

/// A webhook.
#[derive(Debug)]
pub struct Webhook {
    spec: WebhookSpec,
    device: String,
    agent: ureq::Agent,
}

impl Webhook {
    /// `device` is the name this device has in alerts. Nothing is sent yet.
    pub fn new(spec: WebhookSpec, device: &str) -> Webhook {
        let mut tls = TlsConfig::builder();
        if let Some(pem) = &spec.authorities {
            let certificates = ureq::tls::parse_pem(pem).filter_map(|item| match item {
                Ok(ureq::tls::PemItem::Certificate(certificate)) => Some(certificate),
                _ => None,
            });
            let certificates: Vec<Certificate<'static>> = certificates.collect();
            tls = tls.root_certs(RootCerts::from(certificates));
        }
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(spec.timeout))
            .http_status_as_error(false)
            .user_agent(concat!("salad-edge/", env!("CARGO_PKG_VERSION")))
            .tls_config(tls.build())
            .build();
        Webhook { spec, device: device.to_owned(), agent: config.into() }
    }

    fn body(&self, message: &Message) -> (&'static str, Vec<u8>) {
        let payload = Payload::new(&self.device, message, self.spec.with_snapshot);
        if !self.spec.cloud_events {
            return ("application/json", payload.json());
        }
        let event = CloudEvent {
            specversion: "1.0",
            id: &payload.key,
            source: format!("/salad/{}", self.device.replace(|c: char| !c.is_ascii_alphanumeric(), "-")),
            kind: format!("salad.{}.{}", message.subject().name(), message.kind()),
            subject: message.id(),
            time: message.time(),
            datacontenttype: "application/json",
            data: &payload,
        };
        ("application/cloudevents+json", json!(event).to_string().into_bytes())
    }
}

/// The envelope, <https://cloudevents.io>.
#[derive(Serialize)]
struct CloudEvent<'a> {
    specversion: &'static str,
    id: &'a str,
    source: String,
    #[serde(rename = "type")]
    kind: String,
    subject: &'a str,
    time: jiff::Timestamp,
    datacontenttype: &'static str,
    data: &'a Payload<'a>,
}

impl Sink for Webhook {
    fn deliver(&mut self, message: &Message) -> Result<String, Failure> {
        let (content_type, body) = self.body(message);
        let mut request = self.agent.post(&self.spec.url).header("Content-Type", content_type);
        request = request.header("Idempotency-Key", message.key());
        for (name, value) in &self.spec.headers {
            request = request.header(name, value.reveal());
        }
        if let Some(secret) = &self.spec.secret {
            request = request.header(SIGNATURE, signature(secret.reveal(), &body));
        }
        let mut answer = request.send(&body[..]).map_err(|e| Failure::Later(e.to_string()))?;
        let status = answer.status();
        let text = answer.body_mut().with_config().limit(64 << 10).read_to_string().unwrap_or_default();
        let said = format!("answered {status}: {}", first_line(&text));
        match status.as_u16() {
            200..=299 => Ok(said),
            // About this message, not about the moment: sending it again would hold up all others for ever.
            400 | 413 | 415 | 422 => Err(Failure::Never(said)),
            _ => Err(Failure::Later(said)),
        }
    }
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().chars().take(ANSWER_CHARS).collect()
}

/// `sha256=` and the HMAC-SHA-256 of a body.
fn signature(secret: &str, body: &[u8]) -> String {
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.as_bytes()) else {
        return String::new(); // A key of any length will do.
    };
    mac.update(body);
    let digits: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256={digits}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_that_of_rfc_4231() {
        // Test case 2.
        let expected = "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert_eq!(signature("Jefe", b"what do ya want for nothing?"), expected);
    }
}
