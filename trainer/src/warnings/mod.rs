//! What a person should know before relying on a run: data that mislead, a training that went wrong. One sentence each,
//! with what to do.
//!
//! Every check keeps silent on what it cannot tell. A fixed camera's pictures are all alike, and a warning that is wrong
//! half of the time is read by nobody.

mod folders;
mod overlap;

use crate::probe::{ONE_POINT, ProbeRow};
use crate::train::Images;
use overlap::Hashed;

/// Fewer normal images than this, trained on or set aside, say little of how normal varies.
const FEW: usize = 40;
/// Below this effective rank embeddings lie along one line.
const ONE_LINE: f64 = 1.3;
/// Share of the bank's rows that may stand still.
const STILL: f64 = 0.5;

/// What is suspicious about the images of a run.
pub fn of_images(images: &Images) -> Vec<String> {
    let normal = images.train.items.len() + images.validation.items.len();
    let few = (normal < FEW).then(|| {
        format!(
            "there are {normal} normal images to learn from, and what they do not show will alarm: a hundred are a start, \
             a few hundred are better"
        )
    });
    let train = Hashed::new(images.train.items.iter().map(|i| i.name.as_str()), &images.train.frames);
    let test = Hashed::new(images.test.items.iter().map(|t| t.item.name.as_str()), &images.test.frames);
    let normal: Vec<bool> = images.test.items.iter().map(|t| t.kind.is_none()).collect();
    few.into_iter().chain(overlap::warning(&train, &test, &normal)).chain(folders::warnings(images)).collect()
}

/// All that holds now: what is suspicious about the images, and about the last round's weights and bank.
pub fn standing(of_images: &[String], probes: &[ProbeRow]) -> Vec<String> {
    [of_images, &probes.last().map(of_round).unwrap_or_default()].concat()
}

/// What is suspicious about a round's weights and bank.
fn of_round(row: &ProbeRow) -> Vec<String> {
    let mut warnings = Vec::new();
    if row.cosine_mean > ONE_POINT {
        warnings.push(format!(
            "the embeddings have collapsed to one point (mean cosine {:.6}), and all images score alike: raise train.w_con \
             or train.w_rec, or lower train.learning_rate",
            row.cosine_mean
        ));
    } else if row.effective_rank < ONE_LINE {
        warnings.push(format!(
            "the embeddings have collapsed to one line (effective rank {:.2}), and tell images apart by one number: raise \
             train.w_con or train.w_rec, or lower train.learning_rate",
            row.effective_rank
        ));
    }
    if row.still_rows > STILL {
        warnings.push(format!(
            "{:.0} % of the memory bank's rows stood still during an epoch, so that the losses compare with rows that say \
             nothing of their images: raise train.bank_rate (0.5 is usual)",
            row.still_rows * 100.0
        ));
    }
    warnings
}
