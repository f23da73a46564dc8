//! Greetings.

use async_graphql::{Context, Object, Result, SimpleObject, Subscription};
use futures_util::{Stream, StreamExt};

use super::{context::ContextExt, error};

/// A greeting.
#[derive(SimpleObject)]
struct Greeting {
    /// The words.
    message: String,
}

#[derive(Default)]
pub(super) struct GreeterQuery;

#[Object]
impl GreeterQuery {
    /// Greets somebody.
    async fn hello(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Whom to greet.", default = "iveBoy")] name: String,
    ) -> Option<Result<Greeting>> {
        let greeter = match ctx.upstreams() {
            Ok(upstreams) => &upstreams.greeter,
            Err(error) => return Some(Err(error)),
        };
        let answer = greeter.say_hello(name, ctx.call_options()).await;
        Some(
            answer
                .map(|message| Greeting { message })
                .map_err(|e| error::upstream(&e)),
        )
    }
}

#[derive(Default)]
pub(super) struct GreeterSubscription;

#[Subscription]
impl GreeterSubscription {
    /// Greets somebody again and again, until the greeter is tired of it.
    async fn greetings(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Whom to greet.", default = "iveBoy")] name: String,
    ) -> Result<impl Stream<Item = Result<Greeting>> + use<>> {
        let greeter = &ctx.upstreams()?.greeter;
        let greetings = greeter
            .greetings(name, ctx.call_options())
            .await
            .map_err(|e| error::upstream(&e))?;
        Ok(greetings.map(|greeting| {
            greeting
                .map(|message| Greeting { message })
                .map_err(|e| error::upstream(&e))
        }))
    }
}
