//! A frame as it comes from a file or a camera, and how it becomes the network's input: the only copy of that code.

use crate::jpeg;
use fast_image_resize as fir;
use fir::pixels::U8x3;
use image::ImageDecoder;
use serde::{Deserialize, Serialize};
use std::io::Cursor;

/// Frames larger than this many pixels are refused before they are decoded.
pub const MAX_PIXELS: u64 = 100_000_000;

/// Why bytes or a buffer are not a usable frame.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// Not an image format Salad reads.
    #[error("not a JPEG, PNG, BMP, TIFF, WebP or PNM image")]
    UnknownFormat,
    /// The decoder's own words.
    #[error("cannot decode the image: {0}")]
    Decode(String),
    /// An image with no pixels, or more than [`MAX_PIXELS`].
    #[error("{width} x {height} pixels: outside 1 to {MAX_PIXELS} pixels")]
    Size {
        /// Pixels a row.
        width: u64,
        /// Rows.
        height: u64,
    },
    /// A buffer whose length is not width x height x 3.
    #[error("{bytes} bytes do not make a {width} x {height} RGB frame")]
    Length {
        /// Pixels a row.
        width: u32,
        /// Rows.
        height: u32,
        /// Length of the buffer.
        bytes: usize,
    },
}

/// An RGB8 frame, HWC, rows top to bottom, no padding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    width: u32,
    height: u32,
    rgb: Vec<u8>,
}

impl Frame {
    /// A frame over `rgb`, which holds height x width x 3 bytes.
    pub fn new(width: u32, height: u32, rgb: Vec<u8>) -> Result<Frame, FrameError> {
        check_size(width.into(), height.into())?;
        if rgb.len() as u64 != u64::from(width) * u64::from(height) * 3 {
            return Err(FrameError::Length { width, height, bytes: rgb.len() });
        }
        Ok(Frame { width, height, rgb })
    }

    /// Decodes an image file's bytes: 8 or 16 bit, grey, RGB or with transparency (composited over black is not done:
    /// the colour channels are taken as they are). The EXIF orientation is applied.
    pub fn decode(bytes: &[u8]) -> Result<Frame, FrameError> {
        if jpeg::is_cut_short(bytes) {
            return Err(FrameError::Decode("the JPEG file is cut short".to_owned()));
        }
        let bytes = jpeg::with_codes(bytes);
        let reader = image::ImageReader::new(Cursor::new(&*bytes)).with_guessed_format();
        let reader = reader.map_err(|e| FrameError::Decode(e.to_string()))?;
        if reader.format().is_none() {
            return Err(FrameError::UnknownFormat);
        }
        let failed = |e: image::ImageError| match e {
            image::ImageError::Unsupported(_) => FrameError::UnknownFormat,
            other => FrameError::Decode(other.to_string()),
        };
        let mut decoder = reader.into_decoder().map_err(failed)?;
        let (width, height) = decoder.dimensions();
        check_size(width.into(), height.into())?;
        let orientation = decoder.orientation().unwrap_or(image::metadata::Orientation::NoTransforms);
        let mut decoded = image::DynamicImage::from_decoder(decoder).map_err(failed)?;
        decoded.apply_orientation(orientation);
        let rgb = decoded.into_rgb8();
        let (width, height) = rgb.dimensions();
        Frame::new(width, height, rgb.into_raw())
    }

    /// Pixels a row.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Rows.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// The pixels, HWC.
    pub fn rgb(&self) -> &[u8] {
        &self.rgb
    }

    /// The pixels, HWC, without copying them.
    pub fn into_rgb(self) -> Vec<u8> {
        self.rgb
    }

    /// The colour at column `x` and row `y`; panics outside the frame.
    pub fn pixel(&self, x: usize, y: usize) -> [u8; 3] {
        let at = (y * self.width as usize + x) * 3;
        [self.rgb[at], self.rgb[at + 1], self.rgb[at + 2]]
    }

    /// Sets the colour at column `x` and row `y`; panics outside the frame.
    pub fn set_pixel(&mut self, x: usize, y: usize, colour: [u8; 3]) {
        let at = (y * self.width as usize + x) * 3;
        self.rgb[at..at + 3].copy_from_slice(&colour);
    }

    /// The frame as a JPEG file's bytes; `quality` from 1 to 100.
    pub fn to_jpeg(&self, quality: u8) -> Vec<u8> {
        let mut out = Vec::new();
        let encoder = image::codecs::jpeg::JpegEncoder::new_with_quality(&mut out, quality.clamp(1, 100));
        let written = image::ImageEncoder::write_image(
            encoder,
            &self.rgb,
            self.width,
            self.height,
            image::ExtendedColorType::Rgb8,
        );
        debug_assert!(written.is_ok(), "a frame's buffer fits its size, and a Vec takes every byte");
        out
    }

    /// The frame resized to exactly `width` x `height` (antialiased bilinear, aspect not kept).
    pub fn resized(&self, width: u32, height: u32) -> Frame {
        if (width, height) == (self.width, self.height) {
            return self.clone();
        }
        let mut resizer = Resizer::default();
        let mut rgb = Vec::new();
        resizer.resize(self, width, height, &mut rgb);
        Frame { width, height, rgb }
    }

    /// The square of `side` pixels about `centre` (shares of width and height, 0 to 1), moved inside the frame; what is
    /// larger than the frame is cut to it.
    pub fn cropped(&self, centre: (f32, f32), side: u32) -> Frame {
        let (width, height) = (side.clamp(1, self.width), side.clamp(1, self.height));
        let start = |share: f32, whole: u32, part: u32| {
            ((share * whole as f32 - part as f32 / 2.0).max(0.0) as u32).min(whole - part) as usize
        };
        let (left, top) = (start(centre.0, self.width, width), start(centre.1, self.height, height));
        let rows = self.rgb.chunks_exact(self.width as usize * 3).skip(top).take(height as usize);
        let rgb = rows.flat_map(|row| &row[left * 3..(left + width as usize) * 3]).copied().collect();
        Frame { width, height, rgb }
    }

    /// The frame made to fit inside `side` x `side`, aspect kept; never enlarged.
    pub fn thumbnail(&self, side: u32) -> Frame {
        let longest = self.width.max(self.height);
        if longest <= side {
            return self.clone();
        }
        let scale = |v: u32| ((u64::from(v) * u64::from(side)).div_ceil(u64::from(longest)) as u32).max(1);
        self.resized(scale(self.width), scale(self.height))
    }
}

/// The network's input: what a frame is resized to, and how many channels it keeps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InputSpec {
    /// Columns, 8 to 2048.
    pub width: u32,
    /// Rows, 8 to 2048.
    pub height: u32,
    /// 3 (RGB) or 1 (grey, ITU-R BT.601 luma).
    pub channels: u32,
}

impl InputSpec {
    /// Says what is wrong with the numbers, if anything is.
    pub fn check(&self) -> Result<(), String> {
        let side = 8..=2048;
        if !side.contains(&self.width) || !side.contains(&self.height) {
            return Err(format!("input {} x {}: each side has to be from 8 to 2048", self.width, self.height));
        }
        if self.channels != 1 && self.channels != 3 {
            return Err(format!("{} input channels: only 1 (grey) and 3 (RGB) exist", self.channels));
        }
        Ok(())
    }

    /// Elements of one input: channels x height x width.
    pub fn len(&self) -> usize {
        self.channels as usize * self.height as usize * self.width as usize
    }

    /// Never: a checked input has pixels.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Turns frames into network input, its buffers kept between frames.
#[derive(Debug)]
pub struct Preprocessor {
    spec: InputSpec,
    resizer: Resizer,
    resized: Vec<u8>,
}

impl Preprocessor {
    /// For one input specification, which the caller has checked.
    pub fn new(spec: InputSpec) -> Preprocessor {
        Preprocessor { spec, resizer: Resizer::default(), resized: Vec::new() }
    }

    /// The input's specification.
    pub fn spec(&self) -> &InputSpec {
        &self.spec
    }

    /// The frame in the input's size, RGB8 \[height, width, 3\].
    pub fn resized<'a>(&'a mut self, frame: &'a Frame) -> &'a [u8] {
        if (frame.width, frame.height) == (self.spec.width, self.spec.height) {
            return &frame.rgb;
        }
        self.resizer.resize(frame, self.spec.width, self.spec.height, &mut self.resized);
        &self.resized
    }

    /// Fills `out` with \[channels, height, width\] values in -1..=1 (byte / 127.5 - 1).
    pub fn run(&mut self, frame: &Frame, out: &mut Vec<f32>) {
        let channels = self.spec.channels;
        normalise(self.resized(frame), channels, out);
    }
}

/// RGB8 \[height, width, 3\] to \[channels, height, width\] floats in -1..=1 (byte / 127.5 - 1); with one channel, to luma.
pub fn normalise(rgb: &[u8], channels: u32, out: &mut Vec<f32>) {
    out.clear();
    let to_unit = |v: f32| v / 127.5 - 1.0;
    if channels == 1 {
        out.extend(rgb.chunks_exact(3).map(|p| to_unit(luma(f32::from(p[0]), f32::from(p[1]), f32::from(p[2])))));
    } else {
        for channel in 0..3 {
            out.extend(rgb.iter().skip(channel).step_by(3).map(|&v| to_unit(f32::from(v))));
        }
    }
}

/// ITU-R BT.601 luma of values on one scale.
pub fn luma(r: f32, g: f32, b: f32) -> f32 {
    0.299 * r + 0.587 * g + 0.114 * b
}

/// Network input back to a frame, for people to look at: \[channels, height, width\] in -1..=1, clamped.
pub fn frame_from_input(spec: &InputSpec, input: &[f32]) -> Result<Frame, FrameError> {
    let plane = (spec.width * spec.height) as usize;
    let byte = |v: f32| ((v + 1.0) * 127.5).round().clamp(0.0, 255.0) as u8;
    if input.len() != spec.len() {
        return Err(FrameError::Length { width: spec.width, height: spec.height, bytes: input.len() });
    }
    let rgb = (0..plane)
        .flat_map(|i| [0, 1, 2].map(|c| byte(input[if spec.channels == 1 { i } else { c * plane + i }])))
        .collect();
    Frame::new(spec.width, spec.height, rgb)
}

#[derive(Debug, Default)]
struct Resizer {
    inner: fir::Resizer,
}

impl Resizer {
    fn resize(&mut self, frame: &Frame, width: u32, height: u32, out: &mut Vec<u8>) {
        out.resize(width as usize * height as usize * 3, 0);
        let options = fir::ResizeOptions::new().resize_alg(fir::ResizeAlg::Convolution(fir::FilterType::Bilinear));
        // Typed, so that programs carry no code for other kinds of pixels: that is over a megabyte.
        let source = fir::images::TypedImageRef::<U8x3>::from_buffer(frame.width, frame.height, &frame.rgb);
        let target = fir::images::TypedImage::<U8x3>::from_buffer(width, height, out);
        let resized = match (source, target) {
            (Ok(source), Ok(mut target)) => self.inner.resize_typed(&source, &mut target, &options).is_ok(),
            _ => false,
        };
        debug_assert!(resized, "both buffers fit their sizes, which are not zero");
    }
}

fn check_size(width: u64, height: u64) -> Result<(), FrameError> {
    match width.checked_mul(height) {
        Some(pixels) if (1..=MAX_PIXELS).contains(&pixels) => Ok(()),
        _ => Err(FrameError::Size { width, height }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(image: &image::DynamicImage, format: image::ImageFormat) -> Vec<u8> {
        let mut out = Cursor::new(Vec::new());
        image.write_to(&mut out, format).unwrap();
        out.into_inner()
    }

    #[test]
    fn a_crop_stays_inside_and_keeps_its_size() {
        let frame = Frame::new(6, 4, (0..72).collect()).unwrap();
        let middle = frame.cropped((0.5, 0.5), 2);
        assert_eq!((middle.width(), middle.height()), (2, 2));
        assert_eq!(middle.pixel(0, 0), frame.pixel(2, 1));
        assert_eq!(frame.cropped((0.0, 0.0), 3).pixel(0, 0), frame.pixel(0, 0));
        assert_eq!(frame.cropped((1.0, 1.0), 3).pixel(2, 2), frame.pixel(5, 3));
        assert_eq!(frame.cropped((0.5, 0.5), 99), frame);
    }

    #[test]
    fn grey_rgba_and_16_bit_images_become_rgb8() {
        use image::DynamicImage as D;
        let grey = image::GrayImage::from_pixel(3, 2, image::Luma([200]));
        let images = [
            D::ImageLuma8(grey.clone()),
            D::ImageRgba8(D::ImageLuma8(grey.clone()).to_rgba8()),
            D::ImageLuma16(image::ImageBuffer::from_pixel(3, 2, image::Luma([200 * 257]))),
            D::ImageRgb16(image::ImageBuffer::from_pixel(3, 2, image::Rgb([200 * 257; 3]))),
        ];
        for image in images {
            let frame = Frame::decode(&encoded(&image, image::ImageFormat::Png)).unwrap();
            assert_eq!((frame.width(), frame.height()), (3, 2));
            assert!(frame.rgb().iter().all(|&v| v == 200), "{image:?}");
        }
    }

    #[test]
    fn what_is_not_an_image_is_refused() {
        let png = encoded(&image::DynamicImage::new_rgb8(64, 64), image::ImageFormat::Png);
        assert!(matches!(Frame::decode(b"hello"), Err(FrameError::UnknownFormat)));
        assert!(matches!(Frame::decode(b""), Err(FrameError::UnknownFormat)));
        assert!(matches!(Frame::decode(&png[..png.len() / 2]), Err(FrameError::Decode(_))));
        assert!(matches!(Frame::new(2, 2, vec![0; 11]), Err(FrameError::Length { .. })));
        assert!(matches!(Frame::new(0, 2, vec![]), Err(FrameError::Size { .. })));
    }

    #[test]
    fn one_pixel_fills_the_input() {
        let frame = Frame::new(1, 1, vec![0, 127, 255]).unwrap();
        let mut out = Vec::new();
        Preprocessor::new(InputSpec { width: 8, height: 8, channels: 3 }).run(&frame, &mut out);
        assert_eq!(out.len(), 3 * 64);
        assert!(out[..64].iter().all(|&v| v == -1.0) && out[128..].iter().all(|&v| v == 1.0));
    }

    #[test]
    fn input_and_frame_convert_both_ways() {
        let spec = InputSpec { width: 8, height: 9, channels: 3 };
        let rgb: Vec<u8> = (0..8 * 9 * 3).map(|v| v as u8).collect();
        let frame = Frame::new(8, 9, rgb).unwrap();
        let mut out = Vec::new();
        Preprocessor::new(spec.clone()).run(&frame, &mut out);
        assert_eq!(frame_from_input(&spec, &out).unwrap(), frame);
        assert!(frame_from_input(&spec, &out[1..]).is_err());
    }

    #[test]
    fn a_thumbnail_keeps_the_aspect_and_at_least_one_pixel() {
        let frame = Frame::new(1000, 2, vec![9; 6000]).unwrap().thumbnail(100);
        assert_eq!((frame.width(), frame.height()), (100, 1));
    }
}
