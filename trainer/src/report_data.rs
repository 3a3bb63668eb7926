//! A finished run as the report wants it: pictures, points and figures picked out.

use crate::evaluate::Scored;
use crate::finished::Finished;
use crate::projection::principal_plane;
use crate::report::{
    Card, Counts, EpochRow, Group, Phase, Point, ProbeRow, Projection, ReportData, RoundRow, ScoredImage, Split,
};
use crate::train::TrainError;
use salad_shared::manifest::Form;
use salad_shared::preprocess::{Frame, frame_from_input};

/// Images on each of the two picture shelves.
const CARDS: usize = 8;
/// Points of the projection, spread evenly where there are more.
const POINTS: usize = 3000;
const JPEG_QUALITY: u8 = 88;

/// Fills in the report of a finished run, with the scores of the int8 form: what the device will see.
pub fn collect(finished: &Finished) -> Result<ReportData, TrainError> {
    let trained = finished.trained;
    let (config, images, history) = (&trained.config, &trained.images, &trained.history);
    let form = Form::Int8;

    let mut judged: Vec<usize> = (0..finished.scored.len()).collect();
    if finished.scored.iter().any(|s| s.split == "test") {
        judged.retain(|&i| finished.scored[i].split == "test");
    }
    judged.sort_by(|&a, &b| finished.scored[b].score(form).total_cmp(&finished.scored[a].score(form)));
    let top: Vec<usize> = judged.iter().take(CARDS).copied().collect();
    let bottom: Vec<usize> = judged.iter().rev().take(CARDS).copied().collect();
    // Misses from the lowest score up, then false alarms from the highest down: the clearest first.
    let threshold = finished.thresholds.get(form).value;
    let wrong = |miss: bool| {
        let finished = &finished;
        move |i: &&usize| {
            let s = &finished.scored[**i];
            s.kind.is_empty() != miss && (s.score(form) > threshold) != miss
        }
    };
    let misses = judged.iter().rev().filter(wrong(true)).take(CARDS);
    let mistakes: Vec<usize> = misses.chain(judged.iter().filter(wrong(false)).take(CARDS)).copied().collect();

    let epochs = history.epochs.iter().map(|e| EpochRow {
        epoch: e.epoch as usize + 1,
        round: e.round as usize,
        phase: if e.round == 0 { Phase::One } else { Phase::Two },
        reconstruction: e.reconstruction as f32,
        sample_specific: Some(e.sample_specific as f32),
        aggregation: (e.round > 0).then_some(e.aggregation as f32),
        total: e.total as f32,
        learning_rate: e.learning_rate as f32,
        validation_reconstruction: Some(e.validation_reconstruction as f32),
        seconds: e.seconds as f32,
    });
    let rounds = history.rounds.iter().map(|r| RoundRow {
        round: r.round as usize,
        prototypical: r.prototypical,
        entropy_mean: r.entropy_mean as f32,
        entropy_quantiles: r.entropy_quantiles.map(|q| q as f32),
        neighbour_similarity_mean: (r.prototypical > 0).then_some(r.neighbour_similarity_mean as f32),
    });
    let probes = history.probes.iter().map(|r| ProbeRow {
        round: r.round as usize,
        effective_rank: r.effective_rank as f32,
        made_up_auroc: r.made_up_auroc as f32,
        kept: trained.choice.rounds.contains(&r.round),
    });
    let skipped = images.skipped.iter().map(|(name, reason)| format!("{name} was skipped: {reason}"));
    Ok(ReportData {
        name: config.name.clone(),
        dataset: format!("{} ({})", config.data.root.display(), images.layout),
        created: jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        seed: config.seed,
        form,
        counts: Counts {
            training: images.train.items.len(),
            validation: images.validation.items.len(),
            prototypes: finished.sources.len(),
        },
        epochs: epochs.collect(),
        rounds: rounds.collect(),
        probes: probes.collect(),
        threshold: Some(finished.thresholds.get(form).clone()),
        scores: finished.scored.iter().map(scored_image).collect(),
        most_anomalous: cards(finished, &top)?,
        most_normal: cards(finished, &bottom)?,
        mistakes: cards(finished, &mistakes)?,
        projection: Some(projection(finished)?),
        agreement: Some(finished.agreement.clone()),
        config: config.to_toml(),
        warnings: skipped.chain(finished.warnings()).collect(),
        facts: facts(finished),
    })
}

fn scored_image(s: &Scored) -> ScoredImage {
    ScoredImage {
        name: s.name.clone(),
        kind: kind(s),
        score: s.int8,
        split: if s.split == "test" { Split::Test } else { Split::Validation },
    }
}

fn kind(s: &Scored) -> Option<String> {
    Some(s.kind.clone()).filter(|k| !k.is_empty())
}

/// The pictures of some of the judged images, each beside its nearest prototype and its reconstruction.
fn cards(finished: &Finished, chosen: &[usize]) -> Result<Vec<Card>, TrainError> {
    let images = &finished.trained.images;
    let validation = images.validation.frames.len();
    let frames: Vec<Frame> = chosen
        .iter()
        .map(|&i| match i.checked_sub(validation) {
            None => images.validation.frames[i].clone(),
            Some(test) => images.test.frames[test].clone(),
        })
        .collect();
    let reconstructions = finished.trained.model.reconstruct(&frames)?;
    let input = &finished.trained.model.input;
    chosen
        .iter()
        .zip(frames.iter().zip(&reconstructions))
        .map(|(&i, (frame, reconstruction))| {
            let scored = &finished.scored[i];
            let nearest = finished.judged[i].neighbours.first().map_or(0, |n| n.index);
            let source = finished.sources[nearest];
            let heat = finished.judged[i].heat.as_ref().zip(finished.heat.as_ref());
            let heat = heat.map(|(heat, scale)| heat.over(frame, &scale.int8).to_jpeg(JPEG_QUALITY));
            let reconstruction =
                frame_from_input(input, reconstruction).map_err(|e| TrainError::Refused(e.to_string()))?;
            Ok(Card {
                name: scored.name.clone(),
                kind: kind(scored),
                score: scored.int8,
                image: frame.to_jpeg(JPEG_QUALITY),
                heat,
                prototype: finished.prototype_picture(source).to_jpeg(JPEG_QUALITY),
                prototype_name: images.train.items[source.image].name.clone(),
                reconstruction: reconstruction.to_jpeg(JPEG_QUALITY),
            })
        })
        .collect()
}

fn projection(finished: &Finished) -> Result<Projection, TrainError> {
    let plane = principal_plane(&finished.train_rows, &finished.judged_rows)?;
    let train = &finished.trained.images.train.items;
    let bank = train.iter().map(|item| (Group::Bank, item.name.clone()));
    let judged = finished.scored.iter().map(|s| {
        let group = match (s.split, s.kind.is_empty()) {
            ("test", true) => Group::TestNormal,
            ("test", false) => Group::TestAnomalous,
            _ => Group::Validation,
        };
        (group, s.name.clone())
    });
    let step = plane.points.len().div_ceil(POINTS).max(1);
    let points = plane.points.iter().zip(bank.chain(judged)).step_by(step);
    let label = |which: usize| {
        format!("principal direction {}, {:.0} % of the variance", which + 1, plane.explained[which] * 100.0)
    };
    Ok(Projection {
        points: points.map(|(&[x, y], (group, name))| Point { x, y, group, name }).collect(),
        x_label: label(0),
        y_label: label(1),
    })
}

/// What is said where a report is of one member of an ensemble.
const FIRST: &str = "; these, the curves and the reconstructions are the first member's";

fn facts(finished: &Finished) -> Vec<(String, String)> {
    let config = &finished.trained.config;
    let fact = |label: &str, value: String| (label.to_owned(), value);
    vec![
        fact("Program", concat!("salad-trainer ", env!("CARGO_PKG_VERSION")).into()),
        fact(
            "Network",
            format!(
                "{}, {} x {} x {}, {:.2} M parameters, {:.3} GFLOP an image, embeddings of length {}",
                config.network_name(),
                config.input.size,
                config.input.size,
                config.input.channels,
                finished.folded.parameters() as f64 / 1e6,
                finished.folded.flop() as f64 / 1e9,
                finished.folded.embedding_dim()
            ),
        ),
        fact("Device", format!("{:?}", finished.trained.model.store.device())),
        fact("Weights", format!("{}{}", finished.trained.choice, if config.members() > 1 { FIRST } else { "" })),
        fact("Quantization", finished.quantized.options.to_string()),
        fact(
            "Prototypes",
            format!(
                "{} of {}; scores over them correlate with those over the whole bank with {:.3}",
                finished.sources.len(),
                finished.condensed_by,
                finished.condensed_agree
            ),
        ),
        fact("Made-up anomalies", made_up(finished)),
        fact("Training images", finished.trained.images.sha256.clone()),
    ]
}

fn made_up(finished: &Finished) -> String {
    let negatives = finished.negatives_auroc.map(|auroc| format!(", {auroc:.4} for negatives made of them"));
    format!(
        "AUROC {:.4} for patches pasted into validation images{}: for comparing settings, not a promise",
        finished.synthetic_auroc,
        negatives.unwrap_or_default()
    )
}
