//! What a resolver gets when a call failed.

use crate::call::{Code, Effect, Failed, Outcome, Reason};

/// A call that failed for good. Its display text is fit for a client: it shows no address and no
/// word of the upstream's own.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{}", text(upstream, *outcome))]
pub struct UpstreamError {
    upstream: &'static str,
    outcome: Outcome,
    attempts: u32,
    detail: String,
}

impl UpstreamError {
    /// The error of a call to `upstream` that failed after so many attempts.
    pub(super) fn new(upstream: &'static str, failed: &Failed, attempts: u32) -> Self {
        Self {
            upstream,
            outcome: failed.outcome(),
            attempts,
            detail: failed.error().to_string(),
        }
    }

    /// The upstream's name in the configuration.
    pub fn upstream(&self) -> &'static str {
        self.upstream
    }

    /// The true gRPC status: an own deadline is DEADLINE_EXCEEDED, whatever the client library
    /// calls it.
    pub fn code(&self) -> Code {
        self.outcome.code
    }

    /// How many attempts were sent.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Everything known, for the log; never for a client.
    pub fn detail(&self) -> &str {
        &self.detail
    }

    pub(crate) fn reason(&self) -> Reason {
        self.outcome.reason
    }

    /// Whether it is worth a line in the log. What nothing was sent for, and what is the caller's own
    /// fault, is counted: under an open breaker that would be a line for every call.
    pub(crate) fn is_worth_a_line(&self) -> bool {
        match self.outcome.reason {
            Reason::Unavailable | Reason::Timeout => self.attempts > 0,
            Reason::Error => !matches!(self.outcome.effect, Effect::Declined | Effect::Neutral),
            Reason::CircuitOpen | Reason::Overloaded | Reason::Cancelled | Reason::Answered => {
                false
            }
        }
    }
}

/// What a client may read of a call that failed.
pub(super) fn text(upstream: &str, outcome: Outcome) -> String {
    match outcome.reason {
        Reason::Unavailable => format!("{upstream} is unavailable"),
        Reason::Timeout => format!("{upstream} did not answer in time"),
        Reason::CircuitOpen => format!("{upstream} keeps failing: its circuit breaker is open"),
        Reason::Overloaded => format!("{upstream} has too many calls in flight"),
        Reason::Answered | Reason::Error | Reason::Cancelled => {
            format!("{upstream} answered with {}", outcome.code)
        }
    }
}
