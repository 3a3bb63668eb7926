//! One part on the line: a turned metal disc, held by two bolts in a coloured plastic carrier.

use super::canvas::{
    Canvas, Colour, LIGHT, Pen, Vec2, at, hexagon, lattice, mix, noise, rounded_box, scaled, smoothstep,
};
use super::defect::Defect;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use std::f32::consts::FRAC_PI_3;

/// Half the carrier's size, design units.
const CARRIER: Vec2 = at(92.0, 64.0);
/// The disc's radius, design units.
pub const DISC_RADIUS: f32 = 53.0;
/// The radius of the hole in its middle.
pub const HOLE_RADIUS: f32 = 15.0;
const BOLT_AT: Vec2 = at(30.0, -17.0);
const BLUE: Colour = [0.022, 0.115, 0.37];

/// One part as it lies on the line.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    /// Offset of its centre from where it should stand, design units.
    pub offset: Vec2,
    /// Rotation, radians.
    pub angle: f32,
    /// Rotations of the two bolts, radians.
    pub bolt_angles: [f32; 2],
    /// Relative brightness of plastic and metal.
    pub brightness: [f32; 2],
    /// What is wrong with it, if anything.
    pub defect: Option<Defect>,
}

impl Part {
    /// A good part, with what varies from part to part.
    pub fn draw(rng: &mut ChaCha8Rng) -> Part {
        Part {
            offset: at(rng.random_range(-3.0..3.0), rng.random_range(-2.0..2.0)),
            angle: rng.random_range(-0.025..0.025),
            bolt_angles: [rng.random_range(0.0..FRAC_PI_3), rng.random_range(0.0..FRAC_PI_3)],
            brightness: [rng.random_range(0.95..1.05), rng.random_range(0.95..1.05)],
            defect: None,
        }
    }

    /// Paints the part with its middle at `place` plus its own offset.
    pub fn paint(&self, canvas: &mut Canvas, place: Vec2) {
        let pen = Pen { centre: place + self.offset, angle: self.angle };
        self.paint_carrier(canvas, pen);
        if self.defect == Some(Defect::NoDisc) {
            paint_empty_seat(canvas, pen, self.plastic());
        } else {
            paint_disc(canvas, pen, self.brightness[1]);
            for (i, bolt) in [BOLT_AT, BOLT_AT * -1.0].into_iter().enumerate() {
                if self.defect == Some(Defect::NoBolt(i)) {
                    paint_bolt_hole(canvas, pen, bolt);
                } else {
                    paint_bolt(canvas, pen, bolt, self.bolt_angles[i], self.brightness[1]);
                }
            }
        }
        if let Some(defect) = &self.defect {
            defect.paint_over(canvas, pen);
        }
    }

    fn plastic(&self) -> Colour {
        let colour = match self.defect {
            Some(Defect::Colour(other)) => other,
            _ => BLUE,
        };
        scaled(colour, self.brightness[0])
    }

    fn paint_carrier(&self, canvas: &mut Canvas, pen: Pen) {
        let plastic = self.plastic();
        let outline = |q: Vec2| rounded_box(q, CARRIER, 11.0);
        pen.shadow(canvas, at(0.0, 0.0), 120.0, (0.6, 6.0, 5.0), outline);
        pen.paint(canvas, at(0.0, 0.0), 120.0, outline, |q, d| {
            let side = at(smoothstep(0.8, 1.0, q.x.abs() / CARRIER.x) * q.x.signum(), q.y / CARRIER.y).unit();
            let bevel = smoothstep(-4.5, -0.5, d) * side.dot(LIGHT);
            let grain = 0.05 * noise(q * 0.9, 21) + 0.04 * noise(q * 0.12, 22);
            let shine = 0.05 * (-((q - at(-40.0, -46.0)).length() / 34.0).powi(2)).exp();
            mix(scaled(plastic, 1.0 + 0.75 * bevel + grain), [1.0; 3], shine + 0.05 * bevel.max(0.0))
        });
        // The raised rim around the disc's seat.
        pen.paint(
            canvas,
            at(0.0, 0.0),
            64.0,
            |q| (q.length() - 57.5).abs() - 2.6,
            |q, d| {
                let outwards = if q.length() > 57.5 { 1.0 } else { -1.0 };
                let slope = q.unit().dot(LIGHT) * outwards * smoothstep(-2.4, -0.4, d);
                scaled(plastic, 1.25 + 1.1 * slope)
            },
        );
        for corner in [at(-79.0, -50.0), at(79.0, -50.0), at(-79.0, 50.0), at(79.0, 50.0)] {
            pen.paint(
                canvas,
                corner,
                8.0,
                |q| (q - corner).length() - 5.2,
                |q, _| scaled(plastic, 1.15 - 0.9 * (q - corner).unit().dot(LIGHT)),
            );
            pen.paint(canvas, corner, 6.0, |q| (q - corner).length() - 3.6, |_, _| [0.012, 0.012, 0.014]);
        }
        for i in 0..3 {
            let slot = at(-83.0 + 7.0 * i as f32, 0.0);
            pen.paint(
                canvas,
                slot,
                22.0,
                |q| rounded_box(q - slot, at(1.5, 18.0 - 3.0 * i as f32), 1.5),
                |_, _| scaled(plastic, 0.30),
            );
        }
        paint_label(canvas, pen);
    }
}

/// A printed label with a square of modules, the same on every carrier.
fn paint_label(canvas: &mut Canvas, pen: Pen) {
    let middle = at(75.5, 0.0);
    pen.paint(
        canvas,
        middle,
        24.0,
        |q| rounded_box(q - middle, at(9.5, 17.0), 1.0),
        |q, _| {
            let cell = (q - middle + at(7.5, 12.5)) * (1.0 / 2.5);
            let (column, row) = (cell.x.floor() as i32, cell.y.floor() as i32);
            let code = (0..6).contains(&column) && (0..6).contains(&row);
            let border = column == 0 || row == 5;
            let rule = (6.0..7.0).contains(&(q.y - 0.0)) || (9.5..10.5).contains(&q.y);
            let ink = (code && (border || lattice(column, row, 31) > 0.0)) || (rule && (q.x - middle.x).abs() < 7.0);
            if ink { [0.03, 0.03, 0.035] } else { [0.62, 0.61, 0.57] }
        },
    );
}

fn paint_disc(canvas: &mut Canvas, pen: Pen, brightness: f32) {
    pen.shadow(canvas, at(0.0, 0.0), 64.0, (0.45, 3.5, 2.5), |q| q.length() - DISC_RADIUS);
    let ring = |q: Vec2| (q.length() - DISC_RADIUS).max(HOLE_RADIUS - q.length());
    pen.paint(canvas, at(0.0, 0.0), 60.0, ring, |q, _| {
        let radius = q.length();
        // Turned metal: fine grooves, and light that gathers in two opposite sectors.
        let towards = q.unit().dot(LIGHT.turned(-0.35));
        let sector = 0.55 * (towards * towards).powi(4) + 0.16 * (1.0 - towards * towards).powi(8);
        let groove = 0.055 * noise(at(radius * 2.1, 0.5), 41) + 0.05 * noise(at(radius * 0.45, 2.5), 42);
        let step = 0.35 * smoothstep(1.1, 0.0, (radius - 42.0).abs()) * -q.unit().dot(LIGHT);
        let rim = 0.45 * smoothstep(DISC_RADIUS - 3.2, DISC_RADIUS - 0.6, radius) * q.unit().dot(LIGHT);
        let chamfer = -0.5 * smoothstep(HOLE_RADIUS + 3.2, HOLE_RADIUS + 0.6, radius) * q.unit().dot(LIGHT);
        scaled([0.40, 0.41, 0.42], brightness * (0.72 + sector + groove + step + rim + chamfer))
    });
    // The carrier's axle, deep in the hole.
    pen.paint(
        canvas,
        at(0.0, 0.0),
        18.0,
        |q| q.length() - HOLE_RADIUS,
        |q, _| {
            let depth = smoothstep(-HOLE_RADIUS, HOLE_RADIUS, -q.dot(LIGHT));
            scaled([0.020, 0.022, 0.026], 0.4 + 1.2 * depth)
        },
    );
    pen.paint(
        canvas,
        at(0.0, 0.0),
        10.0,
        |q| q.length() - 6.0,
        |q, d| scaled([0.10, 0.10, 0.11], 1.0 + 0.9 * q.unit().dot(LIGHT) * smoothstep(-3.0, -0.5, d)),
    );
}

fn paint_bolt(canvas: &mut Canvas, pen: Pen, bolt: Vec2, angle: f32, brightness: f32) {
    pen.shadow(canvas, bolt, 16.0, (0.55, 2.0, 1.8), |q| (q - bolt).length() - 10.2);
    pen.paint(
        canvas,
        bolt,
        14.0,
        |q| (q - bolt).length() - 10.4,
        |q, d| {
            let slope = (q - bolt).unit().dot(LIGHT) * smoothstep(-2.0, -0.3, d);
            scaled([0.17, 0.165, 0.155], brightness * (1.0 + 0.8 * slope))
        },
    );
    pen.paint(
        canvas,
        bolt,
        12.0,
        |q| hexagon((q - bolt).turned(angle), 7.4),
        |q, d| {
            let slope = (q - bolt).unit().dot(LIGHT) * smoothstep(-2.2, -0.3, d);
            scaled([0.30, 0.285, 0.25], brightness * (1.0 + 0.6 * slope + 0.08 * noise(q * 0.8, 43)))
        },
    );
    pen.paint(
        canvas,
        bolt,
        6.0,
        |q| (q - bolt).length() - 3.4,
        |q, _| scaled([0.05, 0.048, 0.045], 1.0 - 0.7 * (q - bolt).unit().dot(LIGHT)),
    );
}

fn paint_bolt_hole(canvas: &mut Canvas, pen: Pen, bolt: Vec2) {
    pen.paint(
        canvas,
        bolt,
        12.0,
        |q| (q - bolt).length() - 8.2,
        |q, d| {
            let slope = (q - bolt).unit().dot(LIGHT) * smoothstep(-2.2, -0.3, d);
            scaled([0.36, 0.365, 0.37], 1.0 - 0.9 * slope)
        },
    );
    pen.paint(
        canvas,
        bolt,
        9.0,
        |q| (q - bolt).length() - 6.0,
        |q, _| {
            let depth = smoothstep(-6.0, 6.0, -(q - bolt).dot(LIGHT));
            scaled([0.016, 0.016, 0.018], 0.5 + depth)
        },
    );
}

/// What shows where the disc should lie: the seat with its axle and two threaded holes.
fn paint_empty_seat(canvas: &mut Canvas, pen: Pen, plastic: Colour) {
    pen.paint(
        canvas,
        at(0.0, 0.0),
        60.0,
        |q| q.length() - 55.0,
        |q, d| {
            let inside = smoothstep(-14.0, 0.0, d) * q.unit().dot(LIGHT);
            let ribs = 0.10 * smoothstep(0.86, 0.95, (q.y.atan2(q.x) * 4.0).cos());
            scaled(plastic, 0.42 - 0.30 * inside + ribs + 0.03 * noise(q * 0.9, 44))
        },
    );
    for hole in [BOLT_AT, BOLT_AT * -1.0] {
        pen.paint(canvas, hole, 8.0, |q| (q - hole).length() - 5.4, |_, _| [0.30, 0.22, 0.08]);
        pen.paint(canvas, hole, 6.0, |q| (q - hole).length() - 3.4, |_, _| [0.008, 0.008, 0.01]);
    }
    pen.paint(
        canvas,
        at(0.0, 0.0),
        14.0,
        |q| q.length() - 10.5,
        |q, d| scaled(plastic, 0.9 + 0.8 * q.unit().dot(LIGHT) * smoothstep(-4.0, -0.5, d)),
    );
    pen.paint(
        canvas,
        at(0.0, 0.0),
        10.0,
        |q| q.length() - 6.0,
        |q, d| scaled([0.10, 0.10, 0.11], 1.0 + 0.9 * q.unit().dot(LIGHT) * smoothstep(-3.0, -0.5, d)),
    );
}
