//! Sending a failed call again: to another instance, within a budget and the deadline.
//!
//! After gRPC A6: a call is committed once its first message has arrived. A call that was never
//! sent is sent again at once and costs no budget (A6 calls that a transparent retry); one that
//! may have run is sent again only if its method is declared idempotent.

use std::{
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use garde::Validate;
use http::{HeaderValue, Request, Response};
use http_body::{Frame, SizeHint};
use http_body_util::{BodyExt, Full};
use rand::Rng;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};
use tonic::{Status, body::Body};
use tower::{BoxError, Layer, Service, ServiceExt};

use super::{
    Method,
    budget::Budget,
    classify::{self, Class, Retry},
    deadline::Deadline,
    method_of,
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

/// How many attempts a call took, for whoever put it into the request's extensions.
#[derive(Clone, Debug, Default)]
pub struct Attempts(Arc<AtomicU32>);

impl Attempts {
    /// Attempts started so far.
    pub fn count(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Sends failed calls again as its configuration and budget allow.
#[derive(Clone, Debug)]
pub struct RetryLayer {
    config: Arc<Config>,
    budget: Arc<Mutex<Budget>>,
    methods: &'static [Method],
}

impl RetryLayer {
    /// One layer per service: its clones share the budget.
    pub fn new(config: &Config, methods: &'static [Method]) -> Self {
        let budget = Budget::new(
            config.budget_ratio,
            config.budget_min_per_second,
            Instant::now(),
        );
        Self {
            config: Arc::new(config.clone()),
            budget: Arc::new(Mutex::new(budget)),
            methods,
        }
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

impl<S> Service<Request<Body>> for RetryService<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = BoxError> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Response<Body>, BoxError>>;

    /// Each attempt waits for its own clone of the inner service.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (inner, layer) = (self.inner.clone(), self.layer.clone());
        Box::pin(run(inner, layer, request))
    }
}

async fn run<S>(
    inner: S,
    layer: RetryLayer,
    request: Request<Body>,
) -> Result<Response<Body>, BoxError>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = BoxError> + Clone,
{
    layer.budget(|budget| budget.deposit(Instant::now()));
    let idempotent = method_of(layer.methods, &request).is_some_and(|m| m.idempotent);
    let deadline = request.extensions().get::<Deadline>().copied();
    let attempts = request
        .extensions()
        .get::<Attempts>()
        .cloned()
        .unwrap_or_default();
    let (mut parts, body) = request.into_parts();
    // One message: the requests of unary and server-streaming calls.
    let message = body.collect().await?.to_bytes();
    parts.extensions.insert(Tried::default());

    let mut attempt = 1;
    loop {
        attempts.0.store(attempt, Ordering::Relaxed);
        let mut request = Request::from_parts(parts.clone(), Body::new(Full::new(message.clone())));
        if let Some(deadline) = &deadline {
            deadline.announce(request.headers_mut(), Instant::now());
        }
        if attempt > 1 {
            let previous = HeaderValue::from(attempt - 1);
            request
                .headers_mut()
                .insert("grpc-previous-rpc-attempts", previous);
        }
        let outcome = Outcome::of(inner.clone().oneshot(request).await).await;
        let Some(failure) = outcome.failure else {
            return outcome.answer;
        };
        if attempt >= layer.config.max_attempts {
            return outcome.answer;
        }
        let pause = match failure.retry {
            Retry::Always => Duration::ZERO,
            Retry::IfIdempotent if idempotent => pause(&layer.config, attempt, &mut rand::rng()),
            Retry::IfIdempotent | Retry::Never => return outcome.answer,
        };
        let now = Instant::now();
        let late = deadline.is_some_and(|deadline| deadline.is_over(now + pause));
        let paid = failure.retry == Retry::Always
            || (!late && layer.budget(|budget| budget.withdraw(now)));
        if late || !paid {
            return outcome.answer;
        }
        sleep(pause).await;
        attempt += 1;
    }
}

/// "Full jitter": anywhere between nothing and the doubled bound, so that callers that failed
/// together do not return together.
fn pause(config: &Config, attempt: u32, rng: &mut impl Rng) -> Duration {
    let bound = config
        .backoff
        .saturating_mul(1 << (attempt - 1).min(20))
        .min(config.backoff_max);
    bound.mul_f64(rng.random())
}

/// How an attempt went, as far as its first message tells.
struct Outcome {
    answer: Result<Response<Body>, BoxError>,
    /// None if the attempt is good, or committed.
    failure: Option<Class>,
}

impl Outcome {
    async fn of(answer: Result<Response<Body>, BoxError>) -> Self {
        let response = match answer {
            Ok(response) => response,
            Err(error) => {
                let failure = Some(classify::of_error(error.as_ref()));
                return Self {
                    answer: Err(error),
                    failure,
                };
            }
        };
        if let Some(code) = classify::code_in(response.headers()) {
            return Self {
                answer: Ok(response),
                failure: failed(classify::of_code(code)),
            };
        }
        // Headers alone commit nothing yet: look at what follows.
        let (parts, mut body) = response.into_parts();
        let first = body.frame().await;
        let failure = match &first {
            Some(Ok(frame)) => frame
                .trailers_ref()
                .and_then(classify::code_in)
                .and_then(|code| failed(classify::of_code(code))),
            Some(Err(status)) => Some(classify::of_error(status)),
            None => None,
        };
        let body = Body::new(Peeked { first, rest: body });
        Self {
            answer: Ok(Response::from_parts(parts, body)),
            failure,
        }
    }
}

fn failed(class: Class) -> Option<Class> {
    (class.code != tonic::Code::Ok).then_some(class)
}

/// A body whose first frame was looked at.
struct Peeked {
    first: Option<Result<Frame<Bytes>, Status>>,
    rest: Body,
}

impl http_body::Body for Peeked {
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
                .map(|_| pause(&config, attempt, &mut rng))
                .collect();
            assert!(pauses.iter().all(|pause| *pause <= bound));
            assert!(pauses.iter().any(|pause| *pause > bound / 2));
            assert!(pauses.iter().any(|pause| *pause < bound / 2));
        }
    }
}
