//! Queries, answered end to end.

use std::{collections::HashMap, sync::Arc, time::Duration};

use bff_tests::{Load, TestBff, chaos::Network, fixtures::greeter::GreeterFixture};
use serde_json::json;
use tonic::Code;

use crate::support::System;

#[tokio::test]
async fn a_greeting_comes_from_a_service_found_in_consul() {
    let system = System::start(1).await;
    let answer = system.bff.query("{ hello { message } }").await;
    assert_eq!(
        answer,
        json!({ "data": { "hello": { "message": "Hello, iveBoy!" } } })
    );
    let answer = system
        .bff
        .query("{ hello(name: \"小明\") { message } }")
        .await;
    assert_eq!(answer["data"]["hello"]["message"], "Hello, 小明!");
}

#[tokio::test]
async fn fixed_endpoints_need_no_consul() {
    let greeter = GreeterFixture::start().await.unwrap();
    let endpoints = json!([format!("http://{}", greeter.addr())]);
    let bff = TestBff::builder()
        .set("upstreams.greeter.endpoints", endpoints)
        .consul("http://127.0.0.1:1")
        .start()
        .await;
    assert_eq!(bff.get("/readyz").await.0, 200);
    assert!(bff.greets().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn three_instances_share_the_queries_within_a_fifth() {
    for balancer in ["p2c", "random"] {
        let configured = System::with(3, |bff| bff.set("upstreams.greeter.balancer", balancer));
        let System {
            consul: _consul,
            greeters,
            bff,
        } = configured.await;
        // Long against the hiccups of a busy machine, which are a difference to the balancer.
        for greeter in &greeters {
            greeter.script(|script| script.latency = Duration::from_millis(10));
        }
        let bff = Arc::new(bff);
        let load = Load::clients(&bff, 8);
        load.wait_for(1500).await;
        assert_eq!(load.failures().await, 0);
        let total: usize = greeters.iter().map(GreeterFixture::call_count).sum();
        for greeter in &greeters {
            let calls = greeter.call_count() * 3;
            let fifth = total / 5;
            assert!(
                calls.abs_diff(total) <= fifth,
                "{calls}/3 of {total} with {balancer}"
            );
        }
    }
}

#[tokio::test]
async fn an_upstream_that_fails_leaves_null_and_an_error_beside_its_siblings() {
    let system = System::start(1).await;
    system.greeters[0].script(|script| script.fail_with = Some(Code::NotFound));
    let answer = system.bff.query("{ __typename hello { message } }").await;
    assert_eq!(
        answer["data"],
        json!({ "__typename": "Query", "hello": null })
    );
    let error = &answer["errors"][0];
    assert_eq!(error["path"], json!(["hello"]));
    assert_eq!(
        error["extensions"],
        json!({
            "code": "UPSTREAM_ERROR",
            "upstream": "greeter",
            "grpcStatus": "NOT_FOUND",
            "attempts": 1
        })
    );
    assert!(!answer.to_string().contains("secret"), "{answer}");
    assert!(
        !answer
            .to_string()
            .contains(&system.greeters[0].addr().to_string()),
        "{answer}"
    );
}

#[tokio::test]
async fn every_way_to_fail_has_its_code() {
    let system = System::with(1, |bff| bff.set("upstreams.greeter.timeout", "200ms")).await;
    let greeter = &system.greeters[0];
    let code = async |expected: &str, status: &str| {
        let answer = system.bff.query("{ hello { message } }").await;
        let extensions = &answer["errors"][0]["extensions"];
        assert_eq!(extensions["code"], expected, "{answer}");
        assert_eq!(extensions["grpcStatus"], status, "{answer}");
    };
    greeter.script(|script| script.fail_with = Some(Code::Unavailable));
    code("UPSTREAM_UNAVAILABLE", "UNAVAILABLE").await;
    greeter.script(|script| script.fail_with = Some(Code::Internal));
    code("UPSTREAM_ERROR", "INTERNAL").await;
    greeter.script(|script| script.fail_with = Some(Code::InvalidArgument));
    code("BAD_USER_INPUT", "INVALID_ARGUMENT").await;
    greeter.script(|script| script.fail_with = Some(Code::Unauthenticated));
    code("UNAUTHENTICATED", "UNAUTHENTICATED").await;
    greeter.script(|script| script.fail_with = Some(Code::PermissionDenied));
    code("FORBIDDEN", "PERMISSION_DENIED").await;
    greeter.script(|script| {
        script.fail_with = None;
        script.latency = Duration::from_secs(60);
    });
    code("UPSTREAM_TIMEOUT", "DEADLINE_EXCEEDED").await;
    greeter.network(Network::Cut);
    code("UPSTREAM_UNAVAILABLE", "UNAVAILABLE").await;
}

#[tokio::test]
async fn the_upstream_learns_how_much_time_is_left_and_which_attempt_it_sees() {
    let system = System::with(2, |bff| bff.set("upstreams.greeter.timeout", "1s")).await;
    for greeter in &system.greeters {
        greeter.script(|script| script.fail_with = Some(Code::Unavailable));
    }
    let answer = system.bff.query("{ hello { message } }").await;
    assert_eq!(answer["errors"][0]["extensions"]["attempts"], 3, "{answer}");
    let mut attempts = HashMap::new();
    for call in system.greeters.iter().flat_map(GreeterFixture::calls) {
        let text = |key| {
            call.metadata
                .get(key)
                .map(|value| value.to_str().unwrap().to_owned())
        };
        let micros: u64 = text("grpc-timeout")
            .unwrap()
            .strip_suffix('u')
            .unwrap()
            .parse()
            .unwrap();
        attempts.insert(text("grpc-previous-rpc-attempts"), micros);
    }
    let left = |previous: Option<&str>| attempts[&previous.map(str::to_owned)];
    assert!(left(None) <= 500_000, "one attempt's share");
    assert!(left(Some("1")) <= 500_000);
    assert!(
        left(Some("2")) > 500_000 && left(Some("2")) < 1_000_000,
        "the last one has the rest"
    );
}

#[tokio::test]
async fn a_query_too_deep_or_too_wide_is_refused_before_any_call() {
    let system = System::with(1, |bff| bff.set("graphql.max_complexity", 10)).await;
    let wide: String = (0..20)
        .map(|n| format!("f{n}: hello {{ message }} "))
        .collect();
    let answer = system.bff.query(&format!("{{ {wide} }}")).await;
    assert!(
        answer["errors"][0]["message"]
            .as_str()
            .unwrap()
            .contains("complex"),
        "{answer}"
    );
    assert_eq!(system.greeters[0].call_count(), 0);
    let system = System::with(1, |bff| bff.set("graphql.max_depth", 1)).await;
    let answer = system.bff.query("{ hello { message } }").await;
    let message = answer["errors"][0]["message"].as_str().unwrap();
    assert!(message.contains("deep"), "{answer}");
    assert_eq!(system.greeters[0].call_count(), 0);
}

#[tokio::test]
async fn introspection_and_playground_can_be_turned_off() {
    let system = System::with(1, |bff| {
        bff.set("graphql.introspection", false)
            .set("graphql.playground", false)
    })
    .await;
    let answer = system.bff.query("{ __schema { types { name } } }").await;
    assert!(answer["data"]["__schema"].is_null(), "{answer}");
    assert_eq!(system.bff.get("/").await.0, 404);
    let open = System::start(1).await;
    let (status, page) = open.bff.get("/").await;
    assert_eq!(status, 200);
    assert!(page.contains("query Hello"), "{page}");
    // Its files are here, or held to their hashes.
    assert!(page.contains("playground/graphiql.js") || page.contains("integrity=\"sha384-"));
}

#[tokio::test]
async fn a_playground_with_files_of_its_own_asks_for_nothing_elsewhere() {
    let dir = tempfile::tempdir().unwrap();
    for module in [
        "react/umd/react.production.min.js",
        "react-dom/umd/react-dom.production.min.js",
        "graphiql/graphiql.min.js",
        "graphiql/graphiql.min.css",
    ] {
        let file = dir.path().join("node_modules").join(module);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, module).unwrap();
    }
    let folder = dir.path().display().to_string();
    let system = System::with(1, |bff| bff.set("graphql.playground_files", folder)).await;
    let (status, page) = system.bff.get("/").await;
    assert!(status == 200 && !page.contains("https://"), "{page}");
    let script = system.bff.get("/playground/graphiql.js").await;
    assert_eq!(script, (200, "graphiql/graphiql.min.js".to_owned()));
    for elsewhere in ["other.js", "..%2f..%2fpackage.json", "node_modules"] {
        let (status, _) = system.bff.get(&format!("/playground/{elsewhere}")).await;
        assert_eq!(status, 404, "{elsewhere}");
    }
}

#[tokio::test]
async fn a_body_beyond_all_reason_is_refused_before_it_is_read() {
    let system = System::start(1).await;
    let huge = "x".repeat(10 << 20);
    let request = reqwest::Client::new()
        .post(system.bff.url("/graphql"))
        .header("content-type", "application/json")
        .body(huge);
    match request.send().await {
        Ok(answer) => assert_eq!(answer.status(), 413),
        // It was refused while the body was still on its way.
        Err(error) => assert!(error.is_request() || error.is_body(), "{error:?}"),
    }
    assert_eq!(system.greeters[0].call_count(), 0);
    assert!(system.bff.greets().await);
}

#[tokio::test]
async fn f23_a_small_document_whose_fragments_multiply_is_refused_at_once() {
    let system = System::start(1).await;
    let multiply = |field: &str, times: usize, last: &str| {
        let mut bomb =
            "{ ...F0 } fragment F0 on Query { __type(name: \"Query\") { ...F1 } } ".to_owned();
        for n in 1..15 {
            let spread = |alias| format!("a{alias}: {field} {{ ...F{} }} ", n + 1);
            let spreads: String = (0..times).map(spread).collect();
            bomb += &format!("fragment F{n} on __Type {{ {spreads} }} ");
        }
        bomb + &format!("fragment F15 on __Type {{ {last} }}")
    };
    let answer = system.bff.query(&multiply("ofType", 20, "name")).await;
    let message = answer["errors"][0]["message"].as_str().unwrap();
    assert!(message.contains("too large"), "{answer}");
    // What is spread twice in one place is selected once.
    let mut harmless = "{ ...F0 } ".to_owned();
    for n in 0..15 {
        let spreads = format!("...F{} ", n + 1).repeat(20);
        harmless += &format!("fragment F{n} on Query {{ {spreads} }} ");
    }
    harmless += "fragment F15 on Query { hello { message } }";
    let answer = system.bff.query(&harmless).await;
    assert!(answer["data"]["hello"].is_object(), "{answer}");
    assert_eq!(system.greeters[0].call_count(), 1);
}

#[tokio::test]
async fn fields_are_answered_in_the_order_they_were_asked_for() {
    let system = System::start(1).await;
    system.greeters[0].script(|script| script.latency = Duration::from_millis(50));
    let answer = reqwest::Client::new()
        .post(system.bff.url("/graphql"))
        .json(&json!({ "query": "{ slow: hello { message } fast: __typename }" }))
        .send()
        .await
        .unwrap();
    let expected = r#"{"data":{"slow":{"message":"Hello, iveBoy!"},"fast":"Query"}}"#;
    assert_eq!(answer.text().await.unwrap(), expected);
}
