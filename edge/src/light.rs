//! Whether a frame is as bright as normal pictures are: where it is not, its score says something about the light, and little
//! about the scene.

use crate::gate::{Gate, Look};
use crate::grey::Grey;
use salad_shared::preprocess::Frame;
use std::time::Duration;

/// Frames are looked at in this size.
const SIZE: (u32, u32) = (16, 12);

/// Thumbnails that are looked at for the brightness of normal pictures.
const THUMBNAILS: usize = 128;

/// Added to a brightness before its logarithm is taken, so that noise in the dark counts for little.
const FLOOR: f32 = 8.0;

/// What normal pictures' range of brightness is widened by on both sides: a factor of 1.15, and this share of the range.
const FACTOR: f32 = 0.14;
const SHARE: f32 = 0.25;

/// Keeps back frames that would raise an alarm in a light that no normal picture had.
#[derive(Debug)]
pub struct LightGate {
    light: Light,
    gate: Gate,
}

impl LightGate {
    /// `thumbnails` are JPEGs of normal pictures; `None` where there are none. It is told after `after`.
    pub fn new(after: Duration, thumbnails: &[Vec<u8>]) -> Option<LightGate> {
        Some(LightGate { light: Light::new(thumbnails)?, gate: Gate::new(after) })
    }

    /// Takes in a frame taken at `now`; `over` is whether it would count as anomalous. A frame with a normal score is normal
    /// in any light.
    pub fn look(&mut self, frame: &Frame, over: bool, now: Duration) -> Look {
        match over.then(|| self.light.unusual(frame)).flatten() {
            None => self.gate.open(),
            Some(factor) => self.gate.shut(now, || {
                let than = if factor < 1.0 { "darker" } else { "brighter" };
                let factor = factor.max(1.0 / factor);
                format!("the picture is {factor:.1} times {than} than usual; in this light scores do not count")
            }),
        }
    }
}

/// The brightness of normal pictures.
#[derive(Debug, Clone, PartialEq)]
struct Light {
    /// For each place, the logarithm of its usual brightness.
    usual: Vec<f32>,
    /// The least and the largest [`offset_of`](Light::offset_of) that is still normal.
    range: [f32; 2],
}

impl Light {
    /// `thumbnails` are JPEGs of normal pictures; `None` where there are too few to say what is usual.
    fn new(thumbnails: &[Vec<u8>]) -> Option<Light> {
        let step = thumbnails.len().div_ceil(THUMBNAILS).max(1);
        let pictures = thumbnails.iter().step_by(step).filter_map(|jpeg| Frame::decode(jpeg).ok());
        let pictures: Vec<Vec<f32>> = pictures.map(|frame| logarithms(&frame)).collect();
        let places = pictures.first()?.len();
        let usual = (0..places).map(|i| median(pictures.iter().map(|p| p[i]).collect())).collect();
        let mut light = Light { usual, range: [f32::NEG_INFINITY, f32::INFINITY] };
        let offsets: Vec<f32> = pictures.iter().map(|p| light.offset_of(p)).collect();
        let (least, most) = offsets.iter().fold((0f32, 0f32), |(least, most), &o| (least.min(o), most.max(o)));
        let margin = FACTOR + SHARE * (most - least);
        light.range = [least - margin, most + margin];
        Some(light)
    }

    /// How much brighter the frame is than usual, as a factor, where no normal picture comes near that. What
    /// changes in less than half of the picture does not count as light.
    fn unusual(&self, frame: &Frame) -> Option<f32> {
        let offset = self.offset_of(&logarithms(frame));
        (!(self.range[0]..=self.range[1]).contains(&offset)).then(|| offset.exp())
    }

    /// The median over places.
    fn offset_of(&self, logarithms: &[f32]) -> f32 {
        median(logarithms.iter().zip(&self.usual).map(|(a, b)| a - b).collect())
    }
}

fn logarithms(frame: &Frame) -> Vec<f32> {
    Grey::of(frame, SIZE.0, SIZE.1).values().iter().map(|v| (v + FLOOR).ln()).collect()
}

/// The middle one of at least one value.
fn median(mut values: Vec<f32>) -> f32 {
    let middle = values.len() / 2;
    values.sort_unstable_by(f32::total_cmp);
    values.get(middle).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grey::tests::stripes;

    fn scaled(frame: &Frame, factor: f32) -> Frame {
        let rgb = frame.rgb().iter().map(|&v| (f32::from(v) * factor).min(255.0) as u8).collect();
        Frame::new(frame.width(), frame.height(), rgb).unwrap()
    }

    #[test]
    fn light_outside_of_what_was_trained_is_told_and_inside_is_not() {
        let scene = stripes(8, 0);
        let thumbnails: Vec<Vec<u8>> = [0.8, 0.9, 1.0].map(|f| scaled(&scene, f).to_jpeg(92)).into();
        let light = Light::new(&thumbnails).unwrap();
        for factor in [0.8, 0.85, 1.0, 1.05] {
            assert_eq!(light.unusual(&scaled(&scene, factor)), None, "{factor}");
        }
        assert!(light.unusual(&scaled(&scene, 0.5)).unwrap() < 0.7);
        assert!(light.unusual(&scaled(&scaled(&scene, 0.4), 3.0)).unwrap() > 1.2);
    }

    #[test]
    fn something_in_less_than_half_of_the_picture_is_no_light() {
        let scene = stripes(8, 0);
        let light = Light::new(&[scene.to_jpeg(92)]).unwrap();
        let mut with_object = scene.clone();
        for (x, y) in (0..28).flat_map(|x| (0..48).map(move |y| (x, y))) {
            with_object.set_pixel(x, y, [255; 3]);
        }
        assert_eq!(light.unusual(&with_object), None);
    }

    #[test]
    fn without_normal_pictures_nothing_is_unusual() {
        assert_eq!(Light::new(&[]), None);
        assert_eq!(Light::new(&[b"torn".to_vec()]), None);
    }
}
