//! `[[sinks]]`: who is told of events.

use super::checker::{Checked, Checker};
use super::raw_sinks::{RawCommand, RawDay, RawEmail, RawGpio, RawSecret, RawSink, RawWebhook};
use crate::event::Subject;
use crate::sinks::command::CommandSpec;
use crate::sinks::email::{EmailSpec, Security};
use crate::sinks::filter::{Filter, Schedule};
use crate::sinks::gpio::GpioSpec;
use crate::sinks::mqtt::MqttSpec;
use crate::sinks::webhook::WebhookSpec;
use crate::source::child::redacted;
use jiff::civil::{Time, Weekday};
use jiff::tz::TimeZone;
use std::collections::HashSet;
use std::fmt;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A sink, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct SinkSpec {
    /// Its name, unlike all others.
    pub name: String,
    /// What it is told of.
    pub filter: Filter,
    /// What it is.
    pub kind: SinkKind,
}

/// What a sink is.
#[derive(Debug, Clone, PartialEq)]
pub enum SinkKind {
    /// HTTP POST.
    Webhook(WebhookSpec),
    /// A program.
    Command(CommandSpec),
    /// E-mail.
    Email(Box<EmailSpec>),
    /// A line of the board's pins.
    Gpio(GpioSpec),
    /// A file of JSON lines.
    JsonLines(PathBuf),
    /// A broker.
    Mqtt(Box<MqttSpec>),
}

/// What nobody is to read in a log.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub(super) fn new(text: String) -> Secret {
        Secret(text)
    }

    /// Its text.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

const WEEK: [Weekday; 7] = [
    Weekday::Monday,
    Weekday::Tuesday,
    Weekday::Wednesday,
    Weekday::Thursday,
    Weekday::Friday,
    Weekday::Saturday,
    Weekday::Sunday,
];

impl Checker<'_> {
    pub(super) fn sinks(&self, raw: Vec<RawSink>) -> Checked<Vec<SinkSpec>> {
        let mut names = HashSet::new();
        let mut sinks = Vec::new();
        for (index, sink) in raw.into_iter().enumerate() {
            self.sink.set(self.sinks.get(index).copied());
            let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            if sink.name.is_empty() || sink.name.len() > 64 || !sink.name.chars().all(allowed) {
                let remedy = "has to be of letters, digits, `-`, `_` and `.`, at most 64".to_owned();
                self.error("sinks.name", &sink.name, remedy);
            }
            if !names.insert(sink.name.clone()) {
                self.error("sinks.name", &sink.name, "two sinks cannot have one name".to_owned());
            }
            sinks.push(self.sink(sink));
        }
        self.sink.set(None);
        sinks.into_iter().collect()
    }

    fn sink(&self, raw: RawSink) -> Checked<SinkSpec> {
        let schedule = self.schedule(raw.hours, raw.days);
        let subjects = raw.subjects.unwrap_or_else(|| Subject::ALL.to_vec());
        if subjects.is_empty() {
            let remedy = "name at least one of anomaly, camera, device".to_owned();
            self.error("sinks.subjects", "[]", remedy);
        }
        if !(raw.min_score.is_finite() && raw.min_score >= 0.0) {
            self.error("sinks.min_score", raw.min_score, "has to be a score, 0 or more".to_owned());
        }
        if raw.max_per_hour == Some(0) {
            let remedy = "has to be at least 1; leave it out for no limit".to_owned();
            self.error("sinks.max_per_hour", 0, remedy);
        }
        let kinds = [
            raw.webhook.map(|raw| self.webhook(raw)),
            raw.command.map(|raw| self.program(&raw)),
            raw.email.map(|raw| self.email(raw)),
            raw.gpio.map(|raw| self.gpio(raw)),
            raw.mqtt.map(|raw| Ok(SinkKind::Mqtt(Box::new(self.mqtt(raw)?)))),
            raw.json_lines.map(|raw| Ok(SinkKind::JsonLines(self.complete(&raw.path)))),
        ];
        let mut kinds = kinds.into_iter().flatten();
        let (Some(kind), None) = (kinds.next(), kinds.next()) else {
            let remedy = "a sink has exactly one of webhook, command, email, gpio, mqtt and json_lines".to_owned();
            return Err(self.error("sinks.name", raw.name, remedy));
        };
        let filter = Filter {
            subjects,
            min_score: raw.min_score,
            schedule: schedule?,
            max_per_hour: raw.max_per_hour,
            updates: raw.updates,
        };
        Ok(SinkSpec { name: raw.name, filter, kind: kind? })
    }

    fn schedule(&self, hours: Option<String>, days: Option<Vec<RawDay>>) -> Checked<Option<Schedule>> {
        if hours.is_none() && days.is_none() {
            return Ok(None);
        }
        let days = days.map_or(WEEK.to_vec(), |days| days.iter().map(|&day| WEEK[day as usize]).collect());
        if days.is_empty() {
            return Err(self.error("sinks.days", "[]", "name at least one, such as \"mon\"".to_owned()));
        }
        let hours = hours.unwrap_or_else(|| "00:00-00:00".to_owned());
        let both = hours.split_once('-').map(|(from, to)| (time(from), time(to)));
        let Some((Some(from), Some(to))) = both else {
            let remedy = "has to be like \"22:00-06:00\", local time".to_owned();
            return Err(self.error("sinks.hours", hours, remedy));
        };
        Ok(Some(Schedule { days, from, to, zone: TimeZone::system() }))
    }

    fn webhook(&self, raw: RawWebhook) -> Checked<SinkKind> {
        let url = raw.url;
        if !(url.starts_with("http://") || url.starts_with("https://")) || url.parse::<ureq::http::Uri>().is_err() {
            let shown = redacted(&url, &[]);
            self.error("sinks.webhook.url", shown, "has to be an http:// or https:// address".to_owned());
        }
        self.warn_of_login(
            "sinks.webhook.url",
            &url,
            "give it as a header, headers = { Authorization = { file = \"...\" } }",
        );
        let mut headers = Vec::new();
        for (name, secret) in raw.headers {
            if name.parse::<ureq::http::HeaderName>().is_err() {
                self.error("sinks.webhook.headers", &name, "is no name of a header".to_owned());
            }
            headers.push(self.secret("sinks.webhook.headers", &secret).map(|secret| (name, secret)));
        }
        let secret = raw.secret.map(|secret| self.secret("sinks.webhook.secret", &secret)).transpose();
        let timeout = self.timeout("sinks.webhook.timeout_secs", raw.timeout_secs);
        let authorities = raw.ca_file.map(|path| self.authorities("sinks.webhook.ca_file", &path)).transpose();
        Ok(SinkKind::Webhook(WebhookSpec {
            url,
            headers: headers.into_iter().collect::<Checked<_>>()?,
            secret: secret?,
            cloud_events: raw.cloud_events,
            with_snapshot: raw.snapshot,
            timeout: timeout?,
            authorities: authorities?,
        }))
    }

    fn email(&self, raw: RawEmail) -> Checked<SinkKind> {
        let mailbox = |field, text: String| {
            text.parse().map_err(|_| self.error(field, text, "has to be like \"Salad <salad@example.org>\"".to_owned()))
        };
        if raw.to.is_empty() {
            self.error("sinks.email.to", "[]", "name at least one receiver".to_owned());
        }
        let to: Vec<_> = raw.to.into_iter().map(|text| mailbox("sinks.email.to", text)).collect();
        let from = mailbox("sinks.email.from", raw.from);
        let login = match (raw.user, raw.password) {
            (Some(user), Some(password)) => {
                if raw.security == Security::None {
                    self.warn(
                        "sinks.email.security",
                        "the password goes over the network as it is; take \"tls\" or \"starttls\"",
                    );
                }
                self.secret("sinks.email.password", &password).map(|password| Some((user, password)))
            }
            (None, None) => Ok(None),
            _ => {
                let remedy = "give user and password, or neither".to_owned();
                Err(self.error("sinks.email.user", "(one of two)", remedy))
            }
        };
        let timeout = self.timeout("sinks.email.timeout_secs", raw.timeout_secs);
        let authorities = raw.ca_file.map(|path| self.authorities("sinks.email.ca_file", &path)).transpose();
        Ok(SinkKind::Email(Box::new(EmailSpec {
            host: raw.host,
            port: raw.port.unwrap_or(match raw.security {
                Security::Tls => 465,
                Security::StartTls => 587,
                Security::None => 25,
            }),
            security: raw.security,
            login: login?,
            from: from?,
            to: to.into_iter().collect::<Checked<_>>()?,
            with_snapshot: raw.snapshot,
            timeout: timeout?,
            authorities: authorities?,
        })))
    }

    fn gpio(&self, raw: RawGpio) -> Checked<SinkKind> {
        let pulse = raw.pulse_secs.map(|secs| self.timeout("sinks.gpio.pulse_secs", secs)).transpose()?;
        let RawGpio { chip, line, active_low, .. } = raw;
        Ok(SinkKind::Gpio(GpioSpec { chip, line, active_low, pulse }))
    }

    fn program(&self, raw: &RawCommand) -> Checked<SinkKind> {
        let timeout = self.timeout("sinks.command.timeout_secs", raw.timeout_secs);
        let [program, arguments @ ..] = raw.run.as_slice() else {
            return Err(self.error("sinks.command.run", "[]", "give a program and its arguments".to_owned()));
        };
        Ok(SinkKind::Command(CommandSpec {
            program: program.clone(),
            arguments: arguments.to_vec(),
            timeout: timeout?,
        }))
    }

    pub(super) fn timeout(&self, field: &'static str, secs: f64) -> Checked<Duration> {
        if !(0.1..=600.0).contains(&secs) {
            return Err(self.error(field, secs, "has to be from 0.1 to 600".to_owned()));
        }
        Ok(Duration::from_secs_f64(secs))
    }

    /// A secret's text, without the end of its line.
    pub(super) fn secret(&self, field: &'static str, raw: &RawSecret) -> Checked<Secret> {
        let text = match (&raw.file, &raw.env) {
            (Some(file), None) => {
                self.warn_of_readers(field, file);
                self.read(field, file, |path| std::fs::read_to_string(path))?
            }
            (None, Some(name)) => std::env::var(name)
                .map_err(|_| self.error(field, name, "there is no such environment variable".to_owned()))?,
            _ => {
                let remedy = "has to be { file = \"...\" } or { env = \"...\" }".to_owned();
                return Err(self.error(field, "(neither or both)", remedy));
            }
        };
        let text = text.trim_end_matches(['\r', '\n']);
        if text.is_empty() || text.contains(|c: char| c.is_control()) {
            return Err(self.error(field, "(secret)", "has to be one line with something in it".to_owned()));
        }
        Ok(Secret(text.to_owned()))
    }

    /// Warns where everybody can read a secret.
    pub(super) fn warn_of_readers(&self, field: &'static str, file: &Path) {
        let file = self.complete(file);
        if file.metadata().is_ok_and(|found| found.permissions().mode() & 0o004 != 0) {
            let file = file.display();
            self.warn(field, &format!("everybody on this device can read {file}; chmod o= {file}"));
        }
    }

    /// Warns where an address has a password in it.
    pub(super) fn warn_of_login(&self, field: &'static str, url: &str, remedy: &str) {
        let authority = url.split_once("://").and_then(|(_, rest)| rest.split(['/', '?']).next());
        if authority.and_then(|authority| authority.rsplit_once('@')).is_some_and(|(login, _)| login.contains(':')) {
            self.warn(field, &format!("has a password in it, which goes wherever this file goes; {remedy}"));
        }
    }

    /// A file that the configuration names, by way of `reader`.
    pub(super) fn read<T>(&self, field: &'static str, path: &Path, reader: fn(&Path) -> io::Result<T>) -> Checked<T> {
        let path = self.complete(path);
        reader(&path).map_err(|e| self.error(field, path.display(), format!("cannot be read: {e}")))
    }

    /// A file of certificates.
    pub(super) fn authorities(&self, field: &'static str, path: &Path) -> Checked<Vec<u8>> {
        let pem = self.read(field, path, |path| std::fs::read(path))?;
        let found = ureq::tls::parse_pem(&pem).any(|item| matches!(item, Ok(ureq::tls::PemItem::Certificate(_))));
        if !found {
            return Err(self.error(field, path.display(), "has no certificate in PEM form".to_owned()));
        }
        Ok(pem)
    }
}

fn time(text: &str) -> Option<Time> {
    Time::strptime("%H:%M", text.trim()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use std::fs;

    /// What comes of a configuration with these sinks in it.
    fn config(sinks: &str) -> Result<Config, String> {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("m.salad"), "x").unwrap();
        fs::write(dir.path().join("secret"), "hush\n").unwrap();
        fs::write(dir.path().join("empty"), "\n").unwrap();
        fs::create_dir(dir.path().join("frames")).unwrap();
        let text = format!(
            "name = \"line 3\"\nbundle = \"m.salad\"\n[source]\nreplay = {{ path = \"frames\", fps = 5 }}\n\
             [events]\nstore = \"events.db\"\n{sinks}"
        );
        Config::parse(&text, &dir.path().join("edge.toml")).map_err(|e| e.to_string())
    }

    fn error(sinks: &str) -> String {
        config(sinks).unwrap_err()
    }

    #[test]
    fn a_webhook_has_its_filter_and_its_secret_and_nobody_can_print_that() {
        let sinks = "[[sinks]]\nname = \"a\"\nsubjects = [\"anomaly\"]\nhours = \"22:00-06:00\"\ndays = [\"sat\", \"sun\"]\n\
                     max_per_hour = 3\nupdates = false\nwebhook = { url = \"https://x.org/y?token=1\", secret = { file = \"secret\" } }\n";
        let config = config(sinks).unwrap();
        assert_eq!(config.name, "line 3");
        let SinkSpec { name, filter, kind } = &config.sinks[0];
        assert_eq!((name.as_str(), filter.max_per_hour, filter.updates), ("a", Some(3), false));
        let schedule = filter.schedule.as_ref().unwrap();
        assert_eq!(schedule.days, [Weekday::Saturday, Weekday::Sunday]);
        assert_eq!((schedule.from.hour(), schedule.to.hour()), (22, 6));
        let SinkKind::Webhook(webhook) = kind else { unreachable!() };
        assert_eq!(webhook.secret.as_ref().map(Secret::reveal), Some("hush"));
        assert!(!format!("{config:?}").contains("hush"));
    }

    #[test]
    fn what_cannot_be_is_named_with_its_remedy() {
        let web = "webhook = { url = \"http://x.org\" }";
        let sink = |line: &str| format!("[[sinks]]\nname = \"a\"\n{line}\n");
        let cases = [
            (sink(""), "exactly one of webhook"),
            (sink(&format!("{web}\ngpio = {{ line = 3 }}")), "exactly one of webhook"),
            (format!("{}{}", sink(web), sink(web)), "sinks.name = a: two sinks"),
            ("[[sinks]]\nname = \"a b\"\n".to_owned() + web, "sinks.name = a b"),
            (sink(&format!("{web}\nhours = \"22-6\"")), "sinks.hours = 22-6"),
            (sink(&format!("{web}\ndays = []")), "sinks.days"),
            (sink(&format!("{web}\nsubjects = []")), "sinks.subjects"),
            (sink(&format!("{web}\nmin_score = -1")), "sinks.min_score = -1"),
            (sink(&format!("{web}\nmax_per_hour = 0")), "sinks.max_per_hour = 0"),
            (sink("webhook = { url = \"ftp://x.org\" }"), "sinks.webhook.url = ftp://x.org"),
            (sink("webhook = { url = \"http://x.org\", timeout_secs = 0 }"), "sinks.webhook.timeout_secs = 0"),
            (sink("webhook = { url = \"http://x.org\", secret = {} }"), "sinks.webhook.secret"),
            (sink("webhook = { url = \"http://x.org\", secret = { file = \"none\" } }"), "none: cannot be read"),
            (sink("webhook = { url = \"http://x.org\", secret = { file = \"empty\" } }"), "one line"),
            (sink("webhook = { url = \"http://x.org\", secret = { env = \"SALAD_NO_SUCH\" } }"), "no such environment"),
            (
                sink("webhook = { url = \"http://x.org\", headers = { \"a b\" = { file = \"secret\" } } }"),
                "headers = a b",
            ),
            (sink("webhook = { url = \"https://x.org\", ca_file = \"secret\" }"), "no certificate"),
            (sink("command = { run = [] }"), "sinks.command.run"),
            (sink("email = { host = \"h\", from = \"nobody\", to = [\"a@x.org\"] }"), "sinks.email.from = nobody"),
            (sink("email = { host = \"h\", from = \"a@x.org\", to = [] }"), "sinks.email.to"),
            (
                sink("email = { host = \"h\", user = \"u\", from = \"a@x.org\", to = [\"a@x.org\"] }"),
                "user and password",
            ),
        ];
        for (text, expected) in cases {
            let found = error(&text);
            assert!(found.contains("edge.toml:") && found.contains(expected), "{text}: {found}");
        }
        let found = error("[[sinks]]\nname = \"a\"\nwebhook = { url = \"http://x.org\", secret = \"hush\" }\n");
        assert!(found.contains("edge.toml:9"), "{found}");
    }
}
