//! The live view, how everything does, and the door.

use super::Page;
use super::access::{AccessError, LEAST_PASSWORD};
use super::guard::{COOKIE_NAME, Caller, From, Posted, cookie, failed, see};
use super::layout::{csrf, duration, outside, page, time};
use crate::controls::MOST_THRESHOLD;
use axum::extract::State;
use axum::http::header::{RETRY_AFTER, SET_COOKIE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Form};
use jiff::Timestamp;
use maud::{Markup, html};
use serde::Deserialize;
use std::sync::Arc;
use std::time::{Duration, Instant};

type Shared = State<Arc<Page>>;

/// The live view.
pub async fn live(State(state): Shared, Extension(caller): Extension<Caller>) -> Markup {
    let asked = state.controls.asked();
    let body = html! {
        div.columns {
            section aria-label="Camera" {
                img #live src="/api/v1/live.jpg" alt="What the camera sees" width="640" height="480";
                p #state role="status" { "…" }
            }
            section aria-label="Score" {
                p.score { span #score { "–" } span.small { " of " span #threshold { (format!("{:.4}", asked.threshold)) } } }
                figure {
                    svg #chart viewBox="0 0 600 220" role="img" aria-labelledby="chart-text" {}
                    figcaption #chart-text { "The score over the last hour." }
                }
                p.choice role="group" aria-label="Time shown" {
                    @for (hours, name) in [("0.0834", "5 min"), ("1", "1 h"), ("6", "6 h"), ("24", "24 h")] {
                        button.plain type="button" data-hours=(hours) aria-pressed=(if hours == "1" { "true" } else { "false" }) { (name) }
                    }
                }
                details { summary { "As a table" } div.wide { table #table {
                    thead { tr { th scope="col" { "Time" } th scope="col" { "Lowest" } th scope="col" { "Mean" } th scope="col" { "Highest" } } }
                    tbody {}
                } } }
            }
        }
        section aria-labelledby="threshold-title" {
            h2 id="threshold-title" { "Threshold" }
            form.row method="post" action="/settings/threshold" {
                (csrf(&caller))
                label for="slider" { "A frame is anomalous above" }
                input #slider type="range" min="0" max=(slider_end(&state)) step="0.0001" value=(asked.threshold);
                input #number name="threshold" type="number" min="0" max=(MOST_THRESHOLD) step="any" value=(asked.threshold) aria-label="Threshold";
                button { "Apply" }
            }
            p #preview role="status" { "Move the slider to see what another threshold would have told." }
            form method="post" action="/settings/threshold" {
                (csrf(&caller)) input type="hidden" name="threshold" value="default";
                button.plain { "Back to the model's threshold" }
            }
            form method="post" action="/settings/pause" {
                (csrf(&caller)) input type="hidden" name="paused" value=(!asked.paused);
                button.plain { (if asked.paused { "Resume alerts" } else { "Pause alerts" }) }
            }
        }
    };
    page(&state, &caller, "/", "Live", &body)
}

/// Up to where the slider goes: well over the threshold, for the last few per cent of the range mean nothing.
fn slider_end(state: &Page) -> f32 {
    let asked = state.controls.asked().threshold;
    (4.0 * asked.max(state.model.threshold)).clamp(0.01, MOST_THRESHOLD)
}

/// How everything does.
pub async fn health(State(state): Shared, Extension(caller): Extension<Caller>) -> Response {
    let (health, manifest) = (state.live.health(), &state.model.manifest);
    let sinks = match state.store.sinks() {
        Ok(sinks) => sinks,
        Err(error) => return failed(&error),
    };
    let since = |at: Timestamp| duration(Duration::try_from(Timestamp::now().duration_since(at)).unwrap_or_default());
    let auroc = manifest.agreement.test_auroc.as_ref().map(|auroc| *auroc.get(state.model.form));
    let summary = &health.summary;
    let body = html! {
        section aria-labelledby="camera" {
            h2 id="camera" { "Camera" }
            @for trouble in &health.troubles {
                p.bad { strong { (trouble.trouble) } " since " (time(trouble.started)) ": " (trouble.detail) }
            }
            @if health.troubles.is_empty() { p.good { "Nothing is wrong." } }
            dl {
                dt { "Frames a second" } dd { (format!("{:.1}", health.rate)) }
                dt { "Last frame" } dd { (health.last.map_or("none yet".to_owned(), |last| format!("{} ago", duration(last)))) }
                dt { "Scored" } dd { (summary.frames) ", of these anomalous: " (summary.anomalous) }
                dt { "Dropped" } dd { (summary.dropped) ", skipped: " (summary.skipped) ", lens covered: " (summary.obstructed) }
                dt { "Events" } dd { (summary.events) " since " (time(state.started)) " (" (since(state.started)) ")" }
            }
        }
        section aria-labelledby="sinks" {
            h2 id="sinks" { "Sinks" }
            @if sinks.is_empty() { p { "There are none." } } @else { div.wide { table {
                thead { tr { th scope="col" { "Name" } th scope="col" { "Waiting" } th scope="col" { "Delivered" } th scope="col" { "Refused" } th scope="col" { "Last" } } }
                tbody { @for sink in &sinks { tr {
                    th scope="row" { (sink.name) } td { (sink.pending) } td { (sink.delivered) } td { (sink.refused) }
                    td { @match sink.last_success { Some(at) => (time(at)), None => "never" } }
                } } }
            } } }
        }
        section aria-labelledby="model" {
            h2 id="model" { "Model" }
            dl {
                dt { "Name" } dd { (manifest.name) }
                dt { "Form" } dd { (state.model.form) ", run by " (state.model.engine()) }
                dt { "Network" } dd { (manifest.encoder.network) ", input " (manifest.input.width) " × " (manifest.input.height) }
                dt { "Threshold" } dd { (format!("{:.4}", state.model.threshold)) ", in force: " (format!("{:.4}", state.controls.asked().threshold)) }
                dt { "Prototypes" } dd { (manifest.bank.prototypes) " of " (manifest.bank.images) " training images" }
                @if let Some(auroc) = auroc { dt { "AUROC of its test set" } dd { (format!("{auroc:.4}")) } }
                dt { "Trained" } dd { (manifest.provenance.created) ", seed " (manifest.provenance.seed) }
                dt { "Program" } dd { "salad-edge " (env!("CARGO_PKG_VERSION")) }
            }
        }
    };
    page(&state, &caller, "/health", "Health", &body).into_response()
}

/// What programs may ask for.
pub async fn api(State(state): Shared, Extension(caller): Extension<Caller>) -> Markup {
    let description: serde_json::Value = serde_json::from_str(super::api::DESCRIPTION).unwrap_or_default();
    let paths = description["paths"].as_object().cloned().unwrap_or_default();
    let body = html! {
        p { "Programs send a token from the settings as " code { "Authorization: Bearer TOKEN" } ". The same as "
            a href="/api/openapi.json" { "OpenAPI" } "." }
        div.wide { table {
            thead { tr { th scope="col" { "Request" } th scope="col" { "What it does" } } }
            tbody { @for (path, methods) in &paths { @for (method, what) in methods.as_object().into_iter().flatten() {
                tr { td { code { (method.to_uppercase()) " " (path) } } td { (what["summary"].as_str().unwrap_or_default()) } }
            } } }
        } }
    };
    page(&state, &caller, "/api", "API", &body)
}

/// The login.
pub async fn login(State(state): Shared) -> Response {
    match state.access.has_password() {
        Ok(true) => login_page(&state, None).into_response(),
        Ok(false) => see("/first"),
        Err(error) => failed(&error),
    }
}

fn login_page(state: &Page, problem: Option<&str>) -> Markup {
    let body = html! {
        @if let Some(problem) = problem { p.bad role="alert" { (problem) } }
        form method="post" action="/login" {
            label for="password" { "Password" }
            input #password name="password" type="password" autocomplete="current-password" required autofocus;
            button { "Log in" }
        }
    };
    outside(state, "Log in", &body)
}

/// A password that was typed in.
#[derive(Deserialize)]
pub struct Login {
    password: String,
}

/// Lets somebody in.
pub async fn log_in(State(state): Shared, From(from): From, Form(login): Form<Login>) -> Response {
    let door = Arc::clone(&state);
    // Hashing takes a while, and others are not to wait for it.
    let entered = tokio::task::spawn_blocking(move || door.access.log_in(&login.password, from, Instant::now())).await;
    match entered {
        Ok(Ok(cookie)) => with_cookie(see("/"), &cookie),
        Ok(Err(error)) => refused(&error, |words| login_page(&state, Some(words))),
        Err(error) => failed(&error),
    }
}

/// Setting the first password.
pub async fn first(State(state): Shared) -> Response {
    match state.access.has_password() {
        Ok(true) => see("/login"),
        Ok(false) => first_page(&state, None).into_response(),
        Err(error) => failed(&error),
    }
}

fn first_page(state: &Page, problem: Option<&str>) -> Markup {
    let body = html! {
        @if let Some(problem) = problem { p.bad role="alert" { (problem) } }
        p { "This page has no password yet. Whoever knows it sees the camera and changes what is alerted." }
        form method="post" action="/first" {
            label for="password" { "Password, at least " (LEAST_PASSWORD) " characters" }
            input #password name="password" type="password" autocomplete="new-password" minlength=(LEAST_PASSWORD) required autofocus;
            @if state.access.wants_code() {
                label for="code" { "Setup code, from the log of salad-edge" }
                input #code name="code" autocomplete="off" required;
            }
            button { "Set the password" }
        }
    };
    outside(state, "First password", &body)
}

/// The first password.
#[derive(Deserialize)]
pub struct First {
    password: String,
    #[serde(default)]
    code: String,
}

/// Sets it, and lets in who has.
pub async fn set_first(State(state): Shared, From(from): From, Form(first): Form<First>) -> Response {
    let door = Arc::clone(&state);
    let entered = tokio::task::spawn_blocking(move || {
        door.access.set_first(&first.password, &first.code)?;
        door.access.log_in(&first.password, from, Instant::now())
    });
    match entered.await {
        Ok(Ok(cookie)) => with_cookie(see("/"), &cookie),
        Ok(Err(error)) => refused(&error, |words| first_page(&state, Some(words))),
        Err(error) => failed(&error),
    }
}

/// A form with nothing in it.
#[derive(Deserialize)]
pub struct Nothing {}

/// Ends the session.
pub async fn log_out(State(state): Shared, headers: HeaderMap, _: Posted<Nothing>) -> Response {
    if let Some(cookie) = cookie(&headers) {
        state.access.log_out(&cookie);
    }
    let gone = format!("{COOKIE_NAME}=; Path=/; Max-Age=0");
    (StatusCode::SEE_OTHER, [("location", "/login".to_owned()), ("set-cookie", gone)]).into_response()
}

/// There is nothing of that name.
pub async fn missing(State(state): Shared) -> Response {
    let body = html! { p { "There is no such page. " a href="/" { "Back to the live view" } } };
    (StatusCode::NOT_FOUND, outside(&state, "Not found", &body)).into_response()
}

/// Why the door stays shut, in a page.
pub fn refused(error: &AccessError, page: impl FnOnce(&str) -> Markup) -> Response {
    let status = match error {
        AccessError::Store(error) => return failed(error),
        AccessError::Wait(_) => StatusCode::TOO_MANY_REQUESTS,
        AccessError::Wrong | AccessError::WrongCode => StatusCode::FORBIDDEN,
        AccessError::IsSet | AccessError::TooMany => StatusCode::CONFLICT,
        AccessError::Length => StatusCode::UNPROCESSABLE_ENTITY,
        AccessError::Hash => StatusCode::INTERNAL_SERVER_ERROR,
    };
    let mut response = (status, page(&error.to_string())).into_response();
    if let AccessError::Wait(wait) = error {
        response.headers_mut().insert(RETRY_AFTER, wait.as_secs().saturating_add(1).into());
    }
    response
}

fn with_cookie(mut response: Response, cookie: &str) -> Response {
    // Not Secure: the page itself speaks plain HTTP, and a browser would not send the cookie back.
    let text = format!("{COOKIE_NAME}={cookie}; Path=/; HttpOnly; SameSite=Strict");
    if let Ok(value) = text.parse() {
        response.headers_mut().insert(SET_COOKIE, value);
    }
    response
}
