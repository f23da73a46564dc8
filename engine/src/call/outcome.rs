//! What the end of a call means: one table, consulted by retry, breaker, balancer, metrics, spans
//! and the caller's error alike. It is decided once, where the attempt ends.
//!
//! A status code alone does not suffice: the client library reports its own time-out and a draining
//! connection both as CANCELLED, and a killed peer as UNKNOWN. So [`transport`](super::transport)
//! says what happened, as a [`CallError`], and this file what follows.

use tokio::time::Instant;

use super::{BadReply, CallError, Code, Lost};

/// What the end of a call says about the upstream's health.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// It works.
    Success,
    /// It does not.
    Failure,
    /// It has too much to do: worth sending less, no reason to call it broken.
    Overload,
    /// It is alive, and answered with an error that is the caller's affair. Whether it is its own fault
    /// after all, only its siblings' answers to the like can tell.
    Declined,
    /// Nothing: the caller left, or it was never asked.
    Neutral,
}

impl Effect {
    /// The effect in traces.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Overload => "overload",
            Self::Declined => "declined",
            Self::Neutral => "neutral",
        }
    }
}

/// Whether the same call may be sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Retry {
    /// It would end the same way, or its caller has left.
    Never,
    /// Only if running it twice does no harm: it may have run.
    IfIdempotent,
    /// It could not be sent to anybody: whatever it does, but not at once.
    Unsent,
    /// The peer promises that it did not look at it: whatever it does, to another.
    Unprocessed,
    /// It never left: as often as it takes, as if nothing had happened (gRPC A6, "transparent").
    Transparent,
}

/// How a call ended, in the terms of its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// It was answered.
    Answered,
    /// The upstream could not be reached, or has no instance.
    Unavailable,
    /// It did not answer in time.
    Timeout,
    /// It answered with an error.
    Error,
    /// It was not asked: the circuit breaker is open.
    CircuitOpen,
    /// It was not asked: too many calls to it are in flight.
    Overloaded,
    /// The caller left before the end.
    Cancelled,
}

impl Reason {
    /// The reason in metrics.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Unavailable => "unavailable",
            Self::Timeout => "timeout",
            Self::Error => "error",
            Self::CircuitOpen => "circuit_open",
            Self::Overloaded => "overloaded",
            Self::Cancelled => "cancelled",
        }
    }
}

/// What the end of a call means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// The status a caller should see.
    pub(crate) code: Code,
    /// What it says about the upstream.
    pub(crate) effect: Effect,
    /// Whether to send it again.
    pub(crate) retry: Retry,
    /// What it is to its caller.
    pub(crate) reason: Reason,
    /// Whether this one answer shows that its instance is none of the service's.
    pub(crate) foreign: bool,
}

/// When an attempt began, and how long it may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timing {
    /// When it began.
    pub(crate) began: Instant,
    /// When it ends at the latest.
    pub(crate) deadline: Instant,
    /// Whether a client chose a deadline shorter than what an attempt is meant to have: then taking
    /// longer says nothing about the upstream. A client in a hurry must not be able to condemn it.
    pub(crate) hurried: bool,
}

impl Timing {
    /// Of a call that was never sent.
    pub(super) fn none(now: Instant) -> Self {
        Self {
            began: now,
            deadline: now,
            hurried: false,
        }
    }
}

impl Outcome {
    /// The upstream answered, and all went well.
    pub(crate) const OK: Self = outcome(Code::Ok, Effect::Success, Retry::Never, Reason::Answered);
    /// The caller left before the end.
    pub(crate) const LEFT: Self = outcome(
        Code::Cancelled,
        Effect::Neutral,
        Retry::Never,
        Reason::Cancelled,
    );

    /// What `error` means, of an attempt within `timing` that ended at `now`.
    pub(super) fn of(error: &CallError, timing: &Timing, now: Instant) -> Self {
        let timeout = |effect| {
            outcome(
                Code::DeadlineExceeded,
                effect,
                Retry::IfIdempotent,
                Reason::Timeout,
            )
        };
        match error {
            CallError::NoInstance(_) => outcome(
                Code::Unavailable,
                Effect::Neutral,
                Retry::Never,
                Reason::Unavailable,
            ),
            // Not one of all its instances: the service is away. A client in a hurry cannot know.
            CallError::Unreachable(unreachable) => outcome(
                Code::Unavailable,
                match unreachable.ran_out && timing.hurried {
                    true => Effect::Neutral,
                    false => Effect::Failure,
                },
                Retry::Unsent,
                Reason::Unavailable,
            ),
            CallError::CircuitOpen(_) => outcome(
                Code::Unavailable,
                Effect::Neutral,
                Retry::Never,
                Reason::CircuitOpen,
            ),
            CallError::Overloaded(_) => outcome(
                Code::ResourceExhausted,
                Effect::Neutral,
                Retry::Never,
                Reason::Overloaded,
            ),
            CallError::NoTimeLeft(_) => outcome(
                Code::DeadlineExceeded,
                Effect::Neutral,
                Retry::Never,
                Reason::Timeout,
            ),
            CallError::AttemptElapsed(_) if timing.hurried => timeout(Effect::Neutral),
            CallError::AttemptElapsed(_) => timeout(Effect::Failure),
            CallError::Peer { code, .. } => {
                let effect = match timing.hurried {
                    true => Effect::Neutral,
                    false => Effect::Failure,
                };
                let left = timing.deadline.saturating_duration_since(now);
                match code {
                    // A peer that holds to the announced time gives up when we do, only a little
                    // sooner.
                    Code::Cancelled if left < TOO_LITTLE => timeout(effect),
                    Code::DeadlineExceeded => timeout(effect),
                    Code::Cancelled if timing.hurried => Self {
                        effect,
                        ..Self::of_code(*code)
                    },
                    code => Self::of_code(*code),
                }
            }
            CallError::Transport { lost, .. } => Self::of_lost(*lost),
            CallError::BadReply(BadReply::NotGrpc { http, .. }) => {
                let code = Code::of_http(*http);
                Self {
                    effect: Effect::Failure,
                    // A proxy says so for a while of an instance that is one.
                    foreign: code != Code::Unavailable,
                    ..Self::of_code(code)
                }
            }
            CallError::BadReply(BadReply::Refused { code, .. }) => {
                outcome(*code, Effect::Failure, Retry::Never, Reason::Error)
            }
            CallError::BadReply(
                BadReply::Undecodable(_) | BadReply::NoMessage | BadReply::ManyMessages,
            ) => Self::of_code(Code::Internal),
        }
    }

    /// A call that the peer ended with `code`.
    fn of_code(code: Code) -> Self {
        let (effect, retry) = match code {
            Code::Ok => (Effect::Success, Retry::Never),
            Code::Unavailable | Code::DeadlineExceeded => (Effect::Failure, Retry::IfIdempotent),
            Code::Unknown | Code::Internal | Code::DataLoss => (Effect::Failure, Retry::Never),
            Code::ResourceExhausted => (Effect::Overload, Retry::Never),
            Code::Cancelled => (Effect::Declined, Retry::IfIdempotent),
            _ => (Effect::Declined, Retry::Never),
        };
        let reason = match code {
            Code::Ok => Reason::Answered,
            Code::Unavailable => Reason::Unavailable,
            Code::DeadlineExceeded => Reason::Timeout,
            _ => Reason::Error,
        };
        outcome(code, effect, retry, reason)
    }

    fn of_lost(lost: Lost) -> Self {
        let (effect, retry) = match lost {
            Lost::Unsent => (Effect::Neutral, Retry::Transparent),
            Lost::Refused => (Effect::Overload, Retry::Unprocessed),
            Lost::InFlight | Lost::Connection => (Effect::Failure, Retry::IfIdempotent),
            Lost::Beside => (Effect::Neutral, Retry::IfIdempotent),
            Lost::Other(code) => {
                let effect = Effect::Failure;
                return Self {
                    effect,
                    ..Self::of_code(code)
                };
            }
        };
        outcome(Code::Unavailable, effect, retry, Reason::Unavailable)
    }
}

/// Below this much time a call is not worth sending, and an end is as good as the deadline's.
pub(crate) const TOO_LITTLE: std::time::Duration = std::time::Duration::from_millis(5);

const fn outcome(code: Code, effect: Effect, retry: Retry, reason: Reason) -> Outcome {
    Outcome {
        code,
        effect,
        retry,
        reason,
        foreign: false,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{
        super::{AttemptElapsed, CircuitOpen, NoInstance, NoTimeLeft, Overloaded, Unreachable},
        *,
    };

    fn peer(code: Code) -> CallError {
        CallError::Peer {
            code,
            message: String::new(),
            pushback: None,
        }
    }

    fn lost(lost: Lost) -> CallError {
        let detail = String::new();
        CallError::Transport { lost, detail }
    }

    fn of(error: impl Into<CallError>) -> Outcome {
        let now = Instant::now();
        let timing = Timing {
            began: now,
            deadline: now + Duration::from_secs(1),
            hurried: false,
        };
        Outcome::of(&error.into(), &timing, now)
    }

    #[test]
    fn our_own_deadline_is_a_failure_that_may_have_run_unless_the_client_was_in_a_hurry() {
        let after = Duration::from_secs(2);
        let elapsed = of(AttemptElapsed { after });
        assert_eq!(elapsed.code, Code::DeadlineExceeded);
        assert_eq!(
            (elapsed.effect, elapsed.retry),
            (Effect::Failure, Retry::IfIdempotent)
        );
        let now = Instant::now();
        let hurried = Timing {
            hurried: true,
            ..Timing::none(now)
        };
        for error in [
            AttemptElapsed { after }.into(),
            peer(Code::DeadlineExceeded),
            peer(Code::Cancelled),
        ] {
            assert_eq!(Outcome::of(&error, &hurried, now).effect, Effect::Neutral);
        }
    }

    #[test]
    fn a_peer_that_gives_up_with_the_deadline_is_late_and_one_that_does_so_before_is_not() {
        let now = Instant::now();
        let timing = |left| Timing {
            deadline: now + left,
            ..Timing::none(now)
        };
        let late = Outcome::of(
            &peer(Code::Cancelled),
            &timing(Duration::from_millis(4)),
            now,
        );
        assert_eq!(
            (late.code, late.effect),
            (Code::DeadlineExceeded, Effect::Failure)
        );
        let early = Outcome::of(&peer(Code::Cancelled), &timing(Duration::from_secs(1)), now);
        assert_eq!(
            (early.code, early.effect),
            (Code::Cancelled, Effect::Declined)
        );
        let hurried = Timing {
            hurried: true,
            ..timing(Duration::from_millis(4))
        };
        let hurried = Outcome::of(&peer(Code::Cancelled), &hurried, now);
        assert_eq!(
            (hurried.code, hurried.effect, hurried.reason),
            (Code::DeadlineExceeded, Effect::Neutral, Reason::Timeout)
        );
    }

    #[test]
    fn an_attempt_that_was_lost_is_a_failure_whatever_code_the_loss_has() {
        // A peer whose proxy resets each stream with INADEQUATE_SECURITY is of no use.
        for code in [Code::PermissionDenied, Code::Cancelled, Code::Internal] {
            let outcome = of(lost(Lost::Other(code)));
            assert_eq!((outcome.code, outcome.effect), (code, Effect::Failure));
        }
    }

    #[test]
    fn a_lost_call_is_a_failure_if_it_may_have_run_and_a_lost_connection_is_one_failure() {
        for (how, effect, retry) in [
            (Lost::Unsent, Effect::Neutral, Retry::Transparent),
            (Lost::Refused, Effect::Overload, Retry::Unprocessed),
            (Lost::InFlight, Effect::Failure, Retry::IfIdempotent),
            (Lost::Connection, Effect::Failure, Retry::IfIdempotent),
            (Lost::Beside, Effect::Neutral, Retry::IfIdempotent),
        ] {
            let outcome = of(lost(how));
            assert_eq!((outcome.effect, outcome.retry), (effect, retry), "{how:?}");
            assert_eq!(outcome.reason, Reason::Unavailable);
        }
    }

    #[test]
    fn a_service_that_cannot_be_reached_has_failed_and_any_call_may_be_sent_later() {
        let why = "refused".to_owned();
        let nobody = Unreachable {
            instances: 3,
            why,
            ran_out: true,
        };
        let now = Instant::now();
        let hurried = Timing {
            hurried: true,
            ..Timing::none(now)
        };
        let hurried = Outcome::of(&nobody.clone().into(), &hurried, now);
        assert_eq!(hurried.effect, Effect::Neutral);
        let outcome = of(nobody);
        assert_eq!(
            (outcome.effect, outcome.retry, outcome.reason),
            (Effect::Failure, Retry::Unsent, Reason::Unavailable)
        );
    }

    #[test]
    fn what_we_did_not_send_says_nothing_about_the_upstream_and_is_not_retried() {
        let errors: [CallError; 4] = [
            NoInstance { known: true }.into(),
            CircuitOpen.into(),
            Overloaded {
                limit: 1,
                what: "calls",
            }
            .into(),
            NoTimeLeft {
                left: Duration::ZERO,
            }
            .into(),
        ];
        for error in errors {
            let outcome = of(error);
            assert_eq!(
                (outcome.effect, outcome.retry),
                (Effect::Neutral, Retry::Never)
            );
        }
    }

    #[test]
    fn the_callers_faults_show_that_it_lives_and_are_never_retried() {
        for code in [
            Code::NotFound,
            Code::InvalidArgument,
            Code::Unimplemented,
            Code::Aborted,
            Code::OutOfRange,
        ] {
            let outcome = of(peer(code));
            assert_eq!(
                (outcome.code, outcome.effect, outcome.retry),
                (code, Effect::Declined, Retry::Never)
            );
        }
    }

    #[test]
    fn a_reply_that_breaks_the_rules_is_the_upstreams_failure_whatever_its_code() {
        let refused = |code| BadReply::Refused {
            code,
            detail: String::new(),
        };
        for (bad, code) in [
            (BadReply::Undecodable(String::new()), Code::Internal),
            (BadReply::NoMessage, Code::Internal),
            (BadReply::ManyMessages, Code::Internal),
            (refused(Code::OutOfRange), Code::OutOfRange),
            (refused(Code::Unimplemented), Code::Unimplemented),
        ] {
            let outcome = of(bad);
            assert_eq!((outcome.code, outcome.effect), (code, Effect::Failure));
        }
    }
}
