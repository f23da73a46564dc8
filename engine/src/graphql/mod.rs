//! GraphQL around the owner's schema: documents, limits, errors, and what resolvers call.
//!
//! **Invariant:** every `Query` and `Mutation` field that is backed by a call is nullable and
//! returns `Option<Result<T>>`, never `Result<Option<T>>`: the schema is the same, but only the
//! former answers `null` beside its siblings when the call fails. One bad upstream never blanks the
//! page.

mod config;
mod context;
mod documents;
mod error;
mod nullable;
mod operation;
mod order;
mod prepare;
mod rate_limit;
mod scan;
mod schema;

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use async_graphql::{Data, Request, Response};
use futures_util::{Stream, StreamExt, stream::BoxStream};

pub use self::context::CallExt;
use self::operation::Operation;
pub(crate) use self::{
    config::{Config, Limits},
    documents::Documents,
    operation::Execution,
    schema::{Execute, SchemaSource},
};
use crate::telemetry::trace::Span;

/// Executes `request` within `parent` and answers in the order it asks for.
pub(crate) async fn execute(
    schema: &dyn Execute,
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
pub(crate) fn execute_stream(
    schema: &dyn Execute,
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
            schema.execute_stream(request, session.unwrap_or_default())
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
