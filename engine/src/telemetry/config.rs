//! `[log]` and `[telemetry]`.

use std::{fmt, time::Duration};

use garde::Validate;
use serde::{Deserialize, Serialize};
use tracing_subscriber::EnvFilter;

use crate::types::{ms, secs, within};

/// What the log shows.
#[derive(Clone, Debug, Deserialize, Serialize, Validate)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct LogConfig {
    /// Directives as `tracing_subscriber::EnvFilter` reads them, such as `info,bff=debug`.
    #[garde(custom(parses))]
    pub(crate) filter: String,
    /// How a line looks.
    #[garde(skip)]
    pub(crate) format: LogFormat,
    /// An operation that takes longer is worth a line.
    #[serde(with = "humantime_serde")]
    #[garde(custom(within(ms(1)..=secs(300))))]
    pub(crate) slow_operation: Duration,
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// For people on a terminal, JSON elsewhere.
    Auto,
    /// For people.
    Human,
    /// One JSON object per line.
    Json,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            filter: "info".to_owned(),
            format: LogFormat::Auto,
            slow_operation: Duration::from_secs(1),
        }
    }
}

fn parses(filter: &str, _: &()) -> garde::Result {
    EnvFilter::try_new(filter).map(drop).map_err(|error| {
        garde::Error::new(format!(
            "`{filter}` is no log filter ({error}); write it like info,bff=debug"
        ))
    })
}

/// Where traces go, and which.
#[derive(Clone, Debug, Deserialize, Serialize, Validate)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// In which protocol spans are sent.
    #[garde(skip)]
    pub(crate) exporter: Exporter,
    /// The collector: for `otlp` its gRPC address, for `jaeger` its HTTP address, or
    /// `udp://host:port` for an agent.
    #[garde(custom(fits(self.exporter)))]
    pub(crate) endpoint: Endpoint,
    /// Share of the traces that are kept, 0 to 1; of those that begin elsewhere, what was decided
    /// there.
    #[garde(range(min = 0.0, max = 1.0))]
    pub(crate) sample_ratio: f64,
    /// Whether traces in which something failed are kept whatever the share says. They have to be
    /// recorded for that, which costs nearly as much as keeping them.
    #[garde(skip)]
    pub(crate) keep_errors: bool,
    /// Whether Jaeger's own header `uber-trace-id` is read and written beside W3C's.
    #[garde(skip)]
    pub(crate) uber_trace_id: bool,
    /// Spans that wait for the collector at most; further ones are dropped and counted.
    #[garde(range(min = 512, max = 1_000_000))]
    pub(crate) queue_size: usize,
}

/// In which protocol spans are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Exporter {
    /// Nothing is traced.
    None,
    /// OpenTelemetry's, over gRPC.
    Otlp,
    /// Jaeger's, in Thrift over HTTP or UDP.
    Jaeger,
}

/// A collector's address.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) enum Endpoint {
    /// `http://host:port`, perhaps with a path.
    Http(String),
    /// `host:port` of an agent.
    Udp(String),
}

impl Endpoint {
    /// The address without `udp://`.
    pub(crate) fn as_str(&self) -> &str {
        match self {
            Self::Http(text) | Self::Udp(text) => text,
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http(text) => f.write_str(text),
            Self::Udp(text) => write!(f, "udp://{text}"),
        }
    }
}

impl From<Endpoint> for String {
    fn from(endpoint: Endpoint) -> Self {
        endpoint.to_string()
    }
}

impl TryFrom<String> for Endpoint {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        // Never shown, so before anything that shows the address.
        if text.contains('@') {
            return Err("the address carries a user name, which no exporter would send".to_owned());
        }
        let wrong = |why: &str| {
            format!("`{text}` {why}; write it like http://127.0.0.1:4317 or udp://127.0.0.1:6831")
        };
        let uri: http::Uri = text
            .parse()
            .map_err(|error| wrong(&format!("is no address ({error})")))?;
        let Some(authority) = uri.authority() else {
            return Err(wrong("has no host"));
        };
        match (uri.scheme_str(), authority.port_u16()) {
            (Some("http"), _) => Ok(Self::Http(text)),
            (Some("udp"), Some(_)) => Ok(Self::Udp(authority.to_string())),
            (Some("udp"), None) => Err(wrong("has no port")),
            _ => Err(wrong("is neither http:// nor udp://")),
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            exporter: Exporter::None,
            endpoint: Endpoint::Http("http://127.0.0.1:4317".to_owned()),
            sample_ratio: 1.0,
            keep_errors: true,
            uber_trace_id: false,
            queue_size: 8192,
        }
    }
}

fn fits(exporter: Exporter) -> impl FnOnce(&Endpoint, &()) -> garde::Result {
    move |endpoint, ()| match (exporter, endpoint) {
        (Exporter::Otlp, Endpoint::Udp(_)) => Err(garde::Error::new(
            "OTLP is not spoken over UDP; use http://, or exporter = \"jaeger\"",
        )),
        (Exporter::Jaeger, Endpoint::Http(url)) if url.trim_end_matches('/').ends_with(":4317") => {
            Err(garde::Error::new(
                "4317 is OTLP's port; Jaeger takes Thrift at http://127.0.0.1:14268 or \
                 udp://127.0.0.1:6831",
            ))
        }
        _ => Ok(()),
    }
}
