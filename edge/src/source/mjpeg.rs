//! JPEGs one after the other in a stream of bytes: where each begins and ends.

/// A JPEG longer than this is no picture, bytes.
const MAX_JPEG_BYTES: usize = 64 << 20;

const START: [u8; 3] = [0xff, 0xd8, 0xff];

/// Takes bytes as they come and gives JPEGs, each from its start to its end marker. What stands between them (the headers of
/// a multipart stream, padding) is passed over. One that breaks off, because the next begins inside it or because its
/// markers make no sense, is told as torn, and the next is looked for.
#[derive(Debug, Default)]
pub struct Splitter {
    buffer: Vec<u8>,
    at: usize,
    state: State,
}

/// A JPEG that breaks off.
#[derive(Debug, PartialEq, Eq)]
pub struct Torn;

#[derive(Debug, Default, Clone, Copy, PartialEq)]
enum State {
    /// Before a picture.
    #[default]
    Between,
    /// Where a marker has to be.
    Marker,
    /// In coded data.
    Scan,
}

impl Splitter {
    /// More of the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next JPEG, or `None` until more has come.
    pub fn next_jpeg(&mut self) -> Option<Result<Vec<u8>, Torn>> {
        if self.state != State::Between && self.buffer.len() > MAX_JPEG_BYTES {
            return Some(self.torn(self.buffer.len()));
        }
        loop {
            match self.state {
                State::Between => {
                    let found = self.buffer.windows(START.len()).position(|w| w == START);
                    // The last bytes may be the beginning of a start marker.
                    let passed = found.unwrap_or(self.buffer.len().saturating_sub(START.len() - 1));
                    self.buffer.drain(..passed);
                    found?;
                    (self.at, self.state) = (2, State::Marker);
                }
                State::Scan => {
                    let rest = self.buffer.get(self.at..).unwrap_or_default();
                    let Some(offset) = rest.iter().position(|&b| b == 0xff) else {
                        self.at = self.at.max(self.buffer.len());
                        return None;
                    };
                    self.at += offset;
                    match self.buffer.get(self.at + 1)? {
                        // A stuffed zero and restart markers belong to the data.
                        0x00 | 0xd0..=0xd7 => self.at += 2,
                        0xff => self.at += 1,
                        _ => self.state = State::Marker,
                    }
                }
                State::Marker => match (*self.buffer.get(self.at)?, *self.buffer.get(self.at + 1)?) {
                    (0xff, 0xff) => self.at += 1,
                    (0xff, 0xd9) => {
                        let rest = self.buffer.split_off(self.at + 2);
                        self.state = State::Between;
                        return Some(Ok(std::mem::replace(&mut self.buffer, rest)));
                    }
                    // Another picture's start, or what is no marker.
                    (0xff, 0xd8 | 0x00) => return Some(self.torn(self.at)),
                    (0xff, 0x01 | 0xd0..=0xd7) => self.at += 2,
                    (0xff, marker) => {
                        let length =
                            u16::from_be_bytes([*self.buffer.get(self.at + 2)?, *self.buffer.get(self.at + 3)?]);
                        self.at += 2 + usize::from(length.max(2));
                        if marker == 0xda {
                            self.state = State::Scan;
                        }
                    }
                    _ => return Some(self.torn(self.at)),
                },
            }
        }
    }

    fn torn(&mut self, from: usize) -> Result<Vec<u8>, Torn> {
        self.buffer.drain(..from.min(self.buffer.len()));
        self.state = State::Between;
        Err(Torn)
    }
}

/// The JPEG at the beginning of a buffer that is longer than it; `None` where there is no whole one.
pub fn first_jpeg(buffer: &[u8]) -> Option<Vec<u8>> {
    let mut splitter = Splitter::default();
    splitter.push(buffer);
    splitter.next_jpeg()?.ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use salad_shared::preprocess::Frame;

    fn jpeg(seed: u32) -> Vec<u8> {
        let rgb = (0..40 * 30 * 3_u32).map(|v| (v.wrapping_mul(seed * 7919) >> 7) as u8).collect();
        Frame::new(40, 30, rgb).unwrap().to_jpeg(90)
    }

    fn split(stream: &[u8], chunk: usize) -> Vec<Result<Vec<u8>, Torn>> {
        let mut splitter = Splitter::default();
        let mut found = Vec::new();
        for bytes in stream.chunks(chunk) {
            splitter.push(bytes);
            found.extend(std::iter::from_fn(|| splitter.next_jpeg()));
        }
        found
    }

    #[test]
    fn pictures_are_found_however_the_bytes_come() {
        // With headers, padding and a lone 0xff between them, a preview with markers of its own, and restart markers.
        let preview = [&[0xff, 0xd8, 0xff, 0xe1, 0, 8, 0xff, 0xd8, 0xff, 0xd9, 1, 2], &jpeg(3)[2..]].concat();
        let mut restarts = jpeg(4);
        let end = restarts.len() - 2;
        restarts.splice(end..end, [0xff, 0xd3, 5, 6]);
        let pictures = [jpeg(1), jpeg(2), preview, restarts];
        let mut stream = b"junk\xff".to_vec();
        for picture in &pictures {
            stream.extend_from_slice(b"--frame\r\nContent-Type: image/jpeg\r\n\r\n");
            stream.extend_from_slice(picture);
            stream.extend_from_slice(&[0, 0xff]);
        }
        for chunk in [1, 3, 1000, stream.len()] {
            let found: Vec<_> = split(&stream, chunk).into_iter().map(Result::unwrap).collect();
            assert_eq!(found, pictures, "in chunks of {chunk}");
        }
    }

    #[test]
    fn a_torn_picture_costs_no_other() {
        let (first, second) = (jpeg(1), jpeg(2));
        for cut in [20, first.len() / 2, first.len() - 2] {
            let stream = [&first[..cut], &second, &second].concat();
            let found = split(&stream, 777);
            let whole: Vec<&Vec<u8>> = found.iter().flatten().collect();
            // A cut in a segment's head can swallow what follows up to that segment's length: no more than one picture.
            assert!(whole.contains(&&second) && whole.iter().all(|p| **p == second), "cut at {cut}");
        }
        let mut broken = first.clone();
        broken[2..4].copy_from_slice(&[0x12, 0x34]);
        assert_eq!(split(&[broken, second.clone()].concat(), 100), [Ok(second)]);
    }

    #[test]
    fn endless_data_is_given_up() {
        let mut splitter = Splitter::default();
        let head = jpeg(1);
        splitter.push(&head[..head.len() - 2]);
        assert_eq!(splitter.next_jpeg(), None);
        splitter.push(&vec![7; MAX_JPEG_BYTES]);
        assert_eq!(splitter.next_jpeg(), Some(Err(Torn)));
        assert!(splitter.buffer.is_empty());
        splitter.push(&head);
        assert_eq!(splitter.next_jpeg(), Some(Ok(head)));
    }

    #[test]
    fn a_picture_is_cut_out_of_a_longer_buffer() {
        let picture = jpeg(5);
        // What an earlier, longer picture has left behind it.
        let buffer = [picture.as_slice(), &jpeg(6)[100..], &[0; 500]].concat();
        assert_eq!(first_jpeg(&buffer), Some(picture.clone()));
        assert_eq!(first_jpeg(&picture[..picture.len() - 1]), None);
        assert_eq!(first_jpeg(b""), None);
    }
}
