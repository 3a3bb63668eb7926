//! Where frames come from.

pub mod files;
pub mod replay;
pub mod video;

use crate::clock::Moment;
use salad_shared::preprocess::Frame;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// A stream of frames. Whoever waits for one can give up: a camera may stall for ever.
pub trait Source {
    /// The next frame, or what there is instead after at most `timeout`. An error ends the stream.
    fn next(&mut self, timeout: Duration) -> Result<Next, SourceError>;
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
    /// Nothing within the timeout; ask again.
    Nothing,
    /// There are no more frames.
    Ended,
}

/// A frame and where and when it was taken.
#[derive(Debug, Clone)]
pub struct Captured {
    /// The picture.
    pub frame: Frame,
    /// What people call it: a file's path, or `path#number` in a video.
    pub name: String,
    /// When it was taken.
    pub at: Moment,
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
