//! What all pages have in common.

use super::Page;
use super::guard::Caller;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use maud::{DOCTYPE, Markup, html};
use std::time::Duration;

const PLACES: [(&str, &str); 5] =
    [("/", "Live"), ("/events", "Events"), ("/normal", "Normal"), ("/health", "Health"), ("/settings", "Settings")];

/// A page of somebody who is known; `place` is its address in the navigation.
pub fn page(page: &Page, caller: &Caller, place: &str, title: &str, body: &Markup) -> Markup {
    frame(
        page,
        title,
        &html! {
            header {
                a.skip href="#main" { "Skip to content" }
                p.name { (page.name) }
                nav aria-label="Pages" {
                    ul {
                        @for (to, name) in PLACES {
                            li { a href=(to) aria-current=[(to == place).then_some("page")] { (name) } }
                        }
                    }
                }
                form method="post" action="/logout" { (csrf(caller)) button.plain { "Log out" } }
            }
            main id="main" { h1 { (title) } (body) }
        },
    )
}

/// A page of somebody who is not.
pub fn outside(page: &Page, title: &str, body: &Markup) -> Markup {
    frame(page, title, &html! { main.narrow id="main" { p.name { (page.name) } h1 { (title) } (body) } })
}

fn frame(page: &Page, title: &str, body: &Markup) -> Markup {
    // What is cached for good has the program's version in its address.
    let version = env!("CARGO_PKG_VERSION");
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " · " (page.name) }
                link rel="icon" href="data:,";
                link rel="stylesheet" href={ "/style.css?" (version) };
                script src={ "/script.js?" (version) } defer {}
            }
            body { (body) }
        }
    }
}

/// What a form has to carry.
pub fn csrf(caller: &Caller) -> Markup {
    html! { input type="hidden" name="csrf" value=(caller.csrf()); }
}

/// A time as people read it, in the device's zone.
pub fn time(at: Timestamp) -> Markup {
    let local = TimeZone::system().to_datetime(at);
    html! { time datetime=(at) { (local.strftime("%Y-%m-%d %H:%M:%S")) } }
}

/// How long something takes or took.
pub fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds / 3600 % 24),
    }
}
