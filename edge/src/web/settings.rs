//! What somebody has changed, and may change.

use super::guard::{Caller, From, Posted, failed, see};
use super::layout::{csrf, page, time};
use super::pages::refused;
use super::{Page, events};
use crate::enrol::EnrolError;
use axum::Extension;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use maud::{Markup, html};
use serde::Deserialize;
use std::sync::Arc;

type Shared = State<Arc<Page>>;

/// What is enrolled.
pub async fn enrolled(State(state): Shared, Extension(caller): Extension<Caller>) -> Response {
    let Some(enrolments) = state.controls.enrolments() else { return events::missing() };
    let list = match enrolments.list() {
        Ok(list) => list,
        Err(error) => return failed(&error),
    };
    let body = html! {
        p { "What was called normal here, besides what the model was trained on. It is kept when a bundle of the same encoder comes. "
            code { "salad-edge enrol --export FOLDER" } " writes its pictures for the next training." }
        @if list.is_empty() { p { "Nothing yet: open an event and call it normal." } }
        ul.cards { @for enrolment in &list { li {
            img src={ "/normal/" (enrolment.id) "/0" } alt={ "Enrolment " (enrolment.id) } loading="lazy";
            span.what {
                strong { (enrolment.id) } " added " (time(enrolment.time)) br;
                a href={ "/events/" (enrolment.source) } { (enrolment.source) } br;
                "frames: " (enrolment.frames)
                @if !enrolments.counts(&enrolment.encoder) { br; span.bad { "of another model, does not count" } }
            }
            form method="post" action="/normal/undo" {
                (csrf(&caller)) input type="hidden" name="id" value=(enrolment.id);
                button.plain aria-label={ "Undo enrolment " (enrolment.id) } { "Undo" }
            }
        } } }
    };
    page(&state, &caller, "/normal", "Normal", &body).into_response()
}

/// An enrolment.
#[derive(Deserialize)]
pub struct Undo {
    id: i64,
}

/// Takes an enrolment away.
pub async fn undo(State(state): Shared, Posted(undo): Posted<Undo>) -> Response {
    let Some(enrolments) = state.controls.enrolments() else { return events::missing() };
    match enrolments.withdraw(undo.id) {
        // Twice pressed, it is gone all the same.
        Ok(()) | Err(EnrolError::None(_)) => see("/normal"),
        Err(error) => failed(&error),
    }
}

/// A frame of an enrolment.
pub async fn enrolled_frame(State(state): Shared, Path((id, number)): Path<(i64, usize)>) -> Response {
    match state.store.enrolled(id) {
        Ok(mut samples) if number < samples.len() => events::jpeg(samples.swap_remove(number).picture),
        Ok(_) => events::missing(),
        Err(error) => failed(&error),
    }
}

/// The settings.
pub async fn settings(State(state): Shared, Extension(caller): Extension<Caller>) -> Response {
    settings_page(&state, &caller, None, None)
}

fn settings_page(state: &Page, caller: &Caller, told: Option<&str>, token: Option<&str>) -> Response {
    let tokens = match state.access.tokens() {
        Ok(tokens) => tokens,
        Err(error) => return failed(&error),
    };
    let body: Markup = html! {
        @if let Some(told) = told { p.bad role="alert" { (told) } }
        section aria-labelledby="password-title" {
            h2 id="password-title" { "Password" }
            form method="post" action="/settings/password" {
                (csrf(caller))
                label for="old" { "The password now" } input #old name="old" type="password" autocomplete="current-password" required;
                label for="new" { "The new one" } input #new name="new" type="password" autocomplete="new-password" required;
                button { "Change it" }
            }
        }
        section aria-labelledby="tokens" {
            h2 id="tokens" { "Tokens for programs" }
            @if let Some(token) = token { p.good role="status" { "Copy it now, it is not shown again: " code #token { (token) } } }
            @if !tokens.is_empty() { div.wide { table {
                thead { tr { th scope="col" { "For" } th scope="col" { "Made" } th scope="col" { "Revoke" } } }
                tbody { @for token in &tokens { tr {
                    th scope="row" { (token.name) } td { (time(token.created)) }
                    td { form method="post" action="/settings/revoke" {
                        (csrf(caller)) input type="hidden" name="sha256" value=(token.sha256);
                        button.plain aria-label={ "Revoke the token for " (token.name) } { "Revoke" }
                    } }
                } } }
            } } }
            form.row method="post" action="/settings/token" {
                (csrf(caller)) label for="token-name" { "What for" } input #token-name name="name" required maxlength="64"; button { "Make a token" }
            }
            p { a href="/api" { "What programs may ask for" } ". Figures for Prometheus are at " code { "/metrics" } "." }
        }
    };
    let page = page(state, caller, "/settings", "Settings", &body);
    (if told.is_some() { StatusCode::CONFLICT } else { StatusCode::OK }, page).into_response()
}

/// A threshold, or `default`.
#[derive(Deserialize)]
pub struct NewThreshold {
    threshold: String,
}

/// Changes the threshold.
pub async fn threshold(State(state): Shared, Posted(new): Posted<NewThreshold>) -> Response {
    if super::api::set_threshold(&state, &new.threshold) {
        return see("/");
    }
    (StatusCode::UNPROCESSABLE_ENTITY, super::api::NO_THRESHOLD).into_response()
}

/// Whether alerts are to be paused.
#[derive(Deserialize)]
pub struct Pause {
    paused: bool,
}

/// Pauses alerts, or ends that.
pub async fn pause(State(state): Shared, Posted(pause): Posted<Pause>) -> Response {
    state.controls.pause(pause.paused);
    see("/")
}

/// Another password.
#[derive(Deserialize)]
pub struct NewPassword {
    old: String,
    new: String,
}

/// Changes the password; everybody has to log in again.
pub async fn password(
    State(state): Shared,
    Extension(caller): Extension<Caller>,
    From(from): From,
    Posted(new): Posted<NewPassword>,
) -> Response {
    let door = Arc::clone(&state);
    match tokio::task::spawn_blocking(move || door.access.change(&new.old, &new.new, from)).await {
        Ok(Ok(())) => see("/login"),
        Ok(Err(error)) => {
            let words = error.to_string();
            refused(&error, |_| {
                page(
                    &state,
                    &caller,
                    "/settings",
                    "Settings",
                    &html! {
                        p.bad role="alert" { (words) } p { a href="/settings" { "Back" } }
                    },
                )
            })
        }
        Err(error) => failed(&error),
    }
}

/// What a token is for.
#[derive(Deserialize)]
pub struct NewToken {
    name: String,
}

/// Makes a token.
pub async fn token(
    State(state): Shared,
    Extension(caller): Extension<Caller>,
    Posted(new): Posted<NewToken>,
) -> Response {
    match state.access.make_token(&new.name, Timestamp::now()) {
        Ok(token) => settings_page(&state, &caller, None, Some(&token)),
        Err(error) => settings_page(&state, &caller, Some(&error.to_string()), None),
    }
}

/// A token.
#[derive(Deserialize)]
pub struct Revoke {
    sha256: String,
}

/// Takes a token away.
pub async fn revoke(State(state): Shared, Posted(revoke): Posted<Revoke>) -> Response {
    match state.access.revoke(&revoke.sha256) {
        Ok(()) => see("/settings"),
        Err(error) => failed(&error),
    }
}
