//! The deadline of a whole call: all attempts, body and trailers included.
//!
//! tonic's own time-out stops at the response headers; an upstream that sends headers and then
//! stalls would hang its caller for ever. Here the clock runs until the last byte of a unary
//! answer, and until the first message of a stream.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::{Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};
use tonic::{Status, body::Body};
use tower::{BoxError, Layer, Service};

use super::{Method, method_of};

/// When a call has to be answered; a request extension from [`DeadlineLayer`] inwards.
#[derive(Clone, Copy, Debug)]
pub struct Deadline(Instant);

impl Deadline {
    /// A deadline at `at`.
    pub fn at(at: Instant) -> Self {
        Self(at)
    }

    /// What is left of it.
    pub fn left(&self, now: Instant) -> Duration {
        self.0.saturating_duration_since(now)
    }

    /// Whether it has passed.
    pub fn is_over(&self, now: Instant) -> bool {
        now >= self.0
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
}

/// A call was not answered in time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no answer within {}", humantime::format_duration(*after))]
pub struct Elapsed {
    /// How much time the call had.
    pub after: Duration,
}

/// Gives every call a [`Deadline`] and ends it there.
#[derive(Clone, Copy, Debug)]
pub struct DeadlineLayer {
    /// How much time a call has.
    pub timeout: Duration,
    /// What is known of the upstream's methods.
    pub methods: &'static [Method],
}

impl<S> Layer<S> for DeadlineLayer {
    type Service = DeadlineService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        DeadlineService {
            inner,
            layer: *self,
        }
    }
}

/// See [`DeadlineLayer`].
#[derive(Clone, Debug)]
pub struct DeadlineService<S> {
    inner: S,
    layer: DeadlineLayer,
}

impl<S> Service<Request<Body>> for DeadlineService<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = BoxError>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Response<Body>, BoxError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let after = self.layer.timeout;
        let deadline = Instant::now() + after;
        request.extensions_mut().insert(Deadline(deadline));
        let streaming = method_of(self.layer.methods, &request).is_some_and(|m| m.streaming);
        let answer = self.inner.call(request);
        Box::pin(async move {
            let mut sleep = Box::pin(sleep_until(deadline));
            tokio::select! {
                // An answer that is there counts, even when the deadline is too.
                biased;
                answer = answer => Ok(answer?.map(|inner| {
                    Body::new(DeadlineBody { inner, sleep: Some(sleep), after, streaming })
                })),
                () = &mut sleep => Err(Elapsed { after }.into()),
            }
        })
    }
}

/// A body that fails at the deadline.
struct DeadlineBody {
    inner: Body,
    /// None when the rest may take as long as it likes.
    sleep: Option<Pin<Box<Sleep>>>,
    after: Duration,
    streaming: bool,
}

impl http_body::Body for DeadlineBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        if let Poll::Ready(frame) = Pin::new(&mut this.inner).poll_frame(cx) {
            if this.streaming {
                this.sleep = None;
            }
            return Poll::Ready(frame);
        }
        let Some(sleep) = &mut this.sleep else {
            return Poll::Pending;
        };
        ready!(sleep.as_mut().poll(cx));
        // Dropping the rest here tells the layers below that time is up.
        this.inner = Body::empty();
        this.sleep = None;
        Poll::Ready(Some(Err(Status::from_error(Box::new(Elapsed {
            after: this.after,
        })))))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn announced(left: Duration) -> String {
        let now = Instant::now();
        let mut headers = HeaderMap::new();
        Deadline::at(now + left).announce(&mut headers, now);
        headers
            .get("grpc-timeout")
            .map(|v| v.to_str().unwrap_or("").to_owned())
            .unwrap_or_default()
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
