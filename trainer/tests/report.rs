//! The report of made-up runs: complete, bare, normal images only, and with values that are no numbers.

#[path = "../examples/report_sample/sample.rs"]
mod sample;

use base64::Engine as _;
use salad_shared::manifest::Form;
use salad_shared::metrics::{auroc, bootstrap_auroc_interval};
use salad_trainer::report::{Card, Counts, Group, Point, Projection, ReportData, ScoredImage, Split, render};

const CHARTS: [&str; 15] = [
    "Histogram of scores",
    "ROC curve",
    "Precision-recall curve",
    "Scores by kind of defect",
    "Verdicts at the threshold by kind of defect",
    "Map of embeddings",
    "Reconstruction by epoch",
    "Sample-specific by epoch",
    "Aggregation by epoch",
    "Total by epoch",
    "Entropy by round",
    "Prototypical images by round",
    "Mean similarity of neighbours by round",
    "Effective rank by round",
    "Made-up anomalies by round",
];

#[test]
fn a_full_report_has_every_chart_and_stands_alone() {
    let data = sample::full();
    let page = render(&data);
    check_markup(&page);
    for chart in CHARTS {
        assert_eq!(page.matches(&format!("aria-label=\"{chart}\"")).count(), 1, "{chart}");
    }
    for part in
        ["conveyor-edge", "made-up conveyor", "23 November 2026", "1/hour at 5 frames/s", "0.9991", "part_0117.jpg"]
    {
        assert!(page.contains(part), "{part} is missing");
    }
    assert!(page.contains("embedding_dim = 128") && page.contains("4 min 12 s"));
    let scores = |anomalous: bool| -> Vec<f32> {
        let test = data.scores.iter().filter(|s| s.split == Split::Test && s.kind.is_some() == anomalous);
        test.map(|s| s.score).collect()
    };
    let (normal, anomalous) = (scores(false), scores(true));
    let [low, high] = bootstrap_auroc_interval(&normal, &anomalous, 0.95, 2000, data.seed).unwrap();
    assert!(page.contains(&format!("<p class=\"value\">{:.3}</p>", auroc(&normal, &anomalous).unwrap())));
    assert!(page.contains(&format!("95 % interval {low:.3} to {high:.3}")));
}

#[test]
fn pictures_are_inside_the_page_and_mistakes_are_marked() {
    let data = sample::full();
    let page = render(&data);
    let cards = [&data.most_anomalous, &data.most_normal, &data.mistakes].into_iter().flatten().collect::<Vec<_>>();
    let with_heat = cards.iter().filter(|c| c.heat.is_some()).count();
    assert!(with_heat > 0 && with_heat < cards.len());
    assert_eq!(page.matches("<img ").count(), 3 * cards.len() + with_heat);
    for card in &cards {
        let url = format!("data:image/jpeg;base64,{}", base64::engine::general_purpose::STANDARD.encode(&card.image));
        assert!(page.contains(&url), "{}", card.name);
    }
    let threshold = data.threshold.as_ref().unwrap().value;
    let wrong = cards.iter().filter(|c| c.kind.is_some() != (c.score > threshold)).count();
    assert!(wrong >= 3, "the sample has mistakes");
    assert_eq!(page.matches("class=\"card wrongly\"").count(), wrong);
    assert!(page.contains(">false alarm<") && page.contains(">missed<"));
}

#[test]
fn without_a_test_set_the_page_says_so_and_leaves_its_charts_out() {
    let page = render(&sample::without_test_set());
    check_markup(&page);
    assert!(page.contains("This run had no test set"));
    assert!(page.contains("none for testing"));
    for chart in &CHARTS[1..5] {
        assert!(!page.contains(chart), "{chart}");
    }
    for chart in [CHARTS[0], CHARTS[5], CHARTS[6], CHARTS[10]] {
        assert!(page.contains(chart), "{chart}");
    }
    assert!(!page.contains("Before you rely on this"), "there are no warnings");
}

#[test]
fn a_test_set_of_one_class_is_named() {
    let mut data = sample::full();
    data.scores.retain(|s| s.kind.is_none());
    let page = render(&data);
    assert!(page.contains("The test set has no anomalous images") && page.contains("False alarms"));
    let mut data = sample::full();
    data.scores.retain(|s| s.kind.is_some());
    let page = render(&data);
    assert!(page.contains("The test set has no normal images") && page.contains(CHARTS[4]));
    check_markup(&page);
}

#[test]
fn a_single_image_and_nothing_else_is_a_page() {
    let mut data = bare();
    check_markup(&render(&data));
    data.scores = vec![ScoredImage { name: "only.png".into(), kind: None, score: 0.25, split: Split::Validation }];
    data.most_anomalous = vec![Card {
        name: "only.png".into(),
        kind: None,
        score: 0.25,
        image: Vec::new(),
        heat: None,
        prototype: Vec::new(),
        prototype_name: String::new(),
        reconstruction: Vec::new(),
    }];
    data.projection = Some(Projection {
        points: vec![Point { x: 0.0, y: 0.0, group: Group::Validation, name: "only.png".into() }],
        x_label: "x".into(),
        y_label: "y".into(),
    });
    data.epochs = sample::full().epochs[..1].to_vec();
    let page = render(&data);
    check_markup(&page);
    assert!(page.contains("no picture") && page.contains("There is no threshold") && !page.contains("<img"));
    assert!(page.contains("no rounds of phase 2"));
}

#[test]
fn numbers_that_are_not_finite_do_not_reach_the_page() {
    let mut data = sample::full();
    // Pictures could spell anything.
    (data.most_anomalous, data.most_normal, data.mistakes) = (Vec::new(), Vec::new(), Vec::new());
    let all = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY];
    for (i, bad) in all.into_iter().enumerate() {
        data.scores[i].score = bad;
        data.scores[200 + i].score = bad;
        data.epochs[i].reconstruction = bad;
        data.epochs[i].sample_specific = Some(bad);
        data.epochs[i].total = bad;
        data.epochs[i].seconds = bad;
        data.rounds[i].entropy_mean = bad;
        data.rounds[i].entropy_quantiles[i] = bad;
        data.rounds[i].neighbour_similarity_mean = Some(bad);
        data.probes[i].effective_rank = bad;
        let points = &mut data.projection.as_mut().unwrap().points;
        points[i].x = bad;
        points[10 + i].y = bad;
        data.agreement.as_mut().unwrap().embedding_cosine_min = bad;
        let threshold = data.threshold.as_mut().unwrap();
        threshold.interval_90 = [bad; 2];
        if i > 0 {
            threshold.value = bad;
        }
        let page = render(&data);
        check_markup(&page);
        let words = page.split(|c: char| !c.is_alphanumeric());
        for word in words {
            assert!(!["nan", "inf", "infinity"].contains(&word.to_lowercase().as_str()), "{word}");
        }
        assert!(page.contains("left out of every figure"));
    }
}

#[test]
fn names_cannot_break_out_of_the_text() {
    let mut data = sample::full();
    let evil = "\"><script>alert(1)</script>&amp;";
    data.name = evil.into();
    data.scores[150].name = evil.into();
    data.scores.iter_mut().filter(|s| s.kind.as_deref() == Some("scratch")).for_each(|s| s.kind = Some(evil.into()));
    data.most_anomalous[0].name = evil.into();
    data.most_anomalous[0].kind = Some(evil.into());
    data.config = evil.into();
    data.warnings.push(evil.into());
    let page = render(&data);
    check_markup(&page);
    assert!(page.contains("&lt;script&gt;"));
}

#[test]
fn large_runs_are_thinned() {
    let mut data = sample::full();
    let (scores, points) = (data.scores.clone(), data.projection.as_ref().unwrap().points.clone());
    data.scores = scores.iter().cycle().take(scores.len() * 60).cloned().collect();
    data.projection.as_mut().unwrap().points = points.iter().cycle().take(points.len() * 20).cloned().collect();
    data.scores.extend((0..60).map(|i| ScoredImage {
        name: format!("{i}.png"),
        kind: Some(format!("rare kind {i}")),
        score: 0.4,
        split: Split::Test,
    }));
    let page = render(&data);
    assert!(page.len() < 2_000_000, "{} bytes", page.len());
    assert!(page.contains("other kinds") && page.contains("an even selection is shown"));
}

/// Tags are balanced, and nothing is fetched or run.
fn check_markup(page: &str) {
    const VOID: [&str; 4] = ["!doctype", "meta", "img", "br"];
    assert!(page.starts_with("<!DOCTYPE html>"));
    let mut open: Vec<&str> = Vec::new();
    for tag in page.split('<').skip(1) {
        let name = tag.split(|c: char| c.is_whitespace() || c == '>').next().unwrap_or_default();
        if let Some(closed) = name.strip_prefix('/') {
            assert_eq!(open.pop(), Some(closed), "before {tag}");
        } else if !VOID.contains(&name.to_lowercase().as_str()) {
            open.push(name);
        }
    }
    assert!(open.is_empty(), "{open:?} left open");
    for fetched in ["http:", "https:", "<script", "<link", "@import", "url(", "src=\"//"] {
        assert!(!page.contains(fetched), "{fetched}");
    }
}

fn bare() -> ReportData {
    ReportData {
        name: "bare".into(),
        dataset: "nothing".into(),
        created: "some day".into(),
        seed: 1,
        form: Form::F32,
        counts: Counts::default(),
        epochs: Vec::new(),
        rounds: Vec::new(),
        probes: Vec::new(),
        threshold: None,
        scores: Vec::new(),
        most_anomalous: Vec::new(),
        most_normal: Vec::new(),
        mistakes: Vec::new(),
        projection: None,
        agreement: None,
        config: String::new(),
        warnings: Vec::new(),
        facts: Vec::new(),
    }
}
