//! What `scripts/bench_edge.py` times and `scripts/count_edge.py` counts the instructions of: an encoder that encodes one picture
//! over and over, and says how long it took.
//!
//! `encode ENGINE FILE.onnx SIDE CHANNELS DIM THREADS`: ENGINE is `salad` (the int8 form on our own kernels; `SALAD_KERNEL`
//! names one) or `tract` (any form). Each line on standard input is a number of runs; the answer is what a frame took in
//! microseconds: each of them, or, with several threads that encode side by side, their mean. `z` answers with the embedding.
//!
//! `encode kernels` prints the names of the kernels that this processor has, the fastest first.

use anyhow::{Context, bail};
use salad_edge::encoder::{Encoder, EncoderError, EncoderPlan, kernels};
use salad_shared::manifest::Form;
use salad_shared::preprocess::InputSpec;
use std::io::{BufRead, Write, stdin, stdout};
use std::time::Instant;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments == ["kernels"] {
        kernels().for_each(|name| println!("{name}"));
        return Ok(());
    }
    let [engine, file, side, channels, dim, threads] = arguments.as_slice() else {
        bail!("ENGINE FILE.onnx SIDE CHANNELS DIM THREADS")
    };
    let (side, channels): (u32, u32) = (side.parse()?, channels.parse()?);
    let input = InputSpec { width: side, height: side, channels };
    let onnx = std::fs::read(file).with_context(|| file.clone())?;
    let plan = match engine.as_str() {
        "salad" => EncoderPlan::new(&onnx, Form::Int8, input, [1, dim.parse()?])?,
        "tract" => EncoderPlan::with_tract(&onnx, Form::F32, input, [1, dim.parse()?])?,
        other => bail!("{other}: is neither salad nor tract"),
    };
    let mut encoders = (0..threads.parse()?).map(|_| plan.encoder()).collect::<Result<Vec<_>, _>>()?;
    let picture: Vec<u8> = (0..3 * side * side).map(|i| (i.wrapping_mul(7919) % 256) as u8).collect();
    eprintln!("{engine}: {}", plan.engine());
    for line in stdin().lock().lines() {
        let line = line?;
        let answer: Vec<String> = if line == "z" {
            let mut embedding = Vec::new();
            encoders[0].encode(&picture, &mut embedding)?;
            embedding.iter().map(f32::to_string).collect()
        } else {
            times(&mut encoders, &picture, line.parse()?)?.iter().map(f64::to_string).collect()
        };
        println!("{}", answer.join(" "));
        stdout().flush()?;
    }
    Ok(())
}

fn times(encoders: &mut [Encoder], picture: &[u8], frames: usize) -> anyhow::Result<Vec<f64>> {
    let run = |encoder: &mut Encoder| {
        let mut embedding = Vec::new();
        let frame = |_| {
            let start = Instant::now();
            encoder.encode(picture, &mut embedding)?;
            Ok(start.elapsed().as_secs_f64() * 1e6)
        };
        (0..frames).map(frame).collect::<Result<Vec<f64>, EncoderError>>()
    };
    if let [encoder] = encoders {
        return Ok(run(encoder)?);
    }
    let start = Instant::now();
    let count = encoders.len() * frames;
    std::thread::scope(|scope| {
        let threads: Vec<_> = encoders.iter_mut().map(|encoder| scope.spawn(|| run(encoder))).collect();
        threads.into_iter().try_for_each(|thread| match thread.join() {
            Ok(result) => result.map(|_| ()).map_err(anyhow::Error::from),
            Err(_) => bail!("a thread ended"),
        })
    })?;
    Ok(vec![start.elapsed().as_secs_f64() * 1e6 / count as f64])
}
