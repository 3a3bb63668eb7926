//! A configuration as a TOML document, which knows the line of everything in it.

use super::error::{ConfigError, line_of};
use super::raw::RawConfig;
use serde::Deserialize;
use std::ops::Range;
use std::path::Path;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// The version of the configuration that this program reads, and what a file is that names none.
pub const VERSION: i64 = 1;

/// The section that there is any number of.
const SINKS: &str = "sinks";

/// A text that is TOML.
#[derive(Debug)]
pub struct Document<'t> {
    path: &'t Path,
    text: &'t str,
    root: Spanned<DeTable<'t>>,
}

/// What the document says, as far as it has the right form.
#[derive(Debug)]
pub struct Form {
    /// All that has it.
    pub raw: RawConfig,
    /// Sections with something in them that has not.
    pub broken: Vec<Section>,
    /// The places, among all sinks of the file, of the sinks in `raw`.
    pub sinks: Vec<usize>,
}

/// A section, by its name; of a sink also its place among all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section(pub String, pub Option<usize>);

impl<'t> Document<'t> {
    /// Reads a text that came from `path`; else all that makes it no TOML, or the one thing that it was written for a newer
    /// program.
    pub fn parse(text: &'t str, path: &'t Path) -> Result<Document<'t>, Vec<ConfigError>> {
        let (root, errors) = DeTable::parse_recoverable(text);
        if !errors.is_empty() {
            let mut errors: Vec<_> = errors.iter().map(|error| ConfigError::syntax(path, text, error)).collect();
            errors.sort_by_key(ConfigError::order);
            return Err(errors);
        }
        let document = Document { path, text, root };
        let version = document.root.get_ref().get("version").and_then(|value| value.get_ref().as_integer());
        match version.and_then(|version| i64::from_str_radix(version.as_str(), version.radix()).ok()) {
            // Before any key that this program does not know is called a mistake.
            Some(version) if version > VERSION => Err(vec![ConfigError::Value {
                path: path.into(),
                line: document.line("version", None),
                field: "version",
                value: version.to_string(),
                remedy: format!("written for a newer salad-edge, this one reads version {VERSION}; update salad-edge"),
            }]),
            _ => Ok(document),
        }
    }

    /// The file.
    pub fn path(&self) -> &'t Path {
        self.path
    }

    /// What it says, and what in it is of no form: unknown keys, wrong types, missing fields. `None` where that leaves nothing
    /// to go on with.
    pub fn form(&self) -> (Option<Form>, Vec<ConfigError>) {
        let (mut root, mut errors) = (self.root.clone(), Vec::new());
        let (mut broken, mut removed) = (Vec::new(), Vec::new());
        let all = self.root.get_ref().get(SINKS).and_then(|sinks| sinks.get_ref().as_array());
        let mut sinks: Vec<usize> = (0..all.map_or(0, |sinks| sinks.len())).collect();
        loop {
            let error = match RawConfig::deserialize(toml::Deserializer::from(root.clone())) {
                Ok(raw) => return (Some(Form { raw, broken, sinks }), errors),
                Err(error) => error,
            };
            // What was taken out is not missing.
            if !removed.iter().any(|name| error.message() == format!("missing field `{name}`")) {
                errors.push(ConfigError::syntax(self.path, self.text, &error));
            }
            // Without that, the next error shows.
            let span = error.span().filter(|span| *span != root.span());
            match span.and_then(|span| take_out(root.get_mut(), &span, &mut sinks)) {
                Some((section, name)) => {
                    broken.push(section);
                    removed.push(name);
                }
                None => return (None, errors),
            }
        }
    }

    /// The line of a field, such as `decision.threshold`, or else of the section that it is missing from. `sink` is the place,
    /// among all sinks, of the one it belongs to.
    pub fn line(&self, field: &str, sink: Option<usize>) -> Option<usize> {
        let (mut table, mut place) = (Some(self.root.get_ref()), None);
        for name in field.split('.') {
            let Some((key, value)) = table.and_then(|table| table.get_key_value(name)) else { break };
            place = Some(key.span().start);
            let one =
                sink.zip(value.get_ref().as_array()).and_then(|(sink, all)| all.get(sink)).filter(|_| name == SINKS);
            place = one.map(|one| one.span().start).or(place);
            table = one.unwrap_or(value).get_ref().as_table();
        }
        line_of(self.text, place?)
    }
}

/// Takes the innermost thing out that has all of `span` in it, and says of which section that was, and its name.
fn take_out(root: &mut DeTable<'_>, span: &Range<usize>, sinks: &mut Vec<usize>) -> Option<(Section, String)> {
    if let Some(DeValue::Array(all)) = root.get_mut(SINKS).map(Spanned::get_mut) {
        for (index, place) in sinks.clone().into_iter().enumerate() {
            let one = all.get_mut(index)?;
            let (whole, section) = (one.span(), Section(SINKS.to_owned(), Some(place)));
            if let Some(name) = take_entry(one.get_mut(), span) {
                return Some((section, name));
            }
            if contains(&whole, span) {
                let others = all.clone().into_iter().enumerate().filter(|(other, _)| *other != index);
                *all = others.map(|(_, other)| other).collect();
                sinks.remove(index);
                return Some((section, String::new()));
            }
        }
    }
    let names: Vec<String> = root.keys().map(|key| key.get_ref().to_string()).collect();
    for section in names {
        let inner = root.get_mut(section.as_str()).and_then(|value| take_entry(value.get_mut(), span));
        let inner = inner.or_else(|| take_name(root, &section, span));
        if let Some(name) = inner {
            return Some((Section(section, None), name));
        }
    }
    None
}

/// The same within a table.
fn take_entry(value: &mut DeValue<'_>, span: &Range<usize>) -> Option<String> {
    let DeValue::Table(table) = value else { return None };
    let names: Vec<String> = table.keys().map(|key| key.get_ref().to_string()).collect();
    names.into_iter().find_map(|name| {
        let inner = table.get_mut(name.as_str()).and_then(|value| take_entry(value.get_mut(), span));
        inner.or_else(|| take_name(table, &name, span))
    })
}

/// Takes an entry out of a table if its key or its value has all of `span` in it.
fn take_name(table: &mut DeTable<'_>, name: &str, span: &Range<usize>) -> Option<String> {
    let (key, value) = table.get_key_value(name)?;
    let found = contains(&key.span(), span) || contains(&value.span(), span);
    found.then(|| table.remove(name)).flatten().map(|_| name.to_owned())
}

fn contains(whole: &Range<usize>, part: &Range<usize>) -> bool {
    whole.start <= part.start && part.end <= whole.end
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    /// Lines of all errors of a text, and what each begins with after that.
    fn told(text: &str) -> Vec<(Option<usize>, String)> {
        let errors = Config::examine(text, Path::new("edge.toml")).errors;
        errors.iter().map(|e| (e.line(), e.field().map_or_else(|| e.problem(), str::to_owned))).collect()
    }

    #[test]
    fn every_error_has_its_line_and_none_is_told_that_only_follows_from_another() {
        let text = "form = \"f33\"\nbundel = 3\n[source.replay]\npath = \"/\"\nfps = \"5\"\npace = \"slow\"\n\
                    [decision]\nwindow_frames = 0\ncooldown_secs = -1\n[events]\nstor = \"x\"\n\
                    [[sinks]]\nwebhook = { url = \"x\" }\n[[sinks]]\nname = \"b\"\nnonsense = 3\n\
                    [[sinks]]\nname = \"c d\"\nhours = \"6\"\n[sinks.webhook]\nurl = \"x\"\ntimeout_secs = 0\n";
        let expected = [
            (Some(1), "`form = \"f33\"`"),
            (Some(2), "`bundel = 3`"),
            (Some(5), "`fps = \"5\"`"),
            (Some(6), "`pace = \"slow\"`"),
            (Some(8), "decision.window_frames"),
            (Some(9), "decision.cooldown_secs"),
            (Some(11), "`stor = \"x\"`"),
            (Some(12), "`[[sinks]]`: missing field `name`"),
            (Some(16), "`nonsense = 3`"),
            (Some(18), "sinks.name"),
            (Some(19), "sinks.hours"),
            (Some(21), "sinks.webhook.url"),
            (Some(22), "sinks.webhook.timeout_secs"),
            (None, "bundle"),
        ];
        let told = told(text);
        assert_eq!(told.len(), expected.len(), "{told:#?}");
        for ((line, words), (expected_line, begins)) in told.iter().zip(expected) {
            assert!(*line == expected_line && words.starts_with(begins), "{line:?} {words} is not {begins}");
        }
    }

    #[test]
    fn what_is_no_toml_is_told_line_by_line() {
        let lines: Vec<_> = told("a =\nb = 3 4\nc = 3\n[d\n").into_iter().map(|(line, _)| line).collect();
        assert_eq!(lines, [Some(1), Some(2), Some(4)]);
    }

    #[test]
    fn a_newer_version_is_refused_before_its_keys_are_and_an_older_one_too() {
        assert_eq!(told("nonsense = 3\nversion = 2\n"), [(Some(2), "version".to_owned())]);
        assert!(told("version = 0\n").contains(&(Some(1), "version".to_owned())));
        assert!(!told("version = 1\n").iter().any(|(_, field)| field == "version"));
        let error = Config::parse("version = 2", Path::new("edge.toml")).unwrap_err().to_string();
        assert!(error.starts_with("edge.toml:1: version = 2: ") && error.contains("update salad-edge"), "{error}");
    }
}
