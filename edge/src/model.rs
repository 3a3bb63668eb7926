//! A bundle made ready to score in one numeric form, and the choice of that form.

use crate::encoder::{EncoderError, EncoderPlan};
use crate::enrol::Scoring;
use crate::scorer::Scorer;
use salad_shared::bank::Bank;
use salad_shared::bundle::{Bundle, BundleError};
use salad_shared::manifest::{Form, Manifest};
use salad_shared::patch::HeatScale;
use salad_shared::preprocess::Frame;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Frames that each form scores when they are timed against each other.
const TIMED_FRAMES: usize = 15;

/// The longest that timing goes on; slow devices make do with fewer frames.
const TIMED_AT_MOST: Duration = Duration::from_secs(3);

/// Normal pictures on which both forms are compared, and how close their embeddings have to be. A bundle's own figures are
/// above 0.99; a processor on which arithmetic goes wrong has one near 0.
const COMPARED_PICTURES: usize = 4;
const LEAST_COSINE: f32 = 0.9;

/// Which numeric form to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum FormChoice {
    /// 32-bit floating point.
    F32,
    /// 8-bit integers.
    Int8,
    /// The faster of the two on this device, timed at the start; f32 where int8 does not agree with it here.
    #[default]
    Auto,
}

/// Why a bundle cannot be scored with.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The bundle is not one.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// Its encoder cannot be used.
    #[error("{}: {source}", path.display())]
    Encoder {
        /// The bundle.
        path: PathBuf,
        /// What is wrong.
        source: EncoderError,
    },
}

/// A model in one numeric form.
#[derive(Clone)]
pub struct Model {
    /// The bundle's manifest.
    pub manifest: Manifest,
    /// The form.
    pub form: Form,
    /// The bundle's threshold for the form: a frame is anomalous when its score is greater.
    pub threshold: f32,
    /// How heat maps are coloured; a model of whole images has none.
    pub heat_scale: Option<HeatScale>,
    /// Scores of normal validation images in the form.
    pub normal_scores: Arc<[f32]>,
    /// Which encoder it is: the start of its SHA-256, the same for both forms.
    pub encoder: Arc<str>,
    /// A JPEG of each prototype's training image, or none at all.
    pub thumbnails: Arc<[Vec<u8>]>,
    plan: EncoderPlan,
    bank: Arc<dyn Bank>,
}

impl Model {
    /// Reads a bundle and prepares the chosen form.
    pub fn read(path: &Path, choice: FormChoice) -> Result<Model, ModelError> {
        let bundle = Bundle::read(path)?;
        Model::load(&bundle, choice).map_err(|source| ModelError::Encoder { path: path.into(), source })
    }

    /// Prepares the chosen form of a bundle.
    pub fn load(bundle: &Bundle, choice: FormChoice) -> Result<Model, EncoderError> {
        match choice {
            FormChoice::F32 => Model::in_form(bundle, Form::F32),
            FormChoice::Int8 => Model::in_form(bundle, Form::Int8),
            FormChoice::Auto => faster(Model::in_form(bundle, Form::F32)?, Model::in_form(bundle, Form::Int8)?),
        }
    }

    /// What runs the encoder: the name of a kernel for int8, or `tract`.
    pub fn engine(&self) -> &'static str {
        self.plan.engine()
    }

    /// What of the model prototypes depend on that are added to it.
    pub fn scoring(&self) -> Scoring {
        Scoring {
            encoder: self.encoder.to_string(),
            dim: self.manifest.encoder.embedding_dim as usize,
            score: self.manifest.score,
            threshold: self.threshold,
        }
    }

    /// A scorer of one's own, for one thread.
    pub fn scorer(&self) -> Result<Scorer, EncoderError> {
        let manifest = &self.manifest;
        let (input, bank) = (manifest.input.clone(), Arc::clone(&self.bank));
        Ok(Scorer::new(input, self.plan.encoder()?, bank, manifest.score, manifest.patches))
    }

    fn in_form(bundle: &Bundle, form: Form) -> Result<Model, EncoderError> {
        let bank: Arc<dyn Bank> = match form {
            Form::F32 => Arc::new(bundle.bank.clone()),
            Form::Int8 => Arc::new(bundle.bank_int8.clone()),
        };
        Ok(Model {
            manifest: bundle.manifest.clone(),
            form,
            threshold: bundle.manifest.thresholds.get(form).value,
            heat_scale: bundle.manifest.heat.as_ref().map(|heat| *heat.get(form)),
            normal_scores: match form {
                Form::F32 => bundle.calibration.f32.as_slice().into(),
                Form::Int8 => bundle.calibration.int8.as_slice().into(),
            },
            encoder: identity(&bundle.encoder_f32).into(),
            thumbnails: bundle.thumbnails.clone().into(),
            plan: EncoderPlan::load(bundle, form)?,
            bank,
        })
    }
}

/// The first 16 hexadecimal digits of what SHA-256 makes of an encoder.
fn identity(encoder: &[u8]) -> String {
    Sha256::digest(encoder).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// Lets both score the same frame in turns and takes the one with the lower median time; int8 only where its embeddings of
/// normal pictures are close to those of f32 on this processor too.
fn faster(f32: Model, int8: Model) -> Result<Model, EncoderError> {
    let mut scorers = [f32.scorer()?, int8.scorer()?];
    if let Some(cosine) = agreement(&mut scorers, &f32)?.filter(|cosine| *cosine < LEAST_COSINE) {
        log::warn!("form auto: embeddings in int8 are not those in f32 (cosine {cosine:.3}); taking f32");
        return Ok(f32);
    }
    let (width, height) = (f32.manifest.input.width, f32.manifest.input.height);
    let rgb = (0..width * height * 3).map(|i| (i * 31 % 251) as u8).collect();
    let Ok(frame) = Frame::new(width, height, rgb) else { return Ok(int8) };
    let mut times = [Vec::new(), Vec::new()];
    let start = Instant::now();
    for round in 0..=TIMED_FRAMES {
        for (scorer, times) in scorers.iter_mut().zip(&mut times) {
            let started = Instant::now();
            scorer.score(&frame)?;
            // The first round fills caches and lazily made tables.
            if round > 0 {
                times.push(started.elapsed());
            }
        }
        if round > 0 && start.elapsed() > TIMED_AT_MOST {
            break;
        }
    }
    let [f32_time, int8_time] = times.map(median);
    let chosen = if f32_time < int8_time { f32 } else { int8 };
    log::info!(
        "form auto: {:.2} ms a frame in f32, {:.2} ms in int8; taking {}",
        f32_time.as_secs_f64() * 1e3,
        int8_time.as_secs_f64() * 1e3,
        chosen.form
    );
    Ok(chosen)
}

/// The least cosine between both forms' embeddings of some normal pictures; `None` where the bundle has no pictures.
fn agreement(scorers: &mut [Scorer; 2], model: &Model) -> Result<Option<f32>, EncoderError> {
    let mut least: Option<f32> = None;
    let pictures = model.thumbnails.iter().take(COMPARED_PICTURES).filter_map(|jpeg| Frame::decode(jpeg).ok());
    for picture in pictures {
        for scorer in scorers.iter_mut() {
            scorer.score(&picture)?;
        }
        let [a, b] = scorers.each_ref().map(Scorer::embeddings);
        // Of unit length each, one for each place.
        let sum: f32 = a.iter().zip(b).map(|(a, b)| a * b).sum();
        let cosine = sum / model.manifest.places() as f32;
        least = Some(least.map_or(cosine, |least| least.min(cosine)));
    }
    Ok(least)
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::support::{Net, anomalous_frame, bundle, expected_score, normal_frame};

    #[test]
    fn each_form_scores_with_its_own_bank_and_threshold() {
        let mut bundle = bundle();
        bundle.manifest.thresholds.int8.value = 0.3;
        // Banks that differ, so that a mix-up would show.
        let mut rows = bundle.bank.rows().clone();
        rows.row_mut(0).assign(&ndarray::array![0.0, 0.0, 0.0, 1.0]);
        bundle.bank_int8 = salad_shared::bank::FloatBank::new(rows).quantize();
        for (choice, form, threshold) in [(FormChoice::F32, Form::F32, 0.1), (FormChoice::Int8, Form::Int8, 0.3)] {
            let model = Model::load(&bundle, choice).unwrap();
            assert_eq!((model.form, model.threshold), (form, threshold));
            let mut scorer = model.scorer().unwrap();
            for frame in [normal_frame(), anomalous_frame()] {
                let scored = scorer.score(&frame).unwrap();
                let expected = expected_score(&bundle, &frame, form);
                assert!((scored.score - expected).abs() < 1e-4, "{form}: {} against {expected}", scored.score);
            }
        }
    }

    #[test]
    fn auto_does_not_take_an_int8_form_that_disagrees() {
        let mut bundle = bundle();
        bundle.encoder_int8 = Net { mirrored: true, ..Net::default() }.onnx();
        bundle.thumbnails = vec![normal_frame().to_jpeg(90)];
        assert_eq!(Model::load(&bundle, FormChoice::Auto).unwrap().form, Form::F32);
    }

    #[test]
    fn auto_takes_one_of_the_two() {
        let model = Model::load(&bundle(), FormChoice::Auto).unwrap();
        let mut scorer = model.scorer().unwrap();
        assert!(scorer.score(&normal_frame()).unwrap().score < model.threshold);
        assert!(scorer.score(&anomalous_frame()).unwrap().score > model.threshold);
    }

    #[test]
    fn an_error_names_the_bundle_and_its_part() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.salad");
        let mut bundle = bundle();
        bundle.encoder_int8 = b"no onnx".to_vec();
        bundle.write(&path).unwrap();
        let error = Model::read(&path, FormChoice::Int8).err().unwrap().to_string();
        assert!(error.contains("a.salad: encoder.int8.onnx"), "{error}");
        assert!(Model::read(&path, FormChoice::F32).is_ok());
        assert!(matches!(Model::read(&dir.path().join("b.salad"), FormChoice::F32), Err(ModelError::Bundle(_))));
    }
}
