//! How a capture program hands over its frames: the formats of its standard output, and the one reader for them all.

use super::Picture;
use super::mjpeg::Splitter;
use super::pixels::PixelFormat;
use super::ppm::read_ppm;
use jiff::Timestamp;
use salad_shared::decoder::Decoder;
use salad_shared::preprocess::{FrameError, MAX_PIXELS};
use std::io::{self, BufReader, Read, Write};

/// What a capture program writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamFormat {
    /// [`Packet`]s: our own capture of a local camera.
    Packets,
    /// JPEGs one after the other, also with headers between them.
    Mjpeg,
    /// PPMs one after the other.
    Ppm,
    /// Frames of one size and no header.
    Raw {
        /// Layout of the pixels; not [`PixelFormat::Mjpeg`].
        format: PixelFormat,
        /// Pixels a row.
        width: u32,
        /// Rows.
        height: u32,
    },
}

/// A frame as it came, not decoded: most are never looked at, because a newer one comes first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// Layout of the pixels.
    pub format: PixelFormat,
    /// Pixels a row; of a JPEG, what the camera says of it.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// When the camera took it, where the driver tells, UTC.
    pub taken: Option<Timestamp>,
    /// The pixels, or the JPEG file.
    pub bytes: Vec<u8>,
}

/// What a stream has to say.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece {
    /// A frame.
    Frame(Packet),
    /// A frame that breaks off; the stream goes on.
    Torn,
}

/// A packet's head: four letters, format, width, height, microseconds since 1970 (0 where they are not known), length.
const MAGIC: [u8; 4] = *b"SLDF";
const HEAD_BYTES: usize = 28;
const FORMATS: [PixelFormat; 7] = [
    PixelFormat::Mjpeg,
    PixelFormat::Yuyv,
    PixelFormat::Nv12,
    PixelFormat::I420,
    PixelFormat::Rgb24,
    PixelFormat::Bgr24,
    PixelFormat::Gray8,
];

impl Packet {
    /// Decodes the frame; a JPEG as `decoder` is made to.
    pub fn decode(self, decoder: &mut Decoder) -> Result<Picture, FrameError> {
        match self.format {
            PixelFormat::Mjpeg => Picture::decode(self.bytes, decoder),
            format => Ok(Picture::of(format.decode(self.width, self.height, self.bytes)?)),
        }
    }

    /// Writes the packet in little-endian numbers.
    pub fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let format = FORMATS.iter().position(|&f| f == self.format).unwrap_or_default() as u32;
        let length = u32::try_from(self.bytes.len()).map_err(io::Error::other)?;
        let mut head = Vec::with_capacity(HEAD_BYTES);
        head.extend_from_slice(&MAGIC);
        for number in [format, self.width, self.height] {
            head.extend_from_slice(&number.to_le_bytes());
        }
        head.extend_from_slice(&self.taken.map_or(0, Timestamp::as_microsecond).to_le_bytes());
        head.extend_from_slice(&length.to_le_bytes());
        out.write_all(&head)?;
        out.write_all(&self.bytes)?;
        out.flush()
    }

    /// Reads a packet; `None` at the end of the stream.
    fn read(stream: &mut impl Read) -> Result<Option<Packet>, String> {
        let mut head = [0; HEAD_BYTES];
        match stream.read(&mut head[..1]).map_err(|e| e.to_string())? {
            0 => return Ok(None),
            _ => stream.read_exact(&mut head[1..]).map_err(|_| "its output is cut off in a head".to_owned())?,
        }
        let number = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let (width, height, length) = (number(8), number(12), number(24));
        let format = FORMATS.get(number(4) as usize).filter(|_| head[..4] == MAGIC);
        let (Some(&format), true) = (format, u64::from(length) <= MAX_PIXELS * 3) else {
            return Err("its output is no stream of frames".to_owned());
        };
        let mut micros = [0; 8];
        micros.copy_from_slice(&head[16..24]);
        let micros = i64::from_le_bytes(micros);
        let taken = (micros != 0).then(|| Timestamp::from_microsecond(micros).ok()).flatten();
        let mut bytes = vec![0; length as usize];
        stream.read_exact(&mut bytes).map_err(|_| "its output is cut off in a frame".to_owned())?;
        Ok(Some(Packet { format, width, height, taken, bytes }))
    }
}

/// Reads frames until the stream ends (`Ok`), makes no sense, or `take` wants no more.
pub fn read_frames(format: StreamFormat, stream: impl Read, mut take: impl FnMut(Piece) -> bool) -> Result<(), String> {
    let mut stream = BufReader::with_capacity(1 << 16, stream);
    let packet = |format, width, height, bytes| Packet { format, width, height, taken: None, bytes };
    match format {
        StreamFormat::Packets => {
            while let Some(packet) = Packet::read(&mut stream)? {
                if !take(Piece::Frame(packet)) {
                    break;
                }
            }
        }
        StreamFormat::Ppm => {
            while let Some(frame) = read_ppm(&mut stream)? {
                let (width, height) = (frame.width(), frame.height());
                if !take(Piece::Frame(packet(PixelFormat::Rgb24, width, height, frame.into_rgb()))) {
                    break;
                }
            }
        }
        StreamFormat::Raw { format, width, height } => {
            let length = format.bytes(width, height).ok_or("a raw stream has no JPEGs")?;
            let mut bytes = vec![0; length];
            while stream.read_exact(&mut bytes).is_ok() {
                let frame = packet(format, width, height, std::mem::replace(&mut bytes, vec![0; length]));
                if !take(Piece::Frame(frame)) {
                    break;
                }
            }
        }
        StreamFormat::Mjpeg => {
            let (mut splitter, mut chunk) = (Splitter::default(), vec![0; 1 << 16]);
            loop {
                let read = match stream.read(&mut chunk).map_err(|e| e.to_string())? {
                    0 => break,
                    read => read,
                };
                splitter.push(&chunk[..read]);
                while let Some(found) = splitter.next_jpeg() {
                    let piece =
                        found.map_or(Piece::Torn, |bytes| Piece::Frame(packet(PixelFormat::Mjpeg, 0, 0, bytes)));
                    if !take(piece) {
                        return Ok(());
                    }
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use salad_shared::preprocess::Frame;

    fn all(format: StreamFormat, stream: &[u8]) -> (Vec<Piece>, Result<(), String>) {
        let mut pieces = Vec::new();
        let result = read_frames(format, stream, |piece| {
            pieces.push(piece);
            true
        });
        (pieces, result)
    }

    #[test]
    fn packets_come_back_as_they_were() {
        let packets: Vec<Packet> = FORMATS
            .iter()
            .enumerate()
            .map(|(i, &format)| Packet {
                format,
                width: 640 + i as u32,
                height: 3,
                taken: (i % 2 == 1).then(|| Timestamp::from_microsecond(1_790_000_000_123_456 + i as i64).unwrap()),
                bytes: vec![i as u8; 100 * i],
            })
            .collect();
        let mut stream = Vec::new();
        for packet in &packets {
            packet.write(&mut stream).unwrap();
        }
        let expected: Vec<Piece> = packets.into_iter().map(Piece::Frame).collect();
        assert_eq!(all(StreamFormat::Packets, &stream), (expected, Ok(())));
    }

    #[test]
    fn packets_that_are_cut_off_or_something_else_are_an_error() {
        let packet = Packet { format: PixelFormat::Gray8, width: 2, height: 2, taken: None, bytes: vec![1; 4] };
        let mut stream = Vec::new();
        packet.write(&mut stream).unwrap();
        for cut in 1..stream.len() {
            assert!(all(StreamFormat::Packets, &stream[..cut]).1.is_err(), "{cut}");
        }
        for (at, value) in [(0, b'X'), (4, 7), (27, 255)] {
            let mut broken = stream.clone();
            broken[at] = value;
            assert!(all(StreamFormat::Packets, &broken).1.is_err(), "byte {at}");
        }
    }

    #[test]
    fn raw_frames_have_the_size_that_was_said() {
        let format = StreamFormat::Raw { format: PixelFormat::Gray8, width: 3, height: 2 };
        let (pieces, result) = all(format, b"abcdefghijklmno");
        let bytes: Vec<&[u8]> =
            pieces.iter().map(|p| if let Piece::Frame(p) = p { &p.bytes[..] } else { &[] }).collect();
        assert_eq!((bytes, result), (vec![&b"abcdef"[..], b"ghijkl"], Ok(())));
    }

    #[test]
    fn ppms_and_jpegs_become_frames_and_a_torn_one_is_told() {
        let (pieces, _) = all(StreamFormat::Ppm, b"P6\n1 2\n255\nabcdefP6\n2 1\n255\nghijkl");
        let sizes: Vec<_> =
            pieces.iter().map(|p| if let Piece::Frame(p) = p { (p.width, p.height) } else { (0, 0) }).collect();
        assert_eq!(sizes, [(1, 2), (2, 1)]);

        let jpeg = Frame::new(8, 32, (0..768).map(|v| (v * 37 % 251) as u8).collect()).unwrap().to_jpeg(90);
        let (pieces, _) = all(StreamFormat::Mjpeg, &[&jpeg[..jpeg.len() - 9], &jpeg, &jpeg].concat());
        assert_eq!(pieces.iter().filter(|p| **p == Piece::Torn).count(), 1);
        let frames: Vec<_> =
            pieces.into_iter().filter_map(|p| if let Piece::Frame(p) = p { Some(p) } else { None }).collect();
        assert_eq!(frames.len(), 2);
        assert_eq!(frames[0].clone().decode(&mut Decoder::whole()).unwrap().frame.width(), 8);
    }

    #[test]
    fn reading_stops_when_nothing_more_is_wanted() {
        let mut count = 0;
        let format = StreamFormat::Raw { format: PixelFormat::Gray8, width: 1, height: 1 };
        let result = read_frames(format, io::repeat(7), |_| {
            count += 1;
            count < 5
        });
        assert_eq!((count, result), (5, Ok(())));
    }
}
