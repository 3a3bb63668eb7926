//! What a configuration has written to: the event log and the folder of snapshots.

use crate::config::{Config, SnapshotSettings};
use crate::model::Model;
use crate::sinks::json_lines::EventLog;
use crate::sinks::snapshot::Snapshots;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why a log or a folder cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}; change {field} in the configuration, or free the path", path.display())]
pub struct OpenError {
    /// The log or the folder.
    path: PathBuf,
    /// The configuration's field.
    field: &'static str,
    /// The operating system's words.
    source: io::Error,
}

/// Opens the event log of a configuration.
pub fn event_log(config: &Config) -> Result<Option<EventLog>, OpenError> {
    let open = |path: &PathBuf| EventLog::open(path).map_err(failed(path, "events.log"));
    config.event_log.as_ref().map(open).transpose()
}

/// Opens the folder of snapshots of a configuration.
pub fn snapshots(config: &Config, model: &Model) -> Result<Option<Snapshots>, OpenError> {
    let open = |settings: &SnapshotSettings| {
        let opened = Snapshots::open(settings.clone(), Arc::clone(&model.thumbnails));
        opened.map_err(failed(&settings.dir, "snapshots.dir"))
    };
    config.snapshots.as_ref().map(open).transpose()
}

fn failed(path: &Path, field: &'static str) -> impl FnOnce(io::Error) -> OpenError {
    let path = path.to_owned();
    move |source| OpenError { path, field, source }
}
