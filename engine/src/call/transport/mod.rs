//! How a call travels: over tonic's channels, by its client, with a codec of bytes.
//!
//! **Invariant:** only this folder names tonic's client side. Replacing the transport
//! means replacing this folder.

mod channel;
mod clean;
mod client;
mod status;

use http::{Request, Response, uri::Authority};
use tonic::body::Body;
use tower::{BoxError, Service};

pub(crate) use self::{channel::Http2, client::attempt};

/// Makes the channel to an instance; called once per endpoint, without I/O.
pub(crate) trait Connect: Send + Sync + 'static {
    /// What calls travel by.
    type Channel: Channel;

    /// The channel to the instance at `address`.
    fn connect(&self, address: &Authority) -> Self::Channel;
}

/// What calls travel by: cheap to clone, connects by itself when used.
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
