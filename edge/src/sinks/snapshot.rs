//! Pictures of events, side by side: the frame, where it is not normal as far as the model says that, and the normal image
//! it was held against.

use crate::config::SnapshotSettings;
use crate::event::is_id;
use salad_shared::atomic;
use salad_shared::patch::{HeatMap, HeatScale};
use salad_shared::preprocess::Frame;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Larger frames are made smaller for the picture, pixels.
const MAX_SIDE: u32 = 4096;

/// Width of the bar, pixels.
const BAR: u32 = 4;

const BAR_COLOUR: [u8; 3] = [255; 3];
const BACKGROUND: [u8; 3] = [0; 3];

/// What a snapshot shows.
#[derive(Debug)]
pub struct Shown<'a> {
    /// The frame.
    pub frame: &'a Frame,
    /// Where it is how far from normal, and how that is coloured, where the model says it.
    pub heat: Option<(&'a HeatMap, HeatScale)>,
    /// The nearest prototype's row.
    pub prototype: Option<usize>,
}

/// A folder of snapshots, one an event, `ID.jpg`, with a cap on what they take together.
#[derive(Debug)]
pub struct Snapshots {
    settings: SnapshotSettings,
    thumbnails: Arc<[Vec<u8>]>,
}

impl Snapshots {
    /// Makes the folder where it is missing. `thumbnails` are JPEGs in the order of the bank's rows, or none.
    pub fn open(settings: SnapshotSettings, thumbnails: Arc<[Vec<u8>]>) -> io::Result<Snapshots> {
        std::fs::create_dir_all(&settings.dir)?;
        Ok(Snapshots { settings, thumbnails })
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.settings.dir
    }

    /// Writes, or writes anew, the picture of an event, whole or not at all, after making room for it: the oldest
    /// snapshots go first. A picture larger than the cap is written all the same, and is then the only one.
    pub fn write(&self, event_id: &str, shown: &Shown<'_>) -> io::Result<PathBuf> {
        let picture = self.compose(shown);
        let jpeg = picture.to_jpeg(self.settings.jpeg_quality);
        let path = self.settings.dir.join(format!("{event_id}.jpg"));
        self.make_room(jpeg.len() as u64, &path)?;
        atomic::write(&path, &jpeg)?;
        Ok(path)
    }

    /// Deletes the oldest snapshots until at least `bytes` are freed, or none is left; gives what was freed.
    pub fn free(&self, bytes: u64) -> io::Result<u64> {
        delete(self.kept(Path::new(""))?, bytes)
    }

    fn compose(&self, shown: &Shown<'_>) -> Frame {
        let frame = shown.frame.thumbnail(MAX_SIDE);
        let heated = shown.heat.map(|(heat, scale)| heat.over(&frame, &scale));
        let normal = shown.prototype.and_then(|index| self.thumbnail(index));
        let others = heated.into_iter().chain(normal);
        others.fold(frame, |picture, other| beside(&picture, &other).unwrap_or(picture))
    }

    fn thumbnail(&self, prototype: usize) -> Option<Frame> {
        match Frame::decode(self.thumbnails.get(prototype)?) {
            Ok(thumbnail) => Some(thumbnail),
            Err(error) => {
                log::warn!("the bundle's picture of prototype {prototype}: {error}");
                None
            }
        }
    }

    fn make_room(&self, coming: u64, path: &Path) -> io::Result<()> {
        let kept = self.kept(path)?;
        let total = coming + kept.iter().map(|(_, size)| size).sum::<u64>();
        delete(kept, total.saturating_sub(self.settings.max_bytes))?;
        Ok(())
    }

    /// All snapshots but that at `path` with their sizes, the oldest first.
    fn kept(&self, path: &Path) -> io::Result<Vec<(PathBuf, u64)>> {
        let mut kept = Vec::new();
        for entry in std::fs::read_dir(&self.settings.dir)? {
            let entry = entry?;
            if is_snapshot(&entry.path()) && entry.path() != path {
                // Somebody else may delete pictures too.
                kept.extend(unless_gone(entry.metadata())?.map(|metadata| (entry.path(), metadata.len())));
            }
        }
        // Ids begin with the time.
        kept.sort_unstable();
        Ok(kept)
    }
}

/// Deletes files from the front until `bytes` are freed; gives what was.
fn delete(files: Vec<(PathBuf, u64)>, bytes: u64) -> io::Result<u64> {
    let mut freed = 0;
    for (old, size) in files {
        if freed >= bytes {
            break;
        }
        unless_gone(std::fs::remove_file(&old))?;
        freed += size;
    }
    Ok(freed)
}

fn unless_gone<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
}

fn is_snapshot(path: &Path) -> bool {
    let id = path.file_name().and_then(|n| n.to_str()).and_then(|n| n.strip_suffix(".jpg"));
    id.is_some_and(is_id)
}

/// Both pictures side by side, the right one scaled to fit the left one's height and width, aspect kept.
fn beside(left: &Frame, right: &Frame) -> Option<Frame> {
    let (width, height) = (left.width(), left.height());
    let scale = (f64::from(height) / f64::from(right.height())).min(f64::from(width) / f64::from(right.width()));
    let scaled = |side: u32| ((f64::from(side) * scale).round() as u32).max(1);
    let right = right.resized(scaled(right.width()).min(width), scaled(right.height()).min(height));
    let mut rgb = Vec::with_capacity((width + BAR + right.width()) as usize * height as usize * 3);
    let (left_row, right_row) = (width as usize * 3, right.width() as usize * 3);
    let mut right_rows = right.rgb().chunks_exact(right_row);
    for row in left.rgb().chunks_exact(left_row) {
        rgb.extend_from_slice(row);
        rgb.extend(BAR_COLOUR.iter().cycle().take(BAR as usize * 3));
        match right_rows.next() {
            Some(row) => rgb.extend_from_slice(row),
            None => rgb.extend(BACKGROUND.iter().cycle().take(right_row)),
        }
    }
    Frame::new(width + BAR + right.width(), height, rgb).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::new_id;
    use crate::support::frame;
    use jiff::Timestamp;
    use salad_shared::patch::PatchGrid;

    fn snapshots(dir: &Path, max_bytes: u64, thumbnails: Vec<Vec<u8>>) -> Snapshots {
        let settings = SnapshotSettings { dir: dir.into(), max_bytes, jpeg_quality: 95 };
        Snapshots::open(settings, thumbnails.into()).unwrap()
    }

    fn shown(frame: &Frame, prototype: Option<usize>) -> Shown<'_> {
        Shown { frame, heat: None, prototype }
    }

    fn id(second: i64) -> String {
        new_id(Timestamp::from_second(second).unwrap())
    }

    #[test]
    fn heat_stands_between_the_frame_and_the_normal_picture() {
        let dir = tempfile::tempdir().unwrap();
        let grid = PatchGrid { rows: 2, columns: 2, stride: 8, receptive_field: 15, top: 1 };
        let heat = HeatMap::new(&grid, vec![0.0, 0.0, 0.0, 1.0]).unwrap();
        let grey = frame(40, [100; 3]);
        let shown = Shown { frame: &grey, heat: Some((&heat, HeatScale { from: 0.1, to: 0.4 })), prototype: Some(0) };
        let thumbnails = vec![frame(40, [0, 0, 250]).to_jpeg(95)];
        let path = snapshots(dir.path(), 1 << 20, thumbnails).write(&id(1), &shown).unwrap();
        let picture = Frame::decode(&std::fs::read(path).unwrap()).unwrap();
        assert_eq!((picture.width(), picture.height()), (40 * 3 + 2 * BAR, 40));
        let [plain, calm, hot, normal] = [(35, 35), (50, 5), (80, 36), (110, 20)].map(|(x, y)| picture.pixel(x, y));
        assert!(plain.iter().chain(&calm).all(|v| v.abs_diff(100) < 12), "{plain:?} {calm:?}");
        assert!(hot[0] > 170 && hot[1] < 70, "{hot:?}");
        assert!(normal[2] > 200 && normal[0] < 60, "{normal:?}");
    }

    #[test]
    fn the_picture_shows_frame_bar_and_prototype() {
        let dir = tempfile::tempdir().unwrap();
        let thumbnails = vec![frame(8, [0, 0, 250]).to_jpeg(95), frame(8, [0, 250, 0]).to_jpeg(95)];
        let snapshots = snapshots(&dir.path().join("new"), 1 << 20, thumbnails);
        let path = snapshots.write(&id(1), &shown(&frame(40, [250, 0, 0]), Some(1))).unwrap();
        let picture = Frame::decode(&std::fs::read(path).unwrap()).unwrap();
        assert_eq!((picture.width(), picture.height()), (40 + 4 + 40, 40));
        let near = |x: usize, colour: [i32; 3]| {
            let start = (20 * 84 + x) * 3;
            let pixel = &picture.rgb()[start..start + 3];
            assert!(pixel.iter().zip(colour).all(|(&p, c)| (i32::from(p) - c).abs() < 40), "{x}: {pixel:?}");
        };
        near(10, [250, 0, 0]);
        near(41, [255, 255, 255]);
        near(70, [0, 250, 0]);
    }

    #[test]
    fn without_a_usable_thumbnail_the_frame_stands_alone() {
        let dir = tempfile::tempdir().unwrap();
        for thumbnails in [vec![], vec![b"torn".to_vec()]] {
            let path =
                snapshots(dir.path(), 1 << 20, thumbnails).write(&id(1), &shown(&frame(40, [9; 3]), Some(0))).unwrap();
            assert_eq!(Frame::decode(&std::fs::read(path).unwrap()).unwrap().width(), 40);
        }
    }

    #[test]
    fn odd_shapes_stay_inside_the_frames_height_and_width() {
        let wide = Frame::new(500, 1, vec![9; 1500]).unwrap();
        let tall = Frame::new(1, 500, vec![9; 1500]).unwrap();
        let both = beside(&wide, &tall).unwrap();
        assert_eq!((both.width(), both.height()), (500 + 4 + 1, 1));
        let both = beside(&tall, &wide).unwrap();
        assert_eq!((both.width(), both.height()), (1 + 4 + 1, 500));
    }

    #[test]
    fn the_oldest_go_first_the_newest_stays_and_strangers_are_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let picture = frame(40, [9; 3]);
        let size = picture.to_jpeg(95).len() as u64;
        let snapshots = snapshots(dir.path(), 3 * size, vec![]);
        std::fs::write(dir.path().join("holiday.jpg"), vec![0; 10_000]).unwrap();
        let written: Vec<PathBuf> =
            (1..=5).map(|second| snapshots.write(&id(second), &shown(&picture, None)).unwrap()).collect();
        assert_eq!(written.iter().map(|p| p.exists()).collect::<Vec<_>>(), [false, false, true, true, true]);
        // A clock that was set back: the new one sorts first and stays all the same.
        let early = snapshots.write(&id(0), &shown(&picture, None)).unwrap();
        assert!(early.exists() && !written[2].exists() && written[3].exists());
        assert!(dir.path().join("holiday.jpg").exists());
    }

    #[test]
    fn writing_an_event_again_replaces_its_picture() {
        let dir = tempfile::tempdir().unwrap();
        let picture = frame(40, [9; 3]);
        let snapshots = snapshots(dir.path(), 2 * picture.to_jpeg(95).len() as u64, vec![]);
        let (first, second) = (id(1), id(2));
        let older = snapshots.write(&first, &shown(&picture, None)).unwrap();
        snapshots.write(&second, &shown(&picture, None)).unwrap();
        snapshots.write(&second, &shown(&picture, None)).unwrap();
        assert!(older.exists());
    }

    #[test]
    fn one_that_is_larger_than_the_cap_is_written_alone() {
        let dir = tempfile::tempdir().unwrap();
        let snapshots = snapshots(dir.path(), 1, vec![]);
        let paths = [1, 2].map(|second| snapshots.write(&id(second), &shown(&frame(40, [9; 3]), None)).unwrap());
        assert!(!paths[0].exists() && paths[1].exists());
    }
}
