//! What programs ask for, and the script of the pages.

use super::Page;
use super::events::{Wanted, missing};
use super::guard::{Caller, failed};
use crate::metrics;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

type Shared = State<Arc<Page>>;

/// The OpenAPI description.
pub const DESCRIPTION: &str = include_str!("ui/openapi.json");

/// Said of what cannot be a threshold.
pub const NO_THRESHOLD: &str = "a threshold is a score from 0 to 2, or default\n";

/// Parts that a chart has at most.
const BUCKETS: usize = 300;

/// How long the first picture is waited for.
const PATIENCE: Duration = Duration::from_secs(2);

/// What is below /api/v1.
pub fn router() -> Router<Arc<Page>> {
    Router::new()
        .route("/state", get(state))
        .route("/scores", get(scores))
        .route("/preview", get(preview))
        .route("/events", get(events))
        .route("/events/{id}", get(event))
        .route("/events/{id}/snapshot.jpg", get(super::events::snapshot))
        .route("/events/{id}/archive.zip", get(super::events::zip))
        .route("/events/{id}/normal", post(normal))
        .route("/enrolments", get(enrolments))
        .route("/enrolments/{id}/undo", post(undo))
        .route("/live.jpg", get(live))
        .route("/threshold", post(threshold))
        .route("/pause", post(pause))
}

/// The description.
pub async fn description() -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/json")], DESCRIPTION)
}

/// The figures, for Prometheus.
pub async fn metrics(State(page): Shared) -> impl IntoResponse {
    ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], page.metrics.render())
}

/// Whether frames are scored.
pub async fn ready(State(page): Shared) -> Response {
    if page.metrics.is_ready() {
        return "ready\n".into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, "not ready: no frames are scored\n").into_response()
}

async fn state(State(page): Shared) -> Json<Value> {
    let (asked, health, latest) = (page.controls.asked(), page.live.health(), page.controls.latest());
    Json(json!({
        "name": page.name,
        "time": Timestamp::now(),
        "score": latest.map(|latest| latest.score),
        "score_time": latest.map(|latest| latest.time),
        "threshold": asked.threshold,
        "paused": asked.paused,
        "event": health.event,
        "frames_per_second": health.rate,
        "seconds_since_frame": health.last.map(|last| last.as_secs_f64()),
        "troubles": health.troubles,
        "frames": health.summary.frames,
        "events": health.summary.events,
    }))
}

#[derive(Deserialize)]
struct Span {
    #[serde(default = "one")]
    hours: f64,
}

fn one() -> f64 {
    1.0
}

async fn scores(State(page): Shared, Query(span): Query<Span>) -> Json<Value> {
    let (now, hours) =
        (Timestamp::now(), if span.hours.is_finite() { span.hours.clamp(0.01, 24.0 * 31.0) } else { 1.0 });
    let length = SignedDuration::from_secs_f64(hours * 3600.0);
    let since = now.saturating_sub(length).unwrap_or(Timestamp::MIN);
    let mut points = page.live.buckets(since, now, BUCKETS);
    // What the program itself no longer knows, or never did, the store has by the minute.
    let known = points.first().map_or(i64::MAX, |first| first.time);
    let minutes = page.store.minutes(since).unwrap_or_default();
    let older = minutes.iter().filter(|minute| minute.start.as_second() + 60 <= known);
    let older =
        older.map(|m| crate::live::Bucket { time: m.start.as_second(), min: m.lowest, mean: m.mean, max: m.highest });
    points.splice(0..0, older);
    Json(json!({ "since": since, "until": now, "threshold": page.controls.asked().threshold, "points": points }))
}

#[derive(Deserialize)]
struct Threshold {
    threshold: f32,
}

async fn preview(State(page): Shared, Query(asked): Query<Threshold>) -> Response {
    if !(0.0..=crate::controls::MOST_THRESHOLD).contains(&asked.threshold) {
        return (StatusCode::UNPROCESSABLE_ENTITY, NO_THRESHOLD).into_response();
    }
    let (since, events) = page.live.preview(asked.threshold);
    Json(json!({ "since": since, "events": events })).into_response()
}

async fn events(State(page): Shared, Query(wanted): Query<Wanted>) -> Response {
    match page.store.events(wanted.query(100)) {
        Ok(events) => Json(events.iter().map(|event| &event.message).collect::<Vec<_>>()).into_response(),
        Err(error) => failed(&error),
    }
}

async fn event(State(page): Shared, Path(id): Path<String>) -> Response {
    match page.store.event(&id) {
        Ok(Some(event)) => Json(event.message).into_response(),
        Ok(None) => missing(),
        Err(error) => failed(&error),
    }
}

async fn live(State(page): Shared) -> Response {
    let start = std::time::Instant::now();
    loop {
        if let Some(shown) = page.live.look() {
            return ([(CONTENT_TYPE, "image/jpeg"), (CACHE_CONTROL, "no-store")], shown.jpeg()).into_response();
        }
        if start.elapsed() > PATIENCE {
            return (StatusCode::SERVICE_UNAVAILABLE, "there is no picture now\n").into_response();
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn enrolments(State(page): Shared) -> Response {
    let Some(enrolments) = page.controls.enrolments() else { return missing() };
    let told = |e: &crate::store::Enrolment| json!({ "id": e.id, "time": e.time, "source": e.source, "frames": e.frames, "counts": enrolments.counts(&e.encoder) });
    match enrolments.list() {
        Ok(list) => Json(list.iter().map(told).collect::<Vec<_>>()).into_response(),
        Err(error) => failed(&error),
    }
}

/// What changes something takes a token: a browser's session changes it by the forms of the pages.
fn may_change(caller: &Caller) -> Option<Response> {
    let words = "send a token: Authorization: Bearer TOKEN\n";
    matches!(caller, Caller::Session(_)).then(|| (StatusCode::FORBIDDEN, words).into_response())
}

#[derive(Deserialize)]
struct Normal {
    #[serde(default)]
    confirmed: bool,
}

async fn normal(
    State(page): Shared,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    Json(normal): Json<Normal>,
) -> Response {
    if let Some(no) = may_change(&caller) {
        return no;
    }
    let Some(enrolments) = page.controls.enrolments() else { return missing() };
    match enrolments.enrol(&id, normal.confirmed) {
        Ok(enrolment) => Json(json!({ "enrolment": enrolment })).into_response(),
        Err(error) => (StatusCode::CONFLICT, format!("{error}\n")).into_response(),
    }
}

async fn undo(State(page): Shared, Extension(caller): Extension<Caller>, Path(id): Path<i64>) -> Response {
    if let Some(no) = may_change(&caller) {
        return no;
    }
    let Some(enrolments) = page.controls.enrolments() else { return missing() };
    match enrolments.withdraw(id) {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => (StatusCode::CONFLICT, format!("{error}\n")).into_response(),
    }
}

async fn threshold(State(page): Shared, Extension(caller): Extension<Caller>, Json(new): Json<Value>) -> Response {
    if let Some(no) = may_change(&caller) {
        return no;
    }
    let text = match &new["threshold"] {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    if set_threshold(&page, &text) {
        return Json(json!({ "threshold": page.controls.asked().threshold })).into_response();
    }
    (StatusCode::UNPROCESSABLE_ENTITY, NO_THRESHOLD).into_response()
}

#[derive(Deserialize)]
struct Pause {
    paused: bool,
}

async fn pause(State(page): Shared, Extension(caller): Extension<Caller>, Json(pause): Json<Pause>) -> Response {
    if let Some(no) = may_change(&caller) {
        return no;
    }
    page.controls.pause(pause.paused);
    StatusCode::NO_CONTENT.into_response()
}

/// Sets a threshold that somebody has written, or `default`; says whether it is one.
pub fn set_threshold(page: &Page, text: &str) -> bool {
    match text.trim().parse() {
        Ok(threshold) => page.controls.set_threshold(Some(threshold)),
        Err(_) => text.trim() == "default" && page.controls.set_threshold(None),
    }
}
