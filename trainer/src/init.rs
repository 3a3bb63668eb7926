//! Begins the encoder of a `resnet18` with weights trained elsewhere: a safetensors file whose tensors are named as
//! torchvision names them (`conv1.weight`, `bn1.running_mean`, `layer1.0.conv1.weight`, `layer2.0.downsample.0.weight`).
//!
//! Such weights expect ImageNet's statistics, (v - mean) / std by channel with v in 0..1, and Salad's input is 2 v - 1
//! everywhere. Both are affine in v, so the difference is folded into the first convolution and the batch norm after it:
//! exactly, but for the padding at the border. Zeros there stand for ImageNet's mean colour in torchvision and for
//! mid-grey here, at most a tenth of the range away from it; a padding of another value would cost the device a pass over
//! every frame, and training takes the rest.

use crate::model::Model;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use salad_shared::bundle::sha256_hex;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use tch::{Kind, TchError, Tensor, no_grad};

/// Where a run's first weights come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InitialWeights {
    /// The file's name, without its folder.
    pub file: String,
    /// Its SHA-256, hex.
    pub sha256: String,
}

/// Why a file's weights cannot be taken.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// The file cannot be read.
    #[error("network.init: {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The operating system's words.
        source: std::io::Error,
    },
    /// It is no safetensors file, or not all of one.
    #[error(
        "network.init: {}: is not a whole safetensors file ({problem}): load the weights in Python and write them with \
         safetensors.torch.save_file",
        path.display()
    )]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// Its tensors are not those of the network.
    #[error(
        "network.init: {}: does not hold this network's encoder: {problem}; its tensors have to be named as torchvision's \
         resnet18 names them, and network.widths and network.stem to be those of the weights (torchvision's are 64, 128, \
         256, 512 and \"imagenet\")",
        path.display()
    )]
    Tensors {
        /// The file.
        path: PathBuf,
        /// What is missing, of another shape, unknown or not a number.
        problem: String,
    },
    /// libtorch's own words.
    #[error("network.init: libtorch: {0}")]
    Torch(#[from] TchError),
}

/// ImageNet's mean and standard deviation of red, green and blue, 0 to 1, as torchvision's weights expect them.
const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
const STD: [f32; 3] = [0.229, 0.224, 0.225];

/// What an error lists of each fault at most.
const NAMED: usize = 10;

/// Sets the encoder of `model`, a `resnet18`, from the file, all but the layer to the embedding, which stays as it was
/// drawn. `fc.*` and `num_batches_tracked` are ignored. Any float type is taken. The file's first convolution has three
/// input channels; for a grey input they are summed, which is the same for grey pictures.
pub fn load(model: &Model, path: &Path) -> Result<InitialWeights, InitError> {
    let bytes = std::fs::read(path).map_err(|source| InitError::Io { path: path.into(), source })?;
    let file = SafeTensors::deserialize(&bytes)
        .map_err(|e| InitError::Format { path: path.into(), problem: e.to_string() })?;
    let variables = encoder(model);
    let mut values =
        matching(&variables, &file).map_err(|problem| InitError::Tensors { path: path.into(), problem })?;
    adapt(&variables, &mut values, i64::from(model.input.channels));
    for ((name, variable), value) in variables.iter().zip(&values) {
        if !bool::try_from(value.f_isfinite()?.f_all()?)? {
            let problem = format!("{name} has values that are infinite or not a number");
            return Err(InitError::Tensors { path: path.into(), problem });
        }
        no_grad(|| variable.shallow_clone().f_copy_(value))?;
    }
    let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    log::info!("{}: {} tensors taken over", path.display(), values.len());
    Ok(InitialWeights { file, sha256: sha256_hex(&bytes) })
}

/// The encoder's variables by torchvision's names, but for those of the layer to the embedding.
fn encoder(model: &Model) -> Vec<(String, Tensor)> {
    let named = model.variables().into_iter().filter_map(|(name, variable)| {
        let name = name.strip_prefix("encoder.").filter(|n| !n.starts_with("embed."))?;
        Some((name.to_owned(), variable))
    });
    named.collect()
}

/// The file's value for each variable, as f32; or all that is wrong with the file.
fn matching(variables: &[(String, Tensor)], file: &SafeTensors) -> Result<Vec<Tensor>, String> {
    let (mut values, mut missing, mut other, mut unknown) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (name, variable) in variables {
        let Ok(view) = file.tensor(name) else {
            missing.push(name.clone());
            continue;
        };
        let mut wanted = variable.size();
        if name == FIRST {
            wanted[1] = 3;
        }
        let found: Vec<i64> = view.shape().iter().map(|&s| s as i64).collect();
        if found != wanted {
            other.push(format!("{name} is {found:?}, {wanted:?} wanted"));
            continue;
        }
        match read(&view, &found) {
            Ok(value) => values.push(value),
            Err(problem) => other.push(format!("{name}: {problem}")),
        }
    }
    for name in file.names() {
        let ignored = name.starts_with("fc.") || name.ends_with(".num_batches_tracked");
        if !ignored && !variables.iter().any(|(n, _)| n == name) {
            unknown.push(name.to_owned());
        }
    }
    unknown.sort();
    let faults = [("missing", missing), ("of another shape or type", other), ("unknown", unknown)];
    let faults: Vec<String> = faults.iter().filter(|(_, f)| !f.is_empty()).map(|(what, f)| listed(what, f)).collect();
    if faults.is_empty() { Ok(values) } else { Err(faults.join("; ")) }
}

fn listed(what: &str, names: &[String]) -> String {
    let shown = names.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(NAMED) {
        0 => format!("{what}: {shown}"),
        more => format!("{what}: {shown} and {more} more"),
    }
}

fn read(view: &TensorView, shape: &[i64]) -> Result<Tensor, String> {
    let kind = match view.dtype() {
        Dtype::F16 => Kind::Half,
        Dtype::BF16 => Kind::BFloat16,
        Dtype::F32 => Kind::Float,
        Dtype::F64 => Kind::Double,
        other => return Err(format!("{other:?} is not a float type")),
    };
    let tensor = Tensor::f_from_data_size(view.data(), shape, kind).map_err(|e| e.to_string())?;
    tensor.f_to_kind(Kind::Float).map_err(|e| e.to_string())
}

/// The first convolution, and the mean of the batch norm after it.
const FIRST: &str = "conv1.weight";
const FIRST_MEAN: &str = "bn1.running_mean";

/// Makes values for an input of (v - MEAN) / STD into values for 2 v - 1. With x = 2 v - 1 the former is
/// x / (2 STD) + (0.5 - MEAN) / STD: the factor goes into the weights, and what the second term adds to each output
/// channel is taken off its mean.
fn adapt(variables: &[(String, Tensor)], values: &mut [Tensor], channels: i64) {
    let by_channel = |f: fn((f32, f32)) -> f32| {
        let numbers: Vec<f32> = MEAN.into_iter().zip(STD).map(f).collect();
        Tensor::from_slice(&numbers).view([1, 3, 1, 1])
    };
    let factor = by_channel(|(_, std)| 0.5 / std);
    let shift = by_channel(|(mean, std)| (0.5 - mean) / std);
    let at = |wanted: &str| variables.iter().position(|(name, _)| name == wanted);
    let (Some(first), Some(mean)) = (at(FIRST), at(FIRST_MEAN)) else { return };
    let added = (&values[first] * shift).sum_dim_intlist([1i64, 2, 3].as_slice(), false, Kind::Float);
    values[mean] = &values[mean] - added;
    values[first] = &values[first] * factor;
    if channels == 1 {
        values[first] = values[first].sum_dim_intlist([1i64].as_slice(), true, Kind::Float);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::{Named, to_safetensors};
    use crate::network::{NetworkConfig, NetworkKind, StemChoice, to_floats};
    use salad_shared::preprocess::InputSpec;
    use tch::Device;

    fn model(channels: u32, seed: u64) -> Model {
        let config = NetworkConfig {
            kind: NetworkKind::Resnet18,
            widths: vec![4, 6, 8, 10],
            embedding_dim: 12,
            stem: StemChoice::Imagenet,
            ..Default::default()
        };
        Model::new(&config, &InputSpec { width: 32, height: 32, channels }, seed, Device::Cpu)
    }

    /// Weights as torchvision has them, with what a file holds besides.
    fn weights(seed: u64) -> Named {
        let mut named = encoder(&model(3, seed));
        for (name, tensor) in &mut named {
            if name.contains("running") {
                *tensor = tensor.rand_like() + 0.5;
            }
        }
        named.push(("bn1.num_batches_tracked".into(), Tensor::from_slice(&[7i64])));
        named.push(("fc.weight".into(), Tensor::zeros([5, 10], (Kind::Float, Device::Cpu))));
        named
    }

    fn load_into(model: &Model, named: &Named) -> Result<InitialWeights, InitError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("w.safetensors");
        std::fs::write(&path, to_safetensors(named).unwrap()).unwrap();
        load(model, &path)
    }

    fn find<'a>(named: &'a Named, wanted: &str) -> &'a Tensor {
        named.iter().find(|(name, _)| name == wanted).map(|(_, t)| t).unwrap()
    }

    fn refused(change: impl Fn(&mut Named)) -> String {
        let mut named = weights(1);
        change(&mut named);
        let error = load_into(&model(3, 2), &named).unwrap_err().to_string();
        assert!(error.contains("w.safetensors") && error.contains("network.stem"), "{error}");
        error
    }

    #[test]
    fn what_the_file_holds_is_taken_and_the_embedding_stays() {
        let (named, model) = (weights(1), model(3, 2));
        let embed = |model: &Model| to_floats(find(&model.variables(), "encoder.embed.conv.weight")).unwrap();
        let drawn = embed(&model);
        let from = load_into(&model, &named).unwrap();
        assert_eq!((from.file.as_str(), from.sha256.len()), ("w.safetensors", 64));
        let taken = encoder(&model);
        // Two convolutions in eight blocks, three on shortcuts, one in the stem, each with its batch norm.
        assert_eq!(taken.len(), 5 * 20);
        for name in ["layer1.1.bn2.bias", "layer2.0.downsample.0.weight", "layer4.0.downsample.1.running_var"] {
            find(&taken, name);
        }
        for (name, variable) in taken.iter().filter(|(n, _)| n != FIRST && n != FIRST_MEAN) {
            assert_eq!(variable, find(&named, name), "{name}");
        }
        assert_eq!(embed(&model), drawn);
    }

    #[test]
    fn every_float_type_is_taken() {
        let one = |dtype, bytes: &[u8]| read(&TensorView::new(dtype, vec![1], bytes).unwrap(), &[1]);
        for (dtype, bytes) in [
            (Dtype::F16, &0x3c00_u16.to_le_bytes()[..]),
            (Dtype::BF16, &0x3f80_u16.to_le_bytes()),
            (Dtype::F32, &1_f32.to_le_bytes()),
            (Dtype::F64, &1_f64.to_le_bytes()),
        ] {
            assert_eq!(to_floats(&one(dtype, bytes).unwrap()).unwrap(), [1.0], "{dtype:?}");
        }
        assert!(one(Dtype::I32, &[1, 0, 0, 0]).unwrap_err().contains("I32"));
    }

    #[test]
    fn the_first_layer_sees_what_imagenets_statistics_would_have_shown_it() {
        let named = weights(1);
        let v = Tensor::rand([2, 3, 20, 20], (Kind::Float, Device::Cpu));
        let channels = |numbers: [f32; 3]| Tensor::from_slice(&numbers).view([1, 3, 1, 1]);
        // No padding: what lies inside the picture is the same.
        let before_norm = |x: &Tensor, named: &Named| {
            let y = x.conv2d(find(named, FIRST), None::<Tensor>, [2, 2], [0, 0], [1, 1], 1);
            y - find(named, FIRST_MEAN).view([1, -1, 1, 1])
        };
        let expected = before_norm(&((&v - channels(MEAN)) / channels(STD)), &named);
        let colour = model(3, 2);
        load_into(&colour, &named).unwrap();
        let found = before_norm(&(&v * 2.0 - 1.0), &encoder(&colour));
        assert!((&found - &expected).abs().max().double_value(&[]) < 1e-4);

        let grey = model(1, 2);
        load_into(&grey, &named).unwrap();
        let v = v.narrow(1, 0, 1);
        let found = before_norm(&(&v * 2.0 - 1.0), &encoder(&grey));
        let expected = before_norm(&((v - channels(MEAN)) / channels(STD)), &named);
        assert!((&found - &expected).abs().max().double_value(&[]) < 1e-4);
    }

    #[test]
    fn everything_that_is_wrong_is_listed_at_once() {
        let error = refused(|named| {
            named.retain(|(name, _)| name != "layer2.0.downsample.0.weight" && name != "bn1.bias");
            named.push(("layer1.2.conv1.weight".into(), Tensor::zeros([4, 4, 3, 3], (Kind::Float, Device::Cpu))));
            for (name, tensor) in named {
                if name == "conv1.weight" {
                    *tensor = Tensor::zeros([4, 3, 3, 3], (Kind::Float, Device::Cpu));
                }
            }
        });
        for part in [
            "missing: bn1.bias, layer2.0.downsample.0.weight;",
            "conv1.weight is [4, 3, 3, 3], [4, 3, 7, 7] wanted;",
            "unknown: layer1.2.conv1.weight;",
        ] {
            assert!(error.contains(part), "{part}: {error}");
        }
        let error = refused(|named| named.iter_mut().for_each(|(name, _)| name.insert_str(0, "module.")));
        assert!(error.contains("missing: bn1.bias") && error.contains("and 90 more"), "{error}");
        let error = refused(|named| {
            for (name, tensor) in named {
                if name == "bn1.weight" {
                    *tensor = &*tensor * f64::NAN;
                }
            }
        });
        assert!(error.contains("bn1.weight has values"), "{error}");
    }

    #[test]
    fn a_file_that_is_none_is_said_to_be_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("w.safetensors");
        let whole = to_safetensors(&weights(1)).unwrap();
        for bytes in [&b"PK\x03\x04 a pickle in a zip file"[..], b"", &whole[..whole.len() - 5], &whole[..100]] {
            std::fs::write(&path, bytes).unwrap();
            let error = load(&model(3, 2), &path).unwrap_err().to_string();
            assert!(error.contains("w.safetensors: is not a whole safetensors file"), "{error}");
        }
        let error = load(&model(3, 2), &dir.path().join("none")).unwrap_err().to_string();
        assert!(error.contains("none: No such file"), "{error}");
    }
}
