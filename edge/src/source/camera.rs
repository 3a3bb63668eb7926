//! A local camera through nokhwa: the formats it has, the one to take, its controls, and its frames.
//!
//! This runs in a child of our own ([`capture`]), because nokhwa waits for a frame without a limit, and a driver may never
//! answer.

use super::child::WARNING;
use super::devices::Device;
use super::mjpeg::first_jpeg;
use super::pixels::PixelFormat;
use super::stream::Packet;
use jiff::Timestamp;
use nokhwa::Camera;
use nokhwa::pixel_format::RgbFormat;
use nokhwa::utils::{
    CameraControl, CameraFormat, CameraIndex, ControlValueSetter, FrameFormat, KnownCameraControl, RequestedFormat,
    RequestedFormatType, Resolution,
};
use serde::{Deserialize, Serialize};
use std::io::{self, Write};
use std::time::Duration;

/// What is wanted of a camera.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CameraSpec {
    /// Which, in the form that [`Device::parse`] reads.
    pub device: String,
    /// Pixels a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// Frames a second.
    pub fps: f64,
    /// The only format to take; `None` for the cheapest.
    pub format: Option<PixelFormat>,
    /// Settings to lock; what is left out stays as the camera has it.
    pub controls: Controls,
}

/// A camera's settings. A number is set once, and the camera's own adjustment is switched off before; `auto` switches it on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Controls {
    /// Exposure time, units of 100 microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exposure: Option<Setting>,
    /// Gain, the driver's units.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gain: Option<Setting>,
    /// White balance, kelvin.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub white_balance: Option<Setting>,
    /// Focus, the driver's units.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub focus: Option<Setting>,
}

/// One setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum Setting {
    /// Locked to a value.
    Value(i64),
    /// Left to the camera.
    Auto(Auto),
}

/// The word `auto`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum Auto {
    /// That word.
    Auto,
}

/// Why a camera gives no frames.
#[derive(Debug, thiserror::Error)]
pub enum CameraError {
    /// It is not there.
    #[error("camera {device}: {problem}")]
    Missing {
        /// What was asked for.
        device: String,
        /// What there is.
        problem: String,
    },
    /// nokhwa's words.
    #[error("/dev/video{index}: {doing}: {source}{}", busy(source))]
    Driver {
        /// The device's number.
        index: u32,
        /// What was being done.
        doing: &'static str,
        /// The words.
        source: nokhwa::NokhwaError,
    },
    /// None of its formats can be read.
    #[error("/dev/video{index}: it has no format among MJPEG, YUYV, NV12, RGB and BGR{wanted}")]
    NoFormat {
        /// The device's number.
        index: u32,
        /// What was asked for.
        wanted: String,
    },
    /// Whoever started this reads no more.
    #[error("standard output: {0}")]
    Output(#[from] io::Error),
}

/// A way a camera can send frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Mode {
    /// Layout of the pixels.
    pub format: PixelFormat,
    /// Pixels a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// Frames a second.
    pub fps: u32,
}

/// A control, as it is listed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ListedControl {
    /// The driver's name for it.
    pub name: String,
    /// Its value, range and default, in words.
    pub value: String,
}

/// Captures until the camera fails or nobody reads `out` any more. Ends the process when standard input is closed.
pub fn capture(spec: &CameraSpec, out: &mut impl Write) -> Result<(), CameraError> {
    std::thread::spawn(|| {
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
        std::process::exit(0);
    });
    let missing = |problem| CameraError::Missing { device: spec.device.clone(), problem };
    let index = Device::parse(&spec.device).and_then(|device| device.find()).map_err(missing)?;
    let failed = |doing| move |source| CameraError::Driver { index, doing, source };
    let mut camera = open(index)?;
    let mode = set_mode(&mut camera, index, spec)?;
    for warning in set_controls(&mut camera, &spec.controls) {
        // Standard error is the parent's to read; without it there is nobody to tell.
        let _ = writeln!(io::stderr(), "{WARNING}/dev/video{index}: {warning}");
    }
    camera.open_stream().map_err(failed("starting the stream"))?;
    loop {
        let buffer = camera.frame().map_err(failed("reading a frame"))?;
        let taken = buffer.capture_timestamp().and_then(since_1970);
        // The buffer is as long as the driver's memory, not as the picture in it.
        let bytes = match mode.format.bytes(mode.width, mode.height) {
            Some(length) => buffer.buffer().get(..length).map(<[u8]>::to_vec),
            None => first_jpeg(buffer.buffer()),
        };
        // What breaks off goes on as it is, for the reader to count.
        let bytes = bytes.unwrap_or_else(|| buffer.buffer().get(..4).unwrap_or_default().to_vec());
        Packet { format: mode.format, width: mode.width, height: mode.height, taken, bytes }.write(out)?;
    }
}

/// Opens a device in whatever format it has.
pub fn open(index: u32) -> Result<Camera, CameraError> {
    let any = RequestedFormat::new::<RgbFormat>(RequestedFormatType::None);
    let opened = Camera::new(CameraIndex::Index(index), any);
    opened.map_err(|source| CameraError::Driver { index, doing: "opening it", source })
}

/// All ways it can send frames that can be read here, in no order.
pub fn modes(camera: &mut Camera) -> Vec<Mode> {
    let formats = camera.compatible_camera_formats().unwrap_or_default();
    let mode = |f: &CameraFormat| {
        Some(Mode { format: pixel_format(f.format())?, width: f.width(), height: f.height(), fps: f.frame_rate() })
    };
    formats.iter().filter_map(mode).collect()
}

/// Its controls that can be changed, with their values in the driver's words.
pub fn controls(camera: &Camera) -> Vec<ListedControl> {
    let controls = camera.camera_controls().unwrap_or_default();
    let listed = |c: &CameraControl| ListedControl { name: c.name().into(), value: c.description().to_string() };
    controls.iter().filter(|c| c.active()).map(listed).collect()
}

/// Takes the best mode that the driver accepts.
fn set_mode(camera: &mut Camera, index: u32, spec: &CameraSpec) -> Result<Mode, CameraError> {
    let candidates = ranked(modes(camera), spec);
    let mut refused = None;
    for mode in candidates {
        let resolution = Resolution::new(mode.width, mode.height);
        let exact = RequestedFormatType::Exact(CameraFormat::new(resolution, frame_format(mode.format), mode.fps));
        match camera.set_camera_requset(RequestedFormat::new::<RgbFormat>(exact)) {
            Ok(_) => return Ok(mode),
            Err(source) => refused = Some(CameraError::Driver { index, doing: "setting its format", source }),
        }
    }
    let wanted = spec.format.map_or(String::new(), |f| format!("; only {f:?} was asked for in source.camera.format"));
    Err(refused.unwrap_or(CameraError::NoFormat { index, wanted }))
}

/// The modes worth trying, best first: those that reach the wanted size and rate, and of these the one with the fewest
/// pixels, then the cheapest format, then the lowest rate. Where none reaches both, the size comes before the rate.
fn ranked(mut modes: Vec<Mode>, spec: &CameraSpec) -> Vec<Mode> {
    modes.retain(|mode| spec.format.is_none_or(|format| mode.format == format));
    modes.sort_by_key(|mode| {
        let short = spec.width.saturating_sub(mode.width) + spec.height.saturating_sub(mode.height);
        // Rates are whole numbers here: 29.97 is listed as 29 by some drivers.
        let slow = (spec.fps.ceil() as u32).saturating_sub(mode.fps + 1);
        let pixels = u64::from(mode.width) * u64::from(mode.height);
        (short, slow, pixels, mode.format.cost(), mode.fps)
    });
    modes
}

/// Locks the settings; says what could not be set.
fn set_controls(camera: &mut Camera, controls: &Controls) -> Vec<String> {
    let known = camera.camera_controls().unwrap_or_default();
    let mut problems = Vec::new();
    for (name, setting, automatic, manual) in CONTROLS.map(|c| (c.name, (c.of)(controls), c.automatic, c.manual)) {
        let Some(setting) = setting else { continue };
        let mut set = |control: KnownCameraControl, value: ControlValueSetter| {
            if let Err(error) = camera.set_camera_control(control, value) {
                problems.push(format!("{name} cannot be set: {error}; salad-edge cameras lists the camera's controls"));
            }
        };
        let has = |control| known.iter().any(|c: &CameraControl| c.control() == control);
        let (switch, on, off) = automatic;
        match setting {
            Setting::Auto(_) => set(switch, on),
            Setting::Value(value) => {
                if has(switch) {
                    set(switch, off);
                }
                set(manual, ControlValueSetter::Integer(value));
            }
        }
    }
    problems
}

/// A setting, the control that hands it to the camera, with its values for on and off, and the control of its value.
struct Control {
    name: &'static str,
    of: fn(&Controls) -> Option<Setting>,
    automatic: (KnownCameraControl, ControlValueSetter, ControlValueSetter),
    manual: KnownCameraControl,
}

// The numbers are V4L2's control ids, for what nokhwa has no name for.
const CONTROLS: [Control; 4] = [
    Control {
        name: "exposure",
        of: |controls| controls.exposure,
        // A menu: 3 is automatic with priority to the aperture, which webcams have, 1 manual.
        automatic: (
            KnownCameraControl::Other(0x009a_0901),
            ControlValueSetter::Integer(3),
            ControlValueSetter::Integer(1),
        ),
        manual: KnownCameraControl::Other(0x009a_0902),
    },
    Control {
        name: "gain",
        of: |controls| controls.gain,
        automatic: (
            KnownCameraControl::Other(0x0098_0912),
            ControlValueSetter::Boolean(true),
            ControlValueSetter::Boolean(false),
        ),
        manual: KnownCameraControl::Gain,
    },
    Control {
        name: "white_balance",
        of: |controls| controls.white_balance,
        automatic: (
            KnownCameraControl::Other(0x0098_090c),
            ControlValueSetter::Boolean(true),
            ControlValueSetter::Boolean(false),
        ),
        manual: KnownCameraControl::WhiteBalance,
    },
    Control {
        name: "focus",
        of: |controls| controls.focus,
        automatic: (
            KnownCameraControl::Other(0x009a_090c),
            ControlValueSetter::Boolean(true),
            ControlValueSetter::Boolean(false),
        ),
        manual: KnownCameraControl::Other(0x009a_090a),
    },
];

/// nokhwa's grey format asks V4L2 for a code that no driver has, so it is left out.
fn pixel_format(format: FrameFormat) -> Option<PixelFormat> {
    match format {
        FrameFormat::MJPEG => Some(PixelFormat::Mjpeg),
        FrameFormat::YUYV => Some(PixelFormat::Yuyv),
        FrameFormat::NV12 => Some(PixelFormat::Nv12),
        FrameFormat::RAWRGB => Some(PixelFormat::Rgb24),
        FrameFormat::RAWBGR => Some(PixelFormat::Bgr24),
        FrameFormat::GRAY => None,
    }
}

fn frame_format(format: PixelFormat) -> FrameFormat {
    match format {
        PixelFormat::Mjpeg => FrameFormat::MJPEG,
        PixelFormat::Yuyv => FrameFormat::YUYV,
        PixelFormat::Nv12 | PixelFormat::I420 => FrameFormat::NV12,
        PixelFormat::Rgb24 => FrameFormat::RAWRGB,
        PixelFormat::Bgr24 => FrameFormat::RAWBGR,
        PixelFormat::Gray8 => FrameFormat::GRAY,
    }
}

/// nokhwa passes the number on in words alone.
fn busy(error: &nokhwa::NokhwaError) -> &'static str {
    let is_busy = error.to_string().contains("(os error 16)");
    if is_busy { "; another program reads the camera, such as the service: systemctl stop salad-edge" } else { "" }
}

fn since_1970(time: Duration) -> Option<Timestamp> {
    Timestamp::from_microsecond(i64::try_from(time.as_micros()).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(width: u32, height: u32, fps: f64) -> CameraSpec {
        CameraSpec { device: "0".into(), width, height, fps, format: None, controls: Controls::default() }
    }

    /// What a common webcam offers: raw up to a size and rate that fit USB 2, JPEG beyond.
    fn webcam() -> Vec<Mode> {
        let mode = |format, width, height, fps| Mode { format, width, height, fps };
        let (yuyv, mjpeg) = (PixelFormat::Yuyv, PixelFormat::Mjpeg);
        vec![
            mode(mjpeg, 1920, 1080, 30),
            mode(mjpeg, 640, 480, 30),
            mode(mjpeg, 640, 480, 15),
            mode(yuyv, 1920, 1080, 5),
            mode(yuyv, 640, 480, 30),
            mode(yuyv, 640, 480, 5),
            mode(yuyv, 320, 240, 30),
            mode(mjpeg, 1280, 720, 30),
            mode(yuyv, 1280, 720, 10),
        ]
    }

    #[test]
    fn the_cheapest_mode_that_is_large_and_fast_enough_is_taken() {
        for (wanted, expected) in [
            (spec(640, 480, 5.0), (PixelFormat::Yuyv, 640, 480, 5)),
            (spec(640, 480, 15.0), (PixelFormat::Yuyv, 640, 480, 30)),
            (spec(640, 480, 0.2), (PixelFormat::Yuyv, 640, 480, 5)),
            (spec(1280, 720, 15.0), (PixelFormat::Mjpeg, 1280, 720, 30)),
            (spec(1280, 720, 10.0), (PixelFormat::Yuyv, 1280, 720, 10)),
            (spec(500, 400, 5.0), (PixelFormat::Yuyv, 640, 480, 5)),
            // Nothing is as large, or as fast: the nearest there is.
            (spec(3840, 2160, 5.0), (PixelFormat::Yuyv, 1920, 1080, 5)),
            (spec(320, 240, 60.0), (PixelFormat::Yuyv, 320, 240, 30)),
            (spec(1280, 720, 60.0), (PixelFormat::Mjpeg, 1280, 720, 30)),
            (
                CameraSpec { format: Some(PixelFormat::Mjpeg), ..spec(640, 480, 5.0) },
                (PixelFormat::Mjpeg, 640, 480, 15),
            ),
        ] {
            let best = ranked(webcam(), &wanted)[0];
            assert_eq!((best.format, best.width, best.height, best.fps), expected, "{wanted:?}");
        }
        let none = CameraSpec { format: Some(PixelFormat::Nv12), ..spec(640, 480, 5.0) };
        assert!(ranked(webcam(), &none).is_empty());
    }

    #[test]
    fn a_specification_passes_through_the_childs_argument() {
        let controls = Controls {
            exposure: Some(Setting::Value(150)),
            focus: Some(Setting::Auto(Auto::Auto)),
            ..Controls::default()
        };
        let spec = CameraSpec { controls, format: Some(PixelFormat::Mjpeg), ..spec(640, 480, 7.5) };
        let text = serde_json::to_string(&spec).unwrap();
        assert!(text.contains(r#""exposure":150,"focus":"auto""#), "{text}");
        assert_eq!(serde_json::from_str::<CameraSpec>(&text).unwrap(), spec);
    }

    #[test]
    fn a_camera_that_is_not_there_is_an_error_that_says_so() {
        let error = open(4711).err().unwrap().to_string();
        assert!(error.contains("/dev/video4711: opening it"), "{error}");
    }
}
