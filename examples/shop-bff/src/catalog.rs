//! Products and their sellers, from `shop.catalog.v1.Catalog`.

use std::collections::HashMap;

use async_graphql::{
    ComplexObject, Context, Enum, ID, InputObject, Object, Result, SimpleObject, Subscription,
    connection::Connection,
};
use bff_engine::{Int64, Timestamp, prelude::*};
use futures_util::{Stream, StreamExt};

use crate::{
    pages::{self, Cursor},
    upstreams::{
        Catalog,
        shop::{catalog::v1, common::v1 as common},
    },
};

/// An amount of money.
#[derive(SimpleObject, FromProto)]
#[proto(common::Money)]
pub(crate) struct Money {
    /// ISO 4217, such as EUR.
    currency: String,
    /// In the smallest unit of the currency.
    cents: Int64,
}

/// An amount of money.
#[derive(InputObject, IntoProto)]
#[proto(common::Money)]
pub(crate) struct MoneyInput {
    currency: String,
    cents: Int64,
}

/// Whether a product can be had.
#[derive(Clone, Copy, PartialEq, Eq, Enum, FromProto)]
#[proto(v1::Availability)]
pub(crate) enum Availability {
    InStock,
    SoldOut,
}

/// Something that is sold.
#[derive(SimpleObject, FromProto)]
#[graphql(complex)]
#[proto(v1::Product)]
pub(crate) struct Product {
    id: ID,
    /// What it is called.
    name: String,
    /// What it costs; absent while nobody has said so.
    price: Option<Money>,
    availability: Answer<Availability>,
    created_at: Option<Timestamp>,
    #[graphql(skip)]
    seller_id: String,
}

/// Who sells something.
#[derive(Clone, SimpleObject, FromProto)]
#[proto(v1::Seller)]
pub(crate) struct Seller {
    id: ID,
    /// What the seller is called.
    name: String,
}

/// A price that has changed.
#[derive(SimpleObject, FromProto)]
#[proto(v1::PriceChange)]
pub(crate) struct PriceChange {
    id: ID,
    price: Option<Money>,
}

/// A new product.
#[derive(InputObject, IntoProto)]
#[proto(v1::CreateProductRequest)]
pub(crate) struct CreateProduct {
    /// Chosen by the client: asked for twice with one key, the product is made once.
    idempotency_key: String,
    name: String,
    price: Option<MoneyInput>,
    seller_id: ID,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct SellerById(String);

impl Batch for SellerById {
    type Value = Seller;

    async fn load(keys: Vec<Self>, calls: Calls) -> Result<HashMap<Self, Seller>> {
        let ids = keys.into_iter().map(|key| key.0).collect();
        let request = v1::BatchGetSellersRequest { ids };
        let reply = calls.to::<Catalog>().batch_get_sellers(request).await?;
        let by_id = |seller: v1::Seller| (Self(seller.id.clone()), Seller::from_proto(seller));
        Ok(reply.sellers.into_iter().map(by_id).collect())
    }
}

#[ComplexObject]
impl Product {
    /// Who sells it.
    async fn seller(&self, ctx: &Context<'_>) -> Answer<Seller> {
        ctx.batch(SellerById(self.seller_id.clone())).await
    }
}

#[derive(Default)]
pub(crate) struct CatalogQuery;

#[Object]
impl CatalogQuery {
    /// One product; `null` if there is none of this id.
    async fn product(&self, ctx: &Context<'_>, id: ID) -> Answer<Product> {
        let request = v1::GetProductRequest { id: id.0 };
        Answer::from(ctx.to::<Catalog>().get_product(request).await).not_found_as_null()
    }

    /// Products, a page at a time.
    async fn products(
        &self,
        ctx: &Context<'_>,
        #[graphql(default = 20)] first: i32,
        after: Option<String>,
    ) -> Answer<Connection<Cursor, Product>> {
        Answer::of(pages::products(ctx, first, after).await)
    }
}

pub(crate) struct CatalogMutation;

#[Object]
impl CatalogMutation {
    /// Puts a product into the catalog.
    async fn create_product(&self, ctx: &Context<'_>, input: CreateProduct) -> Answer<Product> {
        let request = input.into_proto();
        ctx.to::<Catalog>().create_product(request).await.into()
    }
}

pub(crate) struct CatalogSubscription;

#[Subscription]
impl CatalogSubscription {
    /// The price of a product, now and whenever it changes.
    async fn price_changes(
        &self,
        ctx: &Context<'_>,
        id: ID,
    ) -> Result<impl Stream<Item = Result<PriceChange>> + use<>> {
        let request = v1::WatchPriceRequest { id: id.0 };
        let changes = ctx.to::<Catalog>().watch_price(request).await?;
        Ok(changes.map(|change| change.map(PriceChange::from_proto)))
    }
}
