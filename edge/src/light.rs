//! A second look at frames that would raise an alarm in a light that no normal picture had: as they would be in usual light.
//!
//! The picture is held against the usual one place by place, and the gain and the offset that explain most places are taken
//! away, for each colour. A lamp, dusk and a camera's exposure change most places alike; what somebody has put there or taken
//! away does not, and is still seen after that. In little light cameras see grain as well, which no correction takes away: the
//! noisier a picture is than usual, the higher the score has to be.

use crate::gate::{Gate, Look};
use crate::grey::median;
use crate::noise::Noise;
use salad_shared::preprocess::Frame;
use std::time::Duration;

/// Pictures are held against each other in this size.
const SIZE: (u32, u32) = (16, 12);

/// Thumbnails that are looked at for what is usual.
const THUMBNAILS: usize = 128;

/// The share of the places that has to be explained, and how closely: levels of 255. Places that are white or black say
/// nothing; where more than the last share of all has become so, the picture has lost too much.
const SHARE: f32 = 0.6;
const CLOSE: f32 = 12.0;
const LOST: f32 = 0.2;
const WHITE: f32 = 247.0;
const BLACK: f32 = 4.0;

/// A correction below the first, in levels of 255 of a middle grey, is none. Above the second the picture has lost too much
/// for its score to mean anything; on the way there, each of the last number of levels raises the threshold by all of itself.
const NOTHING: f32 = 2.0;
const TOO_MUCH: f32 = 64.0;
const CAUTION: f32 = 40.0;

/// So large a share of places that have become white or black raises the threshold by all of itself, too.
const LOST_CAUTION: f32 = 0.1;

/// The same for noise that is not usual, its standard deviation in levels of 255.
const NO_NOISE: f32 = 3.0;
const TOO_NOISY: f32 = 40.0;
const NOISE_CAUTION: f32 = 12.0;

/// A light of a moment ago is there still where it leaves so much of the differences to the usual picture, at most; those of a
/// place count up to the second number, levels of 255.
const LIKELIER: f32 = 0.9;
const FAR: f32 = 3.0 * CLOSE;

/// Rounds of fitting to the places that fit best.
const ROUNDS: usize = 6;

/// Keeps the gain near the first guess where the picture has next to no contrast, squared levels of 255.
const STIFFNESS: f32 = 50.0;

/// Light is usual again after it has been for so long: dusk comes and goes in steps. And for so long a light that was seen is
/// taken to be there still, where something large in the scene hides what it is now.
const SETTLED: Duration = Duration::from_secs(60);

/// Watches the light.
#[derive(Debug)]
pub struct Light {
    usual: Vec<[f32; 3]>,
    noise: Noise,
    /// What was seen last, and when.
    seen: Option<(Tint, Duration)>,
    gate: Gate,
}

/// What the light has done to a frame, and what makes it look as in usual light.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Correction {
    /// `None` where it is noise alone.
    tint: Option<Tint>,
    /// The standard deviation of noise that is not usual, levels of 255.
    noise: f32,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Tint {
    /// For each colour: usual = gain x value + offset, in levels of 255.
    gain: [f32; 3],
    offset: [f32; 3],
    /// The share of places that have become white or black.
    lost: f32,
}

impl Light {
    /// `thumbnails` are JPEGs of normal pictures; `None` where there are none. Unusual light is told after `after`.
    pub fn new(after: Duration, thumbnails: &[Vec<u8>]) -> Option<Light> {
        let step = thumbnails.len().div_ceil(THUMBNAILS).max(1);
        let pictures = thumbnails.iter().step_by(step).filter_map(|jpeg| Frame::decode(jpeg).ok());
        let pictures: Vec<Vec<[f32; 3]>> = pictures.map(|frame| places(&frame)).collect();
        let count = pictures.first()?.len();
        let usual = |i: usize| [0, 1, 2].map(|c| median(pictures.iter().map(|p| p[i][c]).collect()));
        let usual = (0..count).map(usual).collect();
        Some(Light { usual, noise: Noise::default(), seen: None, gate: Gate::new(after, SETTLED) })
    }

    /// Takes in a frame taken at `now` in which nothing is out of the ordinary.
    pub fn learn(&mut self, frame: &Frame, now: Duration) {
        self.noise.learn(frame, now);
    }

    /// What the light has done to a frame taken at `now`; `None` where it is as usual, or where light does not explain what is
    /// different.
    pub fn correction(&mut self, frame: &Frame, now: Duration) -> Option<Correction> {
        let found = places(frame);
        let fresh = self.tint(&found);
        if let Some(tint) = fresh {
            self.seen = Some((tint, now));
        }
        let is_there =
            |(tint, at): &(Tint, Duration)| now.saturating_sub(*at) < SETTLED && self.is_likelier(tint, &found);
        let tint = fresh.or_else(|| self.seen.filter(is_there).map(|(tint, _)| tint));
        let noise = Some(self.noise.excess(frame)).filter(|excess| *excess > NO_NOISE).unwrap_or(0.0);
        (tint.is_some() || noise > 0.0).then_some(Correction { tint, noise })
    }

    /// Whether places look more usual by a tint than without one, and not by chance. One that is hidden says little.
    fn is_likelier(&self, tint: &Tint, found: &[[f32; 3]]) -> bool {
        let none = Tint { gain: [1.0; 3], offset: [0.0; 3], lost: 0.0 };
        let unlike = |tint: &Tint| found.iter().zip(&self.usual).map(|(f, u)| tint.error(f, u).min(FAR)).sum::<f32>();
        unlike(tint) < LIKELIER * unlike(&none)
    }

    fn tint(&self, found: &[[f32; 3]]) -> Option<Tint> {
        let guess = |c: usize| {
            median(found.iter().zip(&self.usual).map(|(f, u)| (u[c] + 1.0) / (f[c] + 1.0)).collect()).clamp(0.2, 5.0)
        };
        let guess = [0, 1, 2].map(guess);
        let is_seen = |p: &[f32; 3]| p.iter().all(|v| (BLACK..=WHITE).contains(v));
        let lost = found.iter().zip(&self.usual).filter(|(f, u)| !is_seen(f) && is_seen(u)).count();
        let mut order: Vec<usize> = (0..found.len()).filter(|&i| is_seen(&found[i])).collect();
        let kept = (order.len() as f32 * SHARE) as usize;
        if kept < found.len() / 8 {
            return None;
        }
        let lost = lost as f32 / found.len() as f32;
        let mut fit = Tint { gain: guess, offset: [0.0; 3], lost };
        for _ in 0..ROUNDS {
            order.sort_by(|&a, &b| {
                fit.error(&found[a], &self.usual[a]).total_cmp(&fit.error(&found[b], &self.usual[b]))
            });
            for c in 0..3 {
                let pairs = || order[..kept].iter().map(|&i| (found[i][c], self.usual[i][c]));
                let mean = |value: fn((f32, f32)) -> f32| pairs().map(value).sum::<f32>() / kept as f32;
                let (x, y) = (mean(|p| p.0), mean(|p| p.1));
                let spread = pairs().map(|p| (p.0 - x) * (p.0 - x)).sum::<f32>() / kept as f32;
                let common = pairs().map(|p| (p.0 - x) * (p.1 - y)).sum::<f32>() / kept as f32;
                fit.gain[c] = ((common + STIFFNESS * guess[c]) / (spread + STIFFNESS)).clamp(0.2, 5.0);
                fit.offset[c] = y - fit.gain[c] * x;
            }
        }
        let worst = order[..kept].iter().map(|&i| fit.error(&found[i], &self.usual[i])).fold(0.0, f32::max);
        (worst <= CLOSE && fit.size() > NOTHING).then_some(fit)
    }

    /// Takes in a frame taken at `now`: whether it took `correction` for its score to be normal, or whether that did not
    /// help either.
    pub fn look(&mut self, correction: Option<Correction>, now: Duration) -> Look {
        match correction {
            None => self.gate.open(now),
            Some(correction) => self.gate.shut(now, || correction.words()),
        }
    }
}

impl Correction {
    /// The frame in usual light; `None` where it is in usual light already.
    pub fn apply(&self, frame: &Frame) -> Option<Frame> {
        self.tint?.apply(frame)
    }

    /// Whether the light is so far from usual that a score means nothing even after the correction.
    pub fn is_too_much(&self) -> bool {
        self.noise > TOO_NOISY || self.tint.is_some_and(|tint| tint.size() > TOO_MUCH || tint.lost > LOST)
    }

    /// By what a threshold is multiplied for the corrected frame, at least 1: what the light has taken from a picture no
    /// correction brings back.
    pub fn caution(&self) -> f32 {
        let tint = self.tint.map_or(0.0, |tint| tint.size() / CAUTION + tint.lost / LOST_CAUTION);
        (1.0 + tint) * (1.0 + self.noise / NOISE_CAUTION)
    }

    fn words(&self) -> String {
        let noise = format!("noise of a standard deviation of {:.0} levels beside the usual", self.noise);
        match (self.tint, self.noise > 0.0) {
            (Some(tint), false) => tint.words(),
            (Some(tint), true) => format!("{}, and there is {noise}", tint.words()),
            (None, _) => format!("the picture is not what normal ones were: there is {noise}, as in too little light"),
        }
    }
}

impl Tint {
    fn apply(&self, frame: &Frame) -> Option<Frame> {
        let table = [0, 1, 2].map(|c| {
            let value = |v: u8| (self.gain[c] * f32::from(v) + self.offset[c]).round().clamp(0.0, 255.0) as u8;
            let mut table = [0; 256];
            for (v, entry) in (0..=255).zip(&mut table) {
                *entry = value(v);
            }
            table
        });
        let colours = frame.rgb().chunks_exact(3);
        let rgb = colours
            .flat_map(|p| [table[0][usize::from(p[0])], table[1][usize::from(p[1])], table[2][usize::from(p[2])]]);
        Frame::new(frame.width(), frame.height(), rgb.collect()).ok()
    }

    /// What has become of a middle grey: red, green and blue.
    fn grey(&self) -> [f32; 3] {
        [0, 1, 2].map(|c| ((128.0 - self.offset[c]) / self.gain[c]).clamp(0.0, 255.0))
    }

    /// By how much that differs from a middle grey, at most, levels of 255.
    fn size(&self) -> f32 {
        self.grey().map(|value| (value - 128.0).abs()).into_iter().fold(0.0, f32::max)
    }

    fn error(&self, found: &[f32; 3], usual: &[f32; 3]) -> f32 {
        (0..3).map(|c| (self.gain[c] * found[c] + self.offset[c] - usual[c]).abs()).fold(0.0, f32::max)
    }

    fn words(&self) -> String {
        let [r, g, b] = self.grey().map(f32::round);
        format!(
            "the light is not what it was in normal pictures: what was a grey of 128 is now {r} {g} {b} (red, green, blue)"
        )
    }
}

fn places(frame: &Frame) -> Vec<[f32; 3]> {
    let small = frame.resized(SIZE.0, SIZE.1);
    small.rgb().chunks_exact(3).map(|p| [p[0].into(), p[1].into(), p[2].into()]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::ZERO;

    /// A picture with some shades, in a light of three gains and an offset.
    fn scene(gain: [f32; 3], offset: f32) -> Frame {
        let shade = |x: u32, y: u32| (40 + 10 * (x / 8) + 8 * (y / 8)) as f32;
        let pixel = |x, y| gain.map(|g| (shade(x, y) * g + offset).round().clamp(0.0, 255.0) as u8);
        let rgb = (0..48).flat_map(|y| (0..64).flat_map(move |x| pixel(x, y))).collect();
        Frame::new(64, 48, rgb).unwrap()
    }

    fn light() -> Light {
        Light::new(Duration::from_secs(10), &[scene([1.0; 3], 0.0).to_jpeg(95)]).unwrap()
    }

    fn difference(a: &Frame, b: &Frame) -> f32 {
        let sum: f32 = a.rgb().iter().zip(b.rgb()).map(|(a, b)| f32::from(a.abs_diff(*b))).sum();
        sum / a.rgb().len() as f32
    }

    #[test]
    fn a_lamp_dusk_and_warm_light_are_taken_away() {
        let mut light = light();
        for (gain, offset) in [([0.7; 3], 0.0), ([1.3; 3], 0.0), ([1.1, 1.0, 0.8], 0.0), ([0.9; 3], 25.0)] {
            let frame = scene(gain, offset);
            let correction = light.correction(&frame, NOW).unwrap();
            let usual = correction.apply(&frame).unwrap();
            let left = difference(&usual, &scene([1.0; 3], 0.0));
            assert!(left < 1.5 && !correction.is_too_much(), "{gain:?} {offset}: {left}");
        }
        assert_eq!(light.correction(&scene([1.0; 3], 0.0), NOW), None);
        assert!(light.correction(&scene([0.4; 3], 0.0), NOW).unwrap().is_too_much());
    }

    #[test]
    fn an_object_is_no_light_and_stays_where_it_is_in_another_light() {
        let mut light = light();
        let with_object = |frame: &Frame| {
            let mut frame = frame.clone();
            for (x, y) in (0..20).flat_map(|x| (0..48).map(move |y| (x, y))) {
                frame.set_pixel(x, y, [250, 20, 20]);
            }
            frame
        };
        let usual = scene([1.0; 3], 0.0);
        assert_eq!(light.correction(&with_object(&usual), NOW), None);
        let dim = with_object(&scene([0.7; 3], 0.0));
        let seen = light.correction(&dim, NOW).unwrap().apply(&dim).unwrap();
        assert!(seen.pixel(5, 5)[0] > 240 && difference(&seen, &with_object(&usual)) < 12.0);
        // Another scene is not this one in another light.
        let other = crate::grey::tests::stripes(16, 0);
        assert_eq!(light.correction(&other, NOW), None);
    }

    #[test]
    fn light_that_was_seen_is_still_there_behind_something_large() {
        let hidden = |frame: &Frame| {
            let mut frame = frame.clone();
            for (x, y) in (0..64).flat_map(|x| (0..32).map(move |y| (x, y))) {
                frame.set_pixel(x, y, [(x * 4) as u8, 90, (y * 8) as u8]);
            }
            frame
        };
        let (usual, dim) = (scene([1.0; 3], 0.0), scene([0.7; 3], 0.0));
        assert_eq!(light().correction(&hidden(&dim), NOW), None, "by itself it does not show the light");
        let mut light = light();
        let seen = light.correction(&dim, NOW);
        let soon = NOW + SETTLED / 2;
        assert!(seen.is_some() && light.correction(&hidden(&dim), soon) == seen);
        assert_eq!(light.correction(&hidden(&usual), soon), None, "the light is as usual again");
        light.correction(&dim, soon);
        assert_eq!(light.correction(&hidden(&dim), soon + SETTLED), None, "that was long ago");
    }

    #[test]
    fn a_noisier_picture_than_usual_needs_a_higher_score() {
        let noisy = |levels: i16| {
            let mut random = fastrand::Rng::with_seed(3);
            let mut frame = scene([1.0; 3], 0.0);
            for (x, y) in (0..64).flat_map(|x| (0..48).map(move |y| (x, y))) {
                let noise = random.i16(-levels..=levels);
                frame.set_pixel(x, y, frame.pixel(x, y).map(|v| (i16::from(v) + noise).clamp(0, 255) as u8));
            }
            frame
        };
        let mut light = light();
        light.learn(&scene([1.0; 3], 0.0), NOW);
        assert_eq!(light.correction(&noisy(3), NOW), None);
        let grain = light.correction(&noisy(30), NOW).unwrap();
        assert!(grain.caution() > 2.0 && !grain.is_too_much() && grain.apply(&noisy(30)).is_none(), "{grain:?}");
        assert!(matches!(light.look(Some(grain), NOW + Duration::from_secs(1)), Look::Shut));
        assert!(grain.words().contains("noise of a standard deviation of 1"), "{}", grain.words());
    }

    #[test]
    fn it_is_told_after_its_time_and_over_once_it_has_settled() {
        let mut light = light();
        let at = Duration::from_secs;
        let dim = light.correction(&scene([0.7; 3], 0.0), NOW);
        assert_eq!(light.look(dim, at(0)), Look::Shut);
        assert!(matches!(light.look(dim, at(10)), Look::TellShut(words) if words.contains("now 90 90 90")));
        assert_eq!(light.look(None, at(20)), Look::Open);
        assert_eq!(light.look(dim, at(60)), Look::Shut);
        assert_eq!(light.look(None, at(119)), Look::Open);
        assert_eq!(light.look(None, at(120)), Look::OpenAgain);
    }

    #[test]
    fn without_normal_pictures_there_is_no_usual_light() {
        assert!(Light::new(Duration::ZERO, &[]).is_none());
        assert!(Light::new(Duration::ZERO, &[b"torn".to_vec()]).is_none());
    }
}
