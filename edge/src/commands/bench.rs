//! `salad-edge bench`: how fast a model is on this device.

use super::unless_broken_pipe;
use crate::decision::{Decision, DecisionParams};
use crate::encoder::EncoderError;
use crate::model::{FormChoice, Model, ModelError};
use crate::scorer::Stages;
use crate::source::files::read_image_bytes;
use salad_shared::bundle::Bundle;
use salad_shared::manifest::Form;
use salad_shared::preprocess::{Frame, FrameError};
use serde::Serialize;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{fs, thread};

/// The made-up picture's size.
const SIZE: (u32, u32) = (640, 480);

/// Frames before it counts: caches and tables that are made when they are first used.
const WARM_UP: usize = 3;

/// Above this share of a frame's time, other work on the device will make it late.
const BUSY: f64 = 0.7;

/// Why nothing could be timed.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The bundle cannot be used.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A frame could not be scored.
    #[error(transparent)]
    Encoder(#[from] EncoderError),
    /// The picture cannot be read.
    #[error("{}: {problem}", path.display())]
    Picture {
        /// The picture.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The output cannot be written.
    #[error("standard output: {0}")]
    Output(#[from] io::Error),
}

/// What to time.
#[derive(Debug, Clone)]
pub struct BenchOptions {
    /// The bundle.
    pub bundle: PathBuf,
    /// A JPEG; `None` for a made-up one.
    pub picture: Option<PathBuf>,
    /// How long to time each form, seconds.
    pub seconds: u32,
    /// Frames a second that are wanted.
    pub rate: f64,
    /// As one JSON object.
    pub json: bool,
}

/// What was found.
#[derive(Debug, Serialize)]
struct Report {
    model: String,
    picture: String,
    prototypes: usize,
    processors: usize,
    wanted_rate: f64,
    forms: Vec<FormReport>,
    peak_resident_mb: Option<f64>,
    heat: Vec<Sensor>,
    throttled: Option<String>,
}

/// Medians, milliseconds.
#[derive(Debug, Serialize)]
struct FormReport {
    form: Form,
    engine: &'static str,
    frames: usize,
    load: f64,
    decode: f64,
    resize: f64,
    encode: f64,
    search: f64,
    decide: f64,
    frame: f64,
    /// One frame in a hundred took longer.
    slow_frame: f64,
    frames_per_second: f64,
    /// Share of one processor that the wanted rate takes.
    share: f64,
    /// Whether the wanted rate is reached.
    reached: bool,
}

/// A temperature, degrees Celsius.
#[derive(Debug, Serialize)]
struct Sensor {
    name: String,
    before: f64,
    after: f64,
}

/// Times both forms of a bundle and prints what came of it.
pub fn bench(options: &BenchOptions, out: &mut dyn Write) -> Result<(), BenchError> {
    let path = &options.bundle;
    let bundle = Bundle::read(path).map_err(ModelError::from)?;
    let (jpeg, picture) = picture(options.picture.as_deref())?;
    let before = temperatures();
    let mut forms = Vec::new();
    for choice in [FormChoice::F32, FormChoice::Int8] {
        let start = Instant::now();
        let model =
            Model::load(&bundle, choice).map_err(|source| ModelError::Encoder { path: path.clone(), source })?;
        let load = start.elapsed();
        forms.push(time(&model, load, &jpeg, options)?);
    }
    let after = temperatures();
    let heat = before.into_iter().zip(after);
    let report = Report {
        model: bundle.manifest.name.clone(),
        picture,
        prototypes: bundle.manifest.bank.prototypes as usize,
        processors: thread::available_parallelism().map_or(1, usize::from),
        wanted_rate: options.rate,
        forms,
        peak_resident_mb: peak_resident_mb(),
        heat: heat.map(|((name, before), (_, after))| Sensor { name, before, after }).collect(),
        throttled: throttled(Path::new("/sys")),
    };
    let text = if options.json {
        serde_json::to_string_pretty(&report).map_err(io::Error::from)? + "\n"
    } else {
        report.as_text()
    };
    Ok(unless_broken_pipe(out.write_all(text.as_bytes()).and_then(|()| out.flush()))?)
}

/// The picture's bytes, and what it is.
fn picture(path: Option<&Path>) -> Result<(Vec<u8>, String), BenchError> {
    let problem = |path: &Path, problem: String| BenchError::Picture { path: path.into(), problem };
    if let Some(path) = path {
        let bytes = read_image_bytes(path).map_err(|e| problem(path, e))?;
        let frame = Frame::decode(&bytes).map_err(|e| problem(path, e.to_string()))?;
        return Ok((bytes, format!("{}, {} x {}", path.display(), frame.width(), frame.height())));
    }
    let (width, height) = SIZE;
    // Some detail, as a camera's picture has: shades, edges and noise.
    let pixel = |x: u32, y: u32| {
        let noise = (x * 7919 + y * 104_729) % 17;
        [
            (x / 4 + noise) as u8,
            (y / 3 + noise) as u8,
            if (x / 40 + y / 40).is_multiple_of(2) { 200 } else { 60 + noise as u8 },
        ]
    };
    let rgb = (0..height).flat_map(|y| (0..width).flat_map(move |x| pixel(x, y))).collect();
    let frame = Frame::new(width, height, rgb).map_err(|e| problem(Path::new("a made-up picture"), e.to_string()))?;
    Ok((frame.to_jpeg(85), format!("made up, {width} x {height}")))
}

/// Works on one frame after the other, for as long as is asked for. `load` is how long it took to load the model.
fn time(model: &Model, load: Duration, jpeg: &[u8], options: &BenchOptions) -> Result<FormReport, BenchError> {
    let at_least = Duration::from_secs(options.seconds.into());
    let mut scorer = model.scorer()?;
    let mut decoder = scorer.decoder();
    let second = Duration::from_secs(1);
    let mut decision = Decision::new(DecisionParams {
        threshold: model.threshold,
        release_threshold: model.threshold,
        window_frames: 5,
        trigger_frames: 3,
        cooldown: second,
        update_interval: second,
        max_gap: second,
    });
    let mut times: [Vec<Duration>; 6] = Default::default();
    let start = Instant::now();
    for frame in 0.. {
        let begun = Instant::now();
        let problem = |e: FrameError| BenchError::Picture { path: "the picture".into(), problem: e.to_string() };
        let picture = decoder.decode(jpeg).map_err(problem)?.frame;
        let decoded = Instant::now();
        let Stages { resize, encode, search } = scorer.timed(&picture)?;
        let scored = Instant::now();
        decision.step(scorer.last().score, start.elapsed());
        let parts = [decoded - begun, resize, encode, search, scored.elapsed(), begun.elapsed()];
        if frame >= WARM_UP {
            times.iter_mut().zip(parts).for_each(|(times, part)| times.push(part));
        }
        if frame > WARM_UP && start.elapsed() >= at_least {
            break;
        }
    }
    times.iter_mut().for_each(|times| times.sort_unstable());
    let at = |stage: usize, share: f64| {
        let times = &times[stage];
        times.get((times.len() as f64 * share) as usize).copied().map_or(0.0, ms)
    };
    let [decode, resize, encode, search, decide, frame] = [0, 1, 2, 3, 4, 5].map(|stage| at(stage, 0.5));
    let frames_per_second = 1e3 / frame;
    Ok(FormReport {
        form: model.form,
        engine: model.engine(),
        frames: times[0].len(),
        load: ms(load),
        decode,
        resize,
        encode,
        search,
        decide,
        frame,
        slow_frame: at(5, 0.99),
        frames_per_second,
        share: options.rate / frames_per_second,
        reached: options.rate <= frames_per_second,
    })
}

impl Report {
    fn as_text(&self) -> String {
        let mut text = format!(
            "{}: {} prototypes; picture: {}; {} processors, one thread\n\n{:<26}",
            self.model, self.prototypes, self.picture, self.processors, "milliseconds, median"
        );
        self.forms.iter().for_each(|form| text += &format!("{:>14}", form.form.to_string()));
        let mut row = |name: &str, value: &dyn Fn(&FormReport) -> String| {
            text += &format!("\n{name:<26}");
            self.forms.iter().for_each(|form| text += &format!("{:>14}", value(form)));
        };
        row("run by", &|form| form.engine.to_owned());
        row("load the model", &|form| format!("{:.1}", form.load));
        row("decode the picture", &|form| format!("{:.3}", form.decode));
        row("resize", &|form| format!("{:.3}", form.resize));
        row("encode", &|form| format!("{:.3}", form.encode));
        row("search the prototypes", &|form| format!("{:.3}", form.search));
        row("decide", &|form| format!("{:.3}", form.decide));
        row("a frame, all of it", &|form| format!("{:.3}", form.frame));
        row("one in a hundred, above", &|form| format!("{:.3}", form.slow_frame));
        row("frames a second", &|form| format!("{:.1}", form.frames_per_second));
        text += "\n\n";
        if let Some(mb) = self.peak_resident_mb {
            text += &format!("memory: at most {mb:.0} MB resident, with both forms\n");
        }
        for Sensor { name, before, after } in &self.heat {
            text += &format!("temperature: {name} {before:.0} C, afterwards {after:.0} C\n");
        }
        text += &format!("throttled: {}\n", self.throttled.as_deref().unwrap_or("this device does not tell"));
        for form in &self.forms {
            let verdict = match form.share {
                share if share <= BUSY => "is reached",
                _ if form.reached => "is reached, with little to spare",
                _ => "is not reached: lower it, or take a smaller network or picture",
            };
            text += &format!(
                "{}: {} frames a second {verdict} ({:.1} % of one processor)\n",
                form.form,
                self.wanted_rate,
                form.share * 100.0
            );
        }
        text
    }
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// The most memory this process has had resident, where Linux tells.
fn peak_resident_mb() -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.split_whitespace().next()?.parse::<f64>().ok()? / 1e3)
}

/// Each of the device's sensors with its temperature, degrees Celsius.
fn temperatures() -> Vec<(String, f64)> {
    let Ok(zones) = fs::read_dir("/sys/class/thermal") else { return Vec::new() };
    let sensor = |zone: PathBuf| {
        let read = |file: &str| fs::read_to_string(zone.join(file)).ok().map(|text| text.trim().to_owned());
        Some((read("type")?, read("temp")?.parse::<f64>().ok()? / 1e3))
    };
    let mut sensors: Vec<(String, f64)> = zones.flatten().filter_map(|zone| sensor(zone.path())).collect();
    sensors.sort_by(|a, b| a.0.cmp(&b.0));
    sensors
}

/// What holds the processor back: what a Raspberry Pi's firmware says of heat and of the supply's voltage since it was
/// started, or whether Linux has lowered a clock to cool it. `sys` is where Linux tells, `/sys`.
fn throttled(sys: &Path) -> Option<String> {
    let firmware = folders(&sys.join("devices/platform"))
        .into_iter()
        .filter(|folder| name(folder).starts_with("soc"))
        .flat_map(|soc| folders(&soc))
        .filter(|folder| name(folder).ends_with(":firmware"))
        .find_map(|folder| fs::read_to_string(folder.join("get_throttled")).ok());
    if let Some(text) = firmware {
        return firmware_says(&text);
    }
    let cooling = folders(&sys.join("class/thermal")).into_iter().filter_map(|device| {
        let read = |file: &str| fs::read_to_string(device.join(file)).ok().map(|text| text.trim().to_owned());
        let kind = read("type").filter(|kind| kind.contains("cpufreq"))?;
        Some((kind, read("cur_state")?.parse::<u32>().ok()?))
    });
    let mut cooling: Vec<(String, u32)> = cooling.collect();
    cooling.sort_unstable();
    let limited: Vec<&str> = cooling.iter().filter(|(_, state)| *state > 0).map(|(kind, _)| kind.as_str()).collect();
    match (cooling.is_empty(), limited.is_empty()) {
        (true, _) => None,
        (false, true) => Some("no".to_owned()),
        (false, false) => Some(format!("the clock is limited to cool the device ({})", limited.join(", "))),
    }
}

/// What the bits of a Raspberry Pi's firmware mean.
fn firmware_says(text: &str) -> Option<String> {
    let bits = u32::from_str_radix(text.trim().trim_start_matches("0x"), 16).ok()?;
    let known = [
        (0, "the voltage is too low"),
        (1, "the clock is limited"),
        (2, "throttled now"),
        (3, "too warm now"),
        (16, "the voltage was too low"),
        (17, "the clock was limited"),
        (18, "was throttled"),
        (19, "was too warm"),
    ];
    let said: Vec<&str> = known.iter().filter(|(bit, _)| bits >> bit & 1 == 1).map(|(_, words)| *words).collect();
    Some(if said.is_empty() { "no".to_owned() } else { said.join(", ") })
}

/// What lies in a folder.
fn folders(path: &Path) -> Vec<PathBuf> {
    fs::read_dir(path).map(|entries| entries.flatten().map(|entry| entry.path()).collect()).unwrap_or_default()
}

fn name(path: &Path) -> std::borrow::Cow<'_, str> {
    path.file_name().unwrap_or_default().to_string_lossy()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::support;

    #[test]
    fn both_forms_are_timed_stage_by_stage() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tiny.salad");
        support::bundle().write(&path).unwrap();
        let options = BenchOptions { bundle: path, picture: None, seconds: 1, rate: 0.5, json: true };
        let mut out = Vec::new();
        bench(&options, &mut out).unwrap();
        let report: serde_json::Value = serde_json::from_slice(&out).unwrap();
        let forms = report["forms"].as_array().unwrap();
        assert_eq!(forms.iter().map(|f| f["form"].as_str().unwrap()).collect::<Vec<_>>(), ["f32", "int8"]);
        for form in forms {
            let value = |name: &str| form[name].as_f64().unwrap();
            let parts: f64 = ["decode", "resize", "encode", "search", "decide"].map(value).iter().sum();
            assert!(parts <= value("slow_frame") && value("frame") <= value("slow_frame"), "{form}");
            assert!((value("frames_per_second") * value("frame") - 1e3).abs() < 1e-6);
            assert_eq!(form["reached"], value("share") <= 1.0);
        }
        let mut out = Vec::new();
        bench(&BenchOptions { json: false, rate: 1e9, ..options.clone() }, &mut out).unwrap();
        assert!(String::from_utf8(out).unwrap().contains("int8: 1000000000 frames a second is not reached"));
        let error = bench(&BenchOptions { picture: Some("none.jpg".into()), ..options }, &mut Vec::new()).unwrap_err();
        assert!(error.to_string().starts_with("none.jpg: "), "{error}");
    }
    #[test]
    fn a_device_tells_what_holds_it_back_or_that_it_does_not() {
        let said = |files: &[(&str, &str)]| {
            let sys = tempfile::tempdir().unwrap();
            for (file, text) in files {
                let path = sys.path().join(file);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            }
            throttled(sys.path())
        };
        assert_eq!(said(&[]), None);
        for soc in ["soc/soc:firmware", "soc@107c000000/soc@107c000000:firmware"] {
            let file = format!("devices/platform/{soc}/get_throttled");
            assert_eq!(said(&[(&file, "0\n")]).unwrap(), "no");
            assert_eq!(
                said(&[(&file, "50005\n")]).unwrap(),
                "the voltage is too low, throttled now, the voltage was too low, was throttled"
            );
        }
        let cooler = |kind: &'static str, state: &'static str| {
            [("class/thermal/cooling_device0/type", kind), ("class/thermal/cooling_device0/cur_state", state)]
        };
        assert_eq!(said(&cooler("pwm-fan", "3")), None);
        assert_eq!(said(&cooler("cpufreq-cpu0", "0")).unwrap(), "no");
        let limited = "the clock is limited to cool the device (cpufreq-cpu0)";
        assert_eq!(said(&cooler("cpufreq-cpu0", "2")).unwrap(), limited);
    }
}
