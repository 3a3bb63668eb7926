//! The `[data]` table of a recipe: where the images are and how they are laid out.

use super::DatasetError;
use serde::{Deserialize, Deserializer, Serialize};
use std::path::PathBuf;

/// File-name endings taken as images where `extensions` is empty: what the decoder reads.
pub const IMAGE_EXTENSIONS: [&str; 12] =
    ["jpg", "jpeg", "png", "bmp", "tif", "tiff", "webp", "pbm", "pgm", "ppm", "pnm", "pam"];

/// How the files of a data set are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
#[value(rename_all = "lowercase")]
pub enum Layout {
    /// Found out by looking at `root`.
    #[default]
    Auto,
    /// `train/good`, `test/good`, `test/<kind>`, and `ground_truth/<kind>/<stem>_mask.png` where there are masks.
    Mvtec,
    /// anomalib's Folder: `normal_dir`, `abnormal_dir`, `normal_test_dir`, `mask_dir` under `root`.
    Folder,
    /// A folder of normal images, sub-folders included; no test set.
    Images,
    /// A video file, every frame normal; no test set.
    Video,
    /// CIFAR-10's original binary files.
    Cifar10,
    /// MNIST's original idx files, unpacked; Fashion-MNIST has the same form.
    Mnist,
    /// One folder a class: `train/<class>` and `test/<class>`, or `<class>` alone.
    Classes,
}

impl std::fmt::Display for Layout {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Layout::Auto => "auto",
            Layout::Mvtec => "mvtec",
            Layout::Folder => "folder",
            Layout::Images => "images",
            Layout::Video => "video",
            Layout::Cifar10 => "cifar10",
            Layout::Mnist => "mnist",
            Layout::Classes => "classes",
        })
    }
}

/// How normal images are set aside for testing where no folder does it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NormalTest {
    /// The first so many in natural order of their names train, the rest test.
    FirstTrain(usize),
    /// About this share tests, chosen by a hash of the name; the same images for every seed. Above 0, at most 0.9.
    Share(f64),
}

/// What to train and test on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DataConfig {
    /// The folder of the data set, or the video file.
    pub root: PathBuf,
    /// How it is laid out.
    pub layout: Layout,
    /// `folder`: folders of normal images, relative to `root` or absolute. One or a list.
    #[serde(deserialize_with = "one_or_many")]
    pub normal_dir: Vec<PathBuf>,
    /// `folder`: folders of anomalous images; a folder's last name is the kind of defect. One or a list.
    #[serde(deserialize_with = "one_or_many")]
    pub abnormal_dir: Vec<PathBuf>,
    /// `folder`: folders of normal images to test with. One or a list; without it `normal_test` sets some aside.
    #[serde(deserialize_with = "one_or_many")]
    pub normal_test_dir: Vec<PathBuf>,
    /// `folder`: folders of masks, which have the name of their image (`_mask` may follow). One or a list.
    #[serde(deserialize_with = "one_or_many")]
    pub mask_dir: Vec<PathBuf>,
    /// File-name endings taken as images, with or without the dot; empty means [`IMAGE_EXTENSIONS`].
    pub extensions: Vec<String>,
    /// `folder` and `classes`: how normal images are set aside for testing; by default a fifth of them, where there
    /// are anomalous images to tell them from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub normal_test: Option<NormalTest>,
    /// `cifar10`, `mnist` and `classes`: the class that is normal, by its name or (not in `classes`) its number.
    #[serde(deserialize_with = "text_or_number", skip_serializing_if = "Option::is_none")]
    pub normal_class: Option<String>,
    /// Share of the normal training images that validates instead of training; above 0, at most 0.9.
    pub validation_share: f64,
    /// `video`: frames a second to take; all of them where it is not set. Above 0, at most 1000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub video_fps: Option<f64>,
    /// `video`: where the frames are kept for the next run; without it they go to a temporary folder that is deleted
    /// at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_dir: Option<PathBuf>,
}

impl Default for DataConfig {
    fn default() -> DataConfig {
        DataConfig {
            root: PathBuf::new(),
            layout: Layout::Auto,
            normal_dir: Vec::new(),
            abnormal_dir: Vec::new(),
            normal_test_dir: Vec::new(),
            mask_dir: Vec::new(),
            extensions: Vec::new(),
            normal_test: None,
            normal_class: None,
            validation_share: 0.15,
            video_fps: None,
            cache_dir: None,
        }
    }
}

impl DataConfig {
    /// Refuses values out of their range; what is on disk is not looked at.
    pub fn check(&self) -> Result<(), DatasetError> {
        let fail = |message: String| Err(DatasetError::Config(message));
        let share = |v: f64| v > 0.0 && v <= 0.9;
        if self.root.as_os_str().is_empty() {
            return fail("data.root is not set: it is the folder of the images, or a video file".into());
        }
        if !share(self.validation_share) {
            return fail(format!(
                "data.validation_share = {}: has to be above 0 and at most 0.9",
                self.validation_share
            ));
        }
        match self.normal_test {
            Some(NormalTest::Share(v)) if !share(v) => {
                return fail(format!("data.normal_test.share = {v}: has to be above 0 and at most 0.9"));
            }
            Some(NormalTest::FirstTrain(0)) => {
                return fail("data.normal_test.first_train = 0: at least one image has to train".into());
            }
            _ => {}
        }
        match self.video_fps {
            Some(v) if !(v > 0.0 && v <= 1000.0) => {
                fail(format!("data.video_fps = {v}: has to be above 0 and at most 1000"))
            }
            _ => Ok(()),
        }
    }

    /// Refuses keys that the layout has no use for: whoever set them expects something that would not happen.
    pub(super) fn check_keys(&self, layout: Layout) -> Result<(), DatasetError> {
        use Layout as L;
        let keys: [(&str, bool, &[Layout]); 7] = [
            ("normal_dir", !self.normal_dir.is_empty(), &[L::Folder]),
            ("abnormal_dir", !self.abnormal_dir.is_empty(), &[L::Folder]),
            ("normal_test_dir", !self.normal_test_dir.is_empty(), &[L::Folder]),
            ("mask_dir", !self.mask_dir.is_empty(), &[L::Folder]),
            ("normal_test", self.normal_test.is_some(), &[L::Folder, L::Classes]),
            ("normal_class", self.normal_class.is_some(), &[L::Cifar10, L::Mnist, L::Classes]),
            ("video_fps", self.video_fps.is_some(), &[L::Video]),
        ];
        for (key, set, layouts) in keys {
            if set && !layouts.contains(&layout) {
                let wanted = layouts.iter().map(Layout::to_string).collect::<Vec<_>>().join(" or ");
                return Err(DatasetError::Config(format!(
                    "data.{key} is set, but {} has layout {layout}, which does not use it: remove the key, or set \
                     data.layout to {wanted}",
                    self.root.display()
                )));
            }
        }
        Ok(())
    }

    /// The file-name endings to take, lower case, without the dot.
    pub(super) fn image_extensions(&self) -> Vec<String> {
        let own = self.extensions.iter().map(|e| e.trim_start_matches('.').to_lowercase()).collect::<Vec<_>>();
        if own.is_empty() { IMAGE_EXTENSIONS.map(String::from).to_vec() } else { own }
    }
}

fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<PathBuf>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "a path or a list of paths")]
    enum OneOrMany {
        One(PathBuf),
        Many(Vec<PathBuf>),
    }
    Ok(match OneOrMany::deserialize(deserializer)? {
        OneOrMany::One(path) => vec![path],
        OneOrMany::Many(paths) => paths,
    })
}

fn text_or_number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "a class name or number")]
    enum TextOrNumber {
        Text(String),
        Number(u32),
    }
    Ok(Some(match TextOrNumber::deserialize(deserializer)? {
        TextOrNumber::Text(text) => text,
        TextOrNumber::Number(number) => number.to_string(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn toml_takes_one_or_many_and_comes_back_the_same() {
        let text = "root = \"d\"\nnormal_dir = \"good\"\nabnormal_dir = [\"a\", \"b\"]\nnormal_class = 3\n\
                    normal_test = { first_train = 40 }\nextensions = [\".PNG\"]";
        let config: DataConfig = toml::from_str(text).unwrap();
        assert_eq!(config.normal_dir, [PathBuf::from("good")]);
        assert_eq!(config.abnormal_dir.len(), 2);
        assert_eq!(config.normal_class.as_deref(), Some("3"));
        assert_eq!(config.normal_test, Some(NormalTest::FirstTrain(40)));
        assert_eq!(config.image_extensions(), ["png"]);
        assert_eq!(config.validation_share, 0.15);
        let written = toml::to_string(&config).unwrap();
        assert_eq!(toml::from_str::<DataConfig>(&written).unwrap(), config);
    }

    #[test]
    fn wrong_keys_types_and_ranges_are_refused() {
        for text in ["rot = 1", "normal_dir = 3", "normal_test = { first = 2 }", "layout = \"coco\""] {
            assert!(toml::from_str::<DataConfig>(text).is_err(), "{text}");
        }
        for (text, named) in [
            ("layout = \"images\"", "data.root"),
            ("root = \"d\"\nvalidation_share = 0.0", "validation_share = 0"),
            ("root = \"d\"\nvalidation_share = nan", "validation_share"),
            ("root = \"d\"\nnormal_test = { share = 1.0 }", "normal_test.share = 1"),
            ("root = \"d\"\nnormal_test = { first_train = 0 }", "first_train"),
            ("root = \"d\"\nvideo_fps = -1.0", "video_fps = -1"),
        ] {
            let error = toml::from_str::<DataConfig>(text).unwrap().check().unwrap_err().to_string();
            assert!(error.contains(named), "{error}");
        }
    }
}
