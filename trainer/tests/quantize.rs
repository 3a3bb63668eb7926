//! The quantizer and its integer simulation, held against arithmetic done by hand.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod nets;

use ndarray::{Array1, Array4, array};
use salad_shared::preprocess::InputSpec;
use salad_trainer::folded::{Activation, FoldedConv, FoldedLayer, FoldedMember, FoldedNet, Readout};
use salad_trainer::quantize::{
    Calibration, QuantizeError, QuantizeOptions, QuantizedConv, QuantizedLayer, QuantizedMember, QuantizedNet,
    QuantizedResidual, WeightScales, quantize, quantize_best,
};

/// A 1x1 convolution over one pixel: every sum can be followed by hand.
fn pixel_net(weights: &[i8], bias: &[i32], activation: Activation) -> QuantizedNet {
    let conv = |name: &str, weight: Array4<i8>, bias: Array1<i32>, activation, input_scale, output_scale| {
        let (weight_scales, stride, padding) = (vec![0.5], 1, 0);
        QuantizedLayer::Conv(QuantizedConv {
            name: name.into(),
            weight,
            weight_scales,
            bias,
            stride,
            padding,
            activation,
            input_scale,
            output_scale,
        })
    };
    let d = weights.len();
    let weight = Array4::from_shape_vec((d, 1, 1, 1), weights.to_vec()).unwrap();
    let identity = Array4::from_shape_fn((d, d, 1, 1), |(o, i, ..)| if o == i { 2 } else { 0 });
    QuantizedNet {
        input: InputSpec { width: 1, height: 1, channels: 1 },
        input_scale: 0.25,
        embedding_dim: d,
        // 0.25 * 0.5 / 0.25: the multiplier is a half, so that odd sums are ties; then 0.25 * 0.5 / 0.25 * 2 is 1.
        members: vec![QuantizedMember {
            layers: vec![
                conv("first", weight, Array1::from(bias.to_vec()), activation, 0.25, 0.25),
                conv("last", identity, Array1::zeros(d), Activation::Identity, 0.25, 0.25),
            ],
            output_scale: 0.25,
            readout: Readout::Flatten,
            weight: 1.0,
        }],
        options: QuantizeOptions::default(),
    }
}

/// The last layer's integers, up to the unit length, scaled so that the first is `first`.
fn integers(net: &QuantizedNet, pixel: f32, first: f32) -> Vec<f32> {
    let z = net.encode(&[pixel], 1).unwrap();
    z.iter().map(|v| (v / z[[0, 0]] * first * 1000.0).round() / 1000.0).collect()
}

#[test]
fn sums_are_rounded_half_to_even() {
    // The pixel 1.0 is 4 steps; sums 4 w + b = 10, 1, 3, 5, -1, -3, -5: halves 5, 0.5, 1.5, 2.5, -0.5, -1.5, -2.5.
    let net = pixel_net(&[2, 0, 1, 1, 0, -1, -1], &[2, 1, -1, 1, -1, 1, -1], Activation::Identity);
    assert_eq!(integers(&net, 1.0, 5.0), [5.0, 0.0, 2.0, 2.0, 0.0, -2.0, -2.0]);
}

#[test]
fn results_saturate_at_int8() {
    let net = pixel_net(&[2, 127, -127, 0, 0], &[2, 0, 0, 1 << 30, -(1 << 30)], Activation::Identity);
    assert_eq!(integers(&net, 1.0, 5.0), [5.0, 127.0, -128.0, 127.0, -128.0]);
    // And so does the image: 100 is 400 steps, held at 127, so 254 / 2.
    assert_eq!(integers(&pixel_net(&[1, 2], &[-117, 0], Activation::Identity), 100.0, 5.0), [5.0, 127.0]);
}

#[test]
fn activations_work_on_the_rounded_integers() {
    let net = pixel_net(&[2, -10, 10], &[2, 0, 0], Activation::Relu);
    assert_eq!(integers(&net, 1.0, 5.0), [5.0, 0.0, 20.0]);
    // -20 and -127 times 0.1 are -2 and -12.7.
    let net = pixel_net(&[2, -10, 10, -63], &[2, 0, 0, -2], Activation::LeakyRelu(0.1));
    assert_eq!(integers(&net, 1.0, 5.0), [5.0, -2.0, 20.0, -13.0]);
}

#[test]
fn a_residual_block_adds_in_floats_and_rounds_once() {
    // The branches' scales are 0.25 and, the input's, 0.25; the sum's is 0.5: half the sum of integers, half to even.
    let mut net = pixel_net(&[2, 1, 3, -5, -1, 127], &[2, -1, 2, 0, 0, 0], Activation::Identity);
    let last = net.members[0].layers.pop().unwrap();
    let Some(QuantizedLayer::Conv(first)) = net.members[0].layers.pop() else { panic!() };
    let mut identity = first.clone();
    identity.name = "identity".into();
    let d = identity.bias.len();
    identity.weight = Array4::from_shape_fn((d, d, 1, 1), |(o, i, ..)| if o == i { 2 } else { 0 });
    identity.bias.fill(0);
    let body = vec![QuantizedLayer::Conv(identity)];
    let block = |body, shortcut| {
        QuantizedLayer::Residual(QuantizedResidual {
            name: "block".into(),
            body,
            shortcut,
            body_scale: 0.25,
            shortcut_scale: 0.25,
            output_scale: 0.5,
        })
    };
    // Integers 5, 2, 7, -10, -2, 127 (254 saturates) and the same again make those sums; ReLU drops what is negative.
    net.members[0].layers = vec![QuantizedLayer::Conv(first), block(body.clone(), Vec::new()), last.clone()];
    assert_eq!(integers(&net, 1.0, 5.0), [5.0, 2.0, 7.0, 0.0, 0.0, 127.0]);
    // With a branch of another scale: 5 and 2.5 steps of a half are 7.5, a tie; 2 and 1; 7 and 3.5.
    let QuantizedLayer::Residual(mut uneven) = block(body, Vec::new()) else { panic!() };
    (uneven.body_scale, uneven.output_scale) = (0.125, 0.25);
    net.members[0].layers = vec![net.members[0].layers[0].clone(), QuantizedLayer::Residual(uneven), last];
    assert_eq!(integers(&net, 1.0, 8.0), [8.0, 3.0, 10.0, 0.0, 0.0, 127.0]);
}

#[test]
fn wide_convolutions_are_exact() {
    // 4096 inputs of 127 * 127: far beyond the integers f32 holds; the last product shows only if none is lost.
    let channels = 4096;
    let weight = Array4::from_shape_fn((3, channels, 1, 1), |(o, i, ..)| match (o, i) {
        (0, _) => 127,
        (_, 0) => o as i8,
        _ => 127 * if i % 2 == 0 { 1 } else { -1 },
    });
    // Channel 1 and 2 add up to o + one unpaired -127; the bias takes away what is large.
    let bias = array![-(127 * 127 * channels as i32) + 300, 127 * 127 + 10, 127 * 127 + 10];
    let conv = QuantizedConv {
        name: "wide".into(),
        weight,
        weight_scales: vec![1.0],
        bias,
        stride: 1,
        padding: 0,
        activation: Activation::Identity,
        input_scale: 1.0,
        output_scale: 4.0,
    };
    let (layers, readout) = (vec![QuantizedLayer::Conv(conv)], Readout::Flatten);
    let net = QuantizedNet {
        input: InputSpec { width: 1, height: 1, channels: channels as u32 },
        input_scale: 1.0,
        embedding_dim: 3,
        members: vec![QuantizedMember { layers, output_scale: 4.0, readout, weight: 1.0 }],
        options: QuantizeOptions::default(),
    };
    let z = net.encode(&vec![127.0; channels], 1).unwrap();
    let relative: Vec<f32> = z.iter().map(|v| (v / z[[0, 0]] * 75.0).round()).collect();
    // 300 / 4; (127 + 10) / 4 = 34.25; (254 + 10) / 4 = 66.
    assert_eq!(relative, [75.0, 34.0, 66.0]);
}

#[test]
fn a_convolution_by_hand_becomes_its_integers() {
    let conv = FoldedConv {
        name: "only".into(),
        weight: Array4::from_shape_vec((2, 1, 2, 2), vec![1.27, 0.5, -0.25, 0.0, 0.1, -1.27, 0.3, 0.02]).unwrap(),
        bias: array![0.1, -0.2],
        stride: 1,
        padding: 0,
        activation: Activation::Identity,
    };
    let (layers, readout) = (vec![FoldedLayer::Conv(conv.clone())], Readout::Flatten);
    let net = FoldedNet {
        input: InputSpec { width: 2, height: 2, channels: 1 },
        members: vec![FoldedMember { layers, readout, weight: 1.0 }],
    };
    let images = [vec![1.0, -1.0, 0.5, 0.0], vec![-0.5, 1.0, 1.0, -1.0]];
    let options = QuantizeOptions { calibration: Calibration::MinMax, bias_correction: false, ..Default::default() };
    let quantized = quantize(&net, &images, &options).unwrap();
    let result = quantized.convolutions().next().unwrap();
    assert_eq!(quantized.input_scale, 1.0 / 127.0);
    // Outputs: 1.27 - 0.5 - 0.125 + 0.1 = 0.745; 0.1 + 1.27 + 0.15 - 0.2 = 1.32; -0.635 + 0.5 - 0.25 + 0.1 = -0.285;
    // -0.05 - 1.27 + 0.3 - 0.02 - 0.2 = -1.24.
    assert!((result.output_scale / (1.32 / 127.0) - 1.0).abs() < 0.02);
    let scale = result.weight_scales[0];
    assert!((scale / 0.01 - 1.0).abs() < 0.06, "{scale}");
    for (q, w) in result.weight.iter().zip(&conv.weight) {
        assert_eq!(f32::from(*q), (w / scale).round().clamp(-127.0, 127.0));
    }
    for (q, b) in result.bias.iter().zip(&conv.bias) {
        assert_eq!(*q, (b / (scale / 127.0)).round() as i32);
    }
    let expected = net.encode(&images.concat(), 2).unwrap();
    let norm = (0.745_f32.powi(2) + 1.32_f32.powi(2)).sqrt();
    assert!((expected[[0, 0]] - 0.745 / norm).abs() < 1e-6 && (expected[[0, 1]] - 1.32 / norm).abs() < 1e-6);
    let cosines = nets::cosines(&quantized.encode(&images.concat(), 2).unwrap(), &expected);
    assert!(nets::smallest(&cosines) > 0.9999, "{cosines:?}");
}

#[test]
fn int8_follows_f32() {
    let mut gained_by_channels = 0.0;
    for net in [
        nets::edge(64, &[8, 16, 32, 64], 64, 11),
        nets::unet(64, &[8, 16, 32, 48, 64], 64, 12),
        nets::resnet(64, &[8, 16, 32], 64, 13),
    ] {
        let (calibration, held_out) = (nets::images(&net, 64, 1), nets::images(&net, 8, 2).concat());
        let expected = net.encode(&held_out, 8).unwrap();
        let cosine = |options| {
            let embeddings = quantize(&net, &calibration, &options).unwrap().encode(&held_out, 8).unwrap();
            nets::cosines(&embeddings, &expected)
        };
        let mean = |options| cosine(options).iter().sum::<f32>() / 8.0;
        let best = QuantizeOptions::default();
        assert!(nets::smallest(&cosine(best)) > 0.995, "{:?}", cosine(best));
        // Each part earns its place.
        let plain =
            QuantizeOptions { calibration: Calibration::MinMax, equalise: false, bias_correction: false, ..best };
        assert!(mean(best) > mean(plain));
        assert!(mean(best) > mean(QuantizeOptions { calibration: Calibration::Percentile(99.0), ..best }));
        let coarse = QuantizeOptions { weight_scales: WeightScales::PerTensor, ..plain };
        gained_by_channels += mean(plain) - mean(coarse);
    }
    // A scale a channel is better in two networks; in the residual one both are alike, to 2e-5.
    assert!(gained_by_channels > 5e-4, "{gained_by_channels}");
}

#[test]
fn the_best_of_the_tries_is_kept() {
    let net = nets::edge(32, &[8, 16, 24], 16, 21);
    let (calibration, validation) = (nets::images(&net, 16, 1), nets::images(&net, 8, 2));
    let choice = quantize_best(&net, &calibration, &validation, WeightScales::PerTensor).unwrap();
    let best = choice.tried.iter().map(|(_, cosine)| *cosine).fold(0.0, f32::max);
    assert!(choice.tried.contains(&(choice.net.options, best)));
    assert!(choice.tried.iter().any(|(options, _)| !options.bias_correction));
    let embeddings = choice.net.encode(&validation.concat(), 8).unwrap();
    let cosines = nets::cosines(&embeddings, &net.encode(&validation.concat(), 8).unwrap());
    assert!((cosines.iter().sum::<f32>() / 8.0 - best).abs() < 1e-5);
}

#[test]
fn batches_change_nothing() {
    // A batch holds 64 images of this size.
    let net = nets::edge(32, &[4, 8], 8, 31);
    let images = nets::images(&net, 70, 1);
    let quantized = quantize(&net, &images[..8], &QuantizeOptions::default()).unwrap();
    let together = (net.encode(&images.concat(), 70).unwrap(), quantized.encode(&images.concat(), 70).unwrap());
    for i in [0, 63, 64, 69] {
        assert!((&net.encode(&images[i], 1).unwrap().row(0) - &together.0.row(i)).iter().all(|d| d.abs() < 1e-5));
        assert_eq!(quantized.encode(&images[i], 1).unwrap().row(0), together.1.row(i));
    }
    assert_eq!(net.encode(&[], 0).unwrap().dim(), (0, 8));
}

#[test]
fn what_cannot_be_quantized_is_refused() {
    let net = nets::edge(32, &[4, 8], 8, 41);
    let images = nets::images(&net, 2, 1);
    let refused = |net: &FoldedNet, images: &[Vec<f32>], calibration| {
        let options = QuantizeOptions { calibration, ..Default::default() };
        quantize(net, images, &options).unwrap_err().to_string()
    };
    assert!(refused(&net, &[], Calibration::MinMax).contains("no calibration images"));
    assert!(refused(&net, &images, Calibration::Percentile(120.0)).contains("percentile = 120"));
    assert!(
        refused(&net, &[vec![0.0; 5]], Calibration::MinMax).contains("5 values do not make 1 images of 3 x 32 x 32")
    );
    let mut diverged = net.clone();
    if let FoldedLayer::Conv(conv) = &mut diverged.members[0].layers[0] {
        conv.weight[[0, 0, 0, 0]] = f32::NAN;
    }
    assert!(refused(&diverged, &images, Calibration::MinMax).contains("\"conv0\" has values that are not finite"));
    let mut twice = net.clone();
    twice.members[0].layers.insert(1, net.members[0].layers[0].clone());
    assert!(matches!(quantize(&twice, &images, &QuantizeOptions::default()), Err(QuantizeError::Forward(_))));
    let mut uneven = nets::resnet(32, &[4, 8], 8, 42);
    if let FoldedLayer::Residual(residual) = &mut uneven.members[0].layers[4] {
        residual.shortcut.clear();
    }
    let error = uneven.check().unwrap_err().to_string();
    assert!(error.contains("\"block4\": adds a body of 8 x 2 x 2 to a shortcut of 4 x 4 x 4"), "{error}");
    let mut places = nets::joined([net.clone(), nets::resnet(32, &[4, 8], 8, 43), net.clone()]);
    places.check().unwrap();
    for what in ["gives 1 x 1 places, not 1 x 2", "gives another number of vectors"] {
        places.members[2].readout = Readout::Places { rows: 1, columns: 2 };
        let error = places.check().unwrap_err().to_string();
        assert!(error.contains(&format!("\"member3.conv3\": {what}")), "{error}");
        if let Some(FoldedLayer::Conv(last)) = places.members[2].layers.last_mut() {
            last.weight = Array4::zeros((8, 8, 8, 7));
        }
    }
    let mut cut = net.clone();
    cut.members[0].layers.pop();
    assert!(cut.encode(&images.concat(), 2).unwrap_err().to_string().contains("the last layer"));
}
