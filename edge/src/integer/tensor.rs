//! Maps of 8-bit integers, channels last, with a border that convolutions read as padding.

/// Bytes past the end that a kernel may read together with the last ones.
const SLACK: usize = 4;

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
