//! Where `null` goes when a field that cannot be `null` has no value: to the nearest ancestor that
//! can ("Handling Field Errors" of the specification), so that as much as can be is served.

use async_graphql::{
    PathSegment, Value,
    extensions::ExtensionContext,
    parser::types::{ExecutableDocument, Field, OperationType, Selection, SelectionSet},
    registry::{MetaTypeName, Registry},
};

use super::operation::Planned;

/// Puts `null` into `data` for the field at `path`, which cannot be `null` itself.
pub(super) fn propagate(
    ctx: &ExtensionContext<'_>,
    planned: Option<&Planned>,
    data: &mut Value,
    path: &[PathSegment],
) {
    let registry = &ctx.schema_env.registry;
    let ancestor = planned
        .and_then(|planned| nearest(registry, planned, path))
        .unwrap_or_default();
    clear(data, &path[..ancestor]);
}

/// How long the path of the nearest ancestor that can be `null` is; nothing is the whole answer.
fn nearest(registry: &Registry, planned: &Planned, path: &[PathSegment]) -> Option<usize> {
    let document = &planned.document().analysed.as_ref().ok()?.parsed;
    let wanted = planned.operation()?;
    let mut operations = document.operations.iter();
    let (_, definition) = operations.find(|(name, _)| *name == wanted.name.as_ref())?;
    let root = match definition.node.ty {
        OperationType::Query => Some(&registry.query_type),
        OperationType::Mutation => registry.mutation_type.as_ref(),
        OperationType::Subscription => registry.subscription_type.as_ref(),
    }?;
    let mut parent = root.clone();
    let mut selections = vec![&definition.node.selection_set.node];
    // The type of what the path has led to so far, such as `[Product!]`.
    let mut here = String::new();
    let mut found = 0;
    for (length, segment) in (1..path.len()).zip(path) {
        match segment {
            PathSegment::Field(key) => {
                let fields = with_key(document, &selections, key);
                let name = &fields.first()?.name.node;
                let field = registry.types.get(&parent)?.field_by_name(name)?;
                here = field.ty.clone();
                selections = fields
                    .iter()
                    .map(|field| &field.selection_set.node)
                    .collect();
                parent = MetaTypeName::concrete_typename(&here).to_owned();
            }
            PathSegment::Index(_) => {
                let list = here.trim_end_matches('!');
                here = list.strip_prefix('[')?.strip_suffix(']')?.to_owned();
            }
        }
        if !here.ends_with('!') {
            found = length;
        }
    }
    Some(found)
}

/// Every field of `selections` that answers under `key`, through fragments.
fn with_key<'d>(
    document: &'d ExecutableDocument,
    selections: &[&'d SelectionSet],
    key: &str,
) -> Vec<&'d Field> {
    let mut found = Vec::new();
    for selection in selections.iter().flat_map(|set| &set.items) {
        let nested = match &selection.node {
            Selection::Field(field) if field.node.response_key().node == key => {
                found.push(&field.node);
                continue;
            }
            Selection::Field(_) => continue,
            Selection::InlineFragment(inline) => Some(&inline.node.selection_set.node),
            Selection::FragmentSpread(spread) => document
                .fragments
                .get(&spread.node.fragment_name.node)
                .map(|fragment| &fragment.node.selection_set.node),
        };
        if let Some(nested) = nested {
            found.extend(with_key(document, &[nested], key));
        }
    }
    found
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
