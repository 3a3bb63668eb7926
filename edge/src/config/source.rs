//! `[source]`: where frames come from.

use super::checker::{Checked, Checker};
use super::raw_source::{RawCamera, RawDevice, RawFormat, RawPipe, RawPreset, RawReplay, RawSource};
use crate::source::camera::{CameraSpec, Controls};
use crate::source::child::{Launch, redacted};
use crate::source::devices::Device;
use crate::source::live::LiveSpec;
use crate::source::pixels::PixelFormat;
use crate::source::presets::{Preset, Wanted, escaped, with_login};
use crate::source::replay::ReplaySpec;
use crate::source::stream::StreamFormat;
use salad_shared::preprocess::MAX_PIXELS;
use serde::Deserialize;
use std::time::Duration;

/// Where frames come from.
#[derive(Debug, Clone, PartialEq)]
pub enum SourceSpec {
    /// Pictures or a video on disk; something that is there.
    Replay {
        /// What to play.
        replay: ReplaySpec,
        /// Whether to wait between frames.
        pace: Pace,
    },
    /// A camera.
    Live(LiveSpec),
}

/// How a replay passes time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum Pace {
    /// As a camera would.
    Real,
    /// As quickly as frames can be scored; frame times are those of the rate.
    Fast,
}

impl SourceSpec {
    /// Frames a second.
    pub fn fps(&self) -> f64 {
        match self {
            SourceSpec::Replay { replay, .. } => replay.fps,
            SourceSpec::Live(live) => live.fps,
        }
    }

    /// Whether it is a camera.
    pub fn is_live(&self) -> bool {
        matches!(self, SourceSpec::Live(_))
    }
}

/// The three time limits of a camera, as they are written.
struct RawLimits {
    section: Section,
    fps: f64,
    frame: Option<f64>,
    start: Option<f64>,
    frozen: Option<f64>,
    /// Seconds from the start to the first frame where nothing is said.
    usual_start: f64,
}

/// The same, checked.
struct Limits {
    fps: f64,
    frame_timeout: Duration,
    start_timeout: Duration,
    frozen_after: Duration,
}

/// The names of a section's fields, for errors.
struct Section {
    fps: &'static str,
    size: &'static str,
    frame_timeout: &'static str,
    start_timeout: &'static str,
    frozen_after: &'static str,
}

const CAMERA: Section = Section {
    fps: "source.camera.fps",
    size: "source.camera.size",
    frame_timeout: "source.camera.frame_timeout_secs",
    start_timeout: "source.camera.start_timeout_secs",
    frozen_after: "source.camera.frozen_after_secs",
};

const PIPE: Section = Section {
    fps: "source.pipe.fps",
    size: "source.pipe.size",
    frame_timeout: "source.pipe.frame_timeout_secs",
    start_timeout: "source.pipe.start_timeout_secs",
    frozen_after: "source.pipe.frozen_after_secs",
};

/// Runs this program itself, also when its file has been replaced by an update.
const OWN_PROGRAM: &str = "/proc/self/exe";

impl Checker<'_> {
    pub(super) fn source(&self, raw: RawSource) -> Checked<SourceSpec> {
        match (raw.replay, raw.camera, raw.pipe) {
            (Some(replay), None, None) => self.replay(replay),
            (None, Some(camera), None) => self.local_camera(camera),
            (None, None, Some(pipe)) => self.pipe(&pipe),
            (replay, camera, pipe) => {
                let given = [("replay", replay.is_some()), ("camera", camera.is_some()), ("pipe", pipe.is_some())];
                let given: Vec<&str> = given.into_iter().filter(|(_, is)| *is).map(|(name, _)| name).collect();
                let remedy = "has to have exactly one of replay, camera and pipe".to_owned();
                Err(self.error("source", format!("{given:?}"), remedy))
            }
        }
    }

    fn replay(&self, RawReplay { path, fps, repeat, pace }: RawReplay) -> Checked<SourceSpec> {
        let path = self.complete(&path);
        if !path.exists() {
            let remedy = "not there; give a folder of images or a video".to_owned();
            self.error("source.replay.path", path.display(), remedy);
        }
        self.rate("source.replay.fps", fps)?;
        Ok(SourceSpec::Replay { replay: ReplaySpec { path, fps, repeat }, pace })
    }

    fn local_camera(&self, raw: RawCamera) -> Checked<SourceSpec> {
        let device = match raw.device {
            RawDevice::Index(index) => Ok(Device::Index(index)),
            RawDevice::Text(text) => {
                Device::parse(&text).map_err(|remedy| self.error("source.camera.device", text, remedy))
            }
        };
        let size = self.size(CAMERA.size, raw.size);
        if let Some(format @ (PixelFormat::I420 | PixelFormat::Gray8)) = raw.format {
            let remedy = "has to be yuyv, mjpeg, nv12, rgb24 or bgr24; leave it out to take the cheapest".to_owned();
            self.error("source.camera.format", format!("{format:?}").to_lowercase(), remedy);
        }
        let limits = RawLimits {
            section: CAMERA,
            fps: raw.fps,
            frame: raw.frame_timeout_secs,
            start: raw.start_timeout_secs,
            frozen: raw.frozen_after_secs,
            usual_start: 0.0,
        };
        let limits = self.limits(&limits);
        let (device, (width, height)) = (device?, size?.unwrap_or((640, 480)));
        let spec = CameraSpec {
            device: device.to_string(),
            width,
            height,
            fps: raw.fps,
            format: raw.format,
            controls: Controls {
                exposure: raw.exposure,
                gain: raw.gain,
                white_balance: raw.white_balance,
                focus: raw.focus,
            },
        };
        let json =
            serde_json::to_string(&spec).map_err(|e| self.error("source.camera", &spec.device, e.to_string()))?;
        let args = vec!["capture".into(), json.into()];
        let launch = Launch { program: OWN_PROGRAM.into(), args, package: None, secrets: Vec::new() };
        Ok(live(format!("camera {device}"), launch, StreamFormat::Packets, &limits?))
    }

    fn pipe(&self, raw: &RawPipe) -> Checked<SourceSpec> {
        let size = self.size(PIPE.size, raw.size);
        let found = size.and_then(|size| match raw.preset {
            None => self.command(raw, size),
            Some(preset) => self.preset(preset, raw, size),
        });
        let limits = self.limits(&RawLimits {
            section: PIPE,
            fps: raw.fps,
            frame: raw.frame_timeout_secs,
            start: raw.start_timeout_secs,
            frozen: raw.frozen_after_secs,
            usual_start: found.as_ref().map_or(10.0, |found| found.3),
        });
        let (name, launch, format, _) = found?;
        Ok(live(name, launch, format, &limits?))
    }

    fn command(&self, raw: &RawPipe, size: Option<(u32, u32)>) -> Checked<(String, Launch, StreamFormat, f64)> {
        let Some([program, args @ ..]) = raw.command.as_deref() else {
            let remedy = "has to be the program and its arguments, or give source.pipe.preset".to_owned();
            return Err(self.error("source.pipe.command", "(missing)", remedy));
        };
        self.only_with_preset(raw)?;
        let pixels = match raw.format {
            None | Some(RawFormat::Mjpeg) => None,
            Some(RawFormat::Ppm) => None,
            Some(RawFormat::Rgb24) => Some(PixelFormat::Rgb24),
            Some(RawFormat::Bgr24) => Some(PixelFormat::Bgr24),
            Some(RawFormat::Gray8) => Some(PixelFormat::Gray8),
            Some(RawFormat::Yuyv) => Some(PixelFormat::Yuyv),
            Some(RawFormat::Nv12) => Some(PixelFormat::Nv12),
            Some(RawFormat::I420) => Some(PixelFormat::I420),
        };
        let format = match (raw.format, pixels, size) {
            (Some(RawFormat::Ppm), ..) => StreamFormat::Ppm,
            (_, None, _) => StreamFormat::Mjpeg,
            (_, Some(format), Some((width, height))) => StreamFormat::Raw { format, width, height },
            (_, Some(_), None) => {
                let remedy = "raw frames have no size in them: give [width, height]".to_owned();
                return Err(self.error(PIPE.size, "(missing)", remedy));
            }
        };
        let args = args.iter().map(Into::into).collect();
        let launch = Launch { program: program.into(), args, package: None, secrets: Vec::new() };
        Ok((program.clone(), launch, format, 10.0))
    }

    fn preset(
        &self,
        preset: RawPreset,
        raw: &RawPipe,
        size: Option<(u32, u32)>,
    ) -> Checked<(String, Launch, StreamFormat, f64)> {
        if raw.command.is_some() || raw.format.is_some() {
            let field = if raw.command.is_some() { "source.pipe.command" } else { "source.pipe.format" };
            return Err(self.error(field, "(given)", "a preset brings its own: leave it out".to_owned()));
        }
        let mut secrets = Vec::new();
        let (name, preset) = match preset {
            RawPreset::Rtsp => {
                let url = self.url(raw, &["rtsp://", "rtsps://"], &mut secrets)?;
                (redacted(&url, &secrets), Preset::Rtsp { url })
            }
            RawPreset::Http => {
                let url = self.url(raw, &["http://", "https://"], &mut secrets)?;
                (redacted(&url, &secrets), Preset::Http { url })
            }
            RawPreset::RaspberryPi | RawPreset::Jetson => {
                if raw.url.is_some() || raw.user.is_some() || raw.password_file.is_some() {
                    let remedy =
                        "this preset is a camera on the board: leave url, user and password_file out".to_owned();
                    return Err(self.error("source.pipe.url", "(given)", remedy));
                }
                let sensor = raw.sensor.unwrap_or(0);
                match preset {
                    RawPreset::Jetson => (format!("Jetson camera {sensor}"), Preset::Jetson { sensor }),
                    _ => (format!("Raspberry Pi camera {sensor}"), Preset::RaspberryPi { sensor }),
                }
            }
        };
        self.rate(PIPE.fps, raw.fps)?;
        let (launch, format) = preset.launch(Wanted { size, fps: raw.fps }, secrets);
        Ok((name, launch, format, if preset.is_remote() { 15.0 } else { 10.0 }))
    }

    fn only_with_preset(&self, raw: &RawPipe) -> Checked<()> {
        let given = [
            ("source.pipe.url", raw.url.is_some()),
            ("source.pipe.user", raw.user.is_some()),
            ("source.pipe.password_file", raw.password_file.is_some()),
            ("source.pipe.sensor", raw.sensor.is_some()),
        ];
        match given.into_iter().find(|(_, given)| *given) {
            Some((field, _)) => {
                Err(self.error(field, "(given)", "belongs to a preset; give source.pipe.preset".to_owned()))
            }
            None => Ok(()),
        }
    }

    /// The address with the login in it; what must not be told goes to `secrets`.
    fn url(&self, raw: &RawPipe, schemes: &[&str], secrets: &mut Vec<String>) -> Checked<String> {
        let url = raw.url.clone().unwrap_or_default();
        if !schemes.iter().any(|scheme| url.len() > scheme.len() && url.starts_with(scheme)) {
            let remedy = format!("has to begin with {}", schemes.join(" or "));
            return Err(self.error("source.pipe.url", redacted(&url, &[]), remedy));
        }
        let (_, rest) = url.split_once("://").unwrap_or_default();
        self.warn_of_login("source.pipe.url", &url, "give user and password_file");
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        // What ffmpeg repeats of the query is not to be told either.
        secrets.extend((!query.is_empty()).then(|| query.to_owned()));
        if path.find('/') < path.rfind('@') && path.contains('/') {
            let remedy = "has an @ after its first /: write a / in a password as %2F, or give user and password_file";
            return Err(self.error("source.pipe.url", redacted(&url, secrets), remedy.to_owned()));
        }
        if let Some((login, _)) = path.split('/').next().and_then(|host| host.rsplit_once('@')) {
            secrets.extend(login.split_once(':').map(|(_, password)| password.to_owned()));
            if raw.user.is_some() {
                let remedy = "the address has a user in it already: keep one of the two".to_owned();
                return Err(self.error("source.pipe.user", "(given)", remedy));
            }
        }
        match (&raw.user, &raw.password_file) {
            (None, None) => Ok(url),
            (Some(user), file) => {
                let password = match file {
                    Some(file) => {
                        self.warn_of_readers("source.pipe.password_file", file);
                        let file = self.complete(file);
                        let text = std::fs::read_to_string(&file);
                        let failed = |e| self.error("source.pipe.password_file", file.display(), format!("{e}"));
                        text.map_err(failed)?.trim_end_matches(['\n', '\r']).to_owned()
                    }
                    None => String::new(),
                };
                secrets.extend([password.clone(), escaped(&password)]);
                Ok(with_login(&url, user, &password))
            }
            (None, Some(_)) => {
                let remedy = "a password needs a user: give source.pipe.user".to_owned();
                Err(self.error("source.pipe.password_file", "(given)", remedy))
            }
        }
    }

    fn limits(&self, raw: &RawLimits) -> Checked<Limits> {
        self.rate(raw.section.fps, raw.fps)?;
        // At a slow rate silence is normal for longer.
        let frame_timeout = raw.frame.unwrap_or((3.0 / raw.fps).max(5.0));
        let start_timeout = raw.start.unwrap_or(frame_timeout.max(raw.usual_start));
        let frozen_after = raw.frozen.unwrap_or((10.0 / raw.fps).max(30.0));
        for (field, secs) in [(raw.section.frame_timeout, frame_timeout), (raw.section.start_timeout, start_timeout)] {
            if secs * raw.fps < 1.0 || secs <= 0.0 {
                self.error(field, secs, format!("has to be longer than a frame's time, {:.3}", 1.0 / raw.fps));
            }
        }
        let frozen_after = self.duration(raw.section.frozen_after, frozen_after);
        let start_timeout = self.duration(raw.section.start_timeout, start_timeout);
        let frame_timeout = self.duration(raw.section.frame_timeout, frame_timeout)?;
        Ok(Limits { fps: raw.fps, frame_timeout, start_timeout: start_timeout?, frozen_after: frozen_after? })
    }

    fn size(&self, field: &'static str, size: Option<[u32; 2]>) -> Checked<Option<(u32, u32)>> {
        let Some([width, height]) = size else { return Ok(None) };
        if width == 0 || height == 0 || u64::from(width) * u64::from(height) > MAX_PIXELS {
            let remedy = format!("has to be [width, height], at most {MAX_PIXELS} pixels");
            return Err(self.error(field, format!("[{width}, {height}]"), remedy));
        }
        Ok(Some((width, height)))
    }

    fn rate(&self, field: &'static str, fps: f64) -> Checked<()> {
        if (0.001..=1000.0).contains(&fps) {
            return Ok(());
        }
        Err(self.error(field, fps, "has to be from 0.001 to 1000".to_owned()))
    }
}

fn live(name: String, launch: Launch, format: StreamFormat, limits: &Limits) -> SourceSpec {
    let &Limits { fps, frame_timeout, start_timeout, frozen_after } = limits;
    let frozen_after = (frozen_after > Duration::ZERO).then_some(frozen_after);
    SourceSpec::Live(LiveSpec { name, launch, format, fps, start_timeout, frame_timeout, frozen_after })
}

#[cfg(test)]
mod tests {
    use super::super::CameraConfig;
    use super::*;
    use crate::source::camera::Setting;
    use std::ffi::OsString;

    fn source(text: &str) -> Result<SourceSpec, String> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("password"), "geh:eim@/\n").unwrap();
        let path = dir.path().join("edge.toml");
        std::fs::write(&path, format!("[source]\n{text}\n")).unwrap();
        CameraConfig::read(&path).map(|camera| camera.source).map_err(|e| e.to_string())
    }

    fn live(text: &str) -> LiveSpec {
        match source(text).unwrap() {
            SourceSpec::Live(live) => live,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_camera_is_captured_by_a_child_of_our_own() {
        let spec = live("camera = { device = 0, exposure = 150, white_balance = \"auto\" }");
        assert_eq!((spec.launch.program, spec.format), (OsString::from("/proc/self/exe"), StreamFormat::Packets));
        let json = spec.launch.args[1].to_str().unwrap();
        let camera: CameraSpec = serde_json::from_str(json).unwrap();
        assert_eq!((camera.device.as_str(), camera.width, camera.height, camera.fps), ("0", 640, 480, 5.0));
        assert_eq!(camera.controls.exposure, Some(Setting::Value(150)));
        let seconds = [spec.frame_timeout, spec.start_timeout, spec.frozen_after.unwrap()].map(|d| d.as_secs());
        assert_eq!(seconds, [5, 5, 30]);
        let slow = live("camera = { device = \"name:HD\", fps = 0.1, frozen_after_secs = 0 }");
        assert_eq!((slow.frame_timeout.as_secs(), slow.frozen_after), (30, None));
    }

    #[test]
    fn a_command_is_taken_as_it_is() {
        let spec = live("pipe = { command = [\"my cam\", \"-x\", \"$(id)\"] }");
        assert_eq!(spec.launch.args, ["-x", "$(id)"].map(OsString::from));
        assert_eq!((spec.launch.program, spec.format), ("my cam".into(), StreamFormat::Mjpeg));
        let spec = live("pipe = { command = [\"c\"], format = \"nv12\", size = [64, 48] }");
        assert_eq!(spec.format, StreamFormat::Raw { format: PixelFormat::Nv12, width: 64, height: 48 });
        assert_eq!(live("pipe = { command = [\"c\"], format = \"ppm\" }").format, StreamFormat::Ppm);
    }

    #[test]
    fn a_password_goes_to_the_program_and_nowhere_else() {
        let spec = live(
            "pipe = { preset = \"rtsp\", url = \"rtsp://10.0.0.7/a\", user = \"me\", password_file = \"password\" }",
        );
        assert!(spec.launch.args.contains(&"rtsp://me:geh%3Aeim%40%2F@10.0.0.7/a".into()));
        assert_eq!(spec.name, "rtsp://10.0.0.7/a");
        for words in ["401 for rtsp://me:geh%3Aeim%40%2F@10.0.0.7/a", "with geh:eim@/", "with geh%3Aeim%40%2F"] {
            let clean = redacted(words, &spec.launch.secrets);
            assert!(!clean.contains("geh"), "{clean}");
        }
        let spec = live("pipe = { preset = \"http\", url = \"http://h/video?pwd=geheim\" }");
        assert_eq!(spec.name, "http://h/video");
        assert_eq!(redacted("no /video?pwd=geheim there", &spec.launch.secrets), "no /video?*** there");
        let spec = live("pipe = { preset = \"http\", url = \"http://u:secret@h/video\" }");
        assert_eq!(
            (spec.name.as_str(), spec.launch.secrets.as_slice()),
            ("http://h/video", &["secret".to_owned()][..])
        );
    }

    #[test]
    fn what_does_not_fit_together_is_refused_with_a_remedy() {
        for (text, expected) in [
            ("", "exactly one of replay, camera and pipe"),
            ("camera = { device = 0 }\npipe = { command = [\"a\"] }", "source = [\"camera\", \"pipe\"]"),
            ("camera = { device = \"webcam\" }", "source.camera.device = webcam: has to be a number"),
            ("camera = { device = 0, size = [0, 480] }", "source.camera.size = [0, 480]"),
            ("camera = { device = 0, fps = 0 }", "source.camera.fps = 0"),
            ("camera = { device = 0, format = \"gray8\" }", "source.camera.format = gray8"),
            ("camera = { device = 0, fps = 1, frame_timeout_secs = 0.5 }", "longer than a frame's time"),
            ("camera = { device = 0, frozen_after_secs = -1 }", "source.camera.frozen_after_secs = -1"),
            ("camera = { device = 0, exposure = \"manual\" }", "edge.toml:2"),
            ("pipe = { fps = 5 }", "source.pipe.command = (missing)"),
            ("pipe = { command = [] }", "source.pipe.command = (missing)"),
            ("pipe = { command = [\"a\"], format = \"rgb24\" }", "source.pipe.size = (missing)"),
            ("pipe = { command = [\"a\"], url = \"rtsp://h/\" }", "source.pipe.url"),
            ("pipe = { preset = \"rtsp\" }", "has to begin with rtsp:// or rtsps://"),
            ("pipe = { preset = \"http\", url = \"file:///etc/passwd\" }", "has to begin with http://"),
            ("pipe = { preset = \"rtsp\", url = \"rtsp://h/\", command = [\"a\"] }", "a preset brings its own"),
            (
                "pipe = { preset = \"rtsp\", url = \"rtsp://h/\", password_file = \"password\" }",
                "a password needs a user",
            ),
            ("pipe = { preset = \"rtsp\", url = \"rtsp://h/\", user = \"u\", password_file = \"no\" }", "No such file"),
            ("pipe = { preset = \"rtsp\", url = \"rtsp://a:b@h/\", user = \"u\" }", "keep one of the two"),
            ("pipe = { preset = \"jetson\", url = \"rtsp://h/\" }", "leave url"),
            ("pipe = { preset = \"telepathy\" }", "raspberry-pi"),
            ("pipe = { preset = \"rtsp\", url = \"rtsp://m:a:b/c@h/\" }", "as %2F"),
            (
                "pipe = { preset = \"rtsp\", urll = \"rtsp://m:a:b@h/\" }",
                "edge.toml:2: `pipe = { preset = \"rtsp\", urll",
            ),
            ("pipe = \"rtsp://m:a:b@h/?pwd=a:b\"", "invalid type"),
        ] {
            let error = source(text).unwrap_err();
            assert!(error.contains(expected) && error.contains("edge.toml"), "{text}: {error}");
            assert!(!error.contains("a:b"), "{error}");
        }
    }
}
