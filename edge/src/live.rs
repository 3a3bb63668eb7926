//! What the running program shows of itself: the latest picture, scores of the last hours, how the camera does. The pipeline fills
//! it with each frame; a picture is copied only while somebody is looking.

use crate::decision::{Change, Decision, DecisionParams};
use crate::event::{EventKind, Trouble, TroubleEvent};
use crate::summary::Summary;
use jiff::Timestamp;
use salad_shared::patch::{HeatMap, HeatScale};
use salad_shared::preprocess::Frame;
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Scores that are kept: at 5 frames a second those of eleven hours, in 5 MB.
const MOST_POINTS: usize = 200_000;

/// After somebody has asked for the picture, it is kept up to date for so long.
const WATCHED: Duration = Duration::from_secs(5);

/// Frames by whose times the rate is told.
const RATE_FRAMES: usize = 50;

/// A frame's score.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// Time of the frame, UTC.
    pub time: Timestamp,
    /// Its score, as the decision took it: in usual light, and without what a scene has drifted by.
    pub score: f32,
}

/// The picture that is shown.
#[derive(Debug, Clone)]
pub struct Shown {
    /// The frame, with its regions.
    pub frame: Frame,
    /// Where in it what is how far from normal, and how that is coloured; a model of whole images has none.
    pub heat: Option<(HeatMap, HeatScale)>,
    /// Time of the frame, UTC.
    pub time: Timestamp,
}

impl Shown {
    /// As a JPEG.
    pub fn jpeg(&self) -> Vec<u8> {
        const QUALITY: u8 = 80;
        match &self.heat {
            Some((heat, scale)) => heat.over(&self.frame, scale).to_jpeg(QUALITY),
            None => self.frame.to_jpeg(QUALITY),
        }
    }
}

/// An alert that there would have been.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct WouldBe {
    /// When it would have begun, UTC.
    pub start: Timestamp,
    /// When it would have ended, UTC; `None` where it would go on.
    pub end: Option<Timestamp>,
    /// Its highest score.
    pub top_score: f32,
}

/// Some time's scores.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Bucket {
    /// When it begins, seconds since 1970.
    pub time: i64,
    /// The lowest score.
    pub min: f32,
    /// Their mean.
    pub mean: f32,
    /// The highest.
    pub max: f32,
}

/// Shared by the pipeline and those who show it.
#[derive(Debug, Default)]
pub struct Live {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    points: VecDeque<Point>,
    shown: Option<Shown>,
    watched: Option<Instant>,
    /// When the latest frames came.
    arrivals: VecDeque<Instant>,
    troubles: Vec<TroubleEvent>,
    summary: Summary,
    event: Option<String>,
    params: Option<DecisionParams>,
}

/// How the camera does.
#[derive(Debug, Clone, PartialEq)]
pub struct Health {
    /// Frames a second, lately.
    pub rate: f32,
    /// How long ago the last one came.
    pub last: Option<Duration>,
    /// What is wrong.
    pub troubles: Vec<TroubleEvent>,
    /// What the run has come to so far.
    pub summary: Summary,
    /// The event that goes on.
    pub event: Option<String>,
}

impl Live {
    /// Notes a score, with the decision's parameters in force and the event that goes on.
    pub fn note(&self, point: Point, params: DecisionParams, event: Option<&str>, summary: &Summary) {
        let mut state = self.state();
        if state.points.len() == MOST_POINTS {
            state.points.pop_front();
        }
        state.points.push_back(point);
        if state.arrivals.len() == RATE_FRAMES {
            state.arrivals.pop_front();
        }
        state.arrivals.push_back(Instant::now());
        state.params = Some(params);
        state.summary.clone_from(summary);
        if state.event.as_deref() != event {
            state.event = event.map(str::to_owned);
        }
    }

    /// Whether somebody is looking, so that the picture is worth a copy.
    pub fn is_watched(&self) -> bool {
        self.state().watched.is_some_and(|since| since.elapsed() < WATCHED)
    }

    /// Shows a picture.
    pub fn show(&self, shown: Shown) {
        self.state().shown = Some(shown);
    }

    /// Notes what is told of the camera or the device.
    pub fn trouble(&self, event: &TroubleEvent) {
        let mut state = self.state();
        state.troubles.retain(|open| open.id != event.id);
        if event.kind != EventKind::End {
            state.troubles.push(event.clone());
        }
    }

    /// The latest picture, no older than a few seconds, and from now on one for each frame.
    pub fn look(&self) -> Option<Shown> {
        let mut state = self.state();
        let was_watched = state.watched.is_some_and(|since| since.elapsed() < WATCHED);
        state.watched = Some(Instant::now());
        if !was_watched {
            state.shown = None;
        }
        state.shown.clone()
    }

    /// How the camera does.
    pub fn health(&self) -> Health {
        let state = self.state();
        let span = state.arrivals.front().zip(state.arrivals.back()).map(|(first, last)| *last - *first);
        let seconds = span.unwrap_or_default().as_secs_f32();
        let last = state.arrivals.back().map(Instant::elapsed);
        // A camera that is gone has no rate.
        let stale =
            last.is_none_or(|last| last > WATCHED) || state.troubles.iter().any(|t| t.trouble == Trouble::Offline);
        let rate = if seconds > 0.0 && !stale { (state.arrivals.len() - 1) as f32 / seconds } else { 0.0 };
        Health {
            rate,
            last,
            troubles: state.troubles.clone(),
            summary: state.summary.clone(),
            event: state.event.clone(),
        }
    }

    /// The scores since a time, in at most `count` buckets of equal length; empty ones are left out.
    pub fn buckets(&self, since: Timestamp, now: Timestamp, count: usize) -> Vec<Bucket> {
        let state = self.state();
        let (first, span) = (since.as_millisecond(), (now.as_millisecond() - since.as_millisecond()).max(1));
        let length = (span as usize).div_ceil(count.max(1)).max(1000) as i64;
        let mut buckets: Vec<(Bucket, u32)> = Vec::new();
        for point in state.points.iter().filter(|point| point.time >= since) {
            let time = (first + (point.time.as_millisecond() - first) / length * length) / 1000;
            match buckets.last_mut() {
                Some((bucket, n)) if bucket.time == time => {
                    bucket.min = bucket.min.min(point.score);
                    bucket.max = bucket.max.max(point.score);
                    bucket.mean += point.score;
                    *n += 1;
                }
                _ => buckets.push((Bucket { time, min: point.score, mean: point.score, max: point.score }, 1)),
            }
        }
        buckets.into_iter().map(|(bucket, n)| Bucket { mean: bucket.mean / n as f32, ..bucket }).collect()
    }

    /// What would have been told with another threshold, and since when the scores are kept.
    pub fn preview(&self, threshold: f32) -> (Option<Timestamp>, Vec<WouldBe>) {
        let state = self.state();
        let (Some(params), Some(first)) = (state.params, state.points.front()) else { return (None, Vec::new()) };
        let mut decision = Decision::new(params);
        decision.set_threshold(threshold);
        let mut told: Vec<WouldBe> = Vec::new();
        let mut is_open = false;
        for point in &state.points {
            let since = point.time.duration_since(first.time);
            let step = decision.step(point.score, Duration::try_from(since).unwrap_or_default());
            match step.change {
                Some(Change::Open) => {
                    is_open = true;
                    told.push(WouldBe { start: point.time, end: None, top_score: point.score });
                }
                Some(Change::End) => {
                    is_open = false;
                    told.last_mut().into_iter().for_each(|last| last.end = Some(point.time));
                }
                _ => {}
            }
            if let Some(last) = told.last_mut().filter(|_| is_open) {
                last.top_score = last.top_score.max(point.score);
            }
        }
        (Some(first.time), told)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARAMS: DecisionParams = DecisionParams {
        threshold: 0.5,
        release_threshold: 0.5,
        window_frames: 3,
        trigger_frames: 2,
        cooldown: Duration::ZERO,
        update_interval: Duration::from_secs(1),
        max_gap: Duration::from_secs(30),
    };

    fn live(scores: &[f32]) -> Live {
        let live = Live::default();
        for (second, &score) in (0..).zip(scores) {
            let time = Timestamp::from_second(second).unwrap();
            live.note(Point { time, score }, PARAMS, None, &Summary::default());
        }
        live
    }

    #[test]
    fn a_preview_says_what_another_threshold_would_have_told() {
        let live = live(&[0.1, 0.3, 0.4, 0.1, 0.1, 0.1, 0.7, 0.8, 0.9]);
        let at = |second| Timestamp::from_second(second).unwrap();
        let (since, told) = live.preview(0.5);
        assert_eq!(since, Some(at(0)));
        assert_eq!(told, [WouldBe { start: at(7), end: None, top_score: 0.9 }]);
        let first = WouldBe { start: at(2), end: Some(at(5)), top_score: 0.4 };
        assert_eq!(live.preview(0.2).1, [first, WouldBe { start: at(7), end: None, top_score: 0.9 }]);
        assert_eq!(live.preview(0.95).1, []);
        assert_eq!(Live::default().preview(0.5), (None, Vec::new()));
    }

    #[test]
    fn scores_are_summed_up_by_time() {
        let live = live(&[0.0, 0.5, 1.0, 0.25]);
        let at = |second| Timestamp::from_second(second).unwrap();
        let buckets = live.buckets(at(0), at(4), 2);
        let expected = [(0, 0.0, 0.25, 0.5), (2, 0.25, 0.625, 1.0)];
        assert_eq!(buckets, expected.map(|(time, min, mean, max)| Bucket { time, min, mean, max }));
        assert_eq!(live.buckets(at(3), at(4), 600).len(), 1);
    }

    #[test]
    fn a_picture_is_shown_while_somebody_looks() {
        let live = live(&[0.1]);
        assert!(!live.is_watched() && live.look().is_none() && live.is_watched());
        let frame = Frame::new(1, 1, vec![9; 3]).unwrap();
        live.show(Shown { frame, heat: None, time: Timestamp::UNIX_EPOCH });
        assert!(Frame::decode(&live.look().unwrap().jpeg()).is_ok());
    }
}
