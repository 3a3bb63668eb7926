//! The autoencoders: an encoder to unit-length embeddings and a decoder that sees nothing but the embedding.

mod edge;
mod layer;
mod unet;

use crate::folded::{FoldedLayer, FoldedNet};
use layer::Layer;
use ndarray::Array2;
use salad_shared::preprocess::InputSpec;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor, nn};

/// Which network, and its size.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NetworkConfig {
    /// The family.
    pub kind: NetworkKind,
    /// Length d of the embedding, 2 to 4096.
    pub embedding_dim: i64,
    /// Channels of each stage, first to last, 2 to 10 stages; empty takes the family's own. The input's side has to be
    /// a multiple of two to the number of halvings: `edge` halves in every stage, `unet` between stages.
    pub widths: Vec<i64>,
}

/// A family of networks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NetworkKind {
    /// Small: plain ReLU and strides, made for integer arithmetic on ARM.
    Edge,
    /// The paper's.
    Unet,
}

impl NetworkKind {
    /// The name in recipes and manifests.
    pub fn name(self) -> &'static str {
        match self {
            NetworkKind::Edge => "edge",
            NetworkKind::Unet => "unet",
        }
    }
}

impl Default for NetworkConfig {
    fn default() -> NetworkConfig {
        NetworkConfig { kind: NetworkKind::Edge, embedding_dim: 512, widths: Vec::new() }
    }
}

impl NetworkConfig {
    /// Says what is wrong with the numbers, if anything is; `side` is the input's, pixels.
    pub fn check(&self, side: u32) -> Result<(), String> {
        if !(2..=4096).contains(&self.embedding_dim) {
            return Err(format!("network.embedding_dim = {}: has to be from 2 to 4096", self.embedding_dim));
        }
        let widths = self.widths();
        if !(2..=10).contains(&widths.len()) || widths.iter().any(|w| !(1..=4096).contains(w)) {
            return Err(format!("network.widths = {widths:?}: has to be 2 to 10 numbers from 1 to 4096"));
        }
        let halvings = match self.kind {
            NetworkKind::Edge => widths.len(),
            NetworkKind::Unet => widths.len() - 1,
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
        if self.kind == NetworkKind::Edge && self.embedding_dim % cells != 0 {
            return Err(format!(
                "network.embedding_dim = {}: `edge` spreads it over the {cells} places of its last map, so it has to be a \
                 multiple of {cells}; change it, input.size or network.widths",
                self.embedding_dim
            ));
        }
        Ok(())
    }

    fn widths(&self) -> Vec<i64> {
        match (self.widths.is_empty(), self.kind) {
            (false, _) => self.widths.clone(),
            (true, NetworkKind::Edge) => edge::WIDTHS.to_vec(),
            (true, NetworkKind::Unet) => unet::WIDTHS.to_vec(),
        }
    }
}

/// Encoder and decoder over one variable store.
#[derive(Debug)]
pub struct Autoencoder {
    encoder: Vec<Layer>,
    decoder: Vec<Layer>,
    input: InputSpec,
}

impl Autoencoder {
    /// Builds the network under `root`, its weights drawn from libtorch's seeded generator. `config` has been checked
    /// for a square `input`.
    pub fn new(root: &nn::Path, config: &NetworkConfig, input: &InputSpec) -> Autoencoder {
        let (side, channels) = (i64::from(input.width), i64::from(input.channels));
        let build = match config.kind {
            NetworkKind::Edge => edge::layers,
            NetworkKind::Unet => unet::layers,
        };
        let (encoder, decoder) = build(root, &config.widths(), config.embedding_dim, side, channels);
        Autoencoder { encoder, decoder, input: input.clone() }
    }

    /// Unit embeddings \[b, d\] of images \[b, channels, height, width\] in -1..=1. `train` uses the batch's statistics
    /// in batch norm and updates the running ones.
    pub fn encode(&self, images: &Tensor, train: bool) -> Tensor {
        let features = layer::chain(&self.encoder, images, train).flatten(1, -1);
        let norm = features.norm_scalaropt_dim(2, [1], true).clamp_min(1e-12);
        features / norm
    }

    /// Reconstructions \[b, channels, height, width\] in -1..=1 of embeddings \[b, d\].
    pub fn decode(&self, z: &Tensor, train: bool) -> Tensor {
        layer::chain(&self.decoder, &z.unsqueeze(-1).unsqueeze(-1), train)
    }

    /// The encoder as inference sees it, batch norm folded in.
    pub fn fold(&self) -> Result<FoldedNet, tch::TchError> {
        let layers = self.encoder.iter().map(Layer::fold).collect::<Result<Vec<FoldedLayer>, _>>()?;
        Ok(FoldedNet { input: self.input.clone(), layers })
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
        let config = NetworkConfig { kind, embedding_dim: 32, widths };
        config.check(side).unwrap();
        let input = InputSpec { width: side, height: side, channels: 3 };
        let store = nn::VarStore::new(Device::Cpu);
        let net = Autoencoder::new(&store.root(), &config, &input);
        (store, net, input)
    }

    #[test]
    fn embeddings_are_unit_vectors_and_reconstructions_images() {
        for (kind, side, widths) in [(NetworkKind::Edge, 64, vec![]), (NetworkKind::Unet, 32, vec![8, 16, 16])] {
            let (_store, net, _) = built(kind, side, widths);
            let side = i64::from(side);
            let z = net.encode(&Tensor::rand([5, 3, side, side], (Kind::Float, Device::Cpu)), true);
            assert_eq!(z.size(), [5, 32]);
            let norms = to_floats(&z.norm_scalaropt_dim(2, [1], false)).unwrap();
            assert!(norms.iter().all(|n| (n - 1.0).abs() < 1e-5), "{norms:?}");
            let x = net.decode(&z, true);
            assert_eq!(x.size(), [5, 3, side, side]);
            assert!(x.abs().max().double_value(&[]) <= 1.0);
        }
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
    fn impossible_sizes_are_refused() {
        let config = NetworkConfig::default();
        assert!(config.check(100).unwrap_err().contains("input.size"));
        assert!(NetworkConfig { embedding_dim: 0, ..config.clone() }.check(128).is_err());
        assert!(NetworkConfig { widths: vec![4], ..config }.check(128).is_err());
    }
}
