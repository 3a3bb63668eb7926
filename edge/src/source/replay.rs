//! A folder of images or a video, played at a fixed rate as if a camera took it.

use super::files::{self, read_image};
use super::video::{Video, VideoNext};
use super::{Captured, Next, Picture, Source, SourceError};
use crate::clock::{Clock, Moment};
use salad_shared::decoder::Decoder;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// What to play, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct ReplaySpec {
    /// A folder of images, played in the order of their names, or a video.
    pub path: PathBuf,
    /// Frames a second, whatever rate a video itself has.
    pub fps: f64,
    /// Whether to start again after the last frame.
    pub repeat: bool,
}

/// Frame i was taken i / fps after the first, and comes when the clock says so; one that cannot be used keeps its place
/// in time. On a simulated clock waiting takes no time, so frames come as fast as they are asked for.
pub struct Replay {
    spec: ReplaySpec,
    clock: Arc<dyn Clock>,
    decoder: Decoder,
    frames: Frames,
    start: Option<Moment>,
    number: u64,
    waiting: Option<Item>,
    usable_in_this_pass: bool,
}

impl Replay {
    /// Looks what there is to play.
    pub fn open(spec: ReplaySpec, clock: Arc<dyn Clock>, decoder: Decoder) -> Result<Replay, SourceError> {
        let frames = Frames::open(&spec)?;
        Ok(Replay { spec, clock, decoder, frames, start: None, number: 0, waiting: None, usable_in_this_pass: false })
    }

    /// The next frame, before it is due.
    fn fetch(&mut self, timeout: Duration) -> Result<Fetched, SourceError> {
        let fetched = self.frames.next(timeout, &mut self.decoder)?;
        match &fetched {
            Fetched::Item(item) => self.usable_in_this_pass |= item.picture.is_ok(),
            Fetched::Nothing => {}
            // Playing again what gave nothing would go round for ever.
            Fetched::Ended if !self.usable_in_this_pass => {
                return Err(SourceError::Empty { path: self.spec.path.clone() });
            }
            Fetched::Ended if self.spec.repeat => {
                self.frames = Frames::open(&self.spec)?;
                self.usable_in_this_pass = false;
                return Ok(Fetched::Nothing);
            }
            Fetched::Ended => {}
        }
        Ok(fetched)
    }

    /// When the frame whose turn it is was taken.
    fn due(&mut self) -> Moment {
        let start = *self.start.get_or_insert_with(|| self.clock.now());
        let offset = Duration::try_from_secs_f64(self.number as f64 / self.spec.fps).unwrap_or(Duration::MAX);
        start.plus(offset)
    }
}

impl Source for Replay {
    fn next(&mut self, timeout: Duration) -> Result<Next, SourceError> {
        let item = match self.waiting.take() {
            Some(item) => item,
            None => match self.fetch(timeout)? {
                Fetched::Item(item) => item,
                Fetched::Nothing => return Ok(Next::Nothing),
                Fetched::Ended => return Ok(Next::Ended),
            },
        };
        let at = self.due();
        let early = at.elapsed.saturating_sub(self.clock.now().elapsed);
        self.clock.sleep(early.min(timeout));
        if early > timeout {
            self.waiting = Some(item);
            return Ok(Next::Nothing);
        }
        self.number += 1;
        let Item { name, picture } = item;
        Ok(match picture {
            Ok(picture) => Next::Frame(Captured { picture, name, at }),
            Err(problem) => Next::Bad { name, problem },
        })
    }
}

struct Item {
    name: String,
    picture: Result<Picture, String>,
}

enum Fetched {
    Item(Item),
    Nothing,
    Ended,
}

enum Frames {
    Images(std::vec::IntoIter<PathBuf>),
    Video { video: Box<Video>, name: String, number: u64 },
}

impl Frames {
    fn open(spec: &ReplaySpec) -> Result<Frames, SourceError> {
        if !spec.path.is_dir() {
            let name = spec.path.display().to_string();
            return Ok(Frames::Video { video: Box::new(Video::open(&spec.path)?), name, number: 0 });
        }
        let mut images = files::list(&spec.path).collect::<Result<Vec<PathBuf>, _>>()?;
        images.retain(|path| files::is_image(path));
        Ok(Frames::Images(images.into_iter()))
    }

    fn next(&mut self, timeout: Duration, decoder: &mut Decoder) -> Result<Fetched, SourceError> {
        Ok(match self {
            Frames::Images(images) => match images.next() {
                Some(path) => {
                    Fetched::Item(Item { name: path.display().to_string(), picture: read_image(&path, decoder) })
                }
                None => Fetched::Ended,
            },
            Frames::Video { video, name, number } => match video.next(timeout)? {
                VideoNext::Frame(frame) => {
                    *number += 1;
                    Fetched::Item(Item { name: format!("{name}#{}", *number - 1), picture: Ok(Picture::of(frame)) })
                }
                VideoNext::Nothing => Fetched::Nothing,
                VideoNext::Ended => Fetched::Ended,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SimulatedClock;
    use crate::support::write_frames;
    use jiff::Timestamp;
    use std::path::Path;

    const TIMEOUT: Duration = Duration::from_millis(200);

    fn replay(path: &Path, fps: f64, repeat: bool) -> Result<Replay, SourceError> {
        let clock = Arc::new(SimulatedClock::starting_at(Timestamp::UNIX_EPOCH));
        Replay::open(ReplaySpec { path: path.into(), fps, repeat }, clock, Decoder::whole())
    }

    /// The first `count` frames that come, as (name, milliseconds), bad ones as (name, None).
    fn frames(replay: &mut Replay, count: usize) -> Vec<(String, Option<u128>)> {
        let mut found = Vec::new();
        while found.len() < count {
            let file = |name: String| Path::new(&name).file_name().unwrap().to_str().unwrap().to_owned();
            match replay.next(TIMEOUT).unwrap() {
                Next::Frame(c) => found.push((file(c.name), Some(c.at.elapsed.as_millis()))),
                Next::Bad { name, .. } => found.push((file(name), None)),
                Next::Nothing => {}
                Next::Ended => break,
                Next::Trouble(change) => panic!("{change:?}"),
            }
        }
        found
    }

    #[test]
    fn images_come_in_order_at_their_times_and_bad_ones_keep_their_place() {
        let dir = tempfile::tempdir().unwrap();
        write_frames(dir.path(), &[false, true, false]);
        std::fs::write(dir.path().join("0001.jpg"), "torn").unwrap();
        let found = frames(&mut replay(dir.path(), 2.0, false).unwrap(), 9);
        let expected = [("0000.jpg", Some(0)), ("0001.jpg", None), ("0002.jpg", Some(1000))];
        assert_eq!(found, expected.map(|(n, t)| (n.to_owned(), t)));
    }

    #[test]
    fn a_frame_that_is_not_due_is_waited_for_no_longer_than_asked() {
        let dir = tempfile::tempdir().unwrap();
        write_frames(dir.path(), &[false, false]);
        let mut replay = replay(dir.path(), 2.0, false).unwrap();
        assert!(matches!(replay.next(TIMEOUT), Ok(Next::Frame(_))));
        assert!(matches!(replay.next(TIMEOUT), Ok(Next::Nothing)));
        assert!(matches!(replay.next(TIMEOUT), Ok(Next::Nothing)));
        assert!(matches!(replay.next(TIMEOUT), Ok(Next::Frame(_))));
        assert!(matches!(replay.next(TIMEOUT), Ok(Next::Ended)));
    }

    #[test]
    fn a_loop_goes_on_in_time() {
        let dir = tempfile::tempdir().unwrap();
        write_frames(dir.path(), &[false, false]);
        let found = frames(&mut replay(dir.path(), 10.0, true).unwrap(), 5);
        assert_eq!(found.iter().map(|f| f.1.unwrap()).collect::<Vec<_>>(), [0, 100, 200, 300, 400]);
    }

    #[test]
    fn nothing_usable_is_an_error_even_in_a_loop() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(replay(dir.path(), 5.0, true).unwrap().next(TIMEOUT), Err(SourceError::Empty { .. })));
        std::fs::write(dir.path().join("a.jpg"), "torn").unwrap();
        let mut replay = replay(dir.path(), 5.0, true).unwrap();
        assert!(matches!(replay.next(TIMEOUT), Ok(Next::Bad { .. })));
        assert!(matches!(replay.next(TIMEOUT), Err(SourceError::Empty { .. })));
    }
}
