//! One connection to a broker, whichever version of the protocol it speaks. What is here is all that the sink needs of it.

use super::{MqttSpec, Protocol, tls, v4, v5};
use std::time::Duration;

/// No packet is larger: the protocol's own limit.
pub const MAX_PACKET: u32 = 268_435_455;

/// Something to be published, at least once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publication {
    /// The topic.
    pub topic: String,
    /// What is said there.
    pub payload: Vec<u8>,
    /// Whether the broker keeps it, for those who ask later.
    pub retain: bool,
}

impl Publication {
    /// A state: the broker keeps it.
    pub fn state(topic: String, payload: impl Into<Vec<u8>>) -> Publication {
        Publication { topic, payload: payload.into(), retain: true }
    }
}

/// What a connection has to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// Nothing that matters.
    Nothing,
    /// The broker has let us in.
    Connected,
    /// The broker has what was published.
    Acknowledged,
    /// The broker will not have what was published, and says why.
    Refused(String),
    /// Somebody has published under a topic that is subscribed to.
    Said {
        /// The topic.
        topic: String,
        /// What was said.
        payload: Vec<u8>,
        /// Whether it was said some time ago, and kept by the broker.
        retained: bool,
    },
    /// There is no connection, or none any more, and this is why. Nothing comes after it.
    Lost(String),
}

/// A connection. It is made by [`open`], and connects as it is asked what there is to hear.
pub trait Link {
    /// What is heard next; [`Heard::Nothing`] after `patience`. While it connects, and while something is being published, it
    /// has to be given the time for the whole of it: what is broken off then is lost.
    fn next(&mut self, patience: Duration) -> Heard;

    /// Publishes, which is done when [`Heard::Acknowledged`] has come; one at a time.
    fn publish(&mut self, publication: &Publication) -> Result<(), String>;

    /// Subscribes to a topic.
    fn subscribe(&mut self, topic: &str) -> Result<(), String>;

    /// Says good-bye, so that the broker does not publish the last will; done when [`Heard::Lost`] has come.
    fn leave(&mut self) -> Result<(), String>;
}

/// A connection as `client`, with a last will.
pub fn open(spec: &MqttSpec, client: &str, will: Option<Publication>) -> Result<Box<dyn Link>, String> {
    let tls = spec.tls.as_ref().map(tls::config).transpose()?;
    Ok(match spec.protocol {
        Protocol::V4 => Box::new(v4::Connected::open(spec, client, tls, will)?),
        Protocol::V5 => Box::new(v5::Connected::open(spec, client, tls, will)?),
    })
}

/// Why a broker that answers does not let us in; `code` is the library's word for it.
pub fn refusal(code: &str) -> String {
    let remedy =
        if code.contains("Authorized") || code.contains("Password") { "; look at user and password" } else { "" };
    format!("the broker refuses the connection: {code}{remedy}")
}
