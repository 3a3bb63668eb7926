//! What can be wrong with a part: four kinds of defect, their particulars, and how those look that lie on top of it.

use super::canvas::{
    Canvas, Colour, LIGHT, Pen, Vec2, at, hexagon, mix, noise, polyline, rounded_box, scaled, smoothstep,
};
use super::part;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use std::f32::consts::TAU;

/// The four kinds of defect; they name folders and rows of the truth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DefectKind {
    /// The disc, or one of its bolts, is not there.
    MissingPart,
    /// A carrier of another colour.
    WrongColour,
    /// A scratch across the disc.
    Scratch,
    /// A nut, a piece of cable or a scrap of paper lies on the part.
    ForeignObject,
}

impl DefectKind {
    /// All kinds.
    pub const ALL: [DefectKind; 4] =
        [DefectKind::MissingPart, DefectKind::WrongColour, DefectKind::Scratch, DefectKind::ForeignObject];

    /// The kind's name in folders and tables.
    pub fn name(self) -> &'static str {
        match self {
            DefectKind::MissingPart => "missing_part",
            DefectKind::WrongColour => "wrong_colour",
            DefectKind::Scratch => "scratch",
            DefectKind::ForeignObject => "foreign_object",
        }
    }
}

/// A defect with its particulars, in the carrier's coordinates.
#[derive(Debug, Clone, PartialEq)]
pub enum Defect {
    /// The disc and with it both bolts are missing.
    NoDisc,
    /// Bolt 0 or 1 is missing.
    NoBolt(usize),
    /// The carrier's colour.
    Colour(Colour),
    /// Polylines with their half widths.
    Scratches(Vec<(Vec<Vec2>, f32)>),
    /// A hexagon nut: place and angle.
    Nut(Vec2, f32),
    /// A cable: its course and colour.
    Cable(Vec<Vec2>, Colour),
    /// A scrap: place, angle and seed of its outline.
    Paper(Vec2, f32, u32),
}

impl Defect {
    /// Draws the particulars of a defect of `kind`.
    pub fn draw(kind: DefectKind, rng: &mut ChaCha8Rng) -> Defect {
        match kind {
            DefectKind::MissingPart if rng.random_bool(0.75) => Defect::NoDisc,
            DefectKind::MissingPart => Defect::NoBolt(rng.random_range(0..2)),
            DefectKind::WrongColour => {
                let colours = [[0.50, 0.14, 0.015], [0.035, 0.26, 0.07], [0.46, 0.34, 0.02], [0.36, 0.03, 0.035]];
                Defect::Colour(colours[rng.random_range(0..colours.len())])
            }
            DefectKind::Scratch => Defect::Scratches(scratches(rng)),
            DefectKind::ForeignObject => {
                let place = at(rng.random_range(20.0..62.0), 0.0).turned(rng.random_range(0.0..TAU));
                let place = at(place.x, place.y.clamp(-44.0, 44.0));
                let angle = rng.random_range(0.0..TAU);
                match rng.random_range(0..3) {
                    0 => Defect::Nut(place, angle),
                    1 => {
                        let colours = [[0.55, 0.03, 0.03], [0.6, 0.42, 0.02], [0.02, 0.02, 0.02]];
                        Defect::Cable(cable(place, angle, rng), colours[rng.random_range(0..colours.len())])
                    }
                    _ => Defect::Paper(place, angle, rng.random()),
                }
            }
        }
    }

    /// Paints what lies on the finished part: scratches and foreign objects. The others change the part itself.
    pub fn paint_over(&self, canvas: &mut Canvas, pen: Pen) {
        match self {
            Defect::NoDisc | Defect::NoBolt(_) | Defect::Colour(_) => {}
            Defect::Scratches(lines) => lines.iter().for_each(|(line, half)| paint_scratch(canvas, pen, line, *half)),
            Defect::Nut(place, angle) => paint_nut(canvas, pen, *place, *angle),
            Defect::Cable(course, colour) => paint_cable(canvas, pen, course, *colour),
            Defect::Paper(place, angle, seed) => paint_paper(canvas, pen, *place, *angle, *seed),
        }
    }
}

fn scratches(rng: &mut ChaCha8Rng) -> Vec<(Vec<Vec2>, f32)> {
    let heading = rng.random_range(0.0..TAU);
    let middle = at(rng.random_range(24.0..38.0), 0.0).turned(rng.random_range(0.0..TAU));
    (0..rng.random_range(3..6))
        .map(|i| {
            let length = if i == 0 { rng.random_range(60.0..84.0) } else { rng.random_range(30.0..60.0) };
            let start = middle + at(-length / 2.0, 6.5 * i as f32).turned(heading);
            let end = middle + at(length / 2.0, 6.5 * i as f32).turned(heading + rng.random_range(-0.12..0.12));
            let bend = (start + end) * 0.5 + at(0.0, rng.random_range(-9.0..9.0)).turned(heading);
            (curve(start, bend, end), if i == 0 { rng.random_range(2.0..2.8) } else { 1.3 })
        })
        .collect()
}

fn paint_scratch(canvas: &mut Canvas, pen: Pen, line: &[Vec2], half: f32) {
    // Rough along its course, and only where there is metal.
    let groove = |q: Vec2| {
        let on_disc = (q.length() - part::DISC_RADIUS).max(part::HOLE_RADIUS - q.length());
        (polyline(q, line) - half - 0.5 * half * noise(q * 0.35, 45)).max(on_disc)
    };
    let middle = at(0.0, 0.0);
    // A bright burr on the side away from the light, and the dark groove itself.
    pen.paint(canvas, middle, part::DISC_RADIUS, |q| groove(q + LIGHT * 1.3), |_, _| [0.86, 0.87, 0.88]);
    pen.paint(canvas, middle, part::DISC_RADIUS, groove, |_, _| [0.035, 0.033, 0.032]);
}

fn paint_nut(canvas: &mut Canvas, pen: Pen, place: Vec2, angle: f32) {
    let shape = |q: Vec2| hexagon((q - place).turned(angle), 19.0).max(9.6 - (q - place).length());
    pen.shadow(canvas, place, 30.0, (0.6, 3.5, 5.0), shape);
    pen.paint(canvas, place, 24.0, shape, |q, d| {
        let from_middle = q - place;
        let outer = hexagon(from_middle.turned(angle), 19.0);
        let slope = if outer > -4.0 { from_middle.unit().dot(LIGHT) } else { -from_middle.unit().dot(LIGHT) };
        scaled([0.46, 0.38, 0.19], 0.9 + 0.7 * slope * smoothstep(-3.0, -0.4, d) + 0.08 * noise(q * 0.7, 46))
    });
}

fn cable(place: Vec2, angle: f32, rng: &mut ChaCha8Rng) -> Vec<Vec2> {
    let reach = rng.random_range(36.0..50.0);
    let bend = rng.random_range(18.0..34.0);
    let end = |side: f32| place + at(side * reach, 0.0).turned(angle);
    let mut course = curve(end(-1.0), place + at(-reach * 0.4, -bend).turned(angle), place);
    course.extend(curve(place, place + at(reach * 0.4, bend).turned(angle), end(1.0)));
    course
}

fn paint_cable(canvas: &mut Canvas, pen: Pen, course: &[Vec2], colour: Colour) {
    let middle = course.get(course.len() / 2).copied().unwrap_or(at(0.0, 0.0));
    let shape = |q: Vec2| polyline(q, course) - 4.6;
    pen.shadow(canvas, middle, 75.0, (0.55, 3.0, 4.0), shape);
    pen.paint(canvas, middle, 75.0, shape, |q, d| {
        let ridge = (-((polyline(q - LIGHT * 1.3, course)) / 1.2).powi(2)).exp();
        mix(scaled(colour, 1.1 - 0.6 * smoothstep(-2.2, 0.0, d)), [1.0; 3], 0.35 * ridge)
    });
    for end in [course.first(), course.last()].into_iter().flatten() {
        pen.paint(canvas, *end, 6.0, |q| (q - *end).length() - 3.0, |_, _| [0.55, 0.24, 0.08]);
    }
}

fn paint_paper(canvas: &mut Canvas, pen: Pen, place: Vec2, angle: f32, seed: u32) {
    let shape = |q: Vec2| {
        let local = (q - place).turned(angle);
        rounded_box(local, at(29.0, 19.0), 2.0) + 2.6 * noise(local * 0.16, seed) + 0.8 * noise(local * 0.6, seed)
    };
    pen.shadow(canvas, place, 44.0, (0.45, 3.0, 3.0), shape);
    pen.paint(canvas, place, 44.0, shape, |q, _| {
        let local = (q - place).turned(angle);
        let fold = 0.16 * smoothstep(-0.5, 0.5, local.x - 3.0 + 0.25 * local.y) + 0.07 * noise(local * 0.14, seed ^ 1);
        scaled([0.74, 0.72, 0.66], 0.92 + fold - 0.08)
    });
}

/// A quadratic Bezier curve as a polyline.
fn curve(start: Vec2, control: Vec2, end: Vec2) -> Vec<Vec2> {
    (0..=10)
        .map(|i| {
            let t = i as f32 / 10.0;
            start * ((1.0 - t) * (1.0 - t)) + control * (2.0 * t * (1.0 - t)) + end * (t * t)
        })
        .collect()
}
