//! Figures of merit of a run on its test set, for both forms, by kind of defect.

use crate::pixel::PixelFigures;
use salad_shared::atomic;
use salad_shared::manifest::{Form, Forms};
use salad_shared::metrics::{self, Confusion, MetricError};
use serde::Serialize;
use std::path::Path;

/// Level of the interval on AUROC.
const INTERVAL_LEVEL: f64 = 0.95;
/// Resamples behind it.
const RESAMPLES: usize = 2000;

/// An image with its scores.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Scored {
    /// Name in the data set.
    pub name: String,
    /// `validation` or `test`.
    pub split: &'static str,
    /// The kind of defect; empty for normal images.
    pub kind: String,
    /// Score by the f32 encoder and bank.
    pub f32: f32,
    /// Score by the int8 encoder and bank.
    pub int8: f32,
}

impl Scored {
    /// The score in one form.
    pub fn score(&self, form: Form) -> f32 {
        match form {
            Form::F32 => self.f32,
            Form::Int8 => self.int8,
        }
    }
}

/// `evaluation.json`: what the test set says of both forms.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Evaluation {
    /// Normal test images.
    pub normal: usize,
    /// Anomalous test images.
    pub anomalous: usize,
    /// The figures of each form.
    pub forms: Forms<Figures>,
}

/// Figures of one form.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figures {
    /// Area under the ROC curve.
    pub auroc: f64,
    /// Its bootstrap 95 % interval.
    pub auroc_interval_95: [f64; 2],
    /// Average precision.
    pub aupr: f64,
    /// Highest F1 of any threshold, chosen with the labels in hand.
    pub best_f1: f64,
    /// True-positive rate at a false-positive rate of 1 %, 5 % and 45 %.
    pub tpr_at_fpr: [(f64, f64); 3],
    /// The threshold that validation found.
    pub threshold: f32,
    /// Precision, recall, F1 and false-positive rate at it; `None` where undefined.
    pub precision: Option<f64>,
    /// See `precision`.
    pub recall: Option<f64>,
    /// See `precision`.
    pub f1: Option<f64>,
    /// See `precision`.
    pub false_positive_rate: Option<f64>,
    /// Normal images first (kind empty), then each kind of defect by name.
    pub kinds: Vec<KindFigures>,
    /// How well heat maps point, where there are heat maps and masks.
    pub pixel: Option<PixelFigures>,
}

/// One kind of image at the threshold.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct KindFigures {
    /// The kind of defect; empty for normal images.
    pub kind: String,
    /// Images of it.
    pub images: usize,
    /// How many score over the threshold.
    pub over_threshold: usize,
    /// AUROC of this kind against all normal images; `None` for normal images.
    pub auroc: Option<f64>,
}

/// Evaluates test images; `None` where one of the classes has none.
pub fn evaluate(
    scored: &[Scored],
    thresholds: &Forms<f32>,
    pixel: Forms<Option<PixelFigures>>,
    seed: u64,
) -> Result<Option<Evaluation>, MetricError> {
    let test = || scored.iter().filter(|s| s.split == "test");
    let anomalous = test().filter(|s| !s.kind.is_empty()).count();
    let normal = test().count() - anomalous;
    if normal == 0 || anomalous == 0 {
        return Ok(None);
    }
    let forms = Forms {
        f32: Figures { pixel: pixel.f32, ..figures(test, Form::F32, thresholds.f32, seed)? },
        int8: Figures { pixel: pixel.int8, ..figures(test, Form::Int8, thresholds.int8, seed)? },
    };
    Ok(Some(Evaluation { normal, anomalous, forms }))
}

/// Writes every image's scores as CSV: name, split, kind, f32, int8.
pub fn write_scores(path: &Path, scored: &[Scored]) -> std::io::Result<()> {
    atomic::write_with(path, |out| {
        let mut csv = csv::Writer::from_writer(out);
        for row in scored {
            csv.serialize(row)?;
        }
        csv.flush()
    })
}

fn figures<'a, I>(test: impl Fn() -> I, form: Form, threshold: f32, seed: u64) -> Result<Figures, MetricError>
where
    I: Iterator<Item = &'a Scored>,
{
    let scores = |wanted: &dyn Fn(&Scored) -> bool| -> Vec<f32> {
        test().filter(|s| wanted(s)).map(|s| s.score(form)).collect()
    };
    let normal = scores(&|s| s.kind.is_empty());
    let anomalous = scores(&|s| !s.kind.is_empty());
    let at: Confusion = metrics::confusion(&normal, &anomalous, threshold)?;
    let rate = |fpr: f64| metrics::tpr_at_fpr(&normal, &anomalous, fpr).map(|tpr| (fpr, tpr));
    let mut names: Vec<&str> = test().map(|s| s.kind.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let kinds = names
        .into_iter()
        .map(|kind| {
            let own = scores(&|s| s.kind == kind);
            let auroc = if kind.is_empty() { None } else { Some(metrics::auroc(&normal, &own)?) };
            let over_threshold = own.iter().filter(|s| **s > threshold).count();
            Ok(KindFigures { kind: kind.to_owned(), images: own.len(), over_threshold, auroc })
        })
        .collect::<Result<_, MetricError>>()?;
    Ok(Figures {
        auroc: metrics::auroc(&normal, &anomalous)?,
        auroc_interval_95: metrics::bootstrap_auroc_interval(&normal, &anomalous, INTERVAL_LEVEL, RESAMPLES, seed)?,
        aupr: metrics::aupr(&normal, &anomalous)?,
        best_f1: metrics::best_f1(&normal, &anomalous)?.f1,
        tpr_at_fpr: [rate(0.01)?, rate(0.05)?, rate(0.45)?],
        threshold,
        precision: at.precision(),
        recall: at.recall(),
        f1: at.f1(),
        false_positive_rate: at.false_positive_rate(),
        kinds,
        pixel: None,
    })
}

impl std::fmt::Display for Evaluation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "test set: {} normal, {} anomalous images", self.normal, self.anomalous)?;
        let percent = |v: Option<f64>| v.map_or("-".to_owned(), |v| format!("{:.1} %", v * 100.0));
        for form in [Form::F32, Form::Int8] {
            let g = self.forms.get(form);
            let [low, high] = g.auroc_interval_95;
            writeln!(f, "{form}:")?;
            writeln!(f, "  AUROC {:.4} (95 % interval {low:.4} to {high:.4}), AUPR {:.4}", g.auroc, g.aupr)?;
            let rates: Vec<String> =
                g.tpr_at_fpr.iter().map(|(fpr, tpr)| format!("{:.3} at FPR {:.0} %", tpr, fpr * 100.0)).collect();
            writeln!(f, "  TPR {}; best F1 {:.4}", rates.join(", "), g.best_f1)?;
            writeln!(
                f,
                "  at the threshold {:.4}: precision {}, recall {}, F1 {}, false-positive rate {}",
                g.threshold,
                percent(g.precision),
                percent(g.recall),
                g.f1.map_or("-".to_owned(), |v| format!("{v:.4}")),
                percent(g.false_positive_rate)
            )?;
            if let Some(p) = &g.pixel {
                writeln!(f, "  pixels of {} images: AUROC {:.4}, AUPRO {:.4}", p.images, p.auroc, p.aupro)?;
            }
            for k in &g.kinds {
                let name = if k.kind.is_empty() { "normal" } else { &k.kind };
                let auroc = k.auroc.map_or(String::new(), |a| format!(", AUROC {a:.4}"));
                writeln!(f, "    {name}: {} of {} over the threshold{auroc}", k.over_threshold, k.images)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scored(split: &'static str, kind: &str, score: f32) -> Scored {
        Scored { name: format!("{kind}{score}"), split, kind: kind.into(), f32: score, int8: score }
    }

    #[test]
    fn kinds_are_counted_against_the_threshold() {
        let rows = [
            scored("validation", "", 0.9),
            scored("test", "", 0.1),
            scored("test", "", 0.3),
            scored("test", "dent", 0.5),
            scored("test", "dent", 0.2),
            scored("test", "rust", 0.7),
        ];
        let e = evaluate(&rows, &Forms { f32: 0.25, int8: 0.6 }, Forms { f32: None, int8: None }, 1).unwrap().unwrap();
        let f = &e.forms.f32;
        assert_eq!((e.normal, e.anomalous, f.precision, f.recall), (2, 3, Some(2.0 / 3.0), Some(2.0 / 3.0)));
        let over: Vec<_> = f.kinds.iter().map(|k| (k.kind.as_str(), k.over_threshold, k.images)).collect();
        assert_eq!(over, [("", 1, 2), ("dent", 1, 2), ("rust", 1, 1)]);
        assert!((f.auroc - 5.0 / 6.0).abs() < 1e-12);
        assert_eq!(e.forms.int8.kinds[1].over_threshold, 0);
        assert!(e.to_string().contains("rust: 1 of 1"));
    }

    #[test]
    fn without_both_classes_there_is_nothing_to_evaluate() {
        let rows = [scored("test", "dent", 0.5)];
        assert_eq!(evaluate(&rows, &Forms { f32: 0.1, int8: 0.1 }, Forms { f32: None, int8: None }, 1).unwrap(), None);
    }
}
