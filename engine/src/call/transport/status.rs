//! What tonic's statuses stand for: facts about a call, read from their source chains. What follows
//! from them is [`Outcome`](super::super::Outcome)'s to say.

use std::{error::Error, io};

use tonic::{Status, TimeoutExpired};

use super::{
    super::{BadReply, CallError, Code, Lost, Pushback},
    clean::{FROM_PEER, NotGrpc},
};
use crate::types::error_chain;

/// What ended the call that tonic ends with `status`. `elapsed` says that its time was over: the
/// channel reads the announced time as well, and mostly rings first.
pub(super) fn translate(mut status: Status, elapsed: impl FnOnce() -> CallError) -> CallError {
    let code = Code::from_number(status.code() as i32);
    let metadata = status.metadata_mut();
    if metadata.remove(FROM_PEER.as_str()).is_some() {
        let pushback = metadata
            .get("grpc-retry-pushback-ms")
            .map(|value| Pushback::parse(value.as_bytes()));
        return CallError::Peer {
            code,
            message: status.message().to_owned(),
            pushback,
        };
    }
    let mut cause = status.source();
    // Without a cause it is tonic's own verdict on what the peer sent.
    if cause.is_none() {
        // Of all of gRPC's libraries only this one calls a message out of range that is too large.
        let code = match code {
            Code::OutOfRange => Code::ResourceExhausted,
            code => code,
        };
        return BadReply::Refused {
            code,
            detail: status.message().to_owned(),
        }
        .into();
    }
    while let Some(error) = cause {
        if error.is::<TimeoutExpired>() {
            return elapsed();
        }
        if let Some(NotGrpc { http, content_type }) = error.downcast_ref() {
            return BadReply::NotGrpc {
                http: *http,
                content_type: content_type.clone(),
            }
            .into();
        }
        if let Some(lost) = of_cause(error) {
            return CallError::Transport {
                lost,
                detail: detail(&status),
            };
        }
        cause = error.source();
    }
    CallError::Transport {
        lost: Lost::Other(code),
        detail: detail(&status),
    }
}

/// The causes in one line, without tonic's own wrapping.
fn detail(status: &Status) -> String {
    status.source().map(error_chain).unwrap_or_default()
}

fn of_cause(error: &(dyn Error + 'static)) -> Option<Lost> {
    if let Some(hyper) = error.downcast_ref::<hyper::Error>() {
        if hyper.is_canceled() {
            return Some(Lost::Unsent);
        }
        if hyper.is_timeout() {
            // A keepalive ping was lost: calls were on their way.
            return Some(Lost::Connection);
        }
    }
    if let Some(h2) = error.downcast_ref::<h2::Error>() {
        return of_h2(h2);
    }
    of_io(error.downcast_ref::<io::Error>()?)
}

fn of_h2(error: &h2::Error) -> Option<Lost> {
    // It has no `source`; a connection that broke in mid-answer hides here.
    if let Some(io) = error.get_io() {
        return of_io(io);
    }
    if error.is_go_away() {
        // A peer that leaves, for whatever reason: only calls that it did not take see this. What we
        // find wrong with a connection is the end of all calls on it.
        return Some(match error.is_remote() {
            true => Lost::Unsent,
            false => Lost::Connection,
        });
    }
    match error.reason() {
        Some(h2::Reason::REFUSED_STREAM) => Some(Lost::Refused),
        Some(h2::Reason::CANCEL | h2::Reason::ENHANCE_YOUR_CALM) if error.is_remote() => {
            Some(Lost::InFlight)
        }
        _ => None,
    }
}

fn of_io(error: &io::Error) -> Option<Lost> {
    match error.kind() {
        io::ErrorKind::BrokenPipe
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::TimedOut
        | io::ErrorKind::HostUnreachable
        | io::ErrorKind::NetworkUnreachable
        | io::ErrorKind::UnexpectedEof => Some(Lost::Connection),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use super::*;
    use crate::call::AttemptElapsed;

    fn with_source(code: tonic::Code, source: impl Error + Send + Sync + 'static) -> CallError {
        let mut status = Status::new(code, "as tonic says it");
        status.set_source(Arc::new(source));
        translated(status)
    }

    fn translated(status: Status) -> CallError {
        translate(status, || {
            let after = Duration::from_secs(1);
            AttemptElapsed { after }.into()
        })
    }

    fn lost(error: &CallError) -> Option<Lost> {
        match error {
            CallError::Transport { lost, .. } => Some(*lost),
            _ => None,
        }
    }

    #[test]
    fn the_channels_own_timer_is_our_deadline_and_not_a_cancellation() {
        let error = with_source(tonic::Code::Cancelled, TimeoutExpired(()));
        assert!(matches!(error, CallError::AttemptElapsed(_)), "{error:?}");
    }

    #[test]
    fn a_peer_killed_in_mid_flight_may_have_run_the_call() {
        let broken = io::Error::from(io::ErrorKind::BrokenPipe);
        let error = with_source(tonic::Code::Unknown, broken);
        assert_eq!(lost(&error), Some(Lost::Connection));
    }

    #[test]
    fn a_status_without_mark_and_cause_is_tonics_own_verdict_on_a_reply() {
        let error = translated(Status::out_of_range("too large"));
        assert!(
            matches!(&error, CallError::BadReply(BadReply::Refused { code, .. })
                if *code == Code::ResourceExhausted),
            "{error:?}"
        );
    }

    #[test]
    fn a_cause_that_says_nothing_leaves_the_code() {
        let odd = io::Error::other("odd");
        let error = with_source(tonic::Code::Internal, odd);
        assert_eq!(lost(&error), Some(Lost::Other(Code::Internal)));
    }
}
