//! MQTT: a device's states and events on a broker, Home Assistant's discovery, and commands from there.
//!
//! A thread of its own keeps the connection (`keeper.rs`); a message is handed to it, and counts as delivered when the broker
//! has acknowledged all that it changes. States are kept by the broker: said twice, they change nothing.

mod board;
mod discovery;
mod frigate;
mod keeper;
mod link;
mod tls;
mod topics;
mod v4;
mod v5;

use super::{Failure, Sink};
use crate::config::sinks::{Secret, SinkSpec};
use crate::controls::Controls;
use crate::event::Message;
use board::Board;
use discovery::Shown;
use keeper::{Job, Keeper};
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
pub use tls::{ClientCertificate, TlsSpec, config as tls_config};
use topics::Topics;
pub use topics::is_prefix;

/// The connection is tried anew often; asking whether it is there costs nothing.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// How long a good-bye may take.
const FAREWELL: Duration = Duration::from_secs(3);

/// Which broker, and what is said there.
#[derive(Debug, Clone, PartialEq)]
pub struct MqttSpec {
    /// Its name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How it is reached over TLS; `None` for plain TCP.
    pub tls: Option<TlsSpec>,
    /// Who we are.
    pub user: Option<String>,
    /// The user's password.
    pub password: Option<Secret>,
    /// Version of the protocol.
    pub protocol: Protocol,
    /// What all topics begin with.
    pub prefix: String,
    /// Home Assistant's prefix; `None` where it is not to find the device.
    pub discovery: Option<String>,
    /// Whether pictures of events are published.
    pub with_snapshot: bool,
    /// How often the score is published where it changes; `None` for never.
    pub score_interval: Option<Duration>,
    /// The longest time without a word to the broker, seconds.
    pub keep_alive_secs: u16,
    /// For a connection, and for each acknowledgement.
    pub timeout: Duration,
}

/// Version of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// 3.1.1.
    V4,
    /// 5.
    V5,
}

/// An MQTT sink.
#[derive(Debug)]
pub struct MqttSink {
    /// `None` once there is nothing more to come.
    jobs: Option<Sender<Job>>,
    keeper: Option<JoinHandle<()>>,
}

impl MqttSink {
    /// Starts to connect. `device` is the name this device has in alerts. Without controls it is a trial: under another
    /// client id, so that a service that runs keeps its connection, and with nothing published but events.
    pub fn start(
        mqtt: MqttSpec,
        sink: &SinkSpec,
        device: &str,
        controls: Option<Arc<Controls>>,
    ) -> io::Result<MqttSink> {
        let topics = Topics::new(&mqtt.prefix, device, mqtt.discovery.as_deref());
        let shown = Shown {
            subjects: sink.filter.subjects.clone(),
            snapshot: mqtt.with_snapshot,
            score: mqtt.score_interval.is_some(),
        };
        let mut client = format!("salad-{}-{}", topics.device, sink.name);
        if controls.is_none() {
            client.push_str(&format!("-{:08x}", fastrand::u32(..)));
        }
        let board = Board::new(topics, device, shown, controls.is_none());
        let (jobs, waiting) = channel();
        let keeper = Keeper::new(mqtt, sink.name.clone(), client, board, controls, waiting);
        let keeper = thread::Builder::new().name(format!("mqtt {}", sink.name)).spawn(|| keeper.run())?;
        Ok(MqttSink { jobs: Some(jobs), keeper: Some(keeper) })
    }
}

impl Sink for MqttSink {
    fn deliver(&mut self, message: &Message) -> Result<String, Failure> {
        let ended = || Failure::Later("its connection is no longer kept".to_owned());
        let (answer, answered) = channel();
        let job = Job { message: message.clone(), answer };
        self.jobs.as_ref().ok_or_else(ended)?.send(job).map_err(|_| ended())?;
        // The keeper has time limits for all that it does.
        answered.recv().map_err(|_| ended())?.map_err(Failure::Later)
    }

    fn longest_pause(&self) -> Duration {
        LONGEST_PAUSE
    }
}

impl Drop for MqttSink {
    /// Has the device said to be offline.
    fn drop(&mut self) {
        self.jobs = None;
        let start = Instant::now();
        while self.keeper.as_ref().is_some_and(|keeper| !keeper.is_finished()) && start.elapsed() < FAREWELL {
            thread::sleep(Duration::from_millis(10));
        }
    }
}
