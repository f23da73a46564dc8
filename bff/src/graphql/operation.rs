//! One operation from its text to its answer, whatever it came by: its document, its span, its
//! log line.

use std::{sync::Arc, time::Duration};

use async_graphql::{
    Request, Response,
    parser::types::{ExecutableDocument, OperationType},
};
use opentelemetry::{KeyValue, trace::SpanKind};
use sha2::{Digest, Sha256};
use tokio::time::Instant;
use tracing::warn;

use super::{documents::Documents, order::Order};
use crate::telemetry::trace::Span;

/// What operations are executed with, besides the schema. Clones share it.
#[derive(Clone, Debug)]
pub struct Execution {
    /// Documents that were parsed before.
    pub documents: Arc<Documents>,
    /// An operation that takes longer is worth a line.
    pub slow: Duration,
}

/// An operation that is about to be executed.
pub(super) struct Operation {
    pub(super) span: Span,
    /// The span around it lasts at least as long.
    _parent: Span,
    pub(super) order: Order,
    kind: &'static str,
    name: Option<String>,
    hash: String,
    started: Instant,
    slow: Duration,
}

impl Operation {
    /// Parses what `request` asks for and starts its span within `parent`.
    pub(super) fn start(execution: &Execution, request: &mut Request, parent: &Span) -> Self {
        // What cannot be parsed is refused by the schema.
        let document = execution.documents.parse(&request.query);
        let wanted = request.operation_name.clone();
        let (kind, name) = document
            .as_ref()
            .and_then(|document| describe(document, wanted.as_deref()))
            .unwrap_or(("invalid", None));
        let order = document
            .as_ref()
            .map(|document| Order::of(document, wanted.as_deref()))
            .unwrap_or_default();
        // Of use where there is a trace or a line; both are rare enough to pay for it then.
        let hash = match parent.is_recording() {
            true => fingerprint(&request.query),
            false => String::new(),
        };
        let span = parent.child(kind, SpanKind::Internal, || {
            let mut attributes = vec![
                KeyValue::new("graphql.operation.type", kind),
                KeyValue::new("graphql.document.hash", hash.clone()),
            ];
            if let Some(name) = &name {
                attributes.push(KeyValue::new("graphql.operation.name", name.clone()));
            }
            attributes
        });
        if let Some(document) = document {
            request.set_parsed_query(document);
        }
        Self {
            span,
            _parent: parent.clone(),
            order,
            kind,
            name,
            hash,
            started: Instant::now(),
            slow: execution.slow,
        }
    }

    /// Names the trace in the errors of an answer.
    pub(super) fn answered(&self, response: &mut Response) {
        if response.errors.is_empty() {
            return;
        }
        self.span.fail("the answer has errors");
        let Some(trace_id) = self.span.trace_id() else {
            return;
        };
        for error in &mut response.errors {
            let extensions = error.extensions.get_or_insert_default();
            extensions.set("traceId", trace_id.clone());
        }
    }

    /// Ends its span; a slow one is told.
    pub(super) fn end(self, query: &str) {
        self.span.end();
        let took = self.started.elapsed();
        if took <= self.slow || self.kind == "subscription" {
            return;
        }
        let hash = match self.hash.is_empty() {
            true => fingerprint(query),
            false => self.hash,
        };
        warn!(
            operation = self.name.as_deref().unwrap_or_default(),
            kind = self.kind,
            document = hash,
            duration_ms = took.as_millis() as u64,
            "an operation was slow"
        );
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

/// The first half of the document's SHA-256: enough to find it, and no text of a client's.
fn fingerprint(query: &str) -> String {
    let digest = Sha256::digest(query);
    digest[..16]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
