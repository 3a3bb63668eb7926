//! A quantized encoder: from the bytes of a picture to its embeddings, one step after the other, in buffers that are kept.

use super::conv::{ConvSpec, Layer};
use super::kernel::Path;
use super::tensor::{Map, Range};
use salad_shared::preprocess::luma;

/// An encoder as a model gives it: steps refer to maps by their number. Map 0 is the picture.
#[derive(Debug, Clone, PartialEq)]
pub struct NetSpec {
    /// Rows and columns of the picture, which has three channels, or one (luma).
    pub size: [usize; 2],
    /// 3 or 1.
    pub channels: usize,
    /// What one step of the quantized picture is worth; the picture is -1..=1.
    pub scale: f32,
    /// First to last.
    pub steps: Vec<StepSpec>,
    /// One, or one for each member of an ensemble, whose embeddings of unit length stand one after the other, and are scaled
    /// to unit length again.
    pub results: Vec<ResultSpec>,
    /// Embeddings shorter than this are divided by it.
    pub min_norm: f32,
}

/// A last map.
#[derive(Debug, Clone, PartialEq)]
pub struct ResultSpec {
    /// Its number.
    pub map: usize,
    /// What one step of it is worth.
    pub scale: f32,
    /// What becomes of it.
    pub readout: Readout,
    /// What its embedding of unit length is multiplied by, beside others.
    pub weight: f32,
}

/// What becomes of a last map, in floats, before embeddings are scaled to unit length.
#[derive(Debug, Clone, PartialEq)]
pub enum Readout {
    /// One embedding of all its values, channel by channel.
    Flat,
    /// One embedding for each place.
    Places,
    /// One embedding: a linear map of the channels' means.
    Pooled {
        /// \[out, inputs\].
        weight: Vec<f32>,
        /// Channels of the map.
        inputs: usize,
        /// \[out\].
        bias: Vec<f32>,
    },
}

/// One step; its result is the map of its number plus one.
#[derive(Debug, Clone, PartialEq)]
pub enum StepSpec {
    /// A convolution of a map.
    Conv(usize, ConvSpec),
    /// The maximum over windows of a map.
    MaxPool(usize, PoolSpec),
    /// The sum of two maps.
    Add([usize; 2], AddSpec),
}

/// Max pooling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolSpec {
    /// Side of the window.
    pub size: usize,
    /// In both directions.
    pub stride: usize,
    /// On all sides, of values lower than all.
    pub padding: usize,
}

/// max(a scale_a + b scale_b, 0) in steps of `scale`, rounded half to even: 0..=255.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AddSpec {
    /// What a step of each is worth.
    pub scales: [f32; 2],
    /// What a step of the sum is worth.
    pub scale: f32,
}

/// All maps together may take so many bytes.
const MAX_MAPS: usize = 1 << 30;

/// An encoder made ready for one path.
#[derive(Debug, Clone)]
pub struct Net {
    path: Path,
    scale: f32,
    /// Each byte of a picture, as its map has it.
    table: [u8; 256],
    maps: Vec<Map>,
    steps: Vec<Step>,
    results: Vec<ResultSpec>,
    /// Embeddings of a picture, and their length.
    shape: [usize; 2],
    min_norm: f32,
}

#[derive(Debug, Clone)]
enum Step {
    Conv(usize, Layer),
    MaxPool(usize, PoolSpec),
    Add([usize; 2], AddSpec),
}

/// What one thread works in.
#[derive(Debug, Clone)]
pub struct Buffers {
    maps: Vec<Vec<u8>>,
    means: Vec<f32>,
}

impl Net {
    /// Makes a model ready; `None` for one whose shapes do not fit.
    pub fn new(spec: &NetSpec, path: Path) -> Option<Net> {
        let [height, width] = spec.size;
        let mut maps = vec![Map { height, width, channels: spec.channels, border: 0, range: Range::Signed }];
        for step in &spec.steps {
            let map = match step {
                StepSpec::Conv(input, conv) => Layer::output(conv, maps.get(*input)?)?,
                StepSpec::MaxPool(input, pool) => pool.output(maps.get(*input)?)?,
                StepSpec::Add([a, b], _) => {
                    let sum = |map: &Map| Map { range: Range::Unsigned, ..*map };
                    let [a, b] = [maps.get(*a)?, maps.get(*b)?].map(sum);
                    if a == b { a } else { return None }
                }
            };
            maps.push(map);
        }
        for step in &spec.steps {
            if let StepSpec::Conv(input, conv) = step {
                let map = maps.get_mut(*input)?;
                (map.channels == conv.inputs()).then_some(())?;
                map.border = map.border.max(conv.padding);
            }
        }
        maps.iter().all(|map| map.pixels() > 0).then_some(())?;
        let bytes = maps.iter().try_fold(0_usize, |bytes, map| bytes.checked_add(map.len()?))?;
        (bytes <= MAX_MAPS).then_some(())?;
        let made = |(number, step): (usize, &StepSpec)| {
            Some(match step {
                StepSpec::Conv(input, conv) => {
                    Step::Conv(*input, Layer::new(conv, *maps.get(*input)?, *maps.get(number + 1)?, path))
                }
                StepSpec::MaxPool(input, pool) => Step::MaxPool(*input, *pool),
                StepSpec::Add(inputs, add) => Step::Add(*inputs, *add),
            })
        };
        let steps = spec.steps.iter().enumerate().map(made).collect::<Option<_>>()?;
        let mut shape = None;
        for result in &spec.results {
            let [rows, dim] = result.readout.shape(maps.get(result.map)?)?;
            let [all_rows, all_dims] = shape.get_or_insert([rows, 0]);
            (*all_rows == rows).then_some(())?;
            *all_dims = dim.checked_add(*all_dims)?;
        }
        Some(Net {
            path,
            scale: spec.scale,
            table: std::array::from_fn(|byte| quantized(byte as f32, spec.scale, path)),
            maps,
            steps,
            results: spec.results.clone(),
            shape: shape?,
            min_norm: spec.min_norm,
        })
    }

    /// Embeddings of a picture, and their length.
    pub fn shape(&self) -> [usize; 2] {
        self.shape
    }

    /// The instructions it was made for.
    pub fn path(&self) -> Path {
        self.path
    }

    /// Buffers for one thread, borders filled with zeros as they are stored.
    pub fn buffers(&self) -> Buffers {
        let buffer = |map: &Map| vec![map.range.flip(self.path); map.len().unwrap_or(0)];
        let maps = self.maps.iter().map(buffer).collect();
        Buffers { maps, means: Vec::new() }
    }

    /// Encodes a picture, RGB8 \[height, width, 3\]: `embeddings` \[P, d\] is filled, row by row.
    pub fn run(&self, rgb: &[u8], buffers: &mut Buffers, embeddings: &mut Vec<f32>) {
        self.take_in(rgb, &mut buffers.maps[0]);
        for (number, step) in self.steps.iter().enumerate() {
            let (before, after) = buffers.maps.split_at_mut(number + 1);
            let output = &mut after[0];
            match step {
                Step::Conv(input, layer) => self.path.run(layer, &before[*input], output),
                Step::MaxPool(input, pool) => {
                    pool.run([&self.maps[*input], &self.maps[number + 1]], &before[*input], self.path, output);
                }
                Step::Add([a, b], add) => {
                    let maps = [&self.maps[*a], &self.maps[*b], &self.maps[number + 1]];
                    add.run(maps, [&before[*a], &before[*b]], self.path, output);
                }
            }
        }
        self.read_out(&buffers.maps, &mut buffers.means, embeddings);
    }

    fn take_in(&self, rgb: &[u8], out: &mut [u8]) {
        let map = &self.maps[0];
        for (row, rgb) in rgb.chunks_exact(3 * map.width).enumerate().take(map.height) {
            let out = &mut out[map.at(row, 0)..][..map.width * map.channels];
            if map.channels == 3 {
                out.iter_mut().zip(rgb).for_each(|(q, &v)| *q = self.table[usize::from(v)]);
            } else {
                let grey = |p: &[u8]| luma(f32::from(p[0]), f32::from(p[1]), f32::from(p[2]));
                let pixels = out.iter_mut().zip(rgb.chunks_exact(3));
                pixels.for_each(|(q, pixel)| *q = quantized(grey(pixel), self.scale, self.path));
            }
        }
    }

    fn read_out(&self, maps: &[Vec<u8>], means: &mut Vec<f32>, embeddings: &mut Vec<f32>) {
        let [rows, dim] = self.shape;
        embeddings.clear();
        embeddings.resize(rows * dim, 0.0);
        let mut first = 0;
        for ResultSpec { map, scale, readout, weight } in &self.results {
            let (bytes, map) = (&maps[*map], &self.maps[*map]);
            let last = LastMap { map, bytes, flip: map.range.flip(self.path), scale: *scale };
            let own = readout.dim(map);
            for (row, embedding) in embeddings.chunks_exact_mut(dim).enumerate() {
                let embedding = &mut embedding[first..first + own];
                readout.run(&last, row, means, embedding);
                self.unit_length(embedding);
                if self.results.len() > 1 {
                    embedding.iter_mut().for_each(|v| *v *= weight);
                }
            }
            first += own;
        }
        if self.results.len() > 1 {
            embeddings.chunks_exact_mut(dim).for_each(|embedding| self.unit_length(embedding));
        }
    }

    fn unit_length(&self, embedding: &mut [f32]) {
        let length = embedding.iter().map(|v| v * v).sum::<f32>().sqrt().max(self.min_norm);
        embedding.iter_mut().for_each(|v| *v /= length);
    }
}

impl Readout {
    /// Embeddings of a map, and their length; `None` where it does not fit.
    fn shape(&self, map: &Map) -> Option<[usize; 2]> {
        let fits = match self {
            Readout::Pooled { weight, inputs, bias } => {
                *inputs == map.channels && Some(weight.len()) == inputs.checked_mul(bias.len())
            }
            Readout::Flat | Readout::Places => true,
        };
        fits.then(|| [if *self == Readout::Places { map.pixels() } else { 1 }, self.dim(map)])
    }

    /// Length of an embedding.
    fn dim(&self, map: &Map) -> usize {
        match self {
            Readout::Flat => map.pixels() * map.channels,
            Readout::Places => map.channels,
            Readout::Pooled { bias, .. } => bias.len(),
        }
    }

    /// Fills an embedding, that of the place `row` where there are several.
    fn run(&self, last: &LastMap, row: usize, means: &mut Vec<f32>, embedding: &mut [f32]) {
        match self {
            Readout::Flat => {
                let values = (0..last.map.channels).flat_map(|channel| last.channel(channel));
                embedding.iter_mut().zip(values).for_each(|(z, value)| *z = value);
            }
            Readout::Places => {
                let bytes = &last.bytes[last.map.at(row / last.map.width, row % last.map.width)..];
                embedding.iter_mut().zip(bytes).for_each(|(z, &byte)| *z = last.value(byte));
            }
            Readout::Pooled { weight, inputs, bias } => {
                let mean = |channel| last.channel(channel).sum::<f32>() / last.map.pixels() as f32;
                means.clear();
                means.extend((0..last.map.channels).map(mean));
                for ((z, weights), b) in embedding.iter_mut().zip(weight.chunks_exact(*inputs)).zip(bias) {
                    *z = weights.iter().zip(&*means).map(|(w, m)| w * m).sum::<f32>() + b;
                }
            }
        }
    }
}

/// One of the last maps.
struct LastMap<'a> {
    map: &'a Map,
    bytes: &'a [u8],
    /// As the map's path keeps the bytes.
    flip: u8,
    /// What one step is worth.
    scale: f32,
}

impl LastMap<'_> {
    /// What a byte stands for.
    fn value(&self, byte: u8) -> f32 {
        self.map.range.value(byte ^ self.flip) * self.scale
    }

    /// A channel's values, row by row.
    fn channel(&self, channel: usize) -> impl Iterator<Item = f32> {
        let pixels = (0..self.map.height).flat_map(|row| (0..self.map.width).map(move |column| (row, column)));
        pixels.map(move |(row, column)| self.value(self.bytes[self.map.at(row, column) + channel]))
    }
}

/// A value of a picture, 0 to 255, as the picture's map has it.
fn quantized(value: f32, scale: f32, path: Path) -> u8 {
    (((value / 127.5 - 1.0) / scale).round_ties_even() as i8) as u8 ^ Range::Signed.flip(path)
}

impl PoolSpec {
    fn output(&self, input: &Map) -> Option<Map> {
        // A window all in the padding would have no value.
        (self.padding < self.size).then_some(())?;
        let side = |pixels: usize| Some((pixels + 2 * self.padding).checked_sub(self.size)? / self.stride + 1);
        Some(Map { height: side(input.height)?, width: side(input.width)?, border: 0, ..*input })
    }

    fn run(&self, [from, to]: [&Map; 2], input: &[u8], path: Path, output: &mut [u8]) {
        // As unsigned bytes with the top bit flipped, signed ones keep their order.
        let order = from.range.flip(path) ^ if from.range == Range::Signed { 0x80 } else { 0 };
        for row in 0..to.height {
            for column in 0..to.width {
                let out = &mut output[to.at(row, column)..][..to.channels];
                out.fill(order);
                let window = |at: usize, pixels: usize| {
                    let first = (at * self.stride).saturating_sub(self.padding);
                    first..(at * self.stride + self.size - self.padding).min(pixels)
                };
                for r in window(row, from.height) {
                    for c in window(column, from.width) {
                        let bytes = &input[from.at(r, c)..][..to.channels];
                        out.iter_mut().zip(bytes).for_each(|(o, &v)| *o = (*o ^ order).max(v ^ order) ^ order);
                    }
                }
            }
        }
    }
}

impl AddSpec {
    fn run(&self, [map_a, map_b, to]: [&Map; 3], [a, b]: [&[u8]; 2], path: Path, output: &mut [u8]) {
        let float = |map: &Map, byte: u8, scale: f32| map.range.value(byte ^ map.range.flip(path)) * scale;
        let flip = to.range.flip(path);
        for row in 0..to.height {
            let len = to.width * to.channels;
            let (a, b) = (&a[map_a.at(row, 0)..][..len], &b[map_b.at(row, 0)..][..len]);
            let out = &mut output[to.at(row, 0)..][..len];
            for ((o, &a), &b) in out.iter_mut().zip(a).zip(b) {
                let sum = (float(map_a, a, self.scales[0]) + float(map_b, b, self.scales[1])).max(0.0) / self.scale;
                *o = sum.round_ties_even() as u8 ^ flip;
            }
        }
    }
}
