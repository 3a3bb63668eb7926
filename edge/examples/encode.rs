//! What `scripts/bench_edge.py` times: an encoder that encodes one picture over and over, and says how long it took.
//!
//! `encode FORM FILE.onnx SIDE CHANNELS DIM`: FORM is `salad` (the int8 form on our own kernels; `SALAD_KERNEL` names one) or
//! `tract` (any form). Each line on standard input is a number of runs; the answer is their times in microseconds. `z` answers
//! with the embedding.

use anyhow::{Context, bail};
use salad_edge::encoder::EncoderPlan;
use salad_shared::manifest::Form;
use salad_shared::preprocess::InputSpec;
use std::io::{BufRead, Write, stdin, stdout};
use std::time::Instant;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [engine, file, side, channels, dim] = arguments.as_slice() else { bail!("FORM FILE.onnx SIDE CHANNELS DIM") };
    let (side, channels): (u32, u32) = (side.parse()?, channels.parse()?);
    let input = InputSpec { width: side, height: side, channels };
    let onnx = std::fs::read(file).with_context(|| file.clone())?;
    let plan = match engine.as_str() {
        "salad" => EncoderPlan::new(&onnx, Form::Int8, input, [1, dim.parse()?])?,
        "tract" => EncoderPlan::with_tract(&onnx, Form::F32, input, [1, dim.parse()?])?,
        other => bail!("{other}: is neither salad nor tract"),
    };
    let mut encoder = plan.encoder()?;
    let picture: Vec<u8> = (0..3 * side * side).map(|i| (i * 7919 % 256) as u8).collect();
    let mut embedding = Vec::new();
    eprintln!("{engine}: {}", plan.engine());
    for line in stdin().lock().lines() {
        let line = line?;
        if line == "z" {
            encoder.encode(&picture, &mut embedding)?;
            println!("{}", embedding.iter().map(f32::to_string).collect::<Vec<_>>().join(" "));
        } else {
            let mut times = Vec::new();
            for _ in 0..line.parse::<u32>()? {
                let start = Instant::now();
                encoder.encode(&picture, &mut embedding)?;
                times.push(start.elapsed().as_secs_f64() * 1e6);
            }
            println!("{}", times.iter().map(f64::to_string).collect::<Vec<_>>().join(" "));
        }
        stdout().flush()?;
    }
    Ok(())
}
