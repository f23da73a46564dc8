//! Traces as a collector sees them, from the client's header into the greeter, for each exporter
//! and each format of propagation.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use bff_tests::{
    TestBff, TestBffBuilder,
    chaos::Network,
    fixtures::{
        collector::{CollectorFixture, Trace, Via},
        consul::ConsulFixture,
        greeter::GreeterFixture,
        nacos::NacosFixture,
    },
    process::Program,
    websocket::{Client, subscribe},
};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::support::{greeter_process, metric, soon};

/// How a trace comes to the BFF.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    W3c,
    Jaeger,
}

/// Every exporter with every format.
const EACH: [(Via, Format); 6] = [
    (Via::Otlp, Format::W3c),
    (Via::Otlp, Format::Jaeger),
    (Via::ThriftHttp, Format::W3c),
    (Via::ThriftHttp, Format::Jaeger),
    (Via::ThriftUdp, Format::W3c),
    (Via::ThriftUdp, Format::Jaeger),
];

/// What a client decided before it asked.
struct Remote {
    trace: String,
    span: String,
    header: (&'static str, String),
}

impl Remote {
    fn new(format: Format, sampled: bool) -> Self {
        static TRACES: AtomicU64 = AtomicU64::new(1);
        let number = TRACES.fetch_add(1, Ordering::Relaxed);
        let (trace, span) = (format!("{number:0>32x}"), format!("{:0>16x}", 0xabc));
        let flag = u8::from(sampled);
        let header = match format {
            Format::W3c => ("traceparent", format!("00-{trace}-{span}-0{flag}")),
            Format::Jaeger => ("uber-trace-id", format!("{trace}:{span}:0:{flag}")),
        };
        Self {
            trace,
            span,
            header,
        }
    }
}

struct Traced {
    collector: CollectorFixture,
    bff: TestBff,
    greeters: Vec<Program>,
    format: Format,
}

impl Traced {
    /// A BFF and a greeter process for each of `greeters`, with these arguments, that all tell the
    /// same collector.
    async fn start(
        (via, format): (Via, Format),
        greeters: &[&[&str]],
        configure: impl FnOnce(TestBffBuilder) -> TestBffBuilder,
    ) -> Self {
        let collector = CollectorFixture::start().await.unwrap();
        let consul = ConsulFixture::start().await.unwrap();
        let otlp = collector.otlp();
        let mut programs = Vec::new();
        for arguments in greeters {
            let all = [arguments, &["--otlp", &otlp][..]].concat();
            programs.push(greeter_process(&consul, &all).await);
        }
        let (exporter, endpoint) = match via {
            Via::Otlp => ("otlp", collector.otlp()),
            Via::ThriftHttp => ("jaeger", collector.thrift()),
            Via::ThriftUdp => ("jaeger", collector.agent()),
        };
        let bff = TestBff::builder()
            .consul(consul.url())
            .set("telemetry.exporter", exporter)
            .set("telemetry.endpoint", endpoint)
            .set("telemetry.uber_trace_id", format == Format::Jaeger);
        let bff = configure(bff).start().await;
        let all = format!("greeter: {} instance", greeters.len());
        bff.wait_readyz(|_, text| text.contains(&all)).await;
        Self {
            collector,
            bff,
            greeters: programs,
            format,
        }
    }

    /// Asks as part of `remote`.
    async fn ask(&self, query: &str, remote: &Remote) -> (reqwest::header::HeaderMap, Value) {
        let answer = reqwest::Client::new()
            .post(self.bff.url("/graphql"))
            .header(remote.header.0, &remote.header.1)
            .json(&json!({ "query": query }))
            .send()
            .await
            .unwrap();
        (answer.headers().clone(), answer.json().await.unwrap())
    }

    /// Asks and waits for a trace that looks like this.
    async fn ask_and_see(&self, query: &str, tree: &str) -> (Value, Trace) {
        let remote = Remote::new(self.format, true);
        let (headers, answer) = self.ask(query, &remote).await;
        assert_eq!(headers["x-trace-id"], remote.trace.as_str());
        let response = headers["traceresponse"].to_str().unwrap();
        assert!(
            response.starts_with(&format!("00-{}-", remote.trace)),
            "{response}"
        );
        let trace = self.see(tree, &remote.trace).await;
        assert_eq!(
            trace.0[0].parent_id, remote.span,
            "the client's span is around it"
        );
        (answer, trace)
    }

    async fn see(&self, tree: &str, id: &str) -> Trace {
        let wanted = tree_of(tree);
        self.collector
            .wait_for_trace(|trace| trace.id() == id && trace.tree() == wanted)
            .await
    }
}

/// A tree written with the indentation of the code around it.
fn tree_of(text: &str) -> String {
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    let indent = |line: &&str| line.len() - line.trim_start().len();
    let least = lines.iter().map(indent).min().unwrap_or(0);
    lines
        .iter()
        .map(|line| format!("{}\n", &line[least..]))
        .collect()
}

const HEALTHY: &str = "
    bff: POST /graphql
      bff: query
        bff: hello
          bff: helloworld.Greeter/SayHello
            greeter-srv: helloworld.Greeter/SayHello
";

#[tokio::test]
async fn a_healthy_query_is_one_trace_from_the_clients_header_into_the_greeter() {
    for each in EACH {
        let t = Traced::start(each, &[&[]], |bff| bff).await;
        let query = "query Page { hello { message } }";
        let (answer, trace) = t.ask_and_see(query, HEALTHY).await;
        assert!(answer.get("errors").is_none(), "{answer}");
        let spans = &trace.0;
        assert!(
            spans[..4].iter().all(|span| span.via == each.0),
            "{each:?}: {spans:?}"
        );
        let kinds: Vec<_> = spans.iter().map(|span| span.kind.as_str()).collect();
        assert_eq!(
            kinds,
            ["server", "internal", "internal", "client", "server"]
        );
        let (server, operation, field, attempt) = (&spans[0], &spans[1], &spans[2], &spans[3]);
        assert_eq!(server.get("http.request.method"), "POST");
        assert_eq!(server.get("http.route"), "/graphql");
        assert_eq!(server.get("http.response.status_code"), "200");
        assert_eq!(operation.get("graphql.operation.name"), "Page");
        assert_eq!(operation.get("graphql.document.hash").len(), 32);
        assert_eq!(field.get("graphql.field.path"), "hello");
        assert_eq!(attempt.get("rpc.system.name"), "grpc");
        assert_eq!(attempt.get("rpc.response.status_code"), "OK");
        assert_eq!(attempt.get("bff.attempt"), "1");
        assert_eq!(attempt.get("bff.breaker"), "closed");
        assert_eq!(attempt.get("bff.outcome"), "success");
        let port = t.greeters[0].addr().port().to_string();
        assert_eq!(attempt.get("server.port"), port);
    }
}

#[tokio::test]
async fn a_retried_query_shows_both_attempts_and_the_instance_of_each() {
    for each in EACH {
        let bad = ["--error-ratio", "1", "--error-code", "UNAVAILABLE"];
        let t = Traced::start(each, &[&bad, &[]], |bff| {
            bff.set("upstreams.greeter.balancer", "random")
                .set("upstreams.greeter.ejection.consecutive_failures", 1000)
                .set("upstreams.greeter.retry.budget_ratio", 1)
                .set("upstreams.greeter.breaker.min_calls", 100_000)
        })
        .await;
        let failed = wait_for_attempt(&t, "failure").await;
        let tree = "
            bff: POST /graphql
              bff: query
                bff: hello
                  bff: helloworld.Greeter/SayHello !
                    greeter-srv: helloworld.Greeter/SayHello !
                  bff: helloworld.Greeter/SayHello
                    greeter-srv: helloworld.Greeter/SayHello
        ";
        let trace = t.see(tree, &failed).await;
        let attempts = trace.find("bff", "helloworld.Greeter/SayHello");
        let say = |key: &str| -> Vec<&str> { attempts.iter().map(|span| span.get(key)).collect() };
        assert_eq!(say("bff.attempt"), ["1", "2"]);
        assert_eq!(say("bff.outcome"), ["failure", "success"]);
        assert_eq!(say("rpc.response.status_code"), ["UNAVAILABLE", "OK"]);
        let ports: Vec<_> = t
            .greeters
            .iter()
            .map(|greeter| greeter.addr().port().to_string())
            .collect();
        assert_eq!(say("server.port"), ports, "{each:?}");
    }
}

/// Asks until an attempt ends like this, and returns its trace.
async fn wait_for_attempt(t: &Traced, outcome: &str) -> String {
    for _ in 0..30 {
        let (_, answer) = t
            .ask("{ hello { message } }", &Remote::new(t.format, true))
            .await;
        assert!(answer.get("errors").is_none(), "{answer}");
    }
    let is = |trace: &Trace| {
        let attempts = trace.find("bff", "helloworld.Greeter/SayHello");
        attempts
            .iter()
            .any(|span| span.get("bff.outcome") == outcome)
    };
    t.collector.wait_for_trace(is).await.id().to_owned()
}

#[tokio::test]
async fn a_throttled_field_says_so_in_its_trace_and_the_error_leads_to_it() {
    for each in EACH {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("bff.toml");
        let rule = "[rate_limit.fields.'Query.hello']\ncalls = 1\nperiod = '1h'\n";
        std::fs::write(&file, rule).unwrap();
        let t = Traced::start(each, &[&[]], |bff| bff.file(&file)).await;
        assert!(t.bff.greets().await);
        let tree = "
            bff: POST /graphql
              bff: query
                bff: hello [throttled]
        ";
        let (answer, trace) = t.ask_and_see("{ hello { message } }", tree).await;
        let extensions = &answer["errors"][0]["extensions"];
        assert_eq!(extensions["code"], "RATE_LIMITED");
        assert_eq!(extensions["traceId"], trace.id());
    }
}

#[tokio::test]
async fn an_open_breaker_says_so_in_the_trace_of_the_call_it_kept_back() {
    for each in EACH {
        let t = Traced::start(each, &[&[]], |bff| {
            bff.set("upstreams.greeter.breaker.mode", "open")
        })
        .await;
        let tree = "
            bff: POST /graphql
              bff: query !
                bff: hello ! [circuit open: not sent]
        ";
        let (answer, trace) = t.ask_and_see("{ hello { message } }", tree).await;
        let extensions = &answer["errors"][0]["extensions"];
        assert_eq!(extensions["code"], "CIRCUIT_OPEN");
        assert_eq!(extensions["traceId"], trace.id());
    }
}

#[tokio::test]
async fn a_call_that_is_shed_says_so_in_its_trace() {
    let t = Traced::start(EACH[0], &[&["--latency", "200ms"]], |bff| {
        bff.set("upstreams.greeter.max_in_flight", 1)
    })
    .await;
    let remote = Remote::new(t.format, true);
    let query = "{ first: hello { message } second: hello { message } }";
    let (_, answer) = t.ask(query, &remote).await;
    let codes: Vec<_> = answer["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| &e["extensions"]["code"])
        .collect();
    assert_eq!(codes, ["OVERLOADED"], "{answer}");
    let shed = |trace: &Trace| {
        trace.id() == remote.trace && trace.tree().contains("bff: hello ! [shed: not sent]")
    };
    let trace = t.collector.wait_for_trace(shed).await;
    let shed = trace
        .0
        .iter()
        .find(|span| span.failed && span.name == "hello");
    assert_eq!(shed.unwrap().get("graphql.field.path"), "second");
}

#[tokio::test]
async fn a_subscription_is_part_of_its_clients_trace_to_its_last_greeting() {
    for each in EACH {
        let greeter = ["--greetings", "2", "--greeting-interval", "0s"];
        let t = Traced::start(each, &[&greeter], |bff| bff).await;
        let remote = Remote::new(t.format, true);
        let mut client = Client::connect(t.bff.addr(), &[&remote.header]).await;
        client
            .send(subscribe("subscription { greetings { message } }"))
            .await;
        while client.next().await["type"] != "complete" {}
        let tree = "
            bff: GET /graphql
            bff: WebSocket /graphql
              bff: subscription
                bff: greetings
                  bff: helloworld.Greeter/SayHelloStreamReply [first message]
                    greeter-srv: helloworld.Greeter/SayHelloStreamReply
        ";
        t.see(tree, &remote.trace).await;
    }
}

#[tokio::test]
async fn whoever_leaves_ends_every_span_of_what_was_asked() {
    let greeter = ["--greetings", "2", "--greeting-interval", "1h"];
    let t = Traced::start(EACH[0], &[&greeter], |bff| bff).await;
    let remote = Remote::new(t.format, true);
    let mut client = Client::connect(t.bff.addr(), &[&remote.header]).await;
    client
        .send(subscribe("subscription { greetings { message } }"))
        .await;
    assert_eq!(client.next().await["type"], "next");
    drop(client);
    let left = |trace: &Trace| {
        let ended = |name| !trace.find("bff", name).is_empty();
        trace.id() == remote.trace
            && ended("WebSocket /graphql")
            && ended("greetings")
            && ended("helloworld.Greeter/SayHelloStreamReply")
            && trace.tree().contains("bff: subscription [cancelled")
    };
    t.collector.wait_for_trace(left).await;

    let slow = Traced::start(EACH[0], &[&["--latency", "1h"]], |bff| {
        bff.set("upstreams.greeter.timeout", "5m")
            .set("http.request_timeout", "5m")
    })
    .await;
    let remote = Remote::new(slow.format, true);
    let impatient = reqwest::Client::new()
        .post(slow.bff.url("/graphql"))
        .header(remote.header.0, &remote.header.1)
        .json(&json!({ "query": "{ hello { message } }" }))
        .timeout(Duration::from_millis(300))
        .send();
    assert!(impatient.await.is_err());
    let left = |trace: &Trace| {
        trace.id() == remote.trace
            && trace.tree().starts_with("bff: POST /graphql !")
            && trace.tree().contains("bff: query [cancelled")
            && !trace.find("bff", "helloworld.Greeter/SayHello").is_empty()
    };
    slow.collector.wait_for_trace(left).await;
    let cancelled = "bff_call_duration_seconds_count{outcome=\"cancelled\",upstream=\"greeter\"}";
    let (_, page) = slow.bff.admin("/metrics").await;
    assert_eq!(metric(&page, cancelled), 1.0, "{page}");
}

#[tokio::test]
async fn nothing_that_a_client_asked_with_is_in_its_trace() {
    let bad = ["--error-ratio", "1", "--error-code", "INVALID_ARGUMENT"];
    let t = Traced::start(EACH[0], &[&bad], |bff| bff).await;
    let long = "L".repeat(60_000);
    let query = format!("query {long} {{ hello(name: \"hunter2\") {{ message }} }}");
    let remote = Remote::new(t.format, true);
    t.ask(&query, &remote).await;
    let trace = t
        .collector
        .wait_for_trace(|trace| trace.id() == remote.trace && trace.0.len() >= 5)
        .await;
    let told = format!("{trace:?}");
    assert!(!told.contains("hunter2"), "{told}");
    assert!(told.len() < 20_000, "{}", told.len());
}

#[tokio::test]
async fn without_a_clients_trace_each_operation_of_a_connection_is_a_trace_that_points_at_it() {
    let greeter = ["--greetings", "1"];
    let t = Traced::start(EACH[0], &[&greeter], |bff| bff).await;
    let mut client = Client::connect(t.bff.addr(), &[]).await;
    for _ in 0..2 {
        client
            .send(subscribe("subscription { greetings { message } }"))
            .await;
        while client.next().await["type"] != "complete" {}
    }
    let connection = t
        .collector
        .wait_for_trace(|trace| !trace.find("bff", "GET /graphql").is_empty())
        .await;
    let points = |trace: &&Trace| {
        let roots = trace.find("bff", "WebSocket /graphql");
        roots
            .iter()
            .any(|span| span.parent_id.is_empty() && span.links == [connection.id()])
    };
    t.collector
        .wait_for_trace(|_| t.collector.traces().iter().filter(points).count() == 2)
        .await;
}

#[tokio::test]
async fn each_attempt_tells_the_upstream_its_own_span_in_every_format() {
    let collector = CollectorFixture::start().await.unwrap();
    let greeter = GreeterFixture::start().await.unwrap();
    let bff = TestBff::builder()
        .set(
            "upstreams.greeter.endpoints",
            format!("[\"http://{}\"]", greeter.addr()),
        )
        .set("telemetry.exporter", "otlp")
        .set("telemetry.endpoint", collector.otlp())
        .set("telemetry.uber_trace_id", true)
        .start()
        .await;
    let remote = Remote::new(Format::W3c, true);
    reqwest::Client::new()
        .post(bff.url("/graphql"))
        .header("traceparent", &remote.header.1)
        .header("tracestate", "vendor=1")
        .header("baggage", "tenant=7")
        .json(&json!({ "query": "{ hello { message } }" }))
        .send()
        .await
        .unwrap();
    let trace = collector
        .wait_for_trace(|trace| trace.0.len() == 4 && trace.id() == remote.trace)
        .await;
    let attempt = &trace.find("bff", "helloworld.Greeter/SayHello")[0].span_id;
    let call = &greeter.calls()[0];
    let header = |name: &str| call.metadata.get(name).unwrap().to_str().unwrap();
    assert_eq!(
        header("traceparent"),
        format!("00-{}-{attempt}-01", remote.trace)
    );
    assert_eq!(
        header("uber-trace-id"),
        format!("{}:{attempt}:0:1", remote.trace)
    );
    assert_eq!(header("tracestate"), "vendor=1");
    assert_eq!(header("baggage"), "tenant=7");
}

#[tokio::test]
async fn a_stranger_decides_about_no_trace_and_sends_no_baggage_on() {
    for (share, wants) in [(0.0, true), (1.0, false)] {
        let collector = CollectorFixture::start().await.unwrap();
        let greeter = GreeterFixture::start().await.unwrap();
        let endpoints = format!("[\"http://{}\"]", greeter.addr());
        let bff = TestBff::builder()
            .set("upstreams.greeter.endpoints", endpoints)
            .set("http.trusted_proxies", "[]")
            .set("telemetry.exporter", "otlp")
            .set("telemetry.endpoint", collector.otlp())
            .set("telemetry.sample_ratio", share)
            .start()
            .await;
        let remote = Remote::new(Format::W3c, wants);
        let answer = reqwest::Client::new()
            .post(bff.url("/graphql"))
            .header("traceparent", &remote.header.1)
            .header("baggage", "tenant=7")
            .json(&json!({ "query": "{ hello { message } }" }))
            .send()
            .await
            .unwrap();
        // The trace goes on, so that whoever keeps it finds us in it.
        let traced = answer.headers().get("x-trace-id");
        let kept = (share == 1.0).then_some(remote.trace.as_str());
        assert_eq!(traced.map(|id| id.to_str().unwrap()), kept);
        let call = &greeter.calls()[0];
        assert!(call.metadata.get("baggage").is_none());
        if share == 1.0 {
            collector
                .wait_for_trace(|trace| trace.id() == remote.trace)
                .await;
        }
    }
}

#[tokio::test]
async fn a_client_that_wants_no_trace_gets_none() {
    for format in [Format::W3c, Format::Jaeger] {
        let t = Traced::start((Via::Otlp, format), &[&[]], |bff| bff).await;
        let unwanted = Remote::new(format, false);
        let (headers, _) = t.ask("{ hello { message } }", &unwanted).await;
        assert!(headers.get("x-trace-id").is_none());
        // What comes later is there; this never is.
        t.ask_and_see("{ hello { message } }", HEALTHY).await;
        let ids: Vec<_> = t
            .collector
            .traces()
            .iter()
            .map(|t| t.id().to_owned())
            .collect();
        assert!(!ids.contains(&unwanted.trace), "{ids:?}");
    }
}

#[tokio::test]
async fn of_traces_that_the_share_leaves_out_those_with_errors_are_kept() {
    let t = Traced::start(EACH[0], &[&[]], |bff| {
        bff.set("telemetry.sample_ratio", 0)
            .set("upstreams.greeter.retry.max_attempts", 1)
    })
    .await;
    for _ in 0..20 {
        assert!(t.bff.greets().await);
    }
    for greeter in t.greeters {
        greeter.signal(nix::sys::signal::Signal::SIGKILL).unwrap();
    }
    soon(async { while t.bff.greets().await {} }).await;
    let kept = t.collector.wait_for_trace(|_| true).await;
    assert!(kept.tree().contains("bff: hello !"), "{}", kept.tree());
    let healthy = |trace: &&Trace| !trace.0.iter().any(|span| span.failed);
    assert_eq!(t.collector.traces().iter().filter(healthy).count(), 0);
}

#[tokio::test]
async fn f29_with_the_collector_down_or_hanging_queries_go_on_and_spans_are_counted_and_dropped() {
    for network in [Network::Cut, Network::Frozen] {
        let collector = CollectorFixture::start().await.unwrap();
        collector.network(network);
        let greeter = GreeterFixture::start().await.unwrap();
        let bff = TestBff::builder()
            .set(
                "upstreams.greeter.endpoints",
                format!("[\"http://{}\"]", greeter.addr()),
            )
            .set("telemetry.exporter", "otlp")
            .set("telemetry.endpoint", collector.otlp())
            .set("telemetry.queue_size", 512)
            .start()
            .await;
        for _ in 0..600 {
            assert!(bff.greets().await);
        }
        let (_, page) = bff.admin("/metrics").await;
        let fate = |fate: &str| {
            metric(
                &page,
                &format!("bff_telemetry_spans_total{{outcome=\"{fate}\"}}"),
            )
        };
        let queued = metric(&page, "bff_telemetry_queued");
        assert!(queued <= 512.0, "{page}");
        assert_eq!(fate("exported"), 0.0);
        assert!(fate("dropped") + fate("failed") > 0.0, "{page}");
        let stopping = Instant::now();
        bff.stop().await;
        assert!(
            stopping.elapsed() <= Duration::from_secs(5),
            "{:?}",
            stopping.elapsed()
        );
        assert!(collector.traces().is_empty());
    }
}

#[tokio::test]
async fn the_last_spans_leave_before_the_end() {
    let t = Traced::start(EACH[0], &[&[]], |bff| bff).await;
    let remote = Remote::new(t.format, true);
    t.ask("{ hello { message } }", &remote).await;
    t.bff.stop().await;
    let spans = t
        .collector
        .traces()
        .iter()
        .map(|trace| trace.find("bff", "query").len())
        .sum::<usize>();
    assert_eq!(spans, 1);
}

#[tokio::test]
async fn the_share_of_traces_changes_with_a_document_in_nacos() {
    let nacos = NacosFixture::start().await.unwrap();
    nacos.publish("bff.toml", "[telemetry]\nsample_ratio = 0.0\n");
    let t = Traced::start(EACH[0], &[&[]], |bff| {
        bff.set("nacos.server", nacos.addr())
            .set("telemetry.keep_errors", false)
    })
    .await;
    for _ in 0..10 {
        assert!(t.bff.greets().await);
    }
    nacos.publish("bff.toml", "[telemetry]\nsample_ratio = 1.0\n");
    t.bff
        .wait_page("/metrics", |_, page| {
            metric(page, "bff_config_generation") == 2.0
        })
        .await;
    assert!(t.bff.greets().await);
    t.collector.wait_for_trace(|_| true).await;
    assert_eq!(t.collector.traces().len(), 1);
}
