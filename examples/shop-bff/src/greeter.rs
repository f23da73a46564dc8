//! Greetings, from `helloworld.Greeter`.

use async_graphql::{Context, Object, SimpleObject};
use bff_engine::prelude::*;

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

#[derive(Default)]
pub(crate) struct GreeterQuery;

#[Object]
impl GreeterQuery {
    /// Greets somebody.
    async fn hello(
        &self,
        ctx: &Context<'_>,
        #[graphql(default = "iveBoy")] name: String,
    ) -> Answer<Greeting> {
        let request = HelloRequest { name };
        ctx.to::<Greeter>().say_hello(request).await.into()
    }
}
