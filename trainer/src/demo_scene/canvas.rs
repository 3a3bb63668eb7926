//! A small software renderer: shapes given by signed distances, antialiased, painted in linear light.
//!
//! Coordinates are in design units: the picture is [`WIDTH`] x [`HEIGHT`] units whatever its size in pixels, x to the
//! right, y down. A signed distance is negative inside a shape. Colours are linear RGB, 1 is white.

use std::ops::{Add, Mul, Sub};

/// Width of the picture, design units.
pub const WIDTH: f32 = 320.0;
/// Height of the picture, design units.
pub const HEIGHT: f32 = 240.0;

/// Where the light comes from, for edges and shadows; a unit vector.
pub const LIGHT: Vec2 = at(-0.6, -0.8);

/// Linear RGB.
pub type Colour = [f32; 3];

/// A point or a vector, design units.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Vec2 {
    /// To the right.
    pub x: f32,
    /// Down.
    pub y: f32,
}

/// A point.
pub const fn at(x: f32, y: f32) -> Vec2 {
    Vec2 { x, y }
}

impl Vec2 {
    /// Euclidean length.
    pub fn length(self) -> f32 {
        self.x.hypot(self.y)
    }

    /// Scalar product.
    pub fn dot(self, other: Vec2) -> f32 {
        self.x * other.x + self.y * other.y
    }

    /// Turned by `angle` radians, clockwise on the picture.
    pub fn turned(self, angle: f32) -> Vec2 {
        let (sin, cos) = angle.sin_cos();
        at(cos * self.x - sin * self.y, sin * self.x + cos * self.y)
    }

    /// The same direction at length 1; zero stays zero.
    pub fn unit(self) -> Vec2 {
        self * (1.0 / self.length().max(1e-6))
    }
}

impl Add for Vec2 {
    type Output = Vec2;
    fn add(self, other: Vec2) -> Vec2 {
        at(self.x + other.x, self.y + other.y)
    }
}

impl Sub for Vec2 {
    type Output = Vec2;
    fn sub(self, other: Vec2) -> Vec2 {
        at(self.x - other.x, self.y - other.y)
    }
}

impl Mul<f32> for Vec2 {
    type Output = Vec2;
    fn mul(self, factor: f32) -> Vec2 {
        at(self.x * factor, self.y * factor)
    }
}

/// A picture being painted.
#[derive(Debug, Clone)]
pub struct Canvas {
    width: usize,
    height: usize,
    pixels: Vec<Colour>,
}

impl Canvas {
    /// A black picture of `width` x `height` pixels.
    pub fn new(width: u32, height: u32) -> Canvas {
        let (width, height) = (width as usize, height as usize);
        Canvas { width, height, pixels: vec![[0.0; 3]; width * height] }
    }

    /// The pixels in linear light, rows top to bottom.
    pub fn pixels(&self) -> &[Colour] {
        &self.pixels
    }

    /// Pixels a row.
    pub fn width(&self) -> u32 {
        self.width as u32
    }

    /// Rows.
    pub fn height(&self) -> u32 {
        self.height as u32
    }

    /// Paints the shape `distance` within `reach` units of `centre`. `colour` takes the point and its distance.
    pub fn paint(
        &mut self,
        centre: Vec2,
        reach: f32,
        distance: impl Fn(Vec2) -> f32,
        colour: impl Fn(Vec2, f32) -> Colour,
    ) {
        let scale = self.scale();
        self.each(centre, reach, |p, pixel| {
            let d = distance(p);
            let coverage = (0.5 - d * scale).clamp(0.0, 1.0);
            if coverage > 0.0 {
                *pixel = mix(*pixel, colour(p, d), coverage);
            }
        });
    }

    /// Darkens what lies under the shape `distance`: by `strength` (0..=1) inside it, fading out over `blur` units.
    pub fn shadow(&mut self, centre: Vec2, reach: f32, strength: f32, blur: f32, distance: impl Fn(Vec2) -> f32) {
        self.each(centre, reach + blur, |p, pixel| {
            let shade = strength * (1.0 - smoothstep(-blur, blur, distance(p)));
            *pixel = pixel.map(|v| v * (1.0 - shade));
        });
    }

    /// Multiplies every pixel by what `factor` says of its place.
    pub fn light(&mut self, factor: impl Fn(Vec2) -> Colour) {
        self.each(at(WIDTH / 2.0, HEIGHT / 2.0), WIDTH, |p, pixel| {
            let f = factor(p);
            *pixel = [pixel[0] * f[0], pixel[1] * f[1], pixel[2] * f[2]];
        });
    }

    fn scale(&self) -> f32 {
        self.width as f32 / WIDTH
    }

    /// Visits the pixels of the square around `centre`, as far as it lies in the picture.
    fn each(&mut self, centre: Vec2, reach: f32, mut visit: impl FnMut(Vec2, &mut Colour)) {
        let scale = self.scale();
        // A float outside the target's range saturates, so a shape beside the picture gives an empty range.
        let range = |middle: f32, count: usize| {
            let from = ((middle - reach) * scale).floor() as usize;
            let to = ((middle + reach) * scale).ceil() as usize;
            from.min(count)..to.min(count)
        };
        let columns = range(centre.x, self.width);
        for row in range(centre.y, self.height) {
            for column in columns.clone() {
                let p = at((column as f32 + 0.5) / scale, (row as f32 + 0.5) / scale);
                if let Some(pixel) = self.pixels.get_mut(row * self.width + column) {
                    visit(p, pixel);
                }
            }
        }
    }
}

/// A part's own coordinates: the origin in its middle, turned with it.
#[derive(Debug, Clone, Copy)]
pub struct Pen {
    /// The part's middle on the picture.
    pub centre: Vec2,
    /// Its rotation, radians.
    pub angle: f32,
}

impl Pen {
    fn local(self, p: Vec2) -> Vec2 {
        (p - self.centre).turned(-self.angle)
    }

    fn place(self, q: Vec2) -> Vec2 {
        self.centre + q.turned(self.angle)
    }

    /// [`Canvas::paint`] with everything in the part's coordinates.
    pub fn paint(
        self,
        canvas: &mut Canvas,
        middle: Vec2,
        reach: f32,
        distance: impl Fn(Vec2) -> f32,
        colour: impl Fn(Vec2, f32) -> Colour,
    ) {
        canvas.paint(self.place(middle), reach, |p| distance(self.local(p)), |p, d| colour(self.local(p), d));
    }

    /// [`Canvas::shadow`] of (strength, blur, shift away from the light) in the part's coordinates.
    pub fn shadow(
        self,
        canvas: &mut Canvas,
        middle: Vec2,
        reach: f32,
        (strength, blur, shift): (f32, f32, f32),
        distance: impl Fn(Vec2) -> f32,
    ) {
        let shift = LIGHT * -shift;
        canvas.shadow(self.place(middle) + shift, reach, strength, blur, |p| distance(self.local(p - shift)));
    }
}

/// Signed distance to a rectangle around the origin with half sizes `half` and corners of `radius`.
pub fn rounded_box(p: Vec2, half: Vec2, radius: f32) -> f32 {
    let q = at(p.x.abs() - half.x + radius, p.y.abs() - half.y + radius);
    at(q.x.max(0.0), q.y.max(0.0)).length() + q.x.max(q.y).min(0.0) - radius
}

/// Signed distance to a regular hexagon around the origin whose flats lie `apothem` away.
pub fn hexagon(p: Vec2, apothem: f32) -> f32 {
    (0..3).map(|i| p.dot(at(1.0, 0.0).turned(i as f32 * std::f32::consts::FRAC_PI_3)).abs()).fold(0.0, f32::max)
        - apothem
}

/// Distance to the polyline through `points`.
pub fn polyline(p: Vec2, points: &[Vec2]) -> f32 {
    let to_segment = |a: Vec2, b: Vec2| {
        let (along, from) = (b - a, p - a);
        let t = (from.dot(along) / along.dot(along).max(1e-9)).clamp(0.0, 1.0);
        (from - along * t).length()
    };
    points.windows(2).map(|w| to_segment(w[0], w[1])).fold(f32::INFINITY, f32::min)
}

/// A colour between `a` (t = 0) and `b` (t = 1).
pub fn mix(a: Colour, b: Colour, t: f32) -> Colour {
    [a[0] + (b[0] - a[0]) * t, a[1] + (b[1] - a[1]) * t, a[2] + (b[2] - a[2]) * t]
}

/// A colour made brighter or darker.
pub fn scaled(colour: Colour, factor: f32) -> Colour {
    colour.map(|v| v * factor)
}

/// 0 below `from`, 1 above `to`, smooth between.
pub fn smoothstep(from: f32, to: f32, x: f32) -> f32 {
    let t = ((x - from) / (to - from)).clamp(0.0, 1.0);
    t * t * (3.0 - 2.0 * t)
}

/// Smooth noise in -1..=1 with features of about one unit, the same for the same `p` and `seed`.
pub fn noise(p: Vec2, seed: u32) -> f32 {
    let (x0, y0) = (p.x.floor(), p.y.floor());
    let (tx, ty) = (smoothstep(0.0, 1.0, p.x - x0), smoothstep(0.0, 1.0, p.y - y0));
    let corner = |dx: f32, dy: f32| lattice((x0 + dx) as i32, (y0 + dy) as i32, seed);
    let (top, bottom) = (lerp(corner(0.0, 0.0), corner(1.0, 0.0), tx), lerp(corner(0.0, 1.0), corner(1.0, 1.0), tx));
    lerp(top, bottom, ty)
}

/// Random but fixed numbers in -1..=1 on whole coordinates.
pub fn lattice(x: i32, y: i32, seed: u32) -> f32 {
    let mut h = seed ^ (x as u32).wrapping_mul(0x9E37_79B1) ^ (y as u32).wrapping_mul(0x85EB_CA77);
    h = (h ^ (h >> 15)).wrapping_mul(0x2C1B_3C6D);
    h = (h ^ (h >> 12)).wrapping_mul(0x297A_2D39);
    h ^= h >> 15;
    h as f32 / u32::MAX as f32 * 2.0 - 1.0
}

fn lerp(a: f32, b: f32, t: f32) -> f32 {
    a + (b - a) * t
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_negative_inside_and_grow_outside() {
        assert!((rounded_box(at(0.0, 0.0), at(10.0, 5.0), 2.0) + 5.0).abs() < 1e-4);
        assert!((rounded_box(at(13.0, 0.0), at(10.0, 5.0), 2.0) - 3.0).abs() < 1e-4);
        assert!((hexagon(at(0.0, 0.0), 4.0) + 4.0).abs() < 1e-4);
        assert!((polyline(at(3.0, 4.0), &[at(0.0, 0.0), at(10.0, 0.0)]) - 4.0).abs() < 1e-4);
    }

    #[test]
    fn a_shape_beside_the_picture_paints_nothing() {
        let mut canvas = Canvas::new(32, 24);
        canvas.paint(at(-500.0, 900.0), 20.0, |_| -1.0, |_, _| [1.0; 3]);
        assert!(canvas.pixels().iter().all(|p| *p == [0.0; 3]));
        canvas.paint(at(160.0, 120.0), 400.0, |_| -10.0, |_, _| [1.0; 3]);
        assert!(canvas.pixels().iter().all(|p| *p == [1.0; 3]));
    }

    #[test]
    fn noise_stays_in_range_and_is_continuous() {
        for i in 0..2000 {
            let p = at(i as f32 * 0.037 - 20.0, i as f32 * 0.021);
            assert!(noise(p, 3).abs() <= 1.0);
            assert!((noise(p, 3) - noise(p + at(1e-3, 0.0), 3)).abs() < 1e-2);
        }
    }
}
