//! The production line in time: which part stands or moves where, at which moment, under which light.

use super::background;
use super::camera::Light;
use super::canvas::{Canvas, HEIGHT, WIDTH, at};
use super::defect::{Defect, DefectKind};
use super::part::Part;
use super::{FPS, Incident};
use rand::RngExt;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

/// Distance between two parts on the line, design units: while one stands in the middle, no other is in the picture.
const SPACING: f32 = 330.0;
/// Frames in which one part leaves and the next arrives.
const CHANGE_FRAMES: usize = 4;
/// The share of random moments that fall into such a change.
const CHANGE_SHARE: f64 = 0.1;
/// How far the belt runs in one frame, design units; it runs on below a part that is held.
const BELT_STEP: f32 = 13.7;

/// Everything that decides how one frame looks, but for the fixed machine.
#[derive(Debug, Clone, PartialEq)]
pub struct Shot {
    /// Parts with how far along the line they are from the middle of the picture, design units.
    parts: Vec<(Part, f32)>,
    /// How far the belt has run, design units.
    belt_phase: f32,
    /// The light.
    pub light: Light,
    /// Seed of the sensor's noise.
    pub noise_seed: u64,
}

impl Shot {
    /// A random moment of normal operation: a part stands, or gives way to the next.
    pub fn good(rng: &mut ChaCha8Rng) -> Shot {
        let changing = rng.random_bool(CHANGE_SHARE);
        let parts = if changing {
            let shift = change_shift(rng.random_range(0..CHANGE_FRAMES), rng);
            vec![(Part::draw(rng), shift), (Part::draw(rng), shift - SPACING)]
        } else {
            vec![(Part::draw(rng), 0.0)]
        };
        Shot::of(parts, rng)
    }

    /// A part with a defect of `kind`, standing.
    pub fn defective(kind: DefectKind, rng: &mut ChaCha8Rng) -> Shot {
        let part = Part { defect: Some(Defect::draw(kind, rng)), ..Part::draw(rng) };
        Shot::of(vec![(part, 0.0)], rng)
    }

    /// The same moment with nothing wrong.
    pub fn without_defects(&self) -> Shot {
        let parts = self.parts.iter().map(|(part, shift)| (Part { defect: None, ..part.clone() }, *shift)).collect();
        Shot { parts, ..self.clone() }
    }

    /// The scene in linear light; `machine` comes from [`background::machine`].
    pub fn paint(&self, machine: &Canvas) -> Canvas {
        let mut canvas = machine.clone();
        background::belt(&mut canvas, self.belt_phase);
        for (part, shift) in &self.parts {
            part.paint(&mut canvas, at(WIDTH / 2.0 + shift, HEIGHT / 2.0));
        }
        let factors = self.light.factors();
        canvas.light(|p| factors.map(|f| f * background::lamp_light(p)));
        canvas
    }

    fn of(parts: Vec<(Part, f32)>, rng: &mut ChaCha8Rng) -> Shot {
        Shot {
            parts,
            belt_phase: rng.random_range(0.0..background::BELT_PERIOD),
            light: Light::at(rng.random_range(0.0..1.0), rng.random_range(-1.0..1.0)),
            noise_seed: rng.random(),
        }
    }
}

/// A stream of `frames` frames: parts stand for two to four seconds each, one or two good ones between defective ones.
pub fn stream(frames: usize, rng: &mut ChaCha8Rng) -> (Vec<Shot>, Vec<Incident>) {
    let (mut shots, mut incidents) = (Vec::with_capacity(frames), Vec::new());
    let mut kinds = Vec::new();
    let mut good_ones = 2;
    let mut part = Part::draw(rng);
    let mut kind = None;
    while shots.len() < frames {
        let first = shots.len();
        for _ in 0..rng.random_range(2 * FPS as usize..4 * FPS as usize) {
            // Parts shake a little while they are held.
            let mut held = part.clone();
            held.offset = held.offset + at(rng.random_range(-0.4..0.4), rng.random_range(-0.4..0.4));
            shots.push(vec![(held, 0.0)]);
        }
        if let Some(kind) = kind {
            incidents.push(Incident { first_frame: first, last_frame: shots.len().min(frames) - 1, kind });
        }
        let mut next = Part::draw(rng);
        kind = None;
        if good_ones == 0 {
            if kinds.is_empty() {
                kinds = DefectKind::ALL.to_vec();
                kinds.shuffle(rng);
            }
            kind = kinds.pop();
            next.defect = kind.map(|kind| Defect::draw(kind, rng));
            good_ones = rng.random_range(1..3);
        } else {
            good_ones -= 1;
        }
        for i in 0..CHANGE_FRAMES {
            let shift = change_shift(i, rng);
            shots.push(vec![(part.clone(), shift), (next.clone(), shift - SPACING)]);
        }
        part = next;
    }
    shots.truncate(frames);
    let shot = |(i, parts)| Shot {
        parts,
        belt_phase: i as f32 * BELT_STEP,
        light: Light::at(i as f32 / frames as f32, rng.random_range(-1.0..1.0)),
        noise_seed: rng.random(),
    };
    (shots.into_iter().enumerate().map(shot).collect(), incidents)
}

/// How far the line has moved in frame `i` of a change, design units; no two changes are caught at the same instants.
fn change_shift(i: usize, rng: &mut ChaCha8Rng) -> f32 {
    let progress = (i as f32 + 1.0 + rng.random_range(-0.2..0.2)) / (CHANGE_FRAMES + 1) as f32;
    SPACING * progress * progress * (3.0 - 2.0 * progress)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    #[test]
    fn incidents_lie_in_the_stream_and_do_not_touch() {
        for (seed, frames) in [(1, 600), (2, 600), (3, 95), (4, 1)] {
            let (shots, incidents) = stream(frames, &mut ChaCha8Rng::seed_from_u64(seed));
            assert_eq!(shots.len(), frames);
            for (i, shot) in shots.iter().enumerate() {
                let inside = incidents.iter().any(|n| (n.first_frame..=n.last_frame).contains(&i));
                let standing = shot.parts.len() == 1;
                let wrong = shot.parts.iter().any(|(part, _)| part.defect.is_some());
                assert_eq!(inside, standing && wrong, "frame {i} of seed {seed}");
            }
            assert!(incidents.windows(2).all(|w| w[0].last_frame + CHANGE_FRAMES < w[1].first_frame));
            assert!(frames < 600 || (6..=8).contains(&incidents.len()), "{} incidents", incidents.len());
        }
    }
}
