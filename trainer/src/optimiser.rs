//! Adam with L2 weight decay (PyTorch's `Adam`, not `AdamW`), in libtorch's fused kernel. The state is our own, since
//! libtorch's optimisers keep one that tch can neither save nor restore.

use crate::native::{self, AdamStep};
use tch::{Kind, Tensor, no_grad};

const BETA1: f64 = 0.9;
const BETA2: f64 = 0.999;
const EPSILON: f64 = 1e-8;

/// Adam over named parameters.
#[derive(Debug)]
pub struct Adam {
    names: Vec<String>,
    values: Vec<Tensor>,
    means: Vec<Tensor>,
    squares: Vec<Tensor>,
    weight_decay: f64,
    steps: i32,
}

impl Adam {
    /// For the trainable variables of a store, by name.
    pub fn new(mut named: Vec<(String, Tensor)>, weight_decay: f64) -> Adam {
        named.sort_by(|a, b| a.0.cmp(&b.0));
        let (names, values): (Vec<String>, Vec<Tensor>) = named.into_iter().unzip();
        let zeros = || values.iter().map(|v| v.zeros_like().set_requires_grad(false)).collect();
        Adam { means: zeros(), squares: zeros(), names, values, weight_decay, steps: 0 }
    }

    /// Forgets the gradients of the last step.
    pub fn zero_grad(&mut self) {
        self.values.iter_mut().for_each(native::forget_gradient);
    }

    /// One step at `learning_rate` with the gradients at hand; parameters without one stay.
    pub fn step(&mut self, learning_rate: f64) {
        self.steps += 1;
        let with: Vec<usize> = (0..self.values.len()).filter(|&i| self.values[i].grad().defined()).collect();
        let Some(first) = with.first() else { return };
        let pick = |list: &[Tensor]| with.iter().map(|&i| list[i].shallow_clone()).collect::<Vec<_>>();
        let gradients: Vec<Tensor> = with.iter().map(|&i| self.values[i].grad()).collect();
        // A kernel that fills, not a copy from the host, which the device would have to be waited for.
        let steps = Tensor::full([], f64::from(self.steps), (Kind::Float, self.values[*first].device()));
        let step =
            AdamStep { rate: learning_rate, beta1: BETA1, beta2: BETA2, decay: self.weight_decay, epsilon: EPSILON };
        native::fused_adam(&pick(&self.values), &gradients, &pick(&self.means), &pick(&self.squares), &steps, step);
    }

    /// Steps taken.
    pub fn steps(&self) -> i32 {
        self.steps
    }

    /// The state as named tensors: `adam.mean.NAME` and `adam.square.NAME`.
    pub fn state(&self) -> Vec<(String, Tensor)> {
        let lists = [("mean", &self.means), ("square", &self.squares)];
        let named =
            lists.into_iter().flat_map(|(kind, list)| self.names.iter().zip(list).map(move |(n, t)| (kind, n, t)));
        named.map(|(kind, name, t)| (format!("adam.{kind}.{name}"), t.shallow_clone())).collect()
    }

    /// Takes back what [`state`](Adam::state) gave, by way of `take`, which finds a tensor by name.
    pub fn restore<E>(&mut self, steps: i32, mut take: impl FnMut(&str) -> Result<Tensor, E>) -> Result<(), E> {
        self.steps = steps;
        for (kind, list) in [("mean", &mut self.means), ("square", &mut self.squares)] {
            for (name, tensor) in self.names.iter().zip(list) {
                let saved = take(&format!("adam.{kind}.{name}"))?;
                no_grad(|| tensor.copy_(&saved));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::nn::OptimizerConfig;
    use tch::{Device, Kind, nn};

    #[test]
    fn it_steps_as_libtorchs_own_does() {
        let start = Tensor::from_slice(&[0.5f32, -2.0, 3.0]);
        let store = nn::VarStore::new(Device::Cpu);
        let theirs = store.root().var_copy("w", &start);
        let mut peer = nn::Adam { wd: 0.01, ..Default::default() }.build(&store, 0.05).unwrap();
        let ours = start.copy().set_requires_grad(true);
        let mut adam = Adam::new(vec![("w".into(), ours.shallow_clone())], 0.01);
        for i in 0..20 {
            let loss = |w: &Tensor| (w - f64::from(i) * 0.1).pow_tensor_scalar(4).sum(Kind::Float);
            peer.backward_step(&loss(&theirs));
            adam.zero_grad();
            loss(&ours).backward();
            adam.step(0.05);
        }
        let off = (&ours - &theirs).abs().max().double_value(&[]);
        assert!(off < 1e-5, "{off}");
    }
}
