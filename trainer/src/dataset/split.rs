//! Splits by a hash of the name: whichever other files there are, an image stays where it is.

use super::Item;
use salad_shared::threshold::MIN_SCORES;
use sha2::{Digest, Sha256};

/// Fewest images that a split for testing sets aside, and fewest that any split leaves, where there are two or more.
const MIN_SET: usize = 1;

/// Which of two independent splits a hash is for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Purpose {
    /// Normal images to test with: the same for every seed, so that runs can be compared.
    Test,
    /// Validation images of the run with this seed.
    Validation(u64),
}

/// `(left, aside)`: about `share` of `items` is set aside, each decided by a hash of its name alone, order kept.
///
/// Where that would set aside fewer than the purpose needs ([`MIN_SET`] to test, [`MIN_SCORES`] to validate, since a
/// threshold rests on them, but never more than half), those of the lowest hashes are; where it would leave none, the one
/// of the highest hash stays. Only then can adding a file move another. A single image is left.
pub(super) fn split(items: Vec<Item>, share: f64, purpose: Purpose) -> (Vec<Item>, Vec<Item>) {
    if items.len() < 2 * MIN_SET {
        return (items, Vec::new());
    }
    let hashes: Vec<u64> = items.iter().map(|i| hash(&i.name, purpose)).collect();
    // The cast saturates, so a share of 1 or more would take all but the very highest hash.
    let mut below = (share * 2f64.powi(64)) as u64;
    let mut ranked = hashes.clone();
    ranked.sort_unstable();
    let fewest = match purpose {
        Purpose::Test => MIN_SET,
        Purpose::Validation(_) => MIN_SCORES.min(items.len() / 2),
    };
    if let (Some(&lowest), Some(&last)) = (ranked.get(fewest - 1), ranked.last()) {
        below = below.clamp(lowest.saturating_add(1).min(last), last);
    }
    let mut left = Vec::new();
    let mut aside = Vec::new();
    for (item, hash) in items.into_iter().zip(hashes) {
        if hash < below { aside.push(item) } else { left.push(item) }
    }
    (left, aside)
}

/// SHA-256, hex, over names and sizes in order of the names.
pub(super) fn digest<'a>(items: impl Iterator<Item = &'a Item>) -> String {
    let mut entries: Vec<(&str, u64)> = items.map(|i| (i.name.as_str(), i.size_bytes())).collect();
    entries.sort_unstable();
    let mut hasher = Sha256::new();
    for (name, size) in entries {
        // Lengths first, so that no two lists of images are one sequence of bytes.
        hasher.update((name.len() as u64).to_le_bytes());
        hasher.update(name);
        hasher.update(size.to_le_bytes());
    }
    hasher.finalize().iter().map(|b| format!("{b:02x}")).collect()
}

fn hash(name: &str, purpose: Purpose) -> u64 {
    let mut hasher = Sha256::new();
    match purpose {
        Purpose::Test => hasher.update(b"test"),
        Purpose::Validation(seed) => {
            hasher.update(b"validation");
            hasher.update(seed.to_le_bytes());
        }
    }
    hasher.update(name);
    let bytes = hasher.finalize();
    bytes.iter().take(8).fold(0, |value, &byte| value << 8 | u64::from(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn items(names: impl Iterator<Item = String>) -> Vec<Item> {
        names.map(|n| Item::file(n.clone(), n.into(), 1, None)).collect()
    }

    fn names(items: &[Item]) -> Vec<&str> {
        items.iter().map(|i| i.name.as_str()).collect()
    }

    #[test]
    fn the_share_is_kept_and_a_new_file_moves_no_other() {
        let of = |n: usize| split(items((0..n).map(|i| format!("{i}.png"))), 0.15, Purpose::Validation(7));
        let (train, validation) = of(2000);
        assert_eq!(train.len() + validation.len(), 2000);
        assert!((250..350).contains(&validation.len()), "{}", validation.len());
        let (_, more) = of(2500);
        assert_eq!(names(&more)[..validation.len()], names(&validation));
    }

    #[test]
    fn order_of_listing_changes_nothing_but_seed_and_purpose_do() {
        let list = || (0..200).map(|i| format!("{i}.png"));
        let (_, forward) = split(items(list()), 0.3, Purpose::Validation(1));
        let (_, mut backward) = split(items(list().rev()), 0.3, Purpose::Validation(1));
        backward.reverse();
        assert_eq!(names(&forward), names(&backward));
        for other in [Purpose::Validation(2), Purpose::Test] {
            assert_ne!(names(&split(items(list()), 0.3, other).1), names(&forward));
        }
    }

    #[test]
    fn few_images_still_give_a_threshold_its_scores() {
        for n in [20, 30, 41] {
            let (train, validation) = split(items((0..n).map(|i| i.to_string())), 0.01, Purpose::Validation(1));
            assert_eq!((train.len(), validation.len()), (n - MIN_SCORES, MIN_SCORES));
        }
    }

    #[test]
    fn two_images_make_two_sets_and_one_image_trains() {
        for share in [1e-9, 0.15, 0.9] {
            for n in 2..6 {
                let (left, aside) = split(items((0..n).map(|i| i.to_string())), share, Purpose::Test);
                assert!(left.len() >= MIN_SET && aside.len() >= MIN_SET, "{n} {share}");
            }
        }
        let (left, aside) = split(items(std::iter::once("a".to_string())), 0.9, Purpose::Test);
        assert_eq!((left.len(), aside.len()), (1, 0));
    }

    #[test]
    fn the_digest_sees_names_and_sizes_but_not_the_order() {
        let item = |name: &str, size| Item::file(name.into(), name.into(), size, None);
        let of = |items: &[Item]| digest(items.iter());
        let base = of(&[item("a", 1), item("b", 2)]);
        assert_eq!(base.len(), 64);
        assert_eq!(base, of(&[item("b", 2), item("a", 1)]));
        assert_ne!(base, of(&[item("a", 2), item("b", 2)]));
        assert_ne!(base, of(&[item("a", 1), item("c", 2)]));
    }
}
