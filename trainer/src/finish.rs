//! The second spine: a trained network to prototypes, integers, scores, threshold, bundle and report.
//!
//! final bank -> condense -> fold -> quantize -> score -> threshold -> evaluate; then whatever is to be written of it.

use crate::condense::condense;
use crate::config::Config;
use crate::dataset::TestItem;
use crate::evaluate::{Evaluation, Scored, evaluate, write_scores};
use crate::finished::{Finished, Source};
use crate::folded::FoldedNet;
use crate::forward::ForwardError;
use crate::model::inputs;
use crate::negatives::of_each;
use crate::onnx::{to_onnx_f32, to_onnx_int8};
use crate::pixel::{Judged, Mask, PixelFigures, pixel_figures};
use crate::quantize::{QuantizeOptions, quantize, quantize_best};
use crate::synthetic::{COPIES, cut_paste};
use crate::train::{TrainError, Trained};
use crate::{bundle_parts, report_data};
use ndarray::{Array2, Axis, concatenate, s};
use salad_shared::atomic;
use salad_shared::bank::{Bank, FloatBank};
use salad_shared::bundle::{Bundle, Calibration};
use salad_shared::manifest::{Agreement, Form, Forms};
use salad_shared::metrics;
use salad_shared::patch::{HeatScale, ImageScore, PatchGrid, score_image};
use salad_shared::preprocess::{Frame, InputSpec};
use salad_shared::threshold::calibrate;
use std::path::{Path, PathBuf};

/// Frames encoded at a time.
const CHUNK: usize = 256;

/// Below this correlation with the scores over the whole bank, those over the prototypes are other scores.
const CONDENSED_AGREE: f64 = 0.8;

/// Rows that are condensed at most; of more, as patches have them, an even selection.
const BANK_ROWS: usize = 40_000;

/// The golden ratio, of all numbers the one whose multiples spread the most evenly.
const GOLDEN: f64 = 1.618_033_988_749_895;

/// Validation rows that choose how to condense, at most.
const VALIDATION_ROWS: usize = 4096;

/// Takes a trained network to everything that a bundle and a report are made of.
pub fn finish(trained: &Trained) -> Result<Finished<'_>, TrainError> {
    let (config, images) = (&trained.config, &trained.images);
    let refused = |e: String| TrainError::Refused(e);
    let score = config.score;

    // Validation images and test images by the encoder as it is exported.
    let n = images.validation.items.len();
    let folded = trained.fold()?;
    let spec = config.input_spec();
    let patches = patch_grid(config, &folded);
    let each = folded.vectors();
    let judged: Vec<Frame> = images.validation.frames.iter().chain(images.test.frames.iter()).cloned().collect();
    let judged_rows = in_chunks(&spec, &judged, |x, n| folded.encode(x, n))?;

    log::info!("encoding {} training images", images.train.items.len());
    // The bank as the final encoder sees the training images, then its prototypes.
    let all_rows = images.train.frames.len() * each;
    let kept = spread_rows(all_rows, BANK_ROWS);
    let (bank_rows, train_means) = kept_rows(&spec, &images.train.frames, each, &kept, |x, n| folded.encode(x, n))?;
    let validation_rows = judged_rows.slice(s![..n * each, ..]);
    let validation_rows = validation_rows.select(Axis(0), &spread_rows(n * each, VALIDATION_ROWS));
    let wanted = config.prototypes().map_err(refused)?;
    let condensed = condense(&bank_rows, wanted, &validation_rows, &score, config.seed);
    let (condensed, condensed_agree) = condensed.map_err(|e| refused(e.to_string()))?;
    let condensed_by = match all_rows > kept.len() {
        true => format!("{} of {} in an even selection of {all_rows}", condensed.method, kept.len()),
        false => condensed.method.clone(),
    };
    let source = |&row: &usize| Source { image: kept[row] / each, place: kept[row] % each };
    let sources = condensed.sources.iter().map(source).collect();

    // The encoder, quantized: calibrated on training images, the way to do it chosen on validation images.
    let one_by_one =
        |frames: &[Frame]| -> Vec<Vec<f32>> { frames.iter().map(|f| inputs(&spec, std::slice::from_ref(f))).collect() };
    // Calibrated on normal images alone, an integer saturates on what is not normal, and the anomalies that stand out the
    // most are told least: made-up anomalies give the ranges their headroom.
    let with_made_up = |frames: &[Frame]| {
        let normal = spread(frames, config.quantize.images);
        let made_up = cut_paste(&normal, config.seed);
        one_by_one(&[normal, made_up.into_iter().step_by(COPIES).collect()].concat())
    };
    let calibration = with_made_up(&images.train.frames);
    log::info!("quantizing over {} images", calibration.len());
    let (method, weight_scales) = config.quantize_options().map_err(refused)?;
    let quantized = match method {
        None => {
            let validation = with_made_up(&images.validation.frames);
            quantize_best(&folded, &calibration, &validation, weight_scales).map(|choice| choice.net)
        }
        Some(calibration_method) => {
            let options = QuantizeOptions { calibration: calibration_method, weight_scales, ..Default::default() };
            quantize(&folded, &calibration, &options)
        }
    };
    let quantized = quantized.map_err(|e| refused(e.to_string()))?;

    // Each form has the bank as its own encoder sees it.
    let encode_int8 = |frames: &[Frame]| in_chunks(&spec, frames, |x, n| quantized.encode(x, n));
    let (seen_by_int8, _) = kept_rows(&spec, &images.train.frames, each, &kept, |x, n| quantized.encode(x, n))?;
    let seen_by_int8 = condensed.seen_by(&bank_rows, &seen_by_int8);
    let bank = FloatBank::new(condensed.rows);
    let bank_int8 = FloatBank::new(seen_by_int8).quantize();

    // Every validation and test image in both forms.
    log::info!("scoring {} validation and test images", judged.len());
    let judged_int8 = encode_int8(&judged)?;
    let score_images = |bank: &dyn Bank, rows: &Array2<f32>| -> Vec<ImageScore> {
        let of_image = |start| rows.slice(s![start..start + each, ..]).iter().copied().collect::<Vec<f32>>();
        let images = (0..rows.nrows()).step_by(each).map(of_image);
        images.map(|z| score_image(&score, patches.as_ref(), bank, &z)).collect()
    };
    let scored_f32 = score_images(&bank, &judged_rows);
    let scored_int8 = score_images(&bank_int8, &judged_int8);
    let names = images.validation.items.iter().map(|i| (i.name.clone(), "validation", String::new()));
    let tested = images.test.items.iter().map(|t| (t.item.name.clone(), "test", t.kind.clone().unwrap_or_default()));
    let scored: Vec<Scored> = names
        .chain(tested)
        .zip(scored_f32.iter().zip(&scored_int8))
        .map(|((name, split, kind), (f32, int8))| Scored { name, split, kind, f32: f32.score, int8: int8.score })
        .collect();

    let scale = |scores: &[ImageScore]| {
        let heat = scores[..n].iter().filter_map(|s| s.heat.as_ref());
        HeatScale::of_normal(heat.flat_map(|h| h.scores()).copied().collect())
    };
    let heat = patches.map(|_| Forms { f32: scale(&scored_f32), int8: scale(&scored_int8) });

    // What made-up anomalies say, for whoever compares settings.
    let normal: Vec<f32> = scored[..n].iter().map(|s| s.int8).collect();
    let told = |made_up: &[Frame]| {
        let scores: Vec<f32> = score_images(&bank_int8, &encode_int8(made_up)?).iter().map(|s| s.score).collect();
        metrics::auroc(&normal, &scores).map_err(|e| refused(e.to_string()))
    };
    let synthetic_auroc = told(&cut_paste(&images.validation.frames, config.seed))?;
    let negatives = of_each(config.train.negatives, &images.validation.frames, COPIES, config.seed);
    let negatives_auroc = if negatives.is_empty() { None } else { Some(told(&negatives)?) };

    // The threshold, from normal validation images alone; the test set only judges.
    let budget = config.budget().map_err(refused)?;
    let threshold = |form: Form| {
        let scores: Vec<f32> = scored[..n].iter().map(|s| s.score(form)).collect();
        calibrate(&scores, &budget, config.seed).map_err(|e| TrainError::Refused(e.to_string()))
    };
    let thresholds = Forms { f32: threshold(Form::F32)?, int8: threshold(Form::Int8)? };
    let values = Forms { f32: thresholds.f32.value, int8: thresholds.int8.value };
    let masks = load_masks(&images.test.items, &spec, patches.is_some())?;
    let pixels = |of: &[ImageScore]| pixels(&of[n..], &images.test.items, &masks, &spec);
    let pixels = Forms { f32: pixels(&scored_f32), int8: pixels(&scored_int8) };
    let evaluation = evaluate(&scored, &values, pixels, config.seed).map_err(|e| refused(e.to_string()))?;
    let agreement = agreement(&scored, (&judged_rows, &judged_int8), n * each, evaluation.as_ref()).map_err(refused)?;

    Ok(Finished {
        trained,
        train_rows: train_means,
        judged_rows: means(&judged_rows, each),
        patches,
        heat,
        bank,
        bank_int8,
        sources,
        condensed_by,
        condensed_agree,
        folded,
        quantized,
        scored,
        judged: scored_int8,
        thresholds,
        agreement,
        synthetic_auroc,
        negatives_auroc,
        evaluation,
        without_mask: without_mask(&images.test.items, &masks),
    })
}

impl Finished<'_> {
    /// Writes `scores.csv` and, where there is a test set, `evaluation.json`.
    pub fn write_evaluation(&self, run: &Path) -> Result<(), TrainError> {
        let path = run.join("scores.csv");
        write_scores(&path, &self.scored).map_err(|source| TrainError::Io { path, source })?;
        let Some(evaluation) = &self.evaluation else { return Ok(()) };
        let json = serde_json::to_vec_pretty(evaluation).map_err(|e| TrainError::Refused(e.to_string()))?;
        let path = run.join("evaluation.json");
        atomic::write(&path, &json).map_err(|source| TrainError::Io { path, source })
    }

    /// Where the bundle of a run goes: `NAME.salad` in its folder.
    pub fn bundle_path(&self, run: &Path) -> PathBuf {
        run.join(format!("{}.salad", self.trained.config.name))
    }

    /// What a prototype stands for: its training image, or the part of it that its place sees.
    pub fn prototype_picture(&self, source: Source) -> Frame {
        let frame = &self.trained.images.train.frames[source.image];
        match &self.patches {
            Some(grid) => frame.cropped(grid.centre(source.place), grid.receptive_field),
            None => frame.clone(),
        }
    }

    /// Writes the bundle, whole or not at all.
    pub fn write_bundle(&self, path: &Path) -> Result<(), TrainError> {
        self.bundle().write(path).map_err(|e| TrainError::Refused(e.to_string()))
    }

    /// Writes `report.html`; gives its path.
    pub fn write_report(&self, run: &Path) -> Result<PathBuf, TrainError> {
        let path = run.join("report.html");
        let page = crate::report::render(&report_data::collect(self)?);
        atomic::write(&path, page.as_bytes()).map_err(|source| TrainError::Io { path: path.clone(), source })?;
        Ok(path)
    }

    /// What a person should know before relying on the model: what its training warned of, a threshold that no frame can
    /// exceed, and prototypes too few.
    pub fn warnings(&self) -> Vec<String> {
        let highest = self.trained.config.score.range().1;
        let of_thresholds = [Form::F32, Form::Int8]
            .into_iter()
            .map(|form| (form, self.thresholds.get(form).value))
            .filter(|(_, value)| *value >= highest)
            .map(|(form, value)| {
                format!(
                    "the {form} threshold {value:.4} is not below the highest score {highest}: nothing will ever alarm; \
                     allow more false alarms (threshold.false_alarms), or add normal images to validate with"
                )
            });
        let of_prototypes = (self.condensed_agree < CONDENSED_AGREE).then(|| {
            format!(
                "{} prototypes do not stand for the {} embeddings they were made of: scores of validation images over the \
                 former and the latter correlate with {:.2} only; keep more (condense.prototypes, up to \"all\")",
                self.sources.len(),
                self.train_rows.nrows() * self.folded.vectors(),
                self.condensed_agree
            )
        });
        let of_images = self.trained.history.warnings.iter().cloned().chain(self.without_mask.clone());
        of_images.chain(of_thresholds).chain(of_prototypes).collect()
    }

    /// The bundle.
    pub fn bundle(&self) -> Bundle {
        let side = self.trained.config.condense.thumbnail_side;
        let thumbnail = |source: &Source| self.prototype_picture(*source).thumbnail(side).to_jpeg(85);
        let validation = &self.scored[..self.trained.images.validation.items.len()];
        Bundle {
            manifest: bundle_parts::manifest(self),
            encoder_f32: to_onnx_f32(&self.folded),
            encoder_int8: to_onnx_int8(&self.quantized),
            bank: self.bank.clone(),
            bank_int8: self.bank_int8.clone(),
            thumbnails: if side == 0 { Vec::new() } else { self.sources.iter().map(thumbnail).collect() },
            calibration: Calibration {
                images: validation.iter().map(|s| s.name.clone()).collect(),
                f32: validation.iter().map(|s| s.f32).collect(),
                int8: validation.iter().map(|s| s.int8).collect(),
            },
            model_card: bundle_parts::model_card(self),
        }
    }
}

impl std::fmt::Display for Finished<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(evaluation) = &self.evaluation {
            write!(f, "{evaluation}")?;
        } else {
            writeln!(
                f,
                "no test set with normal and anomalous images: nothing to evaluate (in test/good and test/NAME OF THE DEFECT \
                 they are found)"
            )?;
        }
        for form in [Form::F32, Form::Int8] {
            let t = self.thresholds.get(form);
            let [low, high] = t.interval_90;
            writeln!(f, "threshold {form}: {:.4} (90 % interval {low:.4} to {high:.4}). {}", t.value, t.note)?;
        }
        for warning in self.warnings() {
            writeln!(f, "warning: {warning}")?;
        }
        writeln!(f, "made-up anomalies against validation images, int8: AUROC {:.4}", self.synthetic_auroc)?;
        if let Some(auroc) = self.negatives_auroc {
            writeln!(f, "negatives made of validation images against these, int8: AUROC {auroc:.4}")?;
        }
        let a = &self.agreement;
        let shown = |v: Option<f32>| v.map_or("-".to_owned(), |v| format!("{v:.4}"));
        write!(
            f,
            "int8 against f32 on {} images: embedding cosine {:.5} (least {:.5}), score correlation {}, rank correlation {}",
            a.images,
            a.embedding_cosine_mean,
            a.embedding_cosine_min,
            shown(a.score_correlation),
            shown(a.rank_correlation)
        )
    }
}

/// Embeddings \[n, d\] of frames by an encoder that takes network input, some frames at a time: all inputs at once would not
/// fit the memory.
fn in_chunks(
    spec: &InputSpec,
    frames: &[Frame],
    encode: impl Fn(&[f32], usize) -> Result<Array2<f32>, ForwardError>,
) -> Result<Array2<f32>, TrainError> {
    let encode = |chunk: &[Frame]| encode(&inputs(spec, chunk), chunk.len());
    let parts = frames.chunks(CHUNK).map(|chunk| encode(chunk).map_err(|e| TrainError::Refused(e.to_string())));
    stacked(&parts.collect::<Result<Vec<_>, _>>()?)
}

/// As [`in_chunks`], of each frame's `each` vectors only those with the ascending numbers `kept`, and each frame's mean: those of all
/// places of all training images need not fit the memory.
fn kept_rows(
    spec: &InputSpec,
    frames: &[Frame],
    each: usize,
    kept: &[usize],
    encode: impl Fn(&[f32], usize) -> Result<Array2<f32>, ForwardError>,
) -> Result<(Array2<f32>, Array2<f32>), TrainError> {
    let (mut rows, mut of_frames, mut from) = (Vec::new(), Vec::new(), 0);
    for chunk in frames.chunks(CHUNK) {
        let all = in_chunks(spec, chunk, &encode)?;
        let to = from + chunk.len() * each;
        let within = kept.iter().filter(|row| (from..to).contains(row)).map(|row| row - from);
        rows.push(all.select(Axis(0), &within.collect::<Vec<_>>()));
        of_frames.push(means(&all, each));
        from = to;
    }
    Ok((stacked(&rows)?, stacked(&of_frames)?))
}

/// Parts, one below the other.
fn stacked(parts: &[Array2<f32>]) -> Result<Array2<f32>, TrainError> {
    let views: Vec<_> = parts.iter().map(|p| p.view()).collect();
    match views.is_empty() {
        true => Ok(Array2::zeros((0, 0))),
        false => concatenate(Axis(0), &views).map_err(|e| TrainError::Refused(e.to_string())),
    }
}

/// The places of a network with patches.
fn patch_grid(config: &Config, folded: &FoldedNet) -> Option<PatchGrid> {
    let patch = config.network.patch.as_ref()?;
    let [rows, columns] = folded.places()?;
    Some(PatchGrid {
        rows: rows as u32,
        columns: columns as u32,
        stride: patch.stride,
        receptive_field: folded.receptive_field() as u32,
        top: patch.top.min((rows * columns) as u32),
    })
}

/// The masks of test images, at the input's size; none are read where there is no heat map to hold against them.
fn load_masks(items: &[TestItem], input: &InputSpec, wanted: bool) -> Result<Vec<Option<Mask>>, TrainError> {
    let load = |path: &PathBuf| {
        let failed = |problem: String| TrainError::Refused(format!("{}: a mask: {problem}", path.display()));
        let bytes = std::fs::read(path).map_err(|e| failed(e.to_string()))?;
        let picture = Frame::decode(&bytes).map_err(|e| failed(e.to_string()))?;
        Ok(Mask::from_picture(&picture, input.width, input.height))
    };
    let masks = items.iter().map(|item| item.mask.as_ref().filter(|_| wanted).map(load).transpose());
    // One that marks nothing says no more of an anomalous image than none.
    masks.map(|mask| mask.map(|mask| mask.filter(|mask| !mask.is_empty()))).collect()
}

/// Says which anomalous images the pixel figures leave out, where there are such figures and such images.
fn without_mask(items: &[TestItem], masks: &[Option<Mask>]) -> Option<String> {
    let anomalous = || items.iter().zip(masks).filter(|(item, _)| item.kind.is_some());
    let (count, without) = (anomalous().count(), anomalous().filter(|(_, mask)| mask.is_none()).count());
    let first = anomalous().find(|(_, mask)| mask.is_none()).map(|(item, _)| &item.item.name)?;
    (without < count).then(|| {
        format!(
            "{without} of {count} anomalous test images have no mask, or one that marks nothing ({first}{}): the pixel figures \
             leave them out",
            if without > 1 { ", ..." } else { "" }
        )
    })
}

/// Pixel figures over the normal test images and those with a mask.
fn pixels(
    scores: &[ImageScore],
    items: &[TestItem],
    masks: &[Option<Mask>],
    input: &InputSpec,
) -> Option<PixelFigures> {
    let judged = scores.iter().zip(items.iter().zip(masks)).filter_map(|(score, (item, mask))| {
        let known = item.kind.is_none() || mask.is_some();
        score.heat.as_ref().filter(|_| known).map(|heat| Judged { heat, mask: mask.as_ref() })
    });
    pixel_figures(&judged.collect::<Vec<_>>(), input.width, input.height)
}

/// The numbers of at most `count` of `rows` rows, ascending and spread evenly: one of each of `count` stretches, by the golden
/// ratio now further to its left and now to its right, so that a step of the same length as a picture's rows of places, or a part of
/// it, does not take the same places of every picture.
fn spread_rows(rows: usize, count: usize) -> Vec<usize> {
    if rows <= count {
        return (0..rows).collect();
    }
    let within = |i: usize, length: usize| ((i as f64 * GOLDEN).fract() * length as f64) as usize;
    let stretch = |i: usize| (i * rows / count, (i + 1) * rows / count);
    (0..count).map(|i| (i, stretch(i))).map(|(i, (from, to))| from + within(i, to - from)).collect()
}

/// Of every `each` rows the mean.
fn means(rows: &Array2<f32>, each: usize) -> Array2<f32> {
    let mut means = Array2::zeros((rows.nrows() / each.max(1), rows.ncols()));
    for (mut mean, of_image) in means.rows_mut().into_iter().zip(rows.axis_chunks_iter(Axis(0), each.max(1))) {
        mean.assign(&(of_image.sum_axis(Axis(0)) / of_image.nrows() as f32));
    }
    means
}

/// At most `count` frames, spread evenly.
fn spread(frames: &[Frame], count: usize) -> Vec<Frame> {
    let step = frames.len().div_ceil(count.max(1)).max(1);
    frames.iter().step_by(step).cloned().collect()
}

/// Cosines over validation images, correlations over all judged images: among normal images alone the scores hardly vary.
fn agreement(
    scored: &[Scored],
    rows: (&Array2<f32>, &Array2<f32>),
    validation: usize,
    evaluation: Option<&Evaluation>,
) -> Result<Agreement, String> {
    let cosines: Vec<f32> = rows.0.rows().into_iter().zip(rows.1.rows()).map(|(a, b)| a.dot(&b)).collect();
    let of_validation = &cosines[..validation.min(cosines.len())];
    let f32: Vec<f32> = scored.iter().map(|s| s.f32).collect();
    let int8: Vec<f32> = scored.iter().map(|s| s.int8).collect();
    let narrow =
        |v: Result<Option<f64>, metrics::MetricError>| v.map(|v| v.map(|v| v as f32)).map_err(|e| e.to_string());
    Ok(Agreement {
        images: scored.len(),
        embedding_cosine_mean: of_validation.iter().sum::<f32>() / of_validation.len().max(1) as f32,
        embedding_cosine_min: of_validation.iter().copied().fold(1.0, f32::min),
        score_correlation: narrow(metrics::pearson(&f32, &int8))?,
        rank_correlation: narrow(metrics::spearman(&f32, &int8))?,
        test_auroc: evaluation.map(|e| Forms { f32: e.forms.f32.auroc as f32, int8: e.forms.int8.auroc as f32 }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn rows_are_spread_over_all_places_of_a_picture() {
        for images in [157, 500, 1000, 2500] {
            let (rows, places) = (images * 256, 256);
            let kept = spread_rows(rows, BANK_ROWS);
            assert_eq!(kept.len(), BANK_ROWS.min(rows));
            assert!(kept.windows(2).all(|pair| pair[0] < pair[1]) && kept[kept.len() - 1] < rows);
            let seen: HashSet<usize> = kept.iter().map(|row| row % places).collect();
            assert_eq!(seen.len(), places, "{images} images");
        }
        assert_eq!(spread_rows(3, 5), [0, 1, 2]);
    }
}
