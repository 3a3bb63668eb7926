//! The production line in time: which part stands below the camera, at which moment, under which light.
//!
//! A light barrier triggers the camera, so that every frame shows a part in its place. The belt runs on below it.

use super::background;
use super::camera::Light;
use super::canvas::{Canvas, HEIGHT, WIDTH, at};
use super::defect::{Defect, DefectKind};
use super::part::Part;
use super::{FPS, Incident};
use rand::RngExt;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

/// How far the belt runs in one frame, design units; it runs on below a part that is held.
const BELT_STEP: f32 = 13.7;

/// Everything that decides how one frame looks, but for the fixed machine.
#[derive(Debug, Clone, PartialEq)]
pub struct Shot {
    part: Part,
    /// How far the belt has run, design units.
    belt_phase: f32,
    light: Light,
    /// Seed of the sensor's noise.
    pub noise_seed: u64,
}

impl Shot {
    /// A good part at a random moment.
    pub fn good(rng: &mut ChaCha8Rng) -> Shot {
        let part = Part::draw(rng);
        Shot::of(part, rng)
    }

    /// A part with a defect of `kind` at a random moment.
    pub fn defective(kind: DefectKind, rng: &mut ChaCha8Rng) -> Shot {
        let part = Part { defect: Some(Defect::draw(kind, rng)), ..Part::draw(rng) };
        Shot::of(part, rng)
    }

    /// The same moment with nothing wrong.
    pub fn without_defect(&self) -> Shot {
        Shot { part: Part { defect: None, ..self.part.clone() }, ..self.clone() }
    }

    /// The scene in linear light; `machine` comes from [`background::machine`].
    pub fn paint(&self, machine: &Canvas) -> Canvas {
        let mut canvas = machine.clone();
        background::belt(&mut canvas, self.belt_phase);
        self.part.paint(&mut canvas, at(WIDTH / 2.0, HEIGHT / 2.0));
        let factors = self.light.factors();
        canvas.light(|p| factors.map(|f| f * background::lamp_light(p)));
        canvas
    }

    fn of(part: Part, rng: &mut ChaCha8Rng) -> Shot {
        Shot {
            part,
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
    while shots.len() < frames {
        let mut part = Part::draw(rng);
        let stay = rng.random_range(2 * FPS as usize..4 * FPS as usize).min(frames - shots.len());
        if good_ones > 0 {
            good_ones -= 1;
        } else {
            if kinds.is_empty() {
                kinds = DefectKind::ALL.to_vec();
                kinds.shuffle(rng);
            }
            if let Some(kind) = kinds.pop() {
                part.defect = Some(Defect::draw(kind, rng));
                incidents.push(Incident { first_frame: shots.len(), last_frame: shots.len() + stay - 1, kind });
            }
            good_ones = rng.random_range(1..3);
        }
        for i in shots.len()..shots.len() + stay {
            // Parts shake a little while they are held.
            let shake = at(rng.random_range(-0.4..0.4), rng.random_range(-0.4..0.4));
            shots.push(Shot {
                part: Part { offset: part.offset + shake, ..part.clone() },
                belt_phase: i as f32 * BELT_STEP,
                light: Light::at(i as f32 / frames as f32, rng.random_range(-1.0..1.0)),
                noise_seed: rng.random(),
            });
        }
    }
    (shots, incidents)
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
                assert_eq!(inside, shot.part.defect.is_some(), "frame {i} of seed {seed}");
            }
            assert!(incidents.windows(2).all(|w| w[0].last_frame + 20 <= w[1].first_frame));
            assert!(frames < 600 || (6..=9).contains(&incidents.len()), "{} incidents", incidents.len());
        }
    }
}
