//! `salad-edge cameras`: the local cameras with their names, formats, sizes, rates and controls.

use super::unless_broken_pipe;
use crate::source::camera::{ListedControl, Mode, controls, modes, open};
use crate::source::devices::{Node, nodes};
use serde::Serialize;
use std::io::{self, Write};

/// A camera, as it is listed.
#[derive(Debug, Serialize)]
struct Listed {
    device: String,
    name: String,
    /// udev's names, each of which `id:NAME` chooses.
    ids: Vec<String>,
    modes: Vec<Mode>,
    controls: Vec<ListedControl>,
    /// Why there are no modes.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

/// Lists what there is to `out`, as text or as one JSON array.
pub fn cameras(json: bool, out: &mut dyn Write) -> io::Result<()> {
    let listed: Vec<Listed> = nodes().into_iter().map(list).collect();
    unless_broken_pipe(if json { print_json(&listed, out) } else { print(&listed, out) })
}

fn list(node: Node) -> Listed {
    let Node { index, name, ids } = node;
    let (modes, controls, problem) = match open(index) {
        Ok(mut camera) => (modes(&mut camera), controls(&camera), None),
        Err(error) => (Vec::new(), Vec::new(), Some(error.to_string())),
    };
    Listed { device: format!("/dev/video{index}"), name, ids, modes: sorted(modes), controls, problem }
}

/// By format, then the largest and the fastest first.
fn sorted(mut modes: Vec<Mode>) -> Vec<Mode> {
    let key =
        |m: &Mode| (m.format.cost(), std::cmp::Reverse((u64::from(m.width) * u64::from(m.height), m.width, m.fps)));
    modes.sort_by_key(key);
    modes.dedup();
    modes
}

fn print_json(listed: &[Listed], out: &mut dyn Write) -> io::Result<()> {
    serde_json::to_writer(&mut *out, listed)?;
    out.write_all(b"\n")
}

fn print(listed: &[Listed], out: &mut dyn Write) -> io::Result<()> {
    if listed.is_empty() {
        return writeln!(
            out,
            "no camera found; a Raspberry Pi's or Jetson's own camera and network cameras are read by source.pipe instead"
        );
    }
    for Listed { device, name, ids, modes, controls, problem } in listed {
        writeln!(out, "{device}  {name}")?;
        for id in ids {
            writeln!(out, "  id:{id}")?;
        }
        if let Some(problem) = problem {
            writeln!(out, "  {problem}")?;
        }
        for same_size in modes.chunk_by(|a, b| (a.format, a.width, a.height) == (b.format, b.width, b.height)) {
            let Mode { format, width, height, .. } = same_size[0];
            let rates: Vec<String> = same_size.iter().map(|m| m.fps.to_string()).collect();
            let format = format!("{format:?}").to_lowercase();
            writeln!(out, "  {format:<6} {width} x {height} at {} frames/s", rates.join(", "))?;
        }
        for ListedControl { name, value } in controls {
            writeln!(out, "  control {name}: {value}")?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::pixels::PixelFormat;

    fn mode(format: PixelFormat, width: u32, height: u32, fps: u32) -> Mode {
        Mode { format, width, height, fps }
    }

    #[test]
    fn modes_are_listed_a_size_a_line_the_largest_first() {
        let (yuyv, mjpeg) = (PixelFormat::Yuyv, PixelFormat::Mjpeg);
        let modes = [
            (mjpeg, 640, 480, 30),
            (yuyv, 320, 240, 30),
            (yuyv, 640, 480, 5),
            (yuyv, 640, 480, 30),
            (yuyv, 640, 480, 30),
        ];
        let listed = Listed {
            device: "/dev/video0".into(),
            name: "HD".into(),
            ids: vec!["usb-1".into()],
            modes: sorted(modes.map(|(f, w, h, r)| mode(f, w, h, r)).to_vec()),
            controls: vec![ListedControl { name: "Gain".into(), value: "5".into() }],
            problem: None,
        };
        let mut text = Vec::new();
        print(std::slice::from_ref(&listed), &mut text).unwrap();
        let expected = "/dev/video0  HD\n  id:usb-1\n  yuyv   640 x 480 at 30, 5 frames/s\n  yuyv   320 x 240 at 30 frames/s\n  \
                        mjpeg  640 x 480 at 30 frames/s\n  control Gain: 5\n";
        assert_eq!(String::from_utf8(text).unwrap(), expected);
        let json = serde_json::to_value(&listed).unwrap();
        assert_eq!(json["modes"][0], serde_json::json!({"format": "yuyv", "width": 640, "height": 480, "fps": 30}));
        assert!(json.get("problem").is_none());
    }

    #[test]
    fn no_camera_is_no_error_and_says_what_else_there_is() {
        let mut text = Vec::new();
        print(&[], &mut text).unwrap();
        assert!(String::from_utf8(text).unwrap().contains("source.pipe"));
    }
}
