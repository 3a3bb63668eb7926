//! Layout `mnist`: the original idx files, unpacked. Fashion-MNIST and others of the same form are read as well.

use super::classes::choose;
use super::item::Form;
use super::{DataConfig, DatasetError, Item, Parts, TestItem};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const IMAGES_MAGIC: u32 = 0x803;
const LABELS_MAGIC: u32 = 0x801;
const IMAGES_HEADER_BYTES: u64 = 16;
const LABELS_HEADER_BYTES: u64 = 8;

/// Trains on the normal class of the `train-*` files, tests on all of the `t10k-*` files. Classes are `0` to `9`.
pub(super) fn mnist(config: &DataConfig) -> Result<Parts, DatasetError> {
    let classes: Vec<String> = (0..10).map(|c| c.to_string()).collect();
    let class = choose(config, &classes)?;
    let normal = records(&config.root, "train")?.filter(|(label, _)| label == class).map(|(_, item)| item);
    let test = records(&config.root, "t10k")?.map(|(label, item)| {
        let kind = (label != class).then_some(label);
        TestItem { item, kind, mask: None }
    });
    let parts = Parts { normal: normal.collect(), test: test.collect() };
    if parts.normal.is_empty() {
        let reason = format!("no training image of class {class}");
        return Err(DatasetError::Damaged { path: config.root.clone(), reason });
    }
    Ok(parts)
}

/// Whether `root` has the training images.
pub(super) fn is_mnist(root: &Path) -> bool {
    find(root, "train-images", 3).is_file()
}

/// The file of a part, under either of the two names it is handed around by.
fn find(root: &Path, part: &str, dimensions: u32) -> PathBuf {
    let dotted = root.join(format!("{part}.idx{dimensions}-ubyte"));
    if dotted.is_file() { dotted } else { root.join(format!("{part}-idx{dimensions}-ubyte")) }
}

/// Label and image of each record of `train` or `t10k`.
fn records(root: &Path, part: &str) -> Result<impl Iterator<Item = (String, Item)>, DatasetError> {
    let path = find(root, &format!("{part}-images"), 3);
    let [magic, count, height, width] = header(&path)?;
    let size = u64::from(height) * u64::from(width);
    let bytes = u64::from(count).saturating_mul(size).saturating_add(IMAGES_HEADER_BYTES);
    if magic != IMAGES_MAGIC || count == 0 || size == 0 || length(&path)? != bytes {
        let reason = format!("not {count} images of {width} x {height} bytes after an idx3 header");
        return Err(DatasetError::Damaged { path, reason });
    }
    let labels_path = find(root, &format!("{part}-labels"), 1);
    let [magic, labels] = header(&labels_path)?;
    let label_bytes = std::fs::read(&labels_path).map_err(DatasetError::io(&labels_path))?;
    if magic != LABELS_MAGIC || labels != count || label_bytes.len() as u64 != LABELS_HEADER_BYTES + u64::from(count) {
        let reason = format!("not the {count} labels of {} after an idx1 header", path.display());
        return Err(DatasetError::Damaged { path: labels_path, reason });
    }
    let shared = Arc::new(path);
    let part = part.to_string();
    let labels = label_bytes.into_iter().skip(LABELS_HEADER_BYTES as usize).enumerate();
    Ok(labels.map(move |(at, label)| {
        let offset = IMAGES_HEADER_BYTES + at as u64 * size;
        (
            label.to_string(),
            Item::record(format!("{part}/{at:05}"), shared.clone(), offset, (width, height), Form::Grey),
        )
    }))
}

/// The first `N` big-endian words.
fn header<const N: usize>(path: &Path) -> Result<[u32; N], DatasetError> {
    let mut file = File::open(path).map_err(DatasetError::io(path))?;
    let mut words = [0; N];
    for word in &mut words {
        let mut bytes = [0; 4];
        if file.read_exact(&mut bytes).is_err() {
            return Err(DatasetError::Damaged { path: path.into(), reason: "shorter than its header".into() });
        }
        *word = u32::from_be_bytes(bytes);
    }
    Ok(words)
}

fn length(path: &Path) -> Result<u64, DatasetError> {
    Ok(std::fs::metadata(path).map_err(DatasetError::io(path))?.len())
}

#[cfg(test)]
mod tests {
    use super::super::Dataset;
    use super::super::tests::{config, kinds};
    use super::*;

    fn idx(magic: u32, sizes: &[u32], data: &[u8]) -> Vec<u8> {
        let words = std::iter::once(&magic).chain(sizes).flat_map(|w| w.to_be_bytes());
        words.chain(data.iter().copied()).collect()
    }

    fn write(root: &Path, name: &str, bytes: &[u8]) {
        std::fs::write(root.join(name), bytes).unwrap();
    }

    /// Three training and two test images of 3 x 2 pixels.
    fn small(root: &Path) {
        write(root, "train-images-idx3-ubyte", &idx(0x803, &[3, 2, 3], &[7; 18]));
        write(root, "train-labels-idx1-ubyte", &idx(0x801, &[3], &[4, 5, 4]));
        let pixels: Vec<u8> = (0..12).collect();
        write(root, "t10k-images.idx3-ubyte", &idx(0x803, &[2, 2, 3], &pixels));
        write(root, "t10k-labels.idx1-ubyte", &idx(0x801, &[2], &[9, 4]));
    }

    #[test]
    fn the_normal_class_trains_and_the_others_are_kinds() {
        let dir = tempfile::tempdir().unwrap();
        small(dir.path());
        let data = Dataset::open(&DataConfig { normal_class: Some("4".into()), ..config(dir.path()) }, 0).unwrap();
        assert_eq!(data.layout, "mnist");
        assert_eq!((data.train.len(), data.validation.len()), (1, 1));
        assert_eq!(kinds(&data), ["t10k/00000: 9", "t10k/00001: -"]);
        let frame = data.test[1].item.load(&mut salad_shared::decoder::Decoder::whole()).unwrap().frame;
        assert_eq!((frame.width(), frame.height(), &frame.rgb()[..4]), (3, 2, [6, 6, 6, 7].as_slice()));
    }

    #[test]
    fn damaged_files_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let config = DataConfig { normal_class: Some("4".into()), ..config(dir.path()) };
        let cases: [(&str, Vec<u8>); 7] = [
            ("train-images-idx3-ubyte", idx(0x803, &[3, 2, 3], &[7; 17])),
            ("train-images-idx3-ubyte", idx(0x802, &[3, 2, 3], &[7; 18])),
            ("train-images-idx3-ubyte", idx(0x803, &[3, 0, 3], &[])),
            ("train-images-idx3-ubyte", idx(0x803, &[u32::MAX, u32::MAX, u32::MAX], &[7; 18])),
            ("train-labels-idx1-ubyte", idx(0x801, &[2], &[4, 5])),
            ("t10k-labels.idx1-ubyte", vec![0, 0]),
            ("t10k-images.idx3-ubyte", vec![]),
        ];
        for (name, bytes) in cases {
            small(dir.path());
            write(dir.path(), name, &bytes);
            let error = Dataset::open(&config, 0).unwrap_err();
            assert!(matches!(error, DatasetError::Damaged { .. }) && error.to_string().contains(name), "{error}");
        }
    }
}
