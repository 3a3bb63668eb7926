//! What is logged: from a level on that can change while the program runs, unless `RUST_LOG` says what.

use log::LevelFilter;
use serde::Deserialize;

/// The environment variable that wins.
const VARIABLE: &str = "RUST_LOG";

/// Without it: our own words down to debug, other libraries' down to info. What is shown of that is the level's to say.
const MOST: &str = "salad_edge=debug,salad_shared=debug,info,tract=error";

/// From which level on is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum LogLevel {
    /// What was lost or does not work.
    Error,
    /// What needs somebody's attention.
    Warn,
    /// What happens.
    #[default]
    Info,
    /// Each message to each sink, too.
    Debug,
}

/// Starts logging to standard error.
pub fn start() {
    env_logger::Builder::from_env(env_logger::Env::default().filter_or(VARIABLE, MOST)).init();
    set_level(LogLevel::default());
}

/// Logs from this level on from now on, unless `RUST_LOG` is set.
pub fn set_level(level: LogLevel) {
    if std::env::var_os(VARIABLE).is_none() {
        log::set_max_level(match level {
            LogLevel::Error => LevelFilter::Error,
            LogLevel::Warn => LevelFilter::Warn,
            LogLevel::Info => LevelFilter::Info,
            LogLevel::Debug => LevelFilter::Debug,
        });
    }
}
