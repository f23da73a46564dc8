//! Whether and when a failed attempt is followed by another: pure, randomness is an argument.

use std::time::Duration;

use http::HeaderMap;
use rand::Rng;
use tonic::Code;

use super::Config;
use crate::resilience::classify::{self, Class, Retry};

/// A failed attempt, and what the server says about trying again.
#[derive(Clone, Copy, Debug)]
pub(super) struct Failure {
    pub(super) class: Class,
    pushback: Option<Pushback>,
}

/// `grpc-retry-pushback-ms` (gRPC A6): a server's own word on retries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pushback {
    /// Try again after exactly this long.
    After(Duration),
    /// A negative number, or nothing one could read: do not try again.
    Never,
}

impl Pushback {
    fn of(headers: &HeaderMap) -> Option<Self> {
        let value = headers.get("grpc-retry-pushback-ms")?;
        let millis = value
            .to_str()
            .ok()
            .and_then(|text| text.parse::<u32>().ok());
        Some(millis.map_or(Self::Never, |ms| {
            Self::After(Duration::from_millis(ms.into()))
        }))
    }
}

impl Failure {
    /// An attempt that ended without a word from the server.
    pub(super) fn without_word(class: Class) -> Self {
        Self {
            class,
            pushback: None,
        }
    }

    /// An attempt that the server ended with `code`; `None` if that is no failure.
    pub(super) fn of_code(code: Code, headers: &HeaderMap) -> Option<Self> {
        let class = classify::of_code(code);
        (code != Code::Ok).then(|| Self {
            class,
            pushback: Pushback::of(headers),
        })
    }

    /// How long to wait before the next attempt; `None` if there should be none.
    pub(super) fn pause(
        &self,
        config: &Config,
        attempt: u32,
        idempotent: bool,
        rng: &mut impl Rng,
    ) -> Option<Duration> {
        match (self.class.retry, self.pushback) {
            (_, Some(Pushback::Never)) => None,
            (Retry::Always, _) => Some(Duration::ZERO),
            (Retry::IfIdempotent, pushback) if idempotent => Some(match pushback {
                Some(Pushback::After(exactly)) => exactly,
                _ => backoff(config, attempt, rng),
            }),
            // A server that is overloaded is asked again only if it says when.
            (Retry::Never, Some(Pushback::After(exactly)))
                if idempotent && self.class.code == Code::ResourceExhausted =>
            {
                Some(exactly)
            }
            (Retry::IfIdempotent | Retry::Never, _) => None,
        }
    }
}

/// "Full jitter": anywhere between nothing and the doubled bound, so that callers that failed
/// together do not return together.
fn backoff(config: &Config, attempt: u32, rng: &mut impl Rng) -> Duration {
    let bound = config
        .backoff
        .saturating_mul(1 << (attempt - 1).min(20))
        .min(config.backoff_max);
    bound.mul_f64(rng.random())
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::SmallRng};

    use super::*;

    #[test]
    fn pauses_are_random_below_a_bound_that_doubles_up_to_its_maximum() {
        let mut rng = SmallRng::seed_from_u64(1);
        let config = Config::default();
        for (attempt, bound) in [(1, 25), (2, 50), (3, 100), (4, 200), (5, 250), (40, 250)] {
            let bound = Duration::from_millis(bound);
            let pauses: Vec<_> = (0..200)
                .map(|_| backoff(&config, attempt, &mut rng))
                .collect();
            assert!(pauses.iter().all(|pause| *pause <= bound));
            assert!(pauses.iter().any(|pause| *pause > bound / 2));
            assert!(pauses.iter().any(|pause| *pause < bound / 2));
        }
    }

    fn failure(code: Code, pushback: Option<&str>) -> Failure {
        let mut headers = HeaderMap::new();
        if let Some(text) = pushback {
            headers.insert("grpc-retry-pushback-ms", text.parse().unwrap());
        }
        Failure::of_code(code, &headers).unwrap()
    }

    fn pause_of(code: Code, pushback: Option<&str>, idempotent: bool) -> Option<Duration> {
        let mut rng = SmallRng::seed_from_u64(1);
        failure(code, pushback).pause(&Config::default(), 1, idempotent, &mut rng)
    }

    #[test]
    fn f14_pushback_is_obeyed_to_the_millisecond_and_anything_unreadable_means_never() {
        let exactly = Some(Duration::from_millis(300));
        assert_eq!(pause_of(Code::Unavailable, Some("300"), true), exactly);
        for never in ["-1", "garbage", "", "1.5", "99999999999999999999"] {
            assert_eq!(
                pause_of(Code::Unavailable, Some(never), true),
                None,
                "{never}"
            );
        }
    }

    #[test]
    fn an_overloaded_server_is_asked_again_only_when_it_says_when() {
        assert_eq!(pause_of(Code::ResourceExhausted, None, true), None);
        let exactly = Some(Duration::from_millis(7));
        assert_eq!(pause_of(Code::ResourceExhausted, Some("7"), true), exactly);
        assert_eq!(pause_of(Code::ResourceExhausted, Some("7"), false), None);
    }

    #[test]
    fn a_call_that_may_have_run_is_sent_again_only_if_that_does_no_harm() {
        assert!(pause_of(Code::Unavailable, None, true).is_some());
        assert_eq!(pause_of(Code::Unavailable, None, false), None);
        assert_eq!(pause_of(Code::Unavailable, Some("10"), false), None);
    }
}
