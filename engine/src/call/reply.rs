//! What comes back: a message, or a stream of them.

use std::{
    any::Any,
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures_util::{Stream, stream::BoxStream};
use prost::{DecodeError, Message};
use tokio::time::Instant;

use super::{Failed, Guard, Outcome, now};

/// A decoded message whose type only its method knows.
pub(crate) struct Decoded {
    message: Box<dyn Any + Send>,
    /// How long it was, encoded and inflated.
    bytes: usize,
}

impl Decoded {
    /// Reads an `R`.
    pub(crate) fn of<R: Message + Default + 'static>(bytes: Bytes) -> Result<Self, DecodeError> {
        let len = bytes.len();
        Ok(Self {
            message: Box::new(R::decode(bytes)?),
            bytes: len,
        })
    }

    /// The message and its length; `None` if it is none of that type.
    pub(crate) fn into<R: 'static>(self) -> Option<(R, usize)> {
        let message = self.message.downcast().ok()?;
        Some((*message, self.bytes))
    }
}

impl fmt::Debug for Decoded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Decoded")
    }
}

/// The answer to a call.
#[derive(Debug)]
pub struct Reply {
    /// When it was complete; of a stream, when its first message arrived.
    pub(crate) at: Instant,
    /// Its messages.
    pub(crate) body: ReplyBody,
}

/// The messages of an answer.
#[derive(Debug)]
pub(crate) enum ReplyBody {
    /// Of a unary method, with a good status behind it.
    One(Decoded),
    /// Of a streaming method, whose first message has arrived.
    Many(Box<Messages>),
}

/// A stream of messages, with everything that is held until it ends. Each guard learns its end
/// once: a good one, an error, or that the stream was dropped before.
pub(crate) struct Messages {
    first: Option<Decoded>,
    rest: BoxStream<'static, Result<Decoded, Failed>>,
    guards: Vec<Box<dyn Guard>>,
    ended: bool,
}

impl Messages {
    /// `first`, unless the stream is empty, and then `rest`, which ends with its first error.
    pub(crate) fn new(
        first: Option<Decoded>,
        rest: BoxStream<'static, Result<Decoded, Failed>>,
    ) -> Self {
        Self {
            first,
            rest,
            guards: Vec::new(),
            ended: false,
        }
    }

    /// Keeps `guard` until the stream ends.
    pub(crate) fn hold(&mut self, guard: impl Guard) {
        self.guards.push(Box::new(guard));
    }

    fn end(&mut self, outcome: Outcome, at: Instant) {
        self.ended = true;
        for mut guard in self.guards.drain(..) {
            guard.end(outcome, at);
        }
    }
}

impl Stream for Messages {
    type Item = Result<Decoded, Failed>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if let Some(first) = this.first.take() {
            return Poll::Ready(Some(Ok(first)));
        }
        if this.ended {
            return Poll::Ready(None);
        }
        let next = ready!(this.rest.as_mut().poll_next(cx));
        match &next {
            Some(Ok(_)) => {}
            Some(Err(failed)) => this.end(failed.outcome(), failed.at()),
            None => this.end(Outcome::OK, now()),
        }
        Poll::Ready(next)
    }
}

impl Drop for Messages {
    fn drop(&mut self) {
        if !self.ended && !self.guards.is_empty() {
            self.end(Outcome::LEFT, now());
        }
    }
}

impl fmt::Debug for Messages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Messages")
    }
}
