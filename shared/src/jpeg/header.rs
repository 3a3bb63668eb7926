//! What stands before a JPEG's coded data, of the kind of JPEG that cameras send; of any other it says nothing.

/// A baseline JPEG of one scan, grey or Y, Cb and Cr, that is understood so far.
#[derive(Debug)]
pub(crate) struct Header<'a> {
    /// Pixels a row, and rows, as they are stored.
    pub(crate) size: (u32, u32),
    /// One (grey) or three.
    pub(super) components: [Component; 3],
    pub(super) count: usize,
    /// What coefficients were divided by, in the file's (zigzag) order.
    pub(super) steps: [Option<[u16; 64]>; 4],
    /// The Huffman codes of DC, then of AC coefficients: how many of each length from 1 to 16, then what they stand for.
    pub(super) codes: [[Option<&'a [u8]>; 4]; 2],
    /// After so many units decoding starts anew; 0 for never.
    pub(super) restart: u32,
    /// EXIF's data, from its byte order on.
    pub(crate) exif: Option<&'a [u8]>,
    /// The coded data and what follows it.
    pub(super) scan: &'a [u8],
}

/// Brightness or one of both colours.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Component {
    id: u8,
    /// Blocks in a unit, across and down.
    pub(super) blocks: [usize; 2],
    /// Places in [`Header::steps`] and [`Header::codes`].
    pub(super) steps: usize,
    pub(super) codes: [usize; 2],
}

impl<'a> Header<'a> {
    /// `None` for all that this decoder leaves to a complete one: broken files as well as progressive ones, CMYK, RGB,
    /// more than 8 bits, arithmetic coding, several scans.
    pub(crate) fn read(bytes: &'a [u8]) -> Option<Header<'a>> {
        let mut header = Header {
            size: (0, 0),
            components: [Component::default(); 3],
            count: 0,
            steps: [None; 4],
            codes: [[None; 4]; 2],
            restart: 0,
            exif: None,
            scan: &[],
        };
        let mut rest = bytes.strip_prefix(&[0xff, 0xd8])?;
        loop {
            let (marker, after) = match rest {
                // Fill bytes may stand before a marker.
                [0xff, 0xff, ..] => {
                    rest = rest.get(1..)?;
                    continue;
                }
                [0xff, marker, after @ ..] => (*marker, after),
                _ => return None,
            };
            let (length, _) = after.split_first_chunk()?;
            let length = usize::from(u16::from_be_bytes(*length));
            let segment = after.get(2..length)?;
            rest = after.get(length..)?;
            match marker {
                0xc0 | 0xc1 if header.count == 0 => header.frame(segment)?,
                0xc4 => header.huffman(segment)?,
                0xdb => header.quantization(segment)?,
                0xdd => header.restart = u16::from_be_bytes(*segment.first_chunk()?).into(),
                0xe1 => header.exif = header.exif.or(segment.strip_prefix(b"Exif\0\0")),
                // Its last byte says which colours there are; 1 is Y, Cb and Cr.
                0xee if segment.starts_with(b"Adobe") && segment.get(11) != Some(&1) => return None,
                0xe0..=0xef | 0xfe => {}
                0xda => {
                    header.scan(segment)?;
                    header.scan = rest;
                    return Some(header);
                }
                _ => return None,
            }
        }
    }

    fn frame(&mut self, segment: &[u8]) -> Option<()> {
        let ([precision, h1, h0, w1, w0, count], components) = segment.split_first_chunk()?;
        self.size = (u16::from_be_bytes([*w1, *w0]).into(), u16::from_be_bytes([*h1, *h0]).into());
        self.count = usize::from(*count);
        let understood = *precision == 8 && self.size.0 > 0 && self.size.1 > 0 && matches!(self.count, 1 | 3);
        if !understood || components.len() != self.count * 3 {
            return None;
        }
        for (component, bytes) in self.components.iter_mut().zip(components.chunks_exact(3)) {
            let [across, down] = [bytes[1] >> 4, bytes[1] & 15].map(usize::from);
            if !matches!(across, 1 | 2 | 4) || !matches!(down, 1 | 2 | 4) || bytes[2] > 3 {
                return None;
            }
            // One component alone comes block by block, whatever it says.
            let blocks = if self.count == 1 { [1, 1] } else { [across, down] };
            *component = Component { id: bytes[0], blocks, steps: bytes[2].into(), codes: [0; 2] };
        }
        let ids = self.components.map(|component| component.id);
        (ids != *b"RGB").then_some(())
    }

    fn huffman(&mut self, mut segment: &'a [u8]) -> Option<()> {
        while let Some((&place, rest)) = segment.split_first() {
            let symbols: usize = rest.get(..16)?.iter().map(|&count| usize::from(count)).sum();
            let codes = self.codes.get_mut(usize::from(place >> 4))?.get_mut(usize::from(place & 15))?;
            *codes = Some(rest.get(..16 + symbols)?);
            segment = rest.get(16 + symbols..)?;
        }
        Some(())
    }

    fn quantization(&mut self, mut segment: &[u8]) -> Option<()> {
        while let Some((&place, rest)) = segment.split_first() {
            let width = match place >> 4 {
                0 => 1,
                1 => 2,
                _ => return None,
            };
            let values = rest.get(..64 * width)?.chunks_exact(width);
            let mut steps = [0; 64];
            for (step, bytes) in steps.iter_mut().zip(values) {
                *step = bytes.iter().fold(0, |value, &byte| value << 8 | u16::from(byte));
            }
            *self.steps.get_mut(usize::from(place & 15))? = Some(steps);
            segment = rest.get(64 * width..)?;
        }
        Some(())
    }

    fn scan(&mut self, segment: &[u8]) -> Option<()> {
        let (&count, rest) = segment.split_first()?;
        let (codes, whole) = rest.split_at_checked(2 * self.count)?;
        // From the first to the last coefficient, at full precision.
        if usize::from(count) != self.count || whole != [0, 63, 0] {
            return None;
        }
        for (component, bytes) in self.components.iter_mut().zip(codes.chunks_exact(2)) {
            component.codes = [bytes[1] >> 4, bytes[1] & 15].map(usize::from);
            if bytes[0] != component.id {
                return None;
            }
        }
        (self.count > 0).then_some(())
    }
}
