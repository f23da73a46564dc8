//! Whether and when a failed attempt is followed by another: pure, randomness is an argument.

use std::time::Duration;

use rand::Rng;

use crate::{
    call::{Code, Failed, Outcome, Pushback, Retry, RetryConfig},
    types::Backoff,
};

/// How long to wait before the next attempt; `None` if there should be none.
pub(crate) fn pause(
    failed: &Failed,
    config: &RetryConfig,
    attempt: u32,
    idempotent: bool,
    rng: &mut impl Rng,
) -> Option<Duration> {
    decide(failed.outcome(), failed.pushback(), idempotent).map(|when| match when {
        When::AtOnce => Duration::ZERO,
        When::After(exactly) => exactly,
        // "Full jitter": anywhere between nothing and the doubled bound.
        When::Backoff => Backoff {
            base: config.backoff,
            max: config.backoff_max,
            jitter: 0.0..=1.0,
        }
        .pause(attempt - 1, rng),
    })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    AtOnce,
    After(Duration),
    Backoff,
}

fn decide(outcome: Outcome, pushback: Option<Pushback>, idempotent: bool) -> Option<When> {
    match (outcome.retry, pushback) {
        (_, Some(Pushback::Never)) => None,
        (Retry::Transparent | Retry::Unprocessed, _) => Some(When::AtOnce),
        (Retry::Unsent, _) => Some(When::Backoff),
        (Retry::IfIdempotent, pushback) if idempotent => Some(match pushback {
            Some(Pushback::After(exactly)) => When::After(exactly),
            _ => When::Backoff,
        }),
        // A server that is overloaded is asked again only if it says when.
        (Retry::Never, Some(Pushback::After(exactly)))
            if idempotent && outcome.code == Code::ResourceExhausted =>
        {
            Some(When::After(exactly))
        }
        (Retry::IfIdempotent | Retry::Never, _) => None,
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;
    use crate::call::CallError;

    fn decided(code: Code, pushback: Option<&str>, idempotent: bool) -> Option<When> {
        let error = CallError::Peer {
            code,
            message: String::new(),
            pushback: pushback.map(|text| Pushback::parse(text.as_bytes())),
        };
        let failed = Failed::unsent(error, Instant::now());
        decide(failed.outcome(), failed.pushback(), idempotent)
    }

    #[test]
    fn f14_pushback_is_obeyed_to_the_millisecond_and_anything_unreadable_means_never() {
        let exactly = Some(When::After(Duration::from_millis(300)));
        assert_eq!(decided(Code::Unavailable, Some("300"), true), exactly);
        for never in ["-1", "garbage", "", "1.5", "99999999999999999999"] {
            assert_eq!(
                decided(Code::Unavailable, Some(never), true),
                None,
                "{never}"
            );
        }
    }

    #[test]
    fn an_overloaded_server_is_asked_again_only_when_it_says_when() {
        assert_eq!(decided(Code::ResourceExhausted, None, true), None);
        let exactly = Some(When::After(Duration::from_millis(7)));
        assert_eq!(decided(Code::ResourceExhausted, Some("7"), true), exactly);
        assert_eq!(decided(Code::ResourceExhausted, Some("7"), false), None);
    }

    #[test]
    fn a_call_that_may_have_run_is_sent_again_only_if_that_does_no_harm() {
        assert_eq!(decided(Code::Unavailable, None, true), Some(When::Backoff));
        assert_eq!(decided(Code::Unavailable, None, false), None);
        assert_eq!(decided(Code::Unavailable, Some("10"), false), None);
    }
}
