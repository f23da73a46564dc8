//! A shop's web tier: a schema over a catalog and a greeter. Everything else is `bff-engine`'s.

mod catalog;
mod greeter;
mod pages;

use async_graphql::{MergedObject, Schema, SchemaBuilder};
use bff_engine::Bff;

bff_engine::upstreams!();

/// The root of queries.
#[derive(Default, MergedObject)]
pub struct Query(catalog::CatalogQuery, greeter::GreeterQuery);

type Builder = SchemaBuilder<Query, catalog::CatalogMutation, catalog::CatalogSubscription>;

fn schema() -> Builder {
    Schema::build(
        Query::default(),
        catalog::CatalogMutation,
        catalog::CatalogSubscription,
    )
}

/// The whole program.
pub fn shop() -> Bff {
    Bff::new("shop-bff", schema)
        .upstream::<upstreams::Catalog>()
        .upstream::<upstreams::Greeter>()
}
