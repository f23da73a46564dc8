//! What resolvers call.

use std::{marker::PhantomData, sync::Arc};

use async_graphql::{Context, Error, Result};
use futures_util::{StreamExt, stream::BoxStream};
use http::HeaderMap;
use opentelemetry::{KeyValue, trace::SpanKind};
use prost::Message;

use super::{
    allowance::Allowance,
    batch::{Batch, Batches},
    error,
    fields::Answer,
};
use crate::{
    call::{CallOptions, Method, transport::Http2},
    telemetry::trace::Span,
    types::ClientKey,
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
    fn to<U: Typed>(&self) -> U::Client<'_> {
        self.client::<U>().into()
    }

    /// What an upstream's own client stands on.
    fn client<U: Upstream>(&self) -> Client<'_, U>;
}

impl CallExt for Context<'_> {
    fn client<U: Upstream>(&self) -> Client<'_, U> {
        Client {
            caller: Caller::Field(self),
            upstream: PhantomData,
        }
    }
}

/// Loaders, from a resolver's context.
pub trait BatchExt {
    /// What there is for `key`, asked for with all other keys of its type that the fields of its level
    /// ask for.
    fn batch<B: Batch>(&self, key: B) -> impl Future<Output = Answer<B::Value>> + Send;
}

impl BatchExt for Context<'_> {
    async fn batch<B: Batch>(&self, key: B) -> Answer<B::Value> {
        match self.data::<Batches>() {
            Ok(batches) => batches.ask(key, || Calls::of(self)).await,
            Err(error) => error.into(),
        }
    }
}

/// Calls to upstreams outside of a field, with all that a call made for a field has: the request's
/// deadline, trace and forwarded headers.
#[derive(Clone, Debug)]
pub struct Calls {
    upstreams: Option<Upstreams>,
    options: CallOptions,
    allowance: Option<Arc<Allowance>>,
    /// Calls are made within it.
    operation: Span,
}

impl Calls {
    fn of(ctx: &Context<'_>) -> Self {
        Self {
            upstreams: ctx.data_opt::<Upstreams>().cloned(),
            options: passed_on(ctx),
            allowance: ctx.data_opt::<Arc<Allowance>>().cloned(),
            operation: ctx.data_opt::<Span>().cloned().unwrap_or_default(),
        }
    }
}

impl CallExt for Calls {
    fn client<U: Upstream>(&self) -> Client<'_, U> {
        Client {
            caller: Caller::Batch(self),
            upstream: PhantomData,
        }
    }
}

/// Calls to the upstream `U` for one field, or for a batch.
pub struct Client<'c, U> {
    caller: Caller<'c>,
    upstream: PhantomData<fn() -> U>,
}

#[derive(Clone, Copy)]
enum Caller<'c> {
    Field(&'c Context<'c>),
    Batch(&'c Calls),
}

impl Caller<'_> {
    fn upstream<U: Upstream>(&self) -> Result<&Connected<Http2>> {
        let upstreams = match self {
            Self::Field(ctx) => ctx.data_opt::<Upstreams>(),
            Self::Batch(calls) => calls.upstreams.as_ref(),
        };
        let upstream = upstreams.and_then(|upstreams| upstreams.get::<U>());
        upstream.ok_or_else(|| {
            let name = U::NAME;
            Error::new(format!("the upstream {name} is not part of this program"))
        })
    }

    /// What the operation may still cost.
    fn allowance(&self) -> Option<&Arc<Allowance>> {
        match self {
            Self::Field(ctx) => ctx.data_opt(),
            Self::Batch(calls) => calls.allowance.as_ref(),
        }
    }

    /// What a call should know: the request's deadline, shared by all fields, and a span of its own.
    fn options<U: Upstream>(&self) -> CallOptions {
        match self {
            Self::Field(ctx) => {
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
                    ..passed_on(ctx)
                }
            }
            Self::Batch(calls) => CallOptions {
                span: calls.operation.child(SpanKind::Internal, || {
                    (format!("batch {}", U::NAME), Vec::new())
                }),
                ..calls.options.clone()
            },
        }
    }
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
        let upstream = self.caller.upstream::<U>()?;
        let allowance = self.caller.allowance();
        allowance.map_or(Ok(()), |allowance| allowance.call())?;
        let options = self.caller.options::<U>();
        let answer = upstream.unary(method, request, options).await;
        let (message, bytes) = answer.map_err(|failed| error::upstream(&failed))?;
        allowance.map_or(Ok(()), |allowance| allowance.reply(bytes))?;
        Ok(message)
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
        let upstream = self.caller.upstream::<U>()?;
        let allowance = self.caller.allowance().cloned();
        allowance
            .as_ref()
            .map_or(Ok(()), |allowance| allowance.call())?;
        let options = self.caller.options::<U>();
        let answer = upstream.server_streaming(method, request, options);
        let messages = answer.await.map_err(|failed| error::upstream(&failed))?;
        let messages = messages.map(move |message| {
            let (message, bytes) = message.map_err(|failed| error::upstream(&failed))?;
            allowance
                .as_ref()
                .map_or(Ok(()), |allowance| allowance.message(bytes))?;
            Ok(message)
        });
        Ok(messages.boxed())
    }
}

/// Headers of the client's that some upstream is to have: of a request, or of a connection.
#[derive(Clone, Debug)]
pub(crate) struct Forwarded(pub(crate) Arc<HeaderMap>);

/// What all calls of a request share.
fn passed_on(ctx: &Context<'_>) -> CallOptions {
    let options = ctx.data_opt::<CallOptions>().cloned().unwrap_or_default();
    // Of a connection, whose operations have no options of their own.
    let forwarded = ctx
        .data_opt::<Forwarded>()
        .map(|Forwarded(headers)| Arc::clone(headers));
    CallOptions {
        forwarded,
        client: ctx.data_opt::<ClientKey>().copied(),
        ..options
    }
}
