//! MQTT 3.1.1, which calls itself version 4.

use super::MqttSpec;
use super::link::{Heard, Link, MAX_PACKET, Publication, refusal};
use rumqttc_v4::tokio_rustls::rustls::ClientConfig;
use rumqttc_v4::{
    Client, Connection, ConnectionError, Event, LastWill, MqttOptions, NetworkOptions, Packet, PublishOptions, QoS,
    RecvTimeoutError, Transport,
};
use std::sync::Arc;
use std::time::Duration;

/// What comes in is commands: a few bytes.
const MAX_INCOMING: usize = 64 << 10;

/// A connection.
pub struct Connected {
    client: Client,
    connection: Connection,
}

impl Connected {
    /// Not connected yet.
    pub fn open(
        spec: &MqttSpec,
        client: &str,
        tls: Option<Arc<ClientConfig>>,
        will: Option<Publication>,
    ) -> Result<Connected, String> {
        let mut options = MqttOptions::new(client, (spec.host.clone(), spec.port));
        options.set_keep_alive(spec.keep_alive_secs).set_clean_session(true);
        options.set_max_packet_size(MAX_INCOMING, MAX_PACKET as usize);
        match (&spec.user, &spec.password) {
            (Some(user), Some(password)) => options.set_credentials(user.clone(), password.reveal().to_owned()),
            (Some(user), None) => options.set_username(user.clone()),
            (None, _) => &mut options,
        };
        if let Some(config) = tls {
            options.set_transport(Transport::tls_with_config(rumqttc_v4::TlsConfiguration::Rustls(config)));
        }
        if let Some(will) = will {
            options.set_last_will(LastWill::new(will.topic, will.payload, QoS::AtLeastOnce, will.retain));
        }
        let built = Client::builder(options).capacity(10).try_build();
        let (client, mut connection) = built.map_err(|e| e.to_string())?;
        let mut network = NetworkOptions::new();
        network.set_connection_timeout(spec.timeout.as_secs().max(1));
        network.set_tcp_nodelay(true);
        connection.eventloop.set_network_options(network);
        Ok(Connected { client, connection })
    }
}

impl Link for Connected {
    fn next(&mut self, patience: Duration) -> Heard {
        let event = match self.connection.recv_timeout(patience) {
            Ok(event) => event,
            Err(RecvTimeoutError::Timeout { .. }) => return Heard::Nothing,
            Err(RecvTimeoutError::Disconnected) => return Heard::Lost("closed".to_owned()),
        };
        match event {
            Ok(Event::Incoming(Packet::ConnAck(_))) => Heard::Connected,
            Ok(Event::Incoming(Packet::PubAck(_))) => Heard::Acknowledged,
            Ok(Event::Incoming(Packet::Publish(said))) => Heard::Said {
                topic: String::from_utf8_lossy(&said.topic).into_owned(),
                payload: said.payload.to_vec(),
                retained: said.retain,
            },
            Ok(_) => Heard::Nothing,
            Err(ConnectionError::ConnectionRefused(code)) => Heard::Lost(refusal(&format!("{code:?}"))),
            Err(error) => Heard::Lost(error.to_string()),
        }
    }

    fn publish(&mut self, publication: &Publication) -> Result<(), String> {
        let Publication { topic, payload, retain } = publication;
        let options = PublishOptions::new(QoS::AtLeastOnce).retain(*retain);
        self.client.try_publish(topic.clone(), payload.clone(), options).map_err(|e| e.to_string())
    }

    fn subscribe(&mut self, topic: &str) -> Result<(), String> {
        self.client.try_subscribe(topic, QoS::AtLeastOnce).map_err(|e| e.to_string())
    }

    fn leave(&mut self) -> Result<(), String> {
        self.client.try_disconnect_now().map_err(|e| e.to_string())
    }
}
