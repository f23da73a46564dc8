//! Rate limits, as a client meets them.

use bff_tests::websocket::{Client, subscribe};
use serde_json::{Value, json};

use crate::support::System;

const MESSAGE: &str = "请求过于频繁，请稍后重试！";

/// A system with the rule `calls` a minute on `field`.
async fn limited(field: &str, rule: &str) -> System {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("bff.toml");
    std::fs::write(&file, format!("[rate_limit.fields.\"{field}\"]\n{rule}\n")).unwrap();
    System::with(1, |bff| bff.file(&file)).await
}

async fn post(system: &System, query: &str) -> (Option<String>, Value) {
    let answer = reqwest::Client::new()
        .post(system.bff.url("/graphql"))
        .json(&json!({ "query": query }))
        .send()
        .await
        .unwrap();
    let retry_after = answer
        .headers()
        .get("retry-after")
        .map(|v| v.to_str().unwrap().to_owned());
    (retry_after, answer.json().await.unwrap())
}

#[tokio::test]
async fn the_eleventh_query_of_a_minute_is_throttled_and_says_when_to_come_back() {
    let system = limited("Query.hello", "calls = 10\nperiod = '1m'").await;
    for _ in 0..10 {
        assert!(system.bff.greets().await);
    }
    let (retry_after, answer) = post(&system, "{ hello { message } }").await;
    assert_eq!(answer["data"], json!({ "hello": null }));
    let error = &answer["errors"][0];
    assert_eq!(
        (&error["message"], &error["path"]),
        (&json!(MESSAGE), &json!(["hello"]))
    );
    let extensions = &error["extensions"];
    assert_eq!(extensions["code"], "RATE_LIMITED");
    assert_eq!(
        (&extensions["limit"], &extensions["periodMs"]),
        (&json!(10), &json!(60_000))
    );
    let wait = extensions["retryAfterMs"].as_u64().unwrap();
    assert!((1..=6_000).contains(&wait), "{wait}");
    assert_eq!(
        retry_after,
        Some(wait.div_ceil(1000).to_string()),
        "rounded up, never 0"
    );
    assert_eq!(
        system.greeters[0].call_count(),
        10,
        "a throttled field calls nobody"
    );
    let (_, metrics) = system.bff.admin("/metrics").await;
    let throttled = metrics
        .lines()
        .find(|line| line.contains("outcome=\"throttled\""));
    assert!(
        throttled.is_some_and(|line| line.ends_with(" 1")),
        "{metrics}"
    );
}

#[tokio::test]
async fn aliases_count_each_and_the_siblings_of_a_throttled_field_are_served() {
    let system = limited("Query.hello", "calls = 2\nperiod = '1m'").await;
    let query = "{ __typename a: hello { message } b: hello { message } c: hello { message } }";
    let (retry_after, answer) = post(&system, query).await;
    let served = ["a", "b", "c"]
        .iter()
        .filter(|key| answer["data"][**key].is_object())
        .count();
    assert_eq!(served, 2, "{answer}");
    assert_eq!(answer["data"]["__typename"], "Query");
    assert_eq!(answer["errors"].as_array().unwrap().len(), 1, "{answer}");
    assert_eq!(retry_after, None, "not every root field was throttled");
}

#[tokio::test]
async fn a_nested_field_that_cannot_be_null_takes_its_object_with_it() {
    let system = limited("Greeting.message", "calls = 1\nperiod = '1m'").await;
    let query = "{ __typename hello { __typename message } }";
    assert_eq!(post(&system, query).await.1.get("errors"), None);
    let (_, answer) = post(&system, query).await;
    assert_eq!(
        answer["data"],
        json!({ "__typename": "Query", "hello": null })
    );
    assert_eq!(answer["errors"][0]["path"], json!(["hello", "message"]));
}

#[tokio::test]
async fn a_subscription_is_limited_when_it_is_asked_for_and_not_with_each_event() {
    let system = limited("Subscription.greetings", "calls = 1\nperiod = '1m'").await;
    let mut client = Client::connect(system.bff.addr(), &[]).await;
    client
        .send(subscribe("subscription { greetings { message } }"))
        .await;
    for _ in 0..3 {
        let next = client.next().await;
        assert!(
            next["payload"]["data"]["greetings"]["message"].is_string(),
            "{next}"
        );
    }
    assert_eq!(client.next().await["type"], "complete");
    client
        .send(subscribe("subscription { greetings { message } }"))
        .await;
    let refused = client.next().await.to_string();
    assert!(
        refused.contains("RATE_LIMITED") && refused.contains(MESSAGE),
        "{refused}"
    );
}

#[tokio::test]
async fn a_subscription_that_names_its_field_in_three_places_is_one_stream_and_counts_once() {
    let system = limited("Subscription.greetings", "calls = 1\nperiod = '1m'").await;
    let mut client = Client::connect(system.bff.addr(), &[]).await;
    let three = "subscription { greetings { message } ...F ... { greetings { message } } } \
                 fragment F on Subscription { greetings { message } }";
    client.send(subscribe(three)).await;
    for _ in 0..3 {
        let next = client.next().await;
        let greeting = &next["payload"]["data"]["greetings"]["message"];
        assert!(greeting.is_string(), "{next}");
    }
    assert_eq!(client.next().await["type"], "complete");
    assert_eq!(system.greeters[0].call_count(), 1);
    client.send(subscribe(three)).await;
    let refused = client.next().await.to_string();
    assert!(refused.contains("RATE_LIMITED"), "{refused}");
}

#[tokio::test]
async fn a_field_that_cannot_be_null_in_an_object_that_cannot_either_leaves_no_data() {
    let system = limited("Greeting.message", "calls = 1\nperiod = '1m'").await;
    let mut client = Client::connect(system.bff.addr(), &[]).await;
    client
        .send(subscribe("subscription { greetings { message } }"))
        .await;
    assert!(client.next().await["payload"]["data"]["greetings"].is_object());
    let next = client.next().await;
    assert!(next["payload"]["data"].is_null(), "{next}");
    assert_eq!(
        next["payload"]["errors"][0]["extensions"]["code"], "RATE_LIMITED",
        "{next}"
    );
}

#[tokio::test]
async fn an_operation_that_does_not_run_is_not_counted() {
    let system = limited("Subscription.greetings", "calls = 1\nperiod = '1m'").await;
    let query = "query A { hello { message } } subscription B { greetings { message } }";
    for _ in 0..3 {
        let body = json!({ "query": query, "operationName": "A" });
        let request = reqwest::Client::new()
            .post(system.bff.url("/graphql"))
            .json(&body);
        let answer: Value = request.send().await.unwrap().json().await.unwrap();
        assert!(answer["data"]["hello"].is_object(), "{answer}");
    }
}
