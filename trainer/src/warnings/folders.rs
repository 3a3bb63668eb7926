//! Folders of images that were not taken alike: other sizes, other proportions, other brightness.

use crate::images::{Images, Set};
use salad_shared::preprocess::Frame;

/// The median proportion of test images may be so many times that of training images, or as many times less.
const PROPORTION: f64 = 1.05;
/// The same of the side.
const SIDE: f64 = 1.5;
/// How far median brightness may differ, grey levels of 255.
const BRIGHTNESS: f64 = 10.0;
/// What the outermost training images on either side have is not what training images have, as a share of them.
const OUTERMOST: f64 = 0.02;

/// Says where test images differ from training images in what has nothing to do with defects.
pub(super) fn warnings(images: &Images) -> Vec<String> {
    let of_normal = images.test.items.iter().map(|t| t.kind.is_none()).collect::<Vec<_>>();
    let of_anomalous = of_normal.iter().map(|normal| !normal).collect::<Vec<_>>();
    let sizes = [("normal", &of_normal), ("anomalous", &of_anomalous)]
        .into_iter()
        .filter_map(|(name, chosen)| size(name, &images.train, &images.test, chosen));
    sizes.chain(light(&images.train.frames, &images.test.frames, &of_normal)).collect()
}

/// Says where the chosen test images have other proportions or sizes than the training images.
fn size<T, U>(name: &str, train: &Set<T>, test: &Set<U>, chosen: &[bool]) -> Option<String> {
    let measured = |of: fn([f64; 2]) -> f64| {
        let values = |sizes: &[[u32; 2]]| sizes.iter().map(|s| of(s.map(f64::from))).collect::<Vec<_>>();
        (values(&train.sizes), picked(values(&test.sizes), chosen))
    };
    let times = |most: f64| move |a: f64, b: f64| a.max(b) / a.min(b) > most;
    let proportions = differ(measured(|[width, height]| width / height), times(PROPORTION)).map(|[train, test]| {
        format!(
            "{name} test images have other proportions than training images (width / height {test:.2} against {train:.2}), \
             and what scaling does to their shape counts as a difference: crop them alike"
        )
    });
    proportions.or_else(|| {
        let [train, test] = differ(measured(|[width, height]| (width * height).sqrt()), times(SIDE))?;
        Some(format!(
            "{name} test images have another size than training images (a side of about {test:.0} pixels against \
             {train:.0}), and what scaling does to their sharpness counts as a difference: take them alike"
        ))
    })
}

/// Says where normal test images are brighter or darker than training images.
fn light(train: &[Frame], test: &[Frame], normal: &[bool]) -> Option<String> {
    let means = |frames: &[Frame]| frames.iter().map(brightness).collect::<Vec<_>>();
    let measured = (means(train), picked(means(test), normal));
    let [train, test] = differ(measured, |a, b| (a - b).abs() > BRIGHTNESS)?;
    Some(format!(
        "normal test images are {} than training images (a mean of {test:.0} against {train:.0} of 255), and scores may \
         follow the light: train on images in every light that is normal",
        if test > train { "brighter" } else { "darker" }
    ))
}

/// The medians of two folders' values, where that of the second lies outside what the first have and `far` from their
/// median; none for an empty folder.
fn differ((mut train, mut test): (Vec<f64>, Vec<f64>), far: impl Fn(f64, f64) -> bool) -> Option<[f64; 2]> {
    train.sort_by(f64::total_cmp);
    test.sort_by(f64::total_cmp);
    let at = |values: &[f64], share: f64| {
        let last = values.len().checked_sub(1)?;
        values.get((share * last as f64).round() as usize).copied()
    };
    let (low, high) = (at(&train, OUTERMOST)?, at(&train, 1.0 - OUTERMOST)?);
    let (own, other) = (at(&train, 0.5)?, at(&test, 0.5)?);
    ((other < low || other > high) && far(own, other)).then_some([own, other])
}

fn picked(values: Vec<f64>, chosen: &[bool]) -> Vec<f64> {
    values.into_iter().zip(chosen).filter(|(_, chosen)| **chosen).map(|(value, _)| value).collect()
}

/// The mean of a frame's values, 0 to 255.
fn brightness(frame: &Frame) -> f64 {
    frame.rgb().iter().map(|&v| f64::from(v)).sum::<f64>() / frame.rgb().len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn set(sizes: &[[u32; 2]]) -> Set<()> {
        Set { items: Vec::new(), frames: Arc::new(Vec::new()), sizes: sizes.to_vec() }
    }

    fn of_size(train: &[[u32; 2]], test: &[[u32; 2]]) -> Option<String> {
        size("normal", &set(train), &set(test), &vec![true; test.len()])
    }

    #[test]
    fn other_proportions_and_sizes_are_named() {
        let train = vec![[640, 480]; 50];
        assert_eq!(of_size(&train, &[[640, 480]; 9]), None);
        assert_eq!(of_size(&train, &[[640, 470]; 9]), None, "a few rows less");
        assert_eq!(of_size(&train, &[[800, 600]; 9]), None, "a quarter more");
        assert_eq!(of_size(&train, &[]), None);
        let warning = of_size(&train, &[[480, 480]; 9]).unwrap();
        assert!(warning.contains("proportions") && warning.contains("1.00 against 1.33"), "{warning}");
        let warning = of_size(&train, &[[1280, 960]; 9]).unwrap();
        assert!(warning.contains("another size") && warning.contains("1109 pixels against 554"), "{warning}");
    }

    #[test]
    fn sizes_that_vary_anyway_are_no_difference() {
        let vary = |from: u32| (from..from + 60).map(|i| [100 + 5 * i, 400 - 3 * i]).collect::<Vec<_>>();
        assert_eq!(of_size(&vary(0), &vary(20)), None);
        assert!(of_size(&vary(0)[..20], &vary(40)[..20]).is_some());
    }

    #[test]
    fn other_light_is_named_where_training_did_not_show_it() {
        let frame = |v: u8| Frame::new(8, 8, vec![v; 192]).unwrap();
        let frames = |values: std::ops::Range<u8>| values.map(frame).collect::<Vec<_>>();
        let test = frames(120..130);
        let found = |train: &[Frame], normal| light(train, &test, &[normal; 10]);
        assert_eq!(found(&frames(112..120), true), None, "a little darker");
        assert_eq!(found(&frames(60..140), true), None, "every light");
        assert_eq!(found(&frames(80..100), false), None, "anomalies may be bright");
        let warning = found(&frames(80..100), true).unwrap();
        assert!(warning.contains("brighter") && warning.contains("125 against 90"), "{warning}");
    }
}
