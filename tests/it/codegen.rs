//! Clients that a build script made, called from resolvers: nested packages, imports, well-known types,
//! streams, two services on one server.

use async_graphql::{Context, EmptyMutation, Object, Result, Schema, SimpleObject, Subscription};
use bff_engine::{Bff, CallExt, codegen::prost::Message};
use bff_tests::{
    TestBff,
    fixtures::raw::RawFixture,
    websocket::{Client, subscribe},
};
use futures_util::{Stream, StreamExt};
use serde_json::json;

use self::upstreams::{
    Catalog,
    odd::r#type::Color,
    shop::catalog::v1::{GetProductRequest, Product},
    shop::common::v1::Money,
};

bff_engine::upstreams!();

#[derive(SimpleObject)]
struct Item {
    name: String,
    cents: Option<i64>,
    color: Option<String>,
}

impl From<Product> for Item {
    fn from(product: Product) -> Self {
        Self {
            name: product.name,
            cents: product.price.map(|price| price.cents),
            color: product.color.map(|color| color.r#match),
        }
    }
}

struct Query;

#[Object]
impl Query {
    async fn item(&self, ctx: &Context<'_>, id: String) -> Option<Result<Item>> {
        let product = ctx
            .to::<Catalog>()
            .get_product(GetProductRequest { id })
            .await;
        Some(product.map(Item::from))
    }

    async fn delete(&self, ctx: &Context<'_>, id: String) -> Option<Result<bool>> {
        let client = ctx.to::<Catalog>();
        let deleted = client.catalog_delete(GetProductRequest { id }).await;
        Some(deleted.map(|()| true))
    }

    async fn delete_all(&self, ctx: &Context<'_>) -> Option<Result<bool>> {
        Some(ctx.to::<Catalog>().admin_delete(()).await.map(|()| true))
    }
}

struct Prices;

#[Subscription]
impl Prices {
    async fn price(
        &self,
        ctx: &Context<'_>,
        id: String,
    ) -> Result<impl Stream<Item = Result<i64>> + use<>> {
        let prices = ctx
            .to::<Catalog>()
            .watch_price(GetProductRequest { id })
            .await?;
        Ok(prices.map(|price| price.map(|price| price.cents)))
    }
}

/// A shop over the catalog that listens there.
pub(crate) async fn shop(catalog: &RawFixture, settings: &[(&str, &str)]) -> TestBff {
    let schema = || Schema::build(Query, EmptyMutation, Prices);
    let endpoints = json!([format!("http://{}", catalog.addr())]);
    let mut bff = TestBff::builder()
        .program(Bff::new("shop", schema).upstream::<Catalog>())
        .set("upstreams.catalog.endpoints", endpoints);
    for (key, value) in settings {
        bff = bff.set(key, value);
    }
    bff.start().await
}

/// A catalog that has one thing.
pub(crate) async fn catalog() -> RawFixture {
    let catalog = RawFixture::start().await.unwrap();
    let product = Product {
        name: "A thing".to_owned(),
        price: Some(Money {
            cents: 1999,
            ..Money::default()
        }),
        color: Some(Color {
            r#match: "red".to_owned(),
        }),
        ..Product::default()
    };
    catalog.reply(
        "/shop.catalog.v1.Catalog/GetProduct",
        [product.encode_to_vec()],
    );
    catalog
}

#[tokio::test]
async fn a_resolver_calls_methods_by_their_names_whatever_the_package() {
    let catalog = catalog().await;
    let empty = [Vec::new()];
    catalog.reply("/shop.catalog.v1.Catalog/Delete", empty.clone());
    catalog.reply("/shop.catalog.v1.Admin/Delete", empty);
    let bff = shop(&catalog, &[]).await;
    let answer = bff
        .query("{ item(id: \"7\") { name cents color } delete(id: \"7\") deleteAll }")
        .await;
    assert_eq!(
        answer,
        json!({ "data": {
            "item": { "name": "A thing", "cents": 1999, "color": "red" },
            "delete": true,
            "deleteAll": true,
        } })
    );
    let asked = catalog.calls();
    let asked = asked
        .iter()
        .find(|call| call.path.ends_with("GetProduct"))
        .unwrap();
    let request = GetProductRequest::decode(asked.message.clone()).unwrap();
    assert_eq!(request.id, "7");
}

#[tokio::test]
async fn a_stream_of_an_imported_message_is_a_subscription() {
    let catalog = RawFixture::start().await.unwrap();
    let price = |cents| {
        let currency = String::new();
        Money { currency, cents }.encode_to_vec()
    };
    catalog.reply("/shop.catalog.v1.Catalog/WatchPrice", [price(1), price(2)]);
    let bff = shop(&catalog, &[]).await;
    let mut client = Client::connect(bff.addr(), &[]).await;
    client
        .send(subscribe("subscription { price(id: \"7\") }"))
        .await;
    for cents in [1, 2] {
        assert_eq!(client.next().await["payload"]["data"]["price"], cents);
    }
    assert_eq!(client.next().await["type"], "complete");
}

#[tokio::test]
async fn a_method_that_the_server_does_not_have_is_an_error_of_its_field() {
    let catalog = catalog().await;
    let bff = shop(&catalog, &[]).await;
    let answer = bff.query("{ item(id: \"7\") { name } deleteAll }").await;
    assert_eq!(
        answer["data"],
        json!({ "item": { "name": "A thing" }, "deleteAll": null })
    );
    let extensions = &answer["errors"][0]["extensions"];
    assert_eq!(extensions["grpcStatus"], "UNIMPLEMENTED", "{answer}");
}

#[tokio::test]
async fn headers_that_are_forwarded_reach_the_upstream_and_no_others_do() {
    let catalog = catalog().await;
    let bff = shop(
        &catalog,
        &[(
            "upstreams.catalog.forward",
            "[\"authorization\", \"x-tenant\"]",
        )],
    )
    .await;
    let request = reqwest::Client::new()
        .post(bff.url("/graphql"))
        .header("Authorization", "Bearer secret")
        .header("x-tenant", "blue")
        .header("x-other", "no")
        .json(&json!({ "query": "{ item(id: \"7\") { name } }" }));
    let answer = request.send().await.unwrap().text().await.unwrap();
    assert!(answer.contains("A thing"), "{answer}");
    let metadata = &catalog.calls()[0].metadata;
    assert_eq!(metadata["authorization"], "Bearer secret");
    assert_eq!(metadata["x-tenant"], "blue");
    assert_eq!(metadata.get("x-other"), None);
    bff.query("{ item(id: \"7\") { name } }").await;
    assert_eq!(
        catalog.calls()[1].metadata.get("x-tenant"),
        None,
        "of another request"
    );
}

#[tokio::test]
async fn over_a_websocket_they_come_from_the_upgrade_and_what_it_lacks_from_connection_init() {
    let catalog = catalog().await;
    let forward = (
        "upstreams.catalog.forward",
        "[\"authorization\", \"x-tenant\", \"x-user\"]",
    );
    let bff = shop(&catalog, &[forward]).await;
    // A proxy that has checked who somebody is says so in the upgrade.
    let headers = [
        &("x-tenant", "of the upgrade".to_owned()),
        &("x-user", "checked".to_owned()),
    ];
    let payload = json!({
        "Authorization": "Bearer secret", "x-other": "no", "x-tenant": 7, "X-User": "somebody else",
    });
    let mut client = Client::connect_as(bff.addr(), &headers, payload).await;
    client.send(subscribe("{ item(id: \"7\") { name } }")).await;
    assert_eq!(
        client.next().await["payload"]["data"]["item"]["name"],
        "A thing"
    );
    let metadata = &catalog.calls()[0].metadata;
    assert_eq!(metadata["authorization"], "Bearer secret");
    assert_eq!(metadata["x-tenant"], "of the upgrade");
    assert_eq!(metadata["x-user"], "checked");
    assert_eq!(metadata.get("x-other"), None);
}

#[tokio::test]
async fn a_header_by_connection_init_that_is_none_is_refused() {
    let catalog = catalog().await;
    let forward = ("upstreams.catalog.forward", "[\"authorization\"]");
    let bff = shop(&catalog, &[forward]).await;
    for spoilt in ["a\nb".to_owned(), "a".repeat(9000)] {
        let payload = json!({ "authorization": spoilt });
        let reason = Client::refused(bff.addr(), payload).await;
        assert!(reason.contains("authorization"), "{reason}");
        assert!(!reason.contains("aaaa"), "{reason}");
    }
    assert_eq!(catalog.calls().len(), 0);
}
