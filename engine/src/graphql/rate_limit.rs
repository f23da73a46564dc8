//! The rate limit of fields, as an extension: an adapter over [`crate::rate_limit`].
//!
//! A throttled field answers `null`, also one that cannot be `null`, and its error is added when the
//! operation is done: what `null` does further up is decided where the answer is completed.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use async_graphql::{
    PathSegment, Pos, QueryPathNode, QueryPathSegment, Response, ServerError, ServerResult,
    ValidationResult, Value,
    extensions::{
        Extension, ExtensionContext, ExtensionFactory, NextExecute, NextResolve, NextValidation,
        ResolveInfo,
    },
};
use opentelemetry::{KeyValue, trace::SpanKind};
use parking_lot::Mutex;

use super::{error, prepare::Prepared};
use crate::{
    rate_limit::{ActiveRule, Limiter, Throttled},
    telemetry::trace::Span,
    types::ClientKey,
};

/// Makes the extension for each request.
pub(super) struct RateLimit(pub(super) Arc<Limiter>);

impl ExtensionFactory for RateLimit {
    fn create(&self) -> Arc<dyn Extension> {
        Arc::new(PerRequest {
            limiter: Arc::clone(&self.0),
            root_fields: AtomicUsize::new(0),
            throttled: Mutex::default(),
        })
    }
}

/// One request's share.
struct PerRequest {
    limiter: Arc<Limiter>,
    /// Fields of the root that were asked for.
    root_fields: AtomicUsize,
    throttled: Mutex<Vec<ThrottledField>>,
}

struct ThrottledField {
    path: Vec<PathSegment>,
    pos: Pos,
    throttled: Throttled,
}

#[async_trait::async_trait]
impl Extension for PerRequest {
    /// Subscriptions are counted when they are asked for, not with each event.
    async fn validation(
        &self,
        ctx: &ExtensionContext<'_>,
        next: NextValidation<'_>,
    ) -> Result<ValidationResult, Vec<ServerError>> {
        let result = next.run(ctx).await?;
        // Only there for subscriptions, which have one field.
        let subscribed = ctx.data_opt::<Arc<Prepared>>().cloned();
        let root = ctx.schema_env.registry.subscription_type.as_deref();
        for field in subscribed.iter().flat_map(|prepared| prepared.roots()) {
            let rules = root.and_then(|root| self.limiter.rules(root, &field.name));
            if let Some(rules) = rules
                && let Err(throttled) = self.take(ctx, rules).await
            {
                note(ctx, &field.name, &throttled, rules);
                let path = vec![PathSegment::Field(field.key.to_string())];
                return Err(vec![error::throttled(&throttled, path, field.pos)]);
            }
        }
        Ok(result)
    }

    async fn resolve(
        &self,
        ctx: &ExtensionContext<'_>,
        info: ResolveInfo<'_>,
        next: NextResolve<'_>,
    ) -> ServerResult<Option<Value>> {
        if info.path_node.parent.is_none() {
            self.root_fields.fetch_add(1, Ordering::Relaxed);
        }
        let subscription = ctx.schema_env.registry.subscription_type.as_deref();
        let rules = match &info.path_node.segment {
            // Counted when it was asked for.
            _ if subscription == Some(info.parent_type) => None,
            // An item of a list whose field has been counted.
            QueryPathSegment::Index(_) => None,
            QueryPathSegment::Name(_) => self.limiter.rules(info.parent_type, info.name),
        };
        let Some(rules) = rules else {
            return next.run(ctx, info).await;
        };
        let Err(throttled) = self.take(ctx, rules).await else {
            return next.run(ctx, info).await;
        };
        let path = path_of(info.path_node);
        note(ctx, info.name, &throttled, rules);
        let field = ThrottledField {
            path,
            pos: info.field.response_key().pos,
            throttled,
        };
        self.throttled.lock().push(field);
        Ok(Some(Value::Null))
    }

    async fn execute(
        &self,
        ctx: &ExtensionContext<'_>,
        operation_name: Option<&str>,
        next: NextExecute<'_>,
    ) -> Response {
        let mut response = next.run(ctx, operation_name).await;
        let throttled = std::mem::take(&mut *self.throttled.lock());
        if throttled.is_empty() {
            return response;
        }
        let of_root = throttled.iter().filter(|field| field.path.len() == 1);
        let waits: Vec<_> = of_root.map(|field| field.throttled.retry_after).collect();
        if waits.len() == self.root_fields.load(Ordering::Relaxed)
            && let Some(wait) = waits.into_iter().max()
        {
            let seconds = wait.as_nanos().div_ceil(1_000_000_000).max(1) as u64;
            response.http_headers.insert("retry-after", seconds.into());
        }
        let errors = throttled.into_iter();
        let errors = errors.map(|field| error::throttled(&field.throttled, field.path, field.pos));
        response.errors.extend(errors);
        response
    }
}

impl PerRequest {
    async fn take(
        &self,
        ctx: &ExtensionContext<'_>,
        rules: &[ActiveRule],
    ) -> Result<(), Throttled> {
        let client = ctx.data_opt::<ClientKey>().copied();
        self.limiter
            .take(rules, client.unwrap_or_else(|| ClientKey::of("")))
            .await
    }
}

/// Notes in the trace that a field was throttled: in a span of the field's own, as if it had been
/// asked.
fn note(ctx: &ExtensionContext<'_>, field: &str, throttled: &Throttled, rules: &[ActiveRule]) {
    let Some(operation) = ctx.data_opt::<Span>().filter(|span| span.is_recording()) else {
        return;
    };
    let span = operation.child(SpanKind::Internal, || {
        let name = KeyValue::new("graphql.field.name", field.to_owned());
        (field.to_owned(), vec![name])
    });
    let coordinate = rules.first().map(|rule| rule.coordinate().to_string());
    let wait = throttled.retry_after.as_secs_f64() * 1000.0;
    span.event(
        "throttled",
        vec![
            KeyValue::new("bff.rate_limit.field", coordinate.unwrap_or_default()),
            KeyValue::new("bff.rate_limit.limit", i64::from(throttled.limit)),
            KeyValue::new("bff.rate_limit.retry_after_ms", wait),
        ],
    );
    // No failure: a throttled request is no reason to keep its trace.
    span.end();
}

fn path_of(node: &QueryPathNode<'_>) -> Vec<PathSegment> {
    let mut path: Vec<_> = std::iter::once(node)
        .chain(node.parents())
        .map(|node| match node.segment {
            QueryPathSegment::Name(name) => PathSegment::Field(name.to_owned()),
            QueryPathSegment::Index(index) => PathSegment::Index(index),
        })
        .collect();
    path.reverse();
    path
}
