//! A network with its weights, and what it says of frames.

use crate::network::{Autoencoder, NetworkConfig, to_floats, to_images, to_rows};
use crate::places::Places;
use ndarray::Array2;
use salad_shared::preprocess::{Frame, InputSpec, Preprocessor};
use tch::{Device, TchError, Tensor, nn, no_grad};

/// Frames encoded at a time.
const BATCH: usize = 64;

/// An autoencoder over its variables.
#[derive(Debug)]
pub struct Model {
    /// The variables, by name.
    pub store: nn::VarStore,
    /// The layers over them.
    pub net: Autoencoder,
    /// The input.
    pub input: InputSpec,
}

impl Model {
    /// A new network on `device`, its weights drawn from `seed`.
    pub fn new(config: &NetworkConfig, input: &InputSpec, seed: u64, device: Device) -> Model {
        tch::manual_seed(seed as i64);
        // Drawn on the CPU whatever the device, so that a seed means the same weights everywhere.
        let mut store = nn::VarStore::new(Device::Cpu);
        let net = Autoencoder::new(&store.root(), config, input);
        store.set_device(device);
        Model { store, net, input: input.clone() }
    }

    /// The variables, trained or running, by name and sorted.
    pub fn variables(&self) -> Vec<(String, Tensor)> {
        let mut named: Vec<_> = self.store.variables().into_iter().collect();
        named.sort_by(|a, b| a.0.cmp(&b.0));
        named
    }

    /// The variables that are trained.
    pub fn trainable(&self) -> Vec<(String, Tensor)> {
        self.variables().into_iter().filter(|(_, t)| t.requires_grad()).collect()
    }

    /// Sets every variable from `take`, which finds a tensor by name.
    pub fn restore<E: From<TchError>>(&mut self, mut take: impl FnMut(&str) -> Result<Tensor, E>) -> Result<(), E> {
        for (name, mut variable) in self.variables() {
            let value = take(&name)?;
            no_grad(|| variable.f_copy_(&value))?;
        }
        Ok(())
    }

    /// Unit embeddings \[n, d\] of frames, without augmentation, in evaluation mode; with places \[n x places, d\], frame by
    /// frame.
    pub fn embed(&self, frames: &[Frame]) -> Result<Array2<f32>, TchError> {
        let mut rows = Vec::new();
        for chunk in frames.chunks(BATCH) {
            let z = no_grad(|| to_rows(&self.net.encode(&self.images(chunk), false)));
            rows.extend(to_floats(&z)?);
        }
        let vectors = frames.len() * self.net.places().map_or(1, |[rows, columns]| rows * columns);
        let dim = rows.len().checked_div(vectors).unwrap_or(0);
        Array2::from_shape_vec((vectors, dim), rows).map_err(|e| TchError::Shape(e.to_string()))
    }

    /// Unit embeddings \[r, d\] of the frames' places in `grid` ([`Places::grid_unmoved`]), on the model's device, without
    /// augmentation, in evaluation mode.
    pub fn embed_places(&self, frames: &[Frame], grid: Option<&Tensor>) -> Tensor {
        let rows = frames.chunks(BATCH).enumerate().map(|(i, chunk)| {
            let (first, count) = ((i * BATCH) as i64, chunk.len() as i64);
            let grid = grid.map(|g| g.narrow(0, first, count).to_device(self.store.device()));
            no_grad(|| Places::embeddings(&self.net.encode(&self.images(chunk), false), grid.as_ref()))
        });
        Tensor::cat(&rows.collect::<Vec<_>>(), 0)
    }

    /// Reconstructions of frames as network input, each \[channels, height, width\] in -1..=1.
    pub fn reconstruct(&self, frames: &[Frame]) -> Result<Vec<Vec<f32>>, TchError> {
        let mut out = Vec::with_capacity(frames.len());
        for chunk in frames.chunks(BATCH) {
            let x = no_grad(|| self.net.decode(&self.net.encode(&self.images(chunk), false), false));
            out.extend(to_floats(&x)?.chunks(self.input.len()).map(<[f32]>::to_vec));
        }
        Ok(out)
    }

    /// Frames as one tensor of network input, without augmentation.
    pub fn images(&self, frames: &[Frame]) -> Tensor {
        to_images(&inputs(&self.input, frames), &self.input, self.store.device())
    }
}

/// Frames as network input, one after the other: \[n, channels, height, width\] in -1..=1.
pub fn inputs(spec: &InputSpec, frames: &[Frame]) -> Vec<f32> {
    let mut preprocessor = Preprocessor::new(spec.clone());
    let (mut all, mut one) = (Vec::with_capacity(frames.len() * spec.len()), Vec::new());
    for frame in frames {
        preprocessor.run(frame, &mut one);
        all.extend_from_slice(&one);
    }
    all
}
