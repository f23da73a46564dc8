//! The one table of error codes.

use std::time::Duration;

use async_graphql::{Error, ErrorExtensionValues, ErrorExtensions, PathSegment, Pos, ServerError};
use tracing::{debug, warn};

use crate::{
    call::{Code as Status, Reason},
    rate_limit::Throttled,
    upstream::UpstreamError,
};

/// `extensions.code` of an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    /// A variable is missing, or no value of its type; or an upstream says so of what it was given.
    BadUserInput,
    /// The text is no document, or none that is read.
    ParseFailed,
    /// The document does not fit the schema, or goes beyond a limit.
    ValidationFailed,
    /// The document has no such operation, or several and none is named.
    OperationResolution,
    /// The hash stands for no document that is known: the client sends it along.
    PersistedQueryNotFound,
    /// An upstream does not know who asks.
    Unauthenticated,
    /// An upstream does not let this client do it.
    Forbidden,
    /// An upstream could not be reached, or has no instance.
    UpstreamUnavailable,
    /// An upstream did not answer in time.
    UpstreamTimeout,
    /// An upstream answered with an error.
    UpstreamError,
    /// An upstream keeps failing: its circuit breaker is open, it was not asked.
    CircuitOpen,
    /// There are too many calls to an upstream already.
    Overloaded,
    /// The field was asked for too often.
    RateLimited,
    /// A resolver answered what its type does not have.
    Internal,
}

impl Code {
    /// The code as a client reads it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::BadUserInput => "BAD_USER_INPUT",
            Self::ParseFailed => "GRAPHQL_PARSE_FAILED",
            Self::ValidationFailed => "GRAPHQL_VALIDATION_FAILED",
            Self::OperationResolution => "OPERATION_RESOLUTION_FAILURE",
            Self::PersistedQueryNotFound => "PERSISTED_QUERY_NOT_FOUND",
            Self::Unauthenticated => "UNAUTHENTICATED",
            Self::Forbidden => "FORBIDDEN",
            Self::UpstreamUnavailable => "UPSTREAM_UNAVAILABLE",
            Self::UpstreamTimeout => "UPSTREAM_TIMEOUT",
            Self::UpstreamError => "UPSTREAM_ERROR",
            Self::CircuitOpen => "CIRCUIT_OPEN",
            Self::Overloaded => "OVERLOADED",
            Self::RateLimited => "RATE_LIMITED",
            Self::Internal => "INTERNAL",
        }
    }
}

impl Code {
    /// Every code.
    const ALL: [Self; 14] = [
        Self::BadUserInput,
        Self::ParseFailed,
        Self::ValidationFailed,
        Self::OperationResolution,
        Self::PersistedQueryNotFound,
        Self::Unauthenticated,
        Self::Forbidden,
        Self::UpstreamUnavailable,
        Self::UpstreamTimeout,
        Self::UpstreamError,
        Self::CircuitOpen,
        Self::Overloaded,
        Self::RateLimited,
        Self::Internal,
    ];

    /// The code that a client would read as `text`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|code| code.as_str() == text)
    }

    /// Whether the client itself is the reason.
    pub(super) fn is_clients_own(self) -> bool {
        match self {
            Self::BadUserInput
            | Self::ParseFailed
            | Self::ValidationFailed
            | Self::OperationResolution
            | Self::PersistedQueryNotFound
            | Self::Unauthenticated
            | Self::Forbidden
            | Self::RateLimited => true,
            Self::UpstreamUnavailable
            | Self::UpstreamTimeout
            | Self::UpstreamError
            | Self::CircuitOpen
            | Self::Overloaded
            | Self::Internal => false,
        }
    }

    /// An error with this code.
    pub(crate) fn error(self, message: impl Into<String>, pos: Option<Pos>) -> ServerError {
        let mut error = ServerError::new(message, pos);
        let mut extensions = ErrorExtensionValues::default();
        extensions.set("code", self.as_str());
        error.extensions = Some(extensions);
        error
    }

    /// An error with this code, for a resolver to return.
    pub(super) fn field_error(self, message: impl Into<String>) -> Error {
        Error::new(message).extend_with(|_, extensions| extensions.set("code", self.as_str()))
    }
}

impl From<&UpstreamError> for Code {
    fn from(error: &UpstreamError) -> Self {
        match error.reason() {
            Reason::Unavailable => Self::UpstreamUnavailable,
            Reason::Timeout => Self::UpstreamTimeout,
            Reason::CircuitOpen => Self::CircuitOpen,
            Reason::Overloaded => Self::Overloaded,
            Reason::Error | Reason::Cancelled | Reason::Answered => match error.code() {
                Status::InvalidArgument => Self::BadUserInput,
                Status::Unauthenticated => Self::Unauthenticated,
                Status::PermissionDenied => Self::Forbidden,
                _ => Self::UpstreamError,
            },
        }
    }
}

/// The field error for a failed call: what a client may know goes out, the rest into the log.
pub(super) fn upstream(error: &UpstreamError) -> Error {
    let (upstream, detail) = (error.upstream(), error.detail());
    match error.is_worth_a_line() {
        true => warn!(
            upstream,
            grpc_status = error.code().as_str(),
            attempts = error.attempts(),
            detail,
            "a call failed for good"
        ),
        false => debug!(upstream, detail, "a call was not answered"),
    }
    // The error itself comes along, for a resolver that looks at it.
    Error::new_with_source(error.clone()).extend_with(|_, extensions| {
        extensions.set("code", Code::from(error).as_str());
        extensions.set("upstream", upstream);
        extensions.set("grpcStatus", error.code().as_str());
        extensions.set("attempts", error.attempts());
    })
}

/// A batch's reply has nothing for a key.
#[derive(Clone, Debug, thiserror::Error)]
#[error("Nothing was found for {key}.")]
struct NotInBatch {
    key: String,
}

/// The field error for a key that a batch has nothing for.
pub(super) fn not_in_batch(key: String) -> Error {
    Error::new_with_source(NotInBatch { key }).extend_with(|_, extensions| {
        extensions.set("code", Code::UpstreamError.as_str());
        extensions.set("grpcStatus", Status::NotFound.as_str());
    })
}

/// Whether a resolver's error says that there is no such thing.
pub(super) fn is_not_found(error: &Error) -> bool {
    let Some(source) = &error.source else {
        return false;
    };
    let upstream = source.downcast_ref::<UpstreamError>();
    upstream.is_some_and(|error| error.code() == Status::NotFound) || source.is::<NotInBatch>()
}

/// The error of the throttled field at `path`.
pub(super) fn throttled(throttled: &Throttled, path: Vec<PathSegment>, pos: Pos) -> ServerError {
    // Rounded up: a client that waits for so long is not turned away again.
    let millis = |time: Duration| time.as_nanos().div_ceil(1_000_000) as u64;
    let mut error = Code::RateLimited.error(throttled.message.clone(), Some(pos));
    let extensions = error.extensions.get_or_insert_default();
    extensions.set("retryAfterMs", millis(throttled.retry_after));
    extensions.set("limit", throttled.limit);
    extensions.set("periodMs", millis(throttled.period));
    error.path = path;
    error
}
