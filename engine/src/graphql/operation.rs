//! One operation from its text to its answer, whatever it came by: its document, its span, its
//! errors, its log line.

use std::{sync::Arc, time::Duration};

use async_graphql::{Request, Response, ServerError, Value};
use opentelemetry::{KeyValue, metrics::Counter, trace::SpanKind};
use tokio::time::Instant;
use tracing::warn;

use super::{
    documents::{self, Document, Documents},
    error::Code,
    prepare::prepare,
};
use crate::telemetry::trace::Span;

/// What operations are executed with, besides the schema. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Execution {
    /// Documents that were analysed before.
    pub(crate) documents: Arc<Documents>,
    /// An operation that takes longer gets a line in the log.
    pub(crate) slow: Duration,
    /// Errors in answers, by code.
    pub(crate) errors: Counter<u64>,
}

/// Characters of an operation's name in the log: it is the client's own word.
const LONGEST_NAME: usize = 100;

/// An operation under way. It ends when it is dropped, however that comes about.
pub(super) struct Operation {
    pub(super) span: Span,
    /// The span around it lasts at least as long.
    _parent: Span,
    planned: Planned,
    started: Instant,
    execution: Execution,
    /// Whether all of it was answered.
    answered: bool,
    /// Why nothing of it is executed.
    refusal: Option<ServerError>,
}

impl Operation {
    /// Looks at what `request` asks for and starts its span within `parent`.
    pub(super) fn start(execution: &Execution, request: &mut Request, parent: &Span) -> Self {
        let document = execution.documents.get(&request.query);
        let planned = Planned::new(document, request.operation_name.as_deref());
        let span = parent.child(SpanKind::Internal, || {
            let kind = planned.kind();
            let mut attributes = vec![
                KeyValue::new("graphql.operation.type", kind),
                KeyValue::new("graphql.document.hash", planned.document.hash.clone()),
            ];
            if let Some(name) = planned.name() {
                let name = KeyValue::new("graphql.operation.name", name.to_owned());
                attributes.push(name);
            }
            (kind, attributes)
        });
        let refusal = prepare(request, &planned.document).err();
        request.data.insert(planned.clone());
        Self {
            span,
            _parent: parent.clone(),
            planned,
            started: Instant::now(),
            execution: execution.clone(),
            answered: false,
            refusal,
        }
    }

    /// The answer to an operation of which nothing is executed; `None` for any other.
    pub(super) fn refused(&mut self) -> Option<Response> {
        let error = self.refusal.take()?;
        Some(Response::from_errors(vec![error]))
    }

    /// Puts an answer in order, counts its errors, and names the trace in them where it can be
    /// found.
    pub(super) fn answer(&self, response: &mut Response) {
        if let Some(operation) = self.planned.operation() {
            operation.order.apply(&mut response.data);
        }
        if response.errors.is_empty() {
            return;
        }
        // A request that says nothing sensible, or too often, is no failure of ours.
        let mut failed = false;
        for error in &response.errors {
            let code = code_of(error);
            failed |= code.is_some_and(|code| !code.is_clients_own());
            let label = code.map_or("REQUEST", Code::as_str);
            let labels = [KeyValue::new("code", label)];
            self.execution.errors.add(1, &labels);
        }
        if failed {
            self.span.fail("the answer has errors");
        }
        let Some(trace_id) = self.span.trace_id(failed) else {
            return;
        };
        for error in &mut response.errors {
            let extensions = error.extensions.get_or_insert_default();
            extensions.set("traceId", trace_id.clone());
        }
    }

    /// All of it is answered.
    pub(super) fn finish(mut self) {
        self.answered = true;
    }
}

impl Drop for Operation {
    fn drop(&mut self) {
        if !self.answered {
            self.span.event("cancelled: the client left", Vec::new());
        }
        self.span.end();
        let took = self.started.elapsed();
        if took <= self.execution.slow || self.planned.kind() == "subscription" {
            return;
        }
        let name = self.planned.name().unwrap_or_default();
        let name: String = name.chars().take(LONGEST_NAME).collect();
        self.span.poll_within(|| {
            warn!(
                operation = name,
                kind = self.planned.kind(),
                document = self.planned.document.hash,
                duration_ms = took.as_millis() as u64,
                cancelled = !self.answered,
                "an operation was slow"
            );
        });
    }
}

/// The code of one of our own errors; `None` for those of the request itself.
fn code_of(error: &ServerError) -> Option<Code> {
    match error.extensions.as_ref()?.get("code")? {
        Value::String(code) => Code::parse(code),
        _ => None,
    }
}

/// The operation of a document that a request asks for. Clones share the document.
#[derive(Clone, Debug)]
pub(super) struct Planned {
    document: Arc<Document>,
    wanted: Option<Box<str>>,
}

impl Planned {
    pub(super) fn new(document: Arc<Document>, wanted: Option<&str>) -> Self {
        Self {
            document,
            wanted: wanted.map(Into::into),
        }
    }

    /// `None` if the document has no such operation; the schema says so.
    pub(super) fn operation(&self) -> Option<&documents::Operation> {
        self.document.operation(self.wanted.as_deref())
    }

    /// The document as it is executed.
    pub(super) fn document(&self) -> &Document {
        &self.document
    }

    fn kind(&self) -> &'static str {
        self.operation()
            .map_or("invalid", |operation| operation.kind)
    }

    fn name(&self) -> Option<&str> {
        self.operation()?.name.as_deref()
    }
}
