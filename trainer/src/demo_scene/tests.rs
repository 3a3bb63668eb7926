//! Tests of the rendered scene as a whole.

use super::*;
use std::collections::BTreeMap;

fn small() -> Options {
    Options { seed: 5, width: 160, train: 2, test_good: 1, test_defects: 2, stream: 60 }
}

/// Every file below `root`, by its path in it.
fn files(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in folder.read_dir().unwrap().map(Result::unwrap) {
            if entry.path().is_dir() {
                folders.push(entry.path());
            } else {
                let name = entry.path().strip_prefix(root).unwrap().to_owned();
                found.insert(name, std::fs::read(entry.path()).unwrap());
            }
        }
    }
    found
}

#[test]
fn one_seed_gives_the_same_bytes_and_another_seed_gives_others() {
    let dir = tempfile::tempdir().unwrap();
    let out = |name: &str| dir.path().join(name);
    let incidents = render(&out("a"), &small()).unwrap();
    render(&out("b"), &small()).unwrap();
    render(&out("c"), &Options { seed: 6, ..small() }).unwrap();
    let (a, b, c) = (files(&out("a")), files(&out("b")), files(&out("c")));
    assert_eq!(a.len(), 2 + 1 + 4 * 2 * 2 + 60 + 1);
    assert!(a == b);
    assert!(a.keys().eq(c.keys()));
    assert!(a.iter().all(|(name, bytes)| name.ends_with("truth.csv") || c[name] != *bytes));
    let truth = String::from_utf8(a[Path::new("stream/truth.csv")].clone()).unwrap();
    assert_eq!(truth.lines().count(), 1 + incidents.len());
    assert_eq!(dir.path().read_dir().unwrap().count(), 3, "something unfinished was left behind");
}

#[test]
fn masks_mark_the_pixels_that_a_defect_changes() {
    let machine = background::machine(160, 120);
    for kind in DefectKind::ALL {
        for seed in 0..8 {
            let shot = Shot::defective(kind, &mut ChaCha8Rng::seed_from_u64(seed));
            let with = camera::develop(&shot.paint(&machine)).unwrap();
            let without = camera::develop(&shot.without_defect().paint(&machine)).unwrap();
            let mask = difference_mask(&with, &without);
            let mut marked = 0;
            for (i, m) in mask.iter().enumerate() {
                let (p, q) = (&with.rgb()[3 * i..3 * i + 3], &without.rgb()[3 * i..3 * i + 3]);
                let change = (0..3).map(|c| p[c].abs_diff(q[c])).max().unwrap();
                assert_eq!(*m == 255, change >= MASK_LEVELS);
                marked += usize::from(*m == 255);
            }
            let share = marked as f32 / mask.len() as f32;
            assert!((0.002..0.5).contains(&share), "{} {seed}: {share} of the picture", kind.name());
        }
    }
}

#[test]
fn a_good_part_has_an_empty_mask() {
    let machine = background::machine(160, 120);
    let shot = Shot::good(&mut ChaCha8Rng::seed_from_u64(1));
    assert_eq!(shot, shot.without_defect());
    let frame = camera::develop(&shot.paint(&machine)).unwrap();
    assert!(difference_mask(&frame, &frame).iter().all(|m| *m == 0));
}

#[test]
fn noise_is_there_but_small() {
    let machine = background::machine(160, 120);
    let canvas = Shot::good(&mut ChaCha8Rng::seed_from_u64(2)).paint(&machine);
    let (clean, noisy) = (camera::develop(&canvas).unwrap(), camera::shoot(&canvas, 9).unwrap());
    let squares: f32 = clean.rgb().iter().zip(noisy.rgb()).map(|(a, b)| f32::from(a.abs_diff(*b)).powi(2)).sum();
    let deviation = (squares / clean.rgb().len() as f32).sqrt();
    assert!((0.8..3.0).contains(&deviation), "standard deviation {deviation} levels");
}

#[test]
fn wrong_options_and_a_full_folder_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("scene");
    let error = render(&out, &Options { width: 10, ..small() }).unwrap_err();
    assert!(error.to_string().contains("width = 10"), "{error}");
    assert!(!out.exists());
    std::fs::create_dir(&out).unwrap();
    std::fs::write(out.join("mine.txt"), "keep").unwrap();
    let error = render(&out, &small()).unwrap_err();
    assert!(error.to_string().contains("not empty"), "{error}");
    assert_eq!(files(&out).len(), 1);
}
