//! Layouts of image files: `mvtec`, `folder` (anomalib's Folder) and `images`.

use super::listing::{Listing, joined, subfolders};
use super::split::{Purpose, split};
use super::{DataConfig, DatasetError, Item, NormalTest, Parts, TestItem};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// `ROOT/train/good`, `ROOT/test/<kind>`, and masks in `ROOT/ground_truth/<kind>` where there are any.
pub(super) fn mvtec(config: &DataConfig) -> Result<Parts, DatasetError> {
    let extensions = config.image_extensions();
    let listing = Listing { extensions: &extensions, exclude: &[], keep: None };
    let root = &config.root;
    let normal = listing.some_images(&root.join("train/good"), "train/good")?;
    let mut test = Vec::new();
    if root.join("test").is_dir() {
        for kind in subfolders(&root.join("test"))? {
            let items = listing.images(&root.join("test").join(&kind), &format!("test/{kind}"))?;
            if kind == "good" {
                test.extend(normal_tests(items));
                continue;
            }
            let folder = root.join("ground_truth").join(&kind);
            let masks = if folder.is_dir() { listing.images(&folder, "")? } else { Vec::new() };
            test.extend(with_masks(items, &kind, &format!("test/{kind}"), &by_stem(&folder, &masks)));
        }
    }
    Ok(Parts { normal, test })
}

/// Folders of normal and of abnormal images, named one by one.
pub(super) fn folder(config: &DataConfig) -> Result<Parts, DatasetError> {
    if config.normal_dir.is_empty() {
        return Err(DatasetError::Config(
            "data.normal_dir is not set: layout folder needs the folder of the normal images".into(),
        ));
    }
    let groups = [&config.normal_dir, &config.abnormal_dir, &config.normal_test_dir, &config.mask_dir];
    let folders = groups.into_iter().flatten().map(|f| config.root.join(f));
    let all = folders.map(|f| f.canonicalize().map_err(DatasetError::io(&f))).collect::<Result<Vec<_>, _>>()?;
    for (at, folder) in all.iter().enumerate() {
        if all[..at].contains(folder) {
            return Err(DatasetError::Config(format!(
                "{} is named twice among normal_dir, abnormal_dir, normal_test_dir and mask_dir: no image can be two \
                 of these",
                folder.display()
            )));
        }
    }
    let extensions = config.image_extensions();
    // A folder inside another is listed once only, for what it was named as.
    let listing = Listing { extensions: &extensions, exclude: &all, keep: None };
    let list = |folders: &[PathBuf]| {
        let lists = folders.iter().map(|f| listing.some_images(&config.root.join(f), &prefix(f)));
        Ok::<_, DatasetError>(lists.collect::<Result<Vec<_>, _>>()?.concat())
    };
    let normal = list(&config.normal_dir)?;
    let (normal, normal_test) = if config.normal_test_dir.is_empty() {
        set_aside(normal, config.normal_test, !config.abnormal_dir.is_empty())?
    } else if config.normal_test.is_some() {
        return Err(DatasetError::Config("data.normal_test and data.normal_test_dir are both set: keep one".into()));
    } else {
        (normal, list(&config.normal_test_dir)?)
    };
    let mut masks = HashMap::new();
    for f in &config.mask_dir {
        let folder = config.root.join(f);
        masks.extend(by_stem(&folder, &listing.images(&folder, "")?));
    }
    let mut test = normal_tests(normal_test);
    for f in &config.abnormal_dir {
        let kind = f.file_name().map_or_else(|| "abnormal".into(), |n| n.to_string_lossy().into_owned());
        test.extend(with_masks(list(std::slice::from_ref(f))?, &kind, &prefix(f), &masks));
    }
    Ok(Parts { normal, test })
}

/// Every image under `root` is normal.
pub(super) fn images(config: &DataConfig) -> Result<Parts, DatasetError> {
    let extensions = config.image_extensions();
    let listing = Listing { extensions: &extensions, exclude: &[], keep: None };
    Ok(Parts { normal: listing.some_images(&config.root, "")?, test: Vec::new() })
}

/// `(train, test)` of normal images by `how`, by default a fifth of them if `wanted`.
pub(super) fn set_aside(
    mut normal: Vec<Item>,
    how: Option<NormalTest>,
    wanted: bool,
) -> Result<(Vec<Item>, Vec<Item>), DatasetError> {
    match how {
        None if !wanted => Ok((normal, Vec::new())),
        None => Ok(split(normal, 0.2, Purpose::Test)),
        Some(NormalTest::Share(share)) => Ok(split(normal, share, Purpose::Test)),
        Some(NormalTest::FirstTrain(count)) if count < normal.len() => {
            normal.sort_by(|a, b| super::listing::natural(&a.name, &b.name));
            let test = normal.split_off(count);
            Ok((normal, test))
        }
        Some(NormalTest::FirstTrain(count)) => Err(DatasetError::Config(format!(
            "data.normal_test.first_train = {count}: there are only {} normal images, so that none would be left to \
             test with",
            normal.len()
        ))),
    }
}

/// Normal images as images to test with.
pub(super) fn normal_tests(items: Vec<Item>) -> Vec<TestItem> {
    items.into_iter().map(|item| TestItem { item, kind: None, mask: None }).collect()
}

/// What a configured folder's images are called before the `/`: the folder as it was written, without `.` and root.
fn prefix(folder: &Path) -> String {
    use std::path::Component as C;
    joined("", &folder.components().filter(|c| matches!(c, C::Normal(_) | C::ParentDir)).collect::<PathBuf>())
}

/// Masks by the path of their image below its folder, ending and `_mask` taken off.
fn by_stem(folder: &Path, masks: &[Item]) -> HashMap<String, PathBuf> {
    let key = |name: &str| {
        let stem = stem(name);
        stem.strip_suffix("_mask").unwrap_or(stem).to_string()
    };
    masks.iter().map(|m| (key(&m.name), folder.join(&m.name))).collect()
}

fn with_masks(items: Vec<Item>, kind: &str, prefix: &str, masks: &HashMap<String, PathBuf>) -> Vec<TestItem> {
    let of = |item: &Item| {
        let below = item.name.strip_prefix(prefix).unwrap_or(&item.name).trim_start_matches('/');
        // Masks of several kinds may lie in one folder, or in one folder each inside it.
        masks.get(stem(below)).or_else(|| masks.get(&format!("{kind}/{}", stem(below)))).cloned()
    };
    items.into_iter().map(|item| TestItem { mask: of(&item), kind: Some(kind.to_string()), item }).collect()
}

fn stem(name: &str) -> &str {
    name.rsplit_once('.').map_or(name, |(stem, _)| stem)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{config, kinds, names, tree};
    use super::super::{Dataset, Layout};
    use super::*;

    #[test]
    fn mvtec_has_kinds_and_masks() {
        let dir = tempfile::tempdir().unwrap();
        let files = [
            "train/good/000.png",
            "train/good/001.png",
            "test/good/000.png",
            "test/hole/000.png",
            "test/hole/001.png",
            "ground_truth/hole/000_mask.png",
        ];
        tree(dir.path(), &files);
        let data = Dataset::open(&config(dir.path()), 0).unwrap();
        assert_eq!(data.layout, "mvtec");
        assert_eq!((data.train.len(), data.validation.len()), (1, 1));
        assert_eq!(kinds(&data), ["test/good/000.png: -", "test/hole/000.png: hole", "test/hole/001.png: hole"]);
        let masks: Vec<_> = data.test.iter().map(|t| t.mask.clone()).collect();
        assert_eq!(masks, [None, Some(dir.path().join("ground_truth/hole/000_mask.png")), None]);
    }

    #[test]
    fn mvtec_needs_neither_ground_truth_nor_test() {
        let dir = tempfile::tempdir().unwrap();
        tree(dir.path(), &["train/good/0.png", "train/good/1.png"]);
        assert!(Dataset::open(&config(dir.path()), 0).unwrap().test.is_empty());
        tree(dir.path(), &["test/defect/a.png"]);
        assert_eq!(kinds(&Dataset::open(&config(dir.path()), 0).unwrap()), ["test/defect/a.png: defect"]);
    }

    #[test]
    fn folder_keeps_each_folder_to_its_role_even_inside_another() {
        let dir = tempfile::tempdir().unwrap();
        tree(dir.path(), &["1.png", "2.png", "10.png", "bad/x.png", "odd/y.png", "bad/masks/x_mask.png"]);
        let mut config = DataConfig {
            normal_dir: vec![".".into()],
            abnormal_dir: vec!["bad".into(), dir.path().join("odd")],
            mask_dir: vec!["bad/masks".into()],
            normal_test: Some(NormalTest::FirstTrain(2)),
            validation_share: 0.5,
            ..config(dir.path())
        };
        let data = Dataset::open(&config, 0).unwrap();
        assert_eq!(data.layout, "folder");
        let mut normal = [names(&data.train), names(&data.validation)].concat();
        normal.sort();
        assert_eq!(normal, ["1.png", "2.png"]);
        let found = kinds(&data);
        assert_eq!(found[..2], ["10.png: -", "bad/x.png: bad"]);
        assert!(found[2].ends_with("odd/y.png: odd") && !found[2].starts_with('/'), "{found:?}");
        assert_eq!(data.test[1].mask, Some(dir.path().join("bad/masks/x_mask.png")));

        config.abnormal_dir.push("./bad".into());
        let error = Dataset::open(&config, 0).unwrap_err().to_string();
        assert!(error.contains("named twice"), "{error}");
    }

    #[test]
    fn normal_images_are_set_aside_as_configured() {
        let dir = tempfile::tempdir().unwrap();
        let files: Vec<String> = (0..50).map(|i| format!("ok/{i}.png")).collect();
        tree(dir.path(), &files);
        tree(dir.path(), &["bad/1.png", "more/1.png"]);
        let open = |config: &DataConfig| Dataset::open(config, 0);
        let normal = |data: &Dataset| data.test.iter().filter(|t| t.kind.is_none()).count();
        let base = DataConfig { normal_dir: vec!["ok".into()], ..config(dir.path()) };
        assert_eq!(normal(&open(&base).unwrap()), 0);
        let with_bad = DataConfig { abnormal_dir: vec!["bad".into()], ..base.clone() };
        assert!((3..20).contains(&normal(&open(&with_bad).unwrap())));
        let all = DataConfig { normal_test: Some(NormalTest::FirstTrain(50)), ..base.clone() };
        assert!(open(&all).unwrap_err().to_string().contains("only 50 normal images"));
        let own = DataConfig { normal_test_dir: vec!["more".into()], ..with_bad };
        assert_eq!(normal(&open(&own).unwrap()), 1);
        let gone = DataConfig { normal_test_dir: vec!["gone".into()], ..base.clone() };
        assert!(matches!(open(&gone), Err(DatasetError::Missing { .. })));
        let explicit = DataConfig { layout: Layout::Folder, ..config(dir.path()) };
        assert!(open(&explicit).unwrap_err().to_string().contains("data.normal_dir"));
    }
}
