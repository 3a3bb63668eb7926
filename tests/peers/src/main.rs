//! An encoder run by rten, as `edge/examples/encode.rs` runs others: `peers FILE.onnx SIDE CHANNELS`. Each line on standard input
//! is a number of runs; the answer is what each took in microseconds. `z` answers with the embedding. How many threads one frame
//! is shared by is rten's own setting, `RTEN_NUM_THREADS`.

use anyhow::{Context, bail};
use rten::{Model, NodeId, ValueOrView};
use rten_tensor::NdTensor;
use rten_tensor::prelude::*;
use std::io::{Write, stdin, stdout};
use std::time::Instant;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [file, side, channels] = arguments.as_slice() else { bail!("FILE.onnx SIDE CHANNELS") };
    let model = Model::load(std::fs::read(file).with_context(|| file.clone())?)?;
    let (&[input], &[output]) = (model.input_ids(), model.output_ids()) else {
        bail!("{file}: one input and one output")
    };
    let picture = picture(side.parse()?, channels.parse()?);
    for line in stdin().lines() {
        let line = line?;
        let answer: Vec<String> = if line == "z" {
            encode(&model, input, output, &picture)?.iter().map(f32::to_string).collect()
        } else {
            let mut times = Vec::new();
            for _ in 0..line.parse()? {
                let start = Instant::now();
                encode(&model, input, output, &picture)?;
                times.push((start.elapsed().as_secs_f64() * 1e6).to_string());
            }
            times
        };
        println!("{}", answer.join(" "));
        stdout().flush()?;
    }
    Ok(())
}

fn encode(model: &Model, input: NodeId, output: NodeId, picture: &NdTensor<f32, 4>) -> anyhow::Result<Vec<f32>> {
    let inputs = vec![(input, ValueOrView::from(picture.view()))];
    let [embedding] = model.run_n(inputs, [output], None)?;
    let embedding: NdTensor<f32, 2> = embedding.try_into()?;
    Ok(embedding.into_data())
}

/// The picture that `edge/examples/encode.rs` takes, normalised as `shared/src/preprocess.rs` does it.
fn picture(side: usize, channels: usize) -> NdTensor<f32, 4> {
    let byte = |at: usize| ((at as u32).wrapping_mul(7919) % 256) as f32;
    NdTensor::from_fn([1, channels, side, side], |[_, channel, row, column]| {
        let pixel = 3 * (row * side + column);
        let value = match channels {
            1 => 0.299 * byte(pixel) + 0.587 * byte(pixel + 1) + 0.114 * byte(pixel + 2),
            _ => byte(pixel + channel),
        };
        value / 127.5 - 1.0
    })
}
