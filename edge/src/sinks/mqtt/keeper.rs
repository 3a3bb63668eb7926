//! Keeps a connection to the broker, and says over it what is to be said, one thing at a time.
//!
//! ```text
//!                      +------------------------- pause (1 s, doubled up to 30 s) <----+
//!                      v                                                               |
//!   start --> connecting --> all states, subscriptions --> connected ---- lost --------+
//!                                                           |    ^
//!                                                           +----+ messages, commands, scores
//!   from anywhere, when nothing more is to come: offline, good-bye
//! ```
//!
//! Each connection is a new one of the library's, so that nothing is left in it that would be said again behind our back:
//! what has to be repeated, the store knows.

use super::MqttSpec;
use super::board::Board;
use super::discovery::{NORMAL, PAUSE, SCORE, THRESHOLD, USUAL};
use super::link::{self, Heard, Link, Publication};
use crate::controls::{Asked, Controls, MOST_THRESHOLD};
use crate::event::Message;
use crate::sinks::backoff;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// How often a quiet connection is left to see what is to be said.
const LOOK: Duration = Duration::from_millis(100);

/// How long the next message of several may take to come out of the store, before the connection is listened to again.
const NEXT: Duration = Duration::from_millis(50);

/// How long a broker may take to hear that we go.
const FAREWELL: Duration = Duration::from_secs(1);

/// A message to be published.
#[derive(Debug)]
pub struct Job {
    /// The message.
    pub message: Message,
    /// Where to say what came of it: the broker's answer, or why it has none.
    pub answer: Sender<Result<String, String>>,
}

/// The keeper; a thread's work.
pub struct Keeper {
    spec: MqttSpec,
    /// The sink's name, for the log.
    name: String,
    client: String,
    board: Board,
    /// `None` for a trial.
    controls: Option<Arc<Controls>>,
    jobs: Receiver<Job>,
    /// What of the controls is published.
    asked: Option<Asked>,
    /// The score that is published, and since when.
    score: Option<(String, Instant)>,
    /// What came of something that was to be normal.
    answer: Option<String>,
    /// Somebody has to be told all anew.
    is_forgotten: bool,
    /// How often there was no connection, or a short one, since there last was a long one.
    failures: u32,
    /// Whether it was said that there is no connection.
    is_told: bool,
    /// The message at whose picture a connection broke off: perhaps the broker takes none as large.
    too_much: Option<String>,
}

/// Why a connection ended.
enum Ended {
    /// It broke off, or there never was one.
    Lost(String),
    /// Nothing more is to come.
    Done,
}

type Outcome = Result<(), Ended>;

impl Keeper {
    /// Says under the sink's `name` how it does, and is `client` to the broker.
    pub fn new(
        spec: MqttSpec,
        name: String,
        client: String,
        board: Board,
        controls: Option<Arc<Controls>>,
        jobs: Receiver<Job>,
    ) -> Keeper {
        Keeper {
            spec,
            name,
            client,
            board,
            controls,
            jobs,
            asked: None,
            score: None,
            answer: None,
            is_forgotten: false,
            failures: 0,
            is_told: false,
            too_much: None,
        }
    }

    /// Until there are no more jobs to come.
    pub fn run(mut self) {
        loop {
            let start = Instant::now();
            let Err(Ended::Lost(problem)) = self.connection() else { return };
            // Two devices of one name would take the connection from each other as fast as they can.
            if start.elapsed() > LONGEST_PAUSE {
                self.failures = 0;
            }
            if !self.pause(&problem) {
                return;
            }
        }
    }

    /// One connection, from its beginning to its end, which is never `Ok`.
    fn connection(&mut self) -> Outcome {
        let is_trial = self.controls.is_none();
        let will = (!is_trial).then(|| Publication::state(self.board.topics().availability(), "offline"));
        let mut link = link::open(&self.spec, &self.client, will).map_err(Ended::Lost)?;
        let link = link.as_mut();
        self.until(link, self.spec.timeout, "no answer", |heard| *heard == Heard::Connected)?;
        if !is_trial {
            let topics = self.board.topics();
            let mut wanted = [PAUSE, THRESHOLD, NORMAL].map(|name| topics.set(name)).to_vec();
            wanted.extend(topics.home_assistant());
            wanted.iter().try_for_each(|topic| link.subscribe(topic)).map_err(Ended::Lost)?;
        }
        self.is_forgotten = true;
        let mut patience = Duration::ZERO;
        loop {
            if std::mem::take(&mut self.is_forgotten) {
                (self.asked, self.score) = (None, None);
                for publication in self.board.all() {
                    self.say(link, &publication)?;
                }
                self.connected();
            }
            match self.jobs.recv_timeout(std::mem::take(&mut patience)) {
                Ok(job) => {
                    self.take(link, job)?;
                    patience = NEXT;
                }
                Err(RecvTimeoutError::Timeout) => {
                    self.tell_controls(link)?;
                    let heard = link.next(LOOK);
                    self.hear(heard)?;
                }
                Err(RecvTimeoutError::Disconnected) => {
                    self.leave(link, is_trial)?;
                    return Err(Ended::Done);
                }
            }
        }
    }

    /// Publishes what a message changes.
    fn take(&mut self, link: &mut dyn Link, job: Job) -> Outcome {
        let Job { message, answer } = job;
        let with_picture = self.too_much.as_ref() != Some(&message.key());
        let changes = self.board.changes(&message, with_picture);
        for publication in &changes {
            match self.say(link, publication) {
                Ok(None) => {}
                Ok(Some(refused)) => {
                    let _ = answer.send(Err(format!("{}: {refused}", publication.topic)));
                    return Ok(());
                }
                Err(ended) => {
                    if self.board.is_picture(&publication.topic) {
                        self.too_much = Some(message.key());
                    }
                    if let Ended::Lost(problem) = &ended {
                        let _ = answer.send(Err(format!("{}: {problem}", self.broker())));
                    }
                    return Err(ended);
                }
            }
        }
        if !with_picture {
            log::warn!("sink {}: told without its picture, at which the connection broke off", self.name);
        }
        self.too_much = None;
        self.board.took(&message, with_picture);
        let topics: Vec<&str> = changes.iter().map(|p| p.topic.as_str()).collect();
        let _ = answer.send(Ok(format!("{} has acknowledged {}", self.broker(), topics.join(", "))));
        Ok(())
    }

    /// Publishes one thing and waits until the broker has it; gives why it will not have it.
    fn say(&mut self, link: &mut dyn Link, publication: &Publication) -> Result<Option<String>, Ended> {
        link.publish(publication).map_err(Ended::Lost)?;
        let answers = |heard: &Heard| matches!(heard, Heard::Acknowledged | Heard::Refused(_));
        let answer = self.until(link, self.spec.timeout, "no acknowledgement", answers)?;
        Ok(if let Heard::Refused(problem) = answer { Some(problem) } else { None })
    }

    /// Hears until what is heard is what is waited for.
    fn until(
        &mut self,
        link: &mut dyn Link,
        timeout: Duration,
        missing: &str,
        is_it: impl Fn(&Heard) -> bool,
    ) -> Result<Heard, Ended> {
        let start = Instant::now();
        loop {
            let Some(left) = timeout.checked_sub(start.elapsed()) else {
                return Err(Ended::Lost(format!("{missing} for {} s", timeout.as_secs_f64())));
            };
            let heard = link.next(left);
            if is_it(&heard) {
                return Ok(heard);
            }
            self.hear(heard)?;
        }
    }

    fn hear(&mut self, heard: Heard) -> Outcome {
        match heard {
            Heard::Lost(problem) => return Err(Ended::Lost(problem)),
            Heard::Said { topic, payload, retained } => {
                self.obey(&topic, String::from_utf8_lossy(&payload).trim(), retained);
            }
            Heard::Nothing | Heard::Connected | Heard::Acknowledged | Heard::Refused(_) => {}
        }
        Ok(())
    }

    /// Does what was said under a topic.
    fn obey(&mut self, topic: &str, said: &str, retained: bool) {
        let topics = self.board.topics();
        if topics.home_assistant().as_deref() == Some(topic) {
            self.is_forgotten |= said == "online";
            return;
        }
        let Some(controls) = &self.controls else { return };
        if retained {
            // It would come again with each connection, long after somebody has meant it.
            log::warn!("sink {}: a command that the broker keeps is not obeyed: {topic}", self.name);
            return;
        }
        if topic == topics.set(NORMAL) {
            let none = || "there is no event store, so that nothing can be kept".to_owned();
            let answer = controls.enrolments().map_or_else(none, |enrolments| enrolments.obey(said));
            log::info!("sink {}: {topic}: {answer}", self.name);
            self.answer = Some(answer);
            return;
        }
        let understood = if topic == topics.set(PAUSE) {
            let paused = match said {
                "ON" => Some(true),
                "OFF" => Some(false),
                _ => None,
            };
            paused.map(|paused| controls.pause(paused)).is_some()
        } else {
            match said.parse() {
                Ok(threshold) => controls.set_threshold(Some(threshold)),
                Err(_) => said == USUAL && controls.set_threshold(None),
            }
        };
        if !understood {
            let said: String = said.chars().take(40).collect();
            let remedy = format!("pause takes ON and OFF, threshold a score up to {MOST_THRESHOLD} or {USUAL}");
            log::warn!("sink {}: {topic}: not understood: {said:?}; {remedy}", self.name);
        }
        // What holds is said again, whether or not it has changed: who asked may show something else.
        self.asked = None;
    }

    /// Publishes what has changed of the controls, and now and then the score.
    fn tell_controls(&mut self, link: &mut dyn Link) -> Outcome {
        let Some(controls) = self.controls.clone() else { return Ok(()) };
        let asked = controls.asked();
        if self.asked != Some(asked) {
            let (pause, threshold) = (self.board.topics().of(PAUSE), self.board.topics().of(THRESHOLD));
            self.say(link, &Publication::state(pause, if asked.paused { "ON" } else { "OFF" }))?;
            self.say(link, &Publication::state(threshold, asked.threshold.to_string()))?;
            self.asked = Some(asked);
        }
        if let Some(answer) = self.answer.take() {
            let topic = self.board.topics().of(NORMAL);
            self.say(link, &Publication { topic, payload: answer.into_bytes(), retain: false })?;
        }
        let Some((interval, scored)) = self.spec.score_interval.zip(controls.latest()) else { return Ok(()) };
        let text = format!("{:.4}", scored.score);
        let is_due = self.score.as_ref().is_none_or(|(told, at)| *told != text && at.elapsed() >= interval);
        if is_due {
            self.say(link, &Publication::state(self.board.topics().of(SCORE), text.clone()))?;
            self.score = Some((text, Instant::now()));
        }
        Ok(())
    }

    fn leave(&mut self, link: &mut dyn Link, is_trial: bool) -> Outcome {
        if !is_trial {
            self.say(link, &Publication::state(self.board.topics().availability(), "offline"))?;
        }
        link.leave().map_err(Ended::Lost)?;
        // Its end is what is waited for.
        let _ = self.until(link, FAREWELL, "no end", |heard| matches!(heard, Heard::Lost(_)));
        Ok(())
    }

    fn connected(&mut self) {
        let broker = self.broker();
        if std::mem::take(&mut self.is_told) {
            log::info!("sink {}: connected to {broker} again", self.name);
        } else {
            log::debug!("sink {}: connected to {broker}", self.name);
        }
    }

    /// Waits for the next attempt, and tells whoever has a message meanwhile that there is no connection. Says whether there
    /// is to be one.
    fn pause(&mut self, problem: &str) -> bool {
        let broker = self.broker();
        self.failures = self.failures.saturating_add(1);
        let level = if std::mem::replace(&mut self.is_told, true) { log::Level::Debug } else { log::Level::Error };
        log::log!(level, "sink {}: {broker}: {problem}; trying again until it works", self.name);
        let pause = backoff(self.failures, LONGEST_PAUSE);
        // Who is told of a trial wants to know why.
        let why =
            if self.controls.is_none() { format!("{broker}: {problem}") } else { format!("no connection to {broker}") };
        let start = Instant::now();
        while let Some(left) = pause.checked_sub(start.elapsed()) {
            match self.jobs.recv_timeout(left) {
                Ok(job) => drop(job.answer.send(Err(why.clone()))),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return false,
            }
        }
        true
    }

    fn broker(&self) -> String {
        format!("{}:{}", self.spec.host, self.spec.port)
    }
}
