//! Local patterns: an encoder that gives one embedding for each place of the picture, the score that an image gets from
//! them, and the map that shows where the picture is not normal.

use crate::bank::{Bank, Neighbour, Search};
use crate::preprocess::{Frame, InputSpec};
use crate::score::ScoreSpec;
use serde::{Deserialize, Serialize};

/// The most places a grid may have: what a hostile bundle can ask for stays bounded.
pub const MAX_PLACES: u32 = 65_536;

/// The places that have an embedding of their own, rows top to bottom, and how their scores make the image's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PatchGrid {
    /// Places from top to bottom.
    pub rows: u32,
    /// Places from left to right.
    pub columns: u32,
    /// Pixels of the network's input from one place to the next.
    pub stride: u32,
    /// Side of the square of the network's input that an embedding sees, pixels.
    pub receptive_field: u32,
    /// The image's score is the mean over so many places, those with the highest scores: a maximum that one odd place
    /// does not decide. 1 is the plain maximum; at most all places.
    pub top: u32,
}

impl PatchGrid {
    /// Places P.
    pub fn places(&self) -> usize {
        self.rows as usize * self.columns as usize
    }

    /// Says what is wrong with the numbers for this input, if anything is.
    pub fn check(&self, input: &InputSpec) -> Result<(), String> {
        let places = u64::from(self.rows) * u64::from(self.columns);
        if !(1..=u64::from(MAX_PLACES)).contains(&places) {
            return Err(format!("{} x {} places: has to be from 1 to {MAX_PLACES}", self.rows, self.columns));
        }
        let fits = |count: u32, side: u32| u64::from(count) * u64::from(self.stride) <= u64::from(side);
        if self.stride == 0 || !fits(self.rows, input.height) || !fits(self.columns, input.width) {
            return Err(format!(
                "{} x {} places {} pixels apart do not fit an input of {} x {}",
                self.rows, self.columns, self.stride, input.height, input.width
            ));
        }
        if self.receptive_field == 0 {
            return Err("receptive_field = 0: has to be at least 1".into());
        }
        if !(1..=places).contains(&u64::from(self.top)) {
            return Err(format!("top = {}: has to be from 1 to the {places} places", self.top));
        }
        Ok(())
    }

    /// The image's score, from the scores of all its places, whose order is changed.
    pub fn image_score(&self, scores: &mut [f32]) -> f32 {
        mean_of_highest(scores, self.top as usize)
    }

    /// The middle of a place as a share of the picture's width and height, 0 to 1.
    pub fn centre(&self, place: usize) -> (f32, f32) {
        let (row, column) = (place / self.columns.max(1) as usize, place % self.columns.max(1) as usize);
        ((column as f32 + 0.5) / self.columns.max(1) as f32, (row as f32 + 0.5) / self.rows.max(1) as f32)
    }
}

/// The mean of the `top` highest scores, of all where there are no more; 0 for none. Their order is changed.
pub fn mean_of_highest(scores: &mut [f32], top: usize) -> f32 {
    scores.sort_unstable_by(|a, b| b.total_cmp(a));
    let highest = &scores[..top.min(scores.len())];
    highest.iter().sum::<f32>() / highest.len().max(1) as f32
}

/// What the embeddings of an image come to.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ImageScore {
    /// The image's score; higher is more anomalous.
    pub score: f32,
    /// What it was held against, most similar first; with places, what the most anomalous place was held against.
    pub neighbours: Vec<Neighbour>,
    /// The scores of the places, where there are places.
    pub heat: Option<HeatMap>,
}

/// The score of an image from its embeddings, \[P, d\] row by row: one embedding without `patches`, else one a place.
pub fn score_image(spec: &ScoreSpec, patches: Option<&PatchGrid>, bank: &dyn Bank, embeddings: &[f32]) -> ImageScore {
    let mut image = ImageScore::default();
    ImageScorer::default().score(spec, patches, bank, None, embeddings, &mut image);
    image
}

/// Scores images one after the other; what it works in is kept.
#[derive(Debug, Default)]
pub struct ImageScorer {
    search: Search,
    enrolled: Search,
    sorted: Vec<f32>,
}

impl ImageScorer {
    /// What [`score_image`] gives, into `image`, whose memory is used again. `enrolled` are prototypes that somebody has added
    /// where the model runs: an embedding is no more anomalous than its distance to the nearest of them, by the same formula
    /// with K = 1. The neighbours are those of `bank` all the same.
    pub fn score(
        &mut self,
        spec: &ScoreSpec,
        patches: Option<&PatchGrid>,
        bank: &dyn Bank,
        enrolled: Option<&dyn Bank>,
        embeddings: &[f32],
        image: &mut ImageScore,
    ) {
        bank.search(embeddings, spec.neighbours(), &mut self.search);
        if let Some(enrolled) = enrolled {
            enrolled.search(embeddings, 1, &mut self.enrolled);
        }
        let (search, also) = (&self.search, enrolled.map(|_| &self.enrolled));
        let score_at = |place| {
            let score = spec.of_neighbours(search.found(place));
            also.map_or(score, |also| score.min(spec.of_neighbours(also.found(place))))
        };
        image.neighbours.clear();
        let Some(grid) = patches else {
            image.neighbours.extend_from_slice(search.found(0));
            (image.score, image.heat) = (score_at(0), None);
            return;
        };
        let mut scores = image.heat.take().map_or_else(Vec::new, |heat| heat.scores);
        let places = 0..embeddings.len() / bank.dim().max(1);
        scores.clear();
        scores.extend(places.map(score_at));
        let worst = scores.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
        image.neighbours.extend_from_slice(worst.map_or(&[], |(place, _)| search.found(place)));
        self.sorted.clone_from(&scores);
        image.score = grid.image_score(&mut self.sorted);
        image.heat = HeatMap::new(grid, scores);
    }
}

/// A score for each place, rows top to bottom: where a picture is how far from normal.
#[derive(Debug, Clone, PartialEq)]
pub struct HeatMap {
    rows: usize,
    columns: usize,
    scores: Vec<f32>,
}

impl HeatMap {
    /// A map over `grid`; `scores` has one value a place, else there is none.
    pub fn new(grid: &PatchGrid, scores: Vec<f32>) -> Option<HeatMap> {
        let whole = !scores.is_empty() && scores.len() == grid.places();
        whole.then_some(HeatMap { rows: grid.rows as usize, columns: grid.columns as usize, scores })
    }

    /// The scores, rows top to bottom.
    pub fn scores(&self) -> &[f32] {
        &self.scores
    }

    /// The score at a point of the picture, `x` and `y` from 0 to 1, between the places' middles bilinear.
    pub fn at(&self, x: f32, y: f32) -> f32 {
        let cell = |share: f32, count: usize| {
            let at = (share * count as f32 - 0.5).clamp(0.0, (count - 1) as f32);
            let low = at as usize;
            (low, (low + 1).min(count - 1), at - low as f32)
        };
        let ((left, right, fx), (up, down, fy)) = (cell(x, self.columns), cell(y, self.rows));
        let score = |row: usize, column: usize| self.scores[row * self.columns + column];
        let upper = score(up, left) * (1.0 - fx) + score(up, right) * fx;
        let lower = score(down, left) * (1.0 - fx) + score(down, right) * fx;
        upper * (1.0 - fy) + lower * fy
    }

    /// The map at `width` x `height` pixels, rows top to bottom.
    pub fn resized(&self, width: u32, height: u32) -> Vec<f32> {
        let middle = |i: u32, count: u32| (i as f32 + 0.5) / count as f32;
        (0..height)
            .flat_map(|y| (0..width).map(move |x| (x, y)))
            .map(|(x, y)| self.at(middle(x, width), middle(y, height)))
            .collect()
    }

    /// The picture with the heat over it: nothing up to the scale's `from`, then ever stronger, yellow at `to` and red from
    /// as far again.
    pub fn over(&self, frame: &Frame, scale: &HeatScale) -> Frame {
        let mut out = frame.clone();
        let (width, height) = (frame.width(), frame.height());
        let range = (scale.to - scale.from).max(f32::MIN_POSITIVE);
        for (i, score) in self.resized(width, height).into_iter().enumerate() {
            let heat = (score - scale.from) / range;
            let cover = heat.clamp(0.0, 1.0) * OPACITY;
            if cover > 0.0 {
                let red = (heat - 1.0).clamp(0.0, 1.0);
                let (x, y) = (i % width as usize, i / width as usize);
                let pixel = frame.pixel(x, y);
                let mixed = std::array::from_fn(|c| {
                    let colour = WARM[c] + (HOT[c] - WARM[c]) * red;
                    (f32::from(pixel[c]) * (1.0 - cover) + colour * cover).round() as u8
                });
                out.set_pixel(x, y, mixed);
            }
        }
        out
    }
}

/// Which scores of places are coloured in a heat map.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeatScale {
    /// Below this a place is as normal places mostly are.
    pub from: f32,
    /// Up here normal places hardly ever are.
    pub to: f32,
}

impl HeatScale {
    /// From the scores of the places of normal images: one in twenty lies above `from`, one in a thousand above `to`.
    pub fn of_normal(mut scores: Vec<f32>) -> HeatScale {
        scores.sort_unstable_by(f32::total_cmp);
        let quantile = |q: f64| scores.get(((scores.len().max(1) - 1) as f64 * q) as usize).copied().unwrap_or(0.0);
        HeatScale { from: quantile(0.95), to: quantile(0.999) }
    }

    /// Says what is wrong with the numbers, if anything is.
    pub fn check(&self) -> Result<(), String> {
        if self.from.is_finite() && self.to.is_finite() && self.from <= self.to {
            return Ok(());
        }
        Err(format!("from {} to {}: has to be two finite numbers, the first not above the second", self.from, self.to))
    }
}

/// What heat is drawn in at `to`, and at twice as far.
const WARM: [f32; 3] = [255.0, 210.0, 0.0];
const HOT: [f32; 3] = [235.0, 0.0, 20.0];

/// How much of the picture the strongest heat covers.
const OPACITY: f32 = 0.65;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bank::FloatBank;
    use crate::score::ScoreKind;
    use ndarray::array;

    const GRID: PatchGrid = PatchGrid { rows: 2, columns: 3, stride: 8, receptive_field: 15, top: 2 };
    const INPUT: InputSpec = InputSpec { width: 24, height: 16, channels: 3 };

    #[test]
    fn the_score_is_the_mean_of_the_highest() {
        assert_eq!(GRID.image_score(&mut [0.1, 0.5, 0.0, 0.3, 0.2, 0.1]), 0.4);
        assert_eq!(PatchGrid { top: 1, ..GRID }.image_score(&mut [0.1, 0.5]), 0.5);
        assert_eq!(GRID.image_score(&mut []), 0.0);
    }

    #[test]
    fn the_worst_place_is_what_an_image_is_held_against() {
        let bank = FloatBank::new(array![[1.0, 0.0], [0.0, 1.0]]);
        let spec = ScoreSpec { kind: ScoreKind::Nearest, ..ScoreSpec::default() };
        let mut embeddings = [1.0, 0.0].repeat(6);
        embeddings[6..8].copy_from_slice(&[-0.6, 0.8]);
        let image = score_image(&spec, Some(&GRID), &bank, &embeddings);
        let heat = image.heat.unwrap();
        assert_eq!(image.neighbours.iter().map(|n| n.index).collect::<Vec<_>>(), [1]);
        assert_eq!((heat.scores().len(), heat.scores()[0]), (6, 0.0));
        assert_eq!(image.score, heat.scores()[3] / 2.0);
        let whole = score_image(&spec, None, &bank, &embeddings[6..8]);
        assert_eq!((whole.score, whole.heat), (heat.scores()[3], None));
    }

    #[test]
    fn what_was_enrolled_lowers_scores_and_raises_none() {
        let (bank, enrolled) = (FloatBank::new(array![[1.0, 0.0]]), FloatBank::new(array![[0.0, 1.0]]));
        for kind in [ScoreKind::AngularMean, ScoreKind::Weighted, ScoreKind::Nearest] {
            let spec = ScoreSpec { kind, ..ScoreSpec::default() };
            let mut embeddings = [1.0, 0.0].repeat(6);
            embeddings[6..10].copy_from_slice(&[-0.6, 0.8, 0.0, 1.0]);
            let (mut image, mut scorer) = (ImageScore::default(), ImageScorer::default());
            for grid in [Some(&GRID), None] {
                let plain = score_image(&spec, grid, &bank, &embeddings[6..]);
                scorer.score(&spec, grid, &bank, Some(&enrolled), &embeddings[6..], &mut image);
                assert!(image.score < plain.score && image.score > 0.0, "{kind:?}: {image:?}");
                assert_eq!(image.neighbours, plain.neighbours);
                scorer.score(&spec, grid, &bank, None, &embeddings[6..], &mut image);
                assert_eq!(image, plain);
            }
        }
    }

    #[test]
    fn numbers_that_do_not_fit_are_refused() {
        assert_eq!(GRID.check(&INPUT), Ok(()));
        for (grid, word) in [
            (PatchGrid { rows: 0, ..GRID }, "places"),
            (PatchGrid { rows: u32::MAX, columns: u32::MAX, ..GRID }, "places"),
            (PatchGrid { stride: 0, ..GRID }, "fit"),
            (PatchGrid { stride: 9, ..GRID }, "fit"),
            (PatchGrid { receptive_field: 0, ..GRID }, "receptive_field"),
            (PatchGrid { top: 0, ..GRID }, "top"),
            (PatchGrid { top: 7, ..GRID }, "top"),
        ] {
            assert!(grid.check(&INPUT).unwrap_err().contains(word), "{grid:?}");
        }
    }

    #[test]
    fn the_map_meets_its_places_and_is_linear_between() {
        let map = HeatMap::new(&GRID, vec![0.0, 1.0, 2.0, 3.0, 4.0, 5.0]).unwrap();
        for (place, &score) in map.scores().iter().enumerate() {
            let (x, y) = GRID.centre(place);
            assert!((map.at(x, y) - score).abs() < 1e-5);
        }
        assert!((map.at(0.5, 0.5) - 2.5).abs() < 1e-5);
        assert_eq!((map.at(0.0, 0.0), map.at(1.0, 1.0)), (0.0, 5.0));
        assert_eq!(map.resized(3, 2), map.scores());
        assert!(HeatMap::new(&GRID, vec![0.0; 5]).is_none());
    }

    #[test]
    fn the_scale_follows_normal_places() {
        let scale = HeatScale::of_normal((0..=1000).rev().map(|i| i as f32).collect());
        assert_eq!(scale, HeatScale { from: 950.0, to: 999.0 });
        assert!(scale.check().is_ok() && HeatScale::of_normal(Vec::new()).check().is_ok());
        assert!(
            HeatScale { from: 2.0, to: 1.0 }.check().is_err() && HeatScale { to: f32::NAN, ..scale }.check().is_err()
        );
    }

    #[test]
    fn heat_colours_what_is_anomalous_and_leaves_the_rest() {
        let frame = Frame::new(3, 2, vec![100; 18]).unwrap();
        let map = HeatMap::new(&GRID, vec![0.0, 0.1, 0.15, 0.4, 0.0, 0.05]).unwrap();
        let shown = map.over(&frame, &HeatScale { from: 0.05, to: 0.1 });
        assert_eq!(shown.pixel(0, 0), [100; 3]);
        assert_eq!(shown.pixel(2, 1), [100; 3]);
        let (warm, hot) = (shown.pixel(1, 0), shown.pixel(2, 0));
        assert!(warm[0] > 180 && warm[1] > 150 && warm[2] < 60, "{warm:?}");
        assert!(hot[0] > 180 && hot[1] < 60 && hot == shown.pixel(0, 1), "{hot:?}");
    }
}
