//! `salad-edge check`: a configuration and everything that it names, without starting anything.

use super::{Outcome, unless_broken_pipe};
use crate::config::sinks::{SinkKind, SinkSpec};
use crate::config::source::SourceSpec;
use crate::config::{self, Config, ConfigError, Examined};
use crate::model::{FormChoice, Model};
use crate::source::camera::CameraSpec;
use crate::source::devices::Device;
use crate::source::live::LiveSpec;
use crate::store;
use rustix::fs::{Access, access};
use salad_shared::bundle::Bundle;
use serde::Serialize;
use std::fmt;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Regions that leave less of the crop than this are hardly meant.
const LITTLE: f32 = 0.05;

/// Something to say about a configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// The configuration file.
    pub file: PathBuf,
    /// The line's number, from 1 on, where it is known.
    pub line: Option<usize>,
    /// The field, with its section, where it is about one.
    pub field: Option<&'static str>,
    /// What is wrong or may not be meant, and what to do.
    pub problem: String,
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// `salad-edge run` would not start.
    Error,
    /// It would, but perhaps not do what is meant.
    Warning,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        f.write_str(if self.severity == Severity::Error { ": error: " } else { ": warning: " })?;
        if let Some(field) = self.field {
            write!(f, "{field}: ")?;
        }
        f.write_str(&self.problem)
    }
}

/// Prints all that there is to say about a configuration file: a line each, or one JSON object. Partial where something is
/// wrong.
pub fn check(path: &Path, json: bool, out: &mut dyn Write) -> io::Result<Outcome> {
    let findings = match config::read(path) {
        Ok(text) => findings(&text, path),
        Err(error) => vec![finding_of(path, &error)],
    };
    let count = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    let text = if json {
        format!("{:#}\n", serde_json::json!({"file": path, "good": errors == 0, "findings": findings}))
    } else {
        let lines: String = findings.iter().map(|finding| format!("{finding}\n")).collect();
        let verdict = if errors == 0 { "good" } else { "salad-edge cannot run with it" };
        let counted = |count, what| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
        let (errors, warnings) = (counted(errors, "error"), counted(warnings, "warning"));
        format!("{lines}{}: {verdict}; {errors}, {warnings}\n", path.display())
    };
    unless_broken_pipe(out.write_all(text.as_bytes()).and_then(|()| out.flush()))?;
    Ok(if errors == 0 { Outcome::Complete } else { Outcome::Partial })
}

/// All that there is to say about a configuration's text, which came from `path`, in the order of its lines, errors first.
pub fn findings(text: &str, path: &Path) -> Vec<Finding> {
    let Examined { config, bundle, errors, warnings } = Config::examine(text, path);
    let mut look = Look { text, path, sink: None, findings: errors.iter().map(|e| finding_of(path, e)).collect() };
    look.findings.extend(warnings.into_iter().map(|warning| Finding {
        severity: Severity::Warning,
        file: path.into(),
        line: warning.line,
        field: Some(warning.field),
        problem: warning.problem,
    }));
    let models = bundle.map(|(bundle, form)| look.models(&bundle, form)).unwrap_or_default();
    if let Some(config) = &config {
        look.threshold(config, &models);
        look.regions(config, models.first());
        look.source(&config.camera.source);
        look.places(config);
        look.receivers(config);
        for (index, sink) in config.sinks.iter().enumerate() {
            look.sink = Some(index);
            look.sink(sink, config);
        }
    }
    // Both forms may have the same fault.
    look.findings.dedup();
    look.findings.sort_by_key(|finding| (finding.severity == Severity::Warning, finding.line.unwrap_or(usize::MAX)));
    look.findings
}

fn finding_of(path: &Path, error: &ConfigError) -> Finding {
    let (line, field, problem) = (error.line(), error.field(), error.problem());
    Finding { severity: Severity::Error, file: path.into(), line, field, problem }
}

/// Looks at what the configuration names.
struct Look<'a> {
    text: &'a str,
    path: &'a Path,
    /// The place of the sink that is looked at.
    sink: Option<usize>,
    findings: Vec<Finding>,
}

impl Look<'_> {
    fn error(&mut self, field: &'static str, problem: impl Into<String>) {
        self.note(Severity::Error, field, problem.into());
    }

    fn warn(&mut self, field: &'static str, problem: impl Into<String>) {
        self.note(Severity::Warning, field, problem.into());
    }

    fn note(&mut self, severity: Severity, field: &'static str, problem: String) {
        let line = config::line_of(self.text, field, self.sink);
        self.findings.push(Finding { severity, file: self.path.into(), line, field: Some(field), problem });
    }

    /// The model in each form that may be taken.
    fn models(&mut self, path: &Path, form: FormChoice) -> Vec<Model> {
        let bundle = match Bundle::read(path) {
            Ok(bundle) => bundle,
            Err(error) => {
                self.error("bundle", error.to_string());
                return Vec::new();
            }
        };
        let forms = match form {
            FormChoice::Auto => vec![FormChoice::F32, FormChoice::Int8],
            one => vec![one],
        };
        let mut models = Vec::new();
        for form in forms {
            match Model::load(&bundle, form) {
                Ok(model) => models.push(model),
                Err(error) => self.error("bundle", format!("{}: {error}; export it again", path.display())),
            }
        }
        models
    }

    fn threshold(&mut self, config: &Config, models: &[Model]) {
        for model in models {
            if let Err(error) = config.decision.params(model.threshold, &model.normal_scores) {
                self.findings.push(finding_of(self.path, &error));
            }
            let Some(threshold) = config.decision.threshold else { continue };
            let (usual, form) = (model.threshold, model.form);
            let scores = &model.normal_scores;
            let over = scores.iter().filter(|score| **score > threshold).count();
            let highest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            if over > 0 {
                let all = scores.len();
                let problem = format!(
                    "{over} of {all} normal validation images score above it in {form}: expect false alarms; the bundle's \
                     threshold is {usual}"
                );
                self.warn("decision.threshold", problem);
            } else if threshold > usual && threshold > highest {
                let problem = format!(
                    "above the bundle's threshold in {form}, {usual}, and above all normal validation images, which reach \
                     {highest}: faint anomalies are not told"
                );
                self.warn("decision.threshold", problem);
            }
        }
    }

    fn regions(&mut self, config: &Config, model: Option<&Model>) {
        let regions = &config.camera.regions;
        let Some(model) = model.filter(|_| !regions.is_whole()) else { return };
        let input = &model.manifest.input;
        let (width, height) = regions.whole(input.width, input.height);
        // A crop so thin is one pixel of any camera.
        let share = regions.share(width.min(4096), height.min(4096));
        let field = if regions.include.is_empty() { "regions.exclude" } else { "regions.include" };
        if share == 0.0 {
            let problem = format!(
                "nothing is left of the {} x {} pixels that the model looks at; correct the polygons, and look at them with \
                 salad-edge snapshot --regions",
                input.width, input.height
            );
            self.error(field, problem);
        } else if share < LITTLE {
            let problem =
                format!("{:.1} % of the picture is left; salad-edge snapshot --regions shows it", share * 100.0);
            self.warn(field, problem);
        }
    }

    fn source(&mut self, source: &SourceSpec) {
        let SourceSpec::Live(LiveSpec { launch, .. }) = source else { return };
        let camera = launch.args.get(1).and_then(|json| serde_json::from_str::<CameraSpec>(json.to_str()?).ok());
        if let Some(camera) = camera {
            if let Err(problem) = Device::parse(&camera.device).and_then(|device| device.find().map(drop)) {
                self.warn("source.camera.device", format!("{problem}; it is waited for"));
            }
        } else if !is_program(Path::new(&launch.program)) {
            let program = launch.program.to_string_lossy();
            let package = launch.package.map_or_else(String::new, |package| format!("; apt install {package}"));
            self.warn("source.pipe", format!("{program} is not found, and cameras are read by it{package}"));
        }
    }

    /// Files and folders that have to be written.
    fn places(&mut self, config: &Config) {
        if let Some(log) = &config.event_log {
            self.writable("events.log", log, false);
        }
        if let Some(store) = &config.store {
            self.writable("events.store", &store.path, false);
            // SQLite keeps files beside it.
            if let Some(folder) = store.path.parent() {
                self.writable("events.store", folder, true);
            }
            match store::look_at(&store.path) {
                Err(store::StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
                Err(error @ store::StoreError::Newer { .. }) => self.error("events.store", error.to_string()),
                Err(error) => self.warn("events.store", error.to_string()),
                Ok(()) => {}
            }
        }
        if let Some(snapshots) = &config.snapshots {
            self.writable("snapshots.dir", &snapshots.dir, true);
        }
    }

    fn writable(&mut self, field: &'static str, path: &Path, is_folder: bool) {
        let known =
            self.findings.iter().any(|finding| finding.severity == Severity::Error && finding.field == Some(field));
        if let Some(problem) = why_not_writable(path, is_folder).filter(|_| !known) {
            self.error(field, problem);
        }
    }

    fn receivers(&mut self, config: &Config) {
        if config.sinks.is_empty() {
            self.warn("sinks", "there is none: nobody is told of events; give at least one [[sinks]]");
        }
        if config.store.is_none() {
            self.warn(
                "events.store",
                "there is none: events that nobody has read are gone; give one, such as \"events.db\"",
            );
        }
    }

    fn sink(&mut self, sink: &SinkSpec, config: &Config) {
        match &sink.kind {
            SinkKind::JsonLines(path) => {
                if let Some(problem) = why_not_writable(path, false) {
                    self.error("sinks.json_lines.path", problem);
                }
            }
            SinkKind::Command(command) if !is_program(Path::new(&command.program)) => {
                self.warn("sinks.command.run", format!("{} is not found, or is no program", command.program));
            }
            SinkKind::Gpio(gpio) if !gpio.chip.exists() => {
                self.warn("sinks.gpio.chip", format!("{} is not there; gpiodetect lists chips", gpio.chip.display()));
            }
            SinkKind::Webhook(webhook) if webhook.with_snapshot && config.snapshots.is_none() => {
                self.warn("sinks.webhook.snapshot", "there are no pictures without [snapshots]");
            }
            _ => {}
        }
    }
}

/// Why a file or a folder cannot be written, or be made where it is missing, if so.
fn why_not_writable(path: &Path, is_folder: bool) -> Option<String> {
    // An empty path is the present folder.
    let mut found = path.ancestors().map(|p| if p.as_os_str().is_empty() { Path::new(".") } else { p });
    let there = found.find(|path| path.exists())?;
    let (is_whole, there_is_folder) = (there == path, there.is_dir());
    if is_whole && is_folder != there_is_folder {
        let word = if is_folder { "no folder" } else { "a folder" };
        return Some(format!("{} is {word}; name another path, or free this one", path.display()));
    }
    if !is_whole && !there_is_folder {
        return Some(format!("{}: {} is no folder; name another path", path.display(), there.display()));
    }
    let wanted = if there_is_folder { Access::WRITE_OK | Access::EXEC_OK } else { Access::WRITE_OK };
    let error = access(there, wanted).err()?;
    let problem = io::Error::from(error);
    let remedy = "give the user who runs this, and the service, the right to write there, or name another path";
    Some(format!("{}: {}: {problem}; {remedy}", path.display(), there.display()))
}

/// Whether there is such a program, here or in the folders of `PATH`.
fn is_program(program: &Path) -> bool {
    let runs = |path: &Path| path.is_file() && access(path, Access::EXEC_OK).is_ok();
    if program.components().count() > 1 {
        return runs(program);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| runs(&folder.join(program)))
}
