//! Writes a bundle anew with as many prototypes as are wanted, drawn about those it has: `prototypes BUNDLE COUNT OUT`. For times
//! (`scripts/bench_edge.py`), which do not depend on what they are; scores mean nothing any more.

use ndarray::Array2;
use salad_shared::bank::FloatBank;
use salad_shared::bundle::Bundle;
use std::error::Error;
use std::path::Path;

/// What is added to each value at most, as a share of a row's length over the square root of its values.
const SPREAD: f32 = 1.0;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [bundle, count, out] = arguments.as_slice() else { return Err("usage: prototypes BUNDLE COUNT OUT".into()) };
    let mut bundle = Bundle::read(Path::new(bundle))?;
    let known = bundle.bank.rows();
    let spread = SPREAD / (known.ncols() as f32).sqrt();
    let mut rng = fastrand::Rng::with_seed(1);
    let mut rows = Array2::from_shape_fn((count.parse()?, known.ncols()), |(row, column)| {
        known[[row % known.nrows(), column]] + spread * (2.0 * rng.f32() - 1.0)
    });
    for mut row in rows.rows_mut() {
        let length = row.iter().map(|v| v * v).sum::<f32>().sqrt();
        row.mapv_inplace(|v| v / length);
    }
    bundle.manifest.bank.prototypes = count.parse()?;
    bundle.bank = FloatBank::new(rows);
    bundle.bank_int8 = bundle.bank.quantize();
    bundle.thumbnails.clear();
    bundle.write(Path::new(out))?;
    Ok(())
}
