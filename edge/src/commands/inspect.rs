//! `salad-edge inspect`: what a bundle says about itself.

use super::unless_broken_pipe;
use salad_shared::bundle::{Bundle, BundleError, PartInfo, parts};
use salad_shared::manifest::{Form, Manifest};
use salad_shared::threshold::{Threshold, ThresholdMethod};
use serde_json::json;
use std::io::{self, Write};
use std::path::Path;

/// Why a bundle cannot be shown.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// It is not a bundle.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The output cannot be written.
    #[error("standard output: {0}")]
    Output(#[from] io::Error),
}

/// What to show.
#[derive(Debug, Clone, Copy, Default)]
pub struct InspectOptions {
    /// As one JSON object.
    pub json: bool,
    /// The model card too.
    pub card: bool,
}

/// Checks a bundle and prints what is in it.
pub fn inspect(path: &Path, options: InspectOptions, out: &mut dyn Write) -> Result<(), InspectError> {
    let bundle = Bundle::read(path)?;
    let parts = parts(path)?;
    let text =
        if options.json { as_json(&bundle, &parts, options.card) } else { as_text(&bundle, &parts, options.card) };
    Ok(unless_broken_pipe(out.write_all(text.as_bytes()).and_then(|()| out.flush()))?)
}

fn as_json(bundle: &Bundle, parts: &[PartInfo], card: bool) -> String {
    let parts: Vec<_> = parts.iter().map(|p| json!({"name": p.name, "size": p.size, "sha256": p.sha256})).collect();
    let mut object = json!({"manifest": bundle.manifest, "parts": parts});
    if card {
        object["model_card"] = json!(bundle.model_card);
    }
    format!("{object:#}\n")
}

fn as_text(bundle: &Bundle, parts: &[PartInfo], card: bool) -> String {
    let Manifest { input, encoder, bank, score, patches, thresholds, agreement, provenance, .. } = &bundle.manifest;
    let mut text = String::new();
    let mut line = |label: &str, value: String| text.push_str(&format!("{label:<12}{}\n", printable(&value)));
    line("model", bundle.manifest.name.clone());
    line("format", format!("{} version {}", bundle.manifest.format, bundle.manifest.version));
    line("written", format!("{} by {}", provenance.created, provenance.writer));
    line("input", format!("{} x {}, {}", input.width, input.height, if input.channels == 1 { "grey" } else { "RGB" }));
    line(
        "encoder",
        format!(
            "{}, embedding of {}, {} parameters, {} FLOP; int8 calibrated by {}, {} weight scales",
            encoder.network,
            encoder.embedding_dim,
            encoder.parameters,
            encoder.flop,
            encoder.calibration,
            encoder.weight_scales
        ),
    );
    line("bank", format!("{} prototypes of {} images ({})", bank.prototypes, bank.images, bank.method));
    // The names are the manifest's.
    line(
        "score",
        format!("{} with k = {}, tau = {}", json!(score.kind).as_str().unwrap_or_default(), score.k, score.tau),
    );
    if let Some(patches) = patches {
        line(
            "patches",
            format!(
                "{} x {} places, {} pixels apart, each sees {}; the image's score is the mean of the {} highest",
                patches.rows, patches.columns, patches.stride, patches.receptive_field, patches.top
            ),
        );
    }
    for form in [Form::F32, Form::Int8] {
        line(&format!("in {form}"), threshold_words(thresholds.get(form)));
    }
    let optional = |v: Option<f32>| v.map_or("undefined".to_owned(), |v| format!("{v:.4}"));
    line(
        "int8 to f32",
        format!(
            "cosine {:.4} on average, {:.4} at worst, score correlation {}, rank correlation {}, over {} images",
            agreement.embedding_cosine_mean,
            agreement.embedding_cosine_min,
            optional(agreement.score_correlation),
            optional(agreement.rank_correlation),
            agreement.images
        ),
    );
    if let Some(auroc) = &agreement.test_auroc {
        line("test AUROC", format!("f32 {:.4}, int8 {:.4}", auroc.f32, auroc.int8));
    }
    line("seed", provenance.seed.to_string());
    line("data", format!("SHA-256 {}", provenance.dataset_sha256));
    for (key, value) in &provenance.notes {
        line("note", format!("{key}: {value}"));
    }
    text.push_str("\nparts, bytes, SHA-256\n");
    for part in parts {
        text.push_str(&format!("{:<24}{:>12}  {}\n", part.name, part.size, part.sha256));
    }
    if card {
        text.push_str(&format!("\n{}\n", printable(bundle.model_card.trim_end())));
    }
    text
}

fn threshold_words(threshold: &Threshold) -> String {
    let Threshold { value, interval_90: [low, high], method, budget, target_rate, samples, note } = threshold;
    let method = match method {
        ThresholdMethod::EmpiricalQuantile => "empirical quantile",
        ThresholdMethod::PeaksOverThreshold => "peaks over threshold",
    };
    let note = if note.is_empty() { String::new() } else { format!("; {note}") };
    format!(
        "anomalous above {value:.4} (90 % interval {low:.4} to {high:.4}; {method} of {samples} normal images) for {} false \
         alarms in {} s at {} frames/s, a rate of {target_rate:.2e}{note}",
        budget.alarms, budget.period_secs, budget.fps
    )
}

/// A bundle's words must not drive the terminal.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' && c != '\t' { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::support::bundle;

    fn inspected(change: impl Fn(&mut Bundle), options: InspectOptions) -> String {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.salad");
        let mut bundle = bundle();
        change(&mut bundle);
        bundle.write(&path).unwrap();
        let mut out = Vec::new();
        inspect(&path, options, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_text_names_everything_a_person_asks_for() {
        let text = inspected(|_| {}, InspectOptions { card: true, ..Default::default() });
        for expected in [
            "tiny",
            "16 x 16, RGB",
            "3 prototypes of 9 images",
            "angular-mean with k = 2",
            "anomalous above 0.1000 (90 % interval 0.0800 to 0.1200; empirical quantile of 2",
            "rank correlation undefined",
            "f32 0.9900, int8 0.9800",
            "line: 3",
            "encoder.int8.onnx",
            "thumbnails/000002.jpg",
            "# The tiny model\nMade by hand.",
        ] {
            assert!(text.contains(expected), "{expected} is not in\n{text}");
        }
        assert!(!inspected(|_| {}, InspectOptions::default()).contains("Made by hand"));
    }

    #[test]
    fn json_carries_manifest_and_parts() {
        let text = inspected(|_| {}, InspectOptions { json: true, card: true });
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(serde_json::from_value::<Manifest>(value["manifest"].clone()).unwrap(), bundle().manifest);
        assert_eq!(value["parts"].as_array().unwrap().len(), 4 + 3 + 3);
        assert_eq!(value["model_card"], bundle().model_card);
    }

    #[test]
    fn a_bundle_cannot_drive_the_terminal() {
        let card = |b: &mut Bundle| b.model_card = "\u{1b}[2Jgone".into();
        assert!(!inspected(card, InspectOptions { card: true, ..Default::default() }).contains('\u{1b}'));
    }
}
