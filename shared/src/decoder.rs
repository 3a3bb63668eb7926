//! Decodes pictures that are to be scored: where that is less work, no larger than a score takes. Trainer and edge runtime
//! decode alike, so that a score means the same to both.

use crate::jpeg::{Header, Scaled};
use crate::preprocess::{Frame, FrameError, MAX_PIXELS};
use image::metadata::Orientation;

/// Pictures come no smaller than this, however small the network's input: whether a lens is covered or something has moved is
/// seen in frames of this size.
const LEAST: (u32, u32) = (80, 60);

/// Decodes one picture after the other; what can be kept in between is.
#[derive(Debug)]
pub struct Decoder {
    /// The least width and height; `None` for the pictures' own.
    least: Option<(u32, u32)>,
    scaled: Box<Scaled>,
}

/// A decoded picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decoded {
    /// The picture, at its own size or a half, a quarter or an eighth of it.
    pub frame: Frame,
    /// Its own width and height, pixels.
    pub size: (u32, u32),
}

impl Decoder {
    /// Decodes pictures at their own size, as [`Frame::decode`] does.
    pub fn whole() -> Decoder {
        Decoder { least: None, scaled: Box::default() }
    }

    /// Decodes JPEGs at the smallest of an eighth, a quarter and a half of their size that has at least `width` x `height`
    /// pixels and shows the same part of the scene, which takes sides that it divides. Pictures for which there is none, and
    /// those that are no baseline JPEGs, keep their size.
    pub fn covering(width: u32, height: u32) -> Decoder {
        Decoder { least: Some((width.max(LEAST.0), height.max(LEAST.1))), ..Decoder::whole() }
    }

    /// Decodes an image file's bytes; errors and the EXIF orientation are as in [`Frame::decode`].
    pub fn decode(&mut self, bytes: &[u8]) -> Result<Decoded, FrameError> {
        if let Some(decoded) = self.least.and_then(|least| self.decode_scaled(bytes, least)) {
            return Ok(decoded);
        }
        let frame = Frame::decode(bytes)?;
        let size = (frame.width(), frame.height());
        Ok(Decoded { frame, size })
    }

    fn decode_scaled(&mut self, bytes: &[u8], least: (u32, u32)) -> Option<Decoded> {
        let header = Header::read(bytes)?;
        let (width, height) = header.size;
        let orientation = header.exif.and_then(Orientation::from_exif_chunk).unwrap_or(Orientation::NoTransforms);
        let turned = matches!(
            orientation,
            Orientation::Rotate90 | Orientation::Rotate270 | Orientation::Rotate90FlipH | Orientation::Rotate270FlipH
        );
        let swapped = |(a, b)| if turned { (b, a) } else { (a, b) };
        let least = swapped(least);
        let fits = |side: u32, least: u32, by: u32| side % by == 0 && side / by >= least;
        let divisor = [8, 4, 2].into_iter().find(|by| fits(width, least.0, *by) && fits(height, least.1, *by))?;
        if u64::from(width) * u64::from(height) > MAX_PIXELS {
            return None;
        }
        let mut rgb = self.scaled.decode(&header, divisor)?;
        let (mut columns, mut rows) = (width / divisor, height / divisor);
        if orientation != Orientation::NoTransforms {
            let mut image = image::DynamicImage::from(image::RgbImage::from_raw(columns, rows, rgb)?);
            image.apply_orientation(orientation);
            (columns, rows) = swapped((columns, rows));
            rgb = image.into_rgb8().into_raw();
        }
        Some(Decoded { frame: Frame::new(columns, rows, rgb).ok()?, size: swapped((width, height)) })
    }
}

impl Decoded {
    /// Whether the frame is smaller than the picture.
    pub fn is_smaller(&self) -> bool {
        (self.frame.width(), self.frame.height()) != self.size
    }
}
