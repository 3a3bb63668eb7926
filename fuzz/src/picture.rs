//! Fuzz target: whatever the bytes are, decoding a picture for a score does not panic, and gives the size it should.
#![no_main]

use libfuzzer_sys::fuzz_target;
use salad_shared::decoder::Decoder;

/// Of larger pictures only the head is looked at: decoding them is slow with this instrumentation, and no other code.
const MOST_PIXELS: u64 = 1 << 20;

fuzz_target!(|bytes: &[u8]| {
    if head_says(bytes).is_some_and(|pixels| pixels > MOST_PIXELS) {
        return;
    }
    if let Ok(decoded) = Decoder::covering(96, 96).decode(bytes) {
        let ((width, height), frame) = (decoded.size, decoded.frame);
        assert!(frame.width() <= width && frame.height() <= height, "no picture grows");
        assert_eq!(frame.rgb().len(), frame.width() as usize * frame.height() as usize * 3);
    }
});

/// The pixels of the first frame header in it.
fn head_says(bytes: &[u8]) -> Option<u64> {
    let at = bytes.windows(2).position(|pair| pair == [0xff, 0xc0])?;
    let size = bytes.get(at + 5..at + 9)?;
    let side = |i: usize| u64::from(u16::from_be_bytes([size[i], size[i + 1]]));
    Some(side(0) * side(2))
}
