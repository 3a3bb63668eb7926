//! Places: which embeddings of an image have a row of the memory bank while training, and where they are in a view.
//!
//! A whole image has one place. With patches each image has many, and METHOD's x_i is a place of an image: N counts places,
//! and a neighbourhood is one of places, of whatever images. So that the bank stays small, only some places of each image,
//! drawn once, have a row in it; the others are learned by being alike.

use crate::augment::ToView;
use crate::loader::Batch;
use rand::SeedableRng;
use rand::seq::index::sample;
use rand_chacha::ChaCha8Rng;
use tch::Tensor;

/// The places of every training image that have a row of the bank.
#[derive(Debug)]
pub struct Places {
    each: usize,
    /// \[images, each\], (x, y) of a place in its image, from -1 at the left or upper rim to 1; `None` for whole images.
    chosen: Option<Vec<[f32; 2]>>,
}

impl Places {
    /// `each` of the `grid`'s rows x columns places of each of `images` images, drawn from `seed`; without a grid an image is
    /// one place, whatever `each` says.
    pub fn new(grid: Option<[usize; 2]>, images: usize, each: usize, seed: u64) -> Places {
        let Some([rows, columns]) = grid else { return Places { each: 1, chosen: None } };
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

    /// The rows of the bank that a batch's images own, image by image.
    pub fn own(&self, batch: &Batch) -> Vec<i64> {
        batch.indices.iter().flat_map(|&image| (0..self.each).map(move |k| (image * self.each + k) as i64)).collect()
    }

    /// The embeddings of those rows' places, \[views, rows, d\], unit vectors, from a batch's maps \[views x size, d, rows,
    /// columns\]: bilinear where a view has moved a place between others, and the nearest there is where it has left the
    /// view.
    pub fn take(&self, maps: &Tensor, batch: &Batch) -> Tensor {
        let images = batch.indices.iter().copied().cycle();
        self.find(maps, images.zip(batch.to_view.iter().copied())).view([batch.views as i64, -1, maps.size()[1]])
    }

    /// The embeddings of the bank's places of some images in a row, from the `first` on, \[rows, d\], from the images' own
    /// maps \[images, d, rows, columns\].
    pub fn rows(&self, maps: &Tensor, first: usize) -> Tensor {
        let images = first..first + maps.size()[0] as usize;
        self.find(maps, images.map(|image| (image, ToView::UNMOVED)))
    }

    /// Image by image, place by place.
    fn find(&self, maps: &Tensor, images: impl Iterator<Item = (usize, ToView)>) -> Tensor {
        let [count, dim, ..] = maps.size()[..] else { unreachable!("maps are [b, d, rows, columns]") };
        let Some(chosen) = &self.chosen else { return maps.view([count, dim]) };
        let of_image = |image: usize| chosen.iter().skip(image * self.each).take(self.each);
        let grid: Vec<f32> = images
            .take(count as usize)
            .flat_map(|(image, to_view)| of_image(image).flat_map(move |&place| moved(&to_view, place)))
            .collect();
        let grid = Tensor::from_slice(&grid).view([count, self.each as i64, 1, 2]).to_device(maps.device());
        // 0: bilinear, 1: beyond the border as at the border.
        let found = maps.grid_sampler_2d(&grid, 0, 1, false).squeeze_dim(3).transpose(1, 2); // [b, each, d]
        let unit = &found / found.norm_scalaropt_dim(2, [2], true).clamp_min(1e-12);
        unit.reshape([-1, dim])
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

    const GRID: Option<[usize; 2]> = Some([4, 4]);

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
        let loader = Loader::new(frames, input, augment, 4, 2, 9, 0).unwrap();
        let places = Places::new(GRID, 2, 6, 1);
        let batch = loader.epoch(0).next().unwrap();
        let views = Tensor::from_slice(&batch.images).view([8, 3, i64::from(side), i64::from(side)]);
        // Not to be made unit vectors: only the direction (x, y, constant) matters.
        let found = places.take(&views, &batch); // [4, 12, 3]
        let chosen = places.chosen.as_ref().unwrap();
        let mut checked = 0;
        for view in 0..4 {
            for (row, own) in places.own(&batch).into_iter().enumerate() {
                let to_view = &batch.to_view[view * 2 + row / 6];
                let inside = moved(to_view, chosen[own as usize]).iter().all(|v| v.abs() < 0.9);
                if inside {
                    let z: Vec<f32> =
                        (0..3).map(|c| found.double_value(&[view as i64, row as i64, c]) as f32).collect();
                    let constant = 128.0 / 127.5 - 1.0;
                    let position = [z[0] / z[2] * constant, z[1] / z[2] * constant];
                    for (p, wanted) in position.iter().zip(chosen[own as usize]) {
                        assert!((p - wanted).abs() < 0.06, "{position:?} against {:?}", chosen[own as usize]);
                    }
                    checked += 1;
                }
            }
        }
        assert!(checked > 24, "{checked}");
    }

    #[test]
    fn rows_are_the_images_own_and_the_seed_decides_the_places() {
        let batch = Batch { indices: vec![3, 1], images: vec![], to_view: vec![], views: 1, size: 2 };
        let places = Places::new(GRID, 5, 3, 1);
        assert_eq!(places.own(&batch), [9, 10, 11, 3, 4, 5]);
        assert_eq!(places.chosen, Places::new(GRID, 5, 3, 1).chosen);
        assert_ne!(places.chosen, Places::new(GRID, 5, 3, 2).chosen);
        assert_eq!(Places::new(GRID, 5, 99, 1).each(), 16);
        let whole = Places::new(None, 5, 3, 1);
        assert_eq!((whole.each(), whole.own(&batch)), (1, vec![3, 1]));
        let map = Tensor::randn([2, 7, 1, 1], (Kind::Float, Device::Cpu));
        assert_eq!(whole.take(&map, &batch), map.view([1, 2, 7]));
    }
}
