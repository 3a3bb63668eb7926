//! What the store keeps, through restarts, full disks and damaged files.

use super::*;
use crate::event::tests::{anomaly, ended, trouble};
use crate::event::{EventKind, Subject};

fn settings(dir: &Path) -> StoreSettings {
    StoreSettings { path: dir.join("new/events.db"), max_age: Duration::from_secs(86_400 * 90), max_bytes: 1 << 30 }
}

fn open(dir: &Path, sinks: &[(&str, Filter)]) -> Store {
    let sinks = sinks.iter().map(|(name, filter)| ((*name).to_owned(), filter.clone())).collect();
    Store::open(settings(dir), sinks, at(1_000_000)).unwrap()
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// The keys of all that a sink has yet to be told, in order.
fn waiting(store: &Store, sink: &str) -> Vec<String> {
    let mut keys = Vec::new();
    let mut last = 0;
    while let Some(pending) = store.next(sink, last, Duration::ZERO).unwrap() {
        last = pending.seq;
        keys.push(serde_json::from_str::<Message>(&pending.body).unwrap().key());
    }
    keys
}

#[test]
fn each_sink_has_its_own_place_and_a_restart_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let sinks = [("a", Filter::default()), ("b", Filter::default())];
    let first = anomaly(at(1), 0.5);
    let messages = [first.clone(), ended(&first, at(2)), anomaly(at(3), 0.6)];
    let keys: Vec<String> = messages.iter().map(Message::key).collect();
    let store = open(dir.path(), &sinks);
    messages.iter().for_each(|message| assert!(matches!(store.record(message), Recorded::OnDisk)));
    let head = store.next("a", 0, Duration::ZERO).unwrap().unwrap();
    store.delivered("a", head.seq, at(4)).unwrap();
    drop(store);
    let store = open(dir.path(), &sinks[..2]);
    // The event that was open has been ended, for both.
    let end = messages[2].clone().interrupted(at(1_000_000)).key();
    let [first, second, third] = &keys[..] else { unreachable!() };
    assert_eq!(waiting(&store, "a"), [second.clone(), third.clone(), end.clone()]);
    assert_eq!(waiting(&store, "b"), [first.clone(), second.clone(), third.clone(), end]);
    let states = store.sinks().unwrap();
    assert_eq!((states[0].delivered, states[0].pending, states[0].last_success), (1, 3, Some(at(4))));
    assert_eq!((states[1].delivered, states[1].pending, states[1].last_success), (0, 4, None));
    let latest = store.events(EventQuery::latest(9)).unwrap();
    assert_eq!(latest.iter().map(|e| (e.message.kind(), e.is_open)).collect::<Vec<_>>(), [(EventKind::End, false); 2]);
}

#[test]
fn a_sink_that_is_no_more_is_forgotten_and_a_new_one_begins_with_now() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), &[("old", Filter::default())]);
    let first = anomaly(at(1), 0.5);
    store.record(&first);
    store.record(&ended(&first, at(2)));
    drop(store);
    let store = open(dir.path(), &[("new", Filter::default())]);
    assert_eq!(waiting(&store, "old").len() + waiting(&store, "new").len(), 0);
    store.record(&anomaly(at(9), 0.5));
    assert_eq!(waiting(&store, "new").len(), 1);
}

#[test]
fn a_sink_hears_the_end_of_what_it_heard_the_beginning_of_and_of_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let sinks = [
        ("high", Filter { subjects: vec![Subject::Anomaly], min_score: 0.7, ..Filter::default() }),
        ("few", Filter { max_per_hour: Some(1), updates: false, ..Filter::default() }),
        ("camera", Filter { subjects: vec![Subject::Camera], ..Filter::default() }),
    ];
    let store = open(dir.path(), &sinks);
    let update = |message: &Message, second, score| {
        let Message::Anomaly(event) = message.clone() else { unreachable!() };
        let time = at(second);
        Message::Anomaly(crate::event::Event { kind: EventKind::Update, time, top_score: score, ..event })
    };
    let (first, second, third) = (anomaly(at(1), 0.5), anomaly(at(10), 0.5), anomaly(at(4000), 0.5));
    let covered = trouble(at(20));
    let rises = update(&first, 2, 0.8);
    let all = [
        &first,
        &rises,
        &update(&first, 3, 0.9),
        &ended(&first, at(4)),
        &second,
        &ended(&second, at(11)),
        &covered,
        &third,
    ];
    all.iter().for_each(|message| drop(store.record(message)));
    let keys = |messages: &[&Message]| messages.iter().map(|m| m.key()).collect::<Vec<_>>();
    // Its first message is the one with which the score is high enough.
    assert_eq!(waiting(&store, "high"), keys(&[&rises, all[2], all[3]]));
    // One event in an hour, no updates; the second event and the covered camera come too soon.
    assert_eq!(waiting(&store, "few"), keys(&[&first, all[3], &third]));
    assert_eq!(waiting(&store, "camera"), keys(&[&covered]));
}

#[test]
fn while_nothing_can_be_written_messages_are_kept_in_memory_and_then_on_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let sinks = [("one", Filter::default())];
    let store = open(dir.path(), &sinks);
    let first = anomaly(at(1), 0.5);
    store.record(&first);
    // No page more: what SQLite says on a full disk.
    let limit = |pages: i64| {
        let state = store.state();
        let used: i64 = state.disk.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
        state.disk.pragma_update(None, "max_page_count", if pages == 0 { used } else { pages }).unwrap();
    };
    limit(0);
    let more: Vec<Message> = (2..400).map(|s| anomaly(at(s), 0.5)).collect();
    let recorded: Vec<Recorded> = more.iter().map(|message| store.record(message)).collect();
    let refused = recorded.iter().filter(|r| matches!(r, Recorded::InMemory(e) if e.is_full())).count();
    assert!(refused > 100, "{refused}");
    let keys: Vec<String> = std::iter::once(&first).chain(&more).map(Message::key).collect();
    assert_eq!(waiting(&store, "one"), keys, "sinks are told all the same, in order");
    let head = store.next("one", 0, Duration::ZERO).unwrap().unwrap();
    assert!(!store.settle() && store.events(EventQuery::latest(500)).unwrap().len() == 399);
    limit(1 << 30);
    assert!(store.settle());
    store.delivered("one", head.seq, at(500)).unwrap();
    assert_eq!(waiting(&store, "one"), keys[1..]);
    drop(store);
    let store = open(dir.path(), &sinks);
    assert_eq!(waiting(&store, "one")[..398], keys[1..]);
}

#[test]
fn a_file_that_is_no_store_is_put_aside_and_one_of_a_newer_program_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = settings(dir.path()).path;
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, vec![7; 5000]).unwrap();
    drop(open(dir.path(), &[]));
    let aside = path.parent().unwrap().join("events.db.damaged-19700112T134640Z");
    assert_eq!(std::fs::read(aside).unwrap(), vec![7; 5000]);

    let connection = Connection::open(&path).unwrap();
    connection.pragma_update(None, "user_version", 99).unwrap();
    drop(connection);
    let error = Store::open(settings(dir.path()), Vec::new(), at(1)).unwrap_err().to_string();
    assert!(error.contains("events.db") && error.contains("99") && error.contains("update salad-edge"), "{error}");
}

#[test]
fn old_events_go_and_open_ones_stay() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), &[]);
    let day = 86_400;
    let (open_one, old) = (anomaly(at(1), 0.5), anomaly(at(2), 0.5));
    store.record(&open_one);
    store.record(&old);
    store.record(&ended(&old, at(3)));
    for n in 0..i64::try_from(PRUNE_EVERY).unwrap() {
        let event = anomaly(at(100 * day + n), 0.5);
        store.record(&event);
        store.record(&ended(&event, at(100 * day + n)));
    }
    let ids: Vec<String> =
        store.events(EventQuery::latest(1000)).unwrap().iter().map(|e| e.message.id().to_owned()).collect();
    assert!(ids.iter().any(|id| id == open_one.id()) && !ids.iter().any(|id| id == old.id()));
    assert_eq!(ids.len(), 1 + usize::try_from(PRUNE_EVERY).unwrap());
}

#[test]
fn minutes_are_kept_through_a_restart_within_one_and_for_as_long_as_events() {
    let dir = tempfile::tempdir().unwrap();
    let minute = |start, frames, mean| Minute {
        start: at(start),
        frames,
        anomalous: 1,
        lowest: mean - 0.1,
        mean,
        highest: mean + 0.1,
    };
    let store = open(dir.path(), &[]);
    store.keep_minute(&minute(60, 3, 0.2)).unwrap();
    store.keep_minute(&minute(120, 1, 0.5)).unwrap();
    drop(store);
    let store = open(dir.path(), &[]);
    store.keep_minute(&minute(120, 3, 0.3)).unwrap();
    let kept = store.minutes(at(61)).unwrap();
    assert_eq!((kept.len(), kept[0].start, kept[0].frames, kept[0].anomalous), (1, at(120), 4, 2));
    let near = |a: f32, b: f32| (a - b).abs() < 1e-6;
    assert!(near(kept[0].mean, 0.35) && near(kept[0].lowest, 0.2) && near(kept[0].highest, 0.6), "{kept:?}");
    let later = 91 * 86_400;
    for n in 0..i64::try_from(PRUNE_EVERY).unwrap() {
        store.keep_minute(&minute(later + 60 * n, 1, 0.2)).unwrap();
    }
    assert_eq!(store.minutes(at(0)).unwrap().first().map(|minute| minute.start), Some(at(later)));
}

#[test]
fn a_store_of_the_first_version_gets_its_new_tables() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), &[]);
    store.record(&anomaly(at(1), 0.5));
    drop(store);
    let connection = Connection::open(settings(dir.path()).path).unwrap();
    let newer = "DROP TRIGGER forget_samples; DROP TABLE samples; DROP TABLE enrolments; DROP TABLE enrolled;
                 DROP TABLE minutes; PRAGMA user_version = 1";
    connection.execute_batch(newer).unwrap();
    drop(connection);
    let store = open(dir.path(), &[]);
    assert!(store.events(EventQuery::latest(9)).unwrap().len() == 1 && store.minutes(at(0)).unwrap().is_empty());
}

#[test]
fn a_store_that_is_too_large_forgets_its_oldest_events() {
    let dir = tempfile::tempdir().unwrap();
    let settings = StoreSettings { max_bytes: 200_000, ..settings(dir.path()) };
    let store = Store::open(settings, Vec::new(), at(1)).unwrap();
    for second in 1..3000 {
        let event = anomaly(at(second), 0.5);
        store.record(&event);
        store.record(&ended(&event, at(second)));
    }
    let kept = store.events(EventQuery::latest(5000)).unwrap().len();
    let size = std::fs::metadata(store.path()).unwrap().len();
    assert!((50..1000).contains(&kept) && size < 600_000, "{kept} events, {size} bytes");
}
