//! Lists the images of a folder, the same on every machine: natural order, hidden files and link loops left out.

use super::{DatasetError, Item};
use std::cmp::Ordering;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What to list.
#[derive(Debug)]
pub(super) struct Listing<'a> {
    /// Endings to take, lower case, without the dot.
    pub extensions: &'a [String],
    /// Folders to leave out, as [`Path::canonicalize`] gives them.
    pub exclude: &'a [PathBuf],
    /// Holds the files in existence where their folder is temporary.
    pub keep: Option<Arc<tempfile::TempDir>>,
}

impl Listing<'_> {
    /// The images of `folder` and its sub-folders by natural order of their names, which are `prefix`, `/` and the path
    /// below `folder`. Links are followed; a link to one of its own parents is passed over with a warning. A link that
    /// leads nowhere is listed, so that it counts as an image that cannot be read.
    pub fn images(&self, folder: &Path, prefix: &str) -> Result<Vec<Item>, DatasetError> {
        // Missing, not a folder, or not allowed: the system's own words for it.
        std::fs::read_dir(folder).map_err(DatasetError::io(folder))?;
        let mut items = Vec::new();
        let walk = walkdir::WalkDir::new(folder).follow_links(true).into_iter();
        for entry in walk.filter_entry(|e| e.depth() == 0 || !is_hidden(e.path()) && !self.excludes(e.path())) {
            let (path, size_bytes) = match entry {
                Ok(entry) if entry.file_type().is_file() => {
                    let size_bytes = entry.metadata().map_or(0, |m| m.len());
                    (entry.into_path(), size_bytes)
                }
                Ok(_) => continue,
                Err(e) => match (e.loop_ancestor(), e.path().map(Path::to_path_buf)) {
                    (Some(_), _) => {
                        log::warn!("{e}: not followed");
                        continue;
                    }
                    (None, Some(path)) if path.is_symlink() => (path, 0),
                    (None, path) => {
                        let path = path.unwrap_or_else(|| folder.into());
                        return Err(DatasetError::Io { path, source: e.into() });
                    }
                },
            };
            if self.takes(&path) && !is_hidden(&path) {
                let name = joined(prefix, path.strip_prefix(folder).unwrap_or(&path));
                items.push(Item::file(name, path, size_bytes, self.keep.clone()));
            }
        }
        items.sort_by(|a, b| natural(&a.name, &b.name));
        Ok(items)
    }

    /// As [`Listing::images`], and an error where there are none.
    pub fn some_images(&self, folder: &Path, prefix: &str) -> Result<Vec<Item>, DatasetError> {
        let items = self.images(folder, prefix)?;
        if items.is_empty() { Err(self.no_images(folder)) } else { Ok(items) }
    }

    /// The error for a folder without images.
    pub fn no_images(&self, folder: &Path) -> DatasetError {
        DatasetError::NoImages { path: folder.into(), extensions: self.extensions.join(", ") }
    }

    fn takes(&self, path: &Path) -> bool {
        let extension = path.extension().map(|e| e.to_string_lossy().to_lowercase());
        extension.is_some_and(|e| self.extensions.contains(&e))
    }

    fn excludes(&self, path: &Path) -> bool {
        !self.exclude.is_empty()
            && path.is_dir()
            && path.canonicalize().is_ok_and(|canonical| self.exclude.contains(&canonical))
    }
}

/// The names of the visible folders directly in `folder`, in natural order.
pub(super) fn subfolders(folder: &Path) -> Result<Vec<String>, DatasetError> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(DatasetError::io(folder))? {
        let path = entry.map_err(DatasetError::io(folder))?.path();
        if let Some(name) = path.file_name().filter(|_| path.is_dir() && !is_hidden(&path)) {
            names.push(name.to_string_lossy().into_owned());
        }
    }
    names.sort_by(|a, b| natural(a, b));
    Ok(names)
}

/// `prefix` and the parts of `path`, with `/` between them.
pub(super) fn joined(prefix: &str, path: &Path) -> String {
    let parts = path.components().map(|c| c.as_os_str().to_string_lossy());
    let mut name = prefix.to_string();
    for part in parts {
        if !name.is_empty() {
            name.push('/');
        }
        name.push_str(&part);
    }
    name
}

/// Order of names in which `2` comes before `10`: runs of digits compare by value. Equal only for equal names.
pub(super) fn natural(a: &str, b: &str) -> Ordering {
    let (mut left, mut right) = (a, b);
    loop {
        let (run_a, run_b) = (digits(left), digits(right));
        if !run_a.is_empty() && !run_b.is_empty() {
            let (value_a, value_b) = (run_a.trim_start_matches('0'), run_b.trim_start_matches('0'));
            let order = value_a.len().cmp(&value_b.len()).then_with(|| value_a.cmp(value_b));
            if order != Ordering::Equal {
                return order;
            }
            left = left.strip_prefix(run_a).unwrap_or_default();
            right = right.strip_prefix(run_b).unwrap_or_default();
            continue;
        }
        let (mut rest_a, mut rest_b) = (left.chars(), right.chars());
        match (rest_a.next(), rest_b.next()) {
            (Some(x), Some(y)) if x == y => (left, right) = (rest_a.as_str(), rest_b.as_str()),
            // What is left is equal by value, but may differ in leading zeros.
            (None, None) => return a.cmp(b),
            (x, y) => return x.cmp(&y),
        }
    }
}

/// The decimal digits that `text` begins with.
fn digits(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text.get(..end).unwrap_or_default()
}

fn is_hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|n| n.to_string_lossy().starts_with('.'))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{png, tree};
    use super::*;

    fn names(folder: &Path, exclude: &[PathBuf]) -> Vec<String> {
        let extensions = ["png".to_string(), "jpg".to_string()];
        let listing = Listing { extensions: &extensions, exclude, keep: None };
        listing.images(folder, "p").unwrap().into_iter().map(|i| i.name).collect()
    }

    #[test]
    fn numbers_in_names_compare_by_value() {
        let mut names = ["b10", "b9", "b09", "a", "b", "b9x", "10", "9", "b100000000000000000000000"];
        names.sort_by(|a, b| natural(a, b));
        assert_eq!(names, ["9", "10", "a", "b", "b09", "b9", "b9x", "b10", "b100000000000000000000000"]);
    }

    #[test]
    fn hidden_files_other_endings_and_excluded_folders_are_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let files = ["10.png", "9.PNG", ".h.png", ".d/a.png", "s/2.jpg", "bad/1.png", "n.txt", "x.png/y.jpg"];
        tree(dir.path(), &files);
        let bad = dir.path().join("bad").canonicalize().unwrap();
        assert_eq!(names(dir.path(), &[bad]), ["p/9.PNG", "p/10.png", "p/s/2.jpg", "p/x.png/y.jpg"]);
    }

    #[test]
    fn link_loops_end_and_broken_links_are_listed() {
        let dir = tempfile::tempdir().unwrap();
        tree(dir.path(), &["a/1.png"]);
        std::os::unix::fs::symlink(dir.path(), dir.path().join("a/up")).unwrap();
        std::os::unix::fs::symlink("nowhere.png", dir.path().join("a/2.png")).unwrap();
        std::fs::write(dir.path().join("real.bin"), png(2, 2, 7)).unwrap();
        std::os::unix::fs::symlink("../real.bin", dir.path().join("a/3.png")).unwrap();
        assert_eq!(names(dir.path(), &[]), ["p/a/1.png", "p/a/2.png", "p/a/3.png"]);
    }
}
