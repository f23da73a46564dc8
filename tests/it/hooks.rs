//! What an owner puts around and beside the engine.

use std::{
    sync::{Arc, Mutex},
    task::{Context as Task, Poll},
};

use async_graphql::{Context, EmptySubscription, Object, Schema};
use bff_engine::{
    Bff, BreakerState, Call, Code, Failed, Reply, Stack,
    prelude::*,
    testing::{MadeUp, TestBff},
};
use serde_json::json;
use tower::{Layer, Service};

use super::codegen::upstreams::{
    Catalog,
    shop::catalog::v1::{GetProductRequest, Product},
};

/// Who asks, as the owner reads it from a header.
struct User(String);

struct Query;

#[Object]
impl Query {
    async fn user(&self, ctx: &Context<'_>) -> String {
        ctx.data_unchecked::<User>().0.clone()
    }

    async fn name(&self, ctx: &Context<'_>, id: String) -> Answer<String> {
        let product = ctx
            .to::<Catalog>()
            .get_product(GetProductRequest { id })
            .await;
        Answer::of(product.map(|product| product.name))
    }
}

struct Mutation;

#[Object]
impl Mutation {
    async fn delete(&self, ctx: &Context<'_>, id: String) -> Answer<bool> {
        let request = GetProductRequest { id };
        ctx.to::<Catalog>().catalog_delete(request).await.into()
    }
}

fn program() -> Bff {
    Bff::new("hooks", || {
        Schema::build(Query, Mutation, EmptySubscription)
    })
    .upstream::<Catalog>()
}

/// Adds a header to each call, and refuses those of one product.
#[derive(Clone)]
struct Audit;

#[derive(Clone)]
struct Audited(Stack);

impl Layer<Stack> for Audit {
    type Service = Audited;

    fn layer(&self, inner: Stack) -> Audited {
        Audited(inner)
    }
}

impl Service<Call> for Audited {
    type Response = Reply;
    type Error = Failed;
    type Future = futures_util::future::BoxFuture<'static, Result<Reply, Failed>>;

    fn poll_ready(&mut self, cx: &mut Task<'_>) -> Poll<Result<(), Failed>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, mut call: Call) -> Self::Future {
        let method = call.method();
        call.headers_mut()
            .insert("x-audit", method.parse().unwrap());
        if call.message().ends_with(b"secret") {
            let refused = Failed::refused(Code::PermissionDenied, "not this one");
            return Box::pin(async { Err(refused) });
        }
        Box::pin(self.0.call(call))
    }
}

#[tokio::test]
async fn data_is_made_of_each_request_and_reaches_resolvers() {
    let user = |incoming: &bff_engine::Incoming<'_>| {
        let user = incoming.headers.get("x-user");
        User(
            user.map_or("nobody", |user| user.to_str().unwrap())
                .to_owned(),
        )
    };
    let bff = TestBff::start(program().data(user)).await.unwrap();
    assert_eq!(
        bff.query("{ user }").await,
        json!({ "data": { "user": "nobody" } })
    );
    let bff = bff.header("x-user", "Ada");
    assert_eq!(
        bff.query("{ user }").await,
        json!({ "data": { "user": "Ada" } })
    );
}

#[tokio::test]
async fn a_layer_of_ones_own_sees_a_call_once_and_may_change_or_refuse_it() {
    let bff = TestBff::start(program().layer::<Catalog, _>(Audit))
        .await
        .unwrap();
    let catalog = bff.made_up("catalog");
    catalog.on("GetProduct").reply(&Product {
        name: "Lamp".into(),
        ..Product::default()
    });
    let answer = bff.query("{ name(id: \"1\") }").await;
    assert_eq!(answer, json!({ "data": { "name": "Lamp" } }));
    let received = catalog.received("GetProduct");
    assert_eq!(
        received[0].metadata["x-audit"],
        "shop.catalog.v1.Catalog/GetProduct"
    );
    assert_eq!(received[0].message::<GetProductRequest>().unwrap().id, "1");
    let answer = bff.query("{ name(id: \"secret\") }").await;
    assert_eq!(
        answer["errors"][0]["extensions"]["code"], "FORBIDDEN",
        "{answer}"
    );
    assert!(!answer.to_string().contains("not this one"));
    assert_eq!(catalog.received("GetProduct").len(), 1);
}

#[tokio::test]
async fn a_layer_around_an_upstream_that_was_not_added_is_a_problem() {
    let bff = Bff::new("hooks", || {
        Schema::build(Query, Mutation, EmptySubscription)
    });
    let bff = bff.layer::<Catalog, _>(Audit);
    let problem = TestBff::start(bff).await.unwrap_err().to_string();
    assert!(problem.contains("the upstream catalog"), "{problem}");
}

#[tokio::test]
async fn a_listener_is_told_of_every_change_of_a_breaker() {
    let changes = Arc::new(Mutex::new(Vec::new()));
    let listener = {
        let changes = Arc::clone(&changes);
        move |change: &bff_engine::BreakerChange| changes.lock().unwrap().push(*change)
    };
    let keys = [
        ("upstreams.catalog.breaker.consecutive_failures", "2"),
        ("upstreams.catalog.retry.max_attempts", "1"),
    ];
    let bff = TestBff::with(program().on_breaker_change(listener), None, &keys)
        .await
        .unwrap();
    bff.made_up("catalog")
        .on("GetProduct")
        .fail(Code::Internal, "broken");
    for _ in 0..3 {
        bff.query("{ name(id: \"1\") }").await;
    }
    let changes = changes.lock().unwrap();
    assert_eq!(changes.len(), 1);
    assert_eq!(changes[0].upstream, "catalog");
    assert_eq!(
        (changes[0].from, changes[0].to),
        (BreakerState::Closed, BreakerState::Open)
    );
}

#[tokio::test]
async fn mutations_run_in_order_and_are_not_sent_twice_unless_configured_idempotent() {
    let query = "mutation { a: delete(id: \"a\") b: delete(id: \"b\") c: delete(id: \"c\") }";
    let ids = |catalog: &MadeUp| -> Vec<_> {
        let received = catalog.received("shop.catalog.v1.Catalog/Delete");
        received
            .iter()
            .map(|call| call.message::<GetProductRequest>().unwrap().id)
            .collect()
    };
    let bff = TestBff::start(program()).await.unwrap();
    let answer = bff.query(query).await;
    assert_eq!(
        answer,
        json!({ "data": { "a": true, "b": true, "c": true } })
    );
    assert_eq!(ids(bff.made_up("catalog")), ["a", "b", "c"]);
    bff.made_up("catalog")
        .on("shop.catalog.v1.Catalog/Delete")
        .fail(Code::Unavailable, "later");
    let answer = bff.query("mutation { delete(id: \"d\") }").await;
    assert_eq!(answer["data"], json!({ "delete": null }));
    assert_eq!(ids(bff.made_up("catalog")), ["a", "b", "c", "d"]);
    // A key with a dot in it can only be said in a file.
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("methods.toml");
    let text = "[upstreams.catalog.methods.\"shop.catalog.v1.Catalog/Delete\"]
        idempotent = true
        retry = { max_attempts = 2, backoff = \"0ms\" }";
    std::fs::write(&file, text).unwrap();
    let bff = TestBff::with(program(), Some(&file), &[]).await.unwrap();
    let delete = bff.made_up("catalog").on("shop.catalog.v1.Catalog/Delete");
    delete.fail(Code::Unavailable, "later");
    bff.query("mutation { delete(id: \"d\") }").await;
    assert_eq!(ids(bff.made_up("catalog")), ["d", "d"]);
}

#[tokio::test]
async fn a_method_has_a_timeout_of_its_own_and_one_that_is_not_there_is_refused_with_the_nearest() {
    let keys = [("upstreams.catalog.methods.GetProduct.timeout", "50ms")];
    let bff = TestBff::with(program(), None, &keys).await.unwrap();
    let catalog = bff.made_up("catalog");
    catalog
        .on("GetProduct")
        .delay(std::time::Duration::from_secs(1));
    let answer = bff.query("{ name(id: \"1\") }").await;
    assert_eq!(
        answer["errors"][0]["extensions"]["code"],
        "UPSTREAM_TIMEOUT"
    );
    let keys = [("upstreams.catalog.methods.GetProdukt.timeout", "50ms")];
    let refused = TestBff::with(program(), None, &keys).await.unwrap_err();
    assert!(
        refused.to_string().contains("did you mean `GetProduct`?"),
        "{refused}"
    );
}

#[tokio::test]
async fn routes_of_ones_own_are_served_beside_the_engines() {
    let hello = axum::routing::get(|| async { "hi" });
    let routes = axum::Router::new().route("/hello", hello);
    let bff = bff_tests::TestBff::builder()
        .program(program().routes(routes))
        .set("consul.register", false)
        .start()
        .await;
    assert_eq!(bff.get("/hello").await, (200, "hi".to_owned()));
    assert_eq!(bff.get("/livez").await.0, 200);
}

#[tokio::test]
async fn a_test_reaches_nobody_outside_of_it_whatever_its_file_and_keys_say() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("production.toml");
    // Nobody listens on any of them; whoever asked would wait.
    let text = "[nacos]\nserver = \"127.0.0.1:1\"\n[telemetry]\nexporter = \"otlp\"\n\
                endpoint = \"http://127.0.0.1:1\"\n[upstreams.catalog]\nservice = \"catalog-srv\"";
    std::fs::write(&file, text).unwrap();
    let keys = [
        ("consul.register", "true"),
        ("upstreams.catalog.service", "x"),
    ];
    let bff = TestBff::with(program(), Some(&file), &keys).await.unwrap();
    let answer = bff.query("{ name(id: \"1\") }").await;
    assert_eq!(answer, json!({ "data": { "name": "name-1" } }));
}
