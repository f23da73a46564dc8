//! One operation from its text to its answer, whatever it came by: its document, its span, its
//! errors, its log line.

use std::{sync::Arc, time::Duration};

use async_graphql::{
    Request, Response, ServerError, Value,
    parser::types::{ExecutableDocument, OperationType},
};
use opentelemetry::{KeyValue, metrics::Counter, trace::SpanKind};
use tokio::time::Instant;
use tracing::warn;

use super::{
    documents::{Documents, Parsed},
    error::Code,
    order::Order,
    scan,
};
use crate::telemetry::trace::Span;

/// What operations are executed with, besides the schema. Clones share it.
#[derive(Clone, Debug)]
pub struct Execution {
    /// Documents that were parsed before.
    pub documents: Arc<Documents>,
    /// An operation that takes longer is worth a line.
    pub slow: Duration,
    /// Errors in answers, by code.
    pub errors: Counter<u64>,
}

/// Characters of an operation's name in the log: it is the client's own word.
const LONGEST_NAME: usize = 100;

/// An operation under way. It ends when it is dropped, however that comes about.
pub(super) struct Operation {
    pub(super) span: Span,
    /// The span around it lasts at least as long.
    _parent: Span,
    order: Order,
    kind: &'static str,
    name: Option<String>,
    parsed: Arc<Parsed>,
    started: Instant,
    execution: Execution,
    /// Whether all of it was answered.
    answered: bool,
    /// Why nothing of it is executed.
    refusal: Option<ServerError>,
}

impl Operation {
    /// Parses what `request` asks for and starts its span within `parent`.
    pub(super) fn start(execution: &Execution, request: &mut Request, parent: &Span) -> Self {
        let parsed = execution.documents.parse(&request.query);
        let wanted = request.operation_name.as_deref();
        let (mut kind, mut name, mut order) = ("invalid", None, Order::default());
        if let Ok(document) = &parsed.document {
            (kind, name) = describe(document, wanted).unwrap_or((kind, None));
            order = Order::of(document, wanted);
        }
        let span = parent.child(SpanKind::Internal, || {
            let mut attributes = vec![
                KeyValue::new("graphql.operation.type", kind),
                KeyValue::new("graphql.document.hash", parsed.hash.clone()),
            ];
            if let Some(name) = &name {
                attributes.push(KeyValue::new("graphql.operation.name", name.clone()));
            }
            (kind, attributes)
        });
        let refusal = match (&parsed.document, scan::check_variables(&request.variables)) {
            (Ok(document), Ok(())) => {
                request.set_parsed_query(document.clone());
                None
            }
            (Err(error), _) => Some(error.clone()),
            (Ok(_), Err(problem)) => Some(ServerError::new(problem, None)),
        };
        Self {
            span,
            _parent: parent.clone(),
            order,
            kind,
            name,
            parsed,
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
        self.order.apply(&mut response.data);
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
            self.span
                .event("cancelled: nobody waits for the answer", Vec::new());
        }
        self.span.end();
        let took = self.started.elapsed();
        if took <= self.execution.slow || self.kind == "subscription" {
            return;
        }
        let name = self.name.as_deref().unwrap_or_default();
        let name: String = name.chars().take(LONGEST_NAME).collect();
        self.span.poll_within(|| {
            warn!(
                operation = name,
                kind = self.kind,
                document = self.parsed.hash,
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

/// Type and name of the operation that is to be executed.
fn describe(
    document: &ExecutableDocument,
    wanted: Option<&str>,
) -> Option<(&'static str, Option<String>)> {
    let (name, operation) = document
        .operations
        .iter()
        .find(|(name, _)| wanted.is_none() || name.map(|name| name.as_str()) == wanted)?;
    let kind = match operation.node.ty {
        OperationType::Query => "query",
        OperationType::Mutation => "mutation",
        OperationType::Subscription => "subscription",
    };
    Some((kind, name.map(ToString::to_string)))
}
