//! The rate limit of fields, as an extension: an adapter over [`crate::rate_limit`].
//!
//! A throttled field answers `null`, and its error is added when the operation is done. Returning
//! the error from the hook would lose the siblings' data.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicUsize, Ordering},
};

use arc_swap::ArcSwap;
use async_graphql::{
    PathSegment, QueryPathNode, QueryPathSegment, Response, ServerResult, Value, Variables,
    extensions::{
        Extension, ExtensionContext, ExtensionFactory, NextExecute, NextParseQuery, NextResolve,
        ResolveInfo,
    },
    parser::types::{ExecutableDocument, OperationType, Selection, SelectionSet},
};

use super::super::error;
use crate::rate_limit::{ActiveRule, ClientKey, Limiter, Throttled};

/// Makes the extension for each request.
pub(in crate::graphql) struct RateLimit(pub(in crate::graphql) Arc<ArcSwap<Limiter>>);

impl ExtensionFactory for RateLimit {
    fn create(&self) -> Arc<dyn Extension> {
        Arc::new(PerRequest {
            limiter: self.0.load_full(),
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
    throttled: Throttled,
    /// Whether the schema lets the field be `null`.
    nullable: bool,
}

#[async_trait::async_trait]
impl Extension for PerRequest {
    /// Subscriptions are counted when they are asked for, not with each event.
    async fn parse_query(
        &self,
        ctx: &ExtensionContext<'_>,
        query: &str,
        variables: &Variables,
        next: NextParseQuery<'_>,
    ) -> ServerResult<ExecutableDocument> {
        let document = next.run(ctx, query, variables).await?;
        for (_, operation) in document.operations.iter() {
            if operation.node.ty != OperationType::Subscription {
                continue;
            }
            let mut fields = Vec::new();
            root_fields(
                &document,
                &operation.node.selection_set.node,
                0,
                &mut fields,
            );
            for (key, name) in fields {
                let rules = self.limiter.rules("Subscription", name);
                if let Some(Err(throttled)) = rules.map(|rules| self.take(ctx, rules)) {
                    let path = vec![PathSegment::Field(key.to_owned())];
                    return Err(error::throttled(&throttled, path));
                }
            }
        }
        Ok(document)
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
        let rules = match info.parent_type {
            "Subscription" => None,
            parent => self.limiter.rules(parent, info.name),
        };
        let Some(rules) = rules else {
            return next.run(ctx, info).await;
        };
        let Err(throttled) = self.take(ctx, rules) else {
            return next.run(ctx, info).await;
        };
        let path = path_of(info.path_node);
        let nullable = !info.return_type.ends_with('!');
        let field = ThrottledField {
            path,
            throttled,
            nullable,
        };
        self.throttled
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(field);
        Ok(Some(Value::Null))
    }

    async fn execute(
        &self,
        ctx: &ExtensionContext<'_>,
        operation_name: Option<&str>,
        next: NextExecute<'_>,
    ) -> Response {
        let mut response = next.run(ctx, operation_name).await;
        let throttled = std::mem::take(
            &mut *self
                .throttled
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        );
        if throttled.is_empty() {
            return response;
        }
        let of_root = throttled.iter().filter(|field| field.path.len() == 1);
        let waits: Vec<_> = of_root.map(|field| field.throttled.retry_after).collect();
        if waits.len() == self.root_fields.load(Ordering::Relaxed)
            && let Some(wait) = waits.into_iter().max()
        {
            let seconds = wait.as_millis().div_ceil(1000).max(1) as u64;
            response.http_headers.insert("retry-after", seconds.into());
        }
        for field in throttled {
            if !field.nullable {
                // The object that should hold it cannot be without it.
                clear(&mut response.data, &field.path[..field.path.len() - 1]);
            }
            response
                .errors
                .push(error::throttled(&field.throttled, field.path));
        }
        response
    }
}

impl PerRequest {
    fn take(&self, ctx: &ExtensionContext<'_>, rules: &[ActiveRule]) -> Result<(), Throttled> {
        let client = ctx.data_opt::<ClientKey>().copied();
        self.limiter
            .take(rules, client.unwrap_or_else(|| ClientKey::of("")))
    }
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

/// How deep fragments of the root are followed; validation refuses cycles, but comes later.
const MAX_FRAGMENTS: usize = 32;

/// The fields of an operation's root, through its fragments: response key and name.
fn root_fields<'d>(
    document: &'d ExecutableDocument,
    selections: &'d SelectionSet,
    depth: usize,
    fields: &mut Vec<(&'d str, &'d str)>,
) {
    for selection in &selections.items {
        let nested = match &selection.node {
            Selection::Field(field) => {
                let key = field.node.response_key().node.as_str();
                fields.push((key, field.node.name.node.as_str()));
                continue;
            }
            Selection::InlineFragment(inline) => Some(&inline.node.selection_set.node),
            Selection::FragmentSpread(spread) => document
                .fragments
                .get(&spread.node.fragment_name.node)
                .map(|fragment| &fragment.node.selection_set.node),
        };
        if let Some(nested) = nested
            && depth < MAX_FRAGMENTS
        {
            root_fields(document, nested, depth + 1, fields);
        }
    }
}
