//! What resolvers take from their context, by type.

use async_graphql::{Context, Result};

use crate::upstream::{CallOptions, Upstreams};

/// Typed access to what the schema and the request carry.
pub(super) trait ContextExt {
    /// The typed clients.
    fn upstreams(&self) -> Result<&Upstreams>;

    /// What a call made for this field should know: the request's deadline, shared by all fields.
    fn call_options(&self) -> CallOptions;
}

impl ContextExt for Context<'_> {
    fn upstreams(&self) -> Result<&Upstreams> {
        self.data::<Upstreams>()
    }

    fn call_options(&self) -> CallOptions {
        self.data_opt::<CallOptions>().copied().unwrap_or_default()
    }
}
