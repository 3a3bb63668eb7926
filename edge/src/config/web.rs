//! `[web]`: the device's own page.

use super::checker::{Checked, Checker};
use serde::Deserialize;
use std::net::SocketAddr;

/// Where the page is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebSettings {
    /// The address it listens on.
    pub listen: SocketAddr,
    /// Names under which it may be asked for, besides `localhost`, those that end in `.local`, and addresses.
    pub names: Vec<String>,
}

/// The device's own page. Left out: none.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RawWeb {
    /// Address and port. Only this device reaches 127.0.0.1; 0.0.0.0 is all its addresses.
    pub listen: String,
    /// Names that browsers know the device by, besides localhost, those that end in .local, and addresses.
    pub names: Vec<String>,
}

impl Default for RawWeb {
    fn default() -> RawWeb {
        RawWeb { listen: "127.0.0.1:8080".to_owned(), names: Vec::new() }
    }
}

impl Checker<'_> {
    pub(super) fn web(&self, raw: RawWeb, has_store: bool) -> Checked<WebSettings> {
        if !has_store {
            self.error("events.store", "(missing)", "the page needs it: name a file, such as \"events.db\"".to_owned());
        }
        let remedy = "has to be like \"127.0.0.1:8080\" or \"0.0.0.0:8080\"".to_owned();
        let listen = raw.listen.parse().map_err(|_| self.error("web.listen", raw.listen, remedy))?;
        Ok(WebSettings { listen, names: raw.names.iter().map(|name| name.to_ascii_lowercase()).collect() })
    }
}
