//! The report of a run: one self-contained HTML page of pictures, readable in light and dark, with no network.
//!
//! [`render`] takes a plain [`ReportData`] and computes every figure of merit itself from the scores in it, so that
//! page, threshold and bundle cannot disagree. What the run does not have (a test set, a threshold, pictures) is left
//! out, and the page says so. Numbers that are not finite never reach the page.

mod charts;
mod data;
mod detection;
mod figures;
mod format;
mod kinds;
mod pictures;
mod summary;
mod training;

pub use data::{
    Card, Counts, ENTROPY_QUANTILES, EpochRow, Group, Phase, Point, ProbeRow, Projection, ReportData, RoundRow,
    ScoredImage, Split,
};

use figures::Figures;
use maud::{DOCTYPE, Markup, PreEscaped, html};

/// The page, as HTML.
pub fn render(data: &ReportData) -> String {
    let figures = Figures::of(data);
    let sections = [
        ("detection", "What it finds", detection::section(data, &figures)),
        ("kinds", "Kinds of defect", kinds::section(data, &figures)),
        ("images", "Images", pictures::cards(data)),
        ("map", "Map of embeddings", pictures::map(data)),
        ("training", "Training", training::section(data)),
        ("made", "How this was made", summary::made(data)),
    ];
    let sections: Vec<_> = sections.into_iter().filter_map(|(id, title, body)| Some((id, title, body?))).collect();
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (data.name) " - Salad report" }
                style { (PreEscaped(include_str!("style.css"))) }
            }
            body {
                (summary::header(data))
                nav aria-label="Sections" {
                    @for (id, title, _) in &sections { a href={ "#" (id) } { (title) } }
                }
                main {
                    (summary::tiles(data, &figures))
                    (summary::warnings(data, &figures))
                    @for (id, title, body) in &sections { (section(id, title, body)) }
                }
                footer { "Written by salad-trainer " (env!("CARGO_PKG_VERSION")) ". This file needs no network." }
            }
        }
    }
    .into_string()
}

fn section(id: &str, title: &str, body: &Markup) -> Markup {
    html! { section id=(id) { h2 { (title) } (body) } }
}
