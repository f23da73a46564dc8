//! How a call travels: over tonic's channels, by its client, with a codec of bytes.
//!
//! **Invariant:** only this folder names tonic's client side. Replacing the transport
//! means replacing this folder.

mod channel;
mod clean;
mod client;
mod status;
mod streams;

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use http::{Request, Response, uri::Authority};
use tokio::sync::OwnedSemaphorePermit;
use tonic::body::Body;
use tower::{BoxError, Service};

use self::streams::Streams;
pub(crate) use self::{channel::Http2, client::attempt, streams::More};
use super::BoxFuture;

/// Connects to instances.
pub(crate) trait Connect: Send + Sync + 'static {
    /// What calls travel by.
    type Channel: Channel;

    /// Brings a connection up to the instance at `address`, whose peer has asked for fewer pings `calm`
    /// times. `place` is given back as soon as the instance has accepted: it may take its time to greet.
    ///
    /// # Errors
    /// [`NotConnected`], within the time that a connection may take.
    fn connect(
        &self,
        address: &Authority,
        calm: u32,
        place: Place,
    ) -> BoxFuture<Result<Connection<Self::Channel>, NotConnected>>;
}

/// One of the places for instances that are dialled at one time.
pub(crate) type Place = OwnedSemaphorePermit;

/// A connection that has come up.
pub(crate) struct Connection<C> {
    /// What calls travel by.
    pub(crate) channel: C,
    /// Ends when it does.
    pub(crate) ended: BoxFuture<Ended>,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// One way or the other.
    Closed,
    /// The peer minds how often it is asked whether it is alive.
    TooManyPings,
}

/// Why no connection came up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct NotConnected(pub(crate) String);

/// A connection as the calls on it share it.
#[derive(Debug)]
pub(crate) struct Established<C> {
    channel: C,
    /// Those beside it, for streams.
    streams: Option<Arc<Streams<C>>>,
    used: AtomicBool,
    answered: AtomicBool,
    lost: AtomicBool,
}

impl<C: Send + Sync + 'static> Established<C> {
    /// One that calls travel on by `channel`, and streams by what `more` brings up.
    pub(crate) fn new(channel: C, more: More<C>) -> Self {
        Self {
            streams: Some(Arc::new(Streams::new(more))),
            ..Self::alone(channel)
        }
    }
}

impl<C> Established<C> {
    /// One that everything travels on.
    pub(crate) fn alone(channel: C) -> Self {
        Self {
            channel,
            streams: None,
            used: AtomicBool::new(false),
            answered: AtomicBool::new(false),
            lost: AtomicBool::new(false),
        }
    }

    /// A call is sent on it.
    pub(crate) fn use_it(&self) {
        set(&self.used);
    }

    /// Whether a call was ever sent on it.
    pub(crate) fn was_used(&self) -> bool {
        self.used.load(Ordering::Relaxed)
    }

    /// Its peer has answered a call.
    pub(crate) fn answered(&self) {
        set(&self.answered);
    }

    /// Whether its peer has ever answered a call.
    pub(crate) fn has_answered(&self) -> bool {
        self.answered.load(Ordering::Relaxed)
    }

    /// A call has lost it: `true` for the first. However many calls were on it, it is one failure.
    fn lost_first(&self) -> bool {
        !self.lost.swap(true, Ordering::Relaxed)
    }
}

/// Sets what all calls share and nearly all find set: a write would take it from the other cores.
fn set(flag: &AtomicBool) {
    if !flag.load(Ordering::Relaxed) {
        flag.store(true, Ordering::Relaxed);
    }
}

/// How much a connection takes.
pub(crate) trait Capacity {
    /// Calls that its peer allows on it at one time, as it said at first.
    fn max_calls(&self) -> usize {
        usize::MAX
    }
}

/// What calls travel by: cheap to clone, for one connection.
pub(crate) trait Channel:
    Service<Request<Body>, Response = Response<Body>, Error: Into<BoxError>, Future: Send>
    + Capacity
    + Clone
    + Send
    + Sync
    + 'static
{
}

impl<S> Channel for S where
    S: Service<Request<Body>, Response = Response<Body>, Error: Into<BoxError>, Future: Send>
        + Capacity
        + Clone
        + Send
        + Sync
        + 'static
{
}
