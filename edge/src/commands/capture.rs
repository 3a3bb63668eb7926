//! `salad-edge capture`: what a local camera is read with. The program starts it as a child of its own, which can be killed
//! when a driver never answers; it is of no use by hand.

use crate::source::camera::{CameraError, CameraSpec, capture as capture_frames};
use std::io::Write;

/// Why nothing can be captured.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The argument is not what the program gives itself.
    #[error(
        "capture is started by salad-edge itself, with a camera's settings as its argument: {0}; see salad-edge snapshot"
    )]
    Argument(#[from] serde_json::Error),
    /// The camera.
    #[error(transparent)]
    Camera(#[from] CameraError),
}

/// Writes the camera's frames to `out`, as packets, until the camera fails or nobody reads them any more.
pub fn capture(spec: &str, out: &mut impl Write) -> Result<(), CaptureError> {
    let spec: CameraSpec = serde_json::from_str(spec)?;
    Ok(capture_frames(&spec, out)?)
}
