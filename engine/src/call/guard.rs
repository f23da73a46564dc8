//! Values that a call holds while it is on its way, and that learn once how it ended.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::time::Instant;

use super::{Failed, Outcome, Reply, ReplyBody, now};

/// What wants to know how a call ended.
pub(crate) trait Guard: Send + 'static {
    /// The first message of a stream arrived. Its end comes later.
    fn message(&mut self, _at: Instant) {}

    /// The call is over. Called exactly once, also for a call that is dropped.
    fn end(&mut self, outcome: Outcome, at: Instant);

    /// Whether it has to be kept until the end of a stream.
    fn outlives_message(&self) -> bool {
        true
    }
}

/// A guard that gets [`Outcome::LEFT`] when it is dropped before the end.
pub(crate) struct Held<G: Guard>(Option<G>);

impl<G: Guard> Held<G> {
    /// Holds `guard`.
    pub(crate) fn new(guard: G) -> Self {
        Self(Some(guard))
    }

    /// Reports the result to it; with a stream it goes on.
    pub(crate) fn settle(&mut self, result: &mut Result<Reply, Failed>) {
        let Some(mut guard) = self.0.take() else {
            return;
        };
        match result {
            Ok(Reply {
                at,
                body: ReplyBody::Many(messages),
            }) => {
                guard.message(*at);
                if guard.outlives_message() {
                    messages.hold(guard);
                }
            }
            Ok(reply) => guard.end(Outcome::OK, reply.at),
            Err(failed) => guard.end(failed.outcome(), failed.at()),
        }
    }
}

impl<G: Guard> Drop for Held<G> {
    fn drop(&mut self) {
        if let Some(mut guard) = self.0.take() {
            guard.end(Outcome::LEFT, now());
        }
    }
}

/// A call with a guard around it, or one that was refused. A layer's future, without a box.
pub(crate) enum Guarded<F, G: Guard> {
    /// Not let through.
    Refused(Option<Failed>),
    /// On its way.
    Running(F, Held<G>),
    /// On its way, with its guards inside.
    Alone(F),
}

impl<F, G: Guard> Guarded<F, G> {
    /// A call that was not let through.
    pub(crate) fn refused(failed: Failed) -> Self {
        Self::Refused(Some(failed))
    }

    /// `call`, whose guards are its own.
    pub(crate) fn alone(call: F) -> Self {
        Self::Alone(call)
    }

    /// `call`, with `guard` around it.
    pub(crate) fn running(call: F, guard: G) -> Self {
        Self::Running(call, Held::new(guard))
    }
}

impl<F, G> Future for Guarded<F, G>
where
    F: Future<Output = Result<Reply, Failed>> + Unpin,
    G: Guard + Unpin,
{
    type Output = Result<Reply, Failed>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.get_mut() {
            Self::Refused(failed) => match failed.take() {
                Some(failed) => Poll::Ready(Err(failed)),
                None => Poll::Pending,
            },
            Self::Alone(call) => Pin::new(call).poll(cx),
            Self::Running(call, held) => {
                let mut result = ready!(Pin::new(call).poll(cx));
                held.settle(&mut result);
                Poll::Ready(result)
            }
        }
    }
}
