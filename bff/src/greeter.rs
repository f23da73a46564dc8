//! Greetings, from `helloworld.Greeter`.

use async_graphql::{Context, Object, Result, SimpleObject, Subscription};
use bff_engine::{CallExt, Method, Upstream};
use futures_util::{Stream, StreamExt};
use proto::helloworld::{HelloReply, HelloRequest};

/// The greeter.
#[derive(Debug)]
pub struct Greeter;

impl Upstream for Greeter {
    const NAME: &'static str = "greeter";
    const SERVICE: &'static str = "greeter-srv";
}

/// Greeting twice does no more than greeting once.
static SAY_HELLO: Method<Greeter, HelloRequest, HelloReply> =
    Method::unary("/helloworld.Greeter/SayHello").idempotent();
static SAY_HELLO_STREAM_REPLY: Method<Greeter, HelloRequest, HelloReply> =
    Method::server_streaming("/helloworld.Greeter/SayHelloStreamReply").idempotent();

/// A greeting.
#[derive(SimpleObject)]
pub(crate) struct Greeting {
    /// The words.
    message: String,
}

impl From<HelloReply> for Greeting {
    fn from(reply: HelloReply) -> Self {
        Self {
            message: reply.message,
        }
    }
}

/// The queries of this domain.
#[derive(Default)]
pub(crate) struct GreeterQuery;

#[Object]
impl GreeterQuery {
    /// Greets somebody.
    async fn hello(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Whom to greet.", default = "iveBoy")] name: String,
    ) -> Option<Result<Greeting>> {
        let reply = ctx.call(&SAY_HELLO, &HelloRequest { name }).await;
        Some(reply.map(Greeting::from))
    }
}

/// The subscriptions of this domain.
#[derive(Default)]
pub(crate) struct GreeterSubscription;

#[Subscription]
impl GreeterSubscription {
    /// Streams greetings until the service ends the stream.
    async fn greetings(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Whom to greet.", default = "iveBoy")] name: String,
    ) -> Result<impl Stream<Item = Result<Greeting>> + use<>> {
        let request = HelloRequest { name };
        let replies = ctx.stream(&SAY_HELLO_STREAM_REPLY, &request).await?;
        Ok(replies.map(|reply| reply.map(Greeting::from)))
    }
}
