//! In which numbers a network is trained.

use crate::native;
use serde::{Deserialize, Serialize};
use tch::{Cuda, Device, Kind, Tensor};

/// `train.precision`. Weights, gradients, bank, losses and optimiser are f32 in each of them, and so is all that is done with
/// a network outside a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// f32 throughout.
    F32,
    /// f32 whose convolutions a GPU rounds to 10 bits; the same as `f32` on a CPU.
    Tf32,
    /// Convolutions and what lies between them in bf16.
    Bf16,
    /// `bf16` on a GPU that computes in it, else `tf32`; `f32` on a CPU.
    Auto,
}

impl Precision {
    /// What it comes to on `device`, never `Auto`, with libtorch set for it.
    pub fn prepare(self, device: Device) -> Precision {
        let settled = match (self, device.is_cuda()) {
            (Precision::Auto | Precision::Tf32, false) => Precision::F32,
            (Precision::Auto, true) if computes_bf16(device) => Precision::Bf16,
            (Precision::Auto, true) => Precision::Tf32,
            (named, _) => named,
        };
        if device.is_cuda() {
            // libtorch allows it from the start.
            native::allow_tf32(false);
            // Batches have one size but for an epoch's last: trying cuDNN's algorithms once pays.
            Cuda::cudnn_set_benchmark(true);
        }
        settled
    }

    /// To be kept for as long as a step lasts: its backward pass rounds as its forward pass does.
    pub fn for_step(self) -> Option<native::Tf32> {
        (self == Precision::Tf32).then(native::Tf32::begin)
    }

    /// Runs the forward pass `f` on `device` in this precision; what it gives may be bf16.
    pub fn run<T>(self, device: Device, f: impl FnOnce() -> T) -> T {
        let _bf16 = (self == Precision::Bf16).then(|| native::Bf16::begin(device.is_cuda()));
        f()
    }
}

/// Whether a convolution in bf16 works there.
fn computes_bf16(device: Device) -> bool {
    let ones = |size: [i64; 4]| Tensor::f_ones(size, (Kind::BFloat16, device));
    let convolved = ones([1, 8, 8, 8]).and_then(|x| x.f_conv2d(&ones([8, 8, 3, 3])?, None::<Tensor>, 1, 1, 1, 1));
    convolved.and_then(|y| y.f_sum(Kind::Float)?.f_double_value(&[])).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn on_a_cpu_auto_is_f32_and_bf16_is_meant() {
        let on = |p: Precision| p.prepare(Device::Cpu);
        assert_eq!(
            [on(Precision::Auto), on(Precision::Tf32), on(Precision::Bf16)],
            [Precision::F32, Precision::F32, Precision::Bf16]
        );
        assert!(computes_bf16(Device::Cpu));
        let x = Tensor::ones([2, 2], (Kind::Float, Device::Cpu));
        let product = |p: Precision| p.run(Device::Cpu, || x.matmul(&x)).kind();
        assert_eq!((product(Precision::Bf16), product(Precision::F32)), (Kind::BFloat16, Kind::Float));
    }
}
