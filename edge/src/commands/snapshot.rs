//! `salad-edge snapshot`: one frame of the camera as a JPEG, with the configured regions drawn over it on request.

use super::Settling;
use crate::config::{CameraConfig, ConfigError};
use crate::regions::Regions;
use crate::source::{self, Next, SourceError};
use salad_shared::atomic;
use salad_shared::decoder::Decoder;
use salad_shared::preprocess::Frame;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_millis(200);
const JPEG_QUALITY: u8 = 95;

/// Why there is no picture.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The source.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The camera gives no frame.
    #[error("the camera gives no picture: {0}")]
    Camera(String),
    /// The picture cannot be written.
    #[error("{}: {source}", path.display())]
    Write {
        /// The picture.
        path: PathBuf,
        /// The operating system's words.
        source: io::Error,
    },
    /// The file's name does not say JPEG.
    #[error("{}: a snapshot is a JPEG; give a name that ends in .jpg", .0.display())]
    Name(PathBuf),
}

/// Writes a frame to `out`, once the camera has settled. With `regions` what does not count is darkened and the regions'
/// edges are drawn, else the frame is as the camera gave it.
pub fn snapshot(camera: &CameraConfig, regions: bool, out: &Path, stop: &AtomicBool) -> Result<(), SnapshotError> {
    let is_jpeg = |e: &std::ffi::OsStr| e.eq_ignore_ascii_case("jpg") || e.eq_ignore_ascii_case("jpeg");
    if !out.extension().is_some_and(is_jpeg) {
        return Err(SnapshotError::Name(out.into()));
    }
    let mut frame = first_settled(camera, stop)?;
    if regions {
        frame = Regions::new(camera.regions.clone()).draw(frame);
    }
    let written = atomic::write(out, &frame.to_jpeg(JPEG_QUALITY));
    written.map_err(|source| SnapshotError::Write { path: out.into(), source })?;
    log::info!("{}: {} x {} pixels", out.display(), frame.width(), frame.height());
    Ok(())
}

fn first_settled(camera: &CameraConfig, stop: &AtomicBool) -> Result<Frame, SnapshotError> {
    let mut source = source::open(&camera.source, Decoder::whole())?;
    let mut settling = Settling::of(&camera.source);
    let mut last = None;
    let mut problem = "it has none".to_owned();
    while !stop.load(Ordering::Relaxed) {
        match source.next(PATIENCE)? {
            Next::Frame(captured) if settling.is_over(captured.at) => return Ok(captured.picture.frame),
            Next::Frame(captured) => last = Some(captured.picture.frame),
            Next::Bad { problem: bad, .. } => problem = bad,
            Next::Trouble(change) if change.begins => return Err(SnapshotError::Camera(change.detail)),
            Next::Trouble(_) | Next::Nothing => {}
            Next::Ended => return last.ok_or(SnapshotError::Camera(problem)),
        }
    }
    Err(SnapshotError::Camera("interrupted".to_owned()))
}
