//! The demo's pictures: a fixed camera over a conveyor, rendered, in the layout of a benchmark and as a stream.
//!
//! Parts stand below the camera, never quite in the same place; the belt runs on, the light drifts, the sensor is noisy.
//! None of it needs a file or a network, and one seed always gives the same bytes.

mod background;
mod camera;
mod canvas;
mod defect;
mod line;
mod part;

pub use defect::DefectKind;

use line::Shot;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use salad_shared::preprocess::{Frame, FrameError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// Frames a second of the stream.
pub const FPS: u32 = 10;

/// A pixel belongs to a defect's mask when it changes one of its colours by at least this many of 255 levels.
pub const MASK_LEVELS: u8 = 3;

/// What to render.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The one seed.
    pub seed: u64,
    /// Pixels a row, 64 to 1920; the height is three quarters of it.
    pub width: u32,
    /// Normal pictures to train on.
    pub train: usize,
    /// Normal pictures to test with.
    pub test_good: usize,
    /// Pictures to test with of each kind of defect.
    pub test_defects: usize,
    /// Frames of the stream.
    pub stream: usize,
}

impl Default for Options {
    fn default() -> Self {
        Options { seed: 1, width: 320, train: 320, test_good: 60, test_defects: 20, stream: 600 }
    }
}

/// A stretch of the stream with a defective part in place, both ends included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incident {
    /// Its first frame, from 0.
    pub first_frame: usize,
    /// Its last frame.
    pub last_frame: usize,
    /// What is wrong.
    pub kind: DefectKind,
}

/// Why the scene cannot be rendered.
#[derive(Debug, thiserror::Error)]
pub enum SceneError {
    /// An option is out of its range.
    #[error("{0}")]
    Options(String),
    /// The folder is there already.
    #[error("{}: exists and is not empty; remove it or name another folder", .0.display())]
    Exists(PathBuf),
    /// A file cannot be written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The operating system's words.
        source: io::Error,
    },
    /// The renderer made no valid picture.
    #[error("rendering: {0}")]
    Frame(#[from] FrameError),
    /// A mask cannot be encoded.
    #[error("encoding a mask: {0}")]
    Mask(#[from] image::ImageError),
}

/// Renders into `out`, which appears when all of it is complete; the stream's incidents come back.
///
/// Below `out`: `train/good`, `test/good`, `test/<kind>` and `ground_truth/<kind>` (PNG, 255 where the defect changes the
/// picture) as in MVTec's data sets, `stream/NNNNNN.jpg` at [`FPS`], and `stream/truth.csv` with the incidents.
pub fn render(out: &Path, options: &Options) -> Result<Vec<Incident>, SceneError> {
    options.check()?;
    if out.read_dir().is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(SceneError::Exists(out.into()));
    }
    let parent = match out.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    std::fs::create_dir_all(parent).map_err(failed(parent))?;
    let unfinished = tempfile::Builder::new().prefix(".scene-").tempdir_in(parent).map_err(failed(parent))?;
    let (pictures, incidents) = plan(options);
    let folders = pictures.iter().flat_map(|p| [Some(&p.path), p.mask.as_ref()]).flatten().filter_map(|p| p.parent());
    for folder in folders.collect::<std::collections::BTreeSet<_>>() {
        let folder = unfinished.path().join(folder);
        std::fs::create_dir_all(&folder).map_err(failed(&folder))?;
    }
    let machine = background::machine(options.width, options.height());
    in_parallel(&pictures, |picture| picture.write(unfinished.path(), &machine))?;
    if options.stream > 0 {
        save(&unfinished.path().join("stream/truth.csv"), truth_csv(&incidents).as_bytes())?;
    }
    // An empty folder may stand there: rename replaces it.
    std::fs::rename(unfinished.path(), out).map_err(failed(out))?;
    let _moved_away = unfinished.keep();
    Ok(incidents)
}

impl Options {
    fn check(&self) -> Result<(), SceneError> {
        if !(64..=1920).contains(&self.width) {
            return Err(SceneError::Options(format!("width = {}: has to be from 64 to 1920", self.width)));
        }
        for (name, count) in [
            ("train", self.train),
            ("test_good", self.test_good),
            ("test_defects", self.test_defects),
            ("stream", self.stream),
        ] {
            if count > 100_000 {
                return Err(SceneError::Options(format!("{name} = {count}: at most 100000 pictures")));
            }
        }
        Ok(())
    }

    fn height(&self) -> u32 {
        self.width * 3 / 4
    }
}

/// A picture to be rendered, with where it goes.
struct Picture {
    path: PathBuf,
    mask: Option<PathBuf>,
    shot: Shot,
}

impl Picture {
    fn write(&self, root: &Path, machine: &canvas::Canvas) -> Result<(), SceneError> {
        let canvas = self.shot.paint(machine);
        save(&root.join(&self.path), &camera::shoot(&canvas, self.shot.noise_seed)?.to_jpeg(camera::JPEG_QUALITY))?;
        if let Some(mask) = &self.mask {
            let clean = self.shot.without_defect().paint(machine);
            let mask_pixels = difference_mask(&camera::develop(&canvas)?, &camera::develop(&clean)?);
            let mut png = io::Cursor::new(Vec::new());
            let encoder = image::codecs::png::PngEncoder::new(&mut png);
            let (width, height) = (canvas.width(), canvas.height());
            image::ImageEncoder::write_image(encoder, &mask_pixels, width, height, image::ExtendedColorType::L8)?;
            save(&root.join(mask), &png.into_inner())?;
        }
        Ok(())
    }
}

/// Every picture of the data set and of the stream, each with random numbers of its own.
fn plan(options: &Options) -> (Vec<Picture>, Vec<Incident>) {
    let rng = |part: u64, index: usize| {
        let mut rng = ChaCha8Rng::seed_from_u64(options.seed);
        rng.set_stream((part << 32) | index as u64);
        rng
    };
    let mut pictures = Vec::new();
    for (part, folder, count) in [(1, "train/good", options.train), (2, "test/good", options.test_good)] {
        pictures.extend((0..count).map(|i| Picture {
            path: format!("{folder}/{i:03}.jpg").into(),
            mask: None,
            shot: Shot::good(&mut rng(part, i)),
        }));
    }
    for (part, kind) in (3..).zip(DefectKind::ALL) {
        let name = kind.name();
        pictures.extend((0..options.test_defects).map(|i| Picture {
            path: format!("test/{name}/{i:03}.jpg").into(),
            mask: Some(format!("ground_truth/{name}/{i:03}_mask.png").into()),
            shot: Shot::defective(kind, &mut rng(part, i)),
        }));
    }
    let (shots, incidents) = line::stream(options.stream, &mut rng(0, 0));
    pictures.extend(shots.into_iter().enumerate().map(|(i, shot)| Picture {
        path: format!("stream/{i:06}.jpg").into(),
        mask: None,
        shot,
    }));
    (pictures, incidents)
}

/// 255 where one of the colours differs by [`MASK_LEVELS`] or more, else 0; one byte a pixel.
fn difference_mask(a: &Frame, b: &Frame) -> Vec<u8> {
    let differs = |(p, q): (&[u8], &[u8])| p.iter().zip(q).any(|(x, y)| x.abs_diff(*y) >= MASK_LEVELS);
    a.rgb().chunks_exact(3).zip(b.rgb().chunks_exact(3)).map(|pair| if differs(pair) { 255 } else { 0 }).collect()
}

fn truth_csv(incidents: &[Incident]) -> String {
    let row = |i: &Incident| format!("{},{},{}\n", i.first_frame, i.last_frame, i.kind.name());
    "first_frame,last_frame,kind\n".to_owned() + &incidents.iter().map(row).collect::<String>()
}

fn save(path: &Path, bytes: &[u8]) -> Result<(), SceneError> {
    std::fs::write(path, bytes).map_err(failed(path))
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> SceneError {
    move |source| SceneError::Io { path: path.into(), source }
}

/// Calls `work` for every item, on as many threads as there are cores; the first error stops the rest.
fn in_parallel<T: Sync>(items: &[T], work: impl Fn(&T) -> Result<(), SceneError> + Sync) -> Result<(), SceneError> {
    let next = AtomicUsize::new(0);
    let worker = || {
        while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
            work(item).inspect_err(|_| next.store(items.len(), Ordering::Relaxed))?;
        }
        Ok(())
    };
    let threads = thread::available_parallelism().map_or(1, usize::from).min(items.len());
    thread::scope(|scope| {
        let workers: Vec<_> = (1..threads).map(|_| scope.spawn(worker)).collect();
        let mut result = worker();
        for other in workers {
            let theirs = other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            result = result.and(theirs);
        }
        result
    })
}

#[cfg(test)]
mod tests;
