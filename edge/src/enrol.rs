//! "This is normal": prototypes that are added where the model runs, and taken away again.
//!
//! They stay apart from the trained ones. A frame is as anomalous as the nearer of both says, so that taking all of them away
//! gives the former scores to the last bit. They belong to an encoder: a bundle with the same one goes on with them, for any
//! other they wait in the store.

use crate::samples::Sample;
use crate::store::{Enrolment, Store, StoreError};
use jiff::Timestamp;
use ndarray::Array2;
use salad_shared::bank::{Bank, FloatBank};
use salad_shared::score::ScoreSpec;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// So many rows are searched at most; of more, the two that are nearest to each other become one.
const MOST_ROWS: usize = 512;

/// So many enrolments there may be.
const MOST_ENROLMENTS: usize = 200;

/// A score of so many thresholds is far from everything.
const FAR: f32 = 2.0;

/// What of a model enrolled prototypes depend on.
#[derive(Debug, Clone)]
pub struct Scoring {
    /// Which encoder it is.
    pub encoder: String,
    /// Length d of its embeddings.
    pub dim: usize,
    /// The score's formula.
    pub score: ScoreSpec,
    /// The model's threshold.
    pub threshold: f32,
}

/// Why something is not enrolled.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is no such event, or no more.
    #[error("{0}: there is no such event")]
    NoEvent(String),
    /// The event is not about scores, or was seen with another model.
    #[error("{0}: no frames of this event were kept for the model that runs now")]
    NoSamples(String),
    /// It has been done.
    #[error("{0}: is enrolled already")]
    Already(String),
    /// It lies far from everything, and that was not confirmed.
    #[error("{}", .0.warning())]
    Far(Preview),
    /// There are as many as there may be.
    #[error("there are {MOST_ENROLMENTS} enrolments already: take some away, or train anew with their pictures")]
    TooMany,
    /// There is no enrolment of this number.
    #[error("{0}: there is no such enrolment")]
    None(i64),
    /// A picture cannot be written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The picture.
        path: PathBuf,
        /// The operating system's words.
        source: std::io::Error,
    },
}

/// What enrolling something would do.
#[derive(Debug, Clone, PartialEq)]
pub struct Preview {
    /// The highest score of its frames.
    pub score: f32,
    /// The model's threshold.
    pub threshold: f32,
    /// How many other events that are kept would not have been.
    pub silences: u32,
}

impl Preview {
    /// Whether it is unlike all that is known, so that it should be confirmed.
    pub fn is_far(&self) -> bool {
        self.score > FAR * self.threshold
    }

    /// What to tell whoever is to confirm it.
    pub fn warning(&self) -> String {
        let Preview { score, threshold, silences } = self;
        let events = if *silences == 1 { "event" } else { "events" };
        format!(
            "its score of {score:.3} is far over the threshold of {threshold:.3}: it is unlike everything that is known to be \
             normal; as normal, it would have silenced {silences} other {events}. Confirm it if it is normal all the same"
        )
    }
}

/// The prototypes that were added, for all who score or change them.
#[derive(Debug)]
pub struct Enrolments {
    store: Arc<Store>,
    scoring: Scoring,
    bank: Mutex<Option<Arc<FloatBank>>>,
    /// Of the store, when it was last read.
    version: AtomicI64,
}

impl Enrolments {
    /// Those that the store has for a model.
    pub fn open(store: Arc<Store>, scoring: Scoring) -> Result<Enrolments, StoreError> {
        let enrolments = Enrolments { store, scoring, bank: Mutex::new(None), version: AtomicI64::new(0) };
        enrolments.refresh()?;
        enrolments.read()?;
        let all = enrolments.store.enrolments()?;
        let others = all.iter().filter(|enrolment| enrolment.encoder != enrolments.scoring.encoder).count();
        if others > 0 {
            log::warn!("{others} enrolments are of another model and do not count");
        }
        Ok(enrolments)
    }

    /// The prototypes, if there are any.
    pub fn bank(&self) -> Option<Arc<FloatBank>> {
        self.bank.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes in what another program has changed in the store.
    pub fn refresh(&self) -> Result<(), StoreError> {
        let version = self.store.others_writes()?;
        if self.version.swap(version, Ordering::Relaxed) == version { Ok(()) } else { self.read() }
    }

    /// Keeps samples of an event.
    pub fn keep(&self, event: &str, samples: &[Sample]) {
        if samples.is_empty() {
            return;
        }
        if let Err(error) = self.store.keep_samples(event, &self.scoring.encoder, samples) {
            log::warn!("{error}; frames of event {event} are not kept, so that it cannot be called normal");
        }
    }

    /// All enrolments, of other models too, the newest first.
    pub fn list(&self) -> Result<Vec<Enrolment>, StoreError> {
        self.store.enrolments()
    }

    /// Whether an enrolment counts for the model that runs.
    pub fn counts(&self, encoder: &str) -> bool {
        encoder == self.scoring.encoder
    }

    /// What enrolling an event would do.
    pub fn preview(&self, event: &str) -> Result<Preview, EnrolError> {
        self.preview_of(event, &self.samples(event)?)
    }

    /// Adds what an event's frames show; `confirmed` says that it may be far from everything. Gives the enrolment's number.
    pub fn enrol(&self, event: &str, confirmed: bool) -> Result<i64, EnrolError> {
        let samples = self.samples(event)?;
        let preview = self.preview_of(event, &samples)?;
        if preview.is_far() && !confirmed {
            return Err(EnrolError::Far(preview));
        }
        self.add(event, &samples)
    }

    /// Adds what a picture shows, whatever its score.
    pub fn add_picture(&self, name: &str, sample: Sample) -> Result<i64, EnrolError> {
        self.add(name, &[sample])
    }

    /// Does what a line of text asks, and says what was done: an event's id, or `latest`, is enrolled, with ` confirmed` after it
    /// however far it is from everything; `undo NUMBER` takes an enrolment away.
    pub fn obey(&self, line: &str) -> String {
        let words: Vec<&str> = line.split_whitespace().collect();
        let enrol = |event: &str, confirmed| {
            let event = if event == "latest" { self.latest()? } else { event.to_owned() };
            let id = self.enrol(&event, confirmed)?;
            Ok(format!("{event}: normal from now on, as enrolment {id}"))
        };
        let done = match words.as_slice() {
            ["undo", number] => match number.parse() {
                Ok(id) => self.withdraw(id).map(|()| format!("{id}: taken away")),
                Err(_) => return format!("{number}: not the number of an enrolment"),
            },
            [event] => enrol(event, false),
            [event, "confirmed"] => enrol(event, true),
            _ => return "not understood: takes EVENT, EVENT confirmed, latest or undo NUMBER".to_owned(),
        };
        done.unwrap_or_else(|error: EnrolError| error.to_string())
    }

    /// The latest event with samples.
    fn latest(&self) -> Result<String, EnrolError> {
        let events = self.store.sampled_rows(&self.scoring.encoder)?;
        // Ids sort by time.
        events.into_iter().map(|(event, _)| event).max().ok_or_else(|| EnrolError::NoEvent("latest".to_owned()))
    }

    /// Takes an enrolment away again.
    pub fn withdraw(&self, id: i64) -> Result<(), EnrolError> {
        if !self.store.withdraw(id)? {
            return Err(EnrolError::None(id));
        }
        log::info!("enrolment {id} is taken away");
        Ok(self.read()?)
    }

    /// Writes the frames of all enrolments as JPEGs into a folder, for the next training; gives how many were new.
    pub fn export(&self, folder: &Path) -> Result<usize, EnrolError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| EnrolError::Io { path, source }
        };
        std::fs::create_dir_all(folder).map_err(failed(folder))?;
        let mut written = 0;
        for enrolment in self.store.enrolments()? {
            for (i, sample) in self.store.enrolled(enrolment.id)?.iter().enumerate() {
                let path = folder.join(format!("enrolled-{}-{i}.jpg", enrolment.id));
                if !path.exists() {
                    salad_shared::atomic::write(&path, &sample.picture).map_err(failed(&path))?;
                    written += 1;
                }
            }
        }
        Ok(written)
    }

    fn samples(&self, event: &str) -> Result<Vec<Sample>, EnrolError> {
        let samples = self.store.samples(event, &self.scoring.encoder)?;
        if samples.is_empty() {
            let known = self.store.event(event)?.is_some();
            return Err(if known { EnrolError::NoSamples } else { EnrolError::NoEvent }(event.to_owned()));
        }
        Ok(samples)
    }

    fn preview_of(&self, event: &str, samples: &[Sample]) -> Result<Preview, EnrolError> {
        let Scoring { dim, score, threshold, .. } = self.scoring;
        let rows: Vec<f32> = samples.iter().flat_map(|sample| &sample.rows).copied().collect();
        let bank = to_bank(&rows, dim);
        let is_silent =
            |z: &[f32]| bank.as_ref().is_some_and(|bank| score.of_neighbours(&bank.nearest(z, 1)) <= threshold);
        // An event is silenced where each of its frames is.
        let mut others: Vec<(String, bool)> = Vec::new();
        for (other, rows) in self.store.sampled_rows(&self.scoring.encoder)? {
            let silent = rows.chunks_exact(dim).all(is_silent);
            match others.last_mut() {
                Some((last, so_far)) if *last == other => *so_far &= silent,
                _ => others.push((other, silent)),
            }
        }
        let silences = others.iter().filter(|(other, silent)| *silent && other != event).count() as u32;
        let score = samples.iter().map(|sample| sample.score).fold(0.0, f32::max);
        Ok(Preview { score, threshold, silences })
    }

    fn add(&self, source: &str, samples: &[Sample]) -> Result<i64, EnrolError> {
        let all = self.store.enrolments()?;
        let mut of_this = all.iter().filter(|enrolment| self.counts(&enrolment.encoder));
        if of_this.any(|enrolment| enrolment.source == source) {
            return Err(EnrolError::Already(source.to_owned()));
        }
        if all.len() >= MOST_ENROLMENTS {
            return Err(EnrolError::TooMany);
        }
        let id = self.store.enrol(source, &self.scoring.encoder, samples, Timestamp::now())?;
        log::info!("{source} is normal from now on (enrolment {id}, {} frames)", samples.len());
        self.read()?;
        Ok(id)
    }

    /// Makes the prototypes of what the store has now.
    fn read(&self) -> Result<(), StoreError> {
        let mut capped = Capped::default();
        for rows in self.store.enrolled_rows(&self.scoring.encoder)? {
            rows.chunks_exact(self.scoring.dim).for_each(|row| capped.add(row));
        }
        let bank = to_bank(&capped.rows.concat(), self.scoring.dim).map(Arc::new);
        *self.bank.lock().unwrap_or_else(PoisonError::into_inner) = bank;
        Ok(())
    }
}

/// Rows \[n, dim\] as a bank; `None` of none.
fn to_bank(rows: &[f32], dim: usize) -> Option<FloatBank> {
    let count = rows.len().checked_div(dim).filter(|&count| count > 0)?;
    Array2::from_shape_vec((count, dim), rows.to_vec()).ok().map(FloatBank::new)
}

/// At most [`MOST_ROWS`] rows.
#[derive(Debug, Default)]
struct Capped {
    rows: Vec<Vec<f32>>,
    /// Of each row to those before it.
    similar: Vec<Vec<f32>>,
}

impl Capped {
    fn add(&mut self, row: &[f32]) {
        self.similar.push(self.rows.iter().map(|other| dot(other, row)).collect());
        self.rows.push(row.to_vec());
        if self.rows.len() > MOST_ROWS {
            self.merge();
        }
    }

    /// The two rows that are nearest to each other become the unit row between them, in the place of the last.
    fn merge(&mut self) {
        let pairs =
            self.similar.iter().enumerate().flat_map(|(i, row)| row.iter().enumerate().map(move |(j, s)| (i, j, s)));
        let Some((i, j, _)) = pairs.max_by(|a, b| a.2.total_cmp(b.2)) else { return };
        let (a, b) = (self.take(i), self.take(j));
        let sum: Vec<f32> = a.iter().zip(&b).map(|(a, b)| a + b).collect();
        let length = dot(&sum, &sum).sqrt().max(f32::MIN_POSITIVE);
        let between: Vec<f32> = sum.iter().map(|value| value / length).collect();
        self.similar.push(self.rows.iter().map(|other| dot(other, &between)).collect());
        self.rows.push(between);
    }

    fn take(&mut self, index: usize) -> Vec<f32> {
        self.similar.remove(index);
        for later in &mut self.similar[index..] {
            later.remove(index);
        }
        self.rows.remove(index)
    }
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests;
