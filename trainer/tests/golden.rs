//! The method against values computed apart from this program: every `*.json` of `$SALAD_GOLDEN` (by default
//! `../shared/golden` beside the repository, where it is) and of `tests/golden`, which `tests/golden/generate.py` makes.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test program")]

use ndarray::Array2;
use salad_shared::bank::FloatBank;
use salad_shared::score::{ScoreKind, ScoreSpec};
use salad_trainer::losses::{BatchTargets, contrastive};
use salad_trainer::memory_bank::MemoryBank;
use salad_trainer::neighbours::{Curriculum, Neighbourhoods, Selection, entropies};
use serde_json::Value;
use std::path::{Path, PathBuf};
use tch::{Device, Kind, Tensor};

/// Relative, of what is computed straight from the bank.
const VALUES: f64 = 1e-5;
/// Relative, of losses and gradient in f32.
const LOSSES: f64 = 1e-4;

struct Golden {
    name: String,
    json: Value,
}

impl Golden {
    fn number(&self, key: &str) -> f64 {
        self.json[key].as_f64().unwrap_or_else(|| panic!("{}: {key}", self.name))
    }

    fn tensor(&self, key: &str) -> Tensor {
        let (flat, rows) = floats(&self.json[key]);
        let flat = Tensor::from_slice(&flat).to_kind(Kind::Float);
        if rows == 0 { flat } else { flat.view([rows as i64, -1]) }
    }

    fn index(&self) -> Tensor {
        Tensor::from_slice(&integers(&self.json["index"]))
    }
}

/// All numbers, and how many rows they come in (0 for a plain list).
fn floats(v: &Value) -> (Vec<f64>, usize) {
    let list = v.as_array().unwrap();
    match list.first() {
        Some(Value::Array(_)) => (list.iter().flat_map(|r| floats(r).0).collect(), list.len()),
        _ => (list.iter().map(|x| x.as_f64().unwrap()).collect(), 0),
    }
}

fn integers(v: &Value) -> Vec<i64> {
    v.as_array().unwrap().iter().map(|x| x.as_i64().unwrap()).collect()
}

/// All golden files, the project's own among them.
fn goldens() -> Vec<Golden> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let given = std::env::var_os("SALAD_GOLDEN").map(PathBuf::from);
    let outside = given.clone().unwrap_or_else(|| root.join("../shared/golden"));
    let mut found = Vec::new();
    for folder in [root.join("tests/golden"), outside] {
        match std::fs::read_dir(&folder) {
            Err(e) if folder == root.join("tests/golden") || given.is_some() => panic!("{}: {e}", folder.display()),
            Err(_) => println!("{} is absent: only the project's own values are tested", folder.display()),
            Ok(entries) => {
                for path in entries.map(|e| e.unwrap().path()).filter(|p| p.extension().is_some_and(|e| e == "json")) {
                    let json = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
                    found.push(Golden { name: path.display().to_string(), json });
                }
            }
        }
    }
    assert!(!found.is_empty());
    found
}

/// Relative to the value, or to a tenth of the largest of its kind where it is a difference that almost cancels.
fn assert_close(what: &str, got: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(got.len(), expected.len(), "{what}");
    let scale = expected.iter().fold(0.0f64, |m, v| m.max(v.abs()));
    for (i, (g, e)) in got.iter().zip(expected).enumerate() {
        let allowed = tolerance * e.abs().max(scale * 0.1).max(1e-9);
        assert!((g - e).abs() <= allowed, "{what}[{i}]: {g} against {e}");
    }
}

fn values(t: &Tensor) -> Vec<f64> {
    Vec::<f64>::try_from(&t.detach().to_kind(Kind::Double).contiguous().view([-1])).unwrap()
}

#[test]
fn golden_entropies() {
    for g in goldens() {
        let got = values(&entropies(&g.tensor("bank"), g.number("tau")));
        assert_close(&g.name, &got, &floats(&g.json["entropy"]).0, VALUES);
    }
}

fn curriculum(g: &Golden) -> Curriculum {
    let neighbours = g.number("k") as i64;
    Curriculum { rate: g.number("rate"), neighbours, tau: g.number("tau"), selection: Selection::Entropy, seed: 0 }
}

#[test]
fn golden_selection_and_neighbours() {
    for g in goldens() {
        for (round, expected) in g.json["rounds"].as_object().unwrap() {
            let round: u32 = round.parse().unwrap();
            let (found, stats) = Neighbourhoods::discover(&g.tensor("bank"), round, &curriculum(&g));
            let flags = values(&found.prototypical);
            let chosen: Vec<i64> = (0..flags.len()).filter(|&i| flags[i] == 1.0).map(|i| i as i64).collect();
            assert_eq!(chosen, integers(&expected["prototypical"]), "{} round {round}", g.name);
            assert_eq!(stats.prototypical, chosen.len());
            if !chosen.is_empty() {
                // The first to be chosen is the image of lowest entropy.
                let first = entropies(&g.tensor("bank"), g.number("tau")).argmin(0, false).int64_value(&[]);
                let members = found.members.get(first).narrow(0, 0, g.number("k") as i64);
                let members = Vec::<i64>::try_from(&members).unwrap();
                assert_eq!(
                    members,
                    integers(&expected["neighbours_of_first_prototypical"]),
                    "{} round {round}",
                    g.name
                );
            }
        }
    }
}

/// L_ss, L_agg and the gradient of their sum with respect to z at a round.
fn losses_at(g: &Golden, round: u32) -> (f64, f64, Tensor) {
    let bank = g.tensor("bank");
    let (found, _) = Neighbourhoods::discover(&bank, round, &curriculum(g));
    let own = g.index();
    let targets = BatchTargets {
        prototypical: found.prototypical.index_select(0, &own),
        neighbourhood: (round > 0).then(|| found.members.index_select(0, &own)),
        own,
    };
    let z = g.tensor("z").set_requires_grad(true);
    let loss = contrastive(&z.unsqueeze(0), &bank, &targets, None, g.number("tau"));
    (&loss.sample_specific + &loss.aggregation).backward();
    (loss.sample_specific.double_value(&[]), loss.aggregation.double_value(&[]), z.grad())
}

#[test]
fn golden_losses() {
    for g in goldens() {
        for (round, expected) in g.json["rounds"].as_object().unwrap() {
            let (sample_specific, aggregation, _) = losses_at(&g, round.parse().unwrap());
            let expected = ["loss_sample_specific", "loss_aggregation"].map(|k| expected[k].as_f64().unwrap());
            assert_close(&format!("{} round {round}", g.name), &[sample_specific, aggregation], &expected, LOSSES);
        }
    }
}

#[test]
fn golden_gradient() {
    for g in goldens() {
        let (_, _, gradient) = losses_at(&g, 3);
        assert_close(&g.name, &values(&gradient), &floats(&g.json["grad_z_of_total_at_round_3"]).0, LOSSES);
    }
}

#[test]
fn golden_bank_update() {
    for g in goldens() {
        let mut bank = MemoryBank::from_saved(g.tensor("bank"));
        bank.update(&g.index(), &g.tensor("z").unsqueeze(0), g.number("t"));
        assert_close(&g.name, &values(bank.rows()), &floats(&g.json["bank_after_update"]).0, VALUES);
    }
}

#[test]
fn golden_scores() {
    for g in goldens() {
        let (rows, n) = floats(&g.json["bank"]);
        let rows: Vec<f32> = rows.iter().map(|v| *v as f32).collect();
        let bank = FloatBank::new(Array2::from_shape_vec((n, rows.len() / n), rows).unwrap());
        let (k, tau) = (g.number("score_k") as u32, g.number("tau") as f32);
        for (kind, key) in [
            (ScoreKind::AngularMean, "score_angular_mean"),
            (ScoreKind::Weighted, "score_weighted"),
            (ScoreKind::Nearest, "score_nearest_angular"),
        ] {
            let spec = ScoreSpec { kind, k, tau };
            let queries = g.json["z"].as_array().unwrap();
            let score = |q: &Value| {
                let z: Vec<f32> = floats(q).0.iter().map(|v| *v as f32).collect();
                f64::from(spec.score(&bank, &z).0)
            };
            let got: Vec<f64> = queries.iter().map(score).collect();
            assert_close(&format!("{} {key}", g.name), &got, &floats(&g.json[key]).0, VALUES);
        }
    }
}

#[test]
fn golden_two_views_write_their_mean() {
    let rows = Tensor::from_slice(&[1f32, 0.0, 0.0, 1.0]).view([2, 2]);
    let mut bank = MemoryBank::from_saved(rows);
    let z = Tensor::from_slice(&[1f32, 0.0, 0.0, 1.0]).view([2, 1, 2]);
    bank.update(&Tensor::from_slice(&[0i64]), &z, 1.0);
    let half = std::f64::consts::FRAC_1_SQRT_2;
    assert_close("row 0", &values(&bank.rows().get(0)), &[half, half], VALUES);
    assert_eq!(bank.rows().get(0).device(), Device::Cpu);
}
