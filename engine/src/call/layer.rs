//! What a layer is here: something to do around a call. The rest of tower's service is the same for
//! all of them, and stands here.

use std::task::{Context, Poll};

use tower::{Layer, Service};

use super::{Call, Failed, Reply};

/// Something to do around a call to `S`.
pub(crate) trait Around<S: CallService> {
    /// The call with it.
    type Future: Future<Output = Result<Reply, Failed>>;

    /// Makes the call.
    fn around(&self, inner: &mut S, call: Call) -> Self::Future;
}

/// A service that makes calls: what every layer of a stack is and stands on.
pub(crate) trait CallService: Service<Call, Response = Reply, Error = Failed> {}

impl<S: Service<Call, Response = Reply, Error = Failed>> CallService for S {}

/// The tower layer of an [`Around`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct AroundLayer<L>(pub(crate) L);

impl<S, L: Clone> Layer<S> for AroundLayer<L> {
    type Service = AroundService<L, S>;

    fn layer(&self, inner: S) -> Self::Service {
        AroundService {
            layer: self.0.clone(),
            inner,
        }
    }
}

/// The tower service of an [`Around`].
#[derive(Clone, Debug)]
pub(crate) struct AroundService<L, S> {
    layer: L,
    inner: S,
}

impl<S: CallService, L: Around<S>> Service<Call> for AroundService<L, S> {
    type Response = Reply;
    type Error = Failed;
    type Future = L::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failed>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, call: Call) -> Self::Future {
        self.layer.around(&mut self.inner, call)
    }
}
