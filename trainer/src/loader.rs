//! Batches of augmented views, made on worker threads. Seed and epoch decide every value; threads and timing decide none.

use crate::augment::{AugmentConfig, Augmenter};
use crate::native;
use crate::negatives::Negatives;
use crate::places::Places;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use salad_shared::preprocess::{Frame, InputSpec};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;
use tch::{Device, Tensor};

/// Finished batches that each worker may have waiting.
const WAITING_BATCHES: usize = 2;

/// Why there can be no loader.
#[derive(Debug, thiserror::Error)]
pub enum LoaderError {
    /// Nothing to load.
    #[error("there are no images to train on")]
    NoFrames,
    /// A count of 0.
    #[error("{0} = 0: has to be at least 1")]
    Zero(&'static str),
    /// A frame of another size than the input's.
    #[error("frame {position} is {width} x {height} pixels, not the input's size")]
    Size {
        /// Its position.
        position: usize,
        /// Its pixels a row.
        width: u32,
        /// Its rows.
        height: u32,
    },
}

/// Some images of an epoch, each in `views` views.
#[derive(Debug, PartialEq)]
pub struct Batch {
    /// For each image of the batch, its position among the frames.
    pub indices: Vec<usize>,
    /// The rows of the bank that the images own, image by image, \[rows\], int64: one an image, or one for each of its
    /// [`Places`].
    pub own: Tensor,
    /// \[views * size, channels, height, width\], f32 in -1..=1, channels last; with negatives \[(views + 1) * size, ...\],
    /// one of each image at the end.
    pub images: Tensor,
    /// Where those rows' places are in the views, as [`Places::embeddings`] takes it; whole images need none.
    pub grid: Option<Tensor>,
    /// Views of each image.
    pub views: usize,
    /// Images in the batch.
    pub size: usize,
}

impl Batch {
    /// Of `images`, how many are views of normal images; they come first.
    pub fn normal(&self) -> i64 {
        (self.views * self.size) as i64
    }

    /// The batch with its tensors on `device`. The copy is begun and not waited for where the loader was made for that
    /// device.
    pub fn to_device(self, device: Device) -> Batch {
        let moved = |t: &Tensor| native::to_device(t, device);
        Batch { own: moved(&self.own), images: moved(&self.images), grid: self.grid.as_ref().map(moved), ..self }
    }
}

/// Makes the epochs of one training run.
#[derive(Debug, Clone)]
pub struct Loader {
    plan: Arc<Plan>,
    threads: usize,
}

impl Loader {
    /// For frames of exactly the input's size, `views` of each image an epoch, `batch_size` images a batch, and `threads`
    /// workers; with 0 workers the thread that asks for a batch makes it. `input` and `augment` have been checked.
    pub fn new(
        frames: Arc<Vec<Frame>>,
        input: InputSpec,
        augment: AugmentConfig,
        views: usize,
        batch_size: usize,
        seed: u64,
        threads: usize,
    ) -> Result<Loader, LoaderError> {
        if frames.is_empty() {
            return Err(LoaderError::NoFrames);
        }
        for (name, value) in [("views", views), ("batch_size", batch_size)] {
            if value == 0 {
                return Err(LoaderError::Zero(name));
            }
        }
        let other = |f: &&Frame| (f.width(), f.height()) != (input.width, input.height);
        if let Some((position, frame)) = frames.iter().enumerate().find(|(_, f)| other(f)) {
            return Err(LoaderError::Size { position, width: frame.width(), height: frame.height() });
        }
        let places = Places::whole();
        let negatives = Negatives::None;
        let plan = Arc::new(Plan { frames, input, augment, views, batch_size, seed, places, negatives, pin: false });
        Ok(Loader { plan, threads })
    }

    /// The loader, its images having these places.
    pub fn with_places(self, places: Places) -> Loader {
        self.planned(|plan| plan.places = places)
    }

    /// The loader, its batches with these negatives.
    pub fn with_negatives(self, negatives: Negatives) -> Loader {
        self.planned(|plan| plan.negatives = negatives)
    }

    /// The loader, its batches meant for `device`: for a GPU they lie in pinned memory, from which copies need no waiting.
    pub fn for_device(self, device: Device) -> Loader {
        self.planned(|plan| plan.pin = device.is_cuda())
    }

    /// Epochs one after the other. Each is begun with the one before it, so that its first batches are ready in time.
    pub fn epochs(&self, mut numbers: std::ops::Range<u64>) -> impl Iterator<Item = Epoch> {
        let mut ahead = numbers.next().map(|number| self.epoch(number));
        std::iter::from_fn(move || {
            let now = ahead.take();
            ahead = numbers.next().map(|number| self.epoch(number));
            now
        })
    }

    /// The loader with a changed plan; an epoch that is under way keeps its own.
    fn planned(mut self, change: impl FnOnce(&mut Plan)) -> Loader {
        change(Arc::make_mut(&mut self.plan));
        self
    }

    /// Batches an epoch.
    pub fn batches(&self) -> usize {
        batch_ranges(self.plan.frames.len(), self.plan.batch_size).len()
    }

    /// The batches of an epoch, in an order of the images that only seed and epoch decide. Every image is in exactly one
    /// batch. A last batch of one image, on which batch norm cannot train, joins the one before it; only a data set of
    /// one image, or `batch_size` 1, makes batches of one. Dropping the iterator early stops the workers.
    pub fn epoch(&self, epoch: u64) -> Epoch {
        let batches = self.plan.shuffled(epoch);
        let workers = self.threads.min(batches.len());
        if workers == 0 {
            return Epoch::on_this_thread(self.plan.clone(), epoch, batches);
        }
        Epoch::on_workers(&self.plan, epoch, &batches, workers).unwrap_or_else(|e| {
            log::warn!("cannot start {workers} loader threads ({e}): loading on the training thread");
            Epoch::on_this_thread(self.plan.clone(), epoch, batches)
        })
    }
}

/// What decides the batches.
#[derive(Debug, Clone)]
struct Plan {
    frames: Arc<Vec<Frame>>,
    input: InputSpec,
    augment: AugmentConfig,
    views: usize,
    batch_size: usize,
    seed: u64,
    places: Places,
    negatives: Negatives,
    /// Whether batches are to lie in pinned memory.
    pin: bool,
}

impl Plan {
    /// The images of each batch of an epoch.
    fn shuffled(&self, epoch: u64) -> VecDeque<Vec<usize>> {
        let mut order: Vec<usize> = (0..self.frames.len()).collect();
        // No image and no view has this number.
        order.shuffle(&mut generator([self.seed, epoch, u64::MAX, u64::MAX]));
        let ranges = batch_ranges(order.len(), self.batch_size);
        ranges.into_iter().filter_map(|range| order.get(range).map(<[usize]>::to_vec)).collect()
    }

    fn batch(&self, augmenter: &mut Augmenter, epoch: u64, indices: Vec<usize>) -> Batch {
        let (views, size) = (self.views, indices.len());
        let all = if self.negatives == Negatives::None { views } else { views + 1 };
        let wanted = (0..all).flat_map(|view| indices.iter().map(move |&index| (view, index)));
        let shape = [all * size, self.input.height as usize, self.input.width as usize, self.input.channels as usize];
        let mut grid = Vec::new();
        let images = native::filled(&shape.map(|n| n as i64), |values| {
            for (out, (view, index)) in values.chunks_exact_mut(self.input.len()).zip(wanted) {
                let Some(frame) = self.frames.get(index) else { continue };
                let mut rng = generator([self.seed, epoch, index as u64, view as u64]);
                let other = if view == views { self.another(index, &mut rng) } else { None };
                let negative = other.and_then(|other| self.negatives.make(frame, other, &mut rng));
                let frame = negative.as_ref().map_or(frame, |n| &n.frame);
                let to_view = augmenter.run(frame, &mut rng, out);
                match negative.and_then(|n| n.changed) {
                    Some(changed) => self.places.draw(&changed, &to_view, &mut rng, &mut grid),
                    None => self.places.locate(index, &to_view, &mut grid),
                }
            }
        });
        let own = Tensor::from_slice(&self.places.own(&indices));
        let grid = self.places.grid(&grid);
        let pinned = |t: Tensor| if self.pin { native::pinned(&t) } else { t };
        let images = pinned(images).permute([0, 3, 1, 2]);
        Batch { indices, own: pinned(own), images, grid: grid.map(pinned), views, size }
    }

    /// Another image than that at `index`; the same where there is no other.
    fn another(&self, index: usize, rng: &mut impl RngExt) -> Option<&Frame> {
        let n = self.frames.len();
        let drawn = rng.random_range(0..n);
        self.frames.get(if drawn == index { (drawn + 1) % n } else { drawn })
    }

    fn augmenter(&self) -> Augmenter {
        Augmenter::new(self.augment.clone(), self.input.clone())
    }
}

/// The batches of one epoch.
#[derive(Debug)]
pub struct Epoch {
    remaining: usize,
    source: Source,
}

#[derive(Debug)]
enum Source {
    Here { plan: Arc<Plan>, augmenter: Box<Augmenter>, epoch: u64, batches: VecDeque<Vec<usize>> },
    Workers(VecDeque<Worker>),
}

/// A thread that makes every so-manieth batch. Each has a queue of its own, so that taking from them in turn gives the
/// batches in order, and a full queue holds up nobody else.
#[derive(Debug)]
struct Worker {
    queue: Receiver<Batch>,
    thread: JoinHandle<()>,
}

impl Epoch {
    fn on_this_thread(plan: Arc<Plan>, epoch: u64, batches: VecDeque<Vec<usize>>) -> Epoch {
        let augmenter = Box::new(plan.augmenter());
        Epoch { remaining: batches.len(), source: Source::Here { plan, augmenter, epoch, batches } }
    }

    fn on_workers(
        plan: &Arc<Plan>,
        epoch: u64,
        batches: &VecDeque<Vec<usize>>,
        workers: usize,
    ) -> std::io::Result<Epoch> {
        let start = |first: usize| {
            let (sender, queue) = sync_channel(WAITING_BATCHES);
            let own: Vec<Vec<usize>> = batches.iter().skip(first).step_by(workers).cloned().collect();
            let plan = plan.clone();
            let work = move || {
                let mut augmenter = plan.augmenter();
                for indices in own {
                    // Fails when the iterator is dropped: nobody wants the rest.
                    if sender.send(plan.batch(&mut augmenter, epoch, indices)).is_err() {
                        return;
                    }
                }
            };
            let thread = std::thread::Builder::new().name(format!("loader-{first}")).spawn(work)?;
            Ok(Worker { queue, thread })
        };
        let workers = (0..workers).map(start).collect::<std::io::Result<_>>()?;
        Ok(Epoch { remaining: batches.len(), source: Source::Workers(workers) })
    }
}

impl Iterator for Epoch {
    type Item = Batch;

    fn next(&mut self) -> Option<Batch> {
        self.remaining = self.remaining.checked_sub(1)?;
        match &mut self.source {
            Source::Here { plan, augmenter, epoch, batches } => {
                batches.pop_front().map(|indices| plan.batch(augmenter, *epoch, indices))
            }
            Source::Workers(workers) => {
                let worker = workers.pop_front()?;
                match worker.queue.recv() {
                    Ok(batch) => {
                        workers.push_back(worker);
                        Some(batch)
                    }
                    // A worker that owes a batch ends only by panicking. An epoch must not just come out shorter.
                    Err(_) => match worker.thread.join() {
                        Err(panic) => std::panic::resume_unwind(panic),
                        Ok(()) => None,
                    },
                }
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.remaining, Some(self.remaining))
    }
}

impl ExactSizeIterator for Epoch {}

impl Drop for Epoch {
    fn drop(&mut self) {
        if let Source::Workers(workers) = &mut self.source {
            // All queues are closed before the first thread is waited for, so that the threads end side by side.
            let threads: Vec<JoinHandle<()>> = workers.drain(..).map(|w| w.thread).collect();
            for thread in threads {
                if thread.join().is_err() {
                    log::error!("a loader thread panicked after its last batch was taken");
                }
            }
        }
    }
}

/// A generator for four numbers, of which each is a stream of its own.
fn generator(key: [u64; 4]) -> ChaCha8Rng {
    let mut seed = [0; 32];
    for (bytes, word) in seed.chunks_exact_mut(8).zip(key) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    ChaCha8Rng::from_seed(seed)
}

/// Splits `images` into batches; a last one of one image joins the one before it.
fn batch_ranges(images: usize, batch_size: usize) -> Vec<std::ops::Range<usize>> {
    let mut ranges: Vec<_> = (0..images).step_by(batch_size).map(|s| s..(s + batch_size).min(images)).collect();
    if batch_size > 1 && images > 1 && images % batch_size == 1 {
        ranges.pop();
        if let Some(last) = ranges.last_mut() {
            last.end = images;
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const INPUT: InputSpec = InputSpec { width: 8, height: 9, channels: 3 };

    fn loader(images: usize, batch_size: usize, threads: usize) -> Loader {
        let frame = |i: usize| Frame::new(8, 9, (0..8 * 9 * 3).map(|v| (v * 3 + i * 17) as u8).collect()).unwrap();
        let frames = Arc::new((0..images).map(frame).collect());
        Loader::new(frames, INPUT, AugmentConfig::default(), 2, batch_size, 42, threads).unwrap()
    }

    #[test]
    fn threads_change_nothing() {
        let expected: Vec<Batch> = loader(23, 4, 0).epoch(3).collect();
        for threads in [1, 2, 4, 50] {
            assert_eq!(loader(23, 4, threads).epoch(3).collect::<Vec<_>>(), expected, "{threads} threads");
        }
    }

    #[test]
    fn an_epoch_has_every_image_once_and_another_order_than_the_next() {
        let loader = loader(23, 4, 2);
        let order = |epoch| loader.epoch(epoch).flat_map(|b| b.indices).collect::<Vec<_>>();
        let mut all = order(0);
        assert_ne!(all, order(1));
        assert_eq!(all, order(0));
        all.sort_unstable();
        assert_eq!(all, (0..23).collect::<Vec<_>>());
        assert_eq!(loader.epoch(0).len(), loader.batches());
    }

    #[test]
    fn a_view_depends_on_its_image_and_epoch_not_on_its_batch() {
        let of = |batch_size, epoch| {
            let mut views: Vec<Vec<Tensor>> = (0..12).map(|_| Vec::new()).collect();
            for batch in loader(12, batch_size, 1).epoch(epoch) {
                assert_eq!(batch.images.size(), [(batch.views * batch.size) as i64, 3, 9, 8]);
                for (at, &index) in batch.indices.iter().enumerate() {
                    views[index] = vec![batch.images.get(at as i64), batch.images.get((batch.size + at) as i64)];
                }
            }
            views
        };
        let small = of(3, 7);
        assert_eq!(small, of(12, 7));
        assert_ne!(small, of(3, 8));
        assert_ne!(small[0][0], small[0][1]);
    }

    #[test]
    fn negatives_come_after_the_views_and_change_none() {
        let plain = loader(12, 4, 0).epoch(5).next().unwrap();
        for kind in [Negatives::Pasted, Negatives::Turned] {
            let with = |threads| loader(12, 4, threads).with_places(Places::new([3, 3], 12, 2, 1)).with_negatives(kind);
            let batch = with(0).epoch(5).next().unwrap();
            assert_eq!(batch.images.size(), [3 * 4, 3, 9, 8]);
            assert_eq!(batch.normal(), 2 * 4);
            assert_eq!(batch.images.narrow(0, 0, 8), plain.images);
            assert_ne!(batch.images.narrow(0, 8, 4), plain.images.narrow(0, 0, 4));
            assert_eq!(batch.grid.as_ref().unwrap().size(), [3 * 4, 2, 1, 2]);
            assert_eq!(with(2).epoch(5).next().unwrap(), batch);
        }
    }

    #[test]
    fn a_last_image_on_its_own_joins_the_batch_before() {
        let sizes = |images, batch_size| loader(images, batch_size, 1).epoch(0).map(|b| b.size).collect::<Vec<_>>();
        assert_eq!(sizes(9, 4), [4, 5]);
        assert_eq!(sizes(10, 4), [4, 4, 2]);
        assert_eq!(sizes(8, 4), [4, 4]);
        assert_eq!(sizes(5, 4), [5]);
        assert_eq!(sizes(1, 4), [1]);
        assert_eq!(sizes(3, 1), [1, 1, 1]);
        assert_eq!(sizes(3, 2), [3]);
    }

    #[test]
    fn an_iterator_dropped_early_ends_its_workers() {
        let (done, waiting) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let loader = loader(400, 2, 4);
            for taken in [0, 1, 7] {
                let mut epoch = loader.epoch(0);
                assert_eq!(epoch.by_ref().take(taken).count(), taken);
                drop(epoch);
            }
            // The workers hold the plan; when they have ended, only the loader does.
            done.send(Arc::strong_count(&loader.plan)).unwrap();
        });
        // Far more than it takes: a deadlock is what this would find.
        assert_eq!(waiting.recv_timeout(Duration::from_secs(60)), Ok(1));
    }

    #[test]
    fn what_cannot_be_loaded_is_refused() {
        let frame = Frame::new(8, 8, vec![0; 192]).unwrap();
        let make = |frames: Vec<Frame>, views, batch| {
            Loader::new(Arc::new(frames), INPUT, AugmentConfig::off(), views, batch, 0, 0).map(|_| ()).unwrap_err()
        };
        assert!(matches!(make(vec![], 1, 1), LoaderError::NoFrames));
        assert!(matches!(make(vec![frame.clone()], 1, 1), LoaderError::Size { position: 0, width: 8, height: 8 }));
        assert!(matches!(make(vec![frame.clone()], 0, 1), LoaderError::Zero("views")));
        assert!(matches!(make(vec![frame], 1, 0), LoaderError::Zero("batch_size")));
    }
}
