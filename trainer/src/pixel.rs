//! How well heat maps point: pixel AUROC and AUPRO (Bergmann et al. 2020) against ground-truth masks.
//!
//! Pixels are counted into bins of score, so that the memory does not grow with the number of images; bins are narrow
//! enough that the figures change in the fourth digit at most.

use salad_shared::patch::HeatMap;
use salad_shared::preprocess::Frame;
use serde::Serialize;

/// Bins between the lowest and the highest score.
const BINS: usize = 1 << 14;

/// AUPRO is the area up to this false-positive rate, made to lie in 0..=1.
const PRO_LIMIT: f64 = 0.3;

/// A mask's pixel belongs to the defect from this level on; in a mask that is darker everywhere, as those with numbers for
/// levels are, wherever it is not 0.
const MARKED: u8 = 128;

/// Figures over all pixels of the test images that have a mask, or are normal.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PixelFigures {
    /// Images that were counted.
    pub images: usize,
    /// AUROC over pixels.
    pub auroc: f64,
    /// Area under the per-region overlap up to a false-positive rate of 30 %, from 0 to 1.
    pub aupro: f64,
}

/// A test image's heat with the truth.
#[derive(Debug)]
pub struct Judged<'a> {
    /// Where the model finds it not normal.
    pub heat: &'a HeatMap,
    /// Where it is not normal; `None` is a normal image.
    pub mask: Option<&'a Mask>,
}

/// Which pixels belong to a defect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mask {
    width: u32,
    height: u32,
    marked: Vec<bool>,
}

impl Mask {
    /// From a picture that is bright where the defect is, scaled to `width` x `height`.
    pub fn from_picture(picture: &Frame, width: u32, height: u32) -> Mask {
        let from = if picture.rgb().iter().any(|&v| v >= MARKED) { MARKED } else { 1 };
        let mut levels = picture.clone();
        for y in 0..picture.height() as usize {
            for x in 0..picture.width() as usize {
                let marked = picture.pixel(x, y).iter().any(|&v| v >= from);
                levels.set_pixel(x, y, [if marked { 255 } else { 0 }; 3]);
            }
        }
        let marked = levels.resized(width, height).rgb().chunks_exact(3).map(|p| p[0] >= MARKED).collect();
        Mask { width, height, marked }
    }

    /// Whether no pixel belongs to a defect.
    pub fn is_empty(&self) -> bool {
        !self.marked.contains(&true)
    }

    /// The region that each pixel belongs to, counted from 0, with how many there are; pixels that touch by a side or a
    /// corner are of one region.
    fn regions(&self) -> (Vec<Option<usize>>, usize) {
        let (width, height) = (self.width as usize, self.height as usize);
        let mut region = vec![None; self.marked.len()];
        let mut count = 0;
        for start in 0..self.marked.len() {
            if !self.marked[start] || region[start].is_some() {
                continue;
            }
            region[start] = Some(count);
            let mut open = vec![start];
            while let Some(at) = open.pop() {
                let (x, y) = (at % width, at / width);
                for ny in y.saturating_sub(1)..(y + 2).min(height) {
                    for nx in x.saturating_sub(1)..(x + 2).min(width) {
                        let next = ny * width + nx;
                        if self.marked[next] && region[next].is_none() {
                            region[next] = Some(count);
                            open.push(next);
                        }
                    }
                }
            }
            count += 1;
        }
        (region, count)
    }
}

/// The figures over `images` at `width` x `height` pixels; `None` without both pixels of defects and others.
pub fn pixel_figures(images: &[Judged<'_>], width: u32, height: u32) -> Option<PixelFigures> {
    let all = || images.iter().flat_map(|i| i.heat.scores());
    let (low, high) = all().fold((f32::INFINITY, f32::NEG_INFINITY), |(l, h), &s| (l.min(s), h.max(s)));
    let bin = |score: f32| {
        let share = (score - low) / (high - low).max(f32::MIN_POSITIVE);
        ((share * BINS as f32) as usize).min(BINS - 1)
    };
    let (mut others, mut marked, mut overlap) = (vec![0u64; BINS], vec![0u64; BINS], vec![0.0f64; BINS]);
    let mut regions = 0;
    for image in images {
        let bins = image.heat.resized(width, height).into_iter().map(bin);
        let Some(mask) = image.mask else {
            bins.for_each(|b| others[b] += 1);
            continue;
        };
        let (region, count) = mask.regions();
        let mut sizes = vec![0usize; count];
        region.iter().flatten().for_each(|&r| sizes[r] += 1);
        for (b, region) in bins.zip(&region) {
            match region {
                None => others[b] += 1,
                Some(r) => {
                    marked[b] += 1;
                    overlap[b] += 1.0 / sizes[*r] as f64;
                }
            }
        }
        regions += count;
    }
    let (negatives, positives) = (others.iter().sum::<u64>(), marked.iter().sum::<u64>());
    if negatives == 0 || positives == 0 {
        return None;
    }
    let marked: Vec<f64> = marked.iter().map(|&m| m as f64 / positives as f64).collect();
    overlap.iter_mut().for_each(|o| *o /= regions as f64);
    let others: Vec<f64> = others.iter().map(|&o| o as f64 / negatives as f64).collect();
    Some(PixelFigures {
        images: images.len(),
        auroc: area(&others, &marked, 1.0),
        aupro: area(&others, &overlap, PRO_LIMIT) / PRO_LIMIT,
    })
}

/// The area under the curve of `found` over `false_alarms` as the threshold falls through the bins, up to a false-positive
/// rate of `limit`; both are shares by bin.
fn area(false_alarms: &[f64], found: &[f64], limit: f64) -> f64 {
    let (mut area, mut fpr, mut tpr) = (0.0, 0.0, 0.0);
    for (step, rise) in false_alarms.iter().zip(found).rev() {
        if *step > 0.0 {
            let share = ((limit - fpr) / step).clamp(0.0, 1.0);
            // Within a bin the curve is a straight line, as for ties.
            area += step * share * (tpr + rise * share / 2.0);
        }
        fpr += step;
        tpr += rise;
        if fpr >= limit {
            break;
        }
    }
    area
}

#[cfg(test)]
mod tests {
    use super::*;
    use salad_shared::patch::PatchGrid;

    const GRID: PatchGrid = PatchGrid { rows: 4, columns: 4, stride: 2, receptive_field: 3, top: 1 };

    fn heat(f: impl Fn(usize) -> f32) -> HeatMap {
        HeatMap::new(&GRID, (0..16).map(f).collect()).unwrap()
    }

    fn mask(at: &[usize]) -> Mask {
        Mask { width: 4, height: 4, marked: (0..16).map(|i| at.contains(&i)).collect() }
    }

    #[test]
    fn a_map_that_points_right_gets_one_and_one_that_points_wrong_nothing() {
        let truth = mask(&[0, 1, 15]);
        assert_eq!(truth.regions().1, 2);
        assert_eq!(mask(&[0, 5, 10]).regions().1, 1);
        let right = heat(|i| if truth.marked[i] { 1.0 } else { 0.0 });
        let wrong = heat(|i| if truth.marked[i] { 0.0 } else { 1.0 });
        let figures = |heat: &HeatMap| pixel_figures(&[Judged { heat, mask: Some(&truth) }], 4, 4).unwrap();
        assert_eq!((figures(&right).auroc, figures(&right).aupro), (1.0, 1.0));
        assert_eq!((figures(&wrong).auroc, figures(&wrong).aupro), (0.0, 0.0));
        let flat = figures(&heat(|_| 0.5));
        assert!((flat.auroc - 0.5).abs() < 1e-12 && (flat.aupro - 0.15).abs() < 1e-12, "{flat:?}");
    }

    #[test]
    fn masks_of_either_kind_mark_the_same() {
        let picture = |levels: [u8; 4]| Frame::new(2, 2, levels.into_iter().flat_map(|v| [v; 3]).collect()).unwrap();
        let marked = |levels| Mask::from_picture(&picture(levels), 2, 2).marked;
        // White, as a lossy file has it, and numbers of classes.
        assert_eq!(marked([0, 251, 4, 255]), [false, true, false, true]);
        assert_eq!(marked([0, 1, 0, 3]), [false, true, false, true]);
        let [none, large] = [[0, 0, 0, 0], [0, 1, 0, 1]].map(|levels| Mask::from_picture(&picture(levels), 4, 4));
        assert!(none.is_empty() && !large.is_empty());
        assert_eq!(large.marked.iter().filter(|&&m| m).count(), 8);
    }

    #[test]
    fn small_regions_count_as_much_as_large_ones() {
        // Two regions of 4 and 1 pixels; only the large one is found before anything else.
        let truth = mask(&[0, 1, 4, 5, 15]);
        let found = heat(|i| {
            if [0, 1, 4, 5].contains(&i) {
                1.0
            } else if i == 15 {
                0.0
            } else {
                0.5
            }
        });
        let figures = pixel_figures(&[Judged { heat: &found, mask: Some(&truth) }], 4, 4).unwrap();
        assert!((figures.auroc - 0.8).abs() < 1e-9, "{figures:?}");
        assert!((figures.aupro - 0.5).abs() < 1e-9, "{figures:?}");
    }

    #[test]
    fn normal_images_only_add_false_alarms_and_alone_say_nothing() {
        let map = heat(|i| i as f32);
        assert_eq!(pixel_figures(&[Judged { heat: &map, mask: None }], 4, 4), None);
        let truth = mask(&[15]);
        let calm = heat(|_| 0.0);
        let judged = [Judged { heat: &map, mask: Some(&truth) }, Judged { heat: &calm, mask: None }];
        let figures = pixel_figures(&judged, 4, 4).unwrap();
        assert!(figures.images == 2 && (figures.auroc - 1.0).abs() < 1e-9, "{figures:?}");
    }
}
