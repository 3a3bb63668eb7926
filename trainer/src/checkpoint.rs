//! Checkpoints: weights, bank, optimiser, round and epoch, so that a run resumed equals a run not stopped.
//!
//! `checkpoint.json` is the commit: it names the tensor file it belongs to and that file's hash, and is renamed into place
//! after it. Whatever moment the power fails at, one whole checkpoint is there.

use crate::history::History;
use crate::monitor::Written;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use salad_shared::atomic;
use salad_shared::bundle::sha256_hex;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use tch::{Kind, Tensor};

/// Named tensors.
pub type Named = Vec<(String, Tensor)>;

/// A checkpoint that was read: its state, and its tensors by name.
pub type Saved = (State, HashMap<String, Tensor>);

/// `checkpoint.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// Version of this form, 1.
    pub version: u32,
    /// The run's configuration, as TOML.
    pub config: String,
    /// SHA-256 over the names and sizes of the training and validation images.
    pub dataset_sha256: String,
    /// Epochs done.
    pub epochs_done: u32,
    /// Round of the last epoch; its neighbourhoods are among the tensors.
    pub round: u32,
    /// Steps the optimiser has taken.
    pub optimiser_steps: i32,
    /// Everything that was measured so far.
    pub history: History,
    /// How long the files that grow while a run trains were.
    #[serde(default)]
    pub written: Written,
    /// The file with the tensors, beside this one.
    pub tensors: String,
    /// Its SHA-256, hex.
    pub tensors_sha256: String,
}

/// Why a checkpoint cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// A file cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The operating system's words.
        source: std::io::Error,
    },
    /// A file is damaged.
    #[error("{}: {problem}; train again, or take another run's folder", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
}

const STATE_FILE: &str = "checkpoint.json";

/// Writes a checkpoint into `folder`; `state`'s file name and hash are filled in. The checkpoint before it is deleted once
/// this one is whole.
pub fn save(folder: &Path, mut state: State, tensors: &Named) -> Result<(), CheckpointError> {
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| CheckpointError::Io { path, source }
    };
    let name = format!("checkpoint-{:06}.safetensors", state.epochs_done);
    let path = folder.join(&name);
    state.tensors_sha256 = sha256_hex(&write_tensors(&path, tensors)?);
    state.tensors = name.clone();
    save_state(folder, &state)?;
    for entry in std::fs::read_dir(folder).map_err(io(folder))?.flatten() {
        let other = entry.file_name().to_string_lossy().into_owned();
        if other.starts_with("checkpoint-")
            && other.ends_with(".safetensors")
            && other != name
            && let Err(e) = std::fs::remove_file(entry.path())
        {
            log::warn!("{}: the old checkpoint stays: {e}", entry.path().display());
        }
    }
    Ok(())
}

/// Writes the state of a checkpoint whose tensors are there.
pub fn save_state(folder: &Path, state: &State) -> Result<(), CheckpointError> {
    let path = folder.join(STATE_FILE);
    let json = serde_json::to_vec_pretty(state)
        .map_err(|e| CheckpointError::Damaged { path: path.clone(), problem: e.to_string() })?;
    atomic::write(&path, &json).map_err(|source| CheckpointError::Io { path, source })
}

/// Writes named tensors, f32 or int64, as a safetensors file, and gives its bytes.
pub fn write_tensors(path: &Path, tensors: &Named) -> Result<Vec<u8>, CheckpointError> {
    let bytes =
        to_safetensors(tensors).map_err(|problem| CheckpointError::Damaged { path: path.to_owned(), problem })?;
    atomic::write(path, &bytes).map_err(|source| CheckpointError::Io { path: path.to_owned(), source })?;
    Ok(bytes)
}

/// Whether `folder` has a checkpoint.
pub fn is_in(folder: &Path) -> bool {
    folder.join(STATE_FILE).exists()
}

/// Reads the checkpoint of `folder`; `None` where there is none.
pub fn load(folder: &Path) -> Result<Option<Saved>, CheckpointError> {
    let path = folder.join(STATE_FILE);
    let json = match std::fs::read(&path) {
        Ok(json) => json,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(CheckpointError::Io { path, source }),
    };
    let damaged = |path: &Path, problem: String| CheckpointError::Damaged { path: path.to_owned(), problem };
    let state: State = serde_json::from_slice(&json).map_err(|e| damaged(&path, e.to_string()))?;
    if state.version != 1 {
        return Err(damaged(&path, format!("version {} is not known to this program", state.version)));
    }
    if state.tensors.contains('/') {
        return Err(damaged(&path, format!("tensors = {:?} is not a file beside it", state.tensors)));
    }
    let path = folder.join(&state.tensors);
    let bytes = std::fs::read(&path).map_err(|source| CheckpointError::Io { path: path.clone(), source })?;
    if sha256_hex(&bytes) != state.tensors_sha256 {
        return Err(damaged(&path, format!("does not match its hash in {STATE_FILE}")));
    }
    let tensors = from_safetensors(&bytes).map_err(|e| damaged(&path, e))?;
    Ok(Some((state, tensors)))
}

/// Tensors as the bytes of a safetensors file; f32 and i64 only.
pub(crate) fn to_safetensors(tensors: &Named) -> Result<Vec<u8>, String> {
    let mut data = Vec::with_capacity(tensors.len());
    for (name, tensor) in tensors {
        let tensor = tensor.detach().to_device(tch::Device::Cpu).contiguous();
        let (dtype, width) = match tensor.kind() {
            Kind::Float => (Dtype::F32, 4),
            Kind::Int64 => (Dtype::I64, 8),
            other => return Err(format!("{name}: {other:?} is not kept in checkpoints")),
        };
        let mut bytes = vec![0; tensor.numel() * width];
        tensor.f_copy_data_u8(&mut bytes, tensor.numel()).map_err(|e| format!("{name}: {e}"))?;
        let shape: Vec<usize> = tensor.size().iter().map(|&s| s as usize).collect();
        data.push((name.as_str(), dtype, shape, bytes));
    }
    let views: Result<Vec<_>, String> = data
        .iter()
        .map(|(name, dtype, shape, bytes)| {
            let view = TensorView::new(*dtype, shape.clone(), bytes).map_err(|e| format!("{name}: {e}"))?;
            Ok((*name, view))
        })
        .collect();
    safetensors::serialize(views?, None).map_err(|e| e.to_string())
}

/// A safetensors file's tensors by name.
pub(crate) fn from_safetensors(bytes: &[u8]) -> Result<HashMap<String, Tensor>, String> {
    let file = SafeTensors::deserialize(bytes).map_err(|e| e.to_string())?;
    file.iter()
        .map(|(name, view)| {
            let kind = match view.dtype() {
                Dtype::F32 => Kind::Float,
                Dtype::I64 => Kind::Int64,
                other => return Err(format!("{name}: {other:?} is not kept in checkpoints")),
            };
            let shape: Vec<i64> = view.shape().iter().map(|&s| s as i64).collect();
            let tensor = Tensor::f_from_data_size(view.data(), &shape, kind).map_err(|e| format!("{name}: {e}"))?;
            Ok((name.to_owned(), tensor))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(epochs_done: u32) -> State {
        State {
            version: 1,
            config: "seed = 1".into(),
            dataset_sha256: "00".into(),
            epochs_done,
            round: 0,
            optimiser_steps: 7,
            history: History { first_losses: vec![0.1, 1.0 / 3.0], ..Default::default() },
            written: Written::default(),
            tensors: String::new(),
            tensors_sha256: String::new(),
        }
    }

    #[test]
    fn what_is_saved_is_loaded_and_only_the_last_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        assert!(load(dir.path()).unwrap().is_none());
        let tensors =
            vec![("a".to_owned(), Tensor::from_slice(&[1.5f32, -2.0])), ("b".to_owned(), Tensor::from_slice(&[3i64]))];
        save(dir.path(), state(1), &tensors).unwrap();
        save(dir.path(), state(2), &tensors).unwrap();
        let (read, found) = load(dir.path()).unwrap().unwrap();
        assert_eq!((read.epochs_done, read.history), (2, state(2).history));
        assert_eq!(found["a"], tensors[0].1);
        assert_eq!(found["b"], tensors[1].1);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn damage_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        save(dir.path(), state(1), &vec![("a".to_owned(), Tensor::from_slice(&[1.5f32]))]).unwrap();
        let file = dir.path().join("checkpoint-000001.safetensors");
        let mut bytes = std::fs::read(&file).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(&file, bytes).unwrap();
        assert!(load(dir.path()).unwrap_err().to_string().contains("hash"));
        std::fs::write(dir.path().join("checkpoint.json"), "{").unwrap();
        assert!(load(dir.path()).unwrap_err().to_string().contains("checkpoint.json"));
    }
}
