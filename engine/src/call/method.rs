//! Methods of gRPC services, with and without their types.

use std::{fmt, marker::PhantomData};

use bytes::Bytes;
use prost::{DecodeError, Message};

use super::Decoded;

/// A method of the upstream `U` that takes a `Q` and answers with an `R`; a `static` beside the
/// code that calls it.
///
/// ```
/// # use bff_engine::{Method, Upstream};
/// # struct Greeter;
/// # impl Upstream for Greeter {
/// #     const NAME: &'static str = "greeter";
/// #     const SERVICE: &'static str = "greeter-srv";
/// # }
/// # type HelloRequest = String;
/// # type HelloReply = String;
/// static SAY_HELLO: Method<Greeter, HelloRequest, HelloReply> =
///     Method::unary("/helloworld.Greeter/SayHello").idempotent();
/// ```
pub struct Method<U, Q, R> {
    raw: RawMethod,
    types: PhantomData<fn(U, Q) -> R>,
}

/// What the layers have to know of a method.
#[derive(Clone, Copy)]
pub(crate) struct RawMethod {
    /// `/package.Service/Method`.
    pub(crate) path: &'static str,
    /// Whether running it twice does no more than running it once, so that it may be retried
    /// when it is unknown whether it ran.
    pub(crate) idempotent: bool,
    /// Whether the answer is a stream: then times are for its first message.
    pub(crate) streaming: bool,
    /// Reads a message of the answer.
    pub(crate) decode: fn(Bytes) -> Result<Decoded, DecodeError>,
}

impl<U, Q: Message, R: Message + Default + 'static> Method<U, Q, R> {
    const fn new(path: &'static str, streaming: bool) -> Self {
        Self {
            raw: RawMethod {
                path,
                idempotent: false,
                streaming,
                decode: Decoded::of::<R>,
            },
            types: PhantomData,
        }
    }

    /// A method that answers with one message, at `path`: `/package.Service/Method`.
    pub const fn unary(path: &'static str) -> Self {
        Self::new(path, false)
    }

    /// A method that answers with a stream of messages.
    pub const fn server_streaming(path: &'static str) -> Self {
        Self::new(path, true)
    }

    /// The same, safe to run twice: it may be retried when it is not known whether it ran.
    pub const fn idempotent(mut self) -> Self {
        self.raw.idempotent = true;
        self
    }

    pub(crate) fn raw(&'static self) -> &'static RawMethod {
        &self.raw
    }
}

impl<U, Q, R> fmt::Debug for Method<U, Q, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.raw.fmt(f)
    }
}

impl RawMethod {
    /// The name in traces and metrics, as OpenTelemetry's convention has it: the path without its
    /// first slash.
    pub(crate) fn name(&self) -> &'static str {
        self.path.strip_prefix('/').unwrap_or(self.path)
    }
}

impl fmt::Debug for RawMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Method")
            .field("path", &self.path)
            .field("idempotent", &self.idempotent)
            .field("streaming", &self.streaming)
            .finish()
    }
}
