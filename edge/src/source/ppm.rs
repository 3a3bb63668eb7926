//! Binary PPM, raw RGB bytes behind a header with the size, which is what ffmpeg children write: no second program has to be
//! asked for the size, a change of it is followed, and a lost byte cannot shift the picture unnoticed.

use salad_shared::preprocess::{Frame, MAX_PIXELS};
use std::io::{BufRead, Read};

/// One binary PPM of 8 bits a channel, as ffmpeg writes it; `None` at the end of the stream.
pub fn read_ppm(stream: &mut impl BufRead) -> Result<Option<Frame>, String> {
    if stream.fill_buf().map_err(|e| e.to_string())?.is_empty() {
        return Ok(None);
    }
    let mut line = || -> Result<String, String> {
        let mut line = String::new();
        Read::take(&mut *stream, 32).read_line(&mut line).map_err(|e| e.to_string())?;
        line.pop().filter(|&c| c == '\n').map(|_| line).ok_or_else(|| "its output is cut off in a header".to_owned())
    };
    let (magic, size, depth) = (line()?, line()?, line()?);
    let sides = size.split_once(' ').and_then(|(w, h)| Some((w.parse::<u32>().ok()?, h.parse::<u32>().ok()?)));
    let (Some((width, height)), "P6", "255") = (sides, magic.as_str(), depth.as_str()) else {
        return Err(format!("its output is no RGB picture ({magic:?} {size:?} {depth:?})"));
    };
    let pixels = u64::from(width) * u64::from(height);
    if pixels > MAX_PIXELS {
        return Err(format!("{width} x {height} pixels: more than {MAX_PIXELS}"));
    }
    let mut rgb = vec![0; pixels as usize * 3];
    stream.read_exact(&mut rgb).map_err(|_| "its output is cut off in a picture".to_owned())?;
    Frame::new(width, height, rgb).map(Some).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_that_is_no_ppm_or_cut_off_is_an_error() {
        let mut whole: &[u8] = b"P6\n1 2\n255\nabcdef";
        assert_eq!(read_ppm(&mut whole).unwrap().unwrap().rgb(), b"abcdef");
        assert!(read_ppm(&mut whole).unwrap().is_none());
        for broken in [
            "P5\n1 2\n255\nabcdef",
            "P6\n1 2\n65535\nabcdef",
            "P6\n1 2\n255\nabcde",
            "P6\n1 2",
            "P6\n0 2\n255\n",
            "P6\n1\n255\nabcdef",
            "P6\n999999 999999\n255\nabcdef",
        ] {
            assert!(read_ppm(&mut broken.as_bytes()).is_err(), "{broken:?}");
        }
        assert!(read_ppm(&mut [b'9'; 100].as_slice()).is_err());
    }
}
