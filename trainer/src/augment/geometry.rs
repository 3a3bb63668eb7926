//! Where a view's pixels come from: flips, crop, zoom, rotation and shift in one affine map, and one bilinear pass.

use super::{AugmentConfig, chance, signed};
use rand::{Rng, RngExt};
use salad_shared::preprocess::{Frame, InputSpec};

/// From a pixel of the view to a place in the frame: `matrix * (pixel - centre) + centre + shift`, in pixels (x, y).
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Affine {
    matrix: [[f64; 2]; 2],
    shift: [f64; 2],
}

impl Affine {
    pub(super) fn draw(config: &AugmentConfig, input: &InputSpec, rng: &mut impl Rng) -> Affine {
        let flip = [config.hflip, config.vflip].map(|p| if chance(rng, p) { -1.0 } else { 1.0 });
        let (sin, cos) = signed(rng, config.rotate_degrees).to_radians().sin_cos();
        let zoom = 1.0 + signed(rng, config.scale);
        let area = 1.0 - rng.random::<f64>() * (1.0 - config.crop_min_area);
        let stretch = signed(rng, (4.0f64 / 3.0).ln()).exp();
        let crop = if config.crop_min_area < 1.0 {
            [(area * stretch).sqrt().min(1.0), (area / stretch).sqrt().min(1.0)]
        } else {
            [1.0, 1.0]
        };
        let side = [f64::from(input.width), f64::from(input.height)];
        let offset = crop.map(|c| signed(rng, (1.0 - c) / 2.0));
        let moved = [(); 2].map(|()| signed(rng, config.translate));
        let shift = [(offset[0] + moved[0]) * side[0], (offset[1] + moved[1]) * side[1]];
        let (x, y) = (flip[0] * crop[0] / zoom, flip[1] * crop[1] / zoom);
        Affine { matrix: [[cos * x, -sin * y], [sin * x, cos * y]], shift }
    }

    /// Where a place of the frame is found in the view.
    pub(super) fn to_view(self, input: &InputSpec) -> ToView {
        let [[a, b], [c, d]] = self.matrix;
        let determinant = a * d - b * c;
        let inverse = [[d / determinant, -b / determinant], [-c / determinant, a / determinant]];
        // Half the sides: what a step of 1 in the view's coordinates is in pixels.
        let half = [f64::from(input.width) / 2.0, f64::from(input.height) / 2.0];
        let row = |r: usize| {
            let [x, y] = [inverse[r][0] * half[0] / half[r], inverse[r][1] * half[1] / half[r]];
            let moved = (inverse[r][0] * self.shift[0] + inverse[r][1] * self.shift[1]) / half[r];
            [x as f32, y as f32, -moved as f32]
        };
        ToView([row(0), row(1)])
    }

    /// Whether every pixel stays where it is.
    pub(super) fn is_identity(&self) -> bool {
        self.matrix == [[1.0, 0.0], [0.0, 1.0]] && self.shift == [0.0, 0.0]
    }
}

/// From a place in the frame to where it is in the view, \[x, y\] from -1 at the picture's left or upper rim to 1 at its
/// right or lower: row r of the result is `self[r][0] * x + self[r][1] * y + self[r][2]`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ToView(pub [[f32; 3]; 2]);

impl ToView {
    /// The view is the frame.
    pub const UNMOVED: ToView = ToView([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]);
}

/// A rectangle of columns and rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hole {
    columns: std::ops::Range<usize>,
    rows: std::ops::Range<usize>,
    width: usize,
}

impl Hole {
    pub(super) fn draw(config: &AugmentConfig, input: &InputSpec, rng: &mut impl Rng) -> Option<Hole> {
        let wanted = chance(rng, config.erase);
        // From a quarter of the largest area, so that a hole is one.
        let area = config.erase_max_area * (1.0 - 0.75 * rng.random::<f64>());
        let stretch = signed(rng, 3.0f64.ln()).exp();
        let mut range = |side: u32, share: f64| {
            let side = side as usize;
            let length = ((side as f64 * share).round() as usize).clamp(1, side);
            let start = (rng.random::<f64>() * (side - length + 1) as f64) as usize;
            start..start + length
        };
        let columns = range(input.width, (area * stretch).sqrt().min(1.0));
        let rows = range(input.height, (area / stretch).sqrt().min(1.0));
        wanted.then_some(Hole { columns, rows, width: input.width as usize })
    }

    /// Fills the rectangle in `planes`, \[3, height, width\].
    pub(super) fn cut(&self, colour: [f32; 3], planes: &mut [f32]) {
        let plane = planes.len() / 3;
        for (pixels, value) in planes.chunks_exact_mut(plane.max(1)).zip(colour) {
            for row in pixels.chunks_exact_mut(self.width).take(self.rows.end).skip(self.rows.start) {
                row.iter_mut().take(self.columns.end).skip(self.columns.start).for_each(|v| *v = value);
            }
        }
    }
}

/// Fills `planes`, \[3, height, width\], with the frame as `affine` moves it; beyond its borders the frame is mirrored.
pub(super) fn sample(frame: &Frame, affine: &Affine, planes: &mut [f32]) {
    let (width, height) = (frame.width() as usize, frame.height() as usize);
    let (red, rest) = planes.split_at_mut(width * height);
    let (green, blue) = rest.split_at_mut(width * height);
    let rgb = frame.rgb();
    if affine.is_identity() {
        for (((r, g), b), pixel) in red.iter_mut().zip(green).zip(blue).zip(rgb.chunks_exact(3)) {
            [r, g, b].into_iter().zip(pixel).for_each(|(o, &v)| *o = f32::from(v));
        }
        return;
    }
    let [[xx, xy], [yx, yy]] = affine.matrix;
    let (centre_x, centre_y) = ((width as f64 - 1.0) / 2.0, (height as f64 - 1.0) / 2.0);
    let step = (fixed(xx), fixed(yx));
    let row_start = |row: usize| {
        let dy = row as f64 - centre_y;
        let x = xx * -centre_x + xy * dy + centre_x + affine.shift[0];
        let y = yx * -centre_x + yy * dy + centre_y + affine.shift[1];
        (fixed(x), fixed(y))
    };
    let (last_x, last_y) = (width as i64 - 1, height as i64 - 1);
    let stride = 3 * width;
    let rows = red.chunks_exact_mut(width).zip(green.chunks_exact_mut(width)).zip(blue.chunks_exact_mut(width));
    for (row, ((red, green), blue)) in rows.enumerate() {
        let mut at = row_start(row);
        for ((r, g), b) in red.iter_mut().zip(green).zip(blue) {
            let (x, y) = (at.0 >> FRACTION_BITS, at.1 >> FRACTION_BITS);
            let (right, down) = (fraction(at.0), fraction(at.1));
            at = (at.0 + step.0, at.1 + step.1);
            let corners = if (0..last_x).contains(&x) && (0..last_y).contains(&y) {
                let first = y as usize * stride + x as usize * 3;
                [first, first + 3, first + stride, first + stride + 3]
            } else {
                let columns = [mirrored(x, last_x), mirrored(x + 1, last_x)];
                let rows = [mirrored(y, last_y), mirrored(y + 1, last_y)];
                [(0, 0), (1, 0), (0, 1), (1, 1)].map(|(i, j)| rows[j] * stride + columns[i] * 3)
            };
            let pixels = corners.map(|o| &rgb[o..o + 3]);
            for (channel, o) in [r, g, b].into_iter().enumerate() {
                let [a, b, c, d] = pixels.map(|p| f32::from(p[channel]));
                let (upper, lower) = (a + right * (b - a), c + right * (d - c));
                *o = upper + down * (lower - upper);
            }
        }
    }
}

/// Index of the row or column that mirroring at 0 and `last` shows at `at`; the outermost one is not doubled.
pub(super) fn mirrored(at: i64, last: i64) -> usize {
    if last == 0 {
        return 0;
    }
    let folded = at.rem_euclid(2 * last);
    folded.min(2 * last - folded) as usize
}

/// Places are 32.32 fixed point: exact steps along a row, and whole pixels stay whole.
const FRACTION_BITS: u32 = 32;

fn fixed(value: f64) -> i64 {
    (value * (1u64 << FRACTION_BITS) as f64).round() as i64
}

fn fraction(value: i64) -> f32 {
    (value as u32) as f32 / (1u64 << FRACTION_BITS) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sampled(affine: &Affine, frame: &Frame) -> Vec<f32> {
        let mut planes = vec![0.0; frame.rgb().len()];
        sample(frame, affine, &mut planes);
        planes
    }

    /// Red is the column, green the row, blue their product.
    fn ramp(width: u32, height: u32) -> Frame {
        let rgb = (0..height).flat_map(|y| (0..width).flat_map(move |x| [x as u8, y as u8, (x * y) as u8])).collect();
        Frame::new(width, height, rgb).unwrap()
    }

    #[test]
    fn mirrors_do_not_double_the_border() {
        let seen: Vec<usize> = (-5..10).map(|i| mirrored(i, 3)).collect();
        assert_eq!(seen, [1, 2, 3, 2, 1, 0, 1, 2, 3, 2, 1, 0, 1, 2, 3]);
        assert_eq!(mirrored(7, 0), 0);
    }

    #[test]
    fn a_shift_reads_between_pixels_and_mirrors_outside() {
        let affine = Affine { matrix: [[1.0, 0.0], [0.0, 1.0]], shift: [1.25, 0.0] };
        let planes = sampled(&affine, &ramp(8, 8));
        assert_eq!(planes[..8], [1.25, 2.25, 3.25, 4.25, 5.25, 6.25, 6.75, 5.75]);
        assert_eq!(planes[64 + 8..64 + 16], [1.0; 8]);
    }

    #[test]
    fn a_quarter_turn_is_exact() {
        let affine = Affine { matrix: [[0.0, -1.0], [1.0, 0.0]], shift: [0.0, 0.0] };
        let planes = sampled(&affine, &ramp(9, 9));
        for y in 0..9 {
            for x in 0..9 {
                assert_eq!(planes[y * 9 + x], (8 - y) as f32);
                assert_eq!(planes[81 + y * 9 + x], x as f32);
            }
        }
    }

    #[test]
    fn a_zoom_keeps_the_centre() {
        let affine = Affine { matrix: [[0.5, 0.0], [0.0, 0.5]], shift: [0.0, 0.0] };
        let planes = sampled(&affine, &ramp(9, 9));
        assert_eq!(planes[4 * 9..5 * 9], [2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0, 5.5, 6.0]);
    }

    #[test]
    fn a_hole_is_filled_and_nothing_else() {
        let hole = Hole { columns: 1..3, rows: 2..3, width: 4 };
        let mut planes = vec![0.0; 3 * 16];
        hole.cut([1.0, 2.0, 3.0], &mut planes);
        let filled: Vec<(usize, f32)> = planes.into_iter().enumerate().filter(|(_, v)| *v != 0.0).collect();
        assert_eq!(filled, [(9, 1.0), (10, 1.0), (25, 2.0), (26, 2.0), (41, 3.0), (42, 3.0)]);
    }
}
