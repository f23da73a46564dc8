//! Greetings, from `helloworld.Greeter`.

use async_graphql::{Context, Object, Result, SimpleObject, Subscription};
use bff_engine::prelude::*;
use futures_util::{Stream, StreamExt};

use crate::upstreams::{
    Greeter,
    helloworld::{HelloReply, HelloRequest},
};

/// A greeting.
#[derive(SimpleObject, FromProto)]
#[proto(HelloReply)]
pub(crate) struct Greeting {
    /// The words.
    message: String,
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
    ) -> Answer<Greeting> {
        let request = HelloRequest { name };
        ctx.to::<Greeter>().say_hello(request).await.into()
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
        let client = ctx.to::<Greeter>();
        let replies = client.say_hello_stream_reply(HelloRequest { name }).await?;
        Ok(replies.map(|reply| reply.map(Greeting::from_proto)))
    }
}
