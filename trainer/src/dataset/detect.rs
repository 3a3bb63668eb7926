//! Finds out how a data set is laid out. Where a wrong guess would train on defects, it asks instead.

use super::listing::{Listing, subfolders};
use super::{DataConfig, DatasetError, Layout, cifar, classes, mnist};

/// The configuration with its layout decided, and folders filled in where the layout is found by their names.
pub(super) fn detect(config: &DataConfig) -> Result<DataConfig, DatasetError> {
    let root = &config.root;
    if config.layout != Layout::Auto {
        return Ok(config.clone());
    }
    let take = |layout| Ok(DataConfig { layout, ..config.clone() });
    let ambiguous = |reason: String| Err(DatasetError::Ambiguous { path: root.clone(), reason });
    if !config.normal_dir.is_empty() {
        return take(Layout::Folder);
    }
    if !root.exists() {
        return Err(DatasetError::Missing { path: root.clone() });
    }
    let extensions = config.image_extensions();
    if root.is_file() {
        let extension = root.extension().map(|e| e.to_string_lossy().to_lowercase()).unwrap_or_default();
        if extensions.contains(&extension) {
            return ambiguous("it is one image itself; set data.root to its folder".into());
        }
        return take(Layout::Video);
    }
    if cifar::folder(root).is_some() {
        return take(Layout::Cifar10);
    }
    if mnist::is_mnist(root) {
        return take(Layout::Mnist);
    }
    if config.normal_class.is_some() {
        return take(Layout::Classes);
    }
    if root.join("train/good").is_dir() {
        return take(Layout::Mvtec);
    }
    if root.join("train").is_dir() {
        return Err(DatasetError::ClassNeeded { path: root.clone(), classes: classes::class_names(root)? });
    }
    let folders = subfolders(root)?;
    if let Some(normal) = folders.iter().find(|f| is_one_of(f, &["good", "normal"])) {
        let (masks, abnormal): (Vec<_>, Vec<_>) =
            folders.iter().filter(|f| *f != normal).partition(|f| is_one_of(f, &["mask", "masks", "ground_truth"]));
        return Ok(DataConfig {
            layout: Layout::Folder,
            normal_dir: vec![normal.into()],
            abnormal_dir: abnormal.into_iter().map(Into::into).collect(),
            mask_dir: masks.into_iter().map(Into::into).collect(),
            ..config.clone()
        });
    }
    if let Some(inner) = folders.iter().find(|f| root.join(f).join("train/good").is_dir()) {
        return ambiguous(format!(
            "it holds several data sets; set data.root to one of them, such as {}",
            root.join(inner).display()
        ));
    }
    let images = Listing { extensions: &extensions, exclude: &[], keep: None }.some_images(root, "")?;
    if images.iter().any(|i| i.name.contains('/')) {
        return ambiguous(format!(
            "they lie in sub-folders ({}). Set data.layout = \"images\" if all of them are normal, data.normal_class to \
             the sub-folder that is, or data.normal_dir and data.abnormal_dir",
            folders.join(", ")
        ));
    }
    take(Layout::Images)
}

fn is_one_of(folder: &str, names: &[&str]) -> bool {
    names.iter().any(|n| folder.eq_ignore_ascii_case(n))
}

#[cfg(test)]
mod tests {
    use super::super::Dataset;
    use super::super::tests::{config, kinds, tree};
    use super::*;

    #[test]
    fn a_folder_named_good_is_enough() {
        let dir = tempfile::tempdir().unwrap();
        tree(dir.path(), &["Good/1.png", "Good/2.png", "Good/3.png", "scratch/1.png", "masks/scratch/1.png"]);
        let data = Dataset::open(&config(dir.path()), 0).unwrap();
        assert_eq!(data.layout, "folder");
        assert_eq!((data.train.len(), data.validation.len(), data.test.len()), (1, 1, 2));
        assert!(kinds(&data).contains(&"scratch/1.png: scratch".to_string()));
        assert_eq!(data.test[1].mask, Some(dir.path().join("masks/scratch/1.png")));
    }

    #[test]
    fn a_flat_folder_is_normal_images() {
        let dir = tempfile::tempdir().unwrap();
        tree(dir.path(), &["1.png", "2.jpg", "notes.txt"]);
        let data = Dataset::open(&config(dir.path()), 0).unwrap();
        assert_eq!((data.layout.as_str(), data.train.len(), data.validation.len()), ("images", 1, 1));
    }

    #[test]
    fn what_cannot_be_told_apart_is_asked_for() {
        let error = |files: &[&str]| {
            let dir = tempfile::tempdir().unwrap();
            tree(dir.path(), files);
            Dataset::open(&config(dir.path()), 0).unwrap_err().to_string()
        };
        assert!(error(&["ok/1.png", "cracked/1.png"]).contains("(cracked, ok)"));
        assert!(error(&["1.png", "cracked/1.png"]).contains("data.layout = \"images\""));
        assert!(error(&["bottle/train/good/1.png", "nut/train/good/1.png"]).contains("bottle"));
        assert!(error(&["train/a/1.png", "train/b/1.png", "test/a/1.png"]).contains("a, b"));
        assert!(error(&["notes.txt"]).contains("no images"));
        let dir = tempfile::tempdir().unwrap();
        tree(dir.path(), &["1.png"]);
        let error = Dataset::open(&config(&dir.path().join("1.png")), 0).unwrap_err().to_string();
        assert!(error.contains("one image itself"), "{error}");
        let gone = DataConfig { root: "no/such/folder".into(), ..DataConfig::default() };
        let error = Dataset::open(&gone, 0).unwrap_err().to_string();
        assert!(error.contains("no/such/folder") && error.contains("mvtec") && error.contains("cifar10"), "{error}");
    }

    #[test]
    fn subfolders_count_when_the_layout_says_images() {
        let dir = tempfile::tempdir().unwrap();
        tree(dir.path(), &["monday/1.png", "tuesday/1.png", "tuesday/2.png"]);
        let data = Dataset::open(&DataConfig { layout: Layout::Images, ..config(dir.path()) }, 0).unwrap();
        assert_eq!(data.train.len() + data.validation.len(), 3);
    }
}
