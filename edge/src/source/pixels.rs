//! What cameras send, turned into RGB.

use salad_shared::preprocess::{Frame, FrameError};
use serde::{Deserialize, Serialize};
use yuv::{YuvBiPlanarImage, YuvConversionMode, YuvError, YuvPackedImage, YuvPlanarImage, YuvRange, YuvStandardMatrix};

/// How the bytes of a picture are laid out. Chroma formats are BT.601 in limited range, as webcams send them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum PixelFormat {
    /// A JPEG file of its own.
    Mjpeg,
    /// 4:2:2, two pixels in four bytes: Y0 U Y1 V.
    Yuyv,
    /// 4:2:0, a plane of Y, then one of U and V in turns.
    Nv12,
    /// 4:2:0, planes of Y, U and V.
    I420,
    /// Red, green, blue.
    Rgb24,
    /// Blue, green, red.
    Bgr24,
    /// One byte of brightness, 0 to 255.
    Gray8,
}

impl PixelFormat {
    /// Bytes of a picture of `width` x `height`; `None` for JPEGs, whose length varies.
    pub fn bytes(self, width: u32, height: u32) -> Option<usize> {
        let (w, h) = (width as usize, height as usize);
        let quarter = w.div_ceil(2) * h.div_ceil(2);
        match self {
            PixelFormat::Mjpeg => None,
            PixelFormat::Yuyv => Some(w.div_ceil(2) * 4 * h),
            PixelFormat::Nv12 | PixelFormat::I420 => Some(w * h + 2 * quarter),
            PixelFormat::Rgb24 | PixelFormat::Bgr24 => Some(w * h * 3),
            PixelFormat::Gray8 => Some(w * h),
        }
    }

    /// What a picture costs to carry and to decode, for a choice between formats; higher is dearer.
    pub fn cost(self) -> u32 {
        match self {
            PixelFormat::Gray8 => 0,
            PixelFormat::Nv12 | PixelFormat::I420 => 1,
            PixelFormat::Yuyv => 2,
            PixelFormat::Rgb24 => 3,
            PixelFormat::Bgr24 => 4,
            PixelFormat::Mjpeg => 5,
        }
    }

    /// The frame in `bytes`. A JPEG brings its own size, and `width` and `height` are not looked at.
    pub fn decode(self, width: u32, height: u32, bytes: Vec<u8>) -> Result<Frame, FrameError> {
        let Some(length) = self.bytes(width, height) else { return Frame::decode(&bytes) };
        if bytes.len() != length {
            return Err(FrameError::Length { width, height, bytes: bytes.len() });
        }
        let rgb = match self {
            PixelFormat::Rgb24 => bytes,
            PixelFormat::Bgr24 => bytes.chunks_exact(3).flat_map(|p| [p[2], p[1], p[0]]).collect(),
            PixelFormat::Gray8 => bytes.iter().flat_map(|&v| [v; 3]).collect(),
            _ => self.decode_chroma(width, height, &bytes).map_err(|e| FrameError::Decode(e.to_string()))?,
        };
        Frame::new(width, height, rgb)
    }

    fn decode_chroma(self, width: u32, height: u32, bytes: &[u8]) -> Result<Vec<u8>, YuvError> {
        let (range, matrix) = (YuvRange::Limited, YuvStandardMatrix::Bt601);
        let (half, stride) = (width.div_ceil(2), width * 3);
        let mut rgb = vec![0; stride as usize * height as usize];
        let (y_plane, chroma) = bytes.split_at(((width * height) as usize).min(bytes.len()));
        match self {
            PixelFormat::Yuyv => {
                let image = YuvPackedImage { yuy: bytes, yuy_stride: half * 4, width, height };
                yuv::yuyv422_to_rgb(&image, &mut rgb, stride, range, matrix)?;
            }
            PixelFormat::Nv12 => {
                let image =
                    YuvBiPlanarImage { y_plane, y_stride: width, uv_plane: chroma, uv_stride: half * 2, width, height };
                yuv::yuv_nv12_to_rgb(&image, &mut rgb, stride, range, matrix, YuvConversionMode::Balanced)?;
            }
            _ => {
                let (u_plane, v_plane) = chroma.split_at(chroma.len() / 2);
                let image = YuvPlanarImage {
                    y_plane,
                    y_stride: width,
                    u_plane,
                    u_stride: half,
                    v_plane,
                    v_stride: half,
                    width,
                    height,
                };
                yuv::yuv420_to_rgb(&image, &mut rgb, stride, range, matrix)?;
            }
        }
        Ok(rgb)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHROMA: [PixelFormat; 3] = [PixelFormat::Yuyv, PixelFormat::Nv12, PixelFormat::I420];

    /// A picture of one colour, given as limited-range BT.601 Y, U, V.
    fn plain(format: PixelFormat, (width, height): (u32, u32), [y, u, v]: [u8; 3]) -> Vec<u8> {
        let pixels = (width * height) as usize;
        let quarter = (width.div_ceil(2) * height.div_ceil(2)) as usize;
        match format {
            PixelFormat::Yuyv => [y, u, y, v].repeat(width.div_ceil(2) as usize * height as usize),
            PixelFormat::Nv12 => [vec![y; pixels], [u, v].repeat(quarter)].concat(),
            _ => [vec![y; pixels], vec![u; quarter], vec![v; quarter]].concat(),
        }
    }

    #[test]
    fn known_colours_come_out_of_each_chroma_format() {
        // Of ITU-R BT.601: black, white, and pure red, green and blue.
        let known = [
            ([16, 128, 128], [0, 0, 0]),
            ([235, 128, 128], [255, 255, 255]),
            ([81, 90, 240], [255, 0, 0]),
            ([145, 54, 34], [0, 255, 0]),
            ([41, 240, 110], [0, 0, 255]),
        ];
        for format in CHROMA {
            for size in [(32, 6), (34, 4), (7, 3)] {
                for (yuv, expected) in known {
                    let bytes = plain(format, size, yuv);
                    let frame = format.decode(size.0, size.1, bytes).unwrap();
                    for (got, want) in frame.rgb().chunks_exact(3).flatten().zip(expected.iter().cycle()) {
                        assert!(got.abs_diff(*want) <= 3, "{format:?} {size:?} {yuv:?}: {got} for {want}");
                    }
                }
            }
        }
    }

    #[test]
    fn pixels_stay_in_their_places() {
        // Brightness rises by column and row; chroma is neutral, so that grey comes out.
        let (w, h) = (8_usize, 4_usize);
        let y = |i: usize| 16 + ((i % w) * 10 + (i / w) * 30) as u8;
        let luma: Vec<u8> = (0..w * h).map(y).collect();
        let packed: Vec<u8> = luma.chunks_exact(2).flat_map(|p| [p[0], 128, p[1], 128]).collect();
        let planar = [luma.as_slice(), &[128; 16]].concat();
        for (format, bytes) in [(CHROMA[0], packed), (CHROMA[1], planar.clone()), (CHROMA[2], planar)] {
            let frame = format.decode(w as u32, h as u32, bytes).unwrap();
            for (i, pixel) in frame.rgb().chunks_exact(3).enumerate() {
                let expected = (f32::from(y(i)) - 16.0) * 255.0 / 219.0;
                assert!(pixel.iter().all(|&v| (f32::from(v) - expected).abs() < 2.0), "{format:?} {i}: {pixel:?}");
            }
        }
        let frame = PixelFormat::Bgr24.decode(2, 1, vec![1, 2, 3, 4, 5, 6]).unwrap();
        assert_eq!(frame.rgb(), [3, 2, 1, 6, 5, 4]);
        assert_eq!(PixelFormat::Rgb24.decode(1, 1, vec![1, 2, 3]).unwrap().rgb(), [1, 2, 3]);
        assert_eq!(PixelFormat::Gray8.decode(2, 1, vec![7, 9]).unwrap().rgb(), [7, 7, 7, 9, 9, 9]);
    }

    #[test]
    fn a_buffer_of_another_length_is_refused() {
        for format in CHROMA.into_iter().chain([PixelFormat::Rgb24, PixelFormat::Bgr24, PixelFormat::Gray8]) {
            let length = format.bytes(6, 4).unwrap();
            assert!(format.decode(6, 4, vec![128; length]).is_ok());
            for wrong in [0, length - 1, length + 1] {
                assert!(format.decode(6, 4, vec![128; wrong]).is_err(), "{format:?} {wrong}");
            }
        }
    }
}
