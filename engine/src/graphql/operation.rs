//! One operation from its text to its answer, whatever it came by: its document, its span, its
//! errors, its log line.

use std::{sync::Arc, time::Duration};

use async_graphql::{Name, Request, Response, ServerError, Value, parser::types::OperationType};
use opentelemetry::{KeyValue, metrics::Counter, trace::SpanKind};
use tokio::time::Instant;
use tracing::warn;

use super::{
    Executable, Takes,
    allowance::Beyond,
    answer,
    documents::Document,
    error::Code,
    prepare::{Prepared, prepare},
};
use crate::telemetry::trace::Span;

/// What operations are executed with, whatever the rules. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Execution {
    /// An operation that takes longer gets a line in the log.
    pub(crate) slow: Duration,
    /// Errors in answers, by code.
    pub(crate) errors: Counter<u64>,
    /// Operations that went beyond a limit.
    pub(crate) beyond: Beyond,
}

/// Characters of an operation's name in the log: it is the client's own word.
const LONGEST_NAME: usize = 100;

/// An operation under way. It ends when it is dropped, however that comes about.
pub(super) struct Operation {
    pub(super) span: Span,
    /// The span around it lasts at least as long.
    _parent: Span,
    document: Arc<Document>,
    kind: &'static str,
    name: Option<Name>,
    started: Instant,
    execution: Execution,
    /// Whether all of it was answered.
    answered: bool,
    /// How it is executed, or why nothing of it is.
    prepared: Result<Arc<Prepared>, Vec<ServerError>>,
}

impl Operation {
    /// Looks at what `request` asks for and starts its span within `parent`.
    pub(super) fn start(
        executable: &Executable,
        execution: &Execution,
        document: Arc<Document>,
        request: &mut Request,
        takes: Takes,
        parent: &Span,
    ) -> Self {
        let wanted = document.operation(request.operation_name.as_deref());
        let kind = wanted.map_or("invalid", |operation| match operation.ty {
            OperationType::Query => "query",
            OperationType::Mutation => "mutation",
            OperationType::Subscription => "subscription",
        });
        let name = wanted.and_then(|operation| operation.name.clone());
        let span = parent.child(SpanKind::Internal, || {
            let mut attributes = vec![
                KeyValue::new("graphql.operation.type", kind),
                KeyValue::new("graphql.document.hash", document.hash.clone()),
            ];
            if let Some(name) = &name {
                let name = KeyValue::new("graphql.operation.name", name.to_string());
                attributes.push(name);
            }
            (kind, attributes)
        });
        let prepared = match not_taken(kind, takes) {
            Some(problem) => Err(vec![Code::OperationResolution.error(problem, None)]),
            None => {
                let limits = &executable.limits;
                let (documents, beyond) = (&executable.documents, &execution.beyond);
                prepare(request, documents, &document, limits, beyond).map(Arc::new)
            }
        };
        if let Ok(prepared) = &prepared
            && kind == "subscription"
        {
            request.data.insert(Arc::clone(prepared));
        }
        Self {
            span,
            _parent: parent.clone(),
            document,
            kind,
            name,
            started: Instant::now(),
            execution: execution.clone(),
            answered: false,
            prepared,
        }
    }

    /// Whether what it came by takes such operations.
    pub(super) fn is_taken(&self, takes: Takes) -> bool {
        not_taken(self.kind, takes).is_none()
    }

    /// Whether there was too much else to do.
    pub(super) fn is_shed(&self) -> bool {
        self.document.is_shed()
    }

    /// Whether it has many answers.
    pub(super) fn is_subscription(&self) -> bool {
        self.kind == "subscription"
    }

    /// The answer to an operation of which nothing is executed; `None` for any other.
    pub(super) fn refused(&self) -> Option<Response> {
        let errors = self.prepared.as_ref().err()?;
        Some(Response::from_errors(errors.clone()))
    }

    /// Completes an answer, counts its errors, and names the trace in them where it can be found.
    pub(super) fn answer(&self, response: &mut Response) {
        if let Ok(prepared) = &self.prepared {
            answer::complete(prepared.answer(), &prepared.failed, response);
        }
        if response.errors.is_empty() {
            return;
        }
        // A request that says nothing sensible, or too often, is no failure of ours.
        let mut failed = false;
        for error in &response.errors {
            let code = code_of(error);
            failed |= code.is_some_and(|code| !code.is_clients_own());
            let label = code.map_or("OTHER", Code::as_str);
            let labels = [KeyValue::new("code", label)];
            self.execution.errors.add(1, &labels);
        }
        if failed {
            self.span.fail("the answer has errors");
        }
        if let Ok(prepared) = &self.prepared {
            shorten(&mut response.errors, prepared.allowance.max_errors());
        }
        let Some(trace_id) = self.span.trace_id(failed) else {
            return;
        };
        for error in &mut response.errors {
            let extensions = error.extensions.get_or_insert_default();
            extensions.set("traceId", trace_id.clone());
        }
    }

    /// Bytes of replies that its answer is made of.
    pub(super) fn spent(&self) -> usize {
        let prepared = self.prepared.as_ref();
        prepared.map_or(0, |prepared| prepared.allowance.spent())
    }

    /// What is left of what it may cost is for what comes next.
    pub(super) fn renew(&self) {
        if let Ok(prepared) = &self.prepared {
            prepared.allowance.renew();
        }
    }

    /// Where it is counted that it went beyond a limit.
    pub(super) fn beyond(&self) -> &Beyond {
        &self.execution.beyond
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
        if took <= self.execution.slow || self.kind == "subscription" {
            return;
        }
        let name = self.name.as_deref().unwrap_or_default();
        let name: String = name.chars().take(LONGEST_NAME).collect();
        self.span.poll_within(|| {
            warn!(
                operation = name,
                kind = self.kind,
                document = self.document.hash,
                duration_ms = took.as_millis() as u64,
                cancelled = !self.answered,
                "an operation was slow"
            );
        });
    }
}

/// Leaves the first errors of many, and says how many there were.
fn shorten(errors: &mut Vec<ServerError>, limit: usize) {
    let more = errors.len().saturating_sub(limit);
    if more == 0 {
        return;
    }
    let code = errors.get(limit).and_then(code_of);
    errors.truncate(limit);
    let problem = format!("There are {more} more errors like these.");
    errors.push(code.unwrap_or(Code::Internal).error(problem, None));
}

/// Why an operation of this kind does not come this way, if it does not.
fn not_taken(kind: &str, takes: Takes) -> Option<&'static str> {
    match (kind, takes) {
        ("subscription", Takes::Queries | Takes::OneAnswer) => Some(
            "Subscriptions are served over WebSocket (graphql-transport-ws), or by POST as \
                 text/event-stream.",
        ),
        ("mutation", Takes::Queries | Takes::Reads) => Some("Mutations are sent by POST."),
        _ => None,
    }
}

/// The code of one of our own errors; `None` for those of the owner's resolvers.
pub(super) fn code_of(error: &ServerError) -> Option<Code> {
    match error.extensions.as_ref()?.get("code")? {
        Value::String(code) => Code::parse(code),
        _ => None,
    }
}
