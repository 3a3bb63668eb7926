//! `[source]` as it is written.

use super::source::Pace;
use crate::source::camera::Setting;
use crate::source::pixels::PixelFormat;
use serde::Deserialize;
use std::path::PathBuf;

/// Where frames come from: exactly one of camera, pipe and replay.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RawSource {
    /// Pictures on the disk, for a trial.
    pub replay: Option<RawReplay>,
    /// A camera that is plugged in (USB, V4L2).
    pub camera: Option<RawCamera>,
    /// Any other camera, through a program that writes pictures to its standard output.
    pub pipe: Option<RawPipe>,
}

impl RawSource {
    /// A local camera with nothing else said.
    pub fn of_device(device: &str) -> RawSource {
        let camera = RawCamera {
            device: RawDevice::Text(device.to_owned()),
            size: None,
            fps: default_fps(),
            format: None,
            exposure: None,
            gain: None,
            white_balance: None,
            focus: None,
            frame_timeout_secs: None,
            start_timeout_secs: None,
            frozen_after_secs: None,
        };
        RawSource { replay: None, camera: Some(camera), pipe: None }
    }
}

/// Pictures on the disk.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RawReplay {
    /// A folder of images, played in the order of their names, or a video.
    pub path: PathBuf,
    /// Frames a second, 0.001 to 1000.
    pub fps: f64,
    /// Start again after the last frame.
    #[serde(default, rename = "loop")]
    pub repeat: bool,
    /// `real`: a frame comes when it is due; `fast`: as quickly as frames can be scored.
    #[serde(default = "real")]
    pub pace: Pace,
}

/// A camera that is plugged in.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RawCamera {
    /// Its number, its path, `name:PART OF ITS NAME` or `id:UDEV'S NAME`; salad-edge cameras lists them.
    pub device: RawDevice,
    /// Pixels [across, down] at least ([640, 480]).
    pub size: Option<[u32; 2]>,
    /// Frames scored a second, 0.001 to 1000.
    #[serde(default = "default_fps")]
    pub fps: f64,
    /// Only this: yuyv, mjpeg, nv12, rgb24 or bgr24. Left out: the cheapest.
    pub format: Option<PixelFormat>,
    /// The camera's units to lock it to, or `auto`. Left out: as it is.
    pub exposure: Option<Setting>,
    /// The same for the gain.
    pub gain: Option<Setting>,
    /// The same for the white balance.
    pub white_balance: Option<Setting>,
    /// The same for the focus.
    pub focus: Option<Setting>,
    /// Without a frame for so long the camera is offline, seconds (5, at least 3 frames' time).
    pub frame_timeout_secs: Option<f64>,
    /// The same for the first frame (as frame_timeout_secs).
    pub start_timeout_secs: Option<f64>,
    /// When all frames have been the same to the last bit for so long, the camera is frozen, seconds; 0: never (30).
    pub frozen_after_secs: Option<f64>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum RawDevice {
    Index(u32),
    Text(String),
}

/// A camera through a program: a preset, or a command.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RawPipe {
    /// A program that is known: rtsp and http (Motion JPEG) with url; raspberry-pi and jetson for a board's own camera.
    pub preset: Option<RawPreset>,
    /// Instead of a preset: a program and its arguments, each as it is (no shell reads them).
    pub command: Option<Vec<String>>,
    /// What a command writes: mjpeg or ppm, or raw frames of size (mjpeg).
    pub format: Option<RawFormat>,
    /// The address of an rtsp or http camera.
    pub url: Option<String>,
    /// The user there.
    pub user: Option<String>,
    /// A file with the user's password.
    pub password_file: Option<PathBuf>,
    /// Which of the board's cameras (0).
    pub sensor: Option<u32>,
    /// Pixels [across, down].
    pub size: Option<[u32; 2]>,
    /// Frames scored a second, 0.001 to 1000.
    #[serde(default = "default_fps")]
    pub fps: f64,
    /// Without a frame for so long the camera is offline, seconds (5, at least 3 frames' time).
    pub frame_timeout_secs: Option<f64>,
    /// The same for the first frame (10, or 15 over a network).
    pub start_timeout_secs: Option<f64>,
    /// When all frames have been the same to the last bit for so long, the camera is frozen, seconds; 0: never (30).
    pub frozen_after_secs: Option<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum RawPreset {
    Rtsp,
    Http,
    RaspberryPi,
    Jetson,
}

#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum RawFormat {
    Mjpeg,
    Ppm,
    Rgb24,
    Bgr24,
    Gray8,
    Yuyv,
    Nv12,
    I420,
}

fn real() -> Pace {
    Pace::Real
}

fn default_fps() -> f64 {
    5.0
}
