//! Where frames come from.

pub mod ahead;
pub mod camera;
pub mod child;
pub mod devices;
pub mod files;
pub mod live;
mod mjpeg;
pub mod pixels;
mod ppm;
pub mod presets;
pub mod replay;
pub mod stream;
pub mod video;

use crate::clock::{Clock, Moment, RealClock, SimulatedClock};
use crate::config::source::{Pace, SourceSpec};
use crate::event::Trouble;
use jiff::Timestamp;
use live::Live;
use replay::Replay;
use salad_shared::decoder::{Decoded, Decoder};
use salad_shared::preprocess::{Frame, FrameError};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A stream of frames. Whoever waits for one can give up: a camera may stall for ever.
pub trait Source {
    /// The next frame, or what there is instead after at most `timeout`. An error ends the stream.
    fn next(&mut self, timeout: Duration) -> Result<Next, SourceError>;

    /// Frames that came in time and were not taken, because a newer one came first.
    fn dropped(&self) -> u64 {
        0
    }
}

/// Opens what a configuration names, for frames that `decoder` decodes where they are JPEGs. A camera that is not there is no
/// error: it is waited for.
pub fn open(spec: &SourceSpec, decoder: Decoder) -> Result<Box<dyn Source + Send>, SourceError> {
    Ok(match spec {
        SourceSpec::Replay { replay, pace } => {
            let clock: Arc<dyn Clock> = match pace {
                Pace::Real => Arc::new(RealClock::start()),
                Pace::Fast => Arc::new(SimulatedClock::starting_at(Timestamp::now())),
            };
            Box::new(Replay::open(replay.clone(), clock, decoder)?)
        }
        SourceSpec::Live(live) => Box::new(Live::new(live.clone(), Arc::new(RealClock::start()), decoder)),
    })
}

/// What a source has to say.
#[derive(Debug)]
pub enum Next {
    /// A frame.
    Frame(Captured),
    /// A frame that cannot be used; more may follow.
    Bad {
        /// Its name.
        name: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Something is wrong with the camera, or is no more.
    Trouble(TroubleChange),
    /// Nothing within the timeout; ask again.
    Nothing,
    /// There are no more frames.
    Ended,
}

/// The beginning or the end of a trouble with a camera.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TroubleChange {
    /// What is wrong.
    pub trouble: Trouble,
    /// Whether it begins; else it ends.
    pub begins: bool,
    /// When.
    pub at: Moment,
    /// What is known of it, for people.
    pub detail: String,
    /// How often the camera was opened since the last usable frame.
    pub attempts: u32,
}

/// A frame and where and when it was taken.
#[derive(Debug, Clone)]
pub struct Captured {
    /// The picture.
    pub picture: Picture,
    /// What people call it: a file's path, or `path#number` in a video.
    pub name: String,
    /// When it was taken.
    pub at: Moment,
}

/// A frame, and the way to all of its pixels where it was decoded with fewer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// The frame, as it is scored.
    pub frame: Frame,
    /// The file of a picture that is larger than `frame`.
    file: Option<Vec<u8>>,
    /// The picture's own width and height, pixels.
    pub size: (u32, u32),
    /// How long decoding took, where that is known.
    pub decoded_in: Option<Duration>,
}

impl Picture {
    /// A picture that has no more pixels than `frame`.
    pub fn of(frame: Frame) -> Picture {
        let size = (frame.width(), frame.height());
        Picture { frame, file: None, size, decoded_in: None }
    }

    /// Decodes a file's bytes.
    pub fn decode(file: Vec<u8>, decoder: &mut Decoder) -> Result<Picture, FrameError> {
        let start = Instant::now();
        let decoded = decoder.decode(&file)?;
        let decoded_in = Some(start.elapsed());
        let file = decoded.is_smaller().then_some(file);
        let Decoded { frame, size } = decoded;
        Ok(Picture { frame, file, size, decoded_in })
    }

    /// The file, where the picture has more pixels than the frame.
    pub fn into_parts(self) -> (Frame, Option<Vec<u8>>) {
        (self.frame, self.file)
    }
}

/// Why a source gives no (more) frames.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// A file or folder cannot be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The operating system's words.
        source: io::Error,
    },
    /// There is nothing in it.
    #[error("{}: no usable frame; give a folder with JPEG, PNG, BMP, TIFF, WebP or PNM images, or a video", path.display())]
    Empty {
        /// The file or folder.
        path: PathBuf,
    },
    /// ffmpeg is not installed.
    #[error("{}: reading a video takes ffmpeg, which is not installed; run: apt install ffmpeg", path.display())]
    NoFfmpeg {
        /// The video.
        path: PathBuf,
    },
    /// ffmpeg could not read the video.
    #[error("{}: ffmpeg cannot read it: {problem}", path.display())]
    Video {
        /// The video.
        path: PathBuf,
        /// ffmpeg's words.
        problem: String,
    },
}
