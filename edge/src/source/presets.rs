//! Capture programs for cameras that V4L2 does not know: network streams, and the cameras of a Raspberry Pi and a Jetson.

use super::child::Launch;
use super::stream::StreamFormat;
use std::ffi::OsString;

/// A camera behind a capture program.
#[derive(Debug, Clone, PartialEq)]
pub enum Preset {
    /// `rtsp://`, by ffmpeg.
    Rtsp {
        /// The address, with user and password where it needs them.
        url: String,
    },
    /// Motion JPEG over HTTP, by ffmpeg.
    Http {
        /// The address, with user and password where it needs them.
        url: String,
    },
    /// A Raspberry Pi's own camera, by rpicam-vid.
    RaspberryPi {
        /// The camera's number.
        sensor: u32,
    },
    /// A Jetson's own camera, by GStreamer and NVIDIA's nvarguscamerasrc.
    Jetson {
        /// The camera's number.
        sensor: u32,
    },
}

/// The size and rate wanted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Wanted {
    /// Pixels a row and rows; a network camera decides itself.
    pub size: Option<(u32, u32)>,
    /// Frames a second.
    pub fps: f64,
}

impl Preset {
    /// The program with its arguments, and what it writes.
    pub fn launch(&self, wanted: Wanted, secrets: Vec<String>) -> (Launch, StreamFormat) {
        let (width, height) = wanted.size.unwrap_or((1280, 720));
        // These two take whole numbers.
        let rate = wanted.fps.ceil().max(1.0);
        let (program, package, format, args): (_, _, _, Vec<OsString>) = match self {
            Preset::Rtsp { url } => {
                // Over TCP a lost packet does not tear the picture; the rate is thinned before frames become large. "nobuffer"
                // would throw away the key frame that ffmpeg looks at first, and the next can be ten seconds off.
                let allowed = ["-protocol_whitelist", "rtsp,rtsps,rtp,rtcp,srtp,udp,tcp,tls"];
                let quick = ["-rtsp_transport", "tcp", "-flags", "low_delay", "-i", url];
                let filter = format!("fps={}", wanted.fps);
                let out = ["-map", "0:v:0", "-vf", &filter, "-f", "image2pipe", "-c:v", "ppm", "-pix_fmt", "rgb24"];
                ("ffmpeg", "ffmpeg", StreamFormat::Ppm, ffmpeg(&[&allowed[..], &quick].concat(), &out))
            }
            Preset::Http { url } => {
                // The pictures pass through as they are.
                let out = ["-map", "0:v:0", "-c:v", "copy", "-f", "mjpeg"];
                let input = ["-protocol_whitelist", "http,https,tcp,tls", "-fflags", "nobuffer", "-i", url];
                ("ffmpeg", "ffmpeg", StreamFormat::Mjpeg, ffmpeg(&input, &out))
            }
            Preset::RaspberryPi { sensor } => {
                let [sensor, width, height, rate] =
                    [sensor.to_string(), width.to_string(), height.to_string(), rate.to_string()];
                let args = ["--camera", &sensor, "--width", &width, "--height", &height, "--framerate", &rate];
                let out = ["--codec", "mjpeg", "--timeout", "0", "--nopreview", "--flush", "--output", "-"];
                ("rpicam-vid", "rpicam-apps-lite", StreamFormat::Mjpeg, words(&[&args[..], &out].concat()))
            }
            Preset::Jetson { sensor } => {
                let source = format!("sensor-id={sensor}");
                let raw = format!("video/x-raw(memory:NVMM),width={width},height={height},framerate={rate}/1");
                let args = ["-q", "nvarguscamerasrc", &source, "!", &raw, "!", "nvjpegenc", "!", "fdsink", "fd=1"];
                ("gst-launch-1.0", "gstreamer1.0-tools", StreamFormat::Mjpeg, words(&args))
            }
        };
        (Launch { program: program.into(), args, package: Some(package), secrets }, format)
    }

    /// Whether frames come over a network, where a start takes longer.
    pub fn is_remote(&self) -> bool {
        matches!(self, Preset::Rtsp { .. } | Preset::Http { .. })
    }
}

/// The address with user and password in it.
pub fn with_login(url: &str, user: &str, password: &str) -> String {
    match url.split_once("://") {
        Some((scheme, rest)) => format!("{scheme}://{}:{}@{rest}", escaped(user), escaped(password)),
        None => url.to_owned(),
    }
}

/// Whatever could mean something in an address, as a percent sign and a number.
pub fn escaped(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
    text.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

fn ffmpeg(input: &[&str], output: &[&str]) -> Vec<OsString> {
    let head = ["-nostdin", "-hide_banner", "-loglevel", "error", "-analyzeduration", "1000000"];
    words(&[&head[..], input, &["-an"], output, &["pipe:1"]].concat())
}

fn words(args: &[&str]) -> Vec<OsString> {
    args.iter().map(Into::into).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const WANTED: Wanted = Wanted { size: Some((640, 480)), fps: 2.5 };

    fn line(preset: &Preset) -> String {
        let (launch, _) = preset.launch(WANTED, vec![]);
        let args: Vec<_> = launch.args.iter().map(|a| a.to_string_lossy()).collect();
        format!("{} {}", launch.program.to_string_lossy(), args.join(" "))
    }

    #[test]
    fn an_address_is_one_argument_whatever_is_in_it() {
        let url = "rtsp://h/a b;$(reboot)' -y".to_owned();
        let (launch, format) = Preset::Rtsp { url: url.clone() }.launch(WANTED, vec![]);
        assert_eq!(format, StreamFormat::Ppm);
        let at = launch.args.iter().position(|a| a == "-i").unwrap();
        assert_eq!(launch.args[at + 1], OsString::from(url));
        assert!(launch.args.contains(&"fps=2.5".into()));
        let (_, format) = Preset::Http { url: "http://h/".into() }.launch(WANTED, vec![]);
        assert_eq!(format, StreamFormat::Mjpeg);
    }

    #[test]
    fn a_boards_own_camera_gets_number_size_and_a_whole_rate() {
        let pi = line(&Preset::RaspberryPi { sensor: 1 });
        assert!(pi.starts_with("rpicam-vid --camera 1 --width 640 --height 480 --framerate 3 --codec mjpeg"), "{pi}");
        assert!(pi.ends_with("--output -"), "{pi}");
        let jetson = line(&Preset::Jetson { sensor: 0 });
        assert!(
            jetson.contains("nvarguscamerasrc sensor-id=0 ! video/x-raw(memory:NVMM),width=640,height=480"),
            "{jetson}"
        );
    }

    #[test]
    fn user_and_password_cannot_change_the_address() {
        let url = with_login("rtsp://10.0.0.7:554/a", "a:b", "p@ss/wörd");
        assert_eq!(url, "rtsp://a%3Ab:p%40ss%2Fw%C3%B6rd@10.0.0.7:554/a");
    }
}
