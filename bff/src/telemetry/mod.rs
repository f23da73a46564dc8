//! What can be seen from outside: logs and metrics.

mod config;
pub mod metrics;

use std::{error::Error, io::IsTerminal};

use tracing_subscriber::EnvFilter;

pub use self::config::LogConfig;

/// Libraries that log what nobody asked for: consulrs and rustify write three lines per call and
/// one error line per failed poll. Their errors reach the log through us.
const QUIET: [&str; 2] = ["consulrs=off", "rustify=off"];

/// Starts to log to standard error, in colour on a terminal. A second start changes nothing, so
/// that several servers can run in one process.
pub fn init(config: &LogConfig) {
    let filter = QUIET.iter().fold(
        EnvFilter::try_new(&config.filter).unwrap_or_else(|_| EnvFilter::new("info")),
        |filter, directive| match directive.parse() {
            Ok(directive) => filter.add_directive(directive),
            Err(_) => filter,
        },
    );
    let started = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .try_init();
    if let Err(error) = started {
        tracing::debug!(%error, "the log was started before");
    }
}

/// An error and its causes in one line, each said once.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}
