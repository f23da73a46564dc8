//! The one table of error codes.

use async_graphql::{Error, ErrorExtensions};
use tracing::warn;

use crate::upstream::{Kind, UpstreamError};

/// `extensions.code` of a field error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// An upstream could not be reached, or nobody is there.
    UpstreamUnavailable,
    /// An upstream did not answer in time.
    UpstreamTimeout,
    /// An upstream answered with an error.
    UpstreamError,
    /// An upstream keeps failing and was not asked.
    CircuitOpen,
    /// There are too many calls to an upstream already.
    Overloaded,
}

impl Code {
    /// The code as a client reads it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UpstreamUnavailable => "UPSTREAM_UNAVAILABLE",
            Self::UpstreamTimeout => "UPSTREAM_TIMEOUT",
            Self::UpstreamError => "UPSTREAM_ERROR",
            Self::CircuitOpen => "CIRCUIT_OPEN",
            Self::Overloaded => "OVERLOADED",
        }
    }
}

impl From<Kind> for Code {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Unavailable => Self::UpstreamUnavailable,
            Kind::Timeout => Self::UpstreamTimeout,
            Kind::Answered => Self::UpstreamError,
            Kind::CircuitOpen => Self::CircuitOpen,
            Kind::Overloaded => Self::Overloaded,
        }
    }
}

/// The field error for a failed call: what a client may know goes out, the rest into the log.
pub(super) fn upstream(error: &UpstreamError) -> Error {
    warn!(
        upstream = error.upstream,
        grpc_status = error.grpc_status(),
        attempts = error.attempts,
        detail = error.detail,
        "a call failed for good"
    );
    Error::new(error.to_string()).extend_with(|_, extensions| {
        extensions.set("code", Code::from(error.kind).as_str());
        extensions.set("upstream", error.upstream);
        extensions.set("grpcStatus", error.grpc_status());
        extensions.set("attempts", error.attempts);
    })
}
