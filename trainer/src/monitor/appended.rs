//! A file that grows while a run trains, and that a resumed run cuts back to where its checkpoint stands.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// A file that is appended to.
#[derive(Debug)]
pub struct Appended {
    path: PathBuf,
    file: BufWriter<File>,
    bytes: u64,
}

impl Appended {
    /// Opens `path`, keeps its first `keep` bytes and drops the rest. A file that is shorter has lost what a checkpoint
    /// relied on, and begins anew: [`bytes`](Appended::bytes) is 0 then.
    pub fn open(path: &Path, keep: u64) -> io::Result<Appended> {
        let mut file = OpenOptions::new().create(true).write(true).truncate(false).open(path)?;
        let bytes = if file.metadata()?.len() < keep {
            log::warn!("{}: is shorter than it was at the checkpoint, and begins anew", path.display());
            0
        } else {
            keep
        };
        file.set_len(bytes)?;
        file.seek(SeekFrom::Start(bytes))?;
        Ok(Appended { path: path.to_owned(), file: BufWriter::new(file), bytes })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its length with all that was written.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Appends.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    /// Lets readers see what was written.
    pub fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }

    /// Brings what was written to the disk, so that a checkpoint may rely on it.
    pub fn sync(&mut self) -> io::Result<()> {
        self.file.flush()?;
        self.file.get_ref().sync_data()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_after_the_checkpoint_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.csv");
        let mut file = Appended::open(&path, 0).unwrap();
        file.write(b"one\n").unwrap();
        file.sync().unwrap();
        let kept = file.bytes();
        file.write(b"two\n").unwrap();
        drop(file);
        assert_eq!(std::fs::read(&path).unwrap(), b"one\ntwo\n");
        let mut file = Appended::open(&path, kept).unwrap();
        file.write(b"2\n").unwrap();
        file.flush().unwrap();
        assert_eq!((file.bytes(), std::fs::read(&path).unwrap()), (6, b"one\n2\n".to_vec()));
    }

    #[test]
    fn a_file_that_was_lost_begins_anew() {
        let dir = tempfile::tempdir().unwrap();
        let file = Appended::open(&dir.path().join("a.csv"), 9).unwrap();
        assert_eq!(file.bytes(), 0);
    }
}
