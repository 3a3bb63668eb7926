//! PNG files of frames, and several frames side by side.

use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder};
use salad_shared::preprocess::Frame;

/// A frame as a PNG file's bytes.
pub fn png(frame: &Frame) -> Vec<u8> {
    let mut out = Vec::new();
    let written =
        PngEncoder::new(&mut out).write_image(frame.rgb(), frame.width(), frame.height(), ExtendedColorType::Rgb8);
    debug_assert!(written.is_ok(), "a frame's buffer fits its size, and a Vec takes every byte");
    out
}

/// Frames in rows of `columns`, left to right and top to bottom, each in a cell as large as the first; a larger frame is
/// cut, and what no frame covers is black. `None` for no frames or no columns.
pub fn grid(frames: &[Frame], columns: usize) -> Option<Frame> {
    let first = frames.first()?;
    let (width, height) = (first.width() as usize, first.height() as usize);
    let rows = frames.len().checked_div(columns)? + usize::from(!frames.len().is_multiple_of(columns));
    let stride = columns * width * 3;
    let mut rgb = vec![0; rows * height * stride];
    for (at, frame) in frames.iter().enumerate() {
        let (left, top) = (at % columns * width * 3, at / columns * height);
        for (y, line) in frame.rgb().chunks_exact(frame.width() as usize * 3).take(height).enumerate() {
            let line = &line[..line.len().min(width * 3)];
            let start = (top + y) * stride + left;
            rgb[start..start + line.len()].copy_from_slice(line);
        }
    }
    Frame::new((columns * width) as u32, (rows * height) as u32, rgb).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(width: u32, height: u32, value: u8) -> Frame {
        Frame::new(width, height, vec![value; (width * height * 3) as usize]).unwrap()
    }

    #[test]
    fn a_png_comes_back_as_it_was() {
        let frame = Frame::new(3, 2, (0..18).collect()).unwrap();
        assert_eq!(Frame::decode(&png(&frame)).unwrap(), frame);
    }

    #[test]
    fn frames_stand_in_their_cells() {
        let frames = [plain(2, 3, 10), plain(2, 3, 20), plain(5, 1, 30)];
        let whole = grid(&frames, 2).unwrap();
        assert_eq!((whole.width(), whole.height()), (4, 6));
        let at = |x, y| whole.pixel(x, y)[0];
        assert_eq!([at(1, 2), at(2, 0), at(0, 3), at(1, 3)], [10, 20, 30, 30]);
        assert_eq!([at(2, 3), at(0, 4)], [0, 0]);
        assert_eq!(grid(&[], 3), None);
        assert_eq!(grid(&frames, 0), None);
    }
}
