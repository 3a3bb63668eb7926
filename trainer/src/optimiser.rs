//! Adam with L2 weight decay (PyTorch's `Adam`, not `AdamW`). Our own, since libtorch's keeps a state that tch can
//! neither save nor restore.

use tch::{Tensor, no_grad};

const BETA1: f64 = 0.9;
const BETA2: f64 = 0.999;
const EPSILON: f64 = 1e-8;

/// Adam over named parameters.
#[derive(Debug)]
pub struct Adam {
    parameters: Vec<Parameter>,
    weight_decay: f64,
    steps: i32,
}

#[derive(Debug)]
struct Parameter {
    name: String,
    value: Tensor,
    mean: Tensor,
    square: Tensor,
}

impl Adam {
    /// For the trainable variables of a store, by name.
    pub fn new(mut named: Vec<(String, Tensor)>, weight_decay: f64) -> Adam {
        named.sort_by(|a, b| a.0.cmp(&b.0));
        let parameters = named
            .into_iter()
            .map(|(name, value)| Parameter {
                mean: value.zeros_like().set_requires_grad(false),
                square: value.zeros_like().set_requires_grad(false),
                name,
                value,
            })
            .collect();
        Adam { parameters, weight_decay, steps: 0 }
    }

    /// Forgets the gradients of the last step.
    pub fn zero_grad(&mut self) {
        for p in &mut self.parameters {
            p.value.zero_grad();
        }
    }

    /// One step at `learning_rate` with the gradients at hand; parameters without one stay.
    pub fn step(&mut self, learning_rate: f64) {
        self.steps += 1;
        let (correct1, correct2) = (1.0 - BETA1.powi(self.steps), 1.0 - BETA2.powi(self.steps));
        no_grad(|| {
            for p in self.parameters.iter_mut().filter(|p| p.value.grad().defined()) {
                let gradient = p.value.grad() + &p.value * self.weight_decay;
                p.mean = &p.mean * BETA1 + &gradient * (1.0 - BETA1);
                p.square = &p.square * BETA2 + gradient.square() * (1.0 - BETA2);
                let denominator = p.square.sqrt() / correct2.sqrt() + EPSILON;
                let _ = p.value.g_sub_(&(&p.mean / denominator * (learning_rate / correct1)));
            }
        });
    }

    /// Steps taken.
    pub fn steps(&self) -> i32 {
        self.steps
    }

    /// The state as named tensors: `adam.mean.NAME` and `adam.square.NAME`.
    pub fn state(&self) -> Vec<(String, Tensor)> {
        self.parameters
            .iter()
            .flat_map(|p| {
                [
                    (format!("adam.mean.{}", p.name), p.mean.shallow_clone()),
                    (format!("adam.square.{}", p.name), p.square.shallow_clone()),
                ]
            })
            .collect()
    }

    /// Takes back what [`state`](Adam::state) gave, by way of `take`, which finds a tensor by name.
    pub fn restore<E>(&mut self, steps: i32, mut take: impl FnMut(&str) -> Result<Tensor, E>) -> Result<(), E> {
        self.steps = steps;
        for p in &mut self.parameters {
            p.mean = take(&format!("adam.mean.{}", p.name))?.to_device(p.value.device());
            p.square = take(&format!("adam.square.{}", p.name))?.to_device(p.value.device());
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
