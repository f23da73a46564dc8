//! A cap on the calls in flight to one upstream. What is above it is shed, not queued: a queue
//! in front of an overloaded upstream only makes every answer late.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Request, Response};
use http_body::{Frame, SizeHint};
use tonic::{Status, body::Body};
use tower::{BoxError, Layer, Service};

use super::streams;

/// There are too many calls in flight already.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("more than {limit} calls are in flight")]
pub struct Overloaded {
    /// The cap.
    pub limit: usize,
}

/// The cap of one service. Clones share it.
///
/// What decides is one question, "may one more start?", asked of [`Places`]: an adaptive limit
/// would answer it there.
#[derive(Clone, Debug)]
pub struct Bulkhead(Arc<Places>);

#[derive(Debug)]
struct Places {
    limit: AtomicUsize,
    taken: AtomicUsize,
    shed: AtomicU64,
}

/// One call's place, until dropped.
#[derive(Debug)]
struct Place(Arc<Places>);

impl Places {
    fn take(self: &Arc<Self>) -> Result<Place, Overloaded> {
        let limit = self.limit.load(Ordering::Relaxed);
        let one_more = |taken: usize| (taken < limit).then_some(taken + 1);
        match self
            .taken
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more)
        {
            Ok(_) => Ok(Place(Arc::clone(self))),
            Err(_) => {
                self.shed.fetch_add(1, Ordering::Relaxed);
                Err(Overloaded { limit })
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Bulkhead {
    /// At most `limit` calls at one time.
    pub fn new(limit: usize) -> Self {
        Self(Arc::new(Places {
            limit: AtomicUsize::new(limit),
            taken: AtomicUsize::new(0),
            shed: AtomicU64::new(0),
        }))
    }

    /// At most `limit` calls at one time from now on. Those in flight stay, so a smaller cap is
    /// reached as they end.
    pub fn resize(&self, limit: usize) {
        self.0.limit.store(limit, Ordering::Relaxed);
    }

    /// Calls in flight.
    pub fn in_flight(&self) -> usize {
        self.0.taken.load(Ordering::Relaxed)
    }

    /// Calls that were shed so far.
    pub fn shed(&self) -> u64 {
        self.0.shed.load(Ordering::Relaxed)
    }
}

impl<S> Layer<S> for Bulkhead {
    type Service = BulkheadService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        BulkheadService {
            inner,
            bulkhead: self.clone(),
        }
    }
}

/// See [`Bulkhead`].
#[derive(Clone, Debug)]
pub struct BulkheadService<S> {
    inner: S,
    bulkhead: Bulkhead,
}

impl<S, B> Service<Request<Body>> for BulkheadService<S>
where
    S: Service<Request<Body>, Response = Response<B>, Error = BoxError>,
    S::Future: Send + 'static,
    B: 'static,
{
    type Response = Response<PlacedBody<B>>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let place = match self.bulkhead.0.take() {
            Ok(place) => place,
            Err(overloaded) => return Box::pin(async { Err(overloaded.into()) }),
        };
        let streaming = streams(&request);
        let answer = self.inner.call(request);
        Box::pin(async move {
            let place = Some(place);
            Ok(answer.await?.map(|inner| PlacedBody {
                inner,
                place,
                streaming,
            }))
        })
    }
}

/// A body that holds its call's place: a unary call's to its end, a stream's to its first
/// message, because a stream that idles costs the upstream little.
#[derive(Debug)]
pub struct PlacedBody<B> {
    inner: B,
    place: Option<Place>,
    streaming: bool,
}

impl<B> http_body::Body for PlacedBody<B>
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
        let frame = Pin::new(&mut this.inner).poll_frame(cx);
        if this.streaming && frame.is_ready() {
            this.place = None;
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
