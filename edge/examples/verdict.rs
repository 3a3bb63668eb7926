//! What `scripts/count_edge.py` counts the instructions of besides the encoder: a picture's way to the verdict.
//!
//! `verdict END BUNDLE PICTURE`, on the bundle's int8 form: END is where a frame ends, `decode` (the JPEG alone), `resize` (to
//! the input's size) or `frame` (all of it). Each line on standard input is a number of frames; the answer is the last one's
//! score, or how large it is decoded.

use anyhow::{Context, bail};
use salad_edge::decision::{Decision, DecisionParams};
use salad_edge::model::{FormChoice, Model};
use salad_shared::bundle::Bundle;
use salad_shared::preprocess::Preprocessor;
use std::hint::black_box;
use std::io::{BufRead, Write, stdin, stdout};
use std::path::Path;
use std::time::Duration;

const ENDS: [&str; 3] = ["decode", "resize", "frame"];

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [end, bundle, picture] = arguments.as_slice() else { bail!("END BUNDLE PICTURE") };
    if !ENDS.contains(&end.as_str()) {
        bail!("{end}: is none of {ENDS:?}");
    }
    let jpeg = std::fs::read(picture).with_context(|| picture.clone())?;
    let model = Model::load(&Bundle::read(Path::new(bundle))?, FormChoice::Int8)?;
    let mut scorer = model.scorer()?;
    let mut decoder = scorer.decoder();
    let mut preprocessor = Preprocessor::new(model.manifest.input.clone());
    let mut decision = Decision::new(DecisionParams {
        threshold: model.threshold,
        release_threshold: model.threshold,
        window_frames: 5,
        trigger_frames: 3,
        cooldown: Duration::ZERO,
        update_interval: Duration::MAX,
        max_gap: Duration::MAX,
    });
    eprintln!("{end}: {}", model.engine());
    let mut frames = 0;
    for line in stdin().lock().lines() {
        let mut answer = String::new();
        for _ in 0..line?.parse()? {
            let frame = decoder.decode(&jpeg)?.frame;
            answer = format!("{} x {}", frame.width(), frame.height());
            match end.as_str() {
                "resize" => drop(black_box(preprocessor.resized(&frame))),
                "frame" => {
                    let score = scorer.score(&frame)?.score;
                    decision.step(score, Duration::from_millis(frames));
                    frames += 1;
                    answer = score.to_string();
                }
                _ => {}
            }
        }
        println!("{answer}");
        stdout().flush()?;
    }
    Ok(())
}
