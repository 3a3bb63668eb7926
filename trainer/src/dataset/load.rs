//! Decodes images on worker threads, once, into frames of the network's input size.

use super::{DatasetError, Item};
use salad_shared::decoder::{Decoded as Picture, Decoder};
use salad_shared::preprocess::{Frame, InputSpec};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

/// Bad images named in the error when there are too many.
const NAMED: usize = 5;

/// Decoded images.
#[derive(Debug)]
pub struct Loaded {
    /// Frames of exactly the input size, in the order of the items.
    pub frames: Vec<Frame>,
    /// For each frame, its item's position.
    pub positions: Vec<usize>,
    /// Each image's own \[width, height\] before it was resized, in the order of the frames.
    pub sizes: Vec<[u32; 2]>,
    /// Name and reason of each image that could not be used.
    pub skipped: Vec<(String, String)>,
}

/// Loads `items` with `threads` workers (0 counts as 1) and resizes them as inference does. `progress` is called on this
/// thread with the images done and their total. What comes back does not depend on the number of threads.
///
/// An image that cannot be used is reported and skipped; more than 1 % of them are an error
/// ([`DatasetError::TooManyBad`]), so that of fewer than 100 images not one may be bad.
pub fn load_frames(
    items: &[Item],
    input: &InputSpec,
    threads: usize,
    progress: &dyn Fn(usize, usize),
) -> Result<Loaded, DatasetError> {
    let total = items.len();
    let next = AtomicUsize::new(0);
    let mut results: Vec<Option<Decoded>> = Vec::new();
    results.resize_with(total, || None);
    std::thread::scope(|scope| {
        let (sender, receiver) = mpsc::channel();
        for _ in 0..threads.clamp(1, total.max(1)) {
            let (sender, next) = (sender.clone(), &next);
            scope.spawn(move || {
                let mut decoder = Decoder::covering(input.width, input.height);
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(item) = items.get(at) else { return };
                    let resized = |Picture { frame, size }| (frame.resized(input.width, input.height), size.into());
                    let frame = item.load(&mut decoder).map(resized);
                    if sender.send((at, frame)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        for (done, (at, frame)) in receiver.iter().enumerate() {
            if let Some(slot) = results.get_mut(at) {
                *slot = Some(frame);
            }
            progress(done + 1, total);
        }
    });
    let mut loaded = Loaded {
        frames: Vec::with_capacity(total),
        positions: Vec::with_capacity(total),
        sizes: Vec::with_capacity(total),
        skipped: Vec::new(),
    };
    for (at, (item, result)) in items.iter().zip(results).enumerate() {
        match result {
            Some(Ok((frame, size))) => {
                loaded.frames.push(frame);
                loaded.sizes.push(size);
                loaded.positions.push(at);
            }
            Some(Err(e)) => {
                log::warn!("skipped: {e}");
                loaded.skipped.push((item.name.clone(), reason(&e)));
            }
            None => loaded.skipped.push((item.name.clone(), "was not loaded".into())),
        }
    }
    let bad = loaded.skipped.len();
    if bad * 100 > total {
        let first = loaded.skipped.iter().take(NAMED).map(|(name, reason)| format!("{name}: {reason}")).collect();
        return Err(DatasetError::TooManyBad { bad, total, first });
    }
    Ok(loaded)
}

/// A frame of the input's size with the image's own, or what is wrong with it.
type Decoded = Result<(Frame, [u32; 2]), DatasetError>;

/// What is wrong, without the name that stands beside it.
fn reason(error: &DatasetError) -> String {
    match error {
        DatasetError::Image { source, .. } => source.to_string(),
        DatasetError::Io { source, .. } => source.to_string(),
        DatasetError::Missing { .. } => "no such file".into(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{config, encoded, png, tree};
    use super::super::{DataConfig, Dataset, Layout};
    use super::*;
    use std::cell::Cell;
    use std::path::Path;

    const INPUT: InputSpec = InputSpec { width: 16, height: 8, channels: 3 };

    fn items(root: &Path) -> Vec<Item> {
        let config = DataConfig { layout: Layout::Images, ..config(root) };
        let data = Dataset::open(&config, 0).unwrap();
        let mut items = [data.train, data.validation].concat();
        items.sort_by(|a, b| a.name.cmp(&b.name));
        items
    }

    #[test]
    fn every_kind_of_image_becomes_a_frame_of_the_input_size() {
        use image::{DynamicImage as D, GrayImage, ImageFormat as F, Luma};
        let dir = tempfile::tempdir().unwrap();
        let grey = D::ImageLuma8(GrayImage::from_pixel(40, 30, Luma([9])));
        let one = D::ImageRgb8(image::RgbImage::from_pixel(1, 1, image::Rgb([9; 3])));
        let deep = D::ImageLuma16(image::ImageBuffer::from_pixel(5, 5, Luma([9 * 257])));
        for (name, image, format) in [
            ("a.png", grey.clone(), F::Png),
            ("b.png", D::ImageRgba8(grey.to_rgba8()), F::Png),
            ("c.png", deep.clone(), F::Png),
            ("d.tif", deep, F::Tiff),
            ("e.bmp", one, F::Bmp),
            ("f.webp", D::ImageRgb8(grey.to_rgb8()), F::WebP),
            ("g.ppm", D::ImageRgb8(grey.to_rgb8()), F::Pnm),
            ("h.jpg", grey, F::Jpeg),
        ] {
            std::fs::write(dir.path().join(name), encoded(&image, format)).unwrap();
        }
        let calls = Cell::new(0);
        let progress = |done, total| {
            calls.set(calls.get() + 1);
            assert_eq!((done, total), (calls.get(), 8));
        };
        let loaded = load_frames(&items(dir.path()), &INPUT, 3, &progress).unwrap();
        assert_eq!((loaded.frames.len(), loaded.skipped.len(), calls.get()), (8, 0, 8));
        for frame in &loaded.frames {
            assert_eq!((frame.width(), frame.height()), (16, 8));
            assert!(frame.rgb().iter().all(|v| v.abs_diff(9) <= 1));
        }
        assert_eq!(loaded.sizes[..5], [[40, 30], [40, 30], [5, 5], [5, 5], [1, 1]]);
    }

    #[test]
    fn one_bad_image_in_a_hundred_is_skipped_and_two_stop() {
        let dir = tempfile::tempdir().unwrap();
        let files: Vec<String> = (0..99).map(|i| format!("{i:02}.png")).collect();
        tree(dir.path(), &files);
        let whole = Frame::decode(&png(64, 64, 1)).unwrap().to_jpeg(90);
        std::fs::write(dir.path().join("50x.jpg"), &whole[..whole.len() - 9]).unwrap();
        let listed = items(dir.path());
        let one = load_frames(&listed, &INPUT, 1, &|_, _| {}).unwrap();
        let four = load_frames(&listed, &INPUT, 4, &|_, _| {}).unwrap();
        assert_eq!(one.skipped.len(), 1);
        assert_eq!(one.skipped[0].0, "50x.jpg");
        assert!(one.skipped[0].1.contains("cut short"), "{:?}", one.skipped);
        assert_eq!((one.frames.len(), one.positions.len()), (99, 99));
        assert!(!one.positions.contains(&51) && one.positions.is_sorted());
        assert!(one.frames == four.frames && one.positions == four.positions && one.skipped == four.skipped);

        let whole = png(64, 64, 1);
        std::fs::write(dir.path().join("60.png"), &whole[..whole.len() / 2]).unwrap();
        let error = load_frames(&listed, &INPUT, 2, &|_, _| {}).unwrap_err().to_string();
        assert!(error.contains("2 of 100") && error.contains("50x.jpg") && error.contains("60.png"), "{error}");
    }

    #[test]
    fn of_few_images_none_may_be_bad() {
        let dir = tempfile::tempdir().unwrap();
        tree(dir.path(), &["1.png", "2.png"]);
        let listed = items(dir.path());
        std::fs::remove_file(dir.path().join("2.png")).unwrap();
        let error = load_frames(&listed, &INPUT, 2, &|_, _| {}).unwrap_err();
        assert!(matches!(error, DatasetError::TooManyBad { bad: 1, total: 2, .. }), "{error}");
        assert!(error.to_string().contains("2.png: no such file"), "{error}");
        assert!(load_frames(&[], &INPUT, 0, &|_, _| {}).unwrap().frames.is_empty());
    }
}
