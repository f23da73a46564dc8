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
    let mut selections = vec![(root.as_str(), &definition.node.selection_set.node)];
    // The type of what the path has led to so far, such as `[Product!]`.
    let mut here = "";
    let mut found = 0;
    for (length, segment) in (1..path.len()).zip(path) {
        match segment {
            PathSegment::Field(key) => {
                let fields = selections
                    .iter()
                    .flat_map(|(parent, set)| with_key(document, parent, set, key));
                let fields: Vec<_> = fields
                    .filter_map(|(parent, field)| {
                        let parent = registry.types.get(parent)?;
                        let of = parent.field_by_name(&field.name.node)?;
                        Some((of.ty.as_str(), &field.selection_set.node))
                    })
                    .collect();
                // Fields with one key are alike in what can be `null` ("SameResponseShape").
                let Some((ty, _)) = fields.first() else { break };
                here = ty;
                let concrete = |(ty, set)| (MetaTypeName::concrete_typename(ty), set);
                selections = fields.into_iter().map(concrete).collect();
            }
            PathSegment::Index(_) => {
                let list = here.trim_end_matches('!');
                let Some(item) = list
                    .strip_prefix('[')
                    .and_then(|list| list.strip_suffix(']'))
                else {
                    break;
                };
                here = item;
            }
        }
        if !here.ends_with('!') {
            found = length;
        }
    }
    Some(found)
}

/// Every field of `selections` that answers under `key`, through fragments, each with the type that it
/// is asked of.
fn with_key<'d>(
    document: &'d ExecutableDocument,
    parent: &'d str,
    selections: &'d SelectionSet,
    key: &str,
) -> Vec<(&'d str, &'d Field)> {
    let mut found = Vec::new();
    for selection in &selections.items {
        let (condition, nested) = match &selection.node {
            Selection::Field(field) => {
                if field.node.response_key().node == key {
                    found.push((parent, &field.node));
                }
                continue;
            }
            Selection::InlineFragment(inline) => {
                let condition = inline.node.type_condition.as_ref();
                (condition, &inline.node.selection_set.node)
            }
            Selection::FragmentSpread(spread) => {
                let fragment = document.fragments.get(&spread.node.fragment_name.node);
                let Some(fragment) = fragment else { continue };
                let condition = &fragment.node.type_condition;
                (Some(condition), &fragment.node.selection_set.node)
            }
        };
        let on = condition.map_or(parent, |condition| condition.node.on.node.as_str());
        found.extend(with_key(document, on, nested, key));
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use async_graphql::{
        EmptyMutation, EmptySubscription, Interface, Object, Request, Schema, SimpleObject, Union,
        value,
    };

    use super::*;
    use crate::{
        graphql::{documents::Documents, rate_limit::RateLimit},
        rate_limit::Limiter,
    };

    #[derive(Clone, SimpleObject)]
    struct Seller {
        name: String,
        rating: i32,
    }

    #[derive(Clone, SimpleObject)]
    struct Product {
        id: i32,
        seller: Option<Seller>,
    }

    #[derive(Clone, SimpleObject)]
    struct Shop {
        id: i32,
        seller: Seller,
    }

    #[derive(Union)]
    enum Found {
        Product(Product),
        Shop(Shop),
    }

    #[derive(Interface)]
    #[graphql(field(name = "id", ty = "&i32"))]
    enum Item {
        Product(Product),
        Shop(Shop),
    }

    struct Query;

    fn product() -> Product {
        let name = "Ann".to_owned();
        let seller = Some(Seller { name, rating: 5 });
        Product { id: 1, seller }
    }

    fn shop() -> Shop {
        let name = "Bob".to_owned();
        let seller = Seller { name, rating: 4 };
        Shop { id: 2, seller }
    }

    #[Object]
    impl Query {
        async fn other(&self) -> i32 {
            7
        }
        async fn product(&self) -> Product {
            product()
        }
        async fn shops(&self) -> Vec<Shop> {
            vec![shop()]
        }
        async fn maybe(&self) -> Vec<Option<Shop>> {
            vec![None, Some(shop())]
        }
        async fn search(&self) -> Vec<Found> {
            vec![Found::Product(product()), Found::Shop(shop())]
        }
        async fn item(&self) -> Option<Item> {
            Some(Item::Product(product()))
        }
        async fn best(&self) -> Option<Found> {
            Some(Found::Shop(shop()))
        }
    }

    /// The answer when each `Seller.rating` is throttled.
    async fn answer(query: &str) -> Value {
        let rules = "[fields.'Seller.rating']\ncalls = 1\nperiod = '1h'\nper = 'global'";
        let limiter = Arc::new(Limiter::new(&toml_edit::de::from_str(rules).unwrap()));
        let rules = limiter.rules("Seller", "rating").unwrap();
        limiter
            .take_here(rules, crate::rate_limit::ClientKey::of(""))
            .unwrap();
        let schema = Schema::build(Query, EmptyMutation, EmptySubscription)
            .extension(RateLimit(limiter))
            .finish();
        let planned = Planned::new(Documents::default().get(query), None);
        let response = schema.execute(Request::new(query).data(planned)).await;
        let codes = response.errors.iter().map(|error| &error.extensions);
        assert!(codes.clone().count() > 0, "{response:?}");
        assert!(
            codes.clone().all(|extensions| extensions.is_some()),
            "{response:?}"
        );
        response.data
    }

    #[tokio::test]
    async fn null_goes_to_the_nearest_ancestor_that_can_be_null() {
        assert_eq!(
            answer("{ other product { id seller { name rating } } }").await,
            value!({ "other": 7, "product": { "id": 1, "seller": null } })
        );
        assert_eq!(
            answer("{ other maybe { id s: seller { rating } } }").await,
            value!({ "other": 7, "maybe": [null, null] })
        );
        assert_eq!(
            answer("{ other shops { seller { rating } } }").await,
            Value::Null,
            "no ancestor can"
        );
    }

    #[tokio::test]
    async fn null_goes_no_further_below_a_union_or_an_interface() {
        let search = "{ other search { ... on Product { seller { rating } } ... on Shop { id } } }";
        assert_eq!(
            answer(search).await,
            value!({ "other": 7, "search": [{ "seller": null }, { "id": 2 }] })
        );
        let spread = "{ other item { id ...P } } fragment P on Product { seller { rating } }";
        assert_eq!(
            answer(spread).await,
            value!({ "other": 7, "item": { "id": 1, "seller": null } })
        );
        assert_eq!(
            answer("{ other best { ... on Shop { seller { rating } } } }").await,
            value!({ "other": 7, "best": null })
        );
    }
}
