//! Cross-layer equalisation (Nagel et al. 2019, arXiv 1906.04721, section 4.1): a channel may be divided by s > 0 where
//! it leaves a convolution and multiplied by s where it enters the next, because ReLU, leaky ReLU and max pooling take
//! s x to s f(x). With s chosen so that both weights' ranges become equal, no channel drowns in another's scale.

use crate::folded::{FoldedConv, FoldedLayer, FoldedNet};
use ndarray::Axis;

/// Sweeps over the pairs of layers; each moves a range only to its neighbours, and it settles long before this.
const SWEEPS: usize = 100;

/// Settled: no factor of a sweep further from 1 than this; a range then misses its goal by a few per cent of a step.
const SETTLED: f32 = 1e-2;

/// The same function with equalised weights.
pub(crate) fn equalise(net: &FoldedNet) -> FoldedNet {
    let mut net = net.clone();
    for _ in 0..SWEEPS {
        if net.members.iter_mut().map(|member| sweep(&mut member.layers)).fold(0.0, f32::max) < SETTLED {
            break;
        }
    }
    net
}

/// Equalises each convolution with the one before it; gives the largest |s - 1|. What enters or leaves a residual block
/// has another way round the block's convolutions, or is added to another branch, and keeps its scale.
fn sweep(layers: &mut [FoldedLayer]) -> f32 {
    let mut furthest = 0.0_f32;
    let mut before: Option<&mut FoldedConv> = None;
    for layer in layers {
        match layer {
            FoldedLayer::MaxPool(_) => {}
            FoldedLayer::Conv(conv) => {
                if let Some(before) = before {
                    furthest = furthest.max(equalise_pair(before, conv));
                }
                before = Some(conv);
            }
            FoldedLayer::Residual(residual) => {
                furthest = furthest.max(sweep(&mut residual.body)).max(sweep(&mut residual.shortcut));
                before = None;
            }
        }
    }
    furthest
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::folded::{Activation, FoldedMember, FoldedResidual, MaxPool, Readout};
    use ndarray::{Array1, Array4, ArrayView};
    use salad_shared::preprocess::InputSpec;

    /// Each output channel has a range of its own, a thousandfold apart.
    fn conv(name: &str, out: usize, channels: usize, k: usize, activation: Activation) -> FoldedConv {
        FoldedConv {
            name: name.into(),
            weight: Array4::from_shape_fn((out, channels, k, k), |(o, i, y, x)| {
                let value = ((o * 31 + i * 17 + y * 7 + x * 5) % 23) as f32 - 11.0;
                value * 10.0_f32.powi((o % 4) as i32 - 3)
            }),
            bias: Array1::from_shape_fn(out, |o| o as f32 - 1.0),
            stride: 1,
            padding: usize::from(k == 3),
            activation,
        }
    }

    fn net(layers: Vec<FoldedLayer>, readout: Readout) -> FoldedNet {
        let input = InputSpec { width: 8, height: 8, channels: 3 };
        FoldedNet { input, members: vec![FoldedMember { layers, readout, weight: 1.0 }] }
    }

    /// The net, equalised, after a check that its function has stayed.
    fn equalised(net: &FoldedNet) -> FoldedNet {
        let equalised = equalise(net);
        let images: Vec<f32> = (0..2 * 192).map(|i| ((i * 37 % 101) as f32 - 50.0) / 50.0).collect();
        let difference = net.encode(&images, 2).unwrap() - equalised.encode(&images, 2).unwrap();
        assert!(difference.iter().all(|d| d.abs() < 1e-4), "{difference:?}");
        equalised
    }

    /// Whether what leaves each channel of a convolution has the range with which the next takes it in.
    fn alike(first: &FoldedConv, second: &FoldedConv) -> bool {
        let range = |w: ArrayView<'_, f32, ndarray::Ix3>| w.iter().fold(0.0_f32, |m, w| m.max(w.abs()));
        let into = second.weight.axis_iter(Axis(1)).map(range);
        first.weight.outer_iter().map(range).zip(into).all(|(out, into)| (out / into - 1.0).abs() < 0.05)
    }

    #[test]
    fn ranges_become_equal_and_the_function_stays() {
        let chain = vec![
            FoldedLayer::Conv(conv("a", 8, 3, 3, Activation::Relu)),
            FoldedLayer::MaxPool(MaxPool { name: "pool".into(), size: 2, stride: 2, padding: 0 }),
            FoldedLayer::Conv(conv("b", 8, 8, 3, Activation::LeakyRelu(0.1))),
            FoldedLayer::Conv(conv("c", 5, 8, 4, Activation::Identity)),
        ];
        let equalised = equalised(&net(chain, Readout::Flatten));
        let convolutions: Vec<_> = equalised.convolutions().collect();
        assert!(convolutions.windows(2).all(|pair| alike(pair[0], pair[1])));
    }

    #[test]
    fn branches_are_equalised_within_and_what_is_added_keeps_its_scale() {
        let body = vec![
            FoldedLayer::Conv(conv("body0", 8, 8, 3, Activation::Relu)),
            FoldedLayer::Conv(conv("body1", 8, 8, 3, Activation::Identity)),
        ];
        let shortcut = vec![FoldedLayer::Conv(conv("shortcut", 8, 8, 1, Activation::Identity))];
        for shortcut in [Vec::new(), shortcut] {
            let residual = FoldedResidual { name: "block".into(), body: body.clone(), shortcut };
            let layers = vec![
                FoldedLayer::Conv(conv("stem0", 8, 3, 3, Activation::Relu)),
                FoldedLayer::Conv(conv("stem1", 8, 8, 3, Activation::Relu)),
                FoldedLayer::Residual(residual),
            ];
            let before = net(layers, Readout::Pooled(conv("embed", 5, 8, 1, Activation::Identity)));
            let after = equalised(&before);
            let at = |net: &FoldedNet, name: &str| net.convolutions().find(|c| c.name == name).unwrap().clone();
            for (first, second) in [("stem0", "stem1"), ("body0", "body1")] {
                assert!(!alike(&at(&before, first), &at(&before, second)));
                assert!(alike(&at(&after, first), &at(&after, second)), "{first} {second}");
            }
            assert_eq!(at(&after, "stem1").bias, at(&before, "stem1").bias);
            assert_eq!(at(&after, "body1").bias, at(&before, "body1").bias);
            assert_eq!(at(&after, "embed"), at(&before, "embed"));
        }
    }
}
