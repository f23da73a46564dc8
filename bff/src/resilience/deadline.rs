//! The deadline of a whole call: all attempts, body and trailers included.

use std::{
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderMap, HeaderValue, Request, Response};
use tokio::time::Instant;
use tonic::{Status, body::Body};
use tower::{BoxError, Layer, Service};

use super::{
    streams,
    timed::{TimedBody, Timer, timed},
};

/// Below this much time a call is not worth sending: the answer would come too late.
pub const TOO_LITTLE: Duration = Duration::from_millis(5);

/// When a call has to be answered; a request extension, which each layer may only bring forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(Instant);

impl Deadline {
    /// A deadline at `at`.
    pub fn at(at: Instant) -> Self {
        Self(at)
    }

    /// The moment itself.
    pub fn instant(&self) -> Instant {
        self.0
    }

    /// What is left of it.
    pub fn left(&self, now: Instant) -> Duration {
        self.0.saturating_duration_since(now)
    }

    /// Whether it has passed.
    pub fn is_over(&self, now: Instant) -> bool {
        now >= self.0
    }

    /// Whether there is too little left to send anything.
    pub fn is_too_close(&self, now: Instant) -> bool {
        self.left(now) < TOO_LITTLE
    }

    /// Tells the peer what is left, as the `grpc-timeout` header: at most eight digits, rounded
    /// down so that the peer gives up first.
    pub fn announce(&self, headers: &mut HeaderMap, now: Instant) {
        let left = self.left(now);
        let text = match left.as_micros() {
            micros @ 0..=99_999_999 => format!("{micros}u"),
            micros => format!("{}m", (micros / 1000).min(99_999_999)),
        };
        if let Ok(value) = HeaderValue::try_from(text) {
            headers.insert("grpc-timeout", value);
        }
    }

    /// Brings the deadline of `request` forward to `self`, unless it is earlier already. Returns
    /// the one in force.
    pub(super) fn bring_forward<B>(self, request: &mut Request<B>) -> Self {
        let earlier = request
            .extensions()
            .get::<Self>()
            .map_or(self, |other| self.min(*other));
        request.extensions_mut().insert(earlier);
        earlier
    }
}

/// Marks, as a request extension, a call whose deadline its client chose.
#[derive(Clone, Copy, Debug)]
pub struct ClientDeadline;

/// For a call whose deadline its client chose: the time an attempt has to have before taking
/// longer says anything about the upstream.
#[derive(Clone, Copy, Debug)]
pub(super) struct FairTime(pub(super) Duration);

/// A call was not answered in time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", match sent {
    true => format!("no answer within {}", humantime::format_duration(*after)),
    false => "no time was left to send it".to_owned(),
})]
pub struct Elapsed {
    /// How much time the call had.
    pub after: Duration,
    /// Whether it was worth sending at all.
    pub sent: bool,
}

/// How long the calls of one service may take. Clones share it; a change acts on the next call.
#[derive(Clone, Debug)]
pub struct Timeouts(Arc<ArcSwap<Times>>);

/// The values of [`Timeouts`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// How much time a call has at most, all its attempts together.
    pub call: Duration,
    /// How much time an attempt is meant to have.
    pub attempt: Duration,
}

impl Timeouts {
    /// Starts with `times`.
    pub fn new(times: Times) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(times)))
    }

    /// What is in force.
    pub fn get(&self) -> Times {
        **self.0.load()
    }

    /// Puts `times` in force.
    pub fn set(&self, times: Times) {
        self.0.store(Arc::new(times));
    }
}

/// Gives every call a [`Deadline`], the earlier of the request's own and the time a call has, and
/// ends it there.
#[derive(Clone, Debug)]
pub struct DeadlineLayer(pub Timeouts);

impl<S> Layer<S> for DeadlineLayer {
    type Service = DeadlineService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        DeadlineService {
            inner,
            timeouts: self.0.clone(),
        }
    }
}

/// See [`DeadlineLayer`].
#[derive(Clone, Debug)]
pub struct DeadlineService<S> {
    inner: S,
    timeouts: Timeouts,
}

impl<S, B> Service<Request<Body>> for DeadlineService<S>
where
    S: Service<Request<Body>, Response = Response<B>, Error = BoxError>,
    S::Future: Send + 'static,
    B: http_body::Body<Data = Bytes, Error = Status> + Unpin + Send + 'static,
{
    type Response = Response<TimedBody<B>>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let now = Instant::now();
        // The whole call, all its attempts, by one view of them.
        let times = self.timeouts.get();
        request.extensions_mut().insert(times);
        let deadline = Deadline(now + times.call).bring_forward(&mut request);
        if request.extensions().get::<ClientDeadline>().is_some() {
            request.extensions_mut().insert(FairTime(times.attempt));
        }
        let after = deadline.left(now);
        if deadline.is_too_close(now) {
            return Box::pin(async move { Err(Elapsed { after, sent: false }.into()) });
        }
        let timer = Timer::new(deadline, streams(&request), move || {
            Elapsed { after, sent: true }.into()
        });
        Box::pin(timed(self.inner.call(request), timer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn announced(left: Duration) -> String {
        let now = Instant::now();
        let mut headers = HeaderMap::new();
        Deadline::at(now + left).announce(&mut headers, now);
        headers["grpc-timeout"].to_str().unwrap().to_owned()
    }

    #[test]
    fn grpc_timeout_has_at_most_eight_digits_and_is_rounded_down() {
        assert_eq!(announced(Duration::from_micros(1_999_999)), "1999999u");
        assert_eq!(announced(Duration::from_nanos(1500)), "1u");
        assert_eq!(announced(Duration::from_secs(100)), "100000m");
        assert_eq!(
            announced(Duration::from_secs(u64::from(u32::MAX))),
            "99999999m"
        );
        assert_eq!(announced(Duration::ZERO), "0u");
    }
}
