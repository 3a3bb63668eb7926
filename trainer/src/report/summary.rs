//! The head of the page with its few numbers, and its foot with configuration and facts.

use super::data::{ReportData, Split};
use super::figures::Figures;
use super::format::{count, fixed, images, percent, pixels, short};
use maud::{Markup, html};
use salad_shared::threshold::ThresholdMethod;

pub(super) fn header(data: &ReportData) -> Markup {
    html! {
        header {
            p class="brand" { "Salad report" }
            h1 { (data.name) }
            p class="origin" { "Trained on " strong { (data.dataset) } ", " (date(&data.created)) }
        }
    }
}

/// The numbers one asks for first.
pub(super) fn tiles(data: &ReportData, figures: &Figures) -> Markup {
    html! {
        div class="tiles" {
            @if let Some(ranking) = &figures.ranking {
                (tile("AUROC", &fixed(ranking.auroc, 3), &html! {
                    (interval(ranking.auroc, ranking.interval))
                    "95 % interval " (fixed(ranking.interval[0], 3)) " to " (fixed(ranking.interval[1], 3))
                }))
            } @else {
                (tile("AUROC", "not known", &html! { "needs normal and anomalous test images" }))
            }
            @if let Some(c) = &figures.confusion {
                @if let Some(recall) = c.recall() {
                    (tile("Found at the threshold", &percent(recall), &html! {
                        (count(c.tp)) " of " (count(c.tp + c.fn_)) " defects"
                        @if let Some(rate) = c.false_positive_rate() {
                            ", with " (count(c.fp)) " false alarms in " (count(c.fp + c.tn)) " normal images (" (percent(rate)) ")"
                        }
                    }))
                } @else if let Some(rate) = c.false_positive_rate() {
                    (tile("False alarms", &percent(rate), &html! { (count(c.fp)) " of " (count(c.fp + c.tn)) " normal test images" }))
                }
            }
            @if let Some(t) = data.finite_threshold() {
                (tile("Threshold", &short(f64::from(t.value)), &html! {
                    "90 % interval " (short(f64::from(t.interval_90[0]))) " to " (short(f64::from(t.interval_90[1])))
                    ", for " (t.budget) ", "
                    @match t.method {
                        ThresholdMethod::EmpiricalQuantile => "by the scores' own quantile",
                        ThresholdMethod::PeaksOverThreshold => "by a fitted tail",
                    }
                }))
            } @else {
                (tile("Threshold", "none", &html! { "the run did not calibrate one" }))
            }
            @if let Some(a) = &data.agreement {
                (tile("int8 agrees with f32", &a.score_correlation.map_or("not known".into(), |c| fixed(f64::from(c), 4)), &html! {
                    "correlation of scores; embeddings' cosine at least " (fixed(f64::from(a.embedding_cosine_min), 4))
                    @if let Some(auroc) = &a.test_auroc {
                        "; AUROC " (fixed(f64::from(auroc.int8), 3)) " against " (fixed(f64::from(auroc.f32), 3))
                    }
                }))
            }
            (tile("Training images", &count(data.counts.training), &html! {
                (count(data.counts.validation)) " for validation, " (tested(data)) "; " (count(data.counts.prototypes)) " prototypes"
            }))
        }
    }
}

/// What a reader has to know first.
pub(super) fn warnings(data: &ReportData, figures: &Figures) -> Markup {
    let not_finite = (figures.not_finite > 0)
        .then(|| format!("{} left out of every figure: the score is not a finite number.", images(figures.not_finite)));
    let warnings: Vec<&String> = data.warnings.iter().chain(&not_finite).collect();
    html! {
        @if !warnings.is_empty() {
            aside class="warnings" aria-label="Warnings" {
                h2 { "Before you rely on this" }
                ul { @for warning in warnings { li { (warning) } } }
            }
        }
    }
}

/// Facts and configuration.
pub(super) fn made(data: &ReportData) -> Option<Markup> {
    Some(html! {
        dl class="facts" {
            @for (label, value) in &data.facts { div { dt { (label) } dd { (value) } } }
            div { dt { "Seed" } dd { (data.seed) } }
        }
        details {
            summary { "Configuration" }
            pre { (data.config) }
        }
    })
}

fn tile(label: &str, value: &str, about: &Markup) -> Markup {
    html! { div class="tile" { h2 { (label) } p class="value" { (value) } p { (about) } } }
}

/// A value and its interval on a scale from one half (guessing) to 1.
fn interval(value: f64, interval: [f64; 2]) -> Markup {
    let place = |v: f64| ((v - 0.5) / 0.5).clamp(0.0, 1.0) * 188.0 + 6.0;
    let [low, high] = interval.map(place);
    html! {
        svg class="gauge" viewBox="0 0 200 14" role="img" aria-label="AUROC on a scale from 0.5 to 1" {
            line class="grid" x1="6" x2="194" y1="7" y2="7" {}
            line class="range" x1=(pixels(low)) x2=(pixels(high)) y1="7" y2="7" {}
            circle cx=(pixels(place(value))) cy="7" r="5" {}
        }
    }
}

fn tested(data: &ReportData) -> String {
    let test = |anomalous: bool| {
        data.scores.iter().filter(|s| s.split == Split::Test && s.kind.is_some() == anomalous).count()
    };
    match (test(false), test(true)) {
        (0, 0) => "none for testing".to_owned(),
        (normal, anomalous) => format!("{} normal and {} anomalous for testing", count(normal), count(anomalous)),
    }
}

/// "23 November 2026, 16:02 UTC", or the text as it is where it is no time.
fn date(created: &str) -> String {
    created
        .parse::<jiff::Timestamp>()
        .map_or_else(|_| created.to_owned(), |time| time.strftime("%-d %B %Y, %H:%M UTC").to_string())
}
