//! What a call's end means: one table for retry, breaker, instance gate and metrics.
//!
//! The status code alone does not tell: tonic reports its own time-out and a draining connection
//! both as CANCELLED, and a killed peer as UNKNOWN. So the error's source chain is looked at
//! first, and the code only if the chain says nothing.

use std::{error::Error, io};

use http::{HeaderMap, Response};
use tonic::{Code, ConnectError, Status, TimeoutExpired};

use super::{
    attempt::AttemptElapsed, breaker::CircuitOpen, bulkhead::Overloaded, deadline::Elapsed,
};
use crate::balance::NoInstance;

/// What the end of a call says about the upstream's health.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It works.
    Success,
    /// It does not.
    Failure,
    /// It has too much to do: worth sending less, no reason to call it broken.
    Overload,
    /// Nothing: the caller's fault, the caller left, or it was never asked.
    Neutral,
}

impl Effect {
    /// The effect in traces.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Overload => "overload",
            Self::Neutral => "neutral",
        }
    }
}

/// Whether the same call may be sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// It would end the same way, or nobody wants it any more.
    Never,
    /// Only if running it twice does no harm: it may have run.
    IfIdempotent,
    /// It was never sent, or the peer promises that it did not look at it.
    Always,
}

/// What the end of a call means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Class {
    /// The status a caller should see.
    pub code: Code,
    /// What it says about the upstream.
    pub effect: Effect,
    /// Whether to send it again.
    pub retry: Retry,
}

const fn class(code: Code, effect: Effect, retry: Retry) -> Class {
    Class {
        code,
        effect,
        retry,
    }
}

/// The class of a call that the peer ended with `code`.
pub fn of_code(code: Code) -> Class {
    let (effect, retry) = match code {
        Code::Ok => (Effect::Success, Retry::Never),
        Code::Unavailable | Code::DeadlineExceeded => (Effect::Failure, Retry::IfIdempotent),
        Code::Unknown | Code::Internal | Code::DataLoss => (Effect::Failure, Retry::Never),
        Code::ResourceExhausted => (Effect::Overload, Retry::Never),
        Code::Cancelled => (Effect::Neutral, Retry::IfIdempotent),
        _ => (Effect::Neutral, Retry::Never),
    };
    class(code, effect, retry)
}

/// The class of a call that ended with `error`, on our side or on the way.
pub fn of_error(error: &(dyn Error + 'static)) -> Class {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(class) = of_cause(error) {
            return class;
        }
        cause = error.source();
    }
    match find::<Status>(error) {
        Some(status) => of_code(status.code()),
        None => class(Code::Unknown, Effect::Failure, Retry::Never),
    }
}

fn of_cause(error: &(dyn Error + 'static)) -> Option<Class> {
    if error.is::<NoInstance>() || error.is::<CircuitOpen>() {
        return Some(class(Code::Unavailable, Effect::Neutral, Retry::Never));
    }
    if error.is::<Overloaded>() {
        return Some(class(
            Code::ResourceExhausted,
            Effect::Neutral,
            Retry::Never,
        ));
    }
    if let Some(elapsed) = error.downcast_ref::<Elapsed>() {
        let effect = if elapsed.sent {
            Effect::Failure
        } else {
            Effect::Neutral
        };
        return Some(class(Code::DeadlineExceeded, effect, Retry::Never));
    }
    if error.is::<AttemptElapsed>() || error.is::<TimeoutExpired>() {
        return Some(class(
            Code::DeadlineExceeded,
            Effect::Failure,
            Retry::IfIdempotent,
        ));
    }
    if error.is::<ConnectError>() {
        return Some(class(Code::Unavailable, Effect::Failure, Retry::Always));
    }
    if let Some(hyper) = error.downcast_ref::<hyper::Error>() {
        if hyper.is_canceled() {
            // The connection was draining or closed: the call never left, the instance may be fine.
            return Some(class(Code::Unavailable, Effect::Neutral, Retry::Always));
        }
        if hyper.is_timeout() {
            // A keepalive ping was lost: calls were on their way.
            return Some(class(
                Code::Unavailable,
                Effect::Failure,
                Retry::IfIdempotent,
            ));
        }
    }
    if let Some(h2) = error.downcast_ref::<h2::Error>() {
        return of_h2(h2);
    }
    of_io(error.downcast_ref::<io::Error>()?)
}

fn of_h2(error: &h2::Error) -> Option<Class> {
    // It has no `source`; a connection that broke in mid-answer hides here.
    if let Some(io) = error.get_io() {
        return of_io(io);
    }
    match error.reason() {
        // The peer promises that it did not look at the call, because it has too much to do.
        Some(h2::Reason::REFUSED_STREAM) => {
            Some(class(Code::Unavailable, Effect::Overload, Retry::Always))
        }
        Some(h2::Reason::CANCEL) if error.is_remote() => Some(class(
            Code::Unavailable,
            Effect::Failure,
            Retry::IfIdempotent,
        )),
        // A peer that drains: only calls that it did not take see this.
        Some(h2::Reason::NO_ERROR) if error.is_go_away() => {
            Some(class(Code::Unavailable, Effect::Neutral, Retry::Always))
        }
        // It minds our pings, not our calls.
        Some(h2::Reason::ENHANCE_YOUR_CALM) => Some(class(
            Code::Unavailable,
            Effect::Neutral,
            Retry::IfIdempotent,
        )),
        _ => None,
    }
}

fn of_io(error: &io::Error) -> Option<Class> {
    match error.kind() {
        io::ErrorKind::BrokenPipe
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::TimedOut
        | io::ErrorKind::HostUnreachable
        | io::ErrorKind::NetworkUnreachable
        | io::ErrorKind::UnexpectedEof => Some(class(
            Code::Unavailable,
            Effect::Failure,
            Retry::IfIdempotent,
        )),
        _ => None,
    }
}

/// The status code that headers or trailers carry, if they carry one.
pub fn code_in(headers: &HeaderMap) -> Option<Code> {
    headers
        .get("grpc-status")
        .map(|value| Code::from_bytes(value.as_bytes()))
}

/// The status code that a response's head decides: its own, or what its HTTP status means
/// (gRPC's "HTTP to gRPC Status Code Mapping").
pub fn code_of<B>(response: &Response<B>) -> Option<Code> {
    code_in(response.headers()).or_else(|| match response.status().as_u16() {
        200 => None,
        400 => Some(Code::Internal),
        401 => Some(Code::Unauthenticated),
        403 => Some(Code::PermissionDenied),
        404 => Some(Code::Unimplemented),
        429 | 502 | 503 | 504 => Some(Code::Unavailable),
        _ => Some(Code::Unknown),
    })
}

/// The first error of type `E` in the source chain.
pub fn find<'e, E: Error + 'static>(error: &'e (dyn Error + 'static)) -> Option<&'e E> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        cause = error.source();
    }
    None
}

/// The name of a status code in gRPC's documents.
pub fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use super::*;

    fn with_source(code: Code, source: impl Error + Send + Sync + 'static) -> Status {
        let mut status = Status::new(code, "as tonic says it");
        status.set_source(Arc::new(source));
        status
    }

    #[test]
    fn our_own_deadline_is_a_deadline_and_not_a_cancellation() {
        let status = with_source(Code::Cancelled, TimeoutExpired(()));
        assert_eq!(of_error(&status).code, Code::DeadlineExceeded);
        let after = Duration::from_secs(2);
        let status = with_source(Code::Unknown, Elapsed { after, sent: true });
        let wanted = class(Code::DeadlineExceeded, Effect::Failure, Retry::Never);
        assert_eq!(of_error(&status), wanted);
        let status = with_source(Code::Unknown, AttemptElapsed { after });
        let wanted = class(Code::DeadlineExceeded, Effect::Failure, Retry::IfIdempotent);
        assert_eq!(of_error(&status), wanted);
    }

    #[test]
    fn a_refused_connection_was_never_sent_and_is_a_failure() {
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        let status = with_source(Code::Unavailable, ConnectError(refused.into()));
        assert_eq!(
            of_error(&status),
            class(Code::Unavailable, Effect::Failure, Retry::Always)
        );
    }

    #[test]
    fn a_peer_killed_in_mid_flight_may_have_run_the_call() {
        let status = with_source(Code::Unknown, io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!(
            of_error(&status),
            class(Code::Unavailable, Effect::Failure, Retry::IfIdempotent)
        );
    }

    #[test]
    fn what_we_did_not_send_says_nothing_about_the_upstream_and_is_not_retried() {
        let statuses = [
            with_source(Code::Unknown, NoInstance { known: true }),
            with_source(Code::Unknown, CircuitOpen { retry_after: None }),
            with_source(Code::Unknown, Overloaded { limit: 1 }),
            with_source(
                Code::Unknown,
                Elapsed {
                    after: Duration::ZERO,
                    sent: false,
                },
            ),
        ];
        for status in statuses {
            let class = of_error(&status);
            assert_eq!(
                (class.effect, class.retry),
                (Effect::Neutral, Retry::Never),
                "{status}"
            );
        }
    }

    #[test]
    fn the_callers_faults_are_neutral_and_never_retried() {
        for code in [
            Code::NotFound,
            Code::InvalidArgument,
            Code::Unimplemented,
            Code::Aborted,
        ] {
            assert_eq!(of_code(code), class(code, Effect::Neutral, Retry::Never));
        }
    }
}
