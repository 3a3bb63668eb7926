//! The autoencoders: an encoder to unit-length embeddings and a decoder that sees nothing but the embedding.

mod edge;
mod layer;
mod resnet18;
#[cfg(test)]
mod tests;
mod unet;
mod upsampled;

use crate::folded::{FoldedMember, FoldedNet, Readout};
use crate::quantize::MAX_FAN_IN;
use layer::Layer;
use ndarray::Array2;
use salad_shared::preprocess::InputSpec;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use tch::{Kind, Tensor, nn};

/// Which network, and its size.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NetworkConfig {
    /// The family.
    pub kind: NetworkKind,
    /// Length d of the embedding, 2 to 4096.
    pub embedding_dim: i64,
    /// Channels of each stage, first to last, 2 to 10 stages (`resnet18`: 4); empty takes the family's own. The input's
    /// side has to be a multiple of two to the number of halvings: `edge` halves in every stage, `unet` between stages,
    /// `resnet18` three times with the CIFAR stem and five times with the ImageNet stem.
    pub widths: Vec<i64>,
    /// `resnet18`: what comes before its first stage.
    pub stem: StemChoice,
    /// What the member with this network weighs in an ensemble's similarity, beside the others' weights, 0.01 to 100. May
    /// change after training.
    #[serde(skip_serializing_if = "is_one")]
    pub weight: f64,
    /// Whether pictures are seen mirrored, left to right, as well: a second encoder for one training, with the kernels of the
    /// first mirrored, which has half of its weight. For networks that are trained with `augment.hflip`. May change after
    /// training.
    #[serde(skip_serializing_if = "is_false")]
    pub mirror: bool,
    /// `resnet18`: a safetensors file of weights, named as torchvision names them, that the encoder begins with
    /// ([`crate::init`]); without it weights are drawn.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init: Option<PathBuf>,
    /// `edge` in any size: an embedding for each place of the picture, so that the score says where it is not normal. Without this
    /// table the whole image has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patch: Option<PatchConfig>,
}

fn is_one(weight: &f64) -> bool {
    *weight == 1.0
}

fn is_false(value: &bool) -> bool {
    !value
}

/// `[network.patch]`: which places have an embedding.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PatchConfig {
    /// Pixels of the input from one place to the next: 4, 8, 16, 32 or 64, one stage for each halving.
    pub stride: u32,
    /// Side of the square of the input that an embedding sees at least, pixels, up to 1024.
    pub receptive_field: u32,
    /// Places of each training image that have a row of the memory bank while training, drawn once; at most all. The bank
    /// for scoring is made of all places.
    pub bank_places: usize,
    /// The image's score is the mean of so many places' scores, the highest; at most all. May change after training.
    pub top: u32,
}

impl Default for PatchConfig {
    fn default() -> PatchConfig {
        PatchConfig { stride: 8, receptive_field: 48, bank_places: 16, top: 5 }
    }
}

/// Which stem a `resnet18` has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StemChoice {
    /// `cifar` for inputs of up to 64 pixels a side, `imagenet` for larger ones.
    Auto,
    /// A 3 x 3 convolution of stride 1.
    Cifar,
    /// A 7 x 7 convolution of stride 2, and 3 x 3 max pooling of stride 2.
    Imagenet,
}

/// The largest side for which [`StemChoice::Auto`] takes the CIFAR stem, pixels.
const CIFAR_SIDE: u32 = 64;

/// A family of networks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NetworkKind {
    /// `edge` with fewer channels.
    #[serde(rename = "edge-s")]
    EdgeSmall,
    /// Small: plain ReLU and strides, made for integer arithmetic on ARM. `edge-m` is another name of it.
    #[serde(alias = "edge-m")]
    Edge,
    /// `edge` with more channels.
    #[serde(rename = "edge-l")]
    EdgeLarge,
    /// The paper's.
    Unet,
    /// The residual network that weights from elsewhere are most often of.
    Resnet18,
}

impl NetworkKind {
    /// The name in recipes and manifests.
    pub fn name(self) -> &'static str {
        match self {
            NetworkKind::EdgeSmall => "edge-s",
            NetworkKind::Edge => "edge",
            NetworkKind::EdgeLarge => "edge-l",
            NetworkKind::Unet => "unet",
            NetworkKind::Resnet18 => "resnet18",
        }
    }

    /// Whether it is `edge` in one of its sizes.
    fn is_edge(self) -> bool {
        matches!(self, NetworkKind::EdgeSmall | NetworkKind::Edge | NetworkKind::EdgeLarge)
    }

    /// Channels of each stage where the configuration names none.
    fn widths(self) -> &'static [i64] {
        match self {
            NetworkKind::EdgeSmall => &edge::SMALL,
            NetworkKind::Edge => &edge::MEDIUM,
            NetworkKind::EdgeLarge => &edge::LARGE,
            NetworkKind::Unet => &unet::WIDTHS,
            NetworkKind::Resnet18 => &resnet18::WIDTHS,
        }
    }
}

impl Default for NetworkConfig {
    fn default() -> NetworkConfig {
        NetworkConfig {
            kind: NetworkKind::Edge,
            embedding_dim: 512,
            widths: Vec::new(),
            stem: StemChoice::Auto,
            weight: 1.0,
            mirror: false,
            init: None,
            patch: None,
        }
    }
}

impl NetworkConfig {
    /// Of an image's places, how many make its score; 1 for whole images.
    pub fn top(&self) -> usize {
        self.patch.as_ref().map_or(1, |p| p.top as usize)
    }

    /// Says what is wrong with the numbers, if anything is; `side` is the input's, pixels.
    pub fn check(&self, side: u32) -> Result<(), String> {
        if !(2..=4096).contains(&self.embedding_dim) {
            return Err(format!("network.embedding_dim = {}: has to be from 2 to 4096", self.embedding_dim));
        }
        if !(0.01..=100.0).contains(&self.weight) {
            return Err(format!("network.weight = {}: has to be from 0.01 to 100", self.weight));
        }
        if let Some(patch) = &self.patch {
            patch.check(self, side)?;
        }
        let widths = self.widths();
        if !(2..=10).contains(&widths.len()) || widths.iter().any(|w| !(1..=4096).contains(w)) {
            return Err(format!("network.widths = {widths:?}: has to be 2 to 10 numbers from 1 to 4096"));
        }
        if self.kind == NetworkKind::Resnet18 {
            if widths.len() != resnet18::WIDTHS.len() {
                return Err(format!("network.widths = {widths:?}: `resnet18` has 4 stages, so it has to be 4 numbers"));
            }
        } else if let Some((key, value)) = self.key_of_resnet18() {
            return Err(format!(
                "network.{key} = {value}: only `resnet18` has it; remove the key, or set network.kind = \"resnet18\""
            ));
        }
        if self.kind == NetworkKind::Unet && side < 16 {
            return Err(format!("input.size = {side}: `unet` needs at least 16"));
        }
        let halvings = match self.kind {
            NetworkKind::Unet => widths.len() - 1,
            NetworkKind::Resnet18 => self.stem(side).halvings(),
            _ => widths.len(),
        };
        if !side.is_multiple_of(1 << halvings) {
            return Err(format!(
                "input.size = {side}: {} stages of `{}` need a multiple of {}; change input.size or network.widths",
                widths.len(),
                self.kind.name(),
                1 << halvings
            ));
        }
        let cells = i64::from(side >> halvings).pow(2);
        let products = cells * widths.last().copied().unwrap_or(0);
        if self.kind == NetworkKind::Unet && products > MAX_FAN_IN as i64 {
            return Err(format!(
                "input.size = {side}: an embedding of this `unet` sums {products} products, and int8 can add up {MAX_FAN_IN}; \
                 lower it or network.widths"
            ));
        }
        if self.kind.is_edge() && self.patch.is_none() && self.embedding_dim % cells != 0 {
            return Err(format!(
                "network.embedding_dim = {}: `{}` spreads it over the {cells} places of its last map, so it has to be a \
                 multiple of {cells}; change it, input.size or network.widths",
                self.embedding_dim,
                self.kind.name()
            ));
        }
        Ok(())
    }

    /// Rows and columns of the places that have an embedding each, for an input of this side; none for whole images.
    pub fn grid(&self, side: u32) -> Option<[usize; 2]> {
        self.patch.as_ref().map(|patch| [(side / patch.stride) as usize; 2])
    }

    fn widths(&self) -> Vec<i64> {
        let own = self.kind.widths();
        match &self.patch {
            _ if !self.widths.is_empty() => self.widths.clone(),
            // As many stages as the stride takes; further ones are as wide as the last.
            Some(patch) => own.iter().chain(own.last().into_iter().cycle()).take(patch.stages()).copied().collect(),
            None => own.to_vec(),
        }
    }

    /// The stem of a `resnet18` for an input of this side.
    fn stem(&self, side: u32) -> resnet18::Stem {
        match self.stem {
            StemChoice::Auto if side <= CIFAR_SIDE => resnet18::Stem::Cifar,
            StemChoice::Cifar => resnet18::Stem::Cifar,
            StemChoice::Auto | StemChoice::Imagenet => resnet18::Stem::Imagenet,
        }
    }

    /// A key that is set and that no other network has a use for.
    fn key_of_resnet18(&self) -> Option<(&'static str, String)> {
        match (&self.init, self.stem) {
            (Some(path), _) => Some(("init", format!("\"{}\"", path.display()))),
            (None, StemChoice::Cifar) => Some(("stem", "\"cifar\"".into())),
            (None, StemChoice::Imagenet) => Some(("stem", "\"imagenet\"".into())),
            (None, StemChoice::Auto) => None,
        }
    }
}

impl PatchConfig {
    /// Halvings from the input to the places.
    fn stages(&self) -> usize {
        self.stride.ilog2() as usize
    }

    /// Says what is wrong with the numbers for this network and input side, if anything is.
    fn check(&self, network: &NetworkConfig, side: u32) -> Result<(), String> {
        if !network.kind.is_edge() {
            return Err(format!(
                "network.patch: `{}` gives one embedding an image; remove the table, or set network.kind = \"edge\"",
                network.kind.name()
            ));
        }
        if !(4..=64).contains(&self.stride) || !self.stride.is_power_of_two() {
            return Err(format!("network.patch.stride = {}: has to be 4, 8, 16, 32 or 64", self.stride));
        }
        if !network.widths.is_empty() && network.widths.len() != self.stages() {
            return Err(format!(
                "network.widths = {:?}: network.patch.stride = {} takes {} stages, so it has to be {1} numbers; or leave \
                 it out",
                network.widths,
                self.stride,
                self.stages()
            ));
        }
        if !(1..=1024).contains(&self.receptive_field) {
            return Err(format!("network.patch.receptive_field = {}: has to be from 1 to 1024", self.receptive_field));
        }
        if self.stride > side {
            return Err(format!(
                "network.patch.stride = {}: an input of {side} x {side} has no place; lower it, or raise input.size",
                self.stride
            ));
        }
        for (key, value) in [("bank_places", self.bank_places as u64), ("top", u64::from(self.top))] {
            if value == 0 {
                return Err(format!("network.patch.{key} = 0: has to be at least 1"));
            }
        }
        Ok(())
    }
}

/// Encoder and decoder over one variable store.
#[derive(Debug)]
pub struct Autoencoder {
    encoder: Vec<Layer>,
    decoder: Vec<Layer>,
    input: InputSpec,
    places: Option<[usize; 2]>,
}

impl Autoencoder {
    /// Builds the network under `root`, its weights drawn from libtorch's seeded generator. `config` has been checked
    /// for a square `input`.
    pub fn new(root: &nn::Path, config: &NetworkConfig, input: &InputSpec) -> Autoencoder {
        let (side, channels) = (i64::from(input.width), i64::from(input.channels));
        let (widths, dim) = (config.widths(), config.embedding_dim);
        let (encoder, decoder) = match (config.kind, &config.patch) {
            (NetworkKind::Unet, _) => unet::layers(root, &widths, dim, side, channels),
            (NetworkKind::Resnet18, _) => {
                resnet18::layers(root, config.stem(input.width), &widths, dim, side, channels)
            }
            (_, Some(patch)) => edge::patch_layers(root, &widths, dim, patch.receptive_field, channels),
            (_, None) => edge::layers(root, &widths, dim, side, channels),
        };
        let places = config.grid(input.width);
        Autoencoder { encoder, decoder, input: input.clone(), places }
    }

    /// Unit embeddings \[b, d, rows, columns\] of images \[b, channels, height, width\] in -1..=1, one a place; whole
    /// images have one place. `train` uses the batch's statistics in batch norm and updates the running ones.
    pub fn encode(&self, images: &Tensor, train: bool) -> Tensor {
        // Training may run the layers in bf16, too coarse for the angles between embeddings.
        let map = layer::chain(&self.encoder, images, train).to_kind(Kind::Float);
        let features = match self.places {
            Some(_) => map,
            None => map.flatten(1, -1).unsqueeze(-1).unsqueeze(-1),
        };
        let norm = features.norm_scalaropt_dim(2, [1], true).clamp_min(1e-12);
        features / norm
    }

    /// Reconstructions \[b, channels, height, width\] in -1..=1 of embeddings \[b, d, rows, columns\].
    pub fn decode(&self, z: &Tensor, train: bool) -> Tensor {
        layer::chain(&self.decoder, z, train)
    }

    /// Rows and columns of the places that have an embedding each; none for whole images.
    pub fn places(&self) -> Option<[usize; 2]> {
        self.places
    }

    /// The encoder as inference sees it, batch norm folded in.
    pub fn fold(&self) -> Result<FoldedNet, tch::TchError> {
        let fold = |layers: &[Layer]| layers.iter().map(Layer::fold).collect::<Result<Vec<_>, _>>();
        let (layers, readout) = match (&self.encoder[..], self.places) {
            (layers, Some([rows, columns])) => (fold(layers)?, Readout::Places { rows, columns }),
            ([layers @ .., Layer::Mean, linear], None) => (fold(layers)?, Readout::Pooled(linear.fold_conv()?)),
            (layers, None) => (fold(layers)?, Readout::Flatten),
        };
        Ok(FoldedNet { input: self.input.clone(), members: vec![FoldedMember { layers, readout, weight: 1.0 }] })
    }
}

/// Images as floats to a tensor \[n, channels, height, width\] on `device`, in the memory layout convolutions like best.
pub fn to_images(values: &[f32], spec: &InputSpec, device: tch::Device) -> Tensor {
    let shape = [-1, i64::from(spec.channels), i64::from(spec.height), i64::from(spec.width)];
    let images = Tensor::from_slice(values).view(shape).to_device(device);
    images.permute([0, 2, 3, 1]).contiguous().permute([0, 3, 1, 2])
}

/// Rows \[n, d\] as a tensor on the host; tch converts another release's arrays.
pub fn to_tensor(rows: &Array2<f32>) -> Tensor {
    let flat: Vec<f32> = rows.iter().copied().collect();
    Tensor::from_slice(&flat).view([rows.nrows() as i64, rows.ncols() as i64])
}

/// Embeddings \[b, d, rows, columns\] as vectors \[b x rows x columns, d\], image by image, row by row.
pub fn to_rows(z: &Tensor) -> Tensor {
    z.permute([0, 2, 3, 1]).flatten(0, 2)
}

/// A tensor \[n, d\] as an array; [`to_tensor`]'s inverse.
pub fn to_array(rows: &Tensor) -> Result<Array2<f32>, tch::TchError> {
    let (n, d) = rows.size2()?;
    let shaped = Array2::from_shape_vec((n as usize, d as usize), to_floats(rows)?);
    shaped.map_err(|e| tch::TchError::Shape(e.to_string()))
}

/// A tensor's values on the host, row by row.
pub fn to_floats(t: &Tensor) -> Result<Vec<f32>, tch::TchError> {
    let t = t.detach().to_device(tch::Device::Cpu).to_kind(Kind::Float).contiguous().view([-1]);
    Vec::<f32>::try_from(&t)
}
