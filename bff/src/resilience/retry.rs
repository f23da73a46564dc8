//! Sending a failed call again: to another instance, within a budget and the deadline.
//!
//! After gRPC A6: a call is committed once its first message has arrived. A call that was never
//! sent is sent again at once and costs no budget (A6 calls that a transparent retry); one that
//! may have run is sent again only if its method is declared idempotent.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use garde::Validate;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::{Frame, SizeHint};
use http_body_util::{BodyExt, Full};
use rand::Rng;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};
use tonic::{Code, Status, body::Body};
use tower::{BoxError, Layer, Service, ServiceExt};

use super::{
    Method,
    attempt::LastAttempt,
    breaker::CircuitOpen,
    budget::Budget,
    classify::{self, Class, Retry},
    deadline::Deadline,
};
use crate::{
    balance::Tried,
    config::types::{ms, secs, within},
};

/// `[upstreams.<name>.retry]`: when a failed call is tried again.
#[derive(Clone, Debug, Deserialize, Serialize, Validate)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Attempts per call, the first included; 1 turns retries off.
    #[garde(range(min = 1, max = 10))]
    pub max_attempts: u32,
    /// Upper bound of the random pause before the second attempt; it doubles with each further.
    #[serde(with = "humantime_serde")]
    #[garde(custom(within(ms(0)..=secs(10))))]
    pub backoff: Duration,
    /// Upper bound of any pause.
    #[serde(with = "humantime_serde")]
    #[garde(custom(within(ms(0)..=secs(60))))]
    pub backoff_max: Duration,
    /// Retries per call, over ten seconds, 0 to 1.
    #[garde(range(min = 0.0, max = 1.0))]
    pub budget_ratio: f64,
    /// Retries per second that a quiet service has in any case.
    #[garde(range(min = 0.0, max = 1000.0))]
    pub budget_min_per_second: f64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_attempts: 3,
            backoff: Duration::from_millis(25),
            backoff_max: Duration::from_millis(250),
            budget_ratio: 0.2,
            budget_min_per_second: 1.0,
        }
    }
}

/// Sends failed calls again as its configuration and budget allow.
#[derive(Clone, Debug)]
pub struct RetryLayer {
    config: Arc<Config>,
    budget: Arc<Mutex<Budget>>,
}

impl RetryLayer {
    /// One layer per service: its clones share the budget.
    pub fn new(config: &Config) -> Self {
        let budget = Budget::new(
            config.budget_ratio,
            config.budget_min_per_second,
            Instant::now(),
        );
        Self {
            config: Arc::new(config.clone()),
            budget: Arc::new(Mutex::new(budget)),
        }
    }

    /// How many retries the budget has left.
    pub fn budget_left(&self) -> f64 {
        self.budget(|budget| budget.left(Instant::now()))
    }

    fn budget<T>(&self, act: impl FnOnce(&mut Budget) -> T) -> T {
        act(&mut self.budget.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<S> Layer<S> for RetryLayer {
    type Service = RetryService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        RetryService {
            inner,
            layer: self.clone(),
        }
    }
}

/// See [`RetryLayer`].
#[derive(Clone, Debug)]
pub struct RetryService<S> {
    inner: S,
    layer: RetryLayer,
}

impl<S, B> Service<Request<Body>> for RetryService<S>
where
    S: Service<Request<Body>, Response = Response<B>, Error = BoxError> + Clone + Send + 'static,
    S::Future: Send,
    B: http_body::Body<Data = Bytes, Error = Status> + Send + Unpin + 'static,
{
    type Response = Response<Peeked<B>>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    /// Each attempt waits for its own clone of the inner service.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (inner, layer) = (self.inner.clone(), self.layer.clone());
        Box::pin(run(inner, layer, request))
    }
}

async fn run<S, B>(
    inner: S,
    layer: RetryLayer,
    request: Request<Body>,
) -> Result<Response<Peeked<B>>, BoxError>
where
    S: Service<Request<Body>, Response = Response<B>, Error = BoxError> + Clone,
    B: http_body::Body<Data = Bytes, Error = Status> + Unpin,
{
    let idempotent = request
        .extensions()
        .get::<Method>()
        .is_some_and(|m| m.idempotent);
    let deadline = request.extensions().get::<Deadline>().copied();
    let tried = request
        .extensions()
        .get::<Tried>()
        .cloned()
        .unwrap_or_default();
    let (mut parts, body) = request.into_parts();
    // One message: the requests of unary and server-streaming calls.
    let message = body.collect().await?.to_bytes();
    parts.extensions.insert(tried);

    let mut attempt = 1;
    loop {
        let mut request = Request::from_parts(parts.clone(), Body::new(Full::new(message.clone())));
        // Never-sent calls are sent again all the same; they end quickly.
        if attempt >= layer.config.max_attempts || !idempotent {
            request.extensions_mut().insert(LastAttempt);
        }
        if attempt > 1 {
            let previous = HeaderValue::from(attempt - 1);
            request
                .headers_mut()
                .insert("grpc-previous-rpc-attempts", previous);
        }
        let outcome = Outcome::of(inner.clone().oneshot(request).await).await;
        // A call that an open breaker rejects is no load, and earns no retry.
        if attempt == 1 && !outcome.rejected() {
            layer.budget(|budget| budget.deposit(Instant::now()));
        }
        let Some(failure) = outcome.failure else {
            return outcome.answer;
        };
        if attempt >= layer.config.max_attempts {
            return outcome.answer;
        }
        let Some(pause) = failure.pause(&layer.config, attempt, idempotent, &mut rand::rng())
        else {
            return outcome.answer;
        };
        let now = Instant::now();
        // It would be sent too late to be of use.
        if deadline.is_some_and(|deadline| deadline.is_too_close(now + pause)) {
            return outcome.answer;
        }
        // A6: what the peer did not look at is sent again for free, once.
        let free = attempt == 1 && failure.class.retry == Retry::Always;
        if !free && !layer.budget(|budget| budget.withdraw(now)) {
            return outcome.answer;
        }
        // The failed answer holds what its call held.
        drop(outcome);
        if !pause.is_zero() {
            sleep(pause).await;
        }
        attempt += 1;
    }
}

/// A failed attempt, and what the server says about trying again.
#[derive(Clone, Copy, Debug)]
struct Failure {
    class: Class,
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
    fn of_code(code: Code, headers: &HeaderMap) -> Option<Self> {
        let class = classify::of_code(code);
        (code != Code::Ok).then(|| Self {
            class,
            pushback: Pushback::of(headers),
        })
    }

    /// How long to wait before the next attempt; `None` if there should be none.
    fn pause(
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

/// How an attempt went, as far as its first message tells.
struct Outcome<B> {
    answer: Result<Response<Peeked<B>>, BoxError>,
    /// None if the attempt is good, or committed.
    failure: Option<Failure>,
}

impl<B> Outcome<B>
where
    B: http_body::Body<Data = Bytes, Error = Status> + Unpin,
{
    /// Whether nothing was sent because the breaker is open.
    fn rejected(&self) -> bool {
        let open = |error: &BoxError| classify::find::<CircuitOpen>(error.as_ref()).is_some();
        self.answer.as_ref().is_err_and(open)
    }

    async fn of(answer: Result<Response<B>, BoxError>) -> Self {
        let response = match answer {
            Ok(response) => response,
            Err(error) => {
                let class = classify::of_error(error.as_ref());
                return Self {
                    answer: Err(error),
                    failure: Some(Failure {
                        class,
                        pushback: None,
                    }),
                };
            }
        };
        if let Some(code) = classify::code_of(&response) {
            let failure = Failure::of_code(code, response.headers());
            let answer = Ok(response.map(|rest| Peeked { first: None, rest }));
            return Self { answer, failure };
        }
        // Headers alone commit nothing yet: look at what follows.
        let (parts, mut rest) = response.into_parts();
        let first = rest.frame().await;
        let failure = match &first {
            Some(Ok(frame)) => frame.trailers_ref().and_then(|trailers| {
                Failure::of_code(
                    classify::code_in(trailers).unwrap_or(Code::Unknown),
                    trailers,
                )
            }),
            Some(Err(status)) => Some(Failure {
                class: classify::of_error(status),
                pushback: None,
            }),
            None => None,
        };
        Self {
            answer: Ok(Response::from_parts(parts, Peeked { first, rest })),
            failure,
        }
    }
}

/// A body whose first frame was looked at.
#[derive(Debug)]
pub struct Peeked<B> {
    first: Option<Result<Frame<Bytes>, Status>>,
    rest: B,
}

impl<B> http_body::Body for Peeked<B>
where
    B: http_body::Body<Data = Bytes, Error = Status> + Unpin,
{
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        match this.first.take() {
            Some(first) => Poll::Ready(Some(first)),
            None => Pin::new(&mut this.rest).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match self.first {
            Some(_) => SizeHint::default(),
            None => self.rest.size_hint(),
        }
    }
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
