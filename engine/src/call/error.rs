//! The ways a call can end without a reply: one family, which everybody stands on.

use std::time::Duration;

use tokio::time::Instant;

use super::{Code, Outcome, Timing};

/// A call, or one attempt of it, that ended without a reply, and what that means.
#[derive(Debug)]
pub struct Failed(Box<Inner>);

#[derive(Debug)]
struct Inner {
    outcome: Outcome,
    error: CallError,
    at: Instant,
}

impl Failed {
    /// A call that a layer of an owner's refuses: nothing is sent, and the field's error has this status.
    /// `reason` is for the log.
    pub fn refused(code: Code, reason: impl Into<String>) -> Self {
        let error = CallError::Peer {
            code,
            message: reason.into(),
            pushback: None,
        };
        Self::unsent(error, super::now())
    }

    /// Its gRPC status.
    pub fn code(&self) -> Code {
        self.outcome().code
    }

    /// A call that ended with `error` at `now`, before anything was sent.
    pub(crate) fn unsent(error: impl Into<CallError>, now: Instant) -> Self {
        Self::new(error, &Timing::none(now), now)
    }

    /// An attempt within `timing` that ended with `error` at `now`. This is where it is decided what
    /// that means, once for everybody.
    pub(crate) fn new(error: impl Into<CallError>, timing: &Timing, now: Instant) -> Self {
        let error = error.into();
        Self(Box::new(Inner {
            outcome: Outcome::of(&error, timing, now),
            error,
            at: now,
        }))
    }

    /// What it means.
    pub(crate) fn outcome(&self) -> Outcome {
        self.0.outcome
    }

    /// What happened.
    pub(crate) fn error(&self) -> &CallError {
        &self.0.error
    }

    /// When it ended.
    pub(crate) fn at(&self) -> Instant {
        self.0.at
    }

    /// What the peer says about trying again.
    pub(crate) fn pushback(&self) -> Option<Pushback> {
        match &self.0.error {
            CallError::Peer { pushback, .. } => *pushback,
            _ => None,
        }
    }

    /// Whether nothing was sent because the breaker is open.
    pub(crate) fn is_circuit_open(&self) -> bool {
        matches!(self.0.error, CallError::CircuitOpen(_))
    }
}

/// What ended a call.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// There was no instance to send it to.
    #[error(transparent)]
    NoInstance(#[from] NoInstance),
    /// The breaker did not let it through.
    #[error(transparent)]
    CircuitOpen(#[from] CircuitOpen),
    /// Too many calls are in flight.
    #[error(transparent)]
    Overloaded(#[from] Overloaded),
    /// No instance can be reached.
    #[error(transparent)]
    Unreachable(#[from] Unreachable),
    /// There was too little time left to send it.
    #[error(transparent)]
    NoTimeLeft(#[from] NoTimeLeft),
    /// No answer came in time.
    #[error(transparent)]
    AttemptElapsed(#[from] AttemptElapsed),
    /// The peer ended it with a status.
    #[error("the peer answered {code}: {message}")]
    Peer {
        /// The status.
        code: Code,
        /// The peer's own words; for the log only.
        message: String,
        /// What it says about trying again.
        pushback: Option<Pushback>,
    },
    /// The connection failed, or refused the call.
    #[error("{detail}")]
    Transport {
        /// What is known of the call.
        lost: Lost,
        /// The client library's words.
        detail: String,
    },
    /// The answer is none that gRPC knows.
    #[error(transparent)]
    BadReply(#[from] BadReply),
}

/// What is known of a call whose connection failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lost {
    /// The connection was closed or draining before it was sent; the instance may be fine.
    Unsent,
    /// The peer promises that it did not look at it, because it has too much to do.
    Refused,
    /// It was on its way: it may have run. The connection is fine.
    InFlight,
    /// It was on its way, and its connection is gone.
    Connection,
    /// The same, and another call has told of the connection's end.
    Beside,
    /// What the library says no more of than a code.
    Other(Code),
}

/// An answer that breaks gRPC's rules, whatever its status says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadReply {
    /// It is not gRPC at all.
    #[error("the answer is no gRPC: HTTP status {http}, content type {content_type}")]
    NotGrpc {
        /// HTTP's status.
        http: u16,
        /// What it says it is.
        content_type: String,
    },
    /// The message cannot be read.
    #[error("the reply cannot be decoded: {0}")]
    Undecodable(String),
    /// There is no message, though all went well.
    #[error("the reply has no message")]
    NoMessage,
    /// There is more than one.
    #[error("the reply has more than one message")]
    ManyMessages,
    /// Too large, cut off, compressed unasked: the client library says what.
    #[error("the reply is refused: {code}: {detail}")]
    Refused {
        /// The library's code.
        code: Code,
        /// Its words.
        detail: String,
    },
}

/// There was no instance to send a call to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", match known {
    true => "the service has no healthy instance",
    false => "the instances of the service are not known yet",
})]
pub(crate) struct NoInstance {
    /// Whether discovery has answered at all.
    pub(crate) known: bool,
}

/// There are instances, and no connection to any of them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("none of the {instances} instances can be reached: {why}")]
pub(crate) struct Unreachable {
    /// How many there are.
    pub(crate) instances: usize,
    /// What is wrong with one of them.
    pub(crate) why: String,
    /// Whether it is only that time ran out while they were dialled.
    pub(crate) ran_out: bool,
}

/// The circuit breaker is open.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the circuit breaker is open")]
pub(crate) struct CircuitOpen;

/// There are too many calls in flight already.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("more than {limit} {what} are in flight, or more than this client's share of them")]
pub(crate) struct Overloaded {
    /// The cap.
    pub(crate) limit: usize,
    /// What of: calls, streams.
    pub(crate) what: &'static str,
}

/// A call had too little time left to be worth sending.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too little time was left to send it: {}", humantime::format_duration(*left))]
pub(crate) struct NoTimeLeft {
    /// How much there was.
    pub(crate) left: Duration,
}

/// An attempt was not answered in time; another one may be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no answer within {}", humantime::format_duration(*after))]
pub(crate) struct AttemptElapsed {
    /// How much time the attempt had.
    pub(crate) after: Duration,
}

/// `grpc-retry-pushback-ms` (gRPC A6): a server's own word on retries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pushback {
    /// Try again after exactly this long.
    After(Duration),
    /// A negative number, or nothing one could read: do not try again.
    Never,
}

impl Pushback {
    /// What the header's value says.
    pub(crate) fn parse(value: &[u8]) -> Self {
        let millis = std::str::from_utf8(value)
            .ok()
            .and_then(|text| text.parse::<u32>().ok());
        millis.map_or(Self::Never, |ms| {
            Self::After(Duration::from_millis(ms.into()))
        })
    }
}
