//! The shop of the examples, on real processes: its own program, a catalog, a greeter.
//!
//! With `SHOP_BFF` set to a program, that one is asked: a copy that was built elsewhere.

use std::path::{Path, PathBuf};

use bff_tests::{TestBff, fixtures::consul::ConsulFixture, process::Program, websocket};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::{dev, greeter_process};

struct Shop {
    bff: TestBff,
    catalog: Program,
    _program: Program,
    _greeter: Program,
    _consul: ConsulFixture,
}

async fn shop() -> Shop {
    let consul = ConsulFixture::start().await.unwrap();
    let greeter = greeter_process(&consul, &[]).await;
    let url = consul.url();
    let catalog = Program::start(dev(), ["catalog-srv", "--consul", &url]);
    let catalog = catalog.await.unwrap();
    let elsewhere = std::env::var_os("SHOP_BFF").map(PathBuf::from);
    let rules = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/shop-bff/shop.toml");
    let mut args = match elsewhere {
        Some(_) => vec![],
        None => vec!["shop-bff"],
    };
    args.extend([
        "run",
        "--listen",
        "127.0.0.1:0",
        "--admin",
        "127.0.0.1:0",
        "--consul",
        &url,
    ]);
    args.extend(["--config", rules.to_str().unwrap()]);
    let program = Program::start(elsewhere.as_deref().unwrap_or(dev()), args);
    let mut program = program.await.unwrap();
    let bff = TestBff::of(&mut program).await;
    bff.wait_ready().await;
    Shop {
        bff,
        catalog,
        _program: program,
        _greeter: greeter,
        _consul: consul,
    }
}

impl Shop {
    async fn ask(&self, query: &str) -> Value {
        self.bff.query(query).await
    }

    /// How many attempts of gRPC calls there were, by method.
    async fn attempts(&self, method: &str) -> u64 {
        let (_, metrics) = self.bff.admin("/metrics").await;
        let method = format!("rpc_method=\"shop.catalog.v1.Catalog/{method}\"");
        let lines = metrics
            .lines()
            .filter(|line| line.starts_with("rpc_client_call_duration_seconds_count"));
        let of_method = lines.filter(|line| line.contains(&method));
        let counts = of_method.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok());
        counts.sum()
    }
}

#[tokio::test]
async fn a_product_is_served_with_its_price_and_its_seller() {
    let shop = shop().await;
    let query = "{ product(id: \"p-7\") { id name availability createdAt \
                 price { currency cents } seller { id name } } }";
    let product = json!({
        "id": "p-7",
        "name": "Product 7",
        "availability": "IN_STOCK",
        "createdAt": "2026-01-01T00:00:07Z",
        "price": { "currency": "EUR", "cents": "699" },
        "seller": { "id": "s-8", "name": "Seller 8" },
    });
    let answer = shop.ask(query).await;
    assert_eq!(answer, json!({ "data": { "product": product } }));
    let answer = shop.ask("{ product(id: \"p-0\") { id } }").await;
    assert_eq!(
        answer,
        json!({ "data": { "product": null } }),
        "not found is no error here"
    );
}

#[tokio::test]
async fn fifty_products_with_their_sellers_are_two_calls() {
    let shop = shop().await;
    let query = "{ products(first: 50) { edges { node { name seller { name } } } } }";
    let answer = shop.ask(query).await;
    let edges = answer["data"]["products"]["edges"].as_array().unwrap();
    assert_eq!(edges.len(), 50);
    assert!(
        edges
            .iter()
            .all(|edge| edge["node"]["seller"]["name"].is_string())
    );
    assert_eq!(shop.attempts("ListProducts").await, 1);
    assert_eq!(shop.attempts("BatchGetSellers").await, 1);
}

#[tokio::test]
async fn pages_follow_one_another_from_any_edge() {
    let shop = shop().await;
    let mut names = Vec::new();
    let mut after = Value::Null;
    let query = "query($after: String) { products(first: 20, after: $after) {
        edges { cursor node { name } } pageInfo { hasNextPage endCursor } } }";
    loop {
        let request = json!({ "query": query, "variables": { "after": after } });
        let answer: Value = serde_json::from_str(&shop.bff.post(&request).await).unwrap();
        let page = &answer["data"]["products"];
        let edges = page["edges"].as_array().unwrap();
        names.extend(edges.iter().map(|edge| edge["node"]["name"].clone()));
        if page["pageInfo"]["hasNextPage"] == false {
            break;
        }
        // The last page goes on from the middle of the one before.
        after = match names.len() {
            40 => {
                names.truncate(30);
                edges[9]["cursor"].clone()
            }
            _ => page["pageInfo"]["endCursor"].clone(),
        };
    }
    let all: Vec<_> = (1..=50).map(|n| json!(format!("Product {n}"))).collect();
    assert_eq!(names, all);
}

#[tokio::test]
async fn a_mutation_creates_a_product_once_for_its_key_and_says_what_is_wrong_with_another() {
    let shop = shop().await;
    let create = |key: &str, name: &str| {
        format!(
            "mutation {{ createProduct(input: {{ idempotencyKey: \"{key}\", name: \"{name}\", \
             price: {{ currency: \"EUR\", cents: \"12345678901\" }}, sellerId: \"s-1\" }}) \
             {{ id price {{ cents }} seller {{ name }} }} }}"
        )
    };
    let created = json!({ "data": { "createProduct": {
        "id": "p-51", "price": { "cents": "12345678901" }, "seller": { "name": "Seller 1" },
    }}});
    assert_eq!(shop.ask(&create("k", "Lamp")).await, created);
    assert_eq!(shop.ask(&create("k", "Lamp")).await, created);
    let refused = shop.ask(&create("l", "")).await;
    assert_eq!(refused["data"], json!({ "createProduct": null }));
    assert_eq!(refused["errors"][0]["extensions"]["code"], "BAD_USER_INPUT");
}

#[tokio::test]
async fn a_price_is_watched_and_the_sellers_of_one_tenant_are_served_over_a_connection_too() {
    let shop = shop().await;
    let tenant = json!({ "x-tenant": "acme" });
    let mut client = websocket::Client::connect_as(shop.bff.addr(), &[], tenant).await;
    let watch = "subscription { priceChanges(id: \"p-1\") { id price { cents } } }";
    client.send(websocket::subscribe(watch)).await;
    for cents in ["99", "100"] {
        let change = client.next().await["payload"]["data"]["priceChanges"].clone();
        assert_eq!(change, json!({ "id": "p-1", "price": { "cents": cents } }));
    }
    let query = "{ products(first: 2) { edges { node { seller { name } } } } }";
    client
        .send(json!({ "id": "q", "type": "subscribe", "payload": { "query": query } }))
        .await;
    let answer = loop {
        let message = client.next().await;
        if message["id"] == "q" {
            break message["payload"].clone();
        }
    };
    let seller = &answer["data"]["products"]["edges"][0]["node"]["seller"];
    assert_eq!(seller["name"], "Seller 2 of acme", "{answer}");
}

#[tokio::test]
async fn a_header_that_is_forwarded_reaches_the_service_in_the_batch_too() {
    let shop = shop().await;
    let query = json!({ "query": "{ product(id: \"p-1\") { seller { name } } }" });
    let answer = reqwest::Client::new()
        .post(shop.bff.url("/graphql"))
        .header("x-tenant", "acme")
        .json(&query)
        .send();
    let answer: Value = answer.await.unwrap().json().await.unwrap();
    assert_eq!(
        answer["data"]["product"]["seller"]["name"],
        "Seller 2 of acme"
    );
}

#[tokio::test]
async fn a_product_that_is_asked_for_too_often_is_throttled_beside_a_greeting() {
    let shop = shop().await;
    // As many as the rule in its file allows.
    let fifty = (0..50).map(|n| format!("p{n}: product(id: \"p-1\") {{ id }} "));
    let fifty = format!("{{ {} }}", fifty.collect::<String>());
    for _ in 0..2 {
        let answer = shop.ask(&fifty).await;
        assert!(answer["errors"].is_null(), "{answer}");
    }
    let query = "{ product(id: \"p-1\") { id } hello { message } }";
    let answer = shop.ask(query).await;
    assert_eq!(answer["errors"][0]["extensions"]["code"], "RATE_LIMITED");
    assert_eq!(answer["data"]["product"], Value::Null);
    assert_eq!(answer["data"]["hello"]["message"], "Hello, iveBoy!");
}

#[tokio::test]
async fn a_killed_catalog_is_null_beside_a_greeting() {
    let mut shop = shop().await;
    shop.catalog.signal(Signal::SIGKILL).unwrap();
    shop.catalog.wait().await.unwrap();
    let answer = shop
        .ask("{ product(id: \"p-1\") { id } hello { message } }")
        .await;
    assert_eq!(answer["data"]["product"], Value::Null);
    assert_eq!(answer["data"]["hello"]["message"], "Hello, iveBoy!");
    assert_eq!(
        answer["errors"][0]["extensions"]["code"],
        "UPSTREAM_UNAVAILABLE"
    );
}
