//! Small pictures of a made-up scene: a bright plate with a bolt, which stands a little differently in each.

use image::{Rgb, RgbImage};
use std::path::Path;

/// Side of the pictures, pixels.
pub const SIDE: u32 = 64;

/// Writes an MVTec-style data set: train/good, test/good, test/hole (the bolt is missing), test/blot (a dark spot).
pub fn data_set(root: &Path) {
    let sets = [("train/good", 64, Defect::None), ("test/good", 40, Defect::None)];
    let defects = [("test/hole", 30, Defect::Hole), ("test/blot", 30, Defect::Blot)];
    let mut seed = 1;
    for (folder, count, defect) in sets.into_iter().chain(defects) {
        let folder = root.join(folder);
        std::fs::create_dir_all(&folder).unwrap();
        for i in 0..count {
            picture(seed, defect).save(folder.join(format!("{i:03}.png"))).unwrap();
            seed += 1;
        }
    }
}

/// What is wrong with a picture.
#[derive(Clone, Copy, PartialEq)]
pub enum Defect {
    /// Nothing.
    None,
    /// The bolt is missing.
    Hole,
    /// There is a dark spot.
    Blot,
}

/// One picture; the seed decides where the plate stands, how bright it is, and the noise.
pub fn picture(seed: u64, defect: Defect) -> RgbImage {
    let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let (dx, dy) = (random.below(5) as i32 - 2, random.below(5) as i32 - 2);
    let light = 0.9 + 0.2 * random.below(1000) as f32 / 1000.0;
    let (blot_x, blot_y) = (18 + random.below(28) as i32, 16 + random.below(8) as i32);
    RgbImage::from_fn(SIDE, SIDE, |x, y| {
        let (x, y) = (x as i32 - dx, y as i32 - dy);
        let from = |cx: i32, cy: i32| (x - cx).pow(2) + (y - cy).pow(2);
        let mut colour = [50.0 + x as f32, 60.0, 70.0 + 0.5 * y as f32];
        if (14..50).contains(&x) && (12..52).contains(&y) {
            colour = [190.0, 180.0, 150.0];
        }
        if from(32, 36) < 64 && defect != Defect::Hole {
            colour = [60.0, 90.0, 200.0];
        }
        if defect == Defect::Blot && from(blot_x, blot_y) < 30 {
            colour = [30.0, 20.0, 20.0];
        }
        Rgb(colour.map(|c| (c * light + random.below(9) as f32 - 4.0).clamp(0.0, 255.0) as u8))
    })
}

/// Xorshift, so that pictures repeat.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 33) % n
    }
}
