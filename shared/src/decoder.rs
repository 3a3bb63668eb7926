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
        let fits = |side: u32, least: u32, by: u32| side.is_multiple_of(by) && side / by >= least;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jpeg::fixtures::{CAMERAS, OTHERS, fixture};

    /// Mean and largest difference of two frames of one size.
    fn difference(a: &Frame, b: &Frame) -> (f64, u8) {
        assert_eq!((a.width(), a.height()), (b.width(), b.height()));
        let each = || a.rgb().iter().zip(b.rgb()).map(|(a, b)| a.abs_diff(*b));
        (each().map(f64::from).sum::<f64>() / a.rgb().len() as f64, each().max().unwrap())
    }

    /// 420.jpg with an EXIF orientation.
    fn oriented(orientation: u8) -> Vec<u8> {
        let tiff =
            [b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0".as_slice(), &[orientation, 0, 0, 0, 0, 0, 0]].concat();
        let segment = [b"Exif\0\0".as_slice(), &tiff].concat();
        let head = [0xff, 0xd8, 0xff, 0xe1, 0, segment.len() as u8 + 2];
        [&head, segment.as_slice(), &fixture("420")[2..]].concat()
    }

    #[test]
    fn a_smaller_picture_looks_like_the_whole_one() {
        let mut decoder = Decoder::covering(84, 80);
        for name in CAMERAS {
            let whole = Frame::decode(&fixture(name)).unwrap();
            let Decoded { frame, size } = decoder.decode(&fixture(name)).unwrap();
            assert_eq!(size, (whole.width(), whole.height()), "{name}");
            assert_eq!((frame.width() * 2, frame.height() * 2), size, "{name}");
            let (mean, most) = difference(&frame.resized(40, 40), &whole.resized(40, 40));
            assert!(mean < 1.0 && most < 16, "{name}: {mean} {most}");
        }
    }

    #[test]
    fn the_smallest_size_is_taken_that_covers_and_divides() {
        let taken = |(width, height): (u32, u32), least: (u32, u32)| {
            let rgb = vec![90; (width * height * 3) as usize];
            let jpeg = Frame::new(width, height, rgb).unwrap().to_jpeg(85);
            let decoded = Decoder::covering(least.0, least.1).decode(&jpeg).unwrap();
            assert_eq!(decoded.is_smaller(), decoded.frame.width() != width);
            assert!(decoded.frame.rgb().iter().all(|v| v.abs_diff(90) <= 1));
            (decoded.frame.width(), decoded.frame.height())
        };
        assert_eq!(taken((640, 480), (128, 128)), (320, 240));
        assert_eq!(taken((640, 480), (160, 120)), (160, 120));
        assert_eq!(taken((640, 480), (161, 120)), (320, 240));
        assert_eq!(taken((1920, 1080), (128, 128)), (240, 135));
        assert_eq!(taken((1920, 1080), (128, 136)), (480, 270));
        assert_eq!(taken((640, 480), (8, 8)), LEAST);
        assert_eq!(taken((320, 240), (200, 10)), (320, 240));
        // A quarter would show half a pixel more or less.
        assert_eq!(taken((1922, 1080), (128, 128)), (961, 540));
        assert_eq!(taken((641, 480), (8, 8)), (641, 480));
    }

    #[test]
    fn all_other_pictures_are_decoded_whole() {
        let mut decoder = Decoder::covering(8, 8);
        let png = {
            let mut out = std::io::Cursor::new(Vec::new());
            image::RgbImage::from_pixel(320, 240, image::Rgb([1, 2, 3]))
                .write_to(&mut out, image::ImageFormat::Png)
                .unwrap();
            out.into_inner()
        };
        for bytes in OTHERS.map(fixture).into_iter().chain([png]) {
            let whole = Frame::decode(&bytes).unwrap();
            assert_eq!(decoder.decode(&bytes).unwrap().frame, whole);
        }
        assert_eq!(Decoder::whole().decode(&fixture("420")).unwrap().frame, Frame::decode(&fixture("420")).unwrap());
    }

    #[test]
    fn a_smaller_picture_stands_as_the_whole_one_does() {
        for orientation in 1..=8 {
            let jpeg = oriented(orientation);
            let whole = Frame::decode(&jpeg).unwrap();
            let (width, height) = if orientation < 5 { (96, 80) } else { (80, 96) };
            let Decoded { frame, size } = Decoder::covering(width, height).decode(&jpeg).unwrap();
            assert_eq!((frame.width(), frame.height()), (width, height), "{orientation}");
            assert_eq!(size, (whole.width(), whole.height()), "{orientation}");
            let (mean, _) = difference(&frame, &whole.resized(width, height));
            assert!(mean < 4.0, "{orientation}: {mean}");
            assert!(!Decoder::covering(width + 1, height).decode(&jpeg).unwrap().is_smaller());
        }
    }

    #[test]
    fn what_cannot_be_decoded_is_told_in_the_same_words() {
        let mut decoder = Decoder::covering(8, 8);
        let mut alike = |bytes: &[u8], what: &str| match (decoder.decode(bytes), Frame::decode(bytes)) {
            (Err(one), Err(other)) => assert_eq!(one.to_string(), other.to_string(), "{what}"),
            (one, other) => assert_eq!(one.is_ok(), other.is_ok(), "{what}: {:?} {:?}", one.err(), other.err()),
        };
        alike(b"", "nothing");
        alike(b"hello", "no picture");
        for name in ["420", "grey"] {
            let whole = fixture(name);
            (2..whole.len()).step_by(31).for_each(|length| alike(&whole[..length], &format!("{name} cut to {length}")));
        }
        let large = {
            let mut jpeg = fixture("420");
            let frame = jpeg.windows(2).position(|w| w == [0xff, 0xc0]).unwrap();
            jpeg[frame + 5..frame + 9].copy_from_slice(&[0xff, 0xf8, 0xff, 0xf8]);
            jpeg
        };
        assert!(matches!(decoder.decode(&large), Err(FrameError::Size { width: 65528, height: 65528 })));
    }

    #[test]
    fn damage_is_no_danger() {
        let mut random = fastrand::Rng::with_seed(1);
        let mut decoder = Decoder::covering(8, 8);
        for name in CAMERAS {
            for _ in 0..100 {
                let mut bytes = fixture(name);
                for _ in 0..random.usize(1..4) {
                    let at = random.usize(2..bytes.len());
                    bytes[at] = random.u8(..);
                }
                // The complete decoder may refuse it or make something of it; so may this one.
                let _ = decoder.decode(&bytes);
            }
            let whole = decoder.decode(&fixture(name)).unwrap();
            assert_eq!(whole, Decoder::covering(8, 8).decode(&fixture(name)).unwrap(), "nothing of it stays behind");
        }
    }
}
