//! Traces in a real Jaeger, by each protocol it takes: asked of its own query API.

use std::{env, time::Duration};

use bff_tests::{TestBff, fixtures::greeter::GreeterFixture};
use serde_json::{Value, json};
use tokio::time::{Instant, interval};

/// Where a real Jaeger listens, by the variable that says so.
fn address(variable: &str) -> String {
    env::var(variable).unwrap_or_else(|_| panic!("{variable} is not set: use just contract-jaeger"))
}

/// The names of the spans of a trace, once Jaeger has it whole.
async fn spans(trace: &str) -> Vec<String> {
    let url = format!("http://{}/api/traces/{trace}", address("JAEGER_QUERY"));
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut pace = interval(Duration::from_millis(100));
    loop {
        let answer: Value = reqwest::get(&url).await.unwrap().json().await.unwrap();
        let list = answer["data"][0]["spans"].as_array().cloned();
        let names: Vec<String> = list
            .unwrap_or_default()
            .iter()
            .map(|span| {
                span["operationName"]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned()
            })
            .collect();
        // Request, operation, field, attempt.
        if names.len() >= 4 {
            let service = &answer["data"][0]["processes"]["p1"]["serviceName"];
            assert_eq!(service, "bff", "{answer}");
            return names;
        }
        assert!(Instant::now() < deadline, "{trace} has only {names:?}");
        pace.tick().await;
    }
}

#[tokio::test]
#[ignore = "asks a real Jaeger: just contract-jaeger"]
async fn a_real_jaeger_shows_each_query_by_each_protocol_it_takes() {
    let greeter = GreeterFixture::start().await.unwrap();
    let endpoints = json!([format!("http://{}", greeter.addr())]);
    for (number, (exporter, scheme, variable)) in [
        ("otlp", "http", "JAEGER_OTLP"),
        ("jaeger", "http", "JAEGER_HTTP"),
        ("jaeger", "udp", "JAEGER_UDP"),
    ]
    .into_iter()
    .enumerate()
    {
        let bff = TestBff::builder()
            .set("upstreams.greeter.endpoints", &endpoints)
            .set("telemetry.exporter", exporter)
            .set(
                "telemetry.endpoint",
                format!("{scheme}://{}", address(variable)),
            )
            .start()
            .await;
        let trace = format!(
            "{:032x}",
            0x5ca1_ab1e_0000 + number + 16 * std::process::id() as usize
        );
        let answer = reqwest::Client::new()
            .post(bff.url("/graphql"))
            .header("traceparent", format!("00-{trace}-00f067aa0ba902b7-01"))
            .json(&json!({ "query": "{ hello { message } }" }))
            .send()
            .await
            .unwrap();
        assert_eq!(answer.headers()["x-trace-id"], trace.as_str());
        let names = spans(&trace).await;
        for name in [
            "POST /graphql",
            "query",
            "hello",
            "helloworld.Greeter/SayHello",
        ] {
            assert!(names.iter().any(|span| span == name), "{scheme}: {names:?}");
        }
        bff.stop().await;
    }
}
