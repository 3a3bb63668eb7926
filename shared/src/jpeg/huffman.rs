//! A JPEG's coded data as coefficients: bits, Huffman codes, and the numbers that follow them.

/// Codes and the numbers after them are looked up in one step where they have no more bits than this together.
const QUICK_BITS: u32 = 10;

/// Bits that a code and its number have at most.
const MOST_BITS: u32 = 16 + 15;

/// Row and column of the block, as row x 8 + column, of each coefficient in the file's order; then room for a run of zeros
/// that goes over the end.
const ORDER: [u8; 64 + 16] = {
    let mut order = [63; 64 + 16];
    let (mut row, mut column, mut place) = (0, 0, 0);
    while place < 64 {
        order[place] = row * 8 + column;
        // Along the diagonals, in turns upwards and downwards.
        let up = (row + column) % 2 == 0;
        if up && column == 7 || !up && row < 7 && column == 0 {
            row += 1;
        } else if up && row == 0 || !up && row == 7 {
            column += 1;
        } else if up {
            (row, column) = (row - 1, column + 1);
        } else {
            (row, column) = (row + 1, column - 1);
        }
        place += 1;
    }
    order
};

/// A Huffman code.
#[derive(Debug)]
pub(super) struct Code {
    /// What it was made of.
    source: Vec<u8>,
    /// By the next [`QUICK_BITS`].
    quick: [Quick; 1 << QUICK_BITS],
    /// For each length above [`QUICK_BITS`]: the first 16 bits after its last code, and what to add to a code for its symbol.
    long: [(u32, i32); (16 - QUICK_BITS) as usize],
}

/// What the next bits begin with.
#[derive(Debug, Clone, Copy, Default)]
struct Quick {
    /// The number, where `bits` has it.
    value: i16,
    /// The symbol: a run of zeros and the bits of the number that follows.
    symbol: u8,
    /// Bits of the code, and of the number where it is there; 0 for a code that is longer.
    bits: u8,
}

impl Default for Code {
    fn default() -> Code {
        let quick = [Quick::default(); 1 << QUICK_BITS];
        Code { source: Vec::new(), quick, long: [(0, 0); (16 - QUICK_BITS) as usize] }
    }
}

impl Code {
    /// Of what a file says: how many codes there are of each length from 1 to 16, then what they stand for. Costs nothing
    /// where it is as before, as it is from frame to frame.
    pub(super) fn set(&mut self, source: &[u8]) -> Option<()> {
        if self.source == source {
            return Some(());
        }
        self.source.clear();
        let (counts, symbols) = source.split_at_checked(16)?;
        self.quick.fill(Quick::default());
        self.long = [(0, 0); (16 - QUICK_BITS) as usize];
        let (mut code, mut place) = (0_u32, 0_usize);
        for (length, &count) in (1_u32..).zip(counts) {
            let count = usize::from(count);
            if code + count as u32 > 1 << length {
                return None;
            }
            let of_length = symbols.get(place..place + count)?;
            match length.checked_sub(QUICK_BITS + 1) {
                None => {
                    let room = QUICK_BITS - length;
                    let start = (code as usize) << room;
                    let entries = self.quick.get_mut(start..)?.chunks_exact_mut(1 << room);
                    entries.zip(of_length).for_each(|(entries, &symbol)| fill(entries, symbol, length, room));
                }
                Some(longer) => {
                    let end = (code + count as u32) << (16 - length);
                    *self.long.get_mut(longer as usize)? = (end, place as i32 - code as i32);
                }
            }
            code = (code + count as u32) << 1;
            place += count;
        }
        self.source.extend_from_slice(source);
        Some(())
    }

    /// The symbol of a code with more than [`QUICK_BITS`] bits, and how many, where the next 16 bits are these.
    #[cold]
    fn long(&self, next: u32) -> Option<(u8, u32)> {
        let longer = self.long.iter().position(|(end, _)| next < *end)?;
        let length = QUICK_BITS + 1 + longer as u32;
        let place = self.long[longer].1 + (next >> (16 - length)) as i32;
        Some((*self.source.get(16 + usize::try_from(place).ok()?)?, length))
    }
}

/// The entries for all bits that can follow a code of `length`, `room` of them.
fn fill(entries: &mut [Quick], symbol: u8, length: u32, room: u32) {
    let size = u32::from(symbol & 15);
    for (bits, entry) in (0..).zip(entries) {
        *entry = match room.checked_sub(size) {
            Some(left) if size > 0 => {
                Quick { value: number(bits >> left, size) as i16, symbol, bits: (length + size) as u8 }
            }
            _ => Quick { value: 0, symbol, bits: length as u8 },
        };
    }
}

/// The number that `size` bits stand for, from 1 to 15 of them: the lower half are negative ones.
fn number(bits: u32, size: u32) -> i32 {
    let half = 1 << (size - 1);
    if bits < half { bits as i32 - 2 * half as i32 + 1 } else { bits as i32 }
}

/// Reads bits, and stops at a marker: after it come zeros.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bits<'a> {
    data: &'a [u8],
    /// The next bits from the highest on. Below the first `count` there may be some of the byte that comes next.
    next: u64,
    count: u32,
    /// How many of them are none of the file's.
    made_up: u32,
}

impl<'a> Bits<'a> {
    pub(super) fn new(data: &'a [u8]) -> Bits<'a> {
        Bits { data, next: 0, count: 0, made_up: 0 }
    }

    /// A block's coefficients, dequantized, rows of 8; those of `out` have to be zero. `before` is the last block's DC.
    /// Tells the place of the last in the file's order, or `None` where the data is broken.
    #[inline(never)]
    pub(super) fn block(
        &mut self,
        [dc, ac]: [&Code; 2],
        steps: &[f32; 64],
        before: &mut i32,
        out: &mut [f32; 64],
    ) -> Option<usize> {
        // A copy stays in registers, which a function of its own has enough of.
        let mut bits = *self;
        let (run, change) = bits.coefficient(dc)?;
        *before = before.wrapping_add(change);
        out[0] = *before as f32 * steps[0];
        let mut place = 1;
        if run != 0 {
            return None;
        }
        while place < 64 {
            let (run, value) = bits.coefficient(ac)?;
            if value == 0 {
                match run {
                    0 => break,
                    15 => place += 16,
                    _ => return None,
                }
                continue;
            }
            place += usize::from(run);
            out[usize::from(ORDER[place])] = value as f32 * steps.get(place)?;
            place += 1;
        }
        *self = bits;
        Some(place - 1)
    }

    /// A run of zeros and the coefficient after it; 0 for a symbol with no number.
    #[inline(always)]
    fn coefficient(&mut self, code: &Code) -> Option<(u8, i32)> {
        if self.count < MOST_BITS {
            self.fill();
        }
        let quick = code.quick[self.peek(QUICK_BITS) as usize];
        if quick.value != 0 {
            self.skip(quick.bits.into());
            return Some((quick.symbol >> 4, quick.value.into()));
        }
        let (symbol, bits) = match quick.bits {
            0 => code.long(self.peek(16))?,
            bits => (quick.symbol, bits.into()),
        };
        self.skip(bits);
        let size = u32::from(symbol & 15);
        if size == 0 {
            return Some((symbol >> 4, 0));
        }
        let value = number(self.peek(size), size);
        self.skip(size);
        Some((symbol >> 4, value))
    }

    /// Ends a stretch of data: whether all was there, and nothing is left but what fills the last byte. The marker that
    /// follows is passed over and told.
    pub(super) fn end(&mut self) -> Option<u8> {
        let left = self.count.checked_sub(self.made_up)?;
        let marker = self.data.iter().position(|&byte| byte != 0xff)?;
        if left > 7 || marker == 0 {
            return None;
        }
        let (&found, data) = self.data.get(marker..)?.split_first()?;
        *self = Bits::new(data);
        Some(found)
    }

    /// Whether more was asked for than was there.
    pub(super) fn is_over(&self) -> bool {
        self.made_up > self.count
    }

    #[inline(always)]
    fn peek(&self, bits: u32) -> u32 {
        (self.next >> (64 - bits)) as u32
    }

    #[inline(always)]
    fn skip(&mut self, bits: u32) {
        self.next <<= bits;
        self.count -= bits;
    }

    /// At least 56 bits.
    #[inline(always)]
    fn fill(&mut self) {
        if let Some(word) = self.data.first_chunk() {
            let word = u64::from_be_bytes(*word);
            // None of the eight bytes is 0xff, as in most places.
            let ones = u64::from_ne_bytes([1; 8]);
            if (!word).wrapping_sub(ones) & word & (ones << 7) == 0 {
                self.next |= word >> self.count;
                let bytes = (63 - self.count) / 8;
                self.count += bytes * 8;
                self.data = self.data.get(bytes as usize..).unwrap_or_default();
                return;
            }
        }
        *self = self.filled_by_bytes();
    }

    #[cold]
    fn filled_by_bytes(mut self) -> Bits<'a> {
        while self.count <= 56 {
            let (byte, taken) = match self.data {
                // What is no marker has a zero behind it.
                [0xff, 0, ..] => (0xff, 2),
                [0xff, ..] | [] => (0, 0),
                [byte, ..] => (*byte, 1),
            };
            self.made_up += if taken == 0 { 8 } else { 0 };
            self.next |= u64::from(byte) << (56 - self.count);
            self.count += 8;
            self.data = self.data.get(taken..).unwrap_or_default();
        }
        self
    }
}
