//! Places: which embeddings of an image have a row of the memory bank while training, and where they are in a view.
//!
//! A whole image has one place. With patches each image has many, and METHOD's x_i is a place of an image: N counts places,
//! and a neighbourhood is one of places, of whatever images. So that the bank stays small, only some places of each image,
//! drawn once, have a row in it; the others are learned by being alike.

use crate::augment::ToView;
use rand::seq::IndexedRandom;
use rand::seq::index::sample;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tch::Tensor;

/// The places of every training image that have a row of the bank.
#[derive(Debug, Clone)]
pub struct Places {
    each: usize,
    /// \[images, each\], (x, y) of a place in its image, from -1 at the left or upper rim to 1; `None` for whole images.
    chosen: Option<Vec<[f32; 2]>>,
}

impl Places {
    /// Every image is one place.
    pub fn whole() -> Places {
        Places { each: 1, chosen: None }
    }

    /// `each` of the rows x columns places of each of `images` images, all where there are no more, drawn from `seed`.
    pub fn new([rows, columns]: [usize; 2], images: usize, each: usize, seed: u64) -> Places {
        let each = each.min(rows * columns);
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let middle = |at: usize, count: usize| (2 * at + 1) as f32 / count as f32 - 1.0;
        let chosen = (0..images)
            .flat_map(|_| sample(&mut rng, rows * columns, each).into_vec())
            .map(|place| [middle(place % columns, columns), middle(place / columns, rows)])
            .collect();
        Places { each, chosen: Some(chosen) }
    }

    /// Rows of the bank that an image owns.
    pub fn each(&self) -> usize {
        self.each
    }

    /// The rows of the bank that `images` own, image by image.
    pub fn own(&self, images: &[usize]) -> Vec<i64> {
        images.iter().flat_map(|&image| (0..self.each).map(move |k| (image * self.each + k) as i64)).collect()
    }

    /// Adds to `grid` where the places of an image are in a view of it; nothing for whole images.
    pub fn locate(&self, image: usize, to_view: &ToView, grid: &mut Vec<f32>) {
        let chosen = self.chosen.iter().flatten().skip(image * self.each).take(self.each);
        grid.extend(chosen.flat_map(|&place| moved(to_view, place)));
    }

    /// Adds to `grid` where as many places, drawn from `among`, are in a view; nothing for whole images. With none to draw
    /// from, the image's middle.
    pub fn draw(&self, among: &[[f32; 2]], to_view: &ToView, rng: &mut impl Rng, grid: &mut Vec<f32>) {
        if self.chosen.is_some() {
            let drawn = (0..self.each).map(|_| among.choose(rng).copied().unwrap_or([0.0, 0.0]));
            grid.extend(drawn.flat_map(|place| moved(to_view, place)));
        }
    }

    /// What [`locate`](Places::locate) and [`draw`](Places::draw) added, view by view, as [`embeddings`](Places::embeddings)
    /// takes it, \[views, each, 1, 2\]; `None` for whole images.
    pub fn grid(&self, located: &[f32]) -> Option<Tensor> {
        self.chosen.as_ref()?;
        Some(Tensor::from_slice(located).view([-1, self.each as i64, 1, 2]))
    }

    /// The grid of the images themselves.
    pub fn grid_unmoved(&self, images: impl Iterator<Item = usize>) -> Option<Tensor> {
        let mut located = Vec::new();
        images.for_each(|image| self.locate(image, &ToView::UNMOVED, &mut located));
        self.grid(&located)
    }

    /// The embeddings of places, \[views x each, d\], unit vectors, from the views' maps \[views, d, rows, columns\] and
    /// their [`grid`](Places::grid): bilinear where a view has moved a place between others, and the nearest there is where
    /// a place has left the view.
    pub fn embeddings(maps: &Tensor, grid: Option<&Tensor>) -> Tensor {
        let Some(grid) = grid else { return maps.flatten(1, -1) };
        // 0: bilinear, 1: beyond the border as at the border.
        let found = maps.grid_sampler_2d(grid, 0, 1, false).squeeze_dim(3).transpose(1, 2); // [views, each, d]
        let unit = &found / found.norm_scalaropt_dim(2, [2], true).clamp_min(1e-12);
        unit.flatten(0, 1)
    }
}

fn moved(ToView(rows): &ToView, [x, y]: [f32; 2]) -> [f32; 2] {
    rows.map(|[a, b, c]| a * x + b * y + c)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::augment::AugmentConfig;
    use crate::loader::Loader;
    use salad_shared::preprocess::{Frame, InputSpec};
    use std::sync::Arc;
    use tch::{Device, Kind};

    const GRID: [usize; 2] = [4, 4];

    #[test]
    fn a_place_is_found_again_wherever_a_view_has_moved_it() {
        // Each pixel's colour is its position, so that a map made of the view itself says where a place came from.
        let side = 64;
        let rgb = (0..side * side).flat_map(|i| [(i % side * 4) as u8, (i / side * 4) as u8, 128]).collect();
        let frames = Arc::new(vec![Frame::new(side, side, rgb).unwrap(); 2]);
        let input = InputSpec { width: side, height: side, channels: 3 };
        let augment = AugmentConfig {
            hflip: 0.5,
            vflip: 0.5,
            rotate_degrees: 30.0,
            translate: 0.1,
            scale: 0.2,
            ..AugmentConfig::off()
        };
        let places = || Places::new(GRID, 2, 6, 1);
        let loader = Loader::new(frames, input, augment, 4, 2, 9, 0).unwrap().with_places(places());
        let batch = loader.epoch(0).next().unwrap();
        let grid = batch.grid.as_ref().unwrap();
        // A view's own colours as its map. Of a unit vector the direction is left: (x, y, constant).
        let found = Places::embeddings(&batch.images, Some(grid)).view([4, 12, 3]);
        let in_view = Vec::<f32>::try_from(grid.view(-1)).unwrap();
        let chosen = places().chosen.unwrap();
        let own = Vec::<i64>::try_from(&batch.own).unwrap();
        let mut checked = 0;
        for (at, moved) in in_view.chunks(2).enumerate() {
            let (view, row) = (at / 12, at % 12);
            if moved.iter().any(|v| v.abs() > 0.9) {
                continue;
            }
            let z: Vec<f32> = (0..3).map(|c| found.double_value(&[view as i64, row as i64, c]) as f32).collect();
            let constant = 128.0 / 127.5 - 1.0;
            let position = [z[0] / z[2] * constant, z[1] / z[2] * constant];
            for (p, wanted) in position.iter().zip(chosen[own[row] as usize]) {
                assert!((p - wanted).abs() < 0.06, "{position:?} against {:?}", chosen[own[row] as usize]);
            }
            checked += 1;
        }
        assert!(checked > 24, "{checked}");
    }

    #[test]
    fn rows_are_the_images_own_and_the_seed_decides_the_places() {
        let places = Places::new(GRID, 5, 3, 1);
        assert_eq!(places.own(&[3, 1]), [9, 10, 11, 3, 4, 5]);
        assert_eq!(places.chosen, Places::new(GRID, 5, 3, 1).chosen);
        assert_ne!(places.chosen, Places::new(GRID, 5, 3, 2).chosen);
        assert_eq!(Places::new(GRID, 5, 99, 1).each(), 16);
        let whole = Places::whole();
        assert_eq!((whole.each(), whole.own(&[3, 1])), (1, vec![3, 1]));
        assert!(whole.grid_unmoved([3].into_iter()).is_none());
        let map = Tensor::randn([2, 7, 1, 1], (Kind::Float, Device::Cpu));
        assert_eq!(Places::embeddings(&map, None), map.view([2, 7]));
    }
}
