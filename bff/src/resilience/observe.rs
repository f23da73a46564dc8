//! Watching one call from its start to its last byte, for whoever wants to know how it went.

use std::{
    error::Error,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use tokio::time::Instant;
use tonic::{Code, Status};

use super::{
    classify::{self, Class, Effect},
    deadline::{Deadline, FairTime},
    streams,
};

/// What wants to know how a call went.
pub trait Observer: Send + Unpin + 'static {
    /// The first message of the answer arrived.
    fn message(&mut self, now: Instant);

    /// The call is over, with this status. Called exactly once, also for a call that is dropped.
    fn end(&mut self, effect: Effect, code: Code, now: Instant);
}

/// A call on its way; as a body it is also its answer's.
#[derive(Debug)]
pub struct Observed<O: Observer> {
    observer: O,
    deadline: Option<Deadline>,
    /// Whether a client chose a deadline shorter than what an attempt is meant to have.
    hurried: bool,
    streaming: bool,
    /// Whether its caller left before its end.
    left: bool,
    progress: Progress,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Waiting,
    Message,
    Ended,
}

impl<O: Observer> Observed<O> {
    /// The call that `request` makes.
    pub fn new<B>(observer: O, request: &Request<B>) -> Self {
        let extensions = request.extensions();
        let deadline = extensions.get::<Deadline>().copied();
        let hurried = match (extensions.get::<FairTime>(), deadline) {
            // A little less is what passing through the layers costs.
            (Some(FairTime(fair)), Some(deadline)) => {
                deadline.left(Instant::now()) < fair.mul_f64(0.9)
            }
            _ => false,
        };
        Self {
            observer,
            deadline,
            hurried,
            streaming: streams(request),
            left: false,
            progress: Progress::Waiting,
        }
    }

    /// The call ended without an answer.
    pub fn failed(mut self, error: &(dyn Error + 'static)) {
        self.end(classify::of_error(error), Instant::now());
    }

    /// The answer began: its body reports the rest. A status in the headers is the end already.
    pub fn answered<B>(mut self, response: Response<B>) -> Response<ObservedBody<B, O>> {
        if let Some(code) = classify::code_of(&response) {
            self.end(classify::of_code(code), Instant::now());
        }
        response.map(|inner| ObservedBody { inner, call: self })
    }

    fn message(&mut self) {
        if self.progress == Progress::Waiting {
            self.progress = Progress::Message;
            self.observer.message(Instant::now());
        }
    }

    fn end(&mut self, class: Class, now: Instant) {
        if self.progress == Progress::Ended {
            return;
        }
        self.progress = Progress::Ended;
        let late = self
            .deadline
            .is_some_and(|deadline| deadline.is_too_close(now));
        let effect = match class.code {
            // A client that gave the upstream no fair chance must not be able to condemn it.
            Code::DeadlineExceeded | Code::Cancelled if self.hurried => Effect::Neutral,
            // A peer that gave up when we did, only a little sooner.
            Code::Cancelled if late => Effect::Failure,
            _ => class.effect,
        };
        let code = if self.left {
            Code::Cancelled
        } else {
            class.code
        };
        self.observer.end(effect, code, now);
    }
}

impl<O: Observer> Drop for Observed<O> {
    fn drop(&mut self) {
        if self.progress == Progress::Ended {
            return;
        }
        let now = Instant::now();
        // Dropped at its deadline, the upstream was too slow; before it, the caller left. A stream
        // that has begun has kept its deadline.
        let waiting = self.progress == Progress::Waiting || !self.streaming;
        let over = self.deadline.is_some_and(|deadline| deadline.is_over(now));
        let code = if waiting && over {
            Code::DeadlineExceeded
        } else {
            self.left = true;
            Code::Aborted
        };
        self.end(classify::of_code(code), now);
    }
}

/// A body that tells how its call went.
#[derive(Debug)]
pub struct ObservedBody<B, O: Observer> {
    inner: B,
    call: Observed<O>,
}

impl<B, O> Body for ObservedBody<B, O>
where
    B: Body<Data = Bytes, Error = Status> + Unpin,
    O: Observer,
{
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        let frame = ready!(Pin::new(&mut this.inner).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) if frame.is_data() => this.call.message(),
            Some(Ok(frame)) => {
                let code = frame.trailers_ref().and_then(classify::code_in);
                let class = classify::of_code(code.unwrap_or(Code::Unknown));
                this.call.end(class, Instant::now());
            }
            Some(Err(status)) => {
                this.call.end(classify::of_error(status), Instant::now());
            }
            // No trailers at all: the answer was cut off.
            None => this
                .call
                .end(classify::of_code(Code::Unknown), Instant::now()),
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
