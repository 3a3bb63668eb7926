//! Enrolling by way of the pipeline, with frames of a bundle whose verdicts are known.

use super::*;
use crate::clock::Moment;
use crate::controls::Controls;
use crate::decision::{Decision, DecisionParams};
use crate::gates::Gates;
use crate::model::{FormChoice, Model};
use crate::pipeline::Pipeline;
use crate::sinks::Sinks;
use crate::sinks::outbox::Outbox;
use crate::source::{Captured, Next, Picture, Source, SourceError};
use crate::store::{EventQuery, StoreSettings};
use crate::summary::Summary;
use crate::support::{anomalous_frame, bundle, normal_frame};
use salad_shared::preprocess::Frame;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// Frames, one a second.
struct Frames(Vec<Frame>, u64);

impl Source for Frames {
    fn next(&mut self, _: Duration) -> Result<Next, SourceError> {
        if self.0.is_empty() {
            return Ok(Next::Ended);
        }
        self.1 += 1;
        let start = Moment { elapsed: Duration::ZERO, wall: Timestamp::UNIX_EPOCH };
        let at = start.plus(Duration::from_secs(self.1));
        let picture = Picture::of(self.0.remove(0));
        Ok(Next::Frame(Captured { picture, name: format!("{}", self.1), at }))
    }
}

fn settings(dir: &Path) -> StoreSettings {
    StoreSettings { path: dir.join("events.db"), max_age: Duration::MAX, max_bytes: u64::MAX }
}

fn store(dir: &Path) -> Arc<Store> {
    Arc::new(Store::open(settings(dir), Vec::new(), Timestamp::UNIX_EPOCH).unwrap())
}

fn model() -> Model {
    Model::load(&bundle(), FormChoice::F32).unwrap()
}

/// Another anomalous frame than the usual one.
fn blue() -> Frame {
    Frame::new(24, 24, [5, 5, 250].repeat(24 * 24)).unwrap()
}

fn watch(store: &Arc<Store>, enrolments: &Arc<Enrolments>, frames: Vec<Frame>) -> Summary {
    let model = model();
    let mut sinks = Sinks::new(None, None, Some(Outbox::start(Arc::clone(store), Vec::new()).unwrap()));
    let decision = Decision::new(DecisionParams {
        threshold: model.threshold,
        release_threshold: model.threshold,
        window_frames: 3,
        trigger_frames: 2,
        cooldown: Duration::from_secs(1),
        update_interval: Duration::from_secs(1),
        max_gap: Duration::from_secs(30),
    });
    let pipeline = Pipeline::new(&model, Gates::default(), decision, &mut sinks, None).unwrap();
    let controls = Controls::new(model.threshold, None).with(Some(Arc::clone(enrolments)));
    let pipeline = pipeline.controlled_by(Arc::new(controls));
    pipeline.run(&mut Frames(frames, 0), &AtomicBool::new(false), &mut |_| {}).0
}

/// Calm, three frames of it, calm.
fn visit_of(frame: &Frame) -> Vec<Frame> {
    let calm = || vec![normal_frame(); 4];
    [calm(), vec![frame.clone(); 3], calm()].concat()
}

fn latest_event(store: &Store) -> String {
    store.events(EventQuery::latest(1)).unwrap()[0].message.id().to_owned()
}

fn score(enrolments: &Arc<Enrolments>, frame: &Frame) -> f32 {
    let mut scorer = model().scorer().unwrap().with(Arc::clone(enrolments));
    scorer.score(frame).unwrap().score
}

#[test]
fn an_event_that_was_enrolled_does_not_come_again_and_others_do() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let enrolments = Arc::new(Enrolments::open(Arc::clone(&store), model().scoring()).unwrap());
    let (red, before) = (anomalous_frame(), [normal_frame(), anomalous_frame(), blue()]);
    let scores = |enrolments| before.each_ref().map(|frame| score(enrolments, frame).to_bits());
    let plain = scores(&enrolments);

    assert_eq!(watch(&store, &enrolments, visit_of(&red)).events, 1);
    let event = latest_event(&store);
    let samples = store.samples(&event, &model().encoder).unwrap();
    assert_eq!(samples.iter().map(|s| s.time.as_second()).collect::<Vec<_>>(), [5, 6, 7]);
    assert!(samples.iter().all(|s| Frame::decode(&s.picture).is_ok()));

    // Red is far from everything grey: that takes a second word.
    let preview = enrolments.preview(&event).unwrap();
    assert!(preview.is_far() && preview.silences == 0, "{preview:?}");
    assert!(matches!(enrolments.enrol(&event, false), Err(EnrolError::Far(_))));
    let id = enrolments.enrol(&event, true).unwrap();
    assert!(matches!(enrolments.enrol(&event, true), Err(EnrolError::Already(_))));
    assert!(score(&enrolments, &red) < 1e-3);
    assert_eq!(watch(&store, &enrolments, visit_of(&red)).events, 0);
    assert_eq!(watch(&store, &enrolments, visit_of(&blue())).events, 1);

    enrolments.withdraw(id).unwrap();
    assert!(matches!(enrolments.withdraw(id), Err(EnrolError::None(_))));
    assert_eq!(scores(&enrolments), plain);
    assert_eq!(watch(&store, &enrolments, visit_of(&red)).events, 1);
    // There are two red events now, of which each would silence the other.
    assert_eq!(enrolments.preview(&event).unwrap().silences, 1);
}

#[test]
fn what_another_program_enrols_is_followed_and_kept_for_its_encoder() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let enrolments = Arc::new(Enrolments::open(Arc::clone(&store), model().scoring()).unwrap());
    watch(&store, &enrolments, visit_of(&blue()));
    let visitor = Arc::new(Store::visit(settings(dir.path())).unwrap());
    let theirs = Enrolments::open(visitor, model().scoring()).unwrap();
    theirs.enrol(&latest_event(&store), true).unwrap();
    assert!(score(&enrolments, &blue()) > 0.1);
    enrolments.refresh().unwrap();
    assert!(score(&enrolments, &blue()) < 1e-3);

    let folder = dir.path().join("train/good");
    assert_eq!((enrolments.export(&folder).unwrap(), enrolments.export(&folder).unwrap()), (3, 0));
    assert!(Frame::decode(&std::fs::read(folder.join("enrolled-1-0.jpg")).unwrap()).is_ok());
    drop((enrolments, theirs));

    // The same encoder in another bundle, and another encoder.
    let again = Enrolments::open(Arc::clone(&store), Scoring { threshold: 0.2, ..model().scoring() }).unwrap();
    assert_eq!(again.bank().unwrap().len(), 3);
    let other = Enrolments::open(Arc::clone(&store), Scoring { encoder: "other".into(), ..model().scoring() }).unwrap();
    assert!(other.bank().is_none());
    assert_eq!(other.list().unwrap().len(), 1);
    let event = latest_event(&store);
    assert!(matches!(other.enrol(&event, true), Err(EnrolError::NoSamples(_))));
    assert!(matches!(other.enrol("nothing", true), Err(EnrolError::NoEvent(_))));
}

#[test]
fn of_too_many_rows_the_nearest_two_become_one() {
    let unit = |angle: f32| vec![angle.cos(), angle.sin()];
    let mut capped = Capped::default();
    // A tenth of a degree apart, but for two.
    let angles: Vec<f32> = (0..=MOST_ROWS).map(|i| (i as f32 * 0.1).to_radians()).collect();
    for (i, &angle) in angles.iter().enumerate() {
        capped.add(&unit(if i == 300 { angle - 0.05_f32.to_radians() } else { angle }));
    }
    assert_eq!(capped.rows.len(), MOST_ROWS);
    let between = capped.rows.last().unwrap();
    let expected = unit(29.925_f32.to_radians());
    assert!(dot(between, &expected) > 0.999_999 && (dot(between, between) - 1.0).abs() < 1e-5);
    assert!(capped.similar.iter().enumerate().all(|(i, row)| row.len() == i));
}
