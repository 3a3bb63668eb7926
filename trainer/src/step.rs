//! One step of training: forward, losses, backward, optimiser, bank. Nothing in it waits for the device.

use crate::config::TrainConfig;
use crate::loader::Batch;
use crate::losses::{BatchTargets, Crowd, contrastive};
use crate::memory_bank::MemoryBank;
use crate::model::Model;
use crate::neighbours::Neighbourhoods;
use crate::optimiser::Adam;
use crate::places::Places;
use crate::precision::Precision;
use tch::{Kind, Tensor};

/// A part of a step, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Encoder and decoder.
    Forward,
    /// The three losses.
    Loss,
    /// Their gradient.
    Backward,
    /// The optimiser.
    Step,
    /// The bank's moving average.
    Bank,
}

/// What a step works on.
#[derive(Debug)]
pub struct Learner<'a> {
    /// Losses and rates.
    pub config: &'a TrainConfig,
    /// The network.
    pub model: &'a Model,
    /// Its memory bank.
    pub bank: &'a mut MemoryBank,
    /// Its optimiser.
    pub adam: &'a mut Adam,
    /// As [`Precision::prepare`] settled it.
    pub precision: Precision,
}

impl Learner<'_> {
    /// One step with a batch that is on the model's device, in phase 2 with the round's `neighbourhoods`. Calls `reached` at
    /// the end of each stage, and gives [reconstruction, sample-specific, aggregation, total], \[4\], f64, on the device.
    pub fn step(
        &mut self,
        batch: &Batch,
        neighbourhoods: Option<&Neighbourhoods>,
        learning_rate: f64,
        mut reached: impl FnMut(Stage),
    ) -> Tensor {
        let (config, net, device) = (self.config, &self.model.net, self.model.store.device());
        let _rounded = self.precision.for_step();
        let Batch { images, own, grid, .. } = batch; // [all, c, h, w], [r], a row of the bank for each place
        let normal = batch.normal(); // of `all`, so many are views of normal images and come first
        let targets = BatchTargets {
            prototypical: match neighbourhoods {
                Some(n) => n.prototypical.index_select(0, own),
                None => Tensor::zeros(own.size(), (Kind::Float, device)),
            },
            neighbourhood: neighbourhoods.map(|n| n.members.index_select(0, own)),
            own: own.shallow_clone(),
        };
        let (z, output) = self.precision.run(device, || {
            let z = net.encode(images, true);
            let output = net.decode(&z.narrow(0, 0, normal), true);
            (z, output)
        });
        reached(Stage::Forward);
        let places = own.size()[0];
        let z = Places::embeddings(&z, grid.as_ref()); // [all * places an image, d]
        let of_views = batch.views as i64 * places;
        let views = z.narrow(0, 0, of_views).view([batch.views as i64, places, -1]); // [views, r, d]
        let crowd = (z.size()[0] > of_views)
            .then(|| Crowd { embeddings: z.slice(0, of_views, None, 1), weight: config.w_negatives });
        let reconstruction = config.reconstruction.loss(&output.to_kind(Kind::Float), &images.narrow(0, 0, normal));
        let pull = contrastive(&views, self.bank.rows(), &targets, crowd.as_ref(), config.tau);
        let total = &reconstruction * config.w_rec + (&pull.sample_specific + &pull.aggregation) * config.w_con;
        reached(Stage::Loss);
        self.adam.zero_grad();
        total.backward();
        reached(Stage::Backward);
        self.adam.step(learning_rate);
        reached(Stage::Step);
        self.bank.update(own, &views, config.bank_rate);
        reached(Stage::Bank);
        let terms = [reconstruction, pull.sample_specific, pull.aggregation, total].map(|t| t.detach());
        Tensor::stack(&terms, 0).to_kind(Kind::Double)
    }
}
