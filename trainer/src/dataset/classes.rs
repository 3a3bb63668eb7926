//! Layout `classes`: one folder a class, one class is normal, every other a kind of defect that is never trained on.

use super::folder::{normal_tests, set_aside};
use super::listing::{Listing, subfolders};
use super::{DataConfig, DatasetError, Parts, TestItem};
use std::path::Path;

/// `train/<class>` and `test/<class>`, or `<class>` alone, where `normal_test` sets normal images aside.
pub(super) fn classes(config: &DataConfig) -> Result<Parts, DatasetError> {
    let extensions = config.image_extensions();
    let listing = Listing { extensions: &extensions, exclude: &[], keep: None };
    let root = &config.root;
    let divided = is_divided(root);
    let found = class_names(root)?;
    let class = choose(config, &found)?.to_string();
    let (normal, mut test, kinds) = if divided {
        if config.normal_test.is_some() {
            return Err(DatasetError::Config(format!(
                "data.normal_test is set, but {} has a test folder of its own: remove the key",
                root.display()
            )));
        }
        let normal = listing.some_images(&root.join("train").join(&class), &format!("train/{class}"))?;
        (normal, Vec::new(), subfolders(&root.join("test"))?)
    } else {
        let normal = listing.some_images(&root.join(&class), &class)?;
        let (normal, aside) = set_aside(normal, config.normal_test, found.len() > 1)?;
        (normal, normal_tests(aside), found.into_iter().filter(|c| *c != class).collect())
    };
    for kind in kinds {
        let (folder, prefix) = if divided {
            (root.join("test").join(&kind), format!("test/{kind}"))
        } else {
            (root.join(&kind), kind.clone())
        };
        let items = listing.images(&folder, &prefix)?;
        let kind = (kind != class).then_some(kind);
        test.extend(items.into_iter().map(|item| TestItem { item, kind: kind.clone(), mask: None }));
    }
    Ok(Parts { normal, test })
}

/// The class folders of `root` in natural order.
pub(super) fn class_names(root: &Path) -> Result<Vec<String>, DatasetError> {
    subfolders(&if is_divided(root) { root.join("train") } else { root.into() })
}

/// The one of `classes` that `normal_class` names.
pub(super) fn choose<'a>(config: &DataConfig, classes: &'a [String]) -> Result<&'a str, DatasetError> {
    let path = || config.root.clone();
    match &config.normal_class {
        None => Err(DatasetError::ClassNeeded { path: path(), classes: classes.to_vec() }),
        Some(wanted) => classes.iter().find(|c| *c == wanted).map(String::as_str).ok_or_else(|| {
            DatasetError::UnknownClass { wanted: wanted.clone(), path: path(), classes: classes.to_vec() }
        }),
    }
}

/// Whether `root` has a training and a test folder, with the classes in each.
fn is_divided(root: &Path) -> bool {
    root.join("train").is_dir() && root.join("test").is_dir()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{config, kinds, names, tree};
    use super::super::{Dataset, NormalTest};
    use super::*;

    #[test]
    fn of_the_training_classes_only_the_normal_one_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        tree(dir.path(), &["train/NORMAL/1.png", "train/NORMAL/2.png", "train/SICK/1.png"]);
        tree(dir.path(), &["test/NORMAL/1.png", "test/SICK/1.png", "test/ODD/1.png"]);
        let normal = DataConfig { normal_class: Some("NORMAL".into()), ..config(dir.path()) };
        let data = Dataset::open(&normal, 0).unwrap();
        assert_eq!(data.layout, "classes");
        let mut trained = [names(&data.train), names(&data.validation)].concat();
        trained.sort();
        assert_eq!(trained, ["train/NORMAL/1.png", "train/NORMAL/2.png"]);
        assert_eq!(kinds(&data), ["test/NORMAL/1.png: -", "test/ODD/1.png: ODD", "test/SICK/1.png: SICK"]);

        let error = Dataset::open(&DataConfig { normal_class: Some("FINE".into()), ..normal }, 0).unwrap_err();
        assert!(error.to_string().contains("\"FINE\"") && error.to_string().contains("NORMAL, SICK"), "{error}");
        let error = Dataset::open(&config(dir.path()), 0).unwrap_err();
        assert!(matches!(error, DatasetError::ClassNeeded { .. }), "{error}");
    }

    #[test]
    fn classes_without_a_test_folder_are_divided_here() {
        let dir = tempfile::tempdir().unwrap();
        tree(dir.path(), &["cat/1.png", "cat/2.png", "cat/10.png", "dog/1.png"]);
        let config = DataConfig {
            normal_class: Some("cat".into()),
            normal_test: Some(NormalTest::FirstTrain(2)),
            ..config(dir.path())
        };
        let data = Dataset::open(&config, 0).unwrap();
        assert_eq!(kinds(&data), ["cat/10.png: -", "dog/1.png: dog"]);
        let by_hash = Dataset::open(&DataConfig { normal_test: None, ..config }, 0).unwrap();
        assert_eq!(by_hash.test.iter().filter(|t| t.kind.is_none()).count(), 1);
    }
}
