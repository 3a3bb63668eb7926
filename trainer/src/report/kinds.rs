//! Scores and verdicts by kind of defect, row by row.

use super::charts::{Axis, Plot, figure};
use super::data::{ReportData, Split};
use super::figures::Figures;
use super::format::{count, images, percent, short};
use maud::{Markup, html};

/// More kinds than this share a last row.
const MOST_KINDS: usize = 24;

/// More dots than this a row are thinned.
const MOST_DOTS: usize = 400;

/// Pixels a row.
const ROW: f64 = 34.0;

/// Width of a character of a row's note, which may be bold, pixels.
const NOTE_CHARACTER: f64 = 7.0;

/// Longer names are cut.
const MOST_CHARACTERS: usize = 20;

/// One kind's images.
struct Row {
    name: String,
    /// The normal images.
    normal: bool,
    /// Score and name of each image, by score.
    images: Vec<(f32, String)>,
}

pub(super) fn section(data: &ReportData, figures: &Figures) -> Option<Markup> {
    // Without defects the histogram says it all.
    if figures.anomalous.is_empty() {
        return None;
    }
    let rows = rows(data);
    Some(html! { div class="pair uneven" { (strips(data, &rows)) (verdicts(data, &rows)) } })
}

/// The normal images first, then the kinds by name.
fn rows(data: &ReportData) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    for scored in data.scores.iter().filter(|s| s.split == Split::Test && s.score.is_finite()) {
        let normal = scored.kind.is_none();
        let name = scored.kind.as_deref().unwrap_or("normal");
        let row = match rows.iter_mut().position(|r| r.normal == normal && r.name == name) {
            Some(found) => rows.get_mut(found),
            None => {
                rows.push(Row { name: name.to_owned(), normal, images: Vec::new() });
                rows.last_mut()
            }
        };
        if let Some(row) = row {
            row.images.push((scored.score, scored.name.clone()));
        }
    }
    // The largest kinds keep their rows.
    rows.sort_by_key(|r| (!r.normal, std::cmp::Reverse(r.images.len())));
    if rows.len() > MOST_KINDS {
        let rest = rows.split_off(MOST_KINDS - 1);
        rows.sort_by(|a, b| (!a.normal, &a.name).cmp(&(!b.normal, &b.name)));
        let name = format!("{} other kinds", rest.len());
        rows.push(Row { name, normal: false, images: rest.into_iter().flat_map(|r| r.images).collect() });
    } else {
        rows.sort_by(|a, b| (!a.normal, &a.name).cmp(&(!b.normal, &b.name)));
    }
    for row in &mut rows {
        row.images.sort_by(|a, b| a.0.total_cmp(&b.0));
    }
    rows
}

fn strips(data: &ReportData, rows: &[Row]) -> Markup {
    let threshold = data.finite_threshold().map(|t| f64::from(t.value));
    let scores = rows.iter().flat_map(|r| r.images.iter().map(|i| f64::from(i.0))).chain(threshold);
    let x = Axis::tight(&format!("anomaly score ({} model, no unit)", data.form), scores);
    let height = 60.0 + ROW * rows.len() as f64;
    let mut plot = Plot::new(600.0, height, x, Axis::rows(&names(rows)));
    if let Some(threshold) = threshold {
        plot.vertical("threshold", threshold, &format!("threshold {}", short(threshold)));
    }
    let mut thinned = false;
    for (index, row) in rows.iter().enumerate() {
        let middle = plot.row(index);
        let class = if row.normal { "normal" } else { "anomalous" };
        let n = row.images.len();
        let every = n.div_ceil(MOST_DOTS);
        thinned |= every > 1;
        for (place, (score, name)) in row.images.iter().enumerate() {
            // The extremes are what one looks for: they stay.
            if place % every == 0 || place < 10 || place + 10 >= n {
                plot.dot(class, f64::from(*score), middle + jitter(place), 3.2, &format!("{name}: {score:.4}"));
            }
        }
        if let Some((median, _)) = row.images.get(n / 2) {
            let median = f64::from(*median);
            plot.line("median", [(median, middle - 0.34), (median, middle + 0.34)]);
        }
    }
    let note = if thinned { " Of many images an even selection is shown." } else { "" };
    figure(
        "Scores by kind: defects should lie right of normal",
        &format!("One dot an image, the bar its median; point at a dot for its name.{note}"),
        &[],
        &html! { div class="wide" { (plot.svg("Scores by kind of defect")) } },
    )
}

fn verdicts(data: &ReportData, rows: &[Row]) -> Markup {
    let Some(threshold) = data.finite_threshold().map(|t| t.value) else {
        return html! { p class="absent" { "There is no threshold, so nothing is called anomalous or normal." } };
    };
    let verdicts: Vec<Verdict> = rows.iter().map(|row| Verdict::of(row, threshold)).collect();
    let longest = verdicts.iter().map(|v| v.note.chars().count()).max().unwrap_or(0);
    let x = Axis::share("share of the kind's images");
    let height = 60.0 + ROW * rows.len() as f64;
    let mut plot =
        Plot::new(516.0, height, x, Axis::rows(&names(rows))).with_right_margin(16.0 + NOTE_CHARACTER * longest as f64);
    for (index, (row, verdict)) in rows.iter().zip(&verdicts).enumerate() {
        let n = row.images.len();
        let share = verdict.right as f64 / n.max(1) as f64;
        let middle = plot.row(index);
        let y = (middle - 0.3, middle + 0.3);
        let (rightly, wrongly) = if row.normal { ("called normal", "false alarms") } else { ("found", "missed") };
        let hint = |number: usize, what: &str, share: f64| {
            format!("{}: {} {what} ({})", row.name, images(number), percent(share))
        };
        if verdict.right > 0 {
            plot.bar("right", (0.0, share), y, &hint(verdict.right, rightly, share));
        }
        if verdict.right < n {
            plot.bar("wrong", (share, 1.0), y, &hint(n - verdict.right, wrongly, 1.0 - share));
        }
        plot.note(if verdict.right == n { "" } else { "wrong-text" }, middle, &verdict.note);
    }
    figure(
        "Verdicts by kind: the bars should be full",
        "What the threshold makes of each kind's images.",
        &[("right", "called rightly"), ("wrong", "missed, or a false alarm")],
        &html! { div class="middling" { (plot.svg("Verdicts at the threshold by kind of defect")) } },
    )
}

/// What a threshold makes of a row.
struct Verdict {
    /// Images called what they are.
    right: usize,
    /// In words.
    note: String,
}

impl Verdict {
    fn of(row: &Row, threshold: f32) -> Verdict {
        let n = row.images.len();
        let over = row.images.iter().filter(|i| i.0 > threshold).count();
        if row.normal {
            Verdict { right: n - over, note: format!("{} of {} false alarms", count(over), count(n)) }
        } else {
            Verdict { right: over, note: format!("{} of {} found", count(over), count(n)) }
        }
    }
}

fn names(rows: &[Row]) -> Vec<String> {
    rows.iter()
        .map(|row| match row.name.char_indices().nth(MOST_CHARACTERS) {
            Some(_) => row.name.chars().take(MOST_CHARACTERS - 1).chain(['…']).collect(),
            None => row.name.clone(),
        })
        .collect()
}

/// Sets dots of a row apart vertically, -0.27..=0.27 of a row; steps of the golden ratio never repeat closely.
fn jitter(place: usize) -> f64 {
    ((place as f64 * 0.618_034).fract() - 0.5) * 0.54
}
