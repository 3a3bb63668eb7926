//! An event as one file: what was told of it, and all of its pictures.

use super::Page;
use crate::event::Message;
use std::error::Error;
use std::io::{Cursor, Write};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

/// The event of this id as a zip file; `None` where there is none. Pictures are stored as they are: JPEGs do not become smaller.
pub fn of_event(page: &Page, id: &str) -> Result<Option<Vec<u8>>, Box<dyn Error + Send + Sync>> {
    let Some(event) = page.store.event(id)? else { return Ok(None) };
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    let mut add = |name: &str, bytes: &[u8]| -> Result<(), Box<dyn Error + Send + Sync>> {
        archive.start_file(name, SimpleFileOptions::default())?;
        Ok(archive.write_all(bytes)?)
    };
    add("event.json", &serde_json::to_vec_pretty(&event.message)?)?;
    if let Some(picture) = event.message.snapshot().and_then(|path| std::fs::read(path).ok()) {
        add("snapshot.jpg", &picture)?;
    }
    for (number, sample) in page.store.samples(id, &page.model.encoder)?.iter().enumerate() {
        add(&format!("frame-{number}.jpg"), &sample.picture)?;
    }
    if let Message::Anomaly(anomaly) = &event.message {
        for near in &anomaly.nearest {
            if let Some(picture) = page.model.thumbnails.get(near.index) {
                add(&format!("nearest-{}.jpg", near.index), picture)?;
            }
        }
    }
    Ok(Some(archive.finish()?.into_inner()))
}
