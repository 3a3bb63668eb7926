//! Times the search among int8 prototypes beside a read-only pass over the same bytes and beside `ndarray` in f32, in turns, with
//! what the processor's caches keep of the bank from the turn before and with caches that were emptied, and compares what is found: `cargo run --release -p salad-shared --example bank_scan [BUNDLE ...]`. Drawn banks are the hardest to
//! keep apart in eight bits, since their rows point everywhere; of a bundle's bank each row is searched among the others.

use ndarray::{Array2, ArrayView1};
use salad_shared::bank::{Bank, FloatBank, Int8Bank, Search};
use salad_shared::bundle::{Bundle, BundleError};
use std::hint::black_box;
use std::path::Path;
use std::time::Instant;

const ROUNDS: usize = 41;
const QUERIES: usize = 1000;
/// Neighbours of a query.
const K: usize = 5;
/// Queries that are searched at once, as the places of a picture are.
const BATCH: usize = 64;
/// Bytes that leave nothing else in the caches when they are read.
const ALL_CACHES: usize = 256 << 20;

fn main() -> Result<(), BundleError> {
    for bundle in std::env::args_os().skip(1) {
        let float = Bundle::read(Path::new(&bundle))?.bank;
        let queries: Vec<Vec<f32>> = float.rows().rows().into_iter().map(|row| row.to_vec()).collect();
        // The first is the row itself.
        let agreement = compare(&float, &float.quantize(), &queries, 1);
        println!("{}: {} x {}: {agreement}", bundle.display(), float.len(), float.dim());
    }
    for (count, dim) in [(4096, 512), (10_000, 128), (100_000, 200)] {
        let mut rng = fastrand::Rng::with_seed(1);
        let mut unit = |n: usize| {
            let mut rows = Array2::from_shape_fn((n, dim), |_| rng.f32() + rng.f32() - rng.f32() - rng.f32());
            for mut row in rows.rows_mut() {
                let length = row.iter().map(|v| v * v).sum::<f32>().sqrt();
                row.mapv_inplace(|v| v / length);
            }
            rows
        };
        let (rows, queries) = (unit(count), unit(QUERIES));
        let query = |i: usize| queries.row(i).to_vec();
        let float = FloatBank::new(rows);
        let int8 = float.quantize();
        let bytes = int8.rows().as_slice().unwrap_or_default();
        let mut search = Search::default();
        for (caches, emptied) in [("caches as they are", Vec::new()), ("emptied caches", vec![1_i8; ALL_CACHES])] {
            let mut times = [const { Vec::new() }; 4];
            for round in 0..ROUNDS {
                let z = query(round);
                let batch: Vec<f32> = (0..BATCH).flat_map(query).collect();
                let mut timed = |place: usize, run: &mut dyn FnMut()| {
                    black_box(read(black_box(&emptied)));
                    let start = Instant::now();
                    run();
                    times[place].push(start.elapsed().as_secs_f64() * 1e6);
                };
                timed(0, &mut || int8.search(&z, K, &mut search));
                timed(1, &mut || {
                    black_box(read(black_box(bytes)));
                });
                timed(2, &mut || drop(black_box(float.rows().dot(&ArrayView1::from(&z)))));
                timed(3, &mut || int8.search(&batch, K, &mut search));
            }
            let [scan, pass, ndarray, batch] = times.map(|mut times| {
                times.sort_by(f64::total_cmp);
                times[ROUNDS / 2]
            });
            println!(
                "{count} x {dim}, {caches}: {scan:.0} us a query, {:.2} times a read-only pass ({pass:.0} us, {:.1} GB/s), {:.1} \
                 times faster than ndarray f32 ({ndarray:.0} us); {:.0} us a query of {BATCH} at once",
                scan / pass,
                bytes.len() as f64 / pass / 1e3,
                ndarray / scan,
                batch / BATCH as f64,
            );
        }
        let agreement = compare(&float, &int8, &(0..QUERIES).map(query).collect::<Vec<_>>(), 0);
        println!("{count} x {dim}: {agreement}");
    }
    Ok(())
}

/// How often the neighbour of a rank is the same one in both forms, and how far its similarities are apart.
fn compare(float: &FloatBank, int8: &Int8Bank, queries: &[Vec<f32>], rank: usize) -> String {
    let (mut same, mut furthest) = (0, 0.0_f32);
    for z in queries {
        let [a, b] = [float.nearest(z, rank + 1)[rank], int8.nearest(z, rank + 1)[rank]];
        same += usize::from(a.index == b.index);
        furthest = furthest.max((a.similarity - b.similarity).abs());
    }
    let count = queries.len();
    format!("the nearest is f32's in {same} of {count} queries, similarities differ by at most {furthest:.1e}")
}

/// Reads all bytes and does as little with them as there is to do.
fn read(bytes: &[i8]) -> i8 {
    let mut all = [0_i8; 256];
    for chunk in bytes.as_chunks::<256>().0 {
        all.iter_mut().zip(chunk).for_each(|(a, b)| *a ^= b);
    }
    all.iter().fold(0, |a, b| a ^ b)
}
