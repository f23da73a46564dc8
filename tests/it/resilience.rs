//! The stack under faults, on real sockets, processes and signals. Figures are printed for
//! `just faults`.

use std::{collections::HashMap, sync::Arc, time::Duration};

use bff_engine::{Method, internals::Direct};
use bff_tests::{
    Load, TestBff,
    chaos::Network,
    fixtures::{
        greeter::GreeterFixture,
        hostile::{Harm, HostileFixture},
    },
};
use nix::sys::signal::Signal;
use proto::helloworld::{HelloReply, HelloRequest};
use serde_json::json;
use tokio::{
    task::JoinSet,
    time::{Instant, interval, timeout},
};
use tonic::Code;

use crate::support::{System, processes, soon};

/// As if greeting twice did harm.
static SAY_HELLO_ONCE: Method<(), HelloRequest, HelloReply> =
    Method::unary("/helloworld.Greeter/SayHello");

#[tokio::test(flavor = "multi_thread")]
async fn f1_one_of_four_killed_in_mid_flight_leaves_999_of_1000_queries_answered() {
    let (_consul, greeters, bff) = processes(4, &["--latency", "10ms"]).await;
    let loaded = tokio::spawn({
        let bff = Arc::clone(&bff);
        async move { Load::rate(&bff, 200, 5).await }
    });
    // In mid-flight: with 10 ms each there are always some.
    bff.wait_page("/metrics", |_, text| {
        !text.contains("in_flight{upstream=\"greeter\"} 0")
    })
    .await;
    greeters[0].signal(Signal::SIGKILL).unwrap();
    let (all, failed) = loaded.await.unwrap();
    println!("F1   SIGKILL one of four: {failed} of {all} queries failed");
    assert!(failed * 1000 <= all, "{failed} of {all}");
}

#[tokio::test(flavor = "multi_thread")]
async fn f2_one_of_four_stopped_leaves_every_query_answered() {
    let (_consul, mut greeters, bff) = processes(4, &["--latency", "10ms"]).await;
    let loaded = tokio::spawn({
        let bff = Arc::clone(&bff);
        async move { Load::rate(&bff, 200, 5).await }
    });
    bff.wait_page("/metrics", |_, text| {
        !text.contains("in_flight{upstream=\"greeter\"} 0")
    })
    .await;
    greeters[0].signal(Signal::SIGTERM).unwrap();
    assert!(greeters[0].wait().await.unwrap().success());
    let (all, failed) = loaded.await.unwrap();
    println!("F2   SIGTERM one of four: {failed} of {all} queries failed");
    assert_eq!(failed, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn f1_a_call_that_may_do_harm_twice_runs_at_most_once_when_its_instance_dies() {
    let mut greeters = Vec::new();
    for _ in 0..4 {
        let greeter = GreeterFixture::start().await.unwrap();
        greeter.script(|script| script.latency = Duration::from_millis(10));
        greeters.push(greeter);
    }
    let addrs: Vec<_> = greeters.iter().map(GreeterFixture::addr).collect();
    let greeter = Direct::over("greeter", &addrs);

    let mut calls = JoinSet::new();
    let mut pace = interval(Duration::from_millis(5));
    for n in 0..400 {
        pace.tick().await;
        if n == 200 {
            greeters[0].network(Network::Cut);
        }
        let greeter = greeter.clone();
        calls.spawn(async move {
            let request = HelloRequest {
                name: n.to_string(),
            };
            greeter.unary(&SAY_HELLO_ONCE, &request).await.is_ok()
        });
    }
    let answered = calls.join_all().await.into_iter().filter(|ok| *ok).count();
    let mut runs = HashMap::<String, usize>::new();
    for call in greeters.iter().flat_map(GreeterFixture::calls) {
        *runs.entry(call.name).or_default() += 1;
    }
    let twice = runs.values().filter(|runs| **runs > 1).count();
    println!("F1   not idempotent: {answered} of 400 answered, {twice} ran twice");
    assert_eq!(twice, 0);
    assert!(answered >= 380, "{answered}");
}

#[tokio::test]
async fn f10_a_stopped_process_costs_its_deadline_and_nothing_stays_in_flight() {
    let (_consul, greeters, bff) = processes(1, &["--latency", "10ms"]).await;
    assert!(bff.greets().await);
    greeters[0].signal(Signal::SIGSTOP).unwrap();
    let (mut took, mut answer) = (Vec::new(), json!(null));
    for _ in 0..3 {
        let start = Instant::now();
        answer = bff.query("{ hello { message } }").await;
        took.push(start.elapsed());
    }
    greeters[0].signal(Signal::SIGCONT).unwrap();
    took.sort_unstable();
    let [fastest, median, slowest] = took[..] else {
        panic!("{took:?}");
    };
    println!("F10  SIGSTOP: DEADLINE_EXCEEDED after {median:?}, the deadline is 2s");
    let extensions = &answer["errors"][0]["extensions"];
    assert_eq!(extensions["code"], "UPSTREAM_TIMEOUT", "{answer}");
    assert_eq!(extensions["grpcStatus"], "DEADLINE_EXCEEDED", "{answer}");
    let off = |took: Duration| took.abs_diff(Duration::from_secs(2));
    assert!(off(median) <= Duration::from_millis(50), "{median:?}");
    // A busy machine may be late, the BFF may not be early.
    assert!(off(fastest) <= Duration::from_millis(50), "{fastest:?}");
    assert!(off(slowest) <= Duration::from_millis(500), "{slowest:?}");
    let (_, metrics) = bff.admin("/metrics").await;
    assert!(
        metrics.contains("bff_balance_in_flight{upstream=\"greeter\"} 0"),
        "{metrics}"
    );
}

#[tokio::test]
async fn f12_a_client_that_leaves_cancels_its_calls_and_counts_for_nothing() {
    let system = System::with(1, |bff| {
        bff.set("upstreams.greeter.timeout", "60s")
            .set("upstreams.greeter.attempt_timeout", "50s")
            .set("http.request_timeout", "60s")
            .set("upstreams.greeter.breaker.consecutive_failures", 1)
    })
    .await;
    let greeter = &system.greeters[0];
    greeter.script(|script| script.latency = Duration::from_secs(60));
    let mut cancelled = greeter.cancelled();
    let mut slowest = Duration::ZERO;
    for n in 1..=5 {
        let query = system.bff.query("{ hello { message } }");
        let called = async {
            let mut pace = interval(Duration::from_millis(5));
            while greeter.call_count() < n {
                pace.tick().await;
            }
        };
        tokio::select! {
            answer = query => panic!("answered: {answer}"),
            () = called => {}
        }
        // The client is gone with its future.
        let left = Instant::now();
        let wait = cancelled.wait_for(|count| *count >= n);
        timeout(Duration::from_secs(10), wait)
            .await
            .expect("cancelled")
            .unwrap();
        slowest = slowest.max(left.elapsed());
    }
    println!("F12  the upstream call is cancelled {slowest:?} after its client left, at most");
    assert!(slowest <= Duration::from_millis(100), "{slowest:?}");
    greeter.script(|script| script.latency = Duration::ZERO);
    assert!(
        system.bff.greets().await,
        "the breaker, which one failure opens, saw none"
    );
}

#[tokio::test]
async fn f24_whatever_an_upstream_sends_costs_one_field_and_not_the_process() {
    for harm in Harm::ALL {
        let hostile = HostileFixture::start(harm).await.unwrap();
        let endpoints = json!([format!("http://{}", hostile.addr())]);
        let bff = TestBff::builder()
            .set("upstreams.greeter.endpoints", endpoints)
            .start()
            .await;
        for _ in 0..3 {
            let answer = bff.query("{ __typename hello { message } }").await;
            println!("F24  {harm:?}: {}", answer["errors"][0]["extensions"]);
            assert_eq!(answer["data"]["__typename"], "Query", "{harm:?}: {answer}");
            if matches!(harm, Harm::DetailsOfSuccess | Harm::MessageOfSuccess) {
                // A success stays one: bad details and texts beside it are dropped.
                assert_eq!(
                    answer["data"]["hello"]["message"], "Hello, iveBoy!",
                    "{harm:?}: {answer}"
                );
                continue;
            }
            assert!(answer["data"]["hello"].is_null(), "{harm:?}: {answer}");
            let error = &answer["errors"][0];
            assert_eq!(error["path"], json!(["hello"]), "{harm:?}");
            let extensions = &error["extensions"];
            let (code, status) = match harm {
                Harm::BrokenProtobuf
                | Harm::DetailsInHeaders
                | Harm::DetailsInTrailers
                | Harm::HalfAMessage
                | Harm::MessageAndAHalf => ("UPSTREAM_ERROR", "INTERNAL"),
                Harm::Oversized | Harm::LyingLength => ("UPSTREAM_ERROR", "RESOURCE_EXHAUSTED"),
                Harm::NoTrailers | Harm::StatusThatIsNone => ("UPSTREAM_ERROR", "UNKNOWN"),
                Harm::EndlessHeaders | Harm::NoHttp | Harm::WebPage => {
                    ("UPSTREAM_UNAVAILABLE", "UNAVAILABLE")
                }
                other => unreachable!("{other:?} is none of these, or answered above"),
            };
            assert_eq!(extensions["code"], code, "{harm:?}: {answer}");
            assert_eq!(extensions["grpcStatus"], status, "{harm:?}: {answer}");
        }
        assert_eq!(bff.get("/livez").await.0, 200, "{harm:?}");
    }
}

#[tokio::test]
async fn a_reply_that_cannot_be_used_is_the_upstreams_failure_and_opens_its_breaker() {
    for harm in [Harm::BrokenProtobuf, Harm::Oversized, Harm::NoTrailers] {
        let hostile = HostileFixture::start(harm).await.unwrap();
        let endpoints = json!([format!("http://{}", hostile.addr())]);
        let bff = TestBff::builder()
            .set("upstreams.greeter.endpoints", endpoints)
            .set("upstreams.greeter.breaker.consecutive_failures", 3)
            .start()
            .await;
        for code in [
            "UPSTREAM_ERROR",
            "UPSTREAM_ERROR",
            "UPSTREAM_ERROR",
            "CIRCUIT_OPEN",
        ] {
            let answer = bff.query("{ hello { message } }").await;
            let got = &answer["errors"][0]["extensions"]["code"];
            assert_eq!(got, code, "{harm:?}: {answer}");
        }
    }
}

#[tokio::test]
async fn a_failing_service_is_left_alone_says_so_and_is_used_again_when_it_is_well() {
    let system = System::with(2, |bff| {
        bff.set("upstreams.greeter.breaker.consecutive_failures", 5)
            .set("upstreams.greeter.breaker.open_for", "300ms")
    })
    .await;
    let script = |code| {
        system
            .greeters
            .iter()
            .for_each(|greeter| greeter.script(|s| s.fail_with = code));
    };
    script(Some(Code::Unavailable));
    let answer = soon(async {
        loop {
            let answer = system.bff.query("{ hello { message } }").await;
            if answer["errors"][0]["extensions"]["code"] == "CIRCUIT_OPEN" {
                break answer;
            }
        }
    })
    .await;
    assert!(answer["data"]["hello"].is_null());
    assert_eq!(
        answer["errors"][0]["extensions"]["grpcStatus"], "UNAVAILABLE",
        "{answer}"
    );
    let (_, metrics) = system.bff.admin("/metrics").await;
    let opened = "bff_breaker_transitions_total{state=\"open\",upstream=\"greeter\"}";
    let opened = metrics.lines().find(|line| line.starts_with(opened));
    assert!(
        opened.is_some_and(|line| !line.ends_with(" 0")),
        "{metrics}"
    );
    script(None);
    soon(async { while !system.bff.greets().await {} }).await;
    let (_, text) = system.bff.admin("/readyz?verbose").await;
    assert!(!text.contains("breaker"), "{text}");
}

#[tokio::test]
async fn an_operator_can_open_the_breaker_and_readyz_tells() {
    let system = System::with(1, |bff| bff.set("upstreams.greeter.breaker.mode", "open")).await;
    let answer = system.bff.query("{ hello { message } }").await;
    assert_eq!(
        answer["errors"][0]["extensions"]["code"], "CIRCUIT_OPEN",
        "{answer}"
    );
    let (_, text) = system.bff.admin("/readyz?verbose").await;
    assert!(
        text.contains("[!] upstream greeter: breaker open"),
        "{text}"
    );
    assert_eq!(system.greeters[0].call_count(), 0);
}

#[tokio::test]
async fn calls_above_the_cap_are_shed_with_their_own_code() {
    let system = System::with(1, |bff| bff.set("upstreams.greeter.max_in_flight", 2)).await;
    system.greeters[0].script(|script| script.latency = Duration::from_millis(200));
    let fields: String = (0..5)
        .map(|n| format!("f{n}: hello {{ message }} "))
        .collect();
    let answer = system.bff.query(&format!("{{ {fields} }}")).await;
    let errors = answer["errors"].as_array().unwrap();
    assert_eq!(errors.len(), 3, "{answer}");
    assert!(
        errors
            .iter()
            .all(|error| error["extensions"]["code"] == "OVERLOADED"),
        "{answer}"
    );
}

#[tokio::test]
async fn all_fields_of_a_query_share_its_deadline_and_a_client_may_ask_for_less() {
    let system = System::with(1, |bff| bff.set("http.request_timeout", "300ms")).await;
    system.greeters[0].script(|script| script.latency = Duration::from_secs(10));
    let client = reqwest::Client::new();
    let ask = async |timeout: Option<&str>| {
        let query = json!({ "query": "{ a: hello { message } b: hello { message } }" });
        let mut request = client.post(system.bff.url("/graphql")).json(&query);
        if let Some(timeout) = timeout {
            request = request.header("x-request-timeout", timeout);
        }
        request.send().await.unwrap()
    };
    let start = Instant::now();
    let answer: serde_json::Value = ask(None).await.json().await.unwrap();
    let took = start.elapsed();
    assert_eq!(answer["errors"].as_array().unwrap().len(), 2, "{answer}");
    assert_eq!(
        answer["errors"][0]["extensions"]["code"], "UPSTREAM_TIMEOUT",
        "{answer}"
    );
    assert!(
        took >= Duration::from_millis(300) && took < Duration::from_secs(2),
        "{took:?}"
    );

    let announced: Vec<u64> = {
        let before = system.greeters[0].call_count();
        ask(Some("50")).await;
        system.greeters[0].calls()[before..]
            .iter()
            .map(|call| {
                let text = call.metadata.get("grpc-timeout").unwrap().to_str().unwrap();
                text.strip_suffix('u').unwrap().parse().unwrap()
            })
            .collect()
    };
    assert!(
        !announced.is_empty() && announced.iter().all(|us| *us <= 50_000),
        "{announced:?}"
    );
    assert_eq!(ask(Some("soon")).await.status(), 400);
}
