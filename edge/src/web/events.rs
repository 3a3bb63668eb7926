//! Events: the list, and one of them with why it was told.

use super::guard::{Caller, Posted, failed, see};
use super::layout::{csrf, page, time};
use super::{Page, archive};
use crate::enrol::EnrolError;
use crate::event::{Event, Message, TroubleEvent};
use crate::store::{EventQuery, StoredEvent};
use axum::Extension;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use maud::{Markup, html};
use serde::Deserialize;
use std::f32::consts::PI;
use std::sync::Arc;

/// Events on a page.
const EACH: u32 = 30;

/// Which events are listed.
#[derive(Debug, Default, Deserialize)]
pub struct Wanted {
    /// Only about this.
    #[serde(default)]
    pub subject: String,
    /// Only those before the event of this id.
    #[serde(default)]
    pub before: String,
}

impl Wanted {
    /// As the store is asked.
    pub fn query(&self, count: u32) -> EventQuery<'_> {
        let given = |text: &'_ str| !text.is_empty();
        EventQuery {
            subject: Some(self.subject.as_str()).filter(|text| given(text)),
            before: Some(self.before.as_str()).filter(|text| given(text)),
            count,
            ..EventQuery::default()
        }
    }
}

/// The list.
pub async fn list(
    State(state): State<Arc<Page>>,
    Extension(caller): Extension<Caller>,
    Query(wanted): Query<Wanted>,
) -> Response {
    let events = match state.store.events(wanted.query(EACH)) {
        Ok(events) => events,
        Err(error) => return failed(&error),
    };
    let body = html! {
        form.row method="get" {
            label for="subject" { "About" }
            select #subject name="subject" {
                @for (value, name) in [("", "everything"), ("anomaly", "anomalies"), ("camera", "the camera"), ("device", "the device")] {
                    option value=(value) selected[value == wanted.subject] { (name) }
                }
            }
            button.plain { "Show" }
        }
        @if events.is_empty() { p { "There are none." } }
        ul.cards { @for event in &events { li { (card(event)) } } }
        @if let Some(last) = events.last().filter(|_| events.len() == EACH as usize) {
            p { a href={ "/events?subject=" (wanted.subject) "&before=" (last.message.id()) } { "Earlier ones" } }
        }
    };
    page(&state, &caller, "/events", "Events", &body).into_response()
}

fn card(event: &StoredEvent) -> Markup {
    let message = &event.message;
    html! {
        a href={ "/events/" (message.id()) } {
            @if message.snapshot().is_some() { img src={ "/events/" (message.id()) "/snapshot.jpg" } alt="" loading="lazy"; }
            span.what {
                @match message {
                    Message::Anomaly(event) => { strong { "Anomaly" } " score " (format!("{:.3}", event.top_score)) }
                    Message::Camera(event) => { strong { "Camera " (event.trouble) } }
                    Message::Device(event) => { strong { "Device: " (event.trouble) } }
                }
                br; (time(message.started()))
                @if event.is_open { " " span.bad { "goes on" } }
            }
        }
    }
}

/// One event.
pub async fn event(
    State(state): State<Arc<Page>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Response {
    match state.store.event(&id) {
        Ok(Some(event)) => shown(&state, &caller, &event, None),
        Ok(None) => missing(),
        Err(error) => failed(&error),
    }
}

fn shown(state: &Page, caller: &Caller, event: &StoredEvent, problem: Option<&str>) -> Response {
    let message = &event.message;
    let body = html! {
        @if let Some(problem) = problem { p.bad role="alert" { (problem) } }
        @match message {
            Message::Anomaly(anomaly) => (anomaly_body(state, caller, anomaly, event.is_open)),
            Message::Camera(trouble) | Message::Device(trouble) => (trouble_body(trouble, event.is_open)),
        }
        p { a href={ "/events/" (message.id()) "/archive.zip" } { "Download as a zip file" } }
    };
    let title = if message.top_score().is_some() { "Anomaly" } else { "Trouble" };
    page(state, caller, "/events", title, &body).into_response()
}

fn trouble_body(trouble: &TroubleEvent, is_open: bool) -> Markup {
    html! { dl {
        dt { "What" } dd { (trouble.trouble) }
        dt { "Details" } dd { (trouble.detail) }
        dt { "Began" } dd { (time(trouble.started)) }
        @if !is_open { dt { "Ended" } dd { (time(trouble.time)) } }
    } }
}

fn anomaly_body(state: &Page, caller: &Caller, event: &Event, is_open: bool) -> Markup {
    let angle = |similarity: f32| similarity.clamp(-1.0, 1.0).acos() / PI;
    let frames = state.store.samples(&event.id, &state.model.encoder).map_or(0, |samples| samples.len());
    html! {
        @if event.snapshot.is_some() {
            figure {
                img.wide src={ "/events/" (event.id) "/snapshot.jpg" } alt="The frame with the highest score, and beside it the nearest normal picture";
                figcaption { "The frame with the highest score" @if state.model.heat_scale.is_some() { ", where in it things are not normal," } " and the nearest normal picture." }
            }
        }
        dl {
            dt { "Score" } dd { strong { (format!("{:.4}", event.top_score)) } " at " (time(event.top_time)) ", the threshold was " (format!("{:.4}", event.threshold)) }
            dt { "Began" } dd { (time(event.started)) }
            dt { "Ended" } dd { @if is_open { "goes on" } @else { (time(event.time)) } }
        }
        section aria-labelledby="why" {
            h2 id="why" { "Why" }
            p { "The normal pictures that come nearest, and how far they are from this one: 0 is the same, and the score is made of these distances." }
            ul.cards { @for near in &event.nearest { li {
                @if state.model.thumbnails.get(near.index).is_some() {
                    img src={ "/prototypes/" (near.index) } alt={ "Normal picture " (near.index) } loading="lazy";
                }
                span.what { "Picture " (near.index) br; "distance " (format!("{:.4}", angle(near.similarity))) }
            } } }
        }
        section aria-labelledby="normal" {
            h2 id="normal" { "Is this normal?" }
            (normal_form(state, caller, &event.id))
            @if frames > 0 {
                p { "Kept of it:" }
                ul.cards.frames { @for number in 0..frames { li { img src={ "/events/" (event.id) "/frames/" (number) } alt={ "Frame " (number + 1) } loading="lazy"; } } }
            }
        }
    }
}

/// What calling the event normal would do, and the button for it.
fn normal_form(state: &Page, caller: &Caller, id: &str) -> Markup {
    let Some(enrolments) = state.controls.enrolments() else { return html! { p { "Nothing can be kept." } } };
    if let Some(known) = enrolments.list().unwrap_or_default().into_iter().find(|enrolment| enrolment.source == id) {
        return html! { p.good { "It is, since " (time(known.time)) ". " a href="/normal" { "Take that back" } } };
    }
    match enrolments.preview(id) {
        Err(error @ (EnrolError::NoSamples(_) | EnrolError::NoEvent(_))) => html! { p { (error) } },
        Err(error) => html! { p.bad { (error) } },
        Ok(preview) => html! {
            p { "As normal, scenes like this one are no longer told, from the next frame on. Of the other events that are kept, "
                strong { (preview.silences) } " would not have been told. It can be taken back." }
            form method="post" action={ "/events/" (id) "/normal" } {
                (csrf(caller))
                @if preview.is_far() {
                    p.bad { "It is unlike everything that is known to be normal: its score of " (format!("{:.3}", preview.score))
                        " is far over the threshold of " (format!("{:.3}", preview.threshold)) "." }
                    label.check { input type="checkbox" name="confirmed" value="yes" required; " It is normal all the same" }
                }
                button { "This is normal" }
            }
        },
    }
}

/// What was ticked.
#[derive(Deserialize)]
pub struct Normal {
    #[serde(default)]
    confirmed: String,
}

/// Calls an event normal.
pub async fn normal(
    State(state): State<Arc<Page>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    Posted(normal): Posted<Normal>,
) -> Response {
    let Some(enrolments) = state.controls.enrolments() else { return missing() };
    let problem = match enrolments.enrol(&id, normal.confirmed == "yes") {
        Ok(_) => return see(&format!("/events/{id}#normal")),
        Err(EnrolError::Store(error)) => return failed(&error),
        Err(error) => error.to_string(),
    };
    match state.store.event(&id) {
        Ok(Some(event)) => (StatusCode::CONFLICT, shown(&state, &caller, &event, Some(&problem))).into_response(),
        Ok(None) => missing(),
        Err(error) => failed(&error),
    }
}

/// An event's picture.
pub async fn snapshot(State(state): State<Arc<Page>>, Path(id): Path<String>) -> Response {
    let event = match state.store.event(&id) {
        Ok(event) => event,
        Err(error) => return failed(&error),
    };
    let path = event.as_ref().and_then(|event| event.message.snapshot());
    path.and_then(|path| std::fs::read(path).ok()).map_or_else(missing, jpeg)
}

/// A frame of an event.
pub async fn frame(State(state): State<Arc<Page>>, Path((id, number)): Path<(String, usize)>) -> Response {
    match state.store.samples(&id, &state.model.encoder) {
        Ok(mut samples) if number < samples.len() => jpeg(samples.swap_remove(number).picture),
        Ok(_) => missing(),
        Err(error) => failed(&error),
    }
}

/// A normal picture of the model.
pub async fn prototype(State(state): State<Arc<Page>>, Path(number): Path<usize>) -> Response {
    state.model.thumbnails.get(number).map_or_else(missing, |picture| jpeg(picture.clone()))
}

/// An event as a file to take away.
pub async fn zip(State(state): State<Arc<Page>>, Path(id): Path<String>) -> Response {
    match archive::of_event(&state, &id) {
        Ok(Some(bytes)) => {
            let name = format!("attachment; filename=\"{id}.zip\"");
            ([(CONTENT_TYPE, "application/zip".to_owned()), (CONTENT_DISPOSITION, name)], bytes).into_response()
        }
        Ok(None) => missing(),
        Err(error) => failed(error.as_ref()),
    }
}

/// A picture, which stays what it is.
pub fn jpeg(bytes: Vec<u8>) -> Response {
    ([(CONTENT_TYPE, "image/jpeg"), (CACHE_CONTROL, "private, max-age=3600")], bytes).into_response()
}

/// There is none.
pub fn missing() -> Response {
    (StatusCode::NOT_FOUND, "there is no such thing here, or no more\n").into_response()
}
