//! One call on one instance, from its start to its last byte: what it tells about the instance.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::time::Instant;
use tonic::{Status, body::Body};

use super::{Shared, endpoint::Endpoint, gate::Moved};
use crate::resilience::{
    classify::{self, Effect},
    deadline::Deadline,
};

/// Counts as in flight until dropped, and reports what the call said about the instance.
pub(super) struct Call<S> {
    shared: Arc<Shared<S>>,
    endpoint: Arc<Endpoint<S>>,
    probe: bool,
    started: Instant,
    deadline: Option<Deadline>,
    reported: Reported,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Reported {
    Nothing,
    /// A message arrived: that is the latency, and a success until the end says otherwise.
    Message,
    End,
}

impl<S> Call<S> {
    pub(super) fn begin(
        shared: Arc<Shared<S>>,
        endpoint: Arc<Endpoint<S>>,
        probe: bool,
        deadline: Option<Deadline>,
        now: Instant,
    ) -> Self {
        endpoint.begin();
        Self {
            shared,
            endpoint,
            probe,
            started: now,
            deadline,
            reported: Reported::Nothing,
        }
    }

    /// The first message of the answer arrived.
    fn message(&mut self, now: Instant) {
        if self.reported == Reported::Nothing {
            self.reported = Reported::Message;
            self.succeeded(now);
        }
    }

    /// The call is over with `effect`.
    pub(super) fn end(&mut self, effect: Effect, now: Instant) {
        let before = std::mem::replace(&mut self.reported, Reported::End);
        match (before, effect) {
            (Reported::End, _) | (Reported::Message, Effect::Success) => {}
            (_, Effect::Success) => self.succeeded(now),
            (_, Effect::Failure) => self.failed(now),
            (_, Effect::Overload) => {
                // Less of the traffic, but no step towards an ejection.
                self.endpoint.estimate().failure(now);
                self.said_nothing(now);
            }
            (_, Effect::Neutral) => self.said_nothing(now),
        }
    }

    fn succeeded(&mut self, now: Instant) {
        self.endpoint.estimate().success(now - self.started, now);
        let moved = self.endpoint.gate().success(self.probe, now);
        if moved == Moved::Returned {
            self.probe = false;
            self.shared.moved(&self.endpoint, moved);
        }
    }

    fn failed(&mut self, now: Instant) {
        self.endpoint.estimate().failure(now);
        let moved = self.shared.fail(&self.endpoint, self.probe, now);
        if moved != Moved::Stayed {
            self.probe = false;
            self.shared.moved(&self.endpoint, moved);
        }
    }

    fn said_nothing(&mut self, now: Instant) {
        if std::mem::take(&mut self.probe) {
            self.endpoint.gate().probe_given_back(now);
            self.shared.moved(&self.endpoint, Moved::Stayed);
        }
    }
}

impl<S> Drop for Call<S> {
    fn drop(&mut self) {
        if self.reported != Reported::End {
            let now = Instant::now();
            // Dropped at its deadline, the instance was too slow; before it, the caller left.
            let too_slow = self.reported == Reported::Nothing
                && self.deadline.is_some_and(|deadline| deadline.is_over(now));
            self.end(
                if too_slow {
                    Effect::Failure
                } else {
                    Effect::Neutral
                },
                now,
            );
        }
        self.endpoint.end();
    }
}

/// A response body that reports to its [`Call`].
pub(super) struct ReportingBody<S> {
    inner: Body,
    call: Call<S>,
}

impl<S: Send + Sync + 'static> ReportingBody<S> {
    /// `response` with its body reporting to `call`. A response that is only headers and carries
    /// its status there ends the call at once.
    pub(super) fn wrap(response: http::Response<Body>, mut call: Call<S>) -> http::Response<Body> {
        if let Some(code) = classify::code_in(response.headers()) {
            call.end(classify::of_code(code).effect, Instant::now());
        }
        response.map(|inner| Body::new(Self { inner, call }))
    }
}

impl<S: Send + Sync + 'static> http_body::Body for ReportingBody<S> {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        let frame = ready!(Pin::new(&mut this.inner).poll_frame(cx));
        let now = Instant::now();
        match &frame {
            Some(Ok(frame)) if frame.is_data() => this.call.message(now),
            Some(Ok(frame)) => {
                let code = frame.trailers_ref().and_then(classify::code_in);
                let code = code.unwrap_or(tonic::Code::Unknown);
                this.call.end(classify::of_code(code).effect, now);
            }
            Some(Err(status)) => this.call.end(classify::of_error(status).effect, now),
            // No trailers at all: the answer was cut off.
            None => this.call.end(Effect::Failure, now),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
