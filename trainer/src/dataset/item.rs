//! One image of a data set: where its bytes are, and how they become a frame.

use super::DatasetError;
use salad_shared::decoder::{Decoded, Decoder};
use salad_shared::preprocess::Frame;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::sync::Arc;

/// An image that is listed but not yet read.
#[derive(Debug, Clone)]
pub struct Item {
    /// Unique in the data set, relative to its root, with `/` between folders.
    pub name: String,
    source: Source,
    size_bytes: u64,
}

/// An image to test with.
#[derive(Debug, Clone)]
pub struct TestItem {
    /// The image.
    pub item: Item,
    /// The kind of defect; `None` for a normal image.
    pub kind: Option<String>,
    /// A picture of the size of the image that marks the defect, as [`crate::pixel::Mask`] takes it.
    pub mask: Option<PathBuf>,
}

impl Item {
    /// Reads the image and decodes it as `decoder` is made to. Fails on a file that cannot be read ([`DatasetError::Io`],
    /// [`DatasetError::Missing`]) or is not a usable image ([`DatasetError::Image`]).
    pub fn load(&self, decoder: &mut Decoder) -> Result<Decoded, DatasetError> {
        let image = |source| DatasetError::Image { name: self.name.clone(), source };
        match &self.source {
            Source::File { path, .. } => {
                let bytes = std::fs::read(path).map_err(DatasetError::io(path))?;
                decoder.decode(&bytes).map_err(image)
            }
            Source::Record { file, offset, width, height, form } => {
                let mut bytes = vec![0; self.size_bytes as usize];
                let mut open = File::open(file.as_path()).map_err(DatasetError::io(file.as_path()))?;
                open.seek(SeekFrom::Start(*offset))
                    .and_then(|_| open.read_exact(&mut bytes))
                    .map_err(DatasetError::io(file.as_path()))?;
                let frame = Frame::new(*width, *height, form.interleave(&bytes)).map_err(image)?;
                Ok(Decoded { frame, size: (*width, *height) })
            }
        }
    }

    /// Bytes of the image as stored; 0 where a link leads nowhere.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// An image file of `size_bytes`; `keep` holds its folder in existence where that is temporary.
    pub(super) fn file(name: String, path: PathBuf, size_bytes: u64, keep: Option<Arc<tempfile::TempDir>>) -> Item {
        Item { name, source: Source::File { path, _keep: keep }, size_bytes }
    }

    /// Raw pixels at `offset` of `file`.
    pub(super) fn record(name: String, file: Arc<PathBuf>, offset: u64, size: (u32, u32), form: Form) -> Item {
        let (width, height) = size;
        let size_bytes = u64::from(width) * u64::from(height) * form.channels();
        Item { name, source: Source::Record { file, offset, width, height, form }, size_bytes }
    }
}

/// How raw pixels lie in a file.
#[derive(Debug, Clone, Copy)]
pub(super) enum Form {
    /// One byte a pixel.
    Grey,
    /// A plane of red, one of green, one of blue.
    Planes,
}

impl Form {
    fn channels(self) -> u64 {
        match self {
            Form::Grey => 1,
            Form::Planes => 3,
        }
    }

    /// To RGB, HWC.
    fn interleave(self, bytes: &[u8]) -> Vec<u8> {
        match self {
            Form::Grey => bytes.iter().flat_map(|&v| [v; 3]).collect(),
            Form::Planes => {
                let (red, rest) = bytes.split_at(bytes.len() / 3);
                let (green, blue) = rest.split_at(rest.len() / 2);
                red.iter().zip(green).zip(blue).flat_map(|((&r, &g), &b)| [r, g, b]).collect()
            }
        }
    }
}

#[derive(Debug, Clone)]
enum Source {
    File { path: PathBuf, _keep: Option<Arc<tempfile::TempDir>> },
    Record { file: Arc<PathBuf>, offset: u64, width: u32, height: u32, form: Form },
}
