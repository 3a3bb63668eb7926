//! The autoencoders: an encoder to unit-length embeddings and a decoder that sees nothing but the embedding.

mod edge;
mod layer;
mod resnet18;
mod unet;
mod upsampled;

use crate::folded::{FoldedNet, Readout};
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
    /// `resnet18`: a safetensors file of weights, named as torchvision names them, that the encoder begins with
    /// ([`crate::init`]); without it weights are drawn.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init: Option<PathBuf>,
    /// `edge`: an embedding for each place of the picture, so that the score says where it is not normal. Without this
    /// table the whole image has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patch: Option<PatchConfig>,
}

/// `[network.patch]`: which places have an embedding.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PatchConfig {
    /// Pixels of the input from one place to the next: 2, 4, 8, 16, 32 or 64, one stage for each halving.
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
    /// Small: plain ReLU and strides, made for integer arithmetic on ARM.
    Edge,
    /// The paper's.
    Unet,
    /// The residual network that weights from elsewhere are most often of.
    Resnet18,
}

impl NetworkKind {
    /// The name in recipes and manifests.
    pub fn name(self) -> &'static str {
        match self {
            NetworkKind::Edge => "edge",
            NetworkKind::Unet => "unet",
            NetworkKind::Resnet18 => "resnet18",
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
        let halvings = match self.kind {
            NetworkKind::Edge => widths.len(),
            NetworkKind::Unet => widths.len() - 1,
            NetworkKind::Resnet18 => self.stem(side).halvings(),
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
        if self.kind == NetworkKind::Edge && self.patch.is_none() && self.embedding_dim % cells != 0 {
            return Err(format!(
                "network.embedding_dim = {}: `edge` spreads it over the {cells} places of its last map, so it has to be a \
                 multiple of {cells}; change it, input.size or network.widths",
                self.embedding_dim
            ));
        }
        Ok(())
    }

    /// Rows and columns of the places that have an embedding each, for an input of this side; none for whole images.
    pub fn grid(&self, side: u32) -> Option<[usize; 2]> {
        self.patch.as_ref().map(|patch| [(side / patch.stride) as usize; 2])
    }

    fn widths(&self) -> Vec<i64> {
        match (self.widths.is_empty(), self.kind) {
            (false, _) => self.widths.clone(),
            (true, NetworkKind::Edge) => {
                let stages = self.patch.as_ref().map_or(edge::WIDTHS.len(), PatchConfig::stages);
                edge::WIDTHS
                    .into_iter()
                    .chain(std::iter::repeat(edge::WIDTHS[edge::WIDTHS.len() - 1]))
                    .take(stages)
                    .collect()
            }
            (true, NetworkKind::Unet) => unet::WIDTHS.to_vec(),
            (true, NetworkKind::Resnet18) => resnet18::WIDTHS.to_vec(),
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
        if network.kind != NetworkKind::Edge {
            return Err(format!(
                "network.patch: `{}` gives one embedding an image; remove the table, or set network.kind = \"edge\"",
                network.kind.name()
            ));
        }
        if !(2..=64).contains(&self.stride) || !self.stride.is_power_of_two() {
            return Err(format!("network.patch.stride = {}: has to be 2, 4, 8, 16, 32 or 64", self.stride));
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
            (NetworkKind::Edge, Some(patch)) => edge::patch_layers(root, &widths, dim, patch.receptive_field, channels),
            (NetworkKind::Edge, None) => edge::layers(root, &widths, dim, side, channels),
            (NetworkKind::Unet, _) => unet::layers(root, &widths, dim, side, channels),
            (NetworkKind::Resnet18, _) => {
                resnet18::layers(root, config.stem(input.width), &widths, dim, side, channels)
            }
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
        Ok(FoldedNet { input: self.input.clone(), layers, readout })
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

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    fn built(kind: NetworkKind, side: u32, widths: Vec<i64>) -> (nn::VarStore, Autoencoder, InputSpec) {
        tch::manual_seed(3);
        let config = NetworkConfig { kind, embedding_dim: 32, widths, ..Default::default() };
        config.check(side).unwrap();
        let input = InputSpec { width: side, height: side, channels: 3 };
        let store = nn::VarStore::new(Device::Cpu);
        let net = Autoencoder::new(&store.root(), &config, &input);
        (store, net, input)
    }

    #[test]
    fn embeddings_are_unit_vectors_and_reconstructions_images() {
        let small = || vec![4, 8, 8, 16];
        for (kind, side, widths) in [
            (NetworkKind::Edge, 64, vec![]),
            (NetworkKind::Unet, 32, vec![8, 16, 16]),
            // What is left is 3 x 3 places, and no padding may enlarge it.
            (NetworkKind::Unet, 24, vec![8, 8, 8, 8]),
            (NetworkKind::Resnet18, 8, small()),
            (NetworkKind::Resnet18, 40, small()),
            (NetworkKind::Resnet18, 96, small()),
        ] {
            let (_store, net, _) = built(kind, side, widths);
            let side = i64::from(side);
            let z = net.encode(&Tensor::rand([5, 3, side, side], (Kind::Float, Device::Cpu)), true);
            assert_eq!(z.size(), [5, 32, 1, 1]);
            let norms = to_floats(&z.norm_scalaropt_dim(2, [1], false)).unwrap();
            assert!(norms.iter().all(|n| (n - 1.0).abs() < 1e-5), "{norms:?}");
            let x = net.decode(&z, true);
            assert_eq!(x.size(), [5, 3, side, side]);
            assert!(x.abs().max().double_value(&[]) <= 1.0);
        }
    }

    #[test]
    fn with_patches_every_place_has_an_embedding_and_sees_what_was_asked_for() {
        let patch = PatchConfig { stride: 8, receptive_field: 40, ..PatchConfig::default() };
        let config = NetworkConfig { embedding_dim: 24, patch: Some(patch), ..NetworkConfig::default() };
        config.check(64).unwrap();
        let input = InputSpec { width: 64, height: 64, channels: 1 };
        let store = nn::VarStore::new(Device::Cpu);
        let net = Autoencoder::new(&store.root(), &config, &input);
        let images = Tensor::rand([3, 1, 64, 64], (Kind::Float, Device::Cpu)) * 2.0 - 1.0;
        let z = net.encode(&images, true);
        assert_eq!((z.size(), net.decode(&z, true).size()), (vec![3, 24, 8, 8], vec![3, 1, 64, 64]));
        let z = to_rows(&net.encode(&images, false));
        let folded = net.fold().unwrap();
        let found = folded.encode(&to_floats(&images).unwrap(), 3).unwrap();
        assert_eq!(found.dim(), (3 * 64, 24));
        let expected = to_floats(&z).unwrap();
        assert!(found.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-5));
        // What lies outside a place's field does not change its embedding, what lies inside does.
        let field = folded.receptive_field() as i64;
        assert!((40..=56).contains(&field), "{field}");
        let changed = images.copy();
        let _ = changed.narrow(3, 36 + field / 2 + 1, 64 - (36 + field / 2 + 1)).fill_(0.9);
        let moved = (to_rows(&net.encode(&changed, false)) - &z).abs().view([3, 8, 8, 24]).amax([0, 3], false);
        assert_eq!(moved.narrow(1, 0, 4).max().double_value(&[]), 0.0);
        assert!(moved.narrow(1, 6, 2).min().double_value(&[]) > 1e-4);
    }

    #[test]
    fn patches_that_do_not_fit_are_refused() {
        let with = |patch: PatchConfig| NetworkConfig { patch: Some(patch), ..NetworkConfig::default() };
        for (patch, key) in [
            (PatchConfig { stride: 12, ..Default::default() }, "stride = 12"),
            (PatchConfig { stride: 0, ..Default::default() }, "stride = 0"),
            (PatchConfig { receptive_field: 0, ..Default::default() }, "receptive_field = 0"),
            (PatchConfig { bank_places: 0, ..Default::default() }, "bank_places = 0"),
            (PatchConfig { top: 0, ..Default::default() }, "top = 0"),
        ] {
            let error = with(patch).check(64).unwrap_err();
            assert!(error.contains("network.patch.") && error.contains(key), "{error}");
        }
        let unet = NetworkConfig { kind: NetworkKind::Unet, ..with(PatchConfig::default()) };
        assert!(unet.check(64).unwrap_err().contains("one embedding an image"));
        let widths = NetworkConfig { widths: vec![8, 8], ..with(PatchConfig::default()) };
        assert!(widths.check(64).unwrap_err().contains("takes 3 stages"));
    }

    #[test]
    fn the_papers_network_has_its_parameters_and_cost() {
        let (_store, net, _) = built(NetworkKind::Unet, 256, vec![]);
        let folded = net.fold().unwrap();
        let millions = folded.parameters() as f64 / 1e6;
        let gflop = folded.flop() as f64 / 1e9;
        // METHOD: 22.1 M parameters and 3.1 GFLOP with d = 200; here d = 32 saves 168 x 1024 x 16 weights.
        assert!((millions + 168.0 * 1024.0 * 16.0 / 1e6 - 22.1).abs() < 0.1, "{millions}");
        assert!((gflop - 3.1).abs() < 0.1, "{gflop}");
    }

    #[test]
    fn the_edge_network_keeps_its_budget() {
        let (_store, net, _) = built(NetworkKind::Edge, 128, vec![]);
        let gflop = net.fold().unwrap().flop() as f64 / 1e9;
        assert!(gflop <= 0.15, "{gflop} GFLOP");
    }

    #[test]
    fn a_resnet18_has_its_parameters_and_cost() {
        let (_store, net, _) = built(NetworkKind::Resnet18, 224, vec![]);
        let folded = net.fold().unwrap();
        // torchvision's 11,689,512 without the classifier's 513,000 and without the scales of 4,800 channels, which are
        // folded; and the layer to the embedding.
        assert_eq!(folded.parameters(), 11_689_512 - 513_000 - 4_800 + 513 * 32);
        let gflop = folded.flop() as f64 / 1e9;
        // torchvision says 1.814 billion multiply-adds.
        assert!((gflop - 2.0 * 1.814).abs() < 0.01, "{gflop}");
        let (_store, net, _) = built(NetworkKind::Resnet18, 32, vec![]);
        let gflop = net.fold().unwrap().flop() as f64 / 1e9;
        assert!((gflop - 2.0 * 0.556).abs() < 0.01, "{gflop}");
    }

    #[test]
    fn the_folded_net_computes_what_the_network_does() {
        for (kind, side, widths) in [
            (NetworkKind::Edge, 32, vec![8, 8, 8]),
            (NetworkKind::Unet, 24, vec![8, 8, 8, 8]),
            (NetworkKind::Resnet18, 16, vec![4, 8, 8, 16]),
            (NetworkKind::Resnet18, 96, vec![4, 8, 8, 16]),
        ] {
            let (_store, net, input) = built(kind, side, widths);
            let images = Tensor::rand([6, 3, i64::from(side), i64::from(side)], (Kind::Float, Device::Cpu)) * 2.0 - 1.0;
            // Statistics that are not those of the beginning.
            let _ = net.encode(&images, true);
            let expected = to_floats(&to_rows(&net.encode(&images, false))).unwrap();
            let found = net.fold().unwrap().encode(&to_floats(&images).unwrap(), 6).unwrap();
            assert_eq!(found.dim(), (6, expected.len() / 6), "{input:?}");
            assert!(found.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-5), "{kind:?} {side}");
        }
    }

    #[test]
    fn keys_of_another_network_and_stems_that_do_not_fit_are_refused() {
        let resnet = NetworkConfig { kind: NetworkKind::Resnet18, ..Default::default() };
        assert_eq!((resnet.stem(64), resnet.stem(65)), (resnet18::Stem::Cifar, resnet18::Stem::Imagenet));
        resnet.check(56).unwrap();
        resnet.check(96).unwrap();
        assert!(resnet.check(60).unwrap_err().contains("multiple of 8"));
        assert!(resnet.check(72).unwrap_err().contains("multiple of 32"));
        NetworkConfig { stem: StemChoice::Cifar, ..resnet.clone() }.check(72).unwrap();
        assert!(NetworkConfig { widths: vec![8, 8, 8], ..resnet }.check(64).unwrap_err().contains("4 stages"));
        let edge = NetworkConfig { init: Some("w.safetensors".into()), ..Default::default() };
        assert!(edge.check(128).unwrap_err().contains("network.init = \"w.safetensors\": only `resnet18`"));
        let edge = NetworkConfig { stem: StemChoice::Cifar, ..Default::default() };
        assert!(edge.check(128).unwrap_err().contains("network.stem = \"cifar\": only `resnet18`"));
    }

    #[test]
    fn impossible_sizes_are_refused() {
        let config = NetworkConfig::default();
        assert!(config.check(100).unwrap_err().contains("input.size"));
        assert!(NetworkConfig { embedding_dim: 0, ..config.clone() }.check(128).is_err());
        assert!(NetworkConfig { widths: vec![4], ..config }.check(128).is_err());
    }
}
