//! Data sets: which images train, validate and test, for every layout, and how they come into memory.

mod cifar;
mod classes;
mod config;
mod detect;
mod error;
mod folder;
mod item;
mod listing;
mod load;
mod mnist;
mod split;
mod video;

pub use config::{DataConfig, IMAGE_EXTENSIONS, Layout, NormalTest};
pub use error::DatasetError;
pub use item::{Item, TestItem};
pub use load::{Loaded, load_frames};

use std::collections::HashSet;

/// The images of a data set, listed but not yet read.
#[derive(Debug, Clone)]
pub struct Dataset {
    /// Normal images to train on, in natural order of their names; at least one.
    pub train: Vec<Item>,
    /// Normal images to validate and calibrate with; at least ten, or half where there are fewer than twenty.
    pub validation: Vec<Item>,
    /// Images to test with, normal and anomalous; may be empty.
    pub test: Vec<TestItem>,
    /// The layout that was taken: `mvtec`, `folder`, `images`, `video`, `cifar10`, `mnist` or `classes`.
    pub layout: String,
}

/// What a layout finds.
struct Parts {
    /// Normal images, for training and validation; never empty.
    normal: Vec<Item>,
    test: Vec<TestItem>,
}

impl Dataset {
    /// Lists a data set and logs what was found. `seed` decides which normal images validate (each by a hash of its name,
    /// so that a file more or less moves no other); the test images are the same for every seed.
    pub fn open(config: &DataConfig, seed: u64) -> Result<Dataset, DatasetError> {
        config.check()?;
        let found = detect::detect(config)?;
        found.check_keys(found.layout)?;
        let Parts { normal, test } = match found.layout {
            Layout::Mvtec => folder::mvtec(&found),
            Layout::Folder => folder::folder(&found),
            Layout::Video => video::video(&found),
            Layout::Cifar10 => cifar::cifar10(&found),
            Layout::Mnist => mnist::mnist(&found),
            Layout::Classes => classes::classes(&found),
            Layout::Images | Layout::Auto => folder::images(&found),
        }?;
        let mut seen = HashSet::new();
        if let Some(twice) = normal.iter().chain(test.iter().map(|t| &t.item)).find(|i| !seen.insert(&i.name)) {
            return Err(DatasetError::Duplicate { name: twice.name.clone() });
        }
        let (train, validation) = split::split(normal, found.validation_share, split::Purpose::Validation(seed));
        let data = Dataset { train, validation, test, layout: found.layout.to_string() };
        data.announce(config);
        Ok(data)
    }

    /// SHA-256, hex, over the names and sizes of the normal images that train and validate, whatever their split.
    pub fn digest(&self) -> String {
        split::digest(self.train.iter().chain(&self.validation))
    }

    fn announce(&self, config: &DataConfig) {
        let normal = self.test.iter().filter(|t| t.kind.is_none()).count();
        let kinds: HashSet<_> = self.test.iter().filter_map(|t| t.kind.as_deref()).collect();
        log::info!(
            "{}: layout {}{}: {} images train, {} validate; {} normal and {} anomalous ones of {} kinds test",
            config.root.display(),
            self.layout,
            if config.layout == Layout::Auto { " (detected)" } else { "" },
            self.train.len(),
            self.validation.len(),
            normal,
            self.test.len() - normal,
            kinds.len()
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;
    use std::path::Path;

    /// An image file's bytes.
    pub fn encoded(image: &image::DynamicImage, format: image::ImageFormat) -> Vec<u8> {
        let mut out = Cursor::new(Vec::new());
        image.write_to(&mut out, format).unwrap();
        out.into_inner()
    }

    /// A PNG of one colour.
    pub fn png(width: u32, height: u32, value: u8) -> Vec<u8> {
        let image = image::RgbImage::from_pixel(width, height, image::Rgb([value; 3]));
        encoded(&image::DynamicImage::ImageRgb8(image), image::ImageFormat::Png)
    }

    /// Writes small PNGs, each of another grey, at `files` below `root`.
    pub fn tree(root: &Path, files: &[impl AsRef<str>]) {
        for (at, file) in files.iter().enumerate() {
            let path = root.join(file.as_ref());
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, png(4, 3, at as u8)).unwrap();
        }
    }

    pub fn config(root: &Path) -> DataConfig {
        DataConfig { root: root.into(), ..DataConfig::default() }
    }

    pub fn names(items: &[Item]) -> Vec<&str> {
        items.iter().map(|i| i.name.as_str()).collect()
    }

    /// `name: kind` of the test images, `-` for normal.
    pub fn kinds(data: &Dataset) -> Vec<String> {
        data.test.iter().map(|t| format!("{}: {}", t.item.name, t.kind.as_deref().unwrap_or("-"))).collect()
    }

    #[test]
    fn a_key_without_use_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        tree(dir.path(), &["1.png", "2.png"]);
        for (key, config) in [
            ("video_fps", DataConfig { video_fps: Some(5.0), ..config(dir.path()) }),
            ("abnormal_dir", DataConfig { abnormal_dir: vec!["x".into()], ..config(dir.path()) }),
            ("normal_test", DataConfig { normal_test: Some(NormalTest::Share(0.2)), ..config(dir.path()) }),
        ] {
            let error = Dataset::open(&config, 0).unwrap_err().to_string();
            assert!(error.contains(&format!("data.{key} is set")) && error.contains("layout images"), "{error}");
        }
    }

    #[test]
    fn the_digest_is_the_same_for_every_split_and_sees_a_new_file() {
        let dir = tempfile::tempdir().unwrap();
        tree(dir.path(), &["1.png", "2.png", "3.png", "4.png"]);
        let open = |seed| Dataset::open(&config(dir.path()), seed).unwrap();
        let digest = open(0).digest();
        assert!((1..20).all(|seed| open(seed).digest() == digest));
        assert!((1..20).any(|seed| names(&open(seed).validation) != names(&open(0).validation)));
        std::fs::write(dir.path().join("5.png"), png(4, 3, 9)).unwrap();
        assert_ne!(open(0).digest(), digest);
    }

    #[test]
    fn an_image_on_its_own_trains() {
        let dir = tempfile::tempdir().unwrap();
        tree(dir.path(), &["1.png"]);
        let data = Dataset::open(&config(dir.path()), 0).unwrap();
        assert_eq!((data.train.len(), data.validation.len()), (1, 0));
    }
}
