//! What of a frame counts: a crop, and polygons that are looked at or left out. What is left out is painted grey, in frames
//! that are collected for training and in frames that are scored alike, so that a model sees both the same way.

use salad_shared::preprocess::Frame;

/// What is painted over what is left out.
const GREY: [u8; 3] = [128; 3];

/// A place, as shares of the frame's width and height, 0 to 1, from the upper left.
pub type Point = [f32; 2];

/// Regions in relative coordinates of the whole frame.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RegionSpec {
    /// Left, upper, right and lower edge of the part that is cut out.
    pub crop: Option<[f32; 4]>,
    /// Only what lies in one of these counts; all, where there are none.
    pub include: Vec<Vec<Point>>,
    /// What lies in one of these does not count.
    pub exclude: Vec<Vec<Point>>,
}

/// Regions, ready for frames of one size after the other.
#[derive(Debug, Clone)]
pub struct Regions {
    spec: RegionSpec,
    mask: Option<Mask>,
}

/// Which pixels of a whole frame count.
#[derive(Debug, Clone)]
struct Mask {
    size: (u32, u32),
    counts: Vec<bool>,
}

impl RegionSpec {
    /// What is wrong with it: the field, its value, and the remedy.
    pub fn check(&self) -> Result<(), (&'static str, String, &'static str)> {
        let inside = |v: &f32| (0.0..=1.0).contains(v);
        if let Some([left, upper, right, lower]) = self.crop
            && !([left, upper, right, lower].iter().all(inside) && left < right && upper < lower)
        {
            let remedy = "has to be [left, upper, right, lower], shares of the frame from 0 to 1 in rising order";
            return Err(("regions.crop", format!("{:?}", self.crop.unwrap_or_default()), remedy));
        }
        for (field, polygons) in [("regions.include", &self.include), ("regions.exclude", &self.exclude)] {
            for polygon in polygons {
                if polygon.len() < 3 || !polygon.iter().flatten().all(inside) {
                    let remedy = "each polygon has to be three or more [x, y], shares of the frame from 0 to 1";
                    return Err((field, format!("{polygon:?}"), remedy));
                }
            }
        }
        Ok(())
    }

    /// The least width and height of a whole frame whose crop has at least `width` x `height` pixels.
    pub fn whole(&self, width: u32, height: u32) -> (u32, u32) {
        let [left, upper, right, lower] = self.crop.unwrap_or([0.0, 0.0, 1.0, 1.0]);
        let side = |part: u32, share: f32| (part as f32 / share).ceil() as u32;
        (side(width, right - left), side(height, lower - upper))
    }

    /// The share of the pixels of the crop that counts, 0 to 1, in a frame of `width` x `height` pixels.
    pub fn share(&self, width: u32, height: u32) -> f32 {
        let [left, upper, right, lower] = pixels(self.crop.unwrap_or([0.0, 0.0, 1.0, 1.0]), width, height);
        let counts = counts(self, (width, height));
        let rows = counts.chunks_exact(width as usize).take(lower).skip(upper);
        let inside = rows.flat_map(|row| row.get(left..right).unwrap_or_default());
        inside.filter(|counts| **counts).count() as f32 / ((right - left) * (lower - upper)) as f32
    }

    /// Whether whole frames count.
    pub fn is_whole(&self) -> bool {
        *self == RegionSpec::default()
    }
}

impl Regions {
    /// Regions that have been checked.
    pub fn new(spec: RegionSpec) -> Regions {
        Regions { spec, mask: None }
    }

    /// The frame with what does not count painted over, cut to the crop.
    pub fn apply(&mut self, mut frame: Frame) -> Frame {
        if !(self.spec.include.is_empty() && self.spec.exclude.is_empty()) {
            let width = frame.width() as usize;
            let mask = self.mask_for(&frame);
            for (i, _) in mask.counts.iter().enumerate().filter(|(_, counts)| !**counts) {
                frame.set_pixel(i % width, i / width, GREY);
            }
        }
        match self.spec.crop {
            Some(crop) => cut(&frame, crop),
            None => frame,
        }
    }

    /// The whole frame with what does not count darkened, and the edges drawn: the crop's white, those of polygons that
    /// count green, of others red.
    pub fn draw(&mut self, mut frame: Frame) -> Frame {
        let (width, height) = (frame.width() as usize, frame.height() as usize);
        let crop = self.spec.crop.map(|crop| pixels(crop, frame.width(), frame.height()));
        let mask = self.mask_for(&frame);
        for (i, counts) in mask.counts.iter().enumerate() {
            let (x, y) = (i % width, i / width);
            let cut_off = crop.is_some_and(|[l, u, r, b]| x < l || x >= r || y < u || y >= b);
            if !counts || cut_off {
                let dark = frame.pixel(x, y).map(|v| v / 3);
                frame.set_pixel(x, y, dark);
            }
        }
        if let Some([left, upper, right, lower]) = self.spec.crop {
            outline(&mut frame, &[[left, upper], [right, upper], [right, lower], [left, lower]], [255; 3]);
        }
        let thick = (width.min(height) / 240).max(1);
        for (polygons, colour) in [(&self.spec.include, [40, 220, 80]), (&self.spec.exclude, [240, 60, 50])] {
            for polygon in polygons {
                for shift in 0..thick {
                    let by = shift as f32 / height as f32;
                    let moved: Vec<Point> = polygon.iter().map(|[x, y]| [*x, (y + by).min(1.0)]).collect();
                    outline(&mut frame, &moved, colour);
                }
            }
        }
        frame
    }

    fn mask_for(&mut self, frame: &Frame) -> &Mask {
        let size = (frame.width(), frame.height());
        let spec = &self.spec;
        match &mut self.mask {
            Some(mask) if mask.size == size => {}
            mask => *mask = Some(Mask { size, counts: counts(spec, size) }),
        }
        self.mask.get_or_insert_with(|| Mask { size, counts: Vec::new() })
    }
}

/// For each pixel whether its centre counts.
fn counts(spec: &RegionSpec, (width, height): (u32, u32)) -> Vec<bool> {
    let mut counts = vec![spec.include.is_empty(); width as usize * height as usize];
    let marks = spec.include.iter().map(|p| (p, true)).chain(spec.exclude.iter().map(|p| (p, false)));
    for (polygon, mark) in marks {
        for (y, row) in counts.chunks_exact_mut(width as usize).enumerate() {
            for [from, to] in spans(polygon, (y as f32 + 0.5) / height as f32) {
                let column = |x: f32| ((x * width as f32 - 0.5).ceil().max(0.0) as usize).min(width as usize);
                if let Some(inside) = row.get_mut(column(from)..column(to).max(column(from))) {
                    inside.fill(mark);
                }
            }
        }
    }
    counts
}

/// Where a line at height `y` runs inside a polygon (even-odd).
fn spans(polygon: &[Point], y: f32) -> Vec<[f32; 2]> {
    let next = polygon.iter().cycle().skip(1);
    let crossing = |([x0, y0], [x1, y1]): (&Point, &Point)| {
        ((*y0 <= y) != (*y1 <= y)).then(|| x0 + (y - y0) / (y1 - y0) * (x1 - x0))
    };
    let mut crossings: Vec<f32> = polygon.iter().zip(next).filter_map(crossing).collect();
    crossings.sort_by(f32::total_cmp);
    crossings.chunks_exact(2).map(|pair| [pair[0], pair[1]]).collect()
}

/// A crop's edges in pixels, at least one pixel apart.
fn pixels([left, upper, right, lower]: [f32; 4], width: u32, height: u32) -> [usize; 4] {
    let edge = |share: f32, side: u32| ((share * side as f32).round() as usize).min(side as usize);
    let (l, u) = (edge(left, width).min(width as usize - 1), edge(upper, height).min(height as usize - 1));
    [l, u, edge(right, width).max(l + 1), edge(lower, height).max(u + 1)]
}

fn cut(frame: &Frame, crop: [f32; 4]) -> Frame {
    let [left, upper, right, lower] = pixels(crop, frame.width(), frame.height());
    let stride = frame.width() as usize * 3;
    let rows = frame.rgb().chunks_exact(stride).take(lower).skip(upper);
    let rgb = rows.flat_map(|row| row.get(left * 3..right * 3).unwrap_or_default()).copied().collect();
    Frame::new((right - left) as u32, (lower - upper) as u32, rgb).unwrap_or_else(|_| frame.clone())
}

fn outline(frame: &mut Frame, polygon: &[Point], colour: [u8; 3]) {
    let (width, height) = (frame.width() as usize, frame.height() as usize);
    let pixel = |share: f32, side: usize| (share * side as f32).min(side as f32 - 1.0);
    for ([x0, y0], [x1, y1]) in polygon.iter().zip(polygon.iter().cycle().skip(1)) {
        let (x0, y0) = (pixel(*x0, width), pixel(*y0, height));
        let (x1, y1) = (pixel(*x1, width), pixel(*y1, height));
        let steps = (x1 - x0).abs().max((y1 - y0).abs()).ceil().max(1.0);
        for step in 0..=steps as u32 {
            let t = step as f32 / steps;
            frame.set_pixel((x0 + t * (x1 - x0)) as usize, (y0 + t * (y1 - y0)) as usize, colour);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn white(width: u32, height: u32) -> Frame {
        Frame::new(width, height, vec![255; (width * height * 3) as usize]).unwrap()
    }

    /// Which pixels count, as rows of text.
    fn picture(frame: &Frame) -> Vec<String> {
        let row = |r: &[u8]| r.chunks_exact(3).map(|p| if p == GREY { '.' } else { '#' }).collect();
        frame.rgb().chunks_exact(frame.width() as usize * 3).map(row).collect()
    }

    #[test]
    fn polygons_count_and_do_not_count() {
        let spec = RegionSpec {
            crop: None,
            include: vec![
                vec![[0.0, 0.0], [0.5, 0.0], [0.5, 1.0], [0.0, 1.0]],
                vec![[0.75, 0.0], [1.0, 0.0], [1.0, 0.5]],
            ],
            exclude: vec![vec![[0.25, 0.25], [0.5, 0.25], [0.5, 0.75], [0.25, 0.75]]],
        };
        let mut regions = Regions::new(spec);
        let frame = regions.apply(white(8, 8));
        let expected = ["####..##", "####...#", "##.....#", "##......", "##......", "##......", "####....", "####...."];
        assert_eq!(picture(&frame), expected);
        // Another size gets a mask of its own.
        assert_eq!(picture(&regions.apply(white(4, 4)))[1], "#...");
    }

    #[test]
    fn a_crop_is_cut_after_painting() {
        let spec = RegionSpec {
            crop: Some([0.5, 0.25, 1.0, 0.75]),
            include: vec![],
            exclude: vec![vec![[0.75, 0.0], [1.0, 0.0], [1.0, 1.0], [0.75, 1.0]]],
        };
        let frame = Regions::new(spec).apply(white(8, 8));
        assert_eq!(picture(&frame), ["##..", "##..", "##..", "##.."]);
        let thin = RegionSpec { crop: Some([0.99, 0.0, 1.0, 0.01]), ..RegionSpec::default() };
        assert_eq!(Regions::new(thin).apply(white(8, 8)).rgb(), [255; 3]);
    }

    #[test]
    fn the_share_that_counts_is_of_the_crop() {
        let right_half = vec![vec![[0.5, 0.0], [1.0, 0.0], [1.0, 1.0], [0.5, 1.0]]];
        let spec = RegionSpec { crop: Some([0.25, 0.0, 1.0, 1.0]), include: vec![], exclude: right_half.clone() };
        assert_eq!(spec.share(64, 48), 1.0 / 3.0);
        assert_eq!(RegionSpec { include: right_half, ..spec }.share(64, 48), 0.0);
        assert_eq!(RegionSpec::default().share(64, 48), 1.0);
    }

    #[test]
    fn a_crop_takes_a_larger_frame() {
        let spec = RegionSpec { crop: Some([0.25, 0.0, 0.75, 1.0]), ..RegionSpec::default() };
        assert_eq!(spec.whole(128, 64), (256, 64));
        assert_eq!(RegionSpec::default().whole(128, 64), (128, 64));
        let thin = RegionSpec { crop: Some([0.0, 0.0, 1.0, 1e-12]), ..RegionSpec::default() };
        assert_eq!(thin.whole(128, 64), (128, u32::MAX));
    }

    #[test]
    fn a_drawing_keeps_the_frames_size_and_shows_edges() {
        let spec = RegionSpec {
            crop: Some([0.1, 0.1, 0.9, 0.9]),
            include: vec![vec![[0.2, 0.2], [1.0, 0.2], [0.8, 1.0]]],
            exclude: vec![vec![[0.4, 0.4], [0.6, 0.4], [0.5, 0.6]]],
        };
        let frame = Regions::new(spec).draw(white(100, 80));
        assert_eq!((frame.width(), frame.height()), (100, 80));
        assert_eq!(frame.pixel(0, 0), [85; 3]);
        assert_eq!(frame.pixel(10, 40), [255; 3]);
        let has = |colour: [u8; 3]| frame.rgb().chunks_exact(3).any(|p| p == colour);
        assert!(has([40, 220, 80]) && has([240, 60, 50]));
    }

    #[test]
    fn what_makes_no_region_is_refused_by_its_field() {
        let polygon = |points: &[Point]| RegionSpec { exclude: vec![points.to_vec()], ..RegionSpec::default() };
        let crop = |crop| RegionSpec { crop: Some(crop), ..RegionSpec::default() };
        for (spec, field) in [
            (polygon(&[[0.0, 0.0], [1.0, 1.0]]), "regions.exclude"),
            (polygon(&[[0.0, 0.0], [1.0, 1.0], [640.0, 0.0]]), "regions.exclude"),
            (polygon(&[[0.0, 0.0], [1.0, 1.0], [f32::NAN, 0.0]]), "regions.exclude"),
            (crop([0.5, 0.0, 0.5, 1.0]), "regions.crop"),
            (crop([0.0, 0.0, 1.5, 1.0]), "regions.crop"),
        ] {
            assert_eq!(spec.check().unwrap_err().0, field);
        }
        assert!(RegionSpec::default().check().is_ok() && RegionSpec::default().is_whole());
    }
}
