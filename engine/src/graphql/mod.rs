//! GraphQL around the owner's schema: documents, limits, errors, and what resolvers call.
//!
//! The way of an operation: `language` reads its text, `validate` holds it against the schema's
//! `types`, and `collect` writes down what is executed of it; all that is remembered in `documents`.
//! For each request, `coerce` reads the variables and `prepare` hands the library an operation in
//! which nothing is left to decide. What the library answers, `answer` completes.
//!
//! **Invariant:** every `Query` and `Mutation` field that is backed by a call is nullable, so that
//! it answers `null` beside its siblings when the call fails. One bad upstream never blanks the page.

mod allowance;
mod answer;
mod batch;
mod coerce;
mod collect;
mod config;
mod context;
mod documents;
mod error;
mod fields;
mod language;
mod operation;
mod prepare;
mod rate_limit;
mod sample;
mod schema;
mod types;
mod validate;

use std::{
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use async_graphql::{Data, Request, Response, ServerError};
use futures_util::{FutureExt, Stream, StreamExt, stream::BoxStream};
use serde::{Serialize, Serializer, ser::SerializeStruct};
use tokio::time::Instant;

pub(crate) use self::{
    allowance::Beyond,
    config::{Config, Limits},
    context::Forwarded,
    error::Code,
    operation::Execution,
    schema::{Executable, SchemaSource},
};
pub use self::{
    batch::Batch,
    context::{BatchExt, CallExt, Calls, Client},
    fields::{
        Answer, Any, AnyInput, Bytes, Duration, Fill, FromProto, Int64, IntoProto, Json,
        PublishedEnum, Requested, TakenEnum, Timestamp, UInt32, UInt64,
    },
};
use self::{
    batch::{Batches, Driver},
    operation::Operation,
};
use crate::{call::CallOptions, telemetry::trace::Span};

/// What a request is answered with.
pub(crate) struct Completed {
    /// Data and errors.
    pub(crate) response: Response,
    /// Whether the operation was executed.
    pub(crate) executed: Executed,
    /// About how many bytes it has, of those that upstreams sent for it.
    size: usize,
}

impl Completed {
    /// The answer to what was not executed.
    pub(crate) fn refused(errors: Vec<ServerError>) -> Self {
        let is_shed = errors.first().and_then(operation::code_of) == Some(Code::Overloaded);
        Self {
            response: Response::from_errors(errors),
            executed: match is_shed {
                true => Executed::Shed,
                false => Executed::No,
            },
            size: 0,
        }
    }
}

/// Whether an operation was executed. If not, the answer has errors and no `data` ("Request Error
/// Result").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Executed {
    /// It was.
    Yes,
    /// It is wrong, or beyond a limit.
    No,
    /// There was too much else to do.
    Shed,
    /// It is good, and what it came by does not take such operations.
    NotThisWay,
}

/// Errors of an operation that was not executed.
#[derive(Debug)]
pub(crate) struct Refused(pub(crate) Vec<ServerError>);

/// The operations that what they come by takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Takes {
    /// Those that change nothing and have one answer.
    Queries,
    /// Those that change nothing.
    Reads,
    /// Those that have one answer.
    OneAnswer,
    /// All.
    All,
}

/// As it is sent.
impl Serialize for Completed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.executed {
            Executed::Yes => self.response.serialize(serializer),
            // The library's form of an answer always has `data`.
            Executed::No | Executed::Shed | Executed::NotThisWay => {
                let mut answer = serializer.serialize_struct("Completed", 1)?;
                answer.serialize_field("errors", &self.response.errors)?;
                answer.end()
            }
        }
    }
}

/// Executes `request` within `parent` and answers in the order it asks for. It is begun before `deadline`, or
/// not at all.
pub(crate) async fn execute(
    executable: &Executable,
    execution: &Execution,
    mut request: Request,
    takes: Takes,
    deadline: Instant,
    parent: &Span,
) -> Completed {
    let document = executable.documents.read(&request.query, deadline).await;
    let operation = Operation::start(executable, execution, document, &mut request, takes, parent);
    let refusal = operation.refused();
    let executed = match &refusal {
        None => Executed::Yes,
        // By GET only queries (GraphQL over HTTP, "GET": 405).
        Some(_) if takes == Takes::Queries && !operation.is_taken(takes) => Executed::NotThisWay,
        Some(_) if operation.is_shed() => Executed::Shed,
        Some(_) => Executed::No,
    };
    let mut response = match refusal {
        Some(refusal) => refusal,
        None => {
            let batches = Batches::default();
            let mut driver = Driver::new(batches.clone());
            let request = request.data(operation.span.clone()).data(batches);
            let mut executing = executable.schema.execute(request);
            let driven = poll_fn(|cx| driver.poll(cx, |cx| executing.poll_unpin(cx)));
            operation.span.within(driven).await
        }
    };
    operation.answer(&mut response);
    let size = operation.spent();
    operation.finish();
    Completed {
        response,
        executed,
        size,
    }
}

/// Executes `request` within `parent` as a stream of answers: many for a subscription, one for
/// anything else, which has `timeout`. None is larger than an answer may be.
///
/// # Errors
/// [`Refused`], if nothing of it is executed.
pub(crate) async fn execute_stream(
    executable: &Executable,
    execution: &Execution,
    mut request: Request,
    takes: Takes,
    session: Arc<Data>,
    timeout: std::time::Duration,
    parent: &Span,
) -> Result<Answers, Refused> {
    let deadline = Instant::now() + timeout;
    let document = executable.documents.read(&request.query, deadline).await;
    let operation = Operation::start(executable, execution, document, &mut request, takes, parent);
    if let Some(mut refusal) = operation.refused() {
        operation.answer(&mut refusal);
        operation.finish();
        return Err(Refused(refusal.errors));
    }
    if !operation.is_subscription() {
        request.data.insert(CallOptions {
            deadline: Some(deadline),
            ..CallOptions::default()
        });
    }
    let batches = Batches::default();
    let request = request.data(operation.span.clone()).data(batches.clone());
    Ok(Answers {
        answers: executable.schema.execute_stream(request, session),
        driver: Driver::new(batches),
        operation: Some(operation),
        limits: executable.limits,
    })
}

impl Completed {
    /// About how many bytes it has.
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// As it is sent; instead of an answer that is larger than `limits` allow, why it is not.
    ///
    /// # Errors
    /// When it is no JSON, which what resolvers return is.
    pub(crate) fn json(
        mut self,
        limits: &Limits,
        execution: &Execution,
    ) -> Result<Vec<u8>, serde_json::Error> {
        if let Some(bytes) = written(&self, self.size, limits)? {
            return Ok(bytes);
        }
        let error = allowance::not_sent(limits, &execution.beyond);
        self.response = Response::from_errors(vec![error]);
        serde_json::to_vec(&self)
    }
}

/// `answer` as JSON of about `size` bytes; `None` if it is larger than `limits` allow.
fn written(
    answer: &impl Serialize,
    size: usize,
    limits: &Limits,
) -> Result<Option<Vec<u8>>, serde_json::Error> {
    let mut bytes = Bounded {
        // A buffer that grows by doubling is three times as large for a moment.
        bytes: Vec::with_capacity(USUAL_ANSWER + size.min(limits.max_answer)),
        left: limits.max_answer,
    };
    match serde_json::to_writer(&mut bytes, answer) {
        Err(error) if error.is_io() => Ok(None),
        written => written.map(|()| Some(bytes.bytes)),
    }
}

/// One of many answers, as JSON.
#[derive(Debug)]
pub(crate) struct Written(String);

impl Written {
    /// Its text.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    fn new(answer: &Response, size: usize, limits: &Limits, beyond: &Beyond) -> Self {
        match written(answer, size, limits) {
            Ok(Some(bytes)) => Self(String::from_utf8(bytes).unwrap_or_default()),
            Ok(None) => Self::errors(&[allowance::not_sent(limits, beyond)]),
            // What resolvers return is JSON.
            Err(_) => Self::errors(&[Code::Internal.error("The answer is no JSON.", None)]),
        }
    }

    /// One that has only errors.
    pub(crate) fn errors(errors: &[ServerError]) -> Self {
        let answer = Response::from_errors(errors.to_vec());
        // Errors are JSON.
        Self(serde_json::to_string(&answer).unwrap_or_default())
    }
}

/// An answer of the usual size.
const USUAL_ANSWER: usize = 256;

/// Bytes that become no more than so many.
struct Bounded {
    bytes: Vec<u8>,
    left: usize,
}

impl std::io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let left = self.left.checked_sub(bytes.len());
        self.left = left.ok_or(std::io::ErrorKind::FileTooLarge)?;
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Why a client with `limit` operations under way gets no more.
pub(crate) fn too_many(limit: usize) -> [ServerError; 1] {
    let problem = format!("This connection has {limit} operations under way: end one first.");
    [Code::Overloaded.error(problem, None)]
}

/// Why a request is not executed for which there is no place.
pub(crate) fn too_many_requests(problem: &str) -> [ServerError; 1] {
    [Code::Overloaded.error(problem, None)]
}

/// Why a client gets no more operations with many answers, over whatever connection.
pub(crate) fn too_many_streams() -> [ServerError; 1] {
    let problem = "Too many operations with many answers are open here: end some first.";
    [Code::Overloaded.error(problem, None)]
}

/// Why an operation ends of which a resolver has panicked.
pub(crate) fn panicked() -> [ServerError; 1] {
    [Code::Internal.error("The operation could not be executed.", None)]
}

/// Why an operation ends whose client does not read its answers.
pub(crate) fn slow_client() -> [ServerError; 1] {
    let problem = "The answers were not read as fast as they came: the operation has ended.";
    [Code::Overloaded.error(problem, None)]
}

/// The answers of one operation. What it asked for ends before it does, also when it is dropped:
/// fields are in this order for that.
pub(crate) struct Answers {
    answers: BoxStream<'static, Response>,
    driver: Driver,
    operation: Option<Operation>,
    limits: Limits,
}

impl Answers {
    /// Whether they are a subscription's, which may have none for days.
    pub(crate) fn are_events(&self) -> bool {
        let operation = self.operation.as_ref();
        operation.is_some_and(Operation::is_subscription)
    }
}

impl Stream for Answers {
    type Item = Written;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Written>> {
        let this = self.get_mut();
        let Some(operation) = &this.operation else {
            return Poll::Ready(None);
        };
        let (answers, driver) = (&mut this.answers, &mut this.driver);
        let answer = operation
            .span
            .poll_within(|| driver.poll(cx, |cx| answers.poll_next_unpin(cx)));
        match ready!(answer) {
            Some(mut answer) => {
                operation.answer(&mut answer);
                let (size, limits) = (operation.spent(), &this.limits);
                let written = Written::new(&answer, size, limits, operation.beyond());
                operation.renew();
                Poll::Ready(Some(written))
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
