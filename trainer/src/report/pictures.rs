//! What can be seen: images beside their prototypes and reconstructions, and the map of embeddings.

use super::charts::{Axis, Plot, figure, thin};
use super::data::{Card, Group, ReportData, Split};
use super::format::{fixed, images};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use maud::{Markup, html};

/// More points than this a group are thinned.
const MOST_POINTS: usize = 1500;

pub(super) fn cards(data: &ReportData) -> Option<Markup> {
    let (mut highest, mut lowest) = (data.most_anomalous.clone(), data.most_normal.clone());
    highest.sort_by(|a, b| b.score.total_cmp(&a.score));
    lowest.sort_by(|a, b| a.score.total_cmp(&b.score));
    let which = if data.scores.iter().any(|s| s.split == Split::Test) { "test" } else { "validation" };
    let groups = [
        ("Mistakes", "Misses and false alarms at the threshold, the worst first.".to_owned(), data.mistakes.clone()),
        ("Most anomalous", format!("The highest scores among the {which} images; false alarms are framed."), highest),
        ("Most normal", format!("The lowest scores among the {which} images; misses are framed."), lowest),
    ];
    let explained = if groups.iter().flat_map(|(_, _, cards)| cards).any(|c| c.heat.is_some()) {
        " The image, where it is not normal, the part of a training image that is nearest to the worst place, and the \
         reconstruction."
    } else {
        " Left the image, then the nearest prototype, then the reconstruction."
    };
    let threshold = data.finite_threshold().map(|t| t.value);
    (groups.iter().any(|(_, _, cards)| !cards.is_empty())).then(|| {
        html! {
            @for (title, about, cards) in groups.iter().filter(|(_, _, cards)| !cards.is_empty()) {
                div class="group" {
                    h3 { (title) }
                    p { (about) (explained) }
                }
                div class="cards" { @for c in cards { (card(c, threshold)) } }
            }
        }
    })
}

fn card(card: &Card, threshold: Option<f32>) -> Markup {
    let truth = card.kind.as_deref();
    let (class, verdict) = match (truth, threshold.map(|t| card.score > t)) {
        (_, None) => ("", None),
        (Some(_), Some(true)) => ("rightly", Some("found")),
        (None, Some(false)) => ("rightly", Some("called normal")),
        (Some(_), Some(false)) => ("wrongly", Some("missed")),
        (None, Some(true)) => ("wrongly", Some("false alarm")),
    };
    html! {
        article class={ "card " (class) } {
            div class={ "pictures" @if card.heat.is_some() { " four" } } {
                (picture(&card.image, "image", &card.name))
                @if let Some(heat) = &card.heat { (picture(heat, "heat", &card.name)) }
                (picture(&card.prototype, "prototype", &card.prototype_name))
                (picture(&card.reconstruction, "reconstruction", &format!("reconstruction of {}", card.name)))
            }
            div class="about" {
                strong { (fixed(f64::from(card.score), 4)) }
                span class={ "truth " @if truth.is_some() { "anomalous" } @else { "normal" } } { (truth.unwrap_or("normal")) }
                @if let Some(verdict) = verdict { span class="verdict" { (verdict) } }
                span class="name" title=(card.name) { (card.name) }
            }
        }
    }
}

fn picture(jpeg: &[u8], caption: &str, hint: &str) -> Markup {
    html! {
        span class="picture" title=(hint) {
            @if jpeg.is_empty() {
                span class="none" { "no picture" }
            } @else {
                img src={ "data:image/jpeg;base64," (STANDARD.encode(jpeg)) } alt={ (caption) ": " (hint) };
            }
            small { (caption) }
        }
    }
}

pub(super) fn map(data: &ReportData) -> Option<Markup> {
    let projection = data.projection.as_ref()?;
    let points: Vec<_> = projection.points.iter().filter(|p| p.x.is_finite() && p.y.is_finite()).collect();
    if points.is_empty() {
        return None;
    }
    let x = Axis::bare(&projection.x_label, points.iter().map(|p| f64::from(p.x)));
    let y = Axis::bare(&projection.y_label, points.iter().map(|p| f64::from(p.y)));
    let mut plot = Plot::new(1080.0, 560.0, x, y);
    let mut legend = Vec::new();
    let mut thinned = false;
    // The bank first: what lies over it is what matters.
    for (group, class, text, radius) in [
        (Group::Bank, "bank", "training bank", 2.2),
        (Group::Validation, "validation", "validation, normal", 3.0),
        (Group::TestNormal, "normal", "test, normal", 3.4),
        (Group::TestAnomalous, "anomalous", "test, anomalous", 3.4),
    ] {
        let of_group: Vec<_> = points.iter().filter(|p| p.group == group).collect();
        if of_group.is_empty() {
            continue;
        }
        thinned |= of_group.len() > MOST_POINTS;
        for point in thin(&of_group, MOST_POINTS) {
            plot.dot(class, f64::from(point.x), f64::from(point.y), radius, &format!("{} ({text})", point.name));
        }
        legend.push((class, format!("{text}, {}", images(of_group.len()))));
    }
    let note = if thinned { " Of large groups an even selection is shown." } else { "" };
    let title = if points.iter().any(|p| p.group == Group::TestAnomalous) {
        "Embeddings: anomalous images should lie away from the bank"
    } else {
        "Embeddings: other normal images should fall among the bank"
    };
    let about =
        format!("Two dimensions show only part of the distances that are scored. Point at a dot for its name.{note}");
    let legend: Vec<(&str, &str)> = legend.iter().map(|(class, text)| (*class, text.as_str())).collect();
    let svg = plot.svg("Map of embeddings");
    Some(figure(title, &about, &legend, &html! { div class="wide" { (svg) } }))
}
