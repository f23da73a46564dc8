//! A cap on the calls in flight to one upstream. What is above it is shed, not queued: a queue
//! in front of an overloaded upstream only makes every answer late.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Request, Response};
use http_body::{Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
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
/// What decides is one question, "may one more start?", asked in [`Service::call`]: an adaptive
/// limit would answer it in place of the semaphore.
#[derive(Clone, Debug)]
pub struct Bulkhead {
    limit: usize,
    places: Arc<Semaphore>,
    shed: Arc<AtomicU64>,
}

impl Bulkhead {
    /// At most `limit` calls at one time.
    pub fn new(limit: usize) -> Self {
        let places = Arc::new(Semaphore::new(limit.min(Semaphore::MAX_PERMITS)));
        Self {
            limit,
            places,
            shed: Arc::default(),
        }
    }

    /// Calls in flight.
    pub fn in_flight(&self) -> usize {
        self.limit.saturating_sub(self.places.available_permits())
    }

    /// Calls that were shed so far.
    pub fn shed(&self) -> u64 {
        self.shed.load(Ordering::Relaxed)
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
        let Ok(place) = Arc::clone(&self.bulkhead.places).try_acquire_owned() else {
            self.bulkhead.shed.fetch_add(1, Ordering::Relaxed);
            let limit = self.bulkhead.limit;
            return Box::pin(async move { Err(Overloaded { limit }.into()) });
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
    place: Option<OwnedSemaphorePermit>,
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
