//! The schema: what a frontend may ask.
//!
//! A domain is one file: its types, its `…Query` and `…Subscription` parts, and one entry in each
//! of [`Query`] and [`Subscription`].
//!
//! **Invariant:** every field backed by a call is nullable and returns `Option<Result<T>>`, never
//! `Result<Option<T>>`: the schema is the same, but only the former answers `null` beside its
//! siblings when the call fails. One bad upstream never blanks the page.

mod config;
mod context;
mod documents;
mod error;
mod extensions;
mod greeter;
mod operation;
mod order;
mod scan;
mod size;

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use arc_swap::ArcSwap;
use async_graphql::{
    Data, EmptyMutation, MergedObject, MergedSubscription, Request, Response,
    parser::types::{TypeKind, TypeSystemDefinition},
};
use futures_util::{Stream, StreamExt, stream::BoxStream};

use self::operation::Operation;
pub use self::{config::Config, documents::Documents, error::Code, operation::Execution};
use crate::{rate_limit::Limiter, telemetry::trace::Span, upstream::Upstreams};

/// What can be asked.
#[derive(Default, MergedObject)]
pub struct Query(greeter::GreeterQuery);

/// What can be listened to.
#[derive(Default, MergedSubscription)]
pub struct Subscription(greeter::GreeterSubscription);

/// The executable schema.
pub type Schema = async_graphql::Schema<Query, EmptyMutation, Subscription>;

/// The schema over `upstreams`, within the limits of `config` and of `limiter`.
pub fn schema(config: &Config, upstreams: Upstreams, limiter: Arc<ArcSwap<Limiter>>) -> Schema {
    let mut builder = Schema::build(Query::default(), EmptyMutation, Subscription::default())
        .limit_depth(config.max_depth)
        .limit_complexity(config.max_complexity)
        .extension(extensions::RateLimit(limiter))
        .data(upstreams);
    if !config.introspection {
        builder = builder.disable_introspection();
    }
    builder.finish()
}

/// Executes `request` within `parent` and answers in the order it asks for.
pub async fn execute(
    schema: &Schema,
    execution: &Execution,
    mut request: Request,
    parent: &Span,
) -> Response {
    let mut operation = Operation::start(execution, &mut request, parent);
    let mut response = match operation.refused() {
        Some(refusal) => refusal,
        None => {
            let request = request.data(operation.span.clone());
            operation.span.within(schema.execute(request)).await
        }
    };
    operation.answer(&mut response);
    operation.finish();
    response
}

/// Executes `request` within `parent` as a stream of answers: many for a subscription, one for
/// anything else.
pub fn execute_stream(
    schema: &Schema,
    execution: &Execution,
    mut request: Request,
    session: Option<Arc<Data>>,
    parent: &Span,
) -> impl Stream<Item = Response> + Send + use<> {
    let mut operation = Operation::start(execution, &mut request, parent);
    let answers = match operation.refused() {
        Some(refusal) => futures_util::stream::iter([refusal]).boxed(),
        None => {
            let request = request.data(operation.span.clone());
            let session = session.unwrap_or_default();
            schema
                .execute_stream_with_session_data(request, session)
                .boxed()
        }
    };
    Answers {
        answers,
        operation: Some(operation),
    }
}

/// The answers of one operation. What it asked for ends before it does, also when it is dropped:
/// fields are in this order for that.
struct Answers {
    answers: BoxStream<'static, Response>,
    operation: Option<Operation>,
}

impl Stream for Answers {
    type Item = Response;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Response>> {
        let this = self.get_mut();
        let Some(operation) = &this.operation else {
            return Poll::Ready(None);
        };
        let answers = &mut this.answers;
        let answer = operation.span.poll_within(|| answers.poll_next_unpin(cx));
        match ready!(answer) {
            Some(mut answer) => {
                operation.answer(&mut answer);
                Poll::Ready(Some(answer))
            }
            None => {
                // Drops the fields' spans before the operation's.
                this.answers = futures_util::stream::empty().boxed();
                if let Some(operation) = this.operation.take() {
                    operation.finish();
                }
                Poll::Ready(None)
            }
        }
    }
}

/// The schema in the schema definition language, as `schema/schema.graphql` holds it.
pub fn sdl() -> String {
    let schema = Schema::build(Query::default(), EmptyMutation, Subscription::default()).finish();
    let mut text = schema.sdl();
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}

/// Every field of the schema as `Type.field`: what a rate limit can be about.
pub fn coordinates() -> Vec<String> {
    // Our own schema always parses; a test sees to it.
    let Ok(document) = async_graphql::parser::parse_schema(sdl()) else {
        return Vec::new();
    };
    let mut coordinates = Vec::new();
    for definition in document.definitions {
        if let TypeSystemDefinition::Type(definition) = definition
            && let TypeKind::Object(object) = definition.node.kind
        {
            let parent = definition.node.name.node;
            let fields = object.fields.into_iter();
            coordinates.extend(fields.map(|field| format!("{parent}.{}", field.node.name.node)));
        }
    }
    coordinates
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_coordinates_are_those_of_the_schema() {
        let coordinates = coordinates();
        for known in ["Query.hello", "Greeting.message", "Subscription.greetings"] {
            assert!(
                coordinates.iter().any(|c| c == known),
                "{known} is not in {coordinates:?}"
            );
        }
    }
}
