//! ROC, precision and recall, and the scores against the threshold.

use super::charts::{Axis, Plot, figure, thin};
use super::data::ReportData;
use super::figures::{Figures, Ranking};
use super::format::{fixed, percent, short};
use maud::{Markup, html};
use salad_shared::metrics::Confusion;

const BINS: usize = 48;
const MOST_POINTS: usize = 500;

pub(super) fn section(data: &ReportData, figures: &Figures) -> Option<Markup> {
    let histogram = histogram(data, figures);
    let missing = figures.why_no_ranking();
    Some(html! {
        @if let Some(why) = missing { p class="absent" { (why) } }
        @if let Some(chart) = histogram { (chart) }
        @if let Some(ranking) = &figures.ranking {
            div class="pair" { (roc(ranking, figures.confusion)) (precision_recall(ranking, figures)) }
        }
    })
}

fn roc(ranking: &Ranking, at_threshold: Option<Confusion>) -> Markup {
    let mut plot = Plot::new(
        530.0,
        400.0,
        Axis::share("false alarms: share of normal images"),
        Axis::share("share of defects found"),
    );
    plot.line("chance", [(0.0, 0.0), (1.0, 1.0)]);
    let points = thin(&ranking.roc, MOST_POINTS);
    plot.band("accent", &points.iter().map(|p| (p.fpr, 0.0, p.tpr)).collect::<Vec<_>>());
    plot.line("accent", points.iter().map(|p| (p.fpr, p.tpr)));
    let mut legend = vec![("accent", "this model"), ("chance dashed", "guessing")];
    if let Some((fpr, tpr)) = at_threshold.and_then(|c| Some((c.false_positive_rate()?, c.recall()?))) {
        plot.dot(
            "threshold",
            fpr,
            tpr,
            5.5,
            &format!("threshold: {} found, {} false alarms", percent(tpr), percent(fpr)),
        );
        legend.push(("threshold round", "at the threshold"));
    }
    let points: Vec<String> = ranking
        .operating_points
        .iter()
        .map(|(fpr, tpr)| format!("{} found at {} % false alarms", percent(*tpr), fixed(fpr * 100.0, 0)))
        .collect();
    figure(
        "ROC: the curve should hug the upper left corner",
        &format!("Area {}. {}.", fixed(ranking.auroc, 3), points.join(", ")),
        &legend,
        &plot.svg("ROC curve"),
    )
}

fn precision_recall(ranking: &Ranking, figures: &Figures) -> Markup {
    let mut plot = Plot::new(
        530.0,
        400.0,
        Axis::share("recall: share of defects found"),
        Axis::share("precision: share of alarms that are right"),
    );
    let share = figures.anomalous.len() as f64 / (figures.anomalous.len() + figures.normal.len()) as f64;
    plot.line("chance", [(0.0, share), (1.0, share)]);
    let points = thin(&ranking.pr, MOST_POINTS);
    // To the left of the first point the curve is drawn level: nothing is known there.
    let start = points.first().map(|p| (0.0, p.precision));
    let curve: Vec<(f64, f64)> = start.into_iter().chain(points.iter().map(|p| (p.recall, p.precision))).collect();
    plot.band("accent", &curve.iter().map(|&(x, y)| (x, 0.0, y)).collect::<Vec<_>>());
    plot.line("accent", curve);
    let mut legend = vec![("accent", "this model"), ("chance dashed", "guessing")];
    if let Some((recall, precision)) = figures.confusion.and_then(|c| Some((c.recall()?, c.precision()?))) {
        let hint = format!("threshold: precision {}, recall {}", percent(precision), percent(recall));
        plot.dot("threshold", recall, precision, 5.5, &hint);
        legend.push(("threshold round", "at the threshold"));
    }
    let at_threshold = figures.confusion.and_then(|c| c.f1()).map(|f1| format!(", {} at the threshold", fixed(f1, 3)));
    figure(
        "Precision and recall: high all the way to the right",
        &format!(
            "Average precision {}. F1 {} at its best{}.",
            fixed(ranking.aupr, 3),
            fixed(ranking.best_f1.f1, 3),
            at_threshold.unwrap_or_default()
        ),
        &legend,
        &plot.svg("Precision-recall curve"),
    )
}

fn histogram(data: &ReportData, figures: &Figures) -> Option<Markup> {
    let groups = [
        ("normal", "normal test images", &figures.normal),
        ("anomalous", "anomalous test images", &figures.anomalous),
        ("validation", "normal validation images", &figures.validation),
    ];
    let scores = groups.iter().flat_map(|(_, _, scores)| scores.iter().map(|&s| f64::from(s)));
    let scores: Vec<f64> = scores.collect();
    if scores.is_empty() {
        return None;
    }
    let threshold = data.finite_threshold();
    // The interval of a threshold far out would squeeze the scores: then its far part is cut off.
    let marks = threshold.map_or(Vec::new(), |t| {
        let (value, far) = (f64::from(t.value), f64::from(t.interval_90[1]));
        let lowest = scores.iter().copied().fold(value, f64::min);
        vec![value, far.min(value + 0.3 * (value - lowest))]
    });
    let x = Axis::tight(&format!("anomaly score ({} model, no unit)", data.form), scores.iter().copied().chain(marks));
    let (low, high) = x.range();
    let width = (high - low) / BINS as f64;
    let shares = |scores: &[f32]| -> Vec<f64> {
        let mut bins = vec![0.0; BINS];
        for &score in scores {
            let bin = ((f64::from(score) - low) / width) as usize;
            if let Some(share) = bins.get_mut(bin.min(BINS - 1)) {
                *share += 100.0 / scores.len() as f64;
            }
        }
        bins
    };
    let shown: Vec<_> = groups
        .iter()
        .filter(|(_, _, scores)| !scores.is_empty())
        .map(|(class, text, scores)| (*class, *text, shares(scores)))
        .collect();
    let tallest = shown.iter().flat_map(|(_, _, bins)| bins.iter().copied());
    let y = Axis::around("share of its images, %", tallest.chain([0.0]));
    let mut plot = Plot::new(1080.0, 340.0, x, y);
    if let Some(threshold) = threshold {
        let [from, to] = threshold.interval_90.map(f64::from);
        let y = (0.0, f64::MAX);
        plot.bar("interval", (from, to), y, &format!("90 % interval {} to {}", short(from), short(to)));
    }
    let alone = shown.len() == 1;
    for (class, text, bins) in &shown {
        // Outlined, so that validation and test scores can be compared where they lie over each other.
        if *class == "validation" && !alone {
            let (first, last) = (bins.iter().position(|&s| s > 0.0), bins.iter().rposition(|&s| s > 0.0));
            let (first, last) = (first.unwrap_or(0), last.unwrap_or(0));
            let steps = bins.iter().enumerate().take(last + 1).skip(first).flat_map(|(i, &share)| {
                let left = low + i as f64 * width;
                [(left, share), (left + width, share)]
            });
            let ends = [first, last + 1].map(|i| (low + i as f64 * width, 0.0));
            let steps = ends.into_iter().take(1).chain(steps).chain(ends.into_iter().skip(1));
            plot.line("validation", steps);
            continue;
        }
        for (i, &share) in bins.iter().enumerate().filter(|(_, share)| **share > 0.0) {
            let left = low + i as f64 * width;
            let hint = format!("{text}: {} from {} to {}", percent(share / 100.0), short(left), short(left + width));
            plot.bar(class, (left, left + width), (0.0, share), &hint);
        }
    }
    if let Some(threshold) = threshold {
        let value = f64::from(threshold.value);
        plot.vertical("threshold", value, &format!("threshold {}", short(value)));
    }
    let mut legend: Vec<(&str, &str)> = shown.iter().map(|(class, text, _)| (*class, *text)).collect();
    if let Some(entry) = legend.iter_mut().find(|(class, _)| *class == "validation" && !alone) {
        entry.0 = "validation line-only";
    }
    if threshold.is_some() {
        legend.push(("interval", "90 % interval of the threshold"));
    }
    let title = if figures.anomalous.is_empty() {
        "Scores: normal images should lie left of the threshold"
    } else {
        "Scores: normal images left of the threshold, anomalous ones right of it"
    };
    let about = match threshold {
        Some(t) => format!("Threshold for {}, from {} validation scores: {}.", t.budget, t.samples, t.note),
        None => "There is no threshold.".to_owned(),
    };
    Some(figure(title, &about, &legend, &html! { div class="wide" { (plot.svg("Histogram of scores")) } }))
}
