//! Sending a failed call again: to another instance, within a budget and the deadline.
//!
//! After gRPC A6: a call is committed once its first message has arrived. A call that was never
//! sent is sent again at once, and the first time that costs no budget (A6 calls that a
//! transparent retry); one that may have run is sent again only if its method is declared
//! idempotent.

mod config;
mod policy;

use std::{
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderValue, Request, Response};
use http_body::{Frame, SizeHint};
use http_body_util::{BodyExt, Full};
use tokio::time::{Instant, sleep};
use tonic::{Code, Status, body::Body};
use tower::{BoxError, Layer, Service, ServiceExt};

pub use self::config::Config;
use self::policy::Failure;
use super::{
    Method,
    attempt::LastAttempt,
    breaker::CircuitOpen,
    budget::Budget,
    classify::{self, Retry},
    deadline::Deadline,
    span::{AttemptNumber, CallSpan},
};
use crate::balance::Tried;

/// Sends failed calls again as its configuration and budget allow.
#[derive(Clone, Debug)]
pub struct RetryLayer {
    counts: Arc<Counts>,
    config: Arc<ArcSwap<Config>>,
    budget: Arc<Mutex<Budget>>,
}

/// Why calls were sent again, and how often they could not be.
#[derive(Debug, Default)]
struct Counts {
    /// Further attempts, by the code of the attempt before.
    retries: [AtomicU64; CODES],
    /// Failures that the budget had no retry for.
    exhausted: AtomicU64,
}

/// gRPC's codes are 0 to 16.
const CODES: usize = 17;

impl RetryLayer {
    /// One layer per service: its clones share the budget.
    pub fn new(config: &Config) -> Self {
        let budget = Budget::new(
            config.budget_ratio,
            config.budget_min_per_second,
            Instant::now(),
        );
        Self {
            counts: Arc::default(),
            config: Arc::new(ArcSwap::from_pointee(config.clone())),
            budget: Arc::new(Mutex::new(budget)),
        }
    }

    /// Puts another configuration in force from the next call on. What was spent stays spent.
    pub fn reconfigure(&self, config: &Config) {
        self.config.store(Arc::new(config.clone()));
        self.budget(|budget| budget.reconfigure(config.budget_ratio, config.budget_min_per_second));
    }

    /// How many further attempts there were, by the code of the attempt before; those that never
    /// happened are left out.
    pub fn retries(&self) -> impl Iterator<Item = (Code, u64)> + '_ {
        let counts = self.counts.retries.iter().zip(0..);
        counts
            .map(|(count, code)| (Code::from_i32(code), count.load(Ordering::Relaxed)))
            .filter(|(_, count)| *count > 0)
    }

    /// How many failures the budget had no retry for.
    pub fn exhausted(&self) -> u64 {
        self.counts.exhausted.load(Ordering::Relaxed)
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
    // One set of rules for all attempts of a call.
    let config = layer.config.load_full();
    let (mut parts, body) = request.into_parts();
    // One message: the requests of unary and server-streaming calls.
    let message = body.collect().await?.to_bytes();
    parts.extensions.insert(tried);

    let call_span = parts.extensions.get::<CallSpan>().cloned();
    let mut attempt = 1;
    let mut paused = Duration::ZERO;
    loop {
        let mut request = Request::from_parts(parts.clone(), Body::new(Full::new(message.clone())));
        // Never-sent calls are sent again all the same; they end quickly.
        if attempt >= config.max_attempts || !idempotent {
            request.extensions_mut().insert(LastAttempt);
        }
        let number = attempt;
        request
            .extensions_mut()
            .insert(AttemptNumber { number, paused });
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
        if attempt >= config.max_attempts {
            return outcome.answer;
        }
        let Some(pause) = failure.pause(&config, attempt, idempotent, &mut rand::rng()) else {
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
            layer.counts.exhausted.fetch_add(1, Ordering::Relaxed);
            if let Some(CallSpan(span)) = &call_span {
                span.event("retry budget exhausted", Vec::new());
            }
            return outcome.answer;
        }
        if let Some(count) = layer.counts.retries.get(failure.class.code as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        // The failed answer holds what its call held.
        drop(outcome);
        if !pause.is_zero() {
            sleep(pause).await;
        }
        paused = pause;
        attempt += 1;
    }
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
                    failure: Some(Failure::without_word(class)),
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
            Some(Err(status)) => Some(Failure::without_word(classify::of_error(status))),
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
