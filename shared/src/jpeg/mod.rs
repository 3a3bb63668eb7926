//! What of JPEGs is our own: telling one that was cut short, which the complete decoder fills with grey and says nothing of,
//! decoding the usual kind at a fraction of its size, and the codes that webcams leave out.

mod header;
mod huffman;
mod scaled;
mod standard;
mod transform;

pub(crate) use header::Header;
pub(crate) use scaled::Scaled;
pub(crate) use standard::with_codes;

/// Whether `bytes` begin as a JPEG but have no end-of-image marker after the picture's first scan.
pub(crate) fn is_cut_short(bytes: &[u8]) -> bool {
    let Some(mut rest) = bytes.strip_prefix(&[0xff, 0xd8]) else { return false };
    loop {
        match rest {
            // Fill bytes may stand before a marker.
            [0xff, 0xff, ..] => rest = rest.get(1..).unwrap_or_default(),
            // Start of scan. In the coded data that follows 0xff is always stuffed with a zero, so that a marker found
            // there is one. A preview inside an earlier segment has been passed over with its own end marker.
            [0xff, 0xda, scan @ ..] => return !scan.windows(2).any(|w| w == [0xff, 0xd9]),
            [0xff, 0xd9, ..] => return false,
            [0xff, _, high, low, ..] => {
                let length = usize::from(u16::from_be_bytes([*high, *low]));
                rest = rest.get(2 + length.max(2)..).unwrap_or_default();
            }
            // No marker where one has to be: another damage, which the decoder reports, or the end of the file.
            _ => return rest.len() < 4,
        }
    }
}

/// JPEGs to test with, which `shared/tests/fixtures/make_jpegs.py` makes.
#[cfg(test)]
pub(crate) mod fixtures {
    /// Those of the kind that cameras send.
    pub(crate) const CAMERAS: [&str; 6] = ["420", "422", "444-optimized", "420-restarts", "420-edges", "grey"];

    /// Those that only a complete decoder reads, and one of a size that no fraction divides.
    pub(crate) const OTHERS: [&str; 4] = ["odd", "progressive", "cmyk", "rgb"];

    /// A JPEG's bytes.
    pub(crate) fn fixture(name: &str) -> Vec<u8> {
        macro_rules! files {
            ($($name:literal),*) => {
                match name {
                    $($name => include_bytes!(concat!("../../tests/fixtures/jpeg/", $name, ".jpg")).as_slice(),)*
                    _ => unreachable!("no fixture {name}"),
                }
            };
        }
        files!("420", "422", "444-optimized", "420-restarts", "420-edges", "grey", "odd", "progressive", "cmyk", "rgb")
            .to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preprocess::Frame;

    #[test]
    fn a_jpeg_cut_anywhere_is_told_and_a_whole_one_is_not() {
        let rgb = (0..64 * 48 * 3).map(|v: u32| (v * v / 7) as u8).collect();
        let whole = Frame::new(64, 48, rgb).unwrap().to_jpeg(90);
        assert!(!is_cut_short(&whole));
        for length in 2..whole.len() {
            assert!(is_cut_short(&whole[..length]), "{length} of {}", whole.len());
        }
        // A preview with an end marker of its own, and bytes after the end, as cameras write them.
        let preview = [&[0xff, 0xd8, 0xff, 0xe1, 0, 6, 0xff, 0xd9, 1, 2], &whole[2..], &[0; 9]].concat();
        assert!(!is_cut_short(&preview));
        assert!(is_cut_short(&preview[..preview.len() - 20]));
    }

    #[test]
    fn what_is_no_jpeg_is_left_to_the_decoder() {
        for bytes in [&b""[..], b"\xff", b"\x89PNG", b"hello, world"] {
            assert!(!is_cut_short(bytes));
        }
    }
}
