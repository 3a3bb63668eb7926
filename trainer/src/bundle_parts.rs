//! What a bundle says of its model: the manifest, for programs, and the model card, for people.

use crate::finished::Finished;
use salad_shared::manifest::{BankInfo, EncoderInfo, FORMAT_NAME, FORMAT_VERSION, Form, Manifest, Provenance};
use std::collections::BTreeMap;
use std::fmt::Write;

/// The manifest of a finished run.
pub fn manifest(finished: &Finished) -> Manifest {
    let trained = finished.trained;
    let config = &trained.config;
    let quantized = &finished.quantized.options;
    Manifest {
        format: FORMAT_NAME.into(),
        version: FORMAT_VERSION,
        name: config.name.clone(),
        input: config.input_spec(),
        encoder: EncoderInfo {
            network: config.network_name(),
            embedding_dim: finished.folded.embedding_dim() as u32,
            parameters: finished.folded.parameters(),
            flop: finished.folded.flop(),
            calibration: quantized.calibration.to_string(),
            weight_scales: quantized.weight_scales.to_string(),
        },
        bank: BankInfo {
            prototypes: finished.sources.len() as u32,
            images: trained.images.train.items.len() as u32,
            method: finished.condensed_by.clone(),
        },
        score: config.score,
        patches: finished.patches,
        heat: finished.heat.clone(),
        thresholds: finished.thresholds.clone(),
        agreement: finished.agreement.clone(),
        provenance: Provenance {
            writer: concat!("salad-trainer ", env!("CARGO_PKG_VERSION")).into(),
            created: jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            seed: config.seed,
            dataset_sha256: trained.images.sha256.clone(),
            config: config.to_toml(),
            notes: notes(finished),
        },
    }
}

fn notes(finished: &Finished) -> BTreeMap<String, String> {
    let key = |number| if number == 1 { "network.init".to_owned() } else { format!("member{number}.network.init") };
    let weights = finished.trained.initial_weights.iter();
    weights.map(|(number, w)| (key(*number), format!("{}, SHA-256 {}", w.file, w.sha256))).collect()
}

/// The model card of a finished run, Markdown.
pub fn model_card(finished: &Finished) -> String {
    let manifest = manifest(finished);
    let (encoder, bank) = (&manifest.encoder, &manifest.bank);
    let mut card = format!(
        "# {}\n\nAn anomaly detector trained with SALAD on normal images only, for one camera and one scene. It says how far \
         a frame lies from what it was shown as normal; it does not say what is wrong.\n\n",
        manifest.name
    );
    let _ = writeln!(
        card,
        "- Encoder: `{}`, {} x {} x {}, {:.2} M parameters, {:.3} GFLOP an image, embeddings of length {}.",
        encoder.network,
        manifest.input.width,
        manifest.input.height,
        manifest.input.channels,
        encoder.parameters as f64 / 1e6,
        encoder.flop as f64 / 1e9,
        encoder.embedding_dim
    );
    for (number, weights) in &finished.trained.initial_weights {
        let who =
            if finished.trained.others.is_empty() { "The encoder".to_owned() } else { format!("Member {number}") };
        let _ = writeln!(card, "- {who} began with the weights of `{}`, SHA-256 {}.", weights.file, weights.sha256);
    }
    let _ = writeln!(
        card,
        "- Memory: {} prototypes of {} training images ({}); {} validation images.",
        bank.prototypes,
        bank.images,
        bank.method,
        finished.trained.images.validation.items.len()
    );
    for form in [Form::F32, Form::Int8] {
        let t = manifest.thresholds.get(form);
        let [low, high] = t.interval_90;
        let _ = writeln!(card, "- Threshold {form}: {:.4} (90 % interval {low:.4} to {high:.4}). {}", t.value, t.note);
    }
    match &finished.evaluation {
        None => card.push_str("- It was not tested: the data set holds normal images only.\n"),
        Some(e) => {
            let g = &e.forms.int8;
            let [low, high] = g.auroc_interval_95;
            let _ = writeln!(
                card,
                "- Tested on {} normal and {} anomalous images: AUROC {:.4} in int8 (95 % interval {low:.4} to {high:.4}), \
                 {:.4} in f32.",
                e.normal, e.anomalous, g.auroc, e.forms.f32.auroc
            );
        }
    }
    for warning in finished.warnings() {
        let _ = writeln!(card, "- Warning: {warning}.");
    }
    card.push_str(
        "\nA moved camera, another lens, other light or a new product is not normal to it until it has been trained on it.\n",
    );
    card
}
