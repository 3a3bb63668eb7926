//! The memory bank M: one unit row for each training image, moved towards the image's embedding after each step.

use tch::{Device, Kind, Tensor, no_grad};

/// Unit rows m_1 .. m_n, \[n, d\], f32. Never part of a gradient.
#[derive(Debug)]
pub struct MemoryBank {
    rows: Tensor,
}

impl MemoryBank {
    /// `n` random unit rows of length `dim`, from libtorch's seeded generator.
    pub fn random(n: usize, dim: i64, device: Device) -> MemoryBank {
        let rows = Tensor::randn([n as i64, dim], (Kind::Float, Device::Cpu)).to_device(device);
        MemoryBank { rows: unit(&rows) }
    }

    /// A bank over rows \[n, d\], which are made unit vectors.
    pub fn from_rows(rows: &Tensor) -> MemoryBank {
        MemoryBank { rows: unit(&rows.detach()) }
    }

    /// A bank over unit rows \[n, d\] as a checkpoint kept them, to the last bit.
    pub fn from_saved(rows: Tensor) -> MemoryBank {
        MemoryBank { rows }
    }

    /// The rows, \[n, d\].
    pub fn rows(&self) -> &Tensor {
        &self.rows
    }

    /// m_i <- normalise((1 - t) m_i + t z_i) for the images `own` \[b\] and their embeddings `z` \[views, b, d\]; of
    /// several views the mean is taken, so that an image is written once.
    pub fn update(&mut self, own: &Tensor, z: &Tensor, t: f64) {
        no_grad(|| {
            let z = z.detach().mean_dim([0].as_slice(), false, Kind::Float);
            let moved = unit(&(self.rows.index_select(0, own) * (1.0 - t) + z * t));
            let _ = self.rows.index_copy_(0, own, &moved);
        });
    }
}

fn unit(rows: &Tensor) -> Tensor {
    rows / rows.norm_scalaropt_dim(2, [1], true).clamp_min(1e-12)
}
