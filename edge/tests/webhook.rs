//! A webhook through the whole outbox, to a server that fails in every way before it takes a message.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test program")]

use jiff::Timestamp;
use salad_edge::config::sinks::{SinkKind, SinkSpec};
use salad_edge::event::Message;
use salad_edge::sinks::filter::Filter;
use salad_edge::sinks::outbox::Outbox;
use salad_edge::sinks::webhook::WebhookSpec;
use salad_edge::sinks::{Sink, build};
use salad_edge::store::{Store, StoreSettings};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::Duration;

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the server does with a request.
#[derive(Debug, Clone, Copy)]
enum Mood {
    /// Closes the connection at once.
    Fails,
    /// Reads the request and says nothing for as long as the sender waits.
    Hangs,
    /// Answers with this status.
    Says(u16),
}

/// A request: the key in its header, and its body.
type Request = (String, Value);

/// Reads one request; `None` where the connection ends before it is whole.
fn request(stream: &TcpStream) -> Option<Request> {
    let (mut reader, mut key, mut length) = (BufReader::new(stream), String::new(), 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
        match line.trim().split_once(": ") {
            Some((name, value)) if name.eq_ignore_ascii_case("idempotency-key") => key = value.to_owned(),
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => length = value.parse().ok()?,
            None if line.trim().is_empty() => break,
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some((key, serde_json::from_slice(&body).ok()?))
}

/// Serves one connection for each mood, and tells of each request that it has read whole.
fn serve(listener: &TcpListener, moods: &[Mood], told: &Sender<Request>) {
    let mut hanging = Vec::new();
    for mood in moods {
        let (mut stream, _) = listener.accept().unwrap();
        if let Mood::Fails = mood {
            continue;
        }
        told.send(request(&stream).unwrap()).unwrap();
        match mood {
            Mood::Says(status) => {
                write!(stream, "HTTP/1.1 {status} Word\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").unwrap();
            }
            _ => hanging.push(stream),
        }
    }
}

fn anomaly(second: i64) -> Message {
    let time = Timestamp::from_second(second).unwrap();
    let event = json!({
        "subject": "anomaly", "kind": "new", "id": format!("e{second}"), "time": time, "started": time, "top_score": 0.5,
        "top_time": time, "top_frame": "f", "threshold": 0.1, "form": "f32", "nearest": [], "snapshot": null, "reason": null,
    });
    serde_json::from_value(event).unwrap()
}

#[test]
fn a_message_is_tried_under_one_key_until_the_server_recovers_and_the_next_comes_after_it() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let kind = SinkKind::Webhook(WebhookSpec {
        url: format!("http://{}/alerts", listener.local_addr().unwrap()),
        headers: Vec::new(),
        secret: None,
        cloud_events: false,
        with_snapshot: false,
        timeout: Duration::from_millis(500),
        authorities: None,
    });
    let spec = SinkSpec { name: "office".to_owned(), filter: Filter::default(), kind };
    let dir = tempfile::tempdir().unwrap();
    let settings = StoreSettings { path: dir.path().join("events.db"), max_age: Duration::MAX, max_bytes: u64::MAX };
    let filters = vec![(spec.name.clone(), spec.filter.clone())];
    let store = Arc::new(Store::open(settings, filters, Timestamp::UNIX_EPOCH).unwrap());
    let messages = [anomaly(1), anomaly(2), anomaly(3)];
    messages.iter().for_each(|message| drop(store.record(message)));
    let (told, requests) = channel();
    // The first message fails three times over; the second is none that the server will ever take; the third it takes.
    let moods = [Mood::Fails, Mood::Hangs, Mood::Says(500), Mood::Says(200), Mood::Says(422), Mood::Says(200)];
    let server = thread::spawn(move || serve(&listener, &moods, &told));
    let sink: Box<dyn Sink> = build(&spec, "Line 3", None).unwrap();
    let mut outbox = Outbox::start(Arc::clone(&store), vec![(spec.name, sink)]).unwrap();
    let requests: Vec<Request> = (0..5).map(|_| requests.recv_timeout(PATIENCE).unwrap()).collect();
    server.join().unwrap();
    outbox.finish(PATIENCE);
    let keys: Vec<&str> = requests.iter().map(|(key, _)| key.as_str()).collect();
    let [first, second, third] = messages.each_ref().map(Message::key);
    assert_eq!(keys, [&first, &first, &first, &second, &third]);
    assert!(requests.iter().all(|(key, body)| body["key"] == *key && body["device"] == "Line 3"), "{requests:?}");
    let state = &store.sinks().unwrap()[0];
    assert_eq!((state.delivered, state.refused, state.pending), (2, 1, 0));
}
