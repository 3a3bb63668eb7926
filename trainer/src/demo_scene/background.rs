//! What the fixed camera always sees: the machine frame with its pipe and lamp, the rails, and the belt that runs below.

use super::canvas::{Canvas, Colour, HEIGHT, Vec2, WIDTH, at, lattice, mix, noise, rounded_box, scaled, smoothstep};
use std::f32::consts::TAU;

/// Middle line of the belt, design units.
pub const BELT_Y: f32 = 120.0;
/// Half the belt's width.
const BELT_HALF: f32 = 78.0;
/// Distance between two ridges of the belt; a whole number of them makes [`BELT_PERIOD`].
const RIDGE: f32 = 40.0;
/// The belt's texture repeats after this many units.
pub const BELT_PERIOD: f32 = 320.0;

/// Everything but the belt's surface, painted once for all frames.
pub fn machine(width: u32, height: u32) -> Canvas {
    let mut canvas = Canvas::new(width, height);
    floor(&mut canvas);
    pipe(&mut canvas);
    lamp(&mut canvas);
    hazard_stripe(&mut canvas);
    for side in [-1.0, 1.0] {
        rail(&mut canvas, side);
    }
    canvas
}

/// The belt, moved to the right by `phase` units.
pub fn belt(canvas: &mut Canvas, phase: f32) {
    let half = at(WIDTH, BELT_HALF);
    let middle = at(WIDTH / 2.0, BELT_Y);
    canvas.paint(middle, WIDTH, |p| rounded_box(p - middle, half, 0.0), |p, _| belt_colour(p, phase));
}

/// Relative brightness of the fixed light at `p`: a lamp above, to the left, and corners that fall off.
pub fn lamp_light(p: Vec2) -> f32 {
    let pool = p - at(118.0, 84.0);
    let corner = p - at(WIDTH / 2.0, HEIGHT / 2.0);
    let glow = (-pool.dot(pool) / (2.0 * 140.0 * 140.0)).exp();
    (0.72 + 0.5 * glow) * (1.0 - 0.22 * corner.dot(corner) / (200.0 * 200.0))
}

fn belt_colour(p: Vec2, phase: f32) -> Colour {
    let along = (p.x - phase).rem_euclid(BELT_PERIOD);
    let across = p.y - BELT_Y;
    // Woven rubber, ridges in a chevron, wear along the middle, and dirt towards the rails.
    let weave = 0.035 * ((along * TAU / 4.0).sin() * (p.y * TAU / 4.0).sin());
    let grain = 0.07 * lattice((along * 2.0) as i32, (p.y * 2.0) as i32, 11);
    let blotch = 0.10 * noise(at(along / 20.0, p.y / 26.0), 12) * (along.min(BELT_PERIOD - along) / 30.0).min(1.0);
    let ridge = ((along + 0.45 * across.abs()).rem_euclid(RIDGE) - RIDGE / 2.0) / 2.2;
    let ridge = 0.28 * ridge * (-ridge * ridge).exp();
    let wear = 0.12 * (-(across / 34.0).powi(2)).exp();
    let edge = 1.0 - 0.55 * smoothstep(BELT_HALF - 16.0, BELT_HALF, across.abs());
    scaled([0.050, 0.066, 0.060], (1.0 + weave + grain + blotch - ridge + wear) * edge)
}

fn floor(canvas: &mut Canvas) {
    canvas.paint(
        at(WIDTH / 2.0, HEIGHT / 2.0),
        WIDTH,
        |_| -1.0,
        |p, _| {
            let cloud = 0.18 * noise(p * 0.045, 1) + 0.10 * noise(p * 0.2, 2);
            let speck = if lattice(p.x as i32, p.y as i32, 3) > 0.93 { 0.35 } else { 0.0 };
            scaled([0.105, 0.110, 0.118], 1.0 + cloud + speck)
        },
    );
}

/// A lacquered pipe along the upper edge, with two flanges.
fn pipe(canvas: &mut Canvas) {
    const Y: f32 = 12.0;
    let middle = at(WIDTH / 2.0, Y);
    canvas.shadow(middle + at(0.0, 5.0), WIDTH, 0.55, 5.0, |p| (p.y - Y - 5.0).abs() - 7.0);
    let round = |p: Vec2, radius: f32| (1.0 - ((p.y - Y) / radius).powi(2)).max(0.0).sqrt();
    let lit = move |p: Vec2, radius: f32, colour: Colour| {
        let height = (p.y - Y) / radius;
        let shine = (-((height + 0.42) / 0.17).powi(2)).exp();
        let shaded = scaled(colour, 0.25 + 0.9 * round(p, radius) - 0.25 * height);
        mix(shaded, [0.9, 0.88, 0.85], 0.45 * shine)
    };
    canvas.paint(middle, WIDTH, |p| (p.y - Y).abs() - 7.0, move |p, _| lit(p, 7.0, [0.30, 0.045, 0.035]));
    for x in [64.0, 226.0] {
        let shape = move |p: Vec2| rounded_box(p - at(x, Y), at(5.0, 10.0), 1.5);
        canvas.paint(at(x, Y), 14.0, shape, move |p, d| {
            let gap = if (p.x - x).abs() < 0.6 { 0.35 } else { 1.0 };
            scaled(lit(p, 10.5, [0.24, 0.25, 0.26]), gap * (1.0 - 0.4 * smoothstep(-1.5, 0.0, d)))
        });
    }
}

/// The control box with its green lamp.
fn lamp(canvas: &mut Canvas) {
    let middle = at(289.0, 15.0);
    let shape = move |p: Vec2| rounded_box(p - middle, at(21.0, 11.0), 3.0);
    canvas.shadow(middle + at(3.0, 4.0), 30.0, 0.5, 5.0, move |p| shape(p - at(3.0, 4.0)));
    canvas.paint(middle, 30.0, shape, |p, d| {
        scaled([0.33, 0.34, 0.32], 1.0 + 0.25 * smoothstep(-2.0, 0.0, d) * (middle.y - p.y) / 11.0)
    });
    for (x, colour) in [(-11.0, [0.02, 0.75, 0.16]), (3.0, [0.12, 0.025, 0.02])] {
        let bulb = middle + at(x, 0.0);
        canvas.paint(bulb, 9.0, move |p| (p - bulb).length() - 5.6, |_, _| [0.05, 0.05, 0.055]);
        canvas.paint(
            bulb,
            9.0,
            move |p| (p - bulb).length() - 4.2,
            move |p, _| {
                let shine = (-((p - bulb + at(1.3, 1.4)).length() / 1.5).powi(2)).exp();
                mix(colour, [1.0; 3], 0.7 * shine)
            },
        );
    }
    for i in 0..3 {
        let slot = middle + at(11.0 + 3.2 * i as f32, 0.0);
        canvas.paint(slot, 8.0, move |p| rounded_box(p - slot, at(0.9, 6.0), 0.9), |_, _| [0.06, 0.06, 0.06]);
    }
}

/// Worn yellow and black paint along the lower edge.
fn hazard_stripe(canvas: &mut Canvas) {
    let shape = |p: Vec2| (p.y - 231.0).abs() - 6.0;
    canvas.paint(at(WIDTH / 2.0, 231.0), WIDTH, shape, |p, _| {
        let slanted = (p.x + p.y).rem_euclid(24.0);
        let yellow = smoothstep(-0.7, 0.7, 6.0 - (slanted - 12.0).abs());
        let worn = smoothstep(0.45, 0.75, noise(p * 0.13, 5) + 0.35 * noise(p * 0.7, 6));
        let paint = mix([0.018, 0.018, 0.02], [0.52, 0.33, 0.02], yellow);
        mix(paint, [0.10, 0.10, 0.105], 0.85 * worn)
    });
}

/// An aluminium profile beside the belt with a groove and screws; `side` is -1 above the belt and 1 below.
fn rail(canvas: &mut Canvas, side: f32) {
    let y = BELT_Y + side * (BELT_HALF + 9.0);
    let middle = at(WIDTH / 2.0, y);
    canvas.shadow(middle + at(0.0, 3.0), WIDTH, 0.6, 5.0, |p| (p.y - y - 3.0).abs() - 9.0);
    canvas.paint(
        middle,
        WIDTH,
        |p| (p.y - y).abs() - 9.0,
        |p, _| {
            let v = (p.y - y) / 9.0;
            let brushed = 0.05 * noise(at(p.x * 0.06, p.y * 2.3), 7) + 0.03 * noise(at(p.x * 0.5, p.y * 3.1), 8);
            let groove = 1.0 - 0.75 * smoothstep(0.34, 0.24, (v - 0.1).abs());
            let lip = 0.5 * (-((v + 0.86) / 0.10).powi(2)).exp() + 0.25 * (-((v - 0.48) / 0.08).powi(2)).exp();
            let foot = 1.0 - 0.5 * smoothstep(0.7, 1.0, v);
            scaled([0.44, 0.455, 0.47], (0.8 + brushed - 0.12 * v + lip) * groove * foot)
        },
    );
    for i in 0..4 {
        let screw = at(28.0 + 88.0 * i as f32, y + 0.9);
        canvas.paint(
            screw,
            6.0,
            move |p| (p - screw).length() - 3.6,
            move |p, d| {
                let towards_light = (p - screw).unit().dot(at(-0.6, -0.8));
                scaled([0.36, 0.36, 0.37], 1.0 + 0.7 * towards_light * smoothstep(-1.6, -0.2, d))
            },
        );
        canvas.paint(screw, 3.0, move |p| (p - screw).length() - 1.5, |_, _| [0.03, 0.03, 0.03]);
    }
}
