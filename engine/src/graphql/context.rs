//! What resolvers call.

use std::{marker::PhantomData, sync::Arc};

use async_graphql::{Context, Error, Result};
use futures_util::{StreamExt, stream::BoxStream};
use http::HeaderMap;
use opentelemetry::{KeyValue, trace::SpanKind};
use prost::Message;

use super::error;
use crate::{
    call::{CallOptions, Method, transport::Http2},
    telemetry::trace::Span,
    upstream::{Connected, Typed, Upstream, Upstreams},
};

/// Calls to upstreams from a resolver's context: with the request's deadline, in a span of the
/// field's own, through the whole resilience stack.
///
/// ```
/// # use async_graphql::{Context, Object, Result};
/// # use bff_engine::{CallExt, Method, Upstream};
/// # struct Greeter;
/// # impl Upstream for Greeter {
/// #     const NAME: &'static str = "greeter";
/// #     const SERVICE: &'static str = "greeter-srv";
/// # }
/// static SAY_HELLO: Method<Greeter, String, String> =
///     Method::unary("/helloworld.Greeter/SayHello").idempotent();
///
/// # struct Query;
/// #[Object]
/// impl Query {
///     // Nullable, so that a failed call leaves the field's siblings alone.
///     async fn hello(&self, ctx: &Context<'_>, name: String) -> Option<Result<String>> {
///         Some(ctx.client().call(&SAY_HELLO, &name).await)
///     }
/// }
/// ```
///
/// With a client that `bff-codegen` made, that is `ctx.to::<Greeter>().say_hello(name).await`.
pub trait CallExt {
    /// An upstream's own client.
    fn to<U: Typed>(&self) -> U::Client<'_>;

    /// What an upstream's own client stands on.
    fn client<U: Upstream>(&self) -> Client<'_, U>;
}

impl CallExt for Context<'_> {
    fn to<U: Typed>(&self) -> U::Client<'_> {
        self.client::<U>().into()
    }

    fn client<U: Upstream>(&self) -> Client<'_, U> {
        Client {
            ctx: self,
            upstream: PhantomData,
        }
    }
}

/// Calls to the upstream `U` for one field.
pub struct Client<'c, U> {
    ctx: &'c Context<'c>,
    upstream: PhantomData<fn() -> U>,
}

impl<U> std::fmt::Debug for Client<'_, U> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Client")
    }
}

impl<U: Upstream> Client<'_, U> {
    /// Calls a unary method.
    ///
    /// # Errors
    /// A field error with its code in `extensions`, fit for a client; details are in the log.
    pub async fn call<Q, R>(&self, method: &'static Method<U, Q, R>, request: &Q) -> Result<R>
    where
        Q: Message,
        R: Message + Default + 'static,
    {
        let upstream = upstream::<U>(self.ctx)?;
        let answer = upstream.unary(method, request, options(self.ctx)).await;
        answer.map_err(|failed| error::upstream(&failed))
    }

    /// Calls a method that answers with a stream; dropping the stream cancels the call.
    ///
    /// # Errors
    /// As [`call`](Self::call), when the first message does not come; a stream that breaks later
    /// ends with such an error.
    pub async fn stream<Q, R>(
        &self,
        method: &'static Method<U, Q, R>,
        request: &Q,
    ) -> Result<BoxStream<'static, Result<R>>>
    where
        Q: Message,
        R: Message + Default + 'static,
    {
        let upstream = upstream::<U>(self.ctx)?;
        let answer = upstream.server_streaming(method, request, options(self.ctx));
        let messages = answer.await.map_err(|failed| error::upstream(&failed))?;
        let messages = messages.map(|message| message.map_err(|failed| error::upstream(&failed)));
        Ok(messages.boxed())
    }
}

/// Headers of the client's that some upstream is to have: of a request, or of a connection.
#[derive(Clone, Debug)]
pub(crate) struct Forwarded(pub(crate) Arc<HeaderMap>);

fn upstream<'a, U: Upstream>(ctx: &'a Context<'_>) -> Result<&'a Connected<Http2>> {
    let upstreams = ctx.data::<Upstreams>()?;
    upstreams.get::<U>().ok_or_else(|| {
        let name = U::NAME;
        Error::new(format!("the upstream {name} is not part of this program"))
    })
}

/// What a call made for this field should know: the request's deadline, shared by all fields, and a
/// span of the field's own.
fn options(ctx: &Context<'_>) -> CallOptions {
    let options = ctx.data_opt::<CallOptions>().cloned().unwrap_or_default();
    // Of a connection, whose operations have no options of their own.
    let forwarded = ctx
        .data_opt::<Forwarded>()
        .map(|Forwarded(headers)| Arc::clone(headers));
    // The operation's span, or in a subscription the one that was started for it.
    let operation = ctx.data_opt::<Span>().cloned().unwrap_or_default();
    let name = ctx.field().name();
    let span = operation.child(SpanKind::Internal, || {
        let path = ctx.path_node.as_ref().map(ToString::to_string);
        let attributes = vec![
            KeyValue::new("graphql.field.name", name.to_owned()),
            KeyValue::new("graphql.field.path", path.unwrap_or_default()),
        ];
        (name.to_owned(), attributes)
    });
    CallOptions {
        span,
        forwarded,
        ..options
    }
}
