//! A made-up run, for looking at the report's design and for its tests. None of its numbers was measured.

#![allow(clippy::unwrap_used, reason = "made-up inputs are known to be valid")]

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use salad_shared::manifest::{Agreement, Form, Forms};
use salad_shared::preprocess::Frame;
use salad_shared::threshold::{FalseAlarmBudget, calibrate};
use salad_trainer::report::{
    Card, Counts, EpochRow, Group, Phase, Point, ProbeRow, Projection, ReportData, RoundRow, ScoredImage, Split,
};

const TRAINING: usize = 1240;
const ROUNDS: usize = 10;
const EPOCHS_A_ROUND: usize = 6;

/// A run with everything a report can show.
pub fn full() -> ReportData {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let scores = scores(&mut rng);
    let validation: Vec<f32> = scores.iter().filter(|s| s.split == Split::Validation).map(|s| s.score).collect();
    let budget = FalseAlarmBudget::parse("1/hour", 5.0).unwrap();
    let mut test: Vec<ScoredImage> = scores.iter().filter(|s| s.split == Split::Test).cloned().collect();
    test.sort_by(|a, b| b.score.total_cmp(&a.score));
    let threshold = calibrate(&validation, &budget, 7).unwrap();
    let wrong = |s: &&ScoredImage| s.kind.is_some() != (s.score > threshold.value);
    let mut mistakes: Vec<ScoredImage> = test.iter().filter(wrong).cloned().collect();
    mistakes.sort_by(|a, b| (b.score - threshold.value).abs().total_cmp(&(a.score - threshold.value).abs()));
    mistakes.truncate(3);
    let cards = |images: &[ScoredImage]| images.iter().enumerate().map(|(i, s)| card(s, i)).collect::<Vec<_>>();
    ReportData {
        name: "conveyor-edge".into(),
        dataset: "made-up conveyor, camera 3".into(),
        created: "2026-11-23T16:02:00Z".into(),
        seed: 7,
        form: Form::F32,
        counts: Counts { training: TRAINING, validation: validation.len(), prototypes: 256 },
        epochs: epochs(&mut rng),
        rounds: rounds(),
        probes: probes(),
        threshold: Some(threshold.clone()),
        most_anomalous: cards(&test[..6]),
        most_normal: cards(&test[test.len() - 6..]),
        mistakes: cards(&mistakes),
        scores,
        projection: Some(projection(&mut rng)),
        agreement: Some(Agreement {
            images: 138,
            embedding_cosine_mean: 0.9989,
            embedding_cosine_min: 0.9962,
            score_correlation: Some(0.9991),
            rank_correlation: Some(0.9987),
            test_auroc: Some(Forms { f32: 0.957, int8: 0.956 }),
        }),
        config:
            "seed = 7\n\n[network]\nkind = \"edge\"\nembedding_dim = 128\n\n[train]\nbatch = 32\nlearning_rate = 3e-4\n"
                .into(),
        warnings: vec!["2 of 1242 images could not be read and were skipped: part_0117.jpg, part_0802.jpg.".into()],
        facts: [
            ("Network", "edge, 128 x 128 x 3, 1.1 M parameters"),
            ("Device", "CPU, 2 threads"),
            ("Time", "4 min 12 s"),
            ("Writer", "made up by report_sample"),
        ]
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
        .to_vec(),
    }
}

/// A run on normal images alone.
pub fn without_test_set() -> ReportData {
    let mut data = full();
    data.scores.retain(|s| s.split == Split::Validation);
    data.most_anomalous = data.scores.iter().take(3).enumerate().map(|(i, s)| card(s, i)).collect();
    data.most_normal.clear();
    data.mistakes.clear();
    if let Some(agreement) = &mut data.agreement {
        agreement.test_auroc = None;
    }
    if let Some(projection) = &mut data.projection {
        projection.points.retain(|p| matches!(p.group, Group::Bank | Group::Validation));
    }
    data.warnings.clear();
    data
}

fn scores(rng: &mut ChaCha8Rng) -> Vec<ScoredImage> {
    let mut out = Vec::new();
    let mut add = |n: usize, kind: Option<&str>, mean: f64, spread: f64, split: Split| {
        for i in 0..n {
            let score = (mean + spread * gaussian(rng)).clamp(0.01, 0.99) as f32;
            let folder = kind.unwrap_or(if split == Split::Test { "good" } else { "train/good" });
            out.push(ScoredImage {
                name: format!("{folder}/{:04}.jpg", i + n),
                kind: kind.map(str::to_owned),
                score,
                split,
            });
        }
    };
    add(138, None, 0.17, 0.028, Split::Validation);
    add(160, None, 0.175, 0.03, Split::Test);
    add(2, None, 0.45, 0.03, Split::Test);
    add(42, Some("missing part"), 0.42, 0.05, Split::Test);
    add(38, Some("scratch"), 0.27, 0.06, Split::Test);
    add(25, Some("wrong colour"), 0.35, 0.04, Split::Test);
    add(12, Some("foreign object"), 0.47, 0.08, Split::Test);
    out
}

fn epochs(rng: &mut ChaCha8Rng) -> Vec<EpochRow> {
    (0..(ROUNDS + 1) * EPOCHS_A_ROUND)
        .map(|i| {
            let (round, within) = (i / EPOCHS_A_ROUND, (i % EPOCHS_A_ROUND) as f32);
            let mut noise = |size: f32| rng.random_range(-size..size);
            let reconstruction = 0.018 + 0.11 * (-(i as f32) / 7.0).exp() + noise(0.002);
            let sample_specific = (round < ROUNDS).then(|| 2.0 + 5.0 * (-(i as f32) / 16.0).exp() + noise(0.08));
            let aggregation = (round > 0).then(|| 1.4 + 0.15 * round as f32 - 0.12 * within + noise(0.05));
            let contrast = sample_specific.unwrap_or(0.0) + aggregation.unwrap_or(0.0);
            EpochRow {
                epoch: i + 1,
                round,
                phase: if round == 0 { Phase::One } else { Phase::Two },
                reconstruction,
                sample_specific,
                aggregation,
                total: reconstruction + 0.25 * contrast,
                learning_rate: 3e-4 * (0.5 + 0.5 * (i as f32 / 66.0 * std::f32::consts::PI).cos()),
                validation_reconstruction: (i % 2 == 1).then_some(reconstruction * 1.12 + 0.001),
                seconds: 3.7 + noise(0.25),
            }
        })
        .collect()
}

fn probes() -> Vec<ProbeRow> {
    let row = |round: usize| ProbeRow {
        round,
        effective_rank: 9.0 - 7.0 * (-(round as f32) / 3.0).exp(),
        made_up_auroc: 0.98 - 0.2 * (-(round as f32) / 2.0).exp(),
        kept: round == ROUNDS,
    };
    (0..=ROUNDS).map(row).collect()
}

fn rounds() -> Vec<RoundRow> {
    (1..=ROUNDS)
        .map(|round| {
            let fall = (round as f32 / 4.5).exp().recip();
            let entropy_mean = 2.2 + 4.4 * fall;
            RoundRow {
                round,
                prototypical: TRAINING * round / ROUNDS,
                entropy_mean,
                entropy_quantiles: [-1.0, -0.45, 0.05, 0.5, 1.1].map(|d| entropy_mean + d * (0.4 + fall)),
                neighbour_similarity_mean: Some(0.95 - 0.5 * fall),
            }
        })
        .collect()
}

fn projection(rng: &mut ChaCha8Rng) -> Projection {
    let mut points = Vec::new();
    let clusters = [(-1.2, 0.3), (0.4, 1.0), (0.8, -0.9)];
    let mut add = |n: usize, group: Group, spread: f64, shift: (f64, f64)| {
        for i in 0..n {
            let (x, y) = clusters[i % 3];
            points.push(Point {
                x: (x + shift.0 + spread * gaussian(rng)) as f32,
                y: (y + shift.1 + spread * gaussian(rng)) as f32,
                group,
                name: format!("{group:?}/{i:04}.jpg"),
            });
        }
    };
    add(TRAINING, Group::Bank, 0.22, (0.0, 0.0));
    add(60, Group::Validation, 0.24, (0.0, 0.0));
    add(160, Group::TestNormal, 0.25, (0.0, 0.0));
    add(117, Group::TestAnomalous, 0.35, (1.3, 0.9));
    Projection {
        points,
        x_label: "principal direction 1, 34 % of the variance".into(),
        y_label: "principal direction 2, 21 % of the variance".into(),
    }
}

fn card(scored: &ScoredImage, index: usize) -> Card {
    Card {
        name: scored.name.clone(),
        kind: scored.kind.clone(),
        score: scored.score,
        image: picture(index as u8, scored.kind.is_some(), 1),
        heat: index.is_multiple_of(2).then(|| picture(index as u8, scored.kind.is_some(), 4)),
        prototype: picture(index as u8 + 1, false, 1),
        prototype_name: format!("train/good/{:04}.jpg", index * 31),
        reconstruction: picture(index as u8, false, 8),
    }
}

/// A disc on a belt, with a blot where it has a defect; `block` pixels make one.
fn picture(index: u8, defect: bool, block: u32) -> Vec<u8> {
    let side = 96;
    let rgb = (0..side * side)
        .flat_map(|i| {
            let (x, y) = ((i % side / block * block) as f32, (i / side / block * block) as f32);
            let near = |cx: f32, cy: f32, r: f32| (x - cx).hypot(y - cy) < r;
            match () {
                () if defect && near(56.0, 38.0, 9.0) => [190, 60, 40],
                () if near(48.0, 48.0, 30.0) => [210, 200 - index * 6, 140],
                () => [70, 76 + (y as u8 % 24), 84],
            }
        })
        .collect();
    Frame::new(side, side, rgb).unwrap().to_jpeg(85)
}

fn gaussian(rng: &mut ChaCha8Rng) -> f64 {
    let (u, v): (f64, f64) = (rng.random_range(1e-12..1.0), rng.random());
    (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
}
