//! Cross-layer equalisation (Nagel et al. 2019, arXiv 1906.04721, section 4.1): a channel may be divided by s > 0 where
//! it leaves a convolution and multiplied by s where it enters the next, because ReLU, leaky ReLU and max pooling take
//! s x to s f(x). With s chosen so that both weights' ranges become equal, no channel drowns in another's scale.

use crate::folded::{FoldedConv, FoldedLayer, FoldedNet};
use ndarray::Axis;

/// Sweeps over the pairs of layers; each moves a range only to its neighbours, and it settles long before this.
const SWEEPS: usize = 100;

/// Settled: no factor of a sweep further from 1 than this.
const SETTLED: f32 = 1e-3;

/// The same function with equalised weights.
pub(crate) fn equalise(net: &FoldedNet) -> FoldedNet {
    let mut net = net.clone();
    let mut convolutions: Vec<&mut FoldedConv> = net
        .layers
        .iter_mut()
        .filter_map(|l| match l {
            FoldedLayer::Conv(c) => Some(c),
            FoldedLayer::MaxPool { .. } => None,
        })
        .collect();
    for _ in 0..SWEEPS {
        let mut furthest = 0.0_f32;
        for i in 1..convolutions.len() {
            if let [first, second] = &mut convolutions[i - 1..=i] {
                furthest = furthest.max(equalise_pair(first, second));
            }
        }
        if furthest < SETTLED {
            break;
        }
    }
    net
}

/// Equalises the channels between two convolutions; gives the largest |s - 1|.
fn equalise_pair(first: &mut FoldedConv, second: &mut FoldedConv) -> f32 {
    let mut furthest = 0.0_f32;
    let channels = first.weight.outer_iter_mut().zip(first.bias.iter_mut()).zip(second.weight.axis_iter_mut(Axis(1)));
    for ((mut leaving, bias), mut entering) in channels {
        let largest = |m: f32, w: &f32| m.max(w.abs());
        let (out, into) = (leaving.iter().fold(0.0, largest), entering.iter().fold(0.0, largest));
        let s = (out / into).sqrt();
        // A channel that nothing enters or leaves has no range to equalise.
        if !s.is_normal() {
            continue;
        }
        leaving.mapv_inplace(|w| w / s);
        *bias /= s;
        entering.mapv_inplace(|w| w * s);
        furthest = furthest.max((s - 1.0).abs());
    }
    furthest
}
