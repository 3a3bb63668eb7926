//! What can be wrong with a data set.

use salad_shared::preprocess::FrameError;
use std::io;
use std::path::PathBuf;

/// Why a data set cannot be used; each message names the file or key and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum DatasetError {
    /// A value of the `[data]` table.
    #[error("{0}")]
    Config(String),
    /// A folder or file that is not there.
    #[error(
        "{}: no such file or folder. Known layouts: a folder with train/good and test/<kind> (mvtec), folders of \
         normal and abnormal images (folder), a folder of normal images (images), a video file (video), class folders \
         (classes), CIFAR-10 binary files (cifar10), MNIST idx files (mnist)",
        path.display()
    )]
    Missing {
        /// What was looked for.
        path: PathBuf,
    },
    /// A folder without a single image.
    #[error("{}: no images in it or in its sub-folders (looked for: {extensions})", path.display())]
    NoImages {
        /// The folder.
        path: PathBuf,
        /// The endings looked for.
        extensions: String,
    },
    /// `auto` cannot know which images are normal.
    #[error("{}: cannot tell which of its images are normal: {reason}", path.display())]
    Ambiguous {
        /// The root.
        path: PathBuf,
        /// What was seen, and what to set.
        reason: String,
    },
    /// `normal_class` is missing.
    #[error("data.normal_class is not set: name the normal one of the classes of {}: {}", path.display(), classes.join(", "))]
    ClassNeeded {
        /// The root.
        path: PathBuf,
        /// The classes found.
        classes: Vec<String>,
    },
    /// `normal_class` names no class.
    #[error("data.normal_class = {wanted:?}: not a class of {}, which has {}", path.display(), classes.join(", "))]
    UnknownClass {
        /// What was asked for.
        wanted: String,
        /// The root.
        path: PathBuf,
        /// The classes found.
        classes: Vec<String>,
    },
    /// Two images that would have one name.
    #[error("two images are called {name:?}: rename one, or name each folder once")]
    Duplicate {
        /// The name.
        name: String,
    },
    /// A CIFAR or idx file that is not what it should be.
    #[error("{}: damaged or of another format: {reason}; download it again", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The video could not be turned into frames.
    #[error("{}: {reason}", path.display())]
    Video {
        /// The video file.
        path: PathBuf,
        /// What is wrong, and the remedy.
        reason: String,
    },
    /// A file or folder that cannot be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's own words.
        source: io::Error,
    },
    /// One image that cannot be used.
    #[error("{name}: {source}")]
    Image {
        /// Its name in the data set.
        name: String,
        /// What is wrong with it.
        source: FrameError,
    },
    /// Too many images that cannot be used.
    #[error(
        "{bad} of {total} images cannot be used, which is more than 1 %: repair or remove them. The first: {}",
        first.join("; ")
    )]
    TooManyBad {
        /// Images that cannot be used.
        bad: usize,
        /// Images tried.
        total: usize,
        /// Name and reason of the first few.
        first: Vec<String>,
    },
}

impl DatasetError {
    /// Wraps an input-output error of `path`.
    pub(super) fn io(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> DatasetError {
        let path = path.into();
        move |source| match source.kind() {
            io::ErrorKind::NotFound => DatasetError::Missing { path },
            _ => DatasetError::Io { path, source },
        }
    }
}
