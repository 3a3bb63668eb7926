//! The data of TensorBoard's embedding projector: embeddings, what each is, and a small picture of each.

use crate::finished::Finished;
use crate::png::{grid, png};
use crate::tensorboard::FOLDER;
use crate::train::TrainError;
use ndarray::ArrayView1;
use salad_shared::atomic;
use salad_shared::preprocess::Frame;
use std::io::{self, Write};
use std::path::Path;

/// Embeddings shown at most, spread evenly over all: a browser has to turn them.
const POINTS: usize = 3000;
/// Side of a picture, pixels. The sheet of them stays below the 8192 pixels that browsers take.
const SIDE: u32 = 64;

/// An image as the projector shows it.
struct Point<'a> {
    embedding: ArrayView1<'a, f32>,
    frame: &'a Frame,
    name: &'a str,
    set: &'static str,
    kind: &'a str,
    score: Option<f32>,
}

/// Writes `tensors.tsv`, `metadata.tsv`, `sprite.png` and `projector_config.pbtxt` under a run's TensorBoard folder: the
/// training, validation and test images of a finished run, their embeddings by the f32 encoder.
pub fn write(finished: &Finished, run: &Path) -> Result<(), TrainError> {
    let points = points(finished);
    let board = run.join(FOLDER);
    let folder = board.join("projector");
    let put = |path: &Path, fill: &dyn Fn(&mut dyn Write) -> io::Result<()>| {
        atomic::write_with(path, fill).map_err(|source| TrainError::Io { path: path.to_owned(), source })
    };
    std::fs::create_dir_all(&folder).map_err(|source| TrainError::Io { path: folder.clone(), source })?;
    put(&folder.join("tensors.tsv"), &|out| points.iter().try_for_each(|p| line(out, &p.embedding)))?;
    put(&folder.join("metadata.tsv"), &|out| {
        writeln!(out, "name\tset\tkind\tscore")?;
        points.iter().try_for_each(|p| {
            let score = p.score.map(|s| s.to_string()).unwrap_or_default();
            writeln!(out, "{}\t{}\t{}\t{score}", one_line(p.name), p.set, one_line(p.kind))
        })
    })?;
    let pictures: Vec<Frame> = points.iter().map(|p| p.frame.resized(SIDE, SIDE)).collect();
    if let Some(sheet) = grid(&pictures, (points.len() as f64).sqrt().ceil() as usize) {
        put(&folder.join("sprite.png"), &|out| out.write_all(&png(&sheet)))?;
    }
    put(&board.join("projector_config.pbtxt"), &|out| {
        writeln!(
            out,
            "embeddings {{\n  tensor_name: \"embeddings\"\n  tensor_path: \"projector/tensors.tsv\"\n  metadata_path: \
             \"projector/metadata.tsv\"\n  sprite {{\n    image_path: \"projector/sprite.png\"\n    single_image_dim: \
             {SIDE}\n    single_image_dim: {SIDE}\n  }}\n}}"
        )
    })
}

fn points<'a>(finished: &'a Finished) -> Vec<Point<'a>> {
    let images = &finished.trained.images;
    let train = images.train.items.iter().zip(images.train.frames.iter());
    let train = train.zip(finished.train_rows.rows()).map(|((item, frame), embedding)| Point {
        embedding,
        frame,
        name: &item.name,
        set: "train",
        kind: "normal",
        score: None,
    });
    let frames = images.validation.frames.iter().chain(images.test.frames.iter());
    let judged = finished.scored.iter().zip(frames).zip(finished.judged_rows.rows());
    let judged = judged.map(|((scored, frame), embedding)| Point {
        embedding,
        frame,
        name: &scored.name,
        set: scored.split,
        kind: if scored.kind.is_empty() { "normal" } else { &scored.kind },
        score: Some(scored.f32),
    });
    let all: Vec<Point<'a>> = train.chain(judged).collect();
    let step = all.len().div_ceil(POINTS).max(1);
    all.into_iter().step_by(step).collect()
}

fn line(out: &mut dyn Write, embedding: &ArrayView1<'_, f32>) -> io::Result<()> {
    let values: Vec<String> = embedding.iter().map(f32::to_string).collect();
    writeln!(out, "{}", values.join("\t"))
}

/// A name without what would break a line of a table.
fn one_line(name: &str) -> String {
    name.replace(['\t', '\n', '\r'], " ")
}
