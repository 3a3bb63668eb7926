//! Where a depthwise convolution pays: a 3 x 3 for each channel and a 1 x 1 after it, beside one dense 3 x 3 of the same
//! widths, at the shapes that `edge` has at 128 pixels. `SALAD_KERNEL` names the kernel.
//!
//! Each is timed in a network that only makes its input and reads one pixel of its result; what that network takes without
//! it is taken away. All three run in turns, and medians are compared.

use anyhow::Context;
use salad_edge::encoder::{Encoder, EncoderPlan};
use salad_shared::manifest::Form;
use salad_shared::preprocess::InputSpec;
use std::time::Instant;
use support::ints;
use support::quantized::Graph;

#[path = "../tests/support/mod.rs"]
#[allow(clippy::unwrap_used, reason = "written for tests")]
mod support;

/// Both sides of the result in pixels, channels before and after, stride.
const SHAPES: [[i64; 4]; 9] = [
    [64, 16, 16, 1],
    [32, 16, 32, 2],
    [32, 32, 32, 1],
    [16, 32, 64, 2],
    [16, 64, 64, 1],
    [8, 64, 128, 2],
    [8, 128, 128, 1],
    [4, 128, 192, 2],
    [4, 192, 192, 1],
];
/// Frames of each.
const FRAMES: usize = 400;

fn main() -> anyhow::Result<()> {
    println!("result           stride   dense, us   depthwise + 1 x 1, us   ratio");
    for shape in SHAPES {
        let [side, _, out, stride] = shape;
        let mut encoders = [Layers::None, Layers::Dense, Layers::Depthwise].map(|layers| encoder(shape, layers));
        let picture: Vec<u8> = (0..3 * (side * stride).pow(2)).map(|i| (i * 7919 % 256) as u8).collect();
        let mut times = [const { Vec::new() }; 3];
        let mut embeddings = Vec::new();
        for _ in 0..FRAMES {
            for (encoder, times) in encoders.iter_mut().zip(&mut times) {
                let encoder = encoder.as_mut().map_err(|e| anyhow::anyhow!("{e:#}"))?;
                let start = Instant::now();
                encoder.encode(&picture, &mut embeddings)?;
                times.push(start.elapsed().as_secs_f64() * 1e6);
            }
        }
        let [nothing, dense, depthwise] = times.map(|mut times| {
            times.sort_by(f64::total_cmp);
            times[FRAMES / 2]
        });
        let (dense, depthwise) = (dense - nothing, depthwise - nothing);
        let map = format!("{side} x {side} x {out}");
        println!("{map:16} {stride:6}   {dense:9.1}   {depthwise:21.1}   {:5.2}", depthwise / dense);
    }
    Ok(())
}

#[derive(Clone, Copy)]
enum Layers {
    None,
    Dense,
    Depthwise,
}

fn encoder([side, channels, out, stride]: [i64; 4], layers: Layers) -> anyhow::Result<Encoder> {
    let mut graph = Graph::new(1);
    graph.side = side * stride;
    graph.conv(["q", "image_step", "middle"], ("before", "zero"), [channels, 3, 1, 1]);
    let before = ["before", "step", "zero"];
    let (last, dim) = match layers {
        Layers::None => ("before", channels),
        Layers::Dense => {
            graph.conv(before, ("after", "zero"), [out, channels, 3, stride]);
            ("after", out)
        }
        Layers::Depthwise => {
            graph.depthwise(before, ("each", "zero"), [channels, 3, stride]);
            graph.conv(["each", "step", "zero"], ("after", "zero"), [out, channels, 1, 1]);
            ("after", out)
        }
    };
    graph.node("MaxPool", &[last], "pixel", vec![ints("kernel_shape", &[1, 1]), ints("strides", &[64, 64])]);
    graph.node("DequantizeLinear", &["pixel", "step", "zero"], "map", vec![]);
    let (pixels, shape) = (graph.side as u32, [1, dim]);
    graph.read_out("map", "embedding", false);
    let onnx = graph.finish(shape, 3);
    let input = InputSpec { width: pixels, height: pixels, channels: 3 };
    let plan = EncoderPlan::new(&onnx, Form::Int8, input, [1, dim as usize])?;
    (plan.engine() != "tract").then_some(()).context("left to tract")?;
    Ok(plan.encoder()?)
}
