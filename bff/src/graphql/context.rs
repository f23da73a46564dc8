//! What resolvers take from their context, by type.

use async_graphql::{Context, Result};
use opentelemetry::{KeyValue, trace::SpanKind};

use crate::{
    telemetry::trace::Span,
    upstream::{CallOptions, Upstreams},
};

/// Typed access to what the schema and the request carry.
pub(super) trait ContextExt {
    /// The typed clients.
    fn upstreams(&self) -> Result<&Upstreams>;

    /// What a call made for this field should know: the request's deadline, shared by all fields,
    /// and a span of the field's own.
    fn call_options(&self) -> CallOptions;
}

impl ContextExt for Context<'_> {
    fn upstreams(&self) -> Result<&Upstreams> {
        self.data::<Upstreams>()
    }

    fn call_options(&self) -> CallOptions {
        let options = self.data_opt::<CallOptions>().cloned().unwrap_or_default();
        // The operation's span, or in a subscription the one that was started for it.
        let operation = self.data_opt::<Span>().cloned().unwrap_or_default();
        let name = self.field().name();
        let span = operation.child(SpanKind::Internal, || {
            let path = self.path_node.as_ref().map(ToString::to_string);
            let attributes = vec![
                KeyValue::new("graphql.field.name", name.to_owned()),
                KeyValue::new("graphql.field.path", path.unwrap_or_default()),
            ];
            (name.to_owned(), attributes)
        });
        CallOptions { span, ..options }
    }
}
