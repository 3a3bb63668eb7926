//! E-mail by SMTP.

use super::payload::{picture, sentence};
use super::{Failure, Sink};
use crate::config::sinks::Secret;
use crate::event::Message;
use lettre::message::header::ContentType;
use lettre::message::{Attachment, Mailbox, MultiPart, SinglePart};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, Tls, TlsParameters};
use lettre::{SmtpTransport, Transport};
use salad_shared::message;
use std::time::Duration;

/// The server, and whom to write to.
#[derive(Debug, Clone, PartialEq)]
pub struct EmailSpec {
    /// The server's name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How the connection is kept secret.
    pub security: Security,
    /// Name and password.
    pub login: Option<(String, Secret)>,
    /// The sender.
    pub from: Mailbox,
    /// The receivers, at least one.
    pub to: Vec<Mailbox>,
    /// Whether pictures go along.
    pub with_snapshot: bool,
    /// For each step of the conversation.
    pub timeout: Duration,
    /// Certificates (PEM) that are trusted beside the web's.
    pub authorities: Option<Vec<u8>>,
}

/// How a connection to a mail server is kept secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum Security {
    /// From the first byte on.
    Tls,
    /// After a greeting, or not at all.
    StartTls,
    /// Not: for a server on this device or in a network of its own.
    None,
}

/// An e-mail sink.
pub struct Email {
    spec: EmailSpec,
    device: String,
}

impl Email {
    /// `device` is the name this device has in alerts.
    pub fn new(spec: EmailSpec, device: &str) -> Email {
        Email { spec, device: device.to_owned() }
    }

    fn transport(&self) -> Result<SmtpTransport, lettre::transport::smtp::Error> {
        let EmailSpec { host, port, security, login, timeout, .. } = &self.spec;
        let mut builder = SmtpTransport::builder_dangerous(host).port(*port).timeout(Some(*timeout));
        if *security != Security::None {
            let mut parameters = TlsParameters::builder(host.clone());
            if let Some(pem) = &self.spec.authorities {
                parameters = parameters.add_root_certificate(Certificate::from_pem(pem)?);
            }
            let parameters = parameters.build()?;
            let is_wrapped = *security == Security::Tls;
            builder = builder.tls(if is_wrapped { Tls::Wrapper(parameters) } else { Tls::Required(parameters) });
        }
        if let Some((user, password)) = login {
            builder = builder.credentials(Credentials::new(user.clone(), password.reveal().to_owned()));
        }
        Ok(builder.build())
    }

    fn email(&self, message: &Message) -> Result<lettre::Message, String> {
        let mut email = lettre::Message::builder().from(self.spec.from.clone());
        for to in &self.spec.to {
            email = email.to(to.clone());
        }
        let sentence = sentence(&self.device, message);
        // One thread for one event in the receiver's program, and the same message the same id.
        let domain = self.spec.from.email.domain();
        let id = |text: &str| format!("<{}@{domain}>", text.replace('/', "."));
        let first = id(message.id());
        email = email.message_id(Some(id(&message.key()))).references(first.clone()).in_reply_to(first);
        let email = email.subject(format!("Salad: {}", shorter(&sentence)));
        let text = format!("{sentence}\n\nEvent {}, {}.\n", message.id(), message.time());
        let jpeg = if self.spec.with_snapshot { picture(message) } else { None };
        let built = match jpeg {
            None => email.singlepart(SinglePart::plain(text)),
            Some(jpeg) => {
                let jpeg_type = ContentType::parse("image/jpeg").map_err(|e| e.to_string())?;
                let attached = Attachment::new(format!("{}.jpg", message.id())).body(jpeg, jpeg_type);
                email.multipart(MultiPart::mixed().singlepart(SinglePart::plain(text)).singlepart(attached))
            }
        };
        built.map_err(|e| e.to_string())
    }
}

impl Sink for Email {
    fn deliver(&mut self, message: &Message) -> Result<String, Failure> {
        let email = self.email(message).map_err(Failure::Never)?;
        let EmailSpec { host, port, .. } = &self.spec;
        let failed = |e: lettre::transport::smtp::Error| {
            let problem = format!("{host}:{port}: {}", message::message(&e));
            // About this message, such as its size, and not about the server or the login.
            let is_final = e.status().is_some_and(|code| [552, 554].contains(&u16::from(code)));
            if is_final { Failure::Never(problem) } else { Failure::Later(problem) }
        };
        // A connection for each message: events are rare, and servers close what is idle.
        let answer = self.transport().map_err(failed)?.send(&email).map_err(failed)?;
        Ok(format!("{host}:{port} answered {}", answer.first_line().unwrap_or("nothing")))
    }
}

fn shorter(sentence: &str) -> String {
    sentence.chars().take(120).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::tests::{anomaly, ended};
    use jiff::Timestamp;

    #[test]
    fn messages_about_one_event_are_one_thread() {
        let spec = EmailSpec {
            host: "localhost".into(),
            port: 25,
            security: Security::None,
            login: None,
            from: "Salad <salad@example.org>".parse().unwrap(),
            to: vec!["a@example.org".parse().unwrap(), "b@example.org".parse().unwrap()],
            with_snapshot: true,
            timeout: Duration::from_secs(1),
            authorities: None,
        };
        let email = Email::new(spec, "Linie 3 ö");
        let first = anomaly(Timestamp::UNIX_EPOCH, 0.75);
        let texts = [first.clone(), ended(&first, Timestamp::from_second(9).unwrap())]
            .map(|message| String::from_utf8(email.email(&message).unwrap().formatted()).unwrap());
        let header = |text: &str, name: &str| {
            text.lines().find_map(|line| line.strip_prefix(name)).map(|value| value.trim().to_owned())
        };
        assert_eq!(header(&texts[0], "References:"), header(&texts[1], "References:"));
        assert_ne!(header(&texts[0], "Message-ID:"), header(&texts[1], "Message-ID:"));
        assert!(texts[0].contains("b@example.org") && texts[0].contains("0.750"), "{}", texts[0]);
    }
}
