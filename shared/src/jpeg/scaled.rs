//! Decodes the JPEGs that cameras send at a half, a quarter or an eighth of their size, for a fraction of the work: of each
//! block of 8 x 8 pixels only the coarsest coefficients are turned into pixels.

use super::header::{Component, Header};
use super::huffman::{Bits, Code};
use super::standard::CODES;
use super::transform::{Transform, transform, used};

/// What is kept from picture to picture.
#[derive(Debug, Default)]
pub(crate) struct Scaled {
    codes: [[Code; 4]; 2],
    /// Of each component the pixels of a row of units, about 0.
    strips: [Vec<f32>; 3],
}

/// How one component is decoded.
struct Plan<'a> {
    codes: [&'a Code; 2],
    steps: [f32; 64],
    blocks: [usize; 2],
    /// Pixels of a block.
    size: [usize; 2],
    transform: Transform,
    /// The last block's DC coefficient.
    before: i32,
}

impl Scaled {
    /// The pixels, RGB8 HWC, at 1/`divisor` of the size, which is 2, 4 or 8 and divides width and height; `None` where the
    /// picture is broken or its colours are stored too coarsely for this, which a complete decoder then has to see.
    pub(crate) fn decode(&mut self, header: &Header<'_>, divisor: u32) -> Option<Vec<u8>> {
        let components = header.components.get(..header.count)?;
        for (kind, codes) in self.codes.iter_mut().enumerate() {
            for component in components {
                let place = component.codes[kind];
                let standard = || CODES[kind].get(place).copied();
                codes.get_mut(place)?.set(header.codes[kind].get(place)?.or_else(standard)?)?;
            }
        }
        let most = |side: usize| components.iter().map(|component| component.blocks[side]).max();
        let unit = [most(0)?, most(1)?];
        let block = 8 / divisor as usize;
        let codes = &self.codes;
        let mut plans = [None, None, None];
        for (plan, component) in plans.iter_mut().zip(components) {
            *plan = Some(Plan::new(header, component, codes, unit, block)?);
        }

        let (width, height) = ((header.size.0 / divisor) as usize, (header.size.1 / divisor) as usize);
        let strip = [unit[0] * block, unit[1] * block];
        let units = [width.div_ceil(strip[0]), height.div_ceil(strip[1])];
        let stride = units[0] * strip[0];
        for pixels in &mut self.strips {
            pixels.clear();
            pixels.resize(stride * strip[1], 0.0);
        }
        let mut rgb = Vec::with_capacity((width * height + TOGETHER) * 3);
        let mut bits = Bits::new(header.scan);
        let mut until_restart = header.restart;
        let mut restarts = 0;
        for _ in 0..units[1] {
            for unit in 0..units[0] {
                if header.restart > 0 && until_restart == 0 {
                    if bits.end()? != 0xd0 + restarts {
                        return None;
                    }
                    restarts = (restarts + 1) % 8;
                    until_restart = header.restart;
                    plans.iter_mut().flatten().for_each(|plan| plan.before = 0);
                }
                until_restart = until_restart.wrapping_sub(1);
                for (plan, strip) in plans.iter_mut().flatten().zip(&mut self.strips) {
                    plan.unit(&mut bits, strip.get_mut(unit * plan.blocks[0] * plan.size[0]..)?, stride)?;
                }
            }
            if bits.is_over() {
                return None;
            }
            let rows = strip[1].min(height - rgb.len() / 3 / width);
            for row in 0..rows {
                let planes = self.strips.each_ref().map(|strip| &strip[row * stride..][..width]);
                push_rgb(planes, &mut rgb);
            }
        }
        (bits.end()? == 0xd9).then_some(rgb)
    }
}

impl<'a> Plan<'a> {
    /// `unit` is how many blocks the finest component has in a unit, and `block` how many pixels one of its blocks becomes.
    fn new(
        header: &Header<'_>,
        component: &Component,
        codes: &'a [[Code; 4]; 2],
        unit: [usize; 2],
        block: usize,
    ) -> Option<Plan<'a>> {
        // A coarser component gets more pixels a block, so that all fit one another.
        let size = [0, 1].map(|side| block * unit[side] / component.blocks[side]);
        let steps = header.steps[component.steps]?;
        Some(Plan {
            codes: [&codes[0][component.codes[0]], &codes[1][component.codes[1]]],
            steps: steps.map(f32::from),
            blocks: component.blocks,
            size,
            transform: transform(size[0], size[1])?,
            before: 0,
        })
    }

    /// The component's blocks of one unit.
    fn unit(&mut self, bits: &mut Bits<'_>, out: &mut [f32], stride: usize) -> Option<()> {
        for down in 0..self.blocks[1] {
            for across in 0..self.blocks[0] {
                let mut block = [0.0; 64];
                let last = bits.block(self.codes, &self.steps, &mut self.before, &mut block)?;
                let place = down * self.size[1] * stride + across * self.size[0];
                (self.transform)(&block, used(last), out.get_mut(place..)?, stride);
            }
        }
        Some(())
    }
}

/// Pixels that are turned into bytes together.
const TOGETHER: usize = 16;

/// Y, Cb and Cr about 0 to RGB (ITU-R BT.601 in full range, as JFIF has it).
fn push_rgb(planes: [&[f32]; 3], rgb: &mut Vec<u8>) {
    let start = rgb.len();
    let width = planes[0].len();
    // Whole blocks are written.
    rgb.resize(start + width.next_multiple_of(TOGETHER) * 3, 0);
    let [(y, y_rest), (cb, cb_rest), (cr, cr_rest)] = planes.map(|plane| plane.as_chunks::<TOGETHER>());
    let rest = [y_rest, cb_rest, cr_rest].map(|rest| {
        let mut block = [0.0; TOGETHER];
        block.iter_mut().zip(rest).for_each(|(place, value)| *place = *value);
        block
    });
    let blocks = y.iter().zip(cb).zip(cr).map(|((y, cb), cr)| [y, cb, cr]).chain([rest.each_ref()]);
    let (pixels, _) = rgb.get_mut(start..).unwrap_or_default().as_chunks_mut();
    for (block, place) in blocks.zip(pixels.as_chunks_mut().0) {
        write_rgb(block, place);
    }
    rgb.truncate(start + width * 3);
}

#[inline(always)]
fn write_rgb([y, cb, cr]: [&[f32; TOGETHER]; 3], out: &mut [[u8; 3]; TOGETHER]) {
    for i in 0..TOGETHER {
        let green = y[i] - 0.344_136 * cb[i] - 0.714_136 * cr[i];
        out[i] = [byte(y[i] + 1.402 * cr[i]), byte(green), byte(y[i] + 1.772 * cb[i])];
    }
}

/// A value about 0 as a byte, rounded. Beyond four millions, which only damage makes, it is any byte.
#[inline(always)]
fn byte(value: f32) -> u8 {
    // Here a float has no room for fractions, and its lowest bits are the whole number.
    const WHOLE: f32 = 12_582_912.0;
    let rounded = (value + 128.0 + WHOLE).to_bits().wrapping_sub(WHOLE.to_bits()) as i32;
    rounded.clamp(0, 255) as u8
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{CAMERAS, OTHERS, fixture};
    use super::*;
    use crate::preprocess::Frame;

    #[test]
    fn each_fraction_is_close_to_the_means_of_the_whole() {
        let mut scaled = Scaled::default();
        for name in CAMERAS {
            let bytes = fixture(name);
            let whole = Frame::decode(&bytes).unwrap();
            let header = Header::read(&bytes).unwrap();
            for divisor in [2, 4] {
                let (width, height) = (whole.width() / divisor, whole.height() / divisor);
                let rgb = scaled.decode(&header, divisor).unwrap();
                let mut sum = 0;
                for (i, value) in rgb.iter().enumerate() {
                    let (x, y) = (i / 3 % width as usize, i / 3 / width as usize);
                    let by = divisor as usize;
                    let place = (0..by * by).map(|j| whole.pixel(x * by + j % by, y * by + j / by)[i % 3]);
                    let mean = place.map(u32::from).sum::<u32>() / (divisor * divisor);
                    sum += mean.abs_diff(u32::from(*value));
                }
                assert_eq!(rgb.len(), (width * height * 3) as usize);
                let mean = f64::from(sum) / rgb.len() as f64;
                assert!(mean < 3.0, "{name} at 1/{divisor}: {mean}");
            }
        }
    }

    #[test]
    fn at_an_eighth_each_pixel_is_a_blocks_mean() {
        let bytes = fixture("444-optimized");
        let whole = Frame::decode(&bytes).unwrap();
        let rgb = Scaled::default().decode(&Header::read(&bytes).unwrap(), 8).unwrap();
        for (i, value) in rgb.iter().enumerate() {
            let (x, y) = (i / 3 % 24, i / 3 / 24);
            let block = (0..64).map(|j| f64::from(whole.pixel(x * 8 + j % 8, y * 8 + j / 8)[i % 3]));
            let mean = block.sum::<f64>() / 64.0;
            assert!((mean - f64::from(*value)).abs() < 3.0, "{x} {y}: {value} for {mean}");
        }
    }

    #[test]
    fn a_webcams_picture_without_codes_has_the_usual_ones() {
        let whole = fixture("420");
        let mut bare = whole.clone();
        while let Some(start) = bare.windows(2).position(|marker| marker == [0xff, 0xc4]) {
            let length = usize::from(u16::from_be_bytes([bare[start + 2], bare[start + 3]]));
            bare.drain(start..start + 2 + length);
        }
        assert!(bare.len() + 400 < whole.len());
        let decode = |bytes: &[u8]| Scaled::default().decode(&Header::read(bytes).unwrap(), 2).unwrap();
        assert_eq!(decode(&bare), decode(&whole));
        assert_eq!(
            Frame::decode(&bare).unwrap(),
            Frame::decode(&whole).unwrap(),
            "nor do they trouble a complete decoder"
        );
    }

    #[test]
    fn what_is_broken_or_of_another_kind_is_left_to_the_complete_decoder() {
        for name in OTHERS.into_iter().filter(|name| *name != "odd") {
            assert!(Header::read(&fixture(name)).is_none(), "{name}");
        }
        let whole = fixture("420-restarts");
        let scan = whole.len() - Header::read(&whole).unwrap().scan.len();
        let decode = |bytes: &[u8]| Header::read(bytes).and_then(|header| Scaled::default().decode(&header, 2));
        assert!(decode(&whole).is_some());
        for length in (scan..whole.len()).step_by(11) {
            assert!(decode(&whole[..length]).is_none(), "{length}");
        }
        let restart = scan + whole[scan..].windows(2).position(|w| w == [0xff, 0xd1]).unwrap();
        let mut out_of_order = whole.clone();
        out_of_order[restart + 1] = 0xd2;
        assert!(decode(&out_of_order).is_none());
        let mut left_out = whole;
        left_out.drain(restart..restart + 2);
        assert!(decode(&left_out).is_none());
    }
}
