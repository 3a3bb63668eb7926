//! The fuzzer's first inputs: small valid bundles that differ in what is optional.

use crate::container;
use ndarray::Array2;
use salad_shared::bank::FloatBank;
use salad_shared::bundle::{Bundle, Calibration};
use salad_shared::manifest::{
    Agreement, BankInfo, EncoderInfo, FORMAT_NAME, FORMAT_VERSION, Forms, Manifest, Provenance,
};
use salad_shared::preprocess::InputSpec;
use salad_shared::score::{ScoreKind, ScoreSpec};
use salad_shared::threshold::{FalseAlarmBudget, Threshold, ThresholdMethod};
use std::path::Path;

/// Writes them into `folder`.
pub fn write(folder: &Path) -> Result<(), Box<dyn std::error::Error>> {
    std::fs::create_dir_all(folder)?;
    for (name, bundle) in [
        ("plain", bundle(1, 1, 0, ScoreKind::AngularMean)),
        ("pictures", bundle(3, 4, 3, ScoreKind::Weighted)),
        ("large", bundle(17, 8, 0, ScoreKind::Nearest)),
    ] {
        let bytes = bundle.to_bytes()?;
        // Were the container put together otherwise, nothing behind its checks would ever be fuzzed.
        if container::take_apart(&bytes).and_then(|parts| container::put_together(&parts)) != Some(bytes.clone()) {
            return Err(format!("{name}: the fuzzer's container differs from the bundle's").into());
        }
        std::fs::write(folder.join(name), bytes)?;
    }
    Ok(())
}

fn bundle(prototypes: u32, dim: u32, thumbnails: usize, kind: ScoreKind) -> Bundle {
    let value = |(i, j): (usize, usize)| ((i * 7 + j * 3) % 11) as f32 / 11.0 - 0.4;
    let bank = FloatBank::new(Array2::from_shape_fn((prototypes as usize, dim as usize), value));
    let images = thumbnails;
    Bundle {
        manifest: manifest(prototypes, dim, kind, thumbnails > 0),
        encoder_f32: vec![8; 40],
        encoder_int8: vec![9; 30],
        bank_int8: bank.quantize(),
        bank,
        thumbnails: (0..thumbnails).map(|i| vec![i as u8; 20]).collect(),
        calibration: Calibration {
            images: (0..images).map(|i| format!("{i}.jpg")).collect(),
            f32: vec![0.25; images],
            int8: vec![1e-7; images],
        },
        model_card: "# A model\n".into(),
    }
}

fn manifest(prototypes: u32, dim: u32, kind: ScoreKind, full: bool) -> Manifest {
    let threshold = Threshold {
        value: 0.125,
        interval_90: [0.1, 0.15],
        method: if full { ThresholdMethod::PeaksOverThreshold } else { ThresholdMethod::EmpiricalQuantile },
        budget: FalseAlarmBudget { alarms: 1.0, period_secs: 604_800.0, fps: 5.0 },
        target_rate: 1.0 / 3_024_000.0,
        samples: 3,
        note: String::new(),
    };
    Manifest {
        format: FORMAT_NAME.into(),
        version: FORMAT_VERSION,
        name: "seed".into(),
        input: InputSpec { width: 32, height: 32, channels: if full { 3 } else { 1 } },
        encoder: EncoderInfo {
            network: "edge".into(),
            embedding_dim: dim,
            parameters: 100,
            flop: 2000,
            calibration: "min-max".into(),
            weight_scales: "per-tensor".into(),
        },
        bank: BankInfo { prototypes, images: prototypes, method: "all".into() },
        score: ScoreSpec { kind, k: 1, tau: 0.1 },
        patches: None,
        heat: None,
        thresholds: Forms { f32: threshold.clone(), int8: threshold },
        agreement: Agreement {
            images: 3,
            embedding_cosine_mean: 0.9995,
            embedding_cosine_min: 0.999,
            score_correlation: full.then_some(0.999),
            rank_correlation: None,
            test_auroc: full.then_some(Forms { f32: 0.9, int8: 0.9 }),
        },
        provenance: Provenance {
            writer: "salad-fuzz".into(),
            created: "2026-01-01T00:00:00Z".into(),
            seed: 1,
            dataset_sha256: "0".repeat(64),
            config: String::new(),
            notes: full.then(|| ("a".to_owned(), "b".to_owned())).into_iter().collect(),
        },
    }
}
