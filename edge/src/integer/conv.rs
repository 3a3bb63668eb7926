//! A convolution in integers with all that follows it: bias, one multiplication, rounding half to even, saturation,
//! activation. To the bit what ONNX defines for QLinearConv and the nodes after it.

use super::kernel::{Kernel, LANES, Path, Quad, Row, Steps, Sums, Unit, Window};
use super::tensor::{Map, Range};

/// Adding it to a float below 2^22 in size leaves a whole number in the low bits, rounded half to even.
const ROUND: f32 = 12_582_912.0;

/// A convolution as a model gives it.
#[derive(Debug, Clone, PartialEq)]
pub struct ConvSpec {
    /// \[out, in, rows, columns\], -127..=127.
    pub weight: Vec<i8>,
    /// The weight's shape.
    pub shape: [usize; 4],
    /// Whether output channel c reads input channel c alone; `in` is then 1.
    pub depthwise: bool,
    /// \[out\], in steps of the sums.
    pub bias: Vec<i32>,
    /// \[out\]: steps of the result that one step of a sum is worth.
    pub multiplier: Vec<f32>,
    /// In both directions.
    pub stride: usize,
    /// Of zeros, on all sides.
    pub padding: usize,
    /// What follows.
    pub activation: Activation,
}

/// What follows a convolution, on the integers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Activation {
    /// Nothing.
    Identity,
    /// max(q, 0), which has 0..=255.
    Relu,
    /// max(q, slope q), rounded half to even; the slope is 0 to 1.
    LeakyRelu(f32),
}

impl ConvSpec {
    /// Whether a step is plain arithmetic on what the numbers say: finite multipliers, weights that 16 bits take in pairs.
    pub fn is_sound(&self, input: Range) -> bool {
        let slope = if let Activation::LeakyRelu(slope) = self.activation { slope } else { 0.0 };
        let [out, channels, rows, columns] = self.shape;
        let terms = channels.checked_mul(rows).and_then(|n| n.checked_mul(columns));
        // Products and a bias, half of 32 bits each.
        let largest = if input == Range::Signed { 128 } else { 255 };
        terms.is_some_and(|terms| {
            (1..=(1 << 30) / (largest * 127)).contains(&terms) && terms.checked_mul(out) == Some(self.weight.len())
        }) && self.bias.len() == out
            && self.multiplier.len() == out
            && self.bias.iter().all(|b| b.unsigned_abs() <= 1 << 30)
            && self.weight.iter().all(|&w| w != i8::MIN)
            && self.multiplier.iter().all(|m| m.is_finite())
            && self.stride > 0
            && (channels == 1 || !self.depthwise)
            && (0.0..=1.0).contains(&slope)
    }

    /// Channels of the map that it reads.
    pub fn inputs(&self) -> usize {
        if self.depthwise { self.shape[0] } else { self.shape[1] }
    }

    /// A weight; 0 for one that is not there.
    fn weight(&self, [o, channel, row, column]: [usize; 4]) -> i8 {
        let [out, channels, rows, columns] = self.shape;
        let known = o < out && channel < channels && row < rows && column < columns;
        if known { self.weight[((o * channels + channel) * rows + row) * columns + column] } else { 0 }
    }
}

/// A convolution made ready for one path and one pair of maps.
#[derive(Debug, Clone)]
pub struct Layer {
    input: Map,
    output: Map,
    /// Within a window.
    steps: Steps,
    /// From one window to the next.
    stride: usize,
    /// From the input map's corner to that of the first window.
    origin: usize,
    /// For each sixteen output channels rows x units, and what becomes of their sums.
    weights: Weights,
    scaling: Vec<Scaling>,
    range: [f32; 2],
    slope: Option<f32>,
    /// Of the result.
    flip: u8,
}

#[derive(Debug, Clone)]
enum Weights {
    /// Of a convolution whose outputs read all channels: a row of the window is one run of bytes, taken four at a time.
    Dense(Vec<Quad>),
    /// Of a depthwise one: a row of the window is taken pixel by pixel.
    Depthwise(Vec<Row>),
}

/// What becomes of the sums of sixteen channels.
#[derive(Debug, Clone)]
#[repr(align(64))]
struct Scaling {
    multiplier: [f32; LANES],
    bias: [i32; LANES],
}

impl Layer {
    /// The map that a convolution makes of `input`; `None` where window and map do not fit.
    pub fn output(spec: &ConvSpec, input: &Map) -> Option<Map> {
        let [channels, _, rows, columns] = spec.shape;
        let side = |pixels: usize, window: usize| {
            let padded = pixels.checked_add(spec.padding.checked_mul(2)?)?;
            Some(padded.checked_sub(window)? / spec.stride + 1)
        };
        let (height, width) = (side(input.height, rows)?, side(input.width, columns)?);
        let range = if spec.activation == Activation::Relu { Range::Unsigned } else { Range::Signed };
        Some(Map { height, width, channels, border: 0, range })
    }

    /// Packs a convolution. `input` has a border of at least the padding; the model's reader has checked all numbers.
    pub fn new(spec: &ConvSpec, input: Map, output: Map, path: Path) -> Layer {
        let [out, channels, rows, columns] = spec.shape;
        let blocks = 0..out.div_ceil(LANES);
        let units = if spec.depthwise { columns } else { (columns * channels).div_ceil(4) };
        let all = blocks.clone().flat_map(|block| (0..rows).map(move |row| (block * LANES, row)));
        let all = all.flat_map(|(first, row)| (0..units).map(move |unit| (first, row, unit)));
        let weights = if spec.depthwise {
            let unit = |(first, row, column)| {
                Row(std::array::from_fn(|o| i16::from(spec.weight([first + o, 0, row, column]))))
            };
            Weights::Depthwise(all.map(unit).collect())
        } else {
            let unit = |(first, row, quad)| {
                Quad(std::array::from_fn(|i| {
                    let byte = 4 * quad + i % 4;
                    spec.weight([first + i / 4, byte % channels, row, byte / channels])
                }))
            };
            Weights::Dense(all.map(unit).collect())
        };
        let stride = if spec.depthwise { input.channels } else { Quad::BYTES };
        let steps = Steps { rows, row_stride: input.row_stride(), units, stride };
        // What a flipped bit adds to each byte, the bias takes away again.
        let added = input.range.added(path);
        let bias = |o: usize| {
            let ones: i32 = spec
                .weight
                .chunks(channels * rows * columns)
                .nth(o)
                .unwrap_or_default()
                .iter()
                .map(|&w| i32::from(w))
                .sum();
            spec.bias.get(o).copied().unwrap_or(0).wrapping_sub(ones.wrapping_mul(added))
        };
        let scaling = blocks.map(|block| Scaling {
            multiplier: std::array::from_fn(|i| spec.multiplier.get(block * LANES + i).copied().unwrap_or(0.0)),
            bias: std::array::from_fn(|i| bias(block * LANES + i)),
        });
        let (range, slope) = match spec.activation {
            Activation::Identity => ([-128.0, 127.0], None),
            Activation::Relu => ([0.0, 255.0], None),
            Activation::LeakyRelu(slope) => ([-128.0, 127.0], Some(slope)),
        };
        let flip = output.range.flip(path);
        let shift = input.border - spec.padding;
        let origin = shift * input.row_stride() + shift * input.channels;
        Layer {
            input,
            output,
            steps,
            stride: spec.stride,
            origin,
            weights,
            scaling: scaling.collect(),
            range,
            slope,
            flip,
        }
    }

    /// Where the window of an output pixel begins in the input.
    #[inline(always)]
    fn window(&self, row: usize, column: usize) -> usize {
        self.origin + row * self.stride * self.input.row_stride() + column * self.stride * self.input.channels
    }

    /// Writes sixteen channels of one pixel.
    #[inline(always)]
    fn finish(&self, block: usize, sums: &Sums, out: &mut [u8]) {
        let Scaling { multiplier, bias } = &self.scaling[block];
        let mut bytes = [0; LANES];
        for i in 0..LANES {
            let scaled = sums.0[i].wrapping_add(bias[i]) as f32 * multiplier[i];
            let mut q = clamp(scaled, self.range);
            if let Some(slope) = self.slope {
                let whole = (q + ROUND) - ROUND;
                let leaked = whole * slope;
                q = if whole > leaked { whole } else { leaked };
            }
            bytes[i] = (q + ROUND).to_bits() as u8 ^ self.flip;
        }
        if let Some(out) = out.first_chunk_mut::<LANES>() {
            *out = bytes;
        } else {
            let known = out.len();
            out.copy_from_slice(&bytes[..known]);
        }
    }
}

/// Written so that it becomes one instruction for each side.
#[inline(always)]
fn clamp(value: f32, [least, largest]: [f32; 2]) -> f32 {
    let value = if value > least { value } else { least };
    if value < largest { value } else { largest }
}

/// Runs a layer with one kernel; in a function for which the kernel's instructions are enabled, all of it uses them. `P1`,
/// `P2` and `P4` are the pixels of a block of one, two and four times sixteen channels, where the kernel takes so many.
///
/// # Safety
/// The processor has the kernel's instructions ([`Path::is_available`]).
#[allow(unsafe_code, reason = "the kernels' contract")]
#[inline(always)]
pub unsafe fn run_layer<K: Kernel<Quad> + Kernel<Row>, const P1: usize, const P2: usize, const P4: usize>(
    layer: &Layer,
    input: &[u8],
    output: &mut [u8],
) {
    let blocks = layer.scaling.len();
    let most = <K as Kernel<Quad>>::VECTORS;
    let mut block = 0;
    let single = layer.output.pixels() == 1;
    while block < blocks {
        // SAFETY: the caller's.
        block += unsafe {
            match (&layer.weights, most.min(blocks - block), single) {
                (Weights::Depthwise(rows), _, false) => columns::<K, _, P1, 1>(layer, rows, block, input, output),
                (Weights::Depthwise(rows), _, true) => columns::<K, _, 1, 1>(layer, rows, block, input, output),
                (Weights::Dense(quads), 4.., false) => columns::<K, _, P4, 4>(layer, quads, block, input, output),
                (Weights::Dense(quads), 4.., true) => columns::<K, _, 1, 4>(layer, quads, block, input, output),
                (Weights::Dense(quads), 2..=3, false) => columns::<K, _, P2, 2>(layer, quads, block, input, output),
                (Weights::Dense(quads), 2..=3, true) => columns::<K, _, 1, 2>(layer, quads, block, input, output),
                (Weights::Dense(quads), _, false) => columns::<K, _, P1, 1>(layer, quads, block, input, output),
                (Weights::Dense(quads), _, true) => columns::<K, _, 1, 1>(layer, quads, block, input, output),
            }
        };
    }
}

/// All pixels of `VECTORS` blocks of channels; gives how many that was.
///
/// # Safety
/// That of [`run_layer`].
#[allow(unsafe_code, reason = "the kernels' contract")]
#[inline(always)]
unsafe fn columns<K: Kernel<U>, U: Unit, const PIXELS: usize, const VECTORS: usize>(
    layer: &Layer,
    weights: &[U],
    block: usize,
    input: &[u8],
    output: &mut [u8],
) -> usize {
    let per_block = layer.steps.rows * layer.steps.units;
    let weights = &weights[block * per_block..(block + VECTORS) * per_block];
    let pixels = layer.output.pixels();
    let mut first = 0;
    while first < pixels {
        // The last block goes back over pixels that are done, where there are enough.
        let start = first.min(pixels.saturating_sub(PIXELS));
        let (mut row, mut column) = (start / layer.output.width, start % layer.output.width);
        let (mut at, mut places) = ([0; PIXELS], [0; PIXELS]);
        for i in 0..PIXELS {
            at[i] = layer.window(row, column) + block * U::APART;
            places[i] = layer.output.at(row, column);
            // Where there are fewer pixels, the last is done several times.
            if start + i + 1 < pixels {
                column += 1;
                if column == layer.output.width {
                    (row, column) = (row + 1, 0);
                }
            }
        }
        let window = Window::new(input, at, layer.steps, weights);
        // SAFETY: the caller's.
        let sums = unsafe { K::sums::<PIXELS, VECTORS>(&window) };
        for (sums, place) in sums.iter().zip(places) {
            for (v, sums) in sums.iter().enumerate() {
                let channel = (block + v) * LANES;
                let count = LANES.min(layer.output.channels - channel);
                layer.finish(block + v, sums, &mut output[place + channel..][..count]);
            }
        }
        first = start + PIXELS;
    }
    VECTORS
}

#[cfg(test)]
mod tests {
    use super::*;
    use fastrand::Rng;

    /// One output value as ONNX defines it: sum, product in f32, rounding half to even, saturation, and then the activation.
    fn reference(spec: &ConvSpec, q: &[i32], input: &Map, [o, row, column]: [usize; 3]) -> i32 {
        let [_, channels, rows, columns] = spec.shape;
        let first = if spec.depthwise { o } else { 0 };
        let mut sum = i64::from(spec.bias[o]);
        for (c, r, k) in (0..channels).flat_map(|c| (0..rows).flat_map(move |r| (0..columns).map(move |k| (c, r, k)))) {
            let (y, x) = (row * spec.stride + r, column * spec.stride + k);
            let inside = y >= spec.padding && x >= spec.padding;
            let (y, x) = (y.wrapping_sub(spec.padding), x.wrapping_sub(spec.padding));
            if inside && y < input.height && x < input.width {
                let weight = spec.weight[((o * channels + c) * rows + r) * columns + k];
                sum += i64::from(weight) * i64::from(q[(y * input.width + x) * input.channels + first + c]);
            }
        }
        let q = (sum as f32 * spec.multiplier[o]).round_ties_even();
        match spec.activation {
            Activation::Identity => q.clamp(-128.0, 127.0) as i32,
            Activation::Relu => q.clamp(0.0, 255.0) as i32,
            Activation::LeakyRelu(slope) => {
                let q = q.clamp(-128.0, 127.0);
                q.max(q * slope).round_ties_even() as i32
            }
        }
    }

    fn draw(rng: &mut Rng) -> (ConvSpec, Map, Vec<i32>) {
        let depthwise = rng.u8(0..3) == 0;
        let out = rng.choice([1, 7, 16, 20, 48, 64, 100]).unwrap();
        let channels = if depthwise { 1 } else { rng.choice([1, 3, 4, 5, 16, 31, 64]).unwrap() };
        let side = rng.choice([1, 2, 3, 3, 3, 5]).unwrap();
        let padding = rng.usize(0..=side / 2);
        let (height, width) = (rng.usize(side..14), rng.usize(side..14));
        let terms = channels * side * side;
        let activation = [Activation::Identity, Activation::Relu, Activation::LeakyRelu(0.1)];
        let spec = ConvSpec {
            weight: (0..out * terms).map(|_| rng.i8(-127..=127)).collect(),
            shape: [out, channels, side, side],
            depthwise,
            bias: (0..out).map(|_| rng.i32(-90_000..90_000)).collect(),
            multiplier: (0..out).map(|_| rng.f32() * 0.02 / (terms as f32).sqrt()).collect(),
            stride: rng.usize(1..3),
            padding,
            activation: rng.choice(activation).unwrap(),
        };
        // Values at the ends of the range are as likely as all others together.
        let (range, [least, largest]) =
            rng.choice([(Range::Signed, [-128, 127]), (Range::Unsigned, [0, 255])]).unwrap_or((Range::Signed, [0, 0]));
        let mut value = || if rng.bool() { rng.i32(least..=largest) } else { [least, largest][rng.usize(0..2)] };
        let channels = spec.inputs();
        let q = (0..height * width * channels).map(|_| value()).collect();
        (spec, Map { height, width, channels, border: padding + rng.usize(0..2), range }, q)
    }

    #[test]
    fn every_path_gives_the_reference_to_the_bit() {
        let mut rng = Rng::with_seed(1);
        for case in 0..if cfg!(miri) { 6 } else { 300 } {
            let (spec, input, q) = draw(&mut rng);
            assert!(spec.is_sound(input.range));
            let output = Map { border: rng.usize(0..2), ..Layer::output(&spec, &input).unwrap() };
            for path in Path::ALL.into_iter().filter(|path| path.is_available()) {
                let [from_flip, to_flip] = [input.range.flip(path), output.range.flip(path)];
                let (mut from, mut to) = (vec![from_flip; input.len().unwrap()], vec![to_flip; output.len().unwrap()]);
                for row in 0..input.height {
                    for (i, byte) in from[input.at(row, 0)..][..input.width * input.channels].iter_mut().enumerate() {
                        *byte = q[row * input.width * input.channels + i] as u8 ^ from_flip;
                    }
                }
                path.run(&Layer::new(&spec, input, output, path), &from, &mut to);
                for (row, column) in (0..output.height).flat_map(|r| (0..output.width).map(move |c| (r, c))) {
                    for o in 0..output.channels {
                        let found = output.range.value(to[output.at(row, column) + o] ^ to_flip) as i32;
                        let expected = reference(&spec, &q, &input, [o, row, column]);
                        assert_eq!(found, expected, "case {case}, {path:?}: {o} {row} {column} of {:?}", spec.shape);
                    }
                }
                let inner: usize =
                    (0..output.height).map(|row| to[output.at(row, 0)..][..output.width * output.channels].len()).sum();
                let changed = to.iter().filter(|&&byte| byte != to_flip).count();
                assert!(changed <= inner, "the border is left alone");
            }
        }
    }

    #[test]
    fn a_window_larger_than_the_map_has_no_output() {
        let (mut spec, ..) = draw(&mut Rng::with_seed(2));
        (spec.shape, spec.padding) = ([1, 1, 3, 3], 0);
        assert_eq!(
            Layer::output(&spec, &Map { height: 2, width: 9, channels: 1, border: 0, range: Range::Signed }),
            None
        );
    }
}
