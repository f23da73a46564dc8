//! The rate limit of fields, as an extension: an adapter over [`crate::rate_limit`].
//!
//! A throttled field answers `null`, and its error is added when the operation is done. Returning
//! the error from the hook would lose the siblings' data.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use arc_swap::ArcSwap;
use async_graphql::{
    PathSegment, QueryPathNode, QueryPathSegment, Request, Response, ServerError, ServerResult,
    ValidationResult, Value,
    extensions::{
        Extension, ExtensionContext, ExtensionFactory, NextExecute, NextPrepareRequest,
        NextResolve, NextValidation, ResolveInfo,
    },
    parser::types::{ExecutableDocument, OperationType, Selection, SelectionSet},
};

use opentelemetry::{KeyValue, trace::SpanKind};

use super::super::{error, size};
use crate::{
    rate_limit::{ActiveRule, ClientKey, Limiter, Throttled},
    telemetry::trace::Span,
};

/// Makes the extension for each request.
pub(in crate::graphql) struct RateLimit(pub(in crate::graphql) Arc<ArcSwap<Limiter>>);

impl ExtensionFactory for RateLimit {
    fn create(&self) -> Arc<dyn Extension> {
        Arc::new(PerRequest {
            limiter: self.0.load_full(),
            root_fields: AtomicUsize::new(0),
            throttled: Mutex::default(),
            objects: Mutex::default(),
            subscribed: Mutex::default(),
        })
    }
}

/// One request's share.
struct PerRequest {
    limiter: Arc<Limiter>,
    /// Fields of the root that were asked for.
    root_fields: AtomicUsize,
    throttled: Mutex<Vec<ThrottledField>>,
    /// Objects with fields that have rules, by path, and whether they may be `null`.
    objects: Mutex<HashMap<String, bool>>,
    /// The root fields of a subscription that is about to be validated: response key and name.
    subscribed: Mutex<Vec<(String, String)>>,
}

struct ThrottledField {
    path: Vec<PathSegment>,
    throttled: Throttled,
    /// Whether the schema lets the field be `null`.
    nullable: bool,
}

#[async_trait::async_trait]
impl Extension for PerRequest {
    /// Before anything reads the document: whether it can be read, and what a subscription asks.
    async fn prepare_request(
        &self,
        ctx: &ExtensionContext<'_>,
        mut request: Request,
        next: NextPrepareRequest<'_>,
    ) -> ServerResult<Request> {
        let operation_name = request.operation_name.clone();
        let document = request.parsed_query()?;
        size::check(document)?;
        let mut operations = document.operations.iter();
        let operation = operations.find(|(name, _)| match (&operation_name, name) {
            (Some(wanted), Some(name)) => name.as_str() == wanted,
            (wanted, _) => wanted.is_none(),
        });
        if let Some((_, operation)) = operation
            && operation.node.ty == OperationType::Subscription
        {
            let mut fields = Vec::new();
            root_fields(document, &operation.node.selection_set.node, &mut fields);
            *lock(&self.subscribed) = fields;
        }
        next.run(ctx, request).await
    }

    /// Subscriptions are counted when they are asked for, not with each event; those that are
    /// refused for another reason are not counted.
    async fn validation(
        &self,
        ctx: &ExtensionContext<'_>,
        next: NextValidation<'_>,
    ) -> Result<ValidationResult, Vec<ServerError>> {
        let result = next.run(ctx).await?;
        let subscribed = std::mem::take(&mut *lock(&self.subscribed));
        for (key, name) in subscribed {
            let rules = self.limiter.rules("Subscription", &name);
            if let Some(rules) = rules
                && let Err(throttled) = self.take(ctx, rules).await
            {
                note(ctx, &name, &throttled, rules);
                return Err(vec![error::throttled(
                    &throttled,
                    vec![PathSegment::Field(key)],
                )]);
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
        // An object that may lose a throttled field: can it be null itself?
        if self.limiter.limits_type(base_type(info.return_type)) {
            let nullable = !info.return_type.ends_with('!');
            lock(&self.objects).insert(path_text(&path_of(info.path_node)), nullable);
        }
        let rules = match (info.parent_type, &info.path_node.segment) {
            // Counted when it was asked for.
            ("Subscription", _) => None,
            // An item of a list whose field has been counted.
            (_, QueryPathSegment::Index(_)) => None,
            (parent, QueryPathSegment::Name(_)) => self.limiter.rules(parent, info.name),
        };
        let Some(rules) = rules else {
            return next.run(ctx, info).await;
        };
        let Err(throttled) = self.take(ctx, rules).await else {
            return next.run(ctx, info).await;
        };
        let path = path_of(info.path_node);
        note(ctx, info.name, &throttled, rules);
        let nullable = !info.return_type.ends_with('!');
        let field = ThrottledField {
            path,
            throttled,
            nullable,
        };
        lock(&self.throttled).push(field);
        Ok(Some(Value::Null))
    }

    async fn execute(
        &self,
        ctx: &ExtensionContext<'_>,
        operation_name: Option<&str>,
        next: NextExecute<'_>,
    ) -> Response {
        let mut response = next.run(ctx, operation_name).await;
        let throttled = std::mem::take(&mut *lock(&self.throttled));
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
        for field in throttled {
            if !field.nullable {
                self.clear_object(&mut response.data, &field.path);
            }
            response
                .errors
                .push(error::throttled(&field.throttled, field.path));
        }
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

    /// The object that should hold the field at `path` cannot be without it: it is `null` if it
    /// may be, and otherwise the whole answer is.
    fn clear_object(&self, data: &mut Value, path: &[PathSegment]) {
        let object = &path[..path.len().saturating_sub(1)];
        match lock(&self.objects).get(&path_text(object)) {
            Some(true) => clear(data, object),
            Some(false) | None => *data = Value::Null,
        }
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
    // No failure: traces of whoever asks too often are not to be kept because of that.
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

fn path_text(path: &[PathSegment]) -> String {
    path.iter().fold(String::new(), |mut text, segment| {
        match segment {
            PathSegment::Field(name) => text.push_str(name),
            PathSegment::Index(index) => text.push_str(&index.to_string()),
        }
        text.push('.');
        text
    })
}

/// The type without its lists and exclamation marks.
fn base_type(written: &str) -> &str {
    written.trim_matches(['[', ']', '!'])
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Puts `null` at `path`.
fn clear(data: &mut Value, path: &[PathSegment]) {
    let target = path
        .iter()
        .try_fold(data, |value, segment| match (value, segment) {
            (Value::Object(object), PathSegment::Field(name)) => object.get_mut(name.as_str()),
            (Value::List(list), PathSegment::Index(index)) => list.get_mut(*index),
            _ => None,
        });
    if let Some(target) = target {
        *target = Value::Null;
    }
}

/// The fields of an operation's root, through its fragments: response key and name. The document
/// is known to be of a size that can be followed.
fn root_fields(
    document: &ExecutableDocument,
    selections: &SelectionSet,
    fields: &mut Vec<(String, String)>,
) {
    for selection in &selections.items {
        let nested = match &selection.node {
            Selection::Field(field) => {
                let key = field.node.response_key().node.to_string();
                fields.push((key, field.node.name.node.to_string()));
                continue;
            }
            Selection::InlineFragment(inline) => Some(&inline.node.selection_set.node),
            Selection::FragmentSpread(spread) => document
                .fragments
                .get(&spread.node.fragment_name.node)
                .map(|fragment| &fragment.node.selection_set.node),
        };
        if let Some(nested) = nested {
            root_fields(document, nested, fields);
        }
    }
}
