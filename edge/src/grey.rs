//! A frame made small and grey, for questions that need no more: is it covered, has anything moved, is it sharp.

use salad_shared::preprocess::{Frame, luma};

/// Brightness, 0 to 255, in rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Grey {
    width: usize,
    values: Vec<f32>,
}

impl Grey {
    /// `width` x `height` means of the frame's brightness.
    pub fn of(frame: &Frame, width: u32, height: u32) -> Grey {
        let small = frame.resized(width, height);
        let value = |p: &[u8]| luma(p[0].into(), p[1].into(), p[2].into());
        Grey { width: width as usize, values: small.rgb().chunks_exact(3).map(value).collect() }
    }

    /// The standard deviation of the brightness.
    pub fn contrast(&self) -> f32 {
        standard_deviation(&self.values)
    }

    /// The mean of the brightness.
    pub fn brightness(&self) -> f32 {
        self.values.iter().sum::<f32>() / self.values.len().max(1) as f32
    }

    /// The share of places, 0 to 1, whose brightness differs by more than `least`.
    pub fn changed(&self, other: &Grey, least: f32) -> f32 {
        let pairs = self.values.iter().zip(&other.values);
        pairs.filter(|(a, b)| (*a - *b).abs() > least).count() as f32 / self.values.len().max(1) as f32
    }

    /// How sharp the picture is: the standard deviation of its Laplacian. It depends on what is to be seen, so it compares
    /// pictures of one scene.
    pub fn sharpness(&self) -> f32 {
        let rows: Vec<&[f32]> = self.values.chunks_exact(self.width.max(1)).collect();
        let laplacian: Vec<f32> = rows
            .windows(3)
            .flat_map(|r| {
                (1..self.width.saturating_sub(1))
                    .map(move |x| r[0][x] + r[2][x] + r[1][x - 1] + r[1][x + 1] - 4.0 * r[1][x])
            })
            .collect();
        standard_deviation(&laplacian)
    }
}

/// The middle one of some values; 0 where there are none.
pub fn median(mut values: Vec<f32>) -> f32 {
    values.sort_unstable_by(f32::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

fn standard_deviation(values: &[f32]) -> f32 {
    let n = values.len().max(1) as f32;
    let mean = values.iter().sum::<f32>() / n;
    (values.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / n).sqrt()
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use salad_shared::decoder::Decoder;

    /// Stripes of black and white, `period` pixels each, moved by `shift`.
    pub fn stripes(period: usize, shift: usize) -> Frame {
        let value = |x: usize| if ((x + shift) / period).is_multiple_of(2) { 220 } else { 30 };
        Frame::new(64, 48, (0..48).flat_map(|_| (0..64).flat_map(|x| [value(x); 3])).collect()).unwrap()
    }

    pub fn plain(value: u8) -> Frame {
        Frame::new(64, 48, vec![value; 64 * 48 * 3]).unwrap()
    }

    #[test]
    fn a_plain_frame_has_no_contrast_and_stripes_have_theirs() {
        let grey = Grey::of(&plain(90), 32, 24);
        assert!(grey.contrast() < 0.01 && (grey.brightness() - 90.0).abs() < 0.5);
        let contrast = Grey::of(&stripes(8, 0), 64, 48).contrast();
        assert!((contrast - 95.0).abs() < 1.0, "{contrast}");
    }

    #[test]
    fn what_moves_changes_its_places() {
        let (still, moved) = (Grey::of(&stripes(16, 0), 64, 48), Grey::of(&stripes(16, 4), 64, 48));
        assert_eq!(still.changed(&still, 10.0), 0.0);
        assert!((still.changed(&moved, 10.0) - 0.25).abs() < 0.01);
    }

    #[test]
    fn a_picture_decoded_smaller_has_the_same_contrast_and_has_not_moved() {
        let pixel = |x: u32, y: u32| {
            let grain = ((x * 7919 + y * 104_729) % 17) as u8;
            if (x / 40 + y / 60).is_multiple_of(2) { [200, 120 + grain, 90] } else { [60 + grain, 80, (x / 3) as u8] }
        };
        let rgb = (0..480).flat_map(|y| (0..640).flat_map(move |x| pixel(x, y))).collect();
        let jpeg = Frame::new(640, 480, rgb).unwrap().to_jpeg(85);
        let whole = Frame::decode(&jpeg).unwrap();
        for side in [8, 128] {
            let smaller = Decoder::covering(side, side).decode(&jpeg).unwrap().frame;
            assert!(smaller.width() < 640);
            let [of_whole, of_smaller] = [&whole, &smaller].map(|frame| Grey::of(frame, 64, 48));
            let (contrast, changed) = (of_smaller.contrast() / of_whole.contrast(), of_whole.changed(&of_smaller, 8.0));
            assert!((contrast - 1.0).abs() < 0.05 && changed < 0.01, "{side}: {contrast} {changed}");
        }
    }

    #[test]
    fn a_blurred_picture_is_less_sharp() {
        let sharp = stripes(8, 0);
        let blurred = sharp.resized(16, 12).resized(64, 48);
        assert!(Grey::of(&blurred, 64, 48).sharpness() < 0.5 * Grey::of(&sharp, 64, 48).sharpness());
    }
}
