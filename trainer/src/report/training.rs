//! How the training went: losses by epoch, entropy and neighbourhoods by round.

use super::charts::{Axis, Plot, figure};
use super::data::{EpochRow, Phase, ProbeRow, ReportData, RoundRow};
use super::format::{count, fixed};
use maud::{Markup, html};

/// Pixels that the number of a round needs.
const ROUND_LABEL: f64 = 18.0;

/// What is drawn of an epoch, where it has it.
type Value = fn(&EpochRow) -> Option<f32>;

/// One quantity by epoch.
struct Curve<'a> {
    title: &'a str,
    look_for: &'a str,
    unit: &'a str,
    value: Value,
    /// Whether the axis starts at 0, so that small changes look small.
    from_zero: bool,
    /// A second line: its value and name.
    second: Option<(Value, &'a str)>,
}

const CURVES: [Curve; 6] = [
    Curve {
        title: "Reconstruction",
        look_for: "Falls, then levels off; validation stays close.",
        unit: "loss",
        from_zero: true,
        value: |e| Some(e.reconstruction),
        second: Some((|e| e.validation_reconstruction, "validation")),
    },
    Curve {
        title: "Sample-specific",
        look_for: "Falls within a round.",
        unit: "loss, nats an image",
        from_zero: false,
        value: |e| e.sample_specific,
        second: None,
    },
    Curve {
        title: "Aggregation",
        look_for: "Starts with phase 2; falls within a round.",
        unit: "loss, nats an image",
        from_zero: false,
        value: |e| e.aggregation,
        second: None,
    },
    Curve {
        title: "Total",
        look_for: "The weighted sum; may jump where a round begins.",
        unit: "loss",
        from_zero: false,
        value: |e| Some(e.total),
        second: None,
    },
    Curve {
        title: "Learning rate",
        look_for: "As scheduled.",
        unit: "step size",
        from_zero: false,
        value: |e| Some(e.learning_rate),
        second: None,
    },
    Curve {
        title: "Time",
        look_for: "Stays even.",
        unit: "seconds an epoch",
        from_zero: true,
        value: |e| Some(e.seconds),
        second: None,
    },
];

/// What is drawn of the probes: title, what to look for, unit and value.
type Probed = (&'static str, &'static str, &'static str, fn(&ProbeRow) -> f32);

const PROBES: [Probed; 2] = [
    (
        "Effective rank",
        "Directions in which normal images vary: low where little tells them apart. It decides where train.keep is \"best\".",
        "directions",
        |r| r.effective_rank,
    ),
    ("Made-up anomalies", "How well pasted patches are told from normal images. It decides nothing.", "AUROC", |r| {
        r.made_up_auroc
    }),
];

pub(super) fn section(data: &ReportData) -> Option<Markup> {
    if data.epochs.is_empty() && data.rounds.is_empty() {
        return None;
    }
    Some(html! {
        @if !data.epochs.is_empty() {
            div class="group" {
                h3 { "Losses by epoch" }
                p { "The shaded part is phase 1; upright lines are where the numbered rounds of phase 2 begin." }
            }
            div class="small" { @for curve in &CURVES { (losses(&data.epochs, curve)) } }
        }
        @if data.rounds.is_empty() {
            p class="absent" { "The run had no rounds of phase 2, so there are no entropies and no neighbourhoods." }
        } @else {
            div class="group" {
                h3 { "Neighbourhoods by round" }
                p { "Measured on the memory bank when a round begins." }
            }
            div class="small" { (entropy(data)) (prototypical(&data.rounds, data.counts.training)) (similarity(&data.rounds)) }
        }
        @if !data.probes.is_empty() {
            div class="group" {
                h3 { "Choice of weights" }
                p { "Measured at the end of each round, phase 1 being round 0, without labels. Upright lines: the rounds whose weights were kept." }
            }
            div class="small" {
                @for (title, look_for, unit, value) in PROBES { (probe(&data.probes, title, look_for, unit, value)) }
            }
        }
    })
}

fn losses(epochs: &[EpochRow], curve: &Curve) -> Markup {
    let series = |value: Value| -> Vec<(f64, f64)> {
        epochs.iter().filter_map(|e| Some((e.epoch as f64, f64::from(value(e)?)))).collect()
    };
    let main = series(curve.value);
    let second = curve.second.map(|(value, name)| (series(value), name)).filter(|(points, _)| !points.is_empty());
    if main.is_empty() {
        return html! { figure { figcaption { h3 { (curve.title) } p { "This run has none." } } } };
    }
    let extremes = main.iter().chain(second.iter().flat_map(|(points, _)| points)).map(|p| p.1);
    let extremes = extremes.chain(curve.from_zero.then_some(0.0));
    let y = Axis::around(curve.unit, extremes);
    let (first, last) = (epochs.first().map_or(1, |e| e.epoch), epochs.last().map_or(1, |e| e.epoch));
    let mut plot = Plot::new(360.0, 230.0, Axis::counted("epoch", first, last), y);
    boundaries(&mut plot, epochs);
    plot.line("accent", main.iter().copied());
    let mut legend = Vec::new();
    if let Some((points, name)) = &second {
        plot.line("second", points.iter().copied());
        legend = vec![("accent", "training"), ("second", *name)];
    }
    figure(curve.title, curve.look_for, &legend, &plot.svg(&format!("{} by epoch", curve.title)))
}

/// Shades phase 1 and marks where rounds begin, numbered where there is room.
fn boundaries(plot: &mut Plot, epochs: &[EpochRow]) {
    let first_phase: Vec<f64> = epochs.iter().filter(|e| e.phase == Phase::One).map(|e| e.epoch as f64).collect();
    if let (Some(from), Some(to)) = (first_phase.first(), first_phase.last()) {
        plot.bar("phase", (from - 0.5, to + 0.5), (f64::MIN, f64::MAX), "phase 1");
    }
    let mut labelled: Option<f64> = None;
    for (before, epoch) in epochs.iter().zip(epochs.iter().skip(1)).filter(|(a, b)| a.round != b.round) {
        let at = (before.epoch + epoch.epoch) as f64 / 2.0;
        let room = labelled.is_none_or(|last| plot.pixels_between(last, at) >= ROUND_LABEL);
        let label = if room { epoch.round.to_string() } else { String::new() };
        if room {
            labelled = Some(at);
        }
        plot.vertical("round", at, &label);
    }
}

fn probe(probes: &[ProbeRow], title: &str, look_for: &str, unit: &str, value: fn(&ProbeRow) -> f32) -> Markup {
    let points: Vec<(f64, f64)> = probes.iter().map(|r| (r.round as f64, f64::from(value(r)))).collect();
    let (first, last) = (probes.first().map_or(0, |r| r.round), probes.last().map_or(0, |r| r.round));
    let y = Axis::around(unit, points.iter().map(|p| p.1));
    let mut plot = Plot::new(360.0, 230.0, Axis::counted("round", first, last), y);
    plot.line("accent", points);
    for row in probes.iter().filter(|r| r.kept) {
        plot.vertical("round", row.round as f64, "kept");
    }
    figure(title, look_for, &[], &plot.svg(&format!("{title} by round")))
}

fn rounds_axis(rounds: &[RoundRow]) -> Axis {
    Axis::counted("round", rounds.first().map_or(1, |r| r.round), rounds.last().map_or(1, |r| r.round))
}

fn entropy(data: &ReportData) -> Markup {
    let rounds = &data.rounds;
    let quantile = |i: usize| -> Vec<(f64, f64)> {
        rounds
            .iter()
            .map(|r| (r.round as f64, r.entropy_quantiles.get(i).map_or(f64::NAN, |&q| f64::from(q))))
            .collect()
    };
    let between = |low: usize, high: usize| -> Vec<(f64, f64, f64)> {
        quantile(low).into_iter().zip(quantile(high)).map(|((x, low), (_, high))| (x, low, high)).collect()
    };
    let values = rounds.iter().flat_map(|r| r.entropy_quantiles.into_iter().chain([r.entropy_mean])).map(f64::from);
    let mut plot = Plot::new(360.0, 230.0, rounds_axis(rounds), Axis::around("entropy, nats", values));
    plot.band("accent", &between(0, 4));
    plot.band("accent inner", &between(1, 3));
    plot.line("accent", quantile(2));
    plot.line("second", rounds.iter().map(|r| (r.round as f64, f64::from(r.entropy_mean))));
    let most = (data.counts.training as f64).ln();
    let limit = if data.counts.training > 1 { format!(" At most ln N = {}.", fixed(most, 2)) } else { String::new() };
    figure(
        "Entropy",
        &format!("Falls as images find neighbours. Bands: half and nine tenths of the images.{limit}"),
        &[("accent", "median"), ("second", "mean")],
        &plot.svg("Entropy by round"),
    )
}

fn prototypical(rounds: &[RoundRow], training: usize) -> Markup {
    let tallest = rounds.iter().map(|r| r.prototypical as f64);
    let mut plot =
        Plot::new(360.0, 230.0, rounds_axis(rounds), Axis::around("prototypical images", tallest.chain([0.0])));
    for row in rounds {
        let x = row.round as f64;
        let hint = format!("round {}: {} of {} images", row.round, count(row.prototypical), count(training));
        plot.bar("accent", (x - 0.36, x + 0.36), (0.0, row.prototypical as f64), &hint);
    }
    figure(
        "Prototypical images",
        &format!("Grow round by round to all {}.", count(training)),
        &[],
        &plot.svg("Prototypical images by round"),
    )
}

fn similarity(rounds: &[RoundRow]) -> Markup {
    let points: Vec<(f64, f64)> =
        rounds.iter().filter_map(|r| Some((r.round as f64, f64::from(r.neighbour_similarity_mean?)))).collect();
    let y = Axis::around("cosine, mean", points.iter().map(|p| p.1));
    let mut plot = Plot::new(360.0, 230.0, rounds_axis(rounds), y);
    plot.line("accent", points);
    figure(
        "Similarity of neighbours",
        "Rises towards 1 as neighbourhoods tighten.",
        &[],
        &plot.svg("Mean similarity of neighbours by round"),
    )
}
