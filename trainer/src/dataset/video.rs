//! Layout `video`: the frames of a video file, extracted once by an ffmpeg child, all of them normal.

use super::listing::Listing;
use super::{DataConfig, DatasetError, Parts};
use sha2::{Digest, Sha256};
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

/// Every frame, or `video_fps` of them a second, as JPEG of the highest usual quality in the cache folder. Frames that an
/// earlier run extracted from the same file are taken as they are.
pub(super) fn video(config: &DataConfig) -> Result<Parts, DatasetError> {
    frames("ffmpeg", config)
}

fn frames(ffmpeg: &str, config: &DataConfig) -> Result<Parts, DatasetError> {
    let video = config.root.canonicalize().map_err(DatasetError::io(&config.root))?;
    if !video.is_file() {
        let reason = "layout video needs data.root to be a video file".to_string();
        return Err(DatasetError::Video { path: video, reason });
    }
    let (folder, keep) = match &config.cache_dir {
        Some(cache) => (cached(ffmpeg, &video, config.video_fps, cache)?, None),
        None => {
            let folder = tempfile::tempdir().map_err(DatasetError::io(std::env::temp_dir()))?;
            extract(ffmpeg, &video, config.video_fps, folder.path())?;
            (folder.path().to_path_buf(), Some(Arc::new(folder)))
        }
    };
    let extensions = ["jpg".to_string()];
    let listing = Listing { extensions: &extensions, exclude: &[], keep };
    let name = video.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    Ok(Parts { normal: listing.some_images(&folder, &name)?, test: Vec::new() })
}

/// The folder of this video's frames below `cache`, filled if it is not there. It gets its name when it is complete, so
/// that an interrupted extraction is never taken for one.
fn cached(ffmpeg: &str, video: &Path, fps: Option<f64>, cache: &Path) -> Result<PathBuf, DatasetError> {
    std::fs::create_dir_all(cache).map_err(DatasetError::io(cache))?;
    let folder = cache.join(folder_name(video, fps).map_err(DatasetError::io(video))?);
    if folder.is_dir() {
        log::info!("{}: frames from an earlier run in {}", video.display(), folder.display());
        return Ok(folder);
    }
    let partial = tempfile::Builder::new().prefix(".frames-").tempdir_in(cache).map_err(DatasetError::io(cache))?;
    extract(ffmpeg, video, fps, partial.path())?;
    match std::fs::rename(partial.path(), &folder) {
        Ok(()) => {
            let _moved_away = partial.keep();
            Ok(folder)
        }
        // Another run was faster.
        Err(_) if folder.is_dir() => Ok(folder),
        Err(e) => Err(DatasetError::io(&folder)(e)),
    }
}

/// The video's name, and a hash of all that decides what its frames are.
fn folder_name(video: &Path, fps: Option<f64>) -> io::Result<String> {
    let metadata = video.metadata()?;
    let changed = metadata.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut hasher = Sha256::new();
    hasher.update(video.as_os_str().as_encoded_bytes());
    hasher.update(format!("\0{} {} {fps:?}", metadata.len(), changed.as_nanos()));
    let hash: String = hasher.finalize().iter().take(8).map(|b| format!("{b:02x}")).collect();
    let stem = video.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
    Ok(format!("{stem}-{hash}"))
}

/// Fills `folder` with 00000001.jpg and so on. `video` is absolute.
fn extract(ffmpeg: &str, video: &Path, fps: Option<f64>, folder: &Path) -> Result<(), DatasetError> {
    let fail = |reason: String| Err(DatasetError::Video { path: video.into(), reason });
    log::info!("{}: extracting frames with ffmpeg", video.display());
    let mut input = OsString::from("file:");
    input.push(video);
    let mut command = Command::new(ffmpeg);
    // A playlist posing as a video must not reach other protocols than files.
    command.args(["-nostdin", "-hide_banner", "-loglevel", "error", "-protocol_whitelist", "file"]);
    command.arg("-i").arg(input).args(["-map", "0:v:0"]);
    match fps {
        Some(fps) => command.args(["-vf", &format!("fps={fps}")]),
        // Renumbered at an even rate, so that a video of varying rate has no frame repeated or left out.
        None => command.args(["-vf", "settb=1/25,setpts=N", "-r", "25"]),
    };
    // The pattern stands in the child's own folder: a `%` in the folder's name would be taken for part of it.
    command.args(["-q:v", "2", "-f", "image2", "%08d.jpg"]).current_dir(folder).stdin(Stdio::null());
    let output = match command.output() {
        Ok(output) => output,
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            return fail("reading a video needs ffmpeg, which is not installed: apt install ffmpeg".into());
        }
        Err(e) => return fail(format!("ffmpeg cannot be started: {e}")),
    };
    let complaints = String::from_utf8_lossy(&output.stderr);
    let complaint = complaints.lines().rfind(|l| !l.trim().is_empty()).unwrap_or("it gave no reason").trim();
    let empty = std::fs::read_dir(folder).map_err(DatasetError::io(folder))?.next().is_none();
    if !output.status.success() || empty {
        return fail(format!("ffmpeg got no frames out of it ({complaint}): is it a complete video file?"));
    }
    if !complaints.trim().is_empty() {
        log::warn!("{}: not all of it could be read: {complaint}", video.display());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::tests::{config, names};
    use super::super::{Dataset, Layout};
    use super::*;

    /// A video of 12 frames at 6 frames a second, or `None`, said aloud, where there is no ffmpeg.
    fn video(folder: &Path) -> Option<PathBuf> {
        let path = folder.join("a 100%d; scene.mkv");
        let made = Command::new("ffmpeg")
            .args(["-nostdin", "-loglevel", "error", "-f", "lavfi", "-i", "testsrc=size=64x48:rate=6:duration=2"])
            .args(["-c:v", "mjpeg"])
            .arg(&path)
            .output();
        match made {
            Ok(output) if output.status.success() => Some(path),
            _ => {
                println!("skipped: ffmpeg is not installed or cannot make the video");
                None
            }
        }
    }

    #[test]
    fn every_frame_is_taken_or_as_many_as_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let Some(path) = video(dir.path()) else { return };
        let data = Dataset::open(&config(&path), 0).unwrap();
        assert_eq!((data.layout.as_str(), data.train.len() + data.validation.len()), ("video", 12));
        let item = data.train[0].clone();
        drop(data);
        let frame = item.load(&mut salad_shared::decoder::Decoder::whole()).unwrap().frame;
        assert_eq!((frame.width(), frame.height()), (64, 48));
        let some = Dataset::open(&DataConfig { video_fps: Some(2.0), ..config(&path) }, 0).unwrap();
        assert_eq!(some.train.len() + some.validation.len(), 4);
    }

    #[test]
    fn the_cache_spares_the_second_extraction() {
        let dir = tempfile::tempdir().unwrap();
        let Some(path) = video(dir.path()) else { return };
        let cache = dir.path().join("cache/frames");
        let config = DataConfig { cache_dir: Some(cache.clone()), ..config(&path) };
        let first = Dataset::open(&config, 0).unwrap();
        // A program that is not there cannot extract anything.
        let again = frames("no-such-ffmpeg", &config).unwrap();
        assert_eq!(again.normal.len(), first.train.len() + first.validation.len());
        assert!(names(&again.normal).contains(&"a 100%d; scene.mkv/00000012.jpg"));
        assert_eq!(std::fs::read_dir(&cache).unwrap().count(), 1);
        let other = DataConfig { video_fps: Some(1.0), ..config };
        assert!(frames("no-such-ffmpeg", &other).is_err());
        assert_eq!(std::fs::read_dir(&cache).unwrap().count(), 1);
    }

    #[test]
    fn a_missing_ffmpeg_and_a_broken_video_are_said() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("v.mp4");
        std::fs::write(&path, b"no video").unwrap();
        let error = frames("no-such-ffmpeg", &config(&path)).map(|p| p.normal.len()).unwrap_err().to_string();
        assert!(error.contains("apt install ffmpeg") && error.contains("v.mp4"), "{error}");
        let folder = DataConfig { layout: Layout::Video, ..config(dir.path()) };
        assert!(Dataset::open(&folder, 0).unwrap_err().to_string().contains("video file"));
        if video(dir.path()).is_some() {
            let error = Dataset::open(&config(&path), 0).unwrap_err().to_string();
            assert!(error.contains("got no frames"), "{error}");
        }
    }
}
