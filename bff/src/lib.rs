//! The web tier as a team owns it: a schema, one file per domain, and the upstreams it calls.
//! Everything else is `bff-engine`'s.

mod greeter;

use async_graphql::{EmptyMutation, MergedObject, MergedSubscription, Schema, SchemaBuilder};
use bff_engine::Bff;

bff_engine::upstreams!();

/// The root of queries.
#[derive(Default, MergedObject)]
pub struct Query(greeter::GreeterQuery);

/// The root of subscriptions.
#[derive(Default, MergedSubscription)]
pub struct Subscription(greeter::GreeterSubscription);

fn schema() -> SchemaBuilder<Query, EmptyMutation, Subscription> {
    Schema::build(Query::default(), EmptyMutation, Subscription::default())
}

/// The whole program.
pub fn bff() -> Bff {
    Bff::new("bff", schema).upstream::<upstreams::Greeter>()
}
