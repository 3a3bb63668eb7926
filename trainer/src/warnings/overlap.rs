//! Test images that were learnt from, to train or to validate: the same pixels, or nearly.

use salad_shared::preprocess::Frame;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

/// Side of the thumbnails that are compared, pixels.
const SIDE: u32 = 16;
/// Root mean square difference of two thumbnails, grey levels of 255, up to which they are of one picture. Another
/// compression or size makes less than 1; two photographs of one kind of part are 4 apart at least, and a fixed camera's
/// pictures 0.2.
const COPY: u32 = 2;
/// Where more than this share of the training images has such a copy among the others, pictures are too alike to tell
/// copies from neighbours: a fixed camera.
const ALIKE: f64 = 0.02;
/// Images looked at, at most, of either set; each is compared with all training images.
const LOOKED_AT: usize = 2000;
/// Pairs that are named.
const NAMED: usize = 3;

/// Images by name, with a hash of their pixels and a thumbnail each.
pub(super) struct Hashed<'a> {
    names: Vec<&'a str>,
    exact: Vec<u64>,
    thumbnails: Vec<Vec<u8>>,
}

impl<'a> Hashed<'a> {
    /// Of frames of one size, with their names.
    pub(super) fn new(images: impl Iterator<Item = (&'a str, &'a Frame)>) -> Hashed<'a> {
        let mut hashed = Hashed { names: Vec::new(), exact: Vec::new(), thumbnails: Vec::new() };
        for (name, frame) in images {
            let mut hasher = DefaultHasher::new();
            frame.rgb().hash(&mut hasher);
            hashed.names.push(name);
            hashed.exact.push(hasher.finish());
            hashed.thumbnails.push(thumbnail(frame));
        }
        hashed
    }
}

/// Says which test images are training images. `normal` says of each test image whether it is normal: an anomalous one
/// may well be a training image but for its defect, so that only equal pixels count there.
pub(super) fn warning(train: &Hashed, test: &Hashed, normal: &[bool]) -> Option<String> {
    let exact: HashMap<u64, usize> = train.exact.iter().enumerate().map(|(i, &hash)| (hash, i)).collect();
    let mut pairs: Vec<(usize, usize)> =
        test.exact.iter().enumerate().filter_map(|(i, hash)| Some((i, *exact.get(hash)?))).collect();
    let equal = pairs.len();
    let near = near_copies(train, test, normal).into_iter().filter(|(t, _)| !pairs.iter().any(|(same, _)| same == t));
    pairs.extend(near.collect::<Vec<_>>());
    let how = match (equal, pairs.len() - equal) {
        (_, 0) => "the same as",
        (0, _) => "copies of",
        _ => "the same as, or copies of,",
    };
    let least = if test.names.len() > LOOKED_AT && pairs.len() > equal { "at least " } else { "" };
    let name = |names: &[&str], at: usize| names.get(at).copied().unwrap_or_default().to_owned();
    let named = pairs.iter().take(NAMED).map(|&(t, own)| {
        let (test, train) = (name(&test.names, t), name(&train.names, own));
        format!("{test} = {train}")
    });
    let named = named.collect::<Vec<_>>().join(", ");
    let more = if pairs.len() > NAMED { ", ..." } else { "" };
    (!pairs.is_empty()).then(|| {
        format!(
            "{least}{} of {} test images are {how} training images ({named}{more}), and the test's figures are too good: take them \
             out of one of the two",
            pairs.len(),
            test.names.len()
        )
    })
}

/// Normal test images, each with the training image it is nearly the same as; none where training images are that near to
/// each other.
fn near_copies(train: &Hashed, test: &Hashed, normal: &[bool]) -> Vec<(usize, usize)> {
    let copy_of = |own: &[u8], but: Option<usize>| {
        let others = train.thumbnails.iter().enumerate().filter(|(i, _)| Some(*i) != but);
        others.filter(|(_, other)| are_copies(own, other)).map(|(i, _)| i).next()
    };
    let spread = |n: usize| (0..n).step_by(n.div_ceil(LOOKED_AT).max(1));
    let looked_at: Vec<usize> = spread(train.thumbnails.len()).collect();
    let alike = looked_at.iter().filter(|&&i| train.thumbnails.get(i).is_some_and(|t| copy_of(t, Some(i)).is_some()));
    if alike.count() as f64 > ALIKE * looked_at.len() as f64 {
        return Vec::new();
    }
    let tested = spread(test.thumbnails.len()).filter(|&i| normal.get(i) == Some(&true));
    tested.filter_map(|i| Some((i, copy_of(test.thumbnails.get(i)?, None)?))).collect()
}

/// The frame's brightness at [`SIDE`] x [`SIDE`].
fn thumbnail(frame: &Frame) -> Vec<u8> {
    let light = |rgb: &[u8]| (rgb.iter().map(|&v| u32::from(v)).sum::<u32>() / 3) as u8;
    frame.resized(SIDE, SIDE).rgb().chunks_exact(3).map(light).collect()
}

/// Whether two thumbnails are of one picture; row by row, since most pairs differ in the first.
fn are_copies(a: &[u8], b: &[u8]) -> bool {
    let most = COPY * COPY * SIDE * SIDE;
    let rows = a.chunks(SIDE as usize).zip(b.chunks(SIDE as usize));
    let squares = rows.map(|(a, b)| a.iter().zip(b).map(|(&a, &b)| u32::from(a.abs_diff(b)).pow(2)).sum::<u32>());
    squares
        .scan(0, |sum, row| {
            *sum += row;
            Some(*sum)
        })
        .all(|sum| sum <= most)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    /// A picture of sixty-four squares; `scene` decides their brightness, `noise` what a camera adds.
    fn picture(scene: u64, noise: u64) -> Frame {
        let mut scene = ChaCha8Rng::seed_from_u64(scene);
        let squares: [u8; 64] = std::array::from_fn(|_| scene.random_range(20..220));
        let mut noise = ChaCha8Rng::seed_from_u64(noise);
        let value = |at: usize| squares[at / 64 / 8 * 8 + at % 64 / 8] + noise.random_range(0..6);
        let rgb = (0..64 * 64).map(value).flat_map(|v| [v; 3]).collect();
        Frame::new(64, 64, rgb).unwrap()
    }

    fn found(train: &[Frame], test: &[Frame], normal: bool) -> Option<String> {
        let names = |prefix: &str, n| (0..n).map(|i| format!("{prefix}{i}")).collect::<Vec<_>>();
        let (own, other) = (names("train", train.len()), names("test", test.len()));
        let train = Hashed::new(own.iter().map(String::as_str).zip(train));
        let test = Hashed::new(other.iter().map(String::as_str).zip(test));
        warning(&train, &test, &vec![normal; other.len()])
    }

    #[test]
    fn equal_pixels_are_named_whatever_the_camera() {
        for fixed in [false, true] {
            let scene = |i: u64| if fixed { 1 } else { i };
            let train: Vec<Frame> = (0..60).map(|i| picture(scene(i), i)).collect();
            let mut test: Vec<Frame> = (100..120).map(|i| picture(scene(i), i)).collect();
            assert_eq!(found(&train, &test, true), None);
            test[7] = train[30].clone();
            let warning = found(&train, &test, false).unwrap();
            assert!(warning.contains("1 of 20 test images") && warning.contains("test7 = train30"), "{warning}");
        }
    }

    #[test]
    fn another_compression_is_a_copy_and_a_defect_on_a_training_image_is_not() {
        let train: Vec<Frame> = (0..60).map(|i| picture(i, i)).collect();
        let mut test: Vec<Frame> = (100..120).map(|i| picture(i, i)).collect();
        for i in 0..5 {
            test[i] = Frame::decode(&train[i].to_jpeg(85)).unwrap();
        }
        let warning = found(&train, &test, true).unwrap();
        assert!(warning.contains("5 of 20 test images are copies"), "{warning}");
        assert!(warning.contains("test2 = train2, ...)"), "{warning}");
        assert_eq!(found(&train, &test, false), None);
        test[0] = train[0].clone();
        let warning = found(&train, &test, true).unwrap();
        assert!(warning.contains("5 of 20 test images are the same as, or copies of, training"), "{warning}");
    }

    #[test]
    fn a_fixed_cameras_pictures_are_alike_and_no_copies() {
        // One scene in sixty pictures that differ by noise alone, and one more picture of it.
        let train: Vec<Frame> = (0..60).map(|i| picture(1, i)).collect();
        assert!(are_copies(&thumbnail(&train[0]), &thumbnail(&train[1])), "the test shows nothing");
        assert_eq!(found(&train, &[picture(1, 999)], true), None);
    }
}
