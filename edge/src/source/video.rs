//! A video file's frames, decoded by an ffmpeg child, which applies rotation and writes each as a binary PPM.

use super::SourceError;
use super::child::{exit_words, last_words};
use super::ppm::read_ppm;
use salad_shared::preprocess::Frame;
use std::ffi::OsString;
use std::io::{self, BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Decoded frames that may wait to be taken.
const FRAMES_AHEAD: usize = 2;

/// What a video has to say.
#[derive(Debug)]
pub enum VideoNext {
    /// The next frame.
    Frame(Frame),
    /// Nothing within the timeout; ask again.
    Nothing,
    /// That was the last.
    Ended,
}

/// A video that is being decoded. The child is ended when this is dropped.
#[derive(Debug)]
pub struct Video {
    path: PathBuf,
    child: Child,
    frames: Option<Receiver<Result<Frame, String>>>,
    reader: Option<JoinHandle<()>>,
    last_words: Option<JoinHandle<String>>,
    taken: u64,
}

impl Video {
    /// Starts ffmpeg on the first video stream of a file. What is wrong with the file shows in [`next`](Video::next).
    pub fn open(path: &Path) -> Result<Video, SourceError> {
        let io = |source| SourceError::Io { path: path.into(), source };
        std::fs::metadata(path).map_err(io)?;
        let mut child = command(path).spawn().map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => SourceError::NoFfmpeg { path: path.into() },
            _ => io(e),
        })?;
        let (sender, receiver) = sync_channel(FRAMES_AHEAD);
        let reader = child.stdout.take().map(|out| thread::spawn(move || send_frames(BufReader::new(out), &sender)));
        let last_words = child.stderr.take().map(|err| thread::spawn(move || last_words(err, &[])));
        Ok(Video { path: path.into(), child, frames: Some(receiver), reader, last_words, taken: 0 })
    }

    /// The next frame in order, each exactly once, whatever rate the file gives.
    pub fn next(&mut self, timeout: Duration) -> Result<VideoNext, SourceError> {
        let received = self.frames.as_ref().map_or(Err(RecvTimeoutError::Disconnected), |f| f.recv_timeout(timeout));
        match received {
            Ok(Ok(frame)) => {
                self.taken += 1;
                Ok(VideoNext::Frame(frame))
            }
            Ok(Err(problem)) => Err(SourceError::Video { path: self.path.clone(), problem }),
            Err(RecvTimeoutError::Timeout) => Ok(VideoNext::Nothing),
            Err(RecvTimeoutError::Disconnected) => self.finish().map(|()| VideoNext::Ended),
        }
    }

    /// After the last frame: what ffmpeg thought of it all.
    fn finish(&mut self) -> Result<(), SourceError> {
        let status = self.child.wait().map_err(|source| SourceError::Io { path: self.path.clone(), source })?;
        let words = self.last_words.take().and_then(|w| w.join().ok()).unwrap_or_default();
        if !status.success() {
            let problem = if words.is_empty() { exit_words(status) } else { words };
            return Err(SourceError::Video { path: self.path.clone(), problem });
        }
        if self.taken == 0 {
            return Err(SourceError::Empty { path: self.path.clone() });
        }
        if !words.is_empty() {
            log::warn!("{}: ffmpeg says: {words}", self.path.display());
        }
        Ok(())
    }
}

impl Drop for Video {
    fn drop(&mut self) {
        // An error here means that the child has ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
        // A reader that waits to hand over a frame goes on when there is nobody to take it.
        drop(self.frames.take());
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
        if let Some(words) = self.last_words.take() {
            let _ = words.join();
        }
    }
}

fn command(path: &Path) -> Command {
    // The prefix keeps a file name from being taken for an option or for another protocol.
    let mut input = OsString::from("file:");
    input.push(path);
    let mut command = Command::new("ffmpeg");
    // -fps_mode, the newer word for -vsync, is unknown to ffmpeg 4, which Ubuntu 22.04 has.
    command
        .args(["-nostdin", "-hide_banner", "-loglevel", "error", "-protocol_whitelist", "file,pipe", "-i"])
        .arg(input)
        .args([
            "-map",
            "0:v:0",
            "-vsync",
            "passthrough",
            "-f",
            "image2pipe",
            "-c:v",
            "ppm",
            "-pix_fmt",
            "rgb24",
            "pipe:1",
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // A Ctrl-C in the terminal is for this program to act on, in its own order.
        .process_group(0);
    command
}

fn send_frames(mut stream: impl BufRead, frames: &SyncSender<Result<Frame, String>>) {
    while let Some(frame) = read_ppm(&mut stream).transpose() {
        let failed = frame.is_err();
        if frames.send(frame).is_err() || failed {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A test video of ffmpeg's own, 64 x 48.
    fn video(folder: &Path, name: &str, frames: u32) -> PathBuf {
        let path = folder.join(name);
        let made = Command::new("ffmpeg")
            .args(["-nostdin", "-loglevel", "error", "-f", "lavfi", "-i", "testsrc=size=64x48:rate=10"])
            .args(["-frames:v", &frames.to_string(), "-c:v", "mpeg4", "-y"])
            .arg(format!("file:{}", path.display()))
            .status()
            .unwrap();
        assert!(made.success());
        path
    }

    fn all(video: &mut Video) -> Result<Vec<Frame>, SourceError> {
        let mut frames = Vec::new();
        loop {
            match video.next(Duration::from_secs(60))? {
                VideoNext::Frame(frame) => frames.push(frame),
                VideoNext::Nothing => panic!("ffmpeg hangs"),
                VideoNext::Ended => return Ok(frames),
            }
        }
    }

    #[test]
    fn each_frame_comes_once_in_its_own_size() {
        let dir = tempfile::tempdir().unwrap();
        // A name that a shell, an option parser or a URL parser would stumble over.
        let path = video(dir.path(), "-i $(x): 'a'.avi", 7);
        let frames = all(&mut Video::open(&path).unwrap()).unwrap();
        assert_eq!(frames.len(), 7);
        assert!(frames.iter().all(|f| (f.width(), f.height()) == (64, 48)));
        assert_ne!(frames[0], frames[6]);
    }

    #[test]
    fn what_is_no_video_gives_ffmpegs_words() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.mp4");
        std::fs::write(&path, vec![7; 5000]).unwrap();
        let error = all(&mut Video::open(&path).unwrap()).unwrap_err().to_string();
        assert!(error.contains("a.mp4") && error.contains("Invalid data"), "{error}");
        assert!(matches!(Video::open(&dir.path().join("none.mp4")), Err(SourceError::Io { .. })));
    }

    #[test]
    fn a_video_dropped_halfway_leaves_no_child() {
        let dir = tempfile::tempdir().unwrap();
        let mut video = Video::open(&video(dir.path(), "a.avi", 200)).unwrap();
        assert!(matches!(video.next(Duration::from_secs(60)), Ok(VideoNext::Frame(_))));
        let child = PathBuf::from(format!("/proc/{}", video.child.id()));
        assert!(child.exists());
        drop(video);
        assert!(!child.exists());
    }
}
