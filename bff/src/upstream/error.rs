//! What a resolver learns when a call failed.

use tonic::{Code, Status};

use crate::{
    balance::Tried,
    resilience::{breaker::CircuitOpen, bulkhead::Overloaded, classify},
    telemetry::chain,
};

/// Why a call has no answer, in the terms of whoever asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It could not be reached, or nobody is there.
    Unavailable,
    /// It did not answer in time.
    Timeout,
    /// It answered with an error.
    Answered,
    /// It was not asked: its breaker is open.
    CircuitOpen,
    /// It was not asked: too many calls to it are in flight.
    Overloaded,
}

impl Kind {
    /// The reason in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unavailable => "unavailable",
            Self::Timeout => "timeout",
            Self::Answered => "error",
            Self::CircuitOpen => "circuit_open",
            Self::Overloaded => "overloaded",
        }
    }
}

/// A call that failed for good. Its display text is fit for a client: it shows no address and no
/// word of the upstream's own.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{upstream} {}", match kind {
    Kind::Unavailable => "is unavailable".to_owned(),
    Kind::Timeout => "did not answer in time".to_owned(),
    Kind::CircuitOpen => "keeps failing and is left alone for a while".to_owned(),
    Kind::Overloaded => "has too many calls in flight".to_owned(),
    Kind::Answered => format!("answered with {}", classify::code_name(*code)),
})]
pub struct UpstreamError {
    /// The upstream's name in the configuration.
    pub upstream: &'static str,
    /// Why.
    pub kind: Kind,
    /// The true gRPC status: an own deadline is DEADLINE_EXCEEDED, whatever the client library
    /// calls it.
    pub code: Code,
    /// How many attempts were sent.
    pub attempts: u32,
    /// Everything known, for the log.
    pub detail: String,
}

impl UpstreamError {
    /// The error of a call to `upstream` that ended with `status`.
    pub(super) fn new(upstream: &'static str, status: &Status, tried: &Tried) -> Self {
        let code = classify::of_error(status).code;
        let kind = match code {
            _ if classify::find::<CircuitOpen>(status).is_some() => Kind::CircuitOpen,
            _ if classify::find::<Overloaded>(status).is_some() => Kind::Overloaded,
            Code::Unavailable => Kind::Unavailable,
            Code::DeadlineExceeded => Kind::Timeout,
            _ => Kind::Answered,
        };
        Self {
            upstream,
            kind,
            code,
            attempts: tried.list().len() as u32,
            detail: chain(status),
        }
    }

    /// The status as gRPC spells it, such as `UNAVAILABLE`.
    pub fn grpc_status(&self) -> &'static str {
        classify::code_name(self.code)
    }
}
