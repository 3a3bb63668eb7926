//! What a person should know before relying on a run: data that mislead, a training that went wrong. One sentence each,
//! with what to do.
//!
//! Every check keeps silent on what it cannot tell. A fixed camera's pictures are all alike, and a warning that is wrong
//! half of the time is read by nobody.

mod folders;
mod overlap;

use crate::images::Images;
use crate::probe::{ONE_POINT, ProbeRow};
use overlap::Hashed;

/// Fewer normal images than this, trained on or set aside, say little of how normal varies.
const FEW: usize = 40;
/// The bank follows behind, and keeps a rest of the random rows that it began with: this mean cosine is one point for it.
const ONE_POINT_OF_BANK: f64 = 0.99;
/// Share of the bank's rows that may stand still.
const STILL: f64 = 0.5;

/// What is suspicious about the images of a run.
pub fn of_images(images: &Images) -> Vec<String> {
    let Images { train, validation, test, .. } = images;
    let count = train.items.len() + validation.items.len();
    let few = (count < FEW).then(|| {
        format!(
            "there are {count} normal images to learn from, and what they do not show will alarm: collect more, a \
             hundred are a start"
        )
    });
    let learnt_from = [train, validation].into_iter().flat_map(|set| set.items.iter().zip(set.frames.iter()));
    let learnt_from = Hashed::new(learnt_from.map(|(item, frame)| (item.name.as_str(), frame)));
    let tested = Hashed::new(test.items.iter().map(|t| t.item.name.as_str()).zip(test.frames.iter()));
    let normal: Vec<bool> = test.items.iter().map(|t| t.kind.is_none()).collect();
    few.into_iter().chain(overlap::warning(&learnt_from, &tested, &normal)).chain(folders::warnings(images)).collect()
}

/// All that holds now: what is suspicious about the images, and about the last round's weights and bank.
pub fn standing(of_images: &[String], probes: &[ProbeRow]) -> Vec<String> {
    [of_images, &probes.last().map(of_round).unwrap_or_default()].concat()
}

/// What is suspicious about a round's weights and bank.
fn of_round(row: &ProbeRow) -> Vec<String> {
    let mut warnings = Vec::new();
    if row.cosine_mean > ONE_POINT && row.bank_cosine_mean > ONE_POINT_OF_BANK {
        warnings.push(format!(
            "the embeddings have collapsed to one point (mean cosine {:.6}), and all images score alike: raise train.w_con \
             or train.w_rec, or lower train.learning_rate",
            row.cosine_mean
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_sign_of_a_bad_training_has_its_words() {
        let good = ProbeRow { cosine_mean: 0.999, bank_cosine_mean: 0.95, still_rows: 0.1, ..Default::default() };
        assert_eq!(of_round(&good), Vec::<String>::new());
        // A small data set after its first epochs: the bank tells its images apart.
        let early = ProbeRow { cosine_mean: 0.999_999, ..good.clone() };
        assert_eq!(of_round(&early), Vec::<String>::new());
        for (row, words) in [
            (ProbeRow { bank_cosine_mean: 0.9999, ..early }, "one point (mean cosine 0.999999)"),
            (ProbeRow { still_rows: 0.75, ..good.clone() }, "75 % of the memory bank's rows"),
        ] {
            let [warning] = &of_round(&row)[..] else { panic!("{row:?}") };
            assert!(warning.contains(words), "{warning}");
        }
    }

    #[test]
    fn what_a_later_round_mends_stands_no_more() {
        let bad = ProbeRow { still_rows: 1.0, ..Default::default() };
        let good = ProbeRow { still_rows: 0.0, ..bad.clone() };
        let of_images = ["few".to_owned()];
        assert_eq!(standing(&of_images, &[]).len(), 1);
        assert_eq!(standing(&of_images, &[good.clone(), bad.clone()]).len(), 2);
        assert_eq!(standing(&of_images, &[bad, good]), of_images);
    }
}
