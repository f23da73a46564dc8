//! How a call travels: over tonic's channels, by its client, with a codec of bytes.
//!
//! **Invariant:** only this folder names tonic's client side. Replacing the transport
//! means replacing this folder.

mod channel;
mod clean;
mod client;
mod status;

use std::sync::atomic::{AtomicBool, Ordering};

use http::{Request, Response, uri::Authority};
use tonic::body::Body;
use tower::{BoxError, Service};

pub(crate) use self::{channel::Http2, client::attempt};
use super::BoxFuture;

/// Connects to instances.
pub(crate) trait Connect: Send + Sync + 'static {
    /// What calls travel by.
    type Channel: Channel;

    /// Brings a connection up to the instance at `address`, whose peer has asked for fewer pings `calm`
    /// times.
    ///
    /// # Errors
    /// [`NotConnected`], within the time that a connection may take.
    fn connect(
        &self,
        address: &Authority,
        calm: u32,
    ) -> BoxFuture<Result<Connection<Self::Channel>, NotConnected>>;
}

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
    answered: AtomicBool,
    lost: AtomicBool,
}

impl<C> Established<C> {
    /// One that calls travel on by `channel`.
    pub(crate) fn new(channel: C) -> Self {
        Self {
            channel,
            answered: AtomicBool::new(false),
            lost: AtomicBool::new(false),
        }
    }

    /// Its peer has answered a call.
    pub(crate) fn answered(&self) {
        // All calls share it, and nearly all find it done.
        if !self.has_answered() {
            self.answered.store(true, Ordering::Relaxed);
        }
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

/// What calls travel by: cheap to clone, for one connection.
pub(crate) trait Channel:
    Service<Request<Body>, Response = Response<Body>, Error: Into<BoxError>, Future: Send>
    + Clone
    + Send
    + Sync
    + 'static
{
}

impl<S> Channel for S where
    S: Service<Request<Body>, Response = Response<Body>, Error: Into<BoxError>, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static
{
}
