//! Images and videos on disk: what is in a folder, and one image decoded.

use super::{Picture, SourceError};
use salad_shared::decoder::Decoder;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use walkdir::WalkDir;

/// An image file larger than this is refused before it is read.
const MAX_IMAGE_BYTES: u64 = 1 << 30;

const IMAGE_ENDINGS: [&str; 11] = ["jpg", "jpeg", "png", "bmp", "tif", "tiff", "webp", "pnm", "pbm", "pgm", "ppm"];
const VIDEO_ENDINGS: [&str; 9] = ["mp4", "m4v", "mkv", "webm", "avi", "mov", "mpg", "mpeg", "ts"];

/// Whether the name is an image's.
pub fn is_image(path: &Path) -> bool {
    ends_in(path, &IMAGE_ENDINGS)
}

/// Whether the name is a video's.
pub fn is_video(path: &Path) -> bool {
    ends_in(path, &VIDEO_ENDINGS)
}

/// The images and videos in a folder and the folders in it, sorted by name folder by folder, links followed, names with a
/// leading dot left out. A folder inside that cannot be read stands in the list as its error.
pub fn list(folder: &Path) -> impl Iterator<Item = Result<PathBuf, SourceError>> + use<> {
    let root = folder.to_owned();
    let visible = |entry: &walkdir::DirEntry| {
        entry.depth() == 0 || !entry.file_name().to_str().is_some_and(|name| name.starts_with('.'))
    };
    WalkDir::new(folder).follow_links(true).sort_by_file_name().into_iter().filter_entry(visible).filter_map(
        move |entry| match entry {
            Ok(entry) => {
                let wanted = entry.file_type().is_file() && (is_image(entry.path()) || is_video(entry.path()));
                wanted.then(|| Ok(entry.into_path()))
            }
            Err(error) => {
                let path = error.path().unwrap_or(&root).to_owned();
                Some(Err(SourceError::Io { path, source: error.into() }))
            }
        },
    )
}

/// Reads and decodes one image; the error does not name it.
pub fn read_image(path: &Path, decoder: &mut Decoder) -> Result<Picture, String> {
    Picture::decode(read_image_bytes(path)?, decoder).map_err(|e| e.to_string())
}

/// Reads one image as it is; the error does not name it.
pub fn read_image_bytes(path: &Path) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(|e| e.to_string())?;
    file.take(MAX_IMAGE_BYTES + 1).read_to_end(&mut bytes).map_err(|e| e.to_string())?;
    if bytes.len() as u64 > MAX_IMAGE_BYTES {
        return Err(format!("larger than {MAX_IMAGE_BYTES} bytes"));
    }
    Ok(bytes)
}

fn ends_in(path: &Path, endings: &[&str]) -> bool {
    let ending = path.extension().and_then(|e| e.to_str()).map(str::to_ascii_lowercase);
    ending.is_some_and(|e| endings.contains(&e.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::support::normal_frame;

    #[test]
    fn a_folder_is_listed_recursively_in_order_and_without_strangers() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("b/.hidden")).unwrap();
        for name in ["c.PNG", "a.jpg", "b/2.bmp", "b/10.mp4", "notes.txt", ".salad-x.jpg", "b/.hidden/z.jpg"] {
            std::fs::write(dir.path().join(name), "x").unwrap();
        }
        let found: Vec<PathBuf> = list(dir.path()).map(Result::unwrap).collect();
        let expected = ["a.jpg", "b/10.mp4", "b/2.bmp", "c.PNG"].map(|n| dir.path().join(n));
        assert_eq!(found, expected);
    }

    #[test]
    fn a_missing_folder_and_a_loop_of_links_are_errors_in_the_list() {
        let dir = tempfile::tempdir().unwrap();
        assert!(list(&dir.path().join("none")).next().unwrap().is_err());
        std::os::unix::fs::symlink(dir.path(), dir.path().join("loop")).unwrap();
        std::fs::write(dir.path().join("m.jpg"), "x").unwrap();
        let found: Vec<bool> = list(dir.path()).map(|r| r.is_ok()).collect();
        assert_eq!(found, [false, true]);
    }

    #[test]
    fn images_are_read_and_what_is_none_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.jpg");
        std::fs::write(&path, normal_frame().to_jpeg(90)).unwrap();
        let mut decoder = Decoder::whole();
        assert_eq!(read_image(&path, &mut decoder).unwrap().frame.width(), 24);
        std::fs::write(&path, "no image").unwrap();
        assert!(read_image(&path, &mut decoder).is_err());
        assert!(read_image(dir.path(), &mut decoder).is_err());
    }
}
