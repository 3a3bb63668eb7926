//! Maps of 8-bit integers, channels last, with a border that convolutions read as padding.

use super::kernel::{LANES, Path};

/// Bytes past the end that a kernel may read together with the last ones.
const SLACK: usize = LANES;

/// Shape and layout of a map in its buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Map {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// Channels.
    pub channels: usize,
    /// Pixels of border on each side.
    pub border: usize,
    /// Which integers.
    pub range: Range,
}

/// Which integers a map's bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Range {
    /// -128..=127.
    Signed,
    /// 0..=255: after a ReLU.
    Unsigned,
}

impl Range {
    /// A path reads all bytes as unsigned, or all as signed. Where that is not what they are, they are kept with their top bit
    /// flipped.
    pub fn flip(self, path: Path) -> u8 {
        if (self == Range::Unsigned) == path.is_unsigned() { 0 } else { 0x80 }
    }

    /// What flipping has added to a byte as a path reads it.
    pub fn added(self, path: Path) -> i32 {
        match (self.flip(path), self) {
            (0, _) => 0,
            (_, Range::Signed) => 128,
            (_, Range::Unsigned) => -128,
        }
    }

    /// The value of a byte.
    #[inline(always)]
    pub fn value(self, byte: u8) -> f32 {
        if self == Range::Signed { f32::from(byte as i8) } else { f32::from(byte) }
    }
}

impl Map {
    /// Bytes from one row to the next.
    pub fn row_stride(&self) -> usize {
        (self.width + 2 * self.border) * self.channels
    }

    /// Bytes of the buffer; `None` for more than there can be.
    pub fn len(&self) -> Option<usize> {
        let side = |pixels: usize| pixels.checked_add(self.border.checked_mul(2)?);
        let pixels = side(self.height)?.checked_mul(side(self.width)?)?;
        pixels.checked_mul(self.channels)?.checked_add(SLACK)
    }

    /// Where the pixel of a row and a column begins; rows and columns of the border above and to the left are negative in
    /// the convolution's terms, so `origin` counts from the border's corner.
    pub fn at(&self, row: usize, column: usize) -> usize {
        (row + self.border) * self.row_stride() + (column + self.border) * self.channels
    }

    /// Pixels without the border.
    pub fn pixels(&self) -> usize {
        self.height * self.width
    }
}
