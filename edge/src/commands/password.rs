//! `salad-edge password`: the way back to a page whose password is forgotten.

use crate::config::{Config, ConfigError};
use crate::store::{Store, StoreError};
use crate::web::access;
use std::path::{Path, PathBuf};

/// Why the password is still there.
#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// It has no store.
    #[error("{}: events.store: the page keeps its password in the event store, and there is none", .0.display())]
    NoStore(PathBuf),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Takes the page's password and all tokens away, so that a first password can be set again. Browsers that are logged in are so no
/// more.
pub fn reset(config: &Path) -> Result<(), PasswordError> {
    let settings = Config::read(config)?.store.ok_or_else(|| PasswordError::NoStore(config.into()))?;
    Ok(access::reset(&Store::visit(settings)?)?)
}
