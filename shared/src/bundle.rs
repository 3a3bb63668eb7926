//! The model bundle `NAME.salad`: written atomically, read strictly. FORMAT.md specifies it byte by byte.

use crate::atomic;
use crate::bank::{FloatBank, Int8Bank};
use crate::manifest::Manifest;
use ndarray::Array2;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// The largest bundle that is read or written, bytes.
pub const MAX_BUNDLE_BYTES: u64 = 2 << 30;

const MANIFEST: &str = "manifest.json";
const ENCODER_F32: &str = "encoder.onnx";
const ENCODER_INT8: &str = "encoder.int8.onnx";
const PROTOTYPES: &str = "prototypes.safetensors";
const CALIBRATION: &str = "calibration.json";
const MODEL_CARD: &str = "MODEL_CARD.md";
const SUMS: &str = "SHA256SUMS";

/// Said in place of tar's own words, which would show the bytes of whatever file this is.
const NOT_A_TAR: &str = "it is not a tar archive, or it is cut short";

/// Everything in a bundle, checked against its manifest.
#[derive(Debug, Clone, PartialEq)]
pub struct Bundle {
    /// What the bundle says about itself.
    pub manifest: Manifest,
    /// The f32 encoder, ONNX.
    pub encoder_f32: Vec<u8>,
    /// The int8 encoder, ONNX.
    pub encoder_int8: Vec<u8>,
    /// The prototypes in f32, \[P, d\].
    pub bank: FloatBank,
    /// The prototypes as the int8 encoder sees them, in int8, \[P, d\].
    pub bank_int8: Int8Bank,
    /// A JPEG of each prototype's training image, in the bank's order; all or none.
    pub thumbnails: Vec<Vec<u8>>,
    /// The validation scores behind the thresholds.
    pub calibration: Calibration,
    /// Markdown for people.
    pub model_card: String,
}

/// `calibration.json`: normal validation images and their scores in both forms, in one order.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    /// Names of the images.
    pub images: Vec<String>,
    /// Their scores by the f32 encoder and bank.
    pub f32: Vec<f32>,
    /// Their scores by the int8 encoder and bank.
    pub int8: Vec<f32>,
}

/// One part of a bundle, for `inspect`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartInfo {
    /// Entry name.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// SHA-256, hex.
    pub sha256: String,
}

/// Why a bundle cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// The file cannot be opened, read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The bundle.
        path: PathBuf,
        /// The operating system's words.
        source: io::Error,
    },
    /// Its bytes are not a bundle's.
    #[error("{}: not a usable bundle: {problem}; copy or export it again", path.display())]
    Corrupt {
        /// The bundle.
        path: PathBuf,
        /// The part and what is wrong with it.
        problem: String,
    },
}

impl Bundle {
    /// Reads and checks a bundle file.
    pub fn read(path: &Path) -> Result<Bundle, BundleError> {
        let bytes = read_file(path)?;
        Bundle::from_bytes(&bytes).map_err(|problem| BundleError::Corrupt { path: path.into(), problem })
    }

    /// Checks a bundle's bytes and takes them apart; the error says which part is wrong and how.
    pub fn from_bytes(bytes: &[u8]) -> Result<Bundle, String> {
        let parts = checked_parts(bytes)?;
        let required = |name: &str| {
            let part = parts.iter().find(|p| p.0 == name);
            part.map(|p| p.1.as_ref()).ok_or_else(|| format!("{name} is missing"))
        };
        let manifest: Manifest = read_json(MANIFEST, required(MANIFEST)?, serde_json::to_vec_pretty)?;
        manifest.check().map_err(|e| format!("{MANIFEST}: {e}"))?;
        let (bank, bank_int8) = read_banks(required(PROTOTYPES)?).map_err(|e| format!("{PROTOTYPES}: {e}"))?;
        let calibration = read_json(CALIBRATION, required(CALIBRATION)?, serde_json::to_vec)?;
        let model_card =
            std::str::from_utf8(required(MODEL_CARD)?).map_err(|_| format!("{MODEL_CARD}: is not UTF-8 text"))?;
        let bundle = Bundle {
            manifest,
            encoder_f32: required(ENCODER_F32)?.to_vec(),
            encoder_int8: required(ENCODER_INT8)?.to_vec(),
            bank,
            bank_int8,
            thumbnails: parts.iter().filter(|p| is_thumbnail(&p.0)).map(|p| p.1.to_vec()).collect(),
            calibration,
            model_card: model_card.to_owned(),
        };
        bundle.check()?;
        Ok(bundle)
    }

    /// Writes the bundle, whole or not at all.
    pub fn write(&self, path: &Path) -> Result<(), BundleError> {
        let bytes = self.to_bytes().map_err(|problem| BundleError::Corrupt { path: path.into(), problem })?;
        atomic::write(path, &bytes).map_err(|source| BundleError::Io { path: path.into(), source })
    }

    /// The bundle's bytes.
    pub fn to_bytes(&self) -> Result<Vec<u8>, String> {
        self.manifest.check()?;
        self.check()?;
        let json = |v: Result<Vec<u8>, serde_json::Error>| v.map_err(|e| e.to_string());
        let mut parts: Vec<Part> = vec![
            (MANIFEST.to_owned(), json(serde_json::to_vec_pretty(&self.manifest))?.into()),
            (ENCODER_F32.to_owned(), self.encoder_f32.as_slice().into()),
            (ENCODER_INT8.to_owned(), self.encoder_int8.as_slice().into()),
            (PROTOTYPES.to_owned(), write_banks(&self.bank, &self.bank_int8)?.into()),
        ];
        parts.extend(self.thumbnails.iter().enumerate().map(|(i, jpeg)| (thumbnail_name(i), jpeg.as_slice().into())));
        parts.push((CALIBRATION.to_owned(), json(serde_json::to_vec(&self.calibration))?.into()));
        parts.push((MODEL_CARD.to_owned(), self.model_card.as_bytes().into()));
        parts.push((SUMS.to_owned(), sums(&parts).into_bytes().into()));
        for (name, content) in &parts {
            check_part_size(name, content.len() as u64)?;
        }
        let bytes = write_tar(&parts, Vec::new()).map_err(|e| e.to_string())?;
        if bytes.len() as u64 > MAX_BUNDLE_BYTES {
            return Err(format!("{} bytes: a bundle has at most {MAX_BUNDLE_BYTES}", bytes.len()));
        }
        Ok(bytes)
    }

    /// The rules between the parts.
    fn check(&self) -> Result<(), String> {
        let (p, d) = (self.manifest.bank.prototypes as usize, self.manifest.encoder.embedding_dim as usize);
        let float = self.bank.rows();
        if float.dim() != (p, d) || self.bank_int8.rows().dim() != (p, d) || self.bank_int8.scales().len() != p {
            return Err(format!("{PROTOTYPES}: its tensors are not the {p} prototypes of length {d} of {MANIFEST}"));
        }
        let int8 = &self.bank_int8;
        let finite = float.iter().chain(int8.mean()).chain(int8.scales()).all(|v| v.is_finite());
        if !finite || int8.scales().iter().any(|s| *s <= 0.0) {
            return Err(format!("{PROTOTYPES}: holds values that are not finite, or scales that are not positive"));
        }
        if !self.thumbnails.is_empty() && self.thumbnails.len() != p {
            return Err(format!("{} thumbnails for {p} prototypes", self.thumbnails.len()));
        }
        let c = &self.calibration;
        if c.f32.len() != c.images.len() || c.int8.len() != c.images.len() {
            return Err(format!("{CALIBRATION}: its lists differ in length"));
        }
        Ok(())
    }
}

/// The parts of a bundle with their sizes and hashes, after the same checks as [`Bundle::read`] makes.
pub fn parts(path: &Path) -> Result<Vec<PartInfo>, BundleError> {
    let bytes = read_file(path)?;
    let parts = checked_parts(&bytes).map_err(|problem| BundleError::Corrupt { path: path.into(), problem })?;
    Ok(parts
        .into_iter()
        .map(|(name, content)| PartInfo { name, size: content.len() as u64, sha256: sha256_hex(&content) })
        .collect())
}

/// SHA-256 of `bytes`, as 64 lower-case hex digits.
pub fn sha256_hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

/// Name and content.
type Part<'a> = (String, Cow<'a, [u8]>);

/// Said of a part that says what it should in another way: JSON and tensor headers leave some freedom (white space, order,
/// digits), the format leaves none.
const NOT_OURS: &str = "is not written as Salad writes it";

fn read_file(path: &Path) -> Result<Vec<u8>, BundleError> {
    let io = |source| BundleError::Io { path: path.into(), source };
    let file = std::fs::File::open(path).map_err(io)?;
    let mut bytes = Vec::new();
    file.take(MAX_BUNDLE_BYTES + 1).read_to_end(&mut bytes).map_err(io)?;
    if bytes.len() as u64 > MAX_BUNDLE_BYTES {
        let problem = format!("larger than {MAX_BUNDLE_BYTES} bytes");
        return Err(BundleError::Corrupt { path: path.into(), problem });
    }
    Ok(bytes)
}

/// Takes a tar apart and refuses anything the writer would not have written.
fn checked_parts(bytes: &[u8]) -> Result<Vec<Part<'_>>, String> {
    let mut parts: Vec<Part> = Vec::new();
    let mut archive = tar::Archive::new(bytes);
    let entries = archive.entries().map_err(|_| NOT_A_TAR)?.raw(true);
    for entry in entries {
        let entry = entry.map_err(|_| NOT_A_TAR)?;
        let name = entry.path().ok().and_then(|p| p.to_str().map(str::to_owned));
        let name = name.ok_or("its tar: an entry's name is not text")?;
        if entry.header().entry_type() != tar::EntryType::Regular {
            return Err(format!("{name}: is not a regular file"));
        }
        if !follows(parts.last().map(|p| p.0.as_str()), &name) {
            return Err(format!("{name}: does not belong there"));
        }
        check_part_size(&name, entry.size())?;
        // What is read through the entry would be a copy.
        let start = entry.raw_file_position();
        let content = bytes.get(start as usize..).and_then(|rest| rest.get(..entry.size() as usize));
        let content = content.ok_or_else(|| format!("{name}: is cut short"))?;
        parts.push((name, content.into()));
    }
    let Some((last, listed)) = parts.pop().filter(|p| p.0 == SUMS) else {
        return Err("it is cut short: SHA256SUMS is not there".to_owned());
    };
    let expected = sums(&parts);
    if listed.as_ref() != expected.as_bytes() {
        let listed: BTreeMap<_, _> = std::str::from_utf8(&listed)
            .unwrap_or("")
            .lines()
            .filter_map(|l| l.split_once("  "))
            .map(|(h, n)| (n, h))
            .collect();
        let wrong = expected.lines().filter_map(|l| l.split_once("  ")).find(|(h, n)| listed.get(n) != Some(h));
        let wrong = wrong.map_or(SUMS, |(_, name)| name);
        return Err(format!("{wrong}: its content does not match its hash in {SUMS}"));
    }
    parts.push((last, listed));
    let written = write_tar(&parts, Compared { to: bytes, same: true }).map_err(|e| e.to_string())?;
    if !written.same || !written.to.is_empty() {
        return Err("its tar headers or padding are damaged".to_owned());
    }
    Ok(parts)
}

/// Whether entry `name` may stand after entry `previous`.
fn follows(previous: Option<&str>, name: &str) -> bool {
    match (previous, name) {
        (None, MANIFEST)
        | (Some(MANIFEST), ENCODER_F32)
        | (Some(ENCODER_F32), ENCODER_INT8)
        | (Some(ENCODER_INT8), PROTOTYPES)
        | (Some(PROTOTYPES), CALIBRATION)
        | (Some(CALIBRATION), MODEL_CARD)
        | (Some(MODEL_CARD), SUMS) => true,
        (Some(PROTOTYPES), name) => name == thumbnail_name(0),
        (Some(previous), name) if is_thumbnail(previous) => {
            let number = previous["thumbnails/".len()..].trim_end_matches(".jpg").parse::<usize>();
            name == CALIBRATION || number.is_ok_and(|n| name == thumbnail_name(n + 1))
        }
        _ => false,
    }
}

fn thumbnail_name(index: usize) -> String {
    format!("thumbnails/{index:06}.jpg")
}

fn is_thumbnail(name: &str) -> bool {
    name.starts_with("thumbnails/")
}

fn check_part_size(name: &str, size: u64) -> Result<(), String> {
    let most = match name {
        MANIFEST | MODEL_CARD => 1 << 20,
        ENCODER_F32 | ENCODER_INT8 => 512 << 20,
        PROTOTYPES => 1 << 30,
        CALIBRATION => 64 << 20,
        SUMS => 16 << 20,
        _ => 256 << 10,
    };
    if size > most { Err(format!("{name}: {size} bytes, and at most {most} are allowed")) } else { Ok(()) }
}

fn sums(parts: &[Part]) -> String {
    parts.iter().map(|(name, content)| format!("{}  {name}\n", sha256_hex(content))).collect()
}

/// A writer that holds what is written against what is there already.
struct Compared<'a> {
    /// What has still to come.
    to: &'a [u8],
    same: bool,
}

impl Write for Compared<'_> {
    fn write(&mut self, written: &[u8]) -> io::Result<usize> {
        match self.to.split_at_checked(written.len()) {
            Some((next, rest)) if next == written => self.to = rest,
            _ => self.same = false,
        }
        Ok(written.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn write_tar<W: Write>(parts: &[Part], out: W) -> io::Result<W> {
    let mut builder = tar::Builder::new(out);
    for (name, content) in parts {
        let mut header = tar::Header::new_ustar();
        header.set_path(name)?;
        header.set_entry_type(tar::EntryType::Regular);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(content.len() as u64);
        header.set_cksum();
        builder.append(&header, content.as_ref())?;
    }
    builder.into_inner()
}

fn write_banks(bank: &FloatBank, int8: &Int8Bank) -> Result<Vec<u8>, String> {
    let floats = |v: &mut dyn Iterator<Item = &f32>| v.flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
    let (p, d) = bank.rows().dim();
    let rows = floats(&mut bank.rows().iter());
    let scales = floats(&mut int8.scales().iter());
    let mean = floats(&mut int8.mean().iter());
    let bytes = |rows: &Array2<i8>| rows.iter().map(|v| v.to_le_bytes()[0]).collect::<Vec<u8>>();
    let (quantized, rest) = (bytes(int8.rows()), bytes(int8.rest()));
    let view = |dtype, shape: Vec<usize>, data| TensorView::new(dtype, shape, data).map_err(|e| e.to_string());
    let tensors = BTreeMap::from([
        ("prototypes", view(Dtype::F32, vec![p, d], &rows)?),
        ("prototypes.int8", view(Dtype::I8, vec![p, d], &quantized)?),
        ("prototypes.mean", view(Dtype::F32, vec![d], &mean)?),
        ("prototypes.rest", view(Dtype::I8, vec![p, d], &rest)?),
        ("prototypes.scale", view(Dtype::F32, vec![p], &scales)?),
    ]);
    safetensors::serialize(tensors, None).map_err(|e| e.to_string())
}

/// Reads a part that `write` writes.
fn read_json<T: Serialize + DeserializeOwned>(
    name: &str,
    bytes: &[u8],
    write: impl Fn(&T) -> serde_json::Result<Vec<u8>>,
) -> Result<T, String> {
    let value: T = serde_json::from_slice(bytes).map_err(|e| format!("{name}: {e}"))?;
    if write(&value).is_ok_and(|again| again == bytes) { Ok(value) } else { Err(format!("{name}: {NOT_OURS}")) }
}

fn read_banks(bytes: &[u8]) -> Result<(FloatBank, Int8Bank), String> {
    let tensors = SafeTensors::deserialize(bytes).map_err(|e| e.to_string())?;
    if tensors.len() != 5 {
        return Err(format!("{} tensors where there should be 5", tensors.len()));
    }
    if !safetensors::serialize(tensors.tensors(), None).is_ok_and(|again| again == bytes) {
        return Err(NOT_OURS.to_owned());
    }
    let tensor = |name: &str, dtype, dims: usize| {
        let t = tensors.tensor(name).map_err(|e| format!("{name}: {e}"))?;
        if t.dtype() != dtype || t.shape().len() != dims {
            return Err(format!("{name}: is {:?} {:?}", t.dtype(), t.shape()));
        }
        Ok(t)
    };
    let floats = |t: &TensorView| -> Vec<f32> {
        t.data().chunks_exact(4).map(|c| f32::from_le_bytes([c[0], c[1], c[2], c[3]])).collect()
    };
    let rows = tensor("prototypes", Dtype::F32, 2)?;
    let quantized = tensor("prototypes.int8", Dtype::I8, 2)?;
    let scales = floats(&tensor("prototypes.scale", Dtype::F32, 1)?);
    let mean = floats(&tensor("prototypes.mean", Dtype::F32, 1)?);
    let shape = |t: &TensorView| (t.shape()[0], t.shape()[1]);
    let bank = Array2::from_shape_vec(shape(&rows), floats(&rows)).map_err(|e| e.to_string())?;
    let signed = |t: &TensorView| {
        let values = t.data().iter().map(|&b| b as i8).collect();
        Array2::from_shape_vec(shape(t), values).map_err(|e| e.to_string())
    };
    let (int8, rest) = (signed(&quantized)?, signed(&tensor("prototypes.rest", Dtype::I8, 2)?)?);
    if rest.dim() != int8.dim() {
        return Err("prototypes.rest: its shape has to be that of prototypes.int8".to_owned());
    }
    if int8.nrows() != scales.len() {
        return Err("prototypes.scale: there has to be one scale a row".to_owned());
    }
    if int8.ncols() != mean.len() {
        return Err("prototypes.mean: its length has to be that of a row".to_owned());
    }
    Ok((FloatBank::new(bank), Int8Bank::new(int8, rest, scales, mean)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::*;
    use crate::preprocess::InputSpec;
    use crate::score::{ScoreKind, ScoreSpec};
    use crate::threshold::{FalseAlarmBudget, Threshold, ThresholdMethod};

    fn sample() -> Bundle {
        let bank = FloatBank::new(Array2::from_shape_fn((3, 4), |(i, j)| if i == j { 1.0 } else { 0.0 }));
        let threshold = Threshold {
            value: 0.25,
            interval_90: [0.2, 0.3],
            method: ThresholdMethod::EmpiricalQuantile,
            budget: FalseAlarmBudget { alarms: 1.0, period_secs: 604_800.0, fps: 5.0 },
            target_rate: 1.0 / 3_024_000.0,
            samples: 2,
            note: String::new(),
        };
        Bundle {
            manifest: Manifest {
                format: FORMAT_NAME.into(),
                version: FORMAT_VERSION,
                name: "sample".into(),
                input: InputSpec { width: 16, height: 16, channels: 3 },
                encoder: EncoderInfo {
                    network: "edge".into(),
                    embedding_dim: 4,
                    parameters: 10,
                    flop: 20,
                    calibration: "min-max".into(),
                    weight_scales: "per-tensor".into(),
                },
                bank: BankInfo { prototypes: 3, images: 9, method: "k-centre".into() },
                score: ScoreSpec { kind: ScoreKind::AngularMean, k: 2, tau: 0.1 },
                patches: None,
                heat: None,
                thresholds: Forms { f32: threshold.clone(), int8: threshold },
                agreement: Agreement {
                    images: 2,
                    embedding_cosine_mean: 0.999,
                    embedding_cosine_min: 0.99,
                    score_correlation: Some(0.999),
                    rank_correlation: None,
                    test_auroc: None,
                },
                provenance: Provenance {
                    writer: "test".into(),
                    created: "2026-01-01T00:00:00Z".into(),
                    seed: 1,
                    dataset_sha256: "00".repeat(32),
                    config: String::new(),
                    notes: BTreeMap::new(),
                },
            },
            encoder_f32: vec![1, 2, 3],
            encoder_int8: vec![4; 700],
            bank_int8: bank.quantize(),
            bank,
            thumbnails: vec![vec![7; 100]; 3],
            calibration: Calibration { images: vec!["a".into()], f32: vec![0.1], int8: vec![0.12] },
            model_card: "# sample\n".into(),
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.salad");
        let bundle = sample();
        bundle.write(&path).unwrap();
        assert_eq!(Bundle::read(&path).unwrap(), bundle);
        let parts = parts(&path).unwrap();
        assert_eq!(parts.len(), 4 + 3 + 3);
        assert_eq!(parts.last().unwrap().name, SUMS);
    }

    #[test]
    fn every_flipped_byte_and_every_truncation_is_refused() {
        let bytes = sample().to_bytes().unwrap();
        for i in 0..bytes.len() {
            let mut broken = bytes.clone();
            broken[i] ^= 1 << (i % 8);
            assert!(Bundle::from_bytes(&broken).is_err(), "byte {i}");
        }
        for i in 0..bytes.len() {
            assert!(Bundle::from_bytes(&bytes[..i]).is_err(), "cut at {i}");
        }
        let longer = [bytes.as_slice(), &[0; 512]].concat();
        assert!(Bundle::from_bytes(&longer).is_err());
    }

    #[test]
    fn another_way_to_write_the_same_content_is_refused() {
        let bytes = sample().to_bytes().unwrap();
        let with = |name: &str, change: &dyn Fn(&mut Vec<u8>)| {
            let mut parts = checked_parts(&bytes).unwrap();
            parts.pop();
            change(parts.iter_mut().find(|p| p.0 == name).unwrap().1.to_mut());
            parts.push((SUMS.to_owned(), sums(&parts).into_bytes().into()));
            Bundle::from_bytes(&write_tar(&parts, Vec::new()).unwrap())
        };
        assert_eq!(with(MANIFEST, &|_| ()), Ok(sample()));
        assert_eq!(with(MODEL_CARD, &|card| card.extend(b"more")).unwrap().model_card, "# sample\nmore");
        for name in [MANIFEST, CALIBRATION] {
            let error = with(name, &|json| json.push(b'\n')).unwrap_err();
            assert_eq!(error, format!("{name}: is not written as Salad writes it"));
        }
        let longer_header = with(PROTOTYPES, &|tensors| {
            let length = u64::from_le_bytes(tensors[..8].try_into().unwrap());
            tensors[..8].copy_from_slice(&(length + 8).to_le_bytes());
            let end = 8 + length as usize;
            tensors.splice(end..end, [b' '; 8]);
        });
        assert_eq!(longer_header.unwrap_err(), format!("{PROTOTYPES}: is not written as Salad writes it"));
    }

    #[test]
    fn parts_that_contradict_the_manifest_are_refused() {
        let mut bundle = sample();
        bundle.thumbnails.pop();
        assert!(bundle.to_bytes().unwrap_err().contains("thumbnails"));
        let mut bundle = sample();
        bundle.manifest.encoder.embedding_dim = 5;
        assert!(bundle.to_bytes().unwrap_err().contains("prototypes"));
        let mut bundle = sample();
        bundle.calibration.int8.clear();
        assert!(bundle.to_bytes().unwrap_err().contains("calibration.json"));
        let mut bundle = sample();
        bundle.manifest.version = 2;
        assert!(bundle.to_bytes().unwrap_err().contains("version"));
    }
}
