//! A clock over an answer and its body, for the deadline and for the attempt timeout.
//!
//! tonic's own time-out stops at the response headers; an upstream that sends headers and then
//! stalls would hang its caller for ever. Here the clock runs until the last byte of a unary
//! answer, and until the first message of a stream.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::Response;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Sleep, sleep_until};
use tonic::Status;
use tower::BoxError;

use super::deadline::Deadline;

/// Rings at a deadline, with an error.
pub(super) struct Timer {
    sleep: Pin<Box<Sleep>>,
    streaming: bool,
    error: Box<dyn FnOnce() -> BoxError + Send>,
}

impl Timer {
    pub(super) fn new(
        deadline: Deadline,
        streaming: bool,
        error: impl FnOnce() -> BoxError + Send + 'static,
    ) -> Self {
        let sleep = Box::pin(sleep_until(deadline.instant()));
        Self {
            sleep,
            streaming,
            error: Box::new(error),
        }
    }
}

/// The answer with the clock over it.
pub(super) async fn timed<B>(
    answer: impl Future<Output = Result<Response<B>, BoxError>>,
    mut timer: Timer,
) -> Result<Response<TimedBody<B>>, BoxError> {
    tokio::select! {
        // An answer that is there counts, even when the deadline is too.
        biased;
        answer = answer => {
            Ok(answer?.map(|inner| TimedBody { inner: Some(inner), timer: Some(timer) }))
        }
        () = &mut timer.sleep => Err((timer.error)()),
    }
}

/// A body that fails when its clock rings.
pub struct TimedBody<B> {
    /// Dropped when the clock rings: that tells the layers below that time is up.
    inner: Option<B>,
    /// `None` when the rest may take as long as it likes.
    timer: Option<Timer>,
}

impl<B> Body for TimedBody<B>
where
    B: Body<Data = Bytes, Error = Status> + Unpin,
{
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        let Some(inner) = &mut this.inner else {
            return Poll::Ready(None);
        };
        if let Poll::Ready(frame) = Pin::new(inner).poll_frame(cx) {
            if this.timer.as_ref().is_some_and(|timer| timer.streaming) {
                this.timer = None;
            }
            return Poll::Ready(frame);
        }
        let Some(timer) = &mut this.timer else {
            return Poll::Pending;
        };
        ready!(timer.sleep.as_mut().poll(cx));
        this.inner = None;
        match this.timer.take() {
            Some(timer) => Poll::Ready(Some(Err(Status::from_error((timer.error)())))),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map(Body::size_hint).unwrap_or_default()
    }
}
