//! What can be seen from outside: traces, metrics and logs.

mod config;
#[cfg(feature = "jaeger-thrift")]
mod jaeger;
mod log;
pub(crate) mod metrics;
pub(crate) mod trace;

use tracing_subscriber::{
    EnvFilter, Registry,
    filter::FilterFn,
    layer::{Layered, SubscriberExt},
    reload,
};

pub(crate) use self::config::{Config, LogConfig};

/// Libraries whose logs are excluded: consulrs and rustify write three lines per call and
/// one error line per failed poll; nacos-sdk writes documents at INFO, the password at DEBUG, and
/// six lines every few seconds while its server is away. Their errors reach the log through us.
const QUIET: [&str; 3] = ["consulrs", "rustify", "nacos_sdk"];

/// Lets everything through but the quiet ones: no configured filter can make them speak.
fn quiet() -> FilterFn {
    FilterFn::new(|metadata| {
        let target = metadata.target();
        !QUIET.iter().any(|quiet| target.starts_with(quiet))
    })
}

/// What the log shows, changeable while it is written.
#[derive(Clone, Debug)]
pub(crate) struct LogFilter(reload::Handle<EnvFilter, Layered<FilterFn, Registry>>);

impl LogFilter {
    /// Shows what the directives of `text` say from now on.
    pub(crate) fn set(&self, text: &str) {
        if let Err(error) = self.0.reload(filter(text)) {
            tracing::warn!(%error, "the log's filter cannot be changed");
        }
    }
}

fn filter(text: &str) -> EnvFilter {
    // Validation has read it before.
    EnvFilter::try_new(text).unwrap_or_else(|_| EnvFilter::new("info"))
}

/// Starts to log to standard error, in colour on a terminal. A second start changes nothing, so
/// that several servers can run in one process; its filter is one that nothing listens to.
pub(crate) fn init(config: &LogConfig) -> LogFilter {
    let (filter, handle) = reload::Layer::new(filter(&config.filter));
    let lines = tracing_subscriber::fmt::layer()
        .event_format(log::Line::new(config.format))
        .with_writer(std::io::stderr);
    let subscriber = Registry::default().with(quiet()).with(filter).with(lines);
    if let Err(error) = tracing::subscriber::set_global_default(subscriber) {
        tracing::debug!(%error, "the log was started before");
    }
    LogFilter(handle)
}

#[cfg(test)]
mod tests {
    use tracing::{Level, enabled};

    use super::*;

    #[test]
    fn a_changed_filter_acts_on_the_next_line_and_never_lets_the_quiet_ones_speak() {
        let (layer, handle) = reload::Layer::new(filter("info"));
        let log = LogFilter(handle);
        let subscriber = Registry::default().with(quiet()).with(layer);
        tracing::subscriber::with_default(subscriber, || {
            assert!(!enabled!(Level::DEBUG));
            log.set("debug,nacos_sdk::api=trace");
            assert!(enabled!(Level::DEBUG));
            assert!(!enabled!(target: "nacos_sdk::api", Level::ERROR));
            log.set("warn");
            assert!(!enabled!(Level::INFO));
        });
    }
}
