//! Layout `cifar10`: the original binary files. A record is one byte of label and 32 x 32 bytes of red, green and blue.

use super::classes::choose;
use super::item::Form;
use super::{DataConfig, DatasetError, Item, Parts, TestItem};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const CLASSES: [&str; 10] = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];
const SIDE: u32 = 32;
const RECORD_BYTES: usize = 1 + 3 * 32 * 32;

/// Trains on the normal class of the `data_batch_*.bin` that are there, tests on all of `test_batch.bin`.
pub(super) fn cifar10(config: &DataConfig) -> Result<Parts, DatasetError> {
    let classes = CLASSES.map(String::from);
    let class = choose(&named(config), &classes)?;
    let Some(folder) = folder(&config.root) else {
        return Err(DatasetError::Missing { path: config.root.join("data_batch_1.bin") });
    };
    let mut normal = Vec::new();
    for file in batches().into_iter().filter(|f| folder.join(f).is_file()) {
        normal.extend(records(&folder, &file)?.filter(|(c, _)| *c == class).map(|(_, item)| item));
    }
    if normal.is_empty() {
        return Err(DatasetError::Damaged { path: folder, reason: format!("no training image of class {class}") });
    }
    let test = records(&folder, "test_batch.bin")?.map(|(c, item)| {
        let kind = (c != class).then(|| c.to_string());
        TestItem { item, kind, mask: None }
    });
    Ok(Parts { normal, test: test.collect() })
}

/// Where under `root` the files are, if they are.
pub(super) fn folder(root: &Path) -> Option<PathBuf> {
    let folders = [root.to_path_buf(), root.join("cifar-10-batches-bin")];
    folders.into_iter().find(|f| batches().iter().any(|b| f.join(b).is_file()))
}

fn batches() -> [String; 5] {
    [1, 2, 3, 4, 5].map(|i| format!("data_batch_{i}.bin"))
}

/// The configuration with the class by name where it was given by number.
fn named(config: &DataConfig) -> DataConfig {
    let number = config.normal_class.as_ref().and_then(|c| c.parse::<usize>().ok());
    let name = number.and_then(|n| CLASSES.get(n)).map(|c| c.to_string());
    DataConfig { normal_class: name.or(config.normal_class.clone()), ..config.clone() }
}

/// Class and image of each record.
fn records(folder: &Path, file: &str) -> Result<impl Iterator<Item = (&'static str, Item)>, DatasetError> {
    let path = folder.join(file);
    let bytes = std::fs::read(&path).map_err(DatasetError::io(&path))?;
    let damaged = |reason| Err(DatasetError::Damaged { path: path.clone(), reason });
    if bytes.is_empty() || bytes.len() % RECORD_BYTES != 0 {
        return damaged(format!("{} bytes are no multiple of the {RECORD_BYTES} of a record", bytes.len()));
    }
    let labels: Vec<u8> = bytes.iter().copied().step_by(RECORD_BYTES).collect();
    let classes: Option<Vec<&'static str>> = labels.iter().map(|&l| CLASSES.get(usize::from(l)).copied()).collect();
    let Some(classes) = classes else {
        return damaged("a label above 9".into());
    };
    let shared = Arc::new(path);
    let prefix = file.to_string();
    Ok(classes.into_iter().enumerate().map(move |(at, class)| {
        let offset = (at * RECORD_BYTES + 1) as u64;
        (class, Item::record(format!("{prefix}/{at:05}"), shared.clone(), offset, (SIDE, SIDE), Form::Planes))
    }))
}

#[cfg(test)]
mod tests {
    use super::super::Dataset;
    use super::super::tests::{config, kinds, names};
    use super::*;

    fn record(label: u8, red: u8) -> Vec<u8> {
        let planes = [red, 100, 200].into_iter().flat_map(|v| [v; 1024]);
        std::iter::once(label).chain(planes).collect()
    }

    #[test]
    fn the_normal_class_trains_and_the_others_are_kinds() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("cifar-10-batches-bin");
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("data_batch_1.bin"), [record(3, 1), record(0, 2), record(3, 3)].concat()).unwrap();
        std::fs::write(folder.join("test_batch.bin"), [record(3, 4), record(9, 5)].concat()).unwrap();
        for class in ["cat", "3"] {
            let data =
                Dataset::open(&DataConfig { normal_class: Some(class.into()), ..config(dir.path()) }, 0).unwrap();
            assert_eq!(data.layout, "cifar10");
            let mut trained = [names(&data.train), names(&data.validation)].concat();
            trained.sort();
            assert_eq!(trained, ["data_batch_1.bin/00000", "data_batch_1.bin/00002"]);
            assert_eq!(kinds(&data), ["test_batch.bin/00000: -", "test_batch.bin/00001: truck"]);
            let frame = data.test[1].item.load(&mut salad_shared::decoder::Decoder::whole()).unwrap().frame;
            assert_eq!(
                (frame.width(), frame.height(), &frame.rgb()[..6]),
                (32, 32, [5, 100, 200, 5, 100, 200].as_slice())
            );
        }
        let error = Dataset::open(&config(dir.path()), 0).unwrap_err().to_string();
        assert!(error.contains("airplane, automobile"), "{error}");
    }

    #[test]
    fn damaged_files_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let config = DataConfig { normal_class: Some("cat".into()), ..config(dir.path()) };
        let error = |train: &[u8]| {
            std::fs::write(dir.path().join("data_batch_1.bin"), train).unwrap();
            Dataset::open(&config, 0).unwrap_err().to_string()
        };
        assert!(error(&record(3, 0)[1..]).contains("3072 bytes"));
        assert!(error(&[]).contains("data_batch_1.bin"));
        assert!(error(&record(10, 0)).contains("label above 9"));
        assert!(error(&record(2, 0)).contains("no training image of class cat"));
        assert!(error(&record(3, 0)).contains("test_batch.bin: no such file"));
    }
}
