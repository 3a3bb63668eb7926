//! Progress of long work: a bar on a terminal, a line now and then elsewhere.

use crate::history::EpochRow;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// Between two plain lines.
const LINE_INTERVAL: Duration = Duration::from_secs(10);

/// Progress of one piece of work.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    plain: bool,
    last_line: Instant,
    total: u32,
}

impl Progress {
    /// Over epochs, of which `done` are behind.
    pub fn epochs(total: u32, done: u32) -> Progress {
        let progress = Progress::new(u64::from(total), "{bar:30} epoch {pos}/{len}, {eta} left  {msg}");
        progress.bar.set_position(u64::from(done));
        Progress { total, ..progress }
    }

    /// Over images that are read.
    pub fn images(what: &str, total: usize) -> Progress {
        let progress = Progress::new(total as u64, "{bar:30} {pos}/{len} {msg}");
        progress.bar.set_message(what.to_owned());
        progress
    }

    /// So many are done.
    pub fn at(&self, done: usize) {
        self.bar.set_position(done as u64);
    }

    /// An epoch is done.
    pub fn epoch_done(&mut self, row: &EpochRow) {
        let losses = format!(
            "loss {:.4} = reconstruction {:.4}, sample-specific {:.3}, aggregation {:.3}",
            row.total, row.reconstruction, row.sample_specific, row.aggregation
        );
        let last = row.epoch + 1 == self.total;
        if self.plain && (self.last_line.elapsed() >= LINE_INTERVAL || row.epoch == 0 || last) {
            self.last_line = Instant::now();
            log::info!("epoch {}/{}, round {}: {losses}", row.epoch + 1, self.total, row.round);
        }
        self.bar.set_message(losses);
        self.bar.inc(1);
    }

    /// The work is done.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }

    fn new(total: u64, template: &str) -> Progress {
        let plain = !std::io::stderr().is_terminal();
        let target = if plain { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = ProgressBar::with_draw_target(Some(total), target).with_style(style);
        Progress { bar, plain, last_line: Instant::now(), total: 0 }
    }
}
