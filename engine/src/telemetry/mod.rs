//! What can be seen from outside: traces, metrics and logs.

mod config;
#[cfg(feature = "jaeger-thrift")]
mod jaeger;
mod log;
pub(crate) mod metrics;
pub(crate) mod trace;

use std::sync::{Arc, OnceLock};

use opentelemetry::metrics::Meter;
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
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

/// Lines that wait for whoever reads the log. One that does not read loses lines; it holds up nothing else.
const WAITING_LINES: usize = 8192;

/// Counts the lines that were lost.
static LOST: OnceLock<ErrorCounter> = OnceLock::new();

/// The process's log: what it shows, changeable while it is written. The last lines leave when it is dropped.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    filter: reload::Handle<EnvFilter, Layered<FilterFn, Registry>>,
    _writer: Option<Arc<WorkerGuard>>,
}

impl Log {
    /// Shows what the directives of `text` say from now on.
    pub(crate) fn set(&self, text: &str) {
        if let Err(error) = self.filter.reload(filter(text)) {
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
pub(crate) fn init(config: &LogConfig) -> Log {
    let (writer, guard) = NonBlockingBuilder::default()
        .buffered_lines_limit(WAITING_LINES)
        .lossy(true)
        .thread_name("log")
        .finish(std::io::stderr());
    let lost = writer.error_counter();
    let (filter, handle) = reload::Layer::new(filter(&config.filter));
    let lines = tracing_subscriber::fmt::layer()
        .event_format(log::Line::new(config.format))
        .with_writer(writer);
    let subscriber = Registry::default().with(quiet()).with(filter).with(lines);
    let started = tracing::subscriber::set_global_default(subscriber);
    match &started {
        // Nobody was there before.
        Ok(()) => drop(LOST.set(lost)),
        Err(error) => tracing::debug!(%error, "the log was started before"),
    }
    Log {
        filter: handle,
        _writer: started.is_ok().then(|| Arc::new(guard)),
    }
}

/// Registers the log's instrument.
pub(crate) fn register(meter: &Meter) {
    metrics::observe(
        meter,
        metrics::Kind::Counter,
        "bff.log.lost",
        "",
        "Lines of the log that were lost because nobody read it.",
        |observe| {
            observe(
                LOST.get().map_or(0.0, |lost| lost.dropped_lines() as f64),
                &[],
            )
        },
    );
}

#[cfg(test)]
mod tests {
    use tracing::{Level, enabled};

    use super::*;

    #[test]
    fn a_changed_filter_acts_on_the_next_line_and_never_lets_the_quiet_ones_speak() {
        let (layer, handle) = reload::Layer::new(filter("info"));
        let log = Log {
            filter: handle,
            _writer: None,
        };
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
