//! GraphQL over HTTP: methods, forms, statuses, bodies, and pages of other sites.

use std::io::Write;

use bff_tests::{TestBff, websocket::Client};
use reqwest::{Method, StatusCode, header::HeaderMap};
use serde_json::{Value, json};

use crate::support::{System, soon};

/// An answer.
#[derive(Debug)]
struct Got {
    status: StatusCode,
    headers: HeaderMap,
    body: Value,
}

impl Got {
    fn form(&self) -> &str {
        self.headers["content-type"].to_str().unwrap()
    }

    fn code(&self) -> &str {
        let code = &self.body["errors"][0]["extensions"]["code"];
        code.as_str().unwrap_or_default()
    }

    fn message(&self) -> &str {
        self.body["errors"][0]["message"]
            .as_str()
            .unwrap_or_default()
    }
}

struct Ask<'b> {
    request: reqwest::RequestBuilder,
    bff: std::marker::PhantomData<&'b TestBff>,
}

fn ask<'b>(bff: &'b TestBff, method: Method, query: &[(&str, &str)]) -> Ask<'b> {
    let mut url = reqwest::Url::parse(&bff.url("/graphql")).unwrap();
    if !query.is_empty() {
        url.query_pairs_mut().extend_pairs(query);
    }
    Ask {
        request: reqwest::Client::new().request(method, url),
        bff: std::marker::PhantomData,
    }
}

fn post(bff: &TestBff) -> Ask<'_> {
    ask(bff, Method::POST, &[]).header("content-type", "application/json")
}

impl Ask<'_> {
    fn header(mut self, name: &str, value: &str) -> Self {
        self.request = self.request.header(name, value);
        self
    }

    fn body(mut self, body: impl Into<reqwest::Body>) -> Self {
        self.request = self.request.body(body);
        self
    }

    fn json(self, body: &Value) -> Self {
        self.body(body.to_string())
    }

    async fn got(self) -> Got {
        let response = self.request.send().await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        let text = response.text().await.unwrap();
        let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
        Got {
            status,
            headers,
            body,
        }
    }
}

const RESPONSE: &str = "application/graphql-response+json; charset=utf-8";
const JSON: &str = "application/json; charset=utf-8";

#[tokio::test]
async fn the_form_of_an_answer_is_the_one_that_was_asked_for() {
    let system = System::start(0).await;
    let query = json!({ "query": "{ __typename }" });
    for (accept, form) in [
        (None, JSON),
        (Some("*/*"), JSON),
        (Some("application/json"), JSON),
        (Some("application/json; charset=utf-8"), JSON),
        (Some("application/graphql-response+json"), RESPONSE),
        (
            Some(
                "application/graphql-response+json; charset=utf-8, application/json; charset=utf-8",
            ),
            RESPONSE,
        ),
    ] {
        let mut asked = post(&system.bff).json(&query);
        if let Some(accept) = accept {
            asked = asked.header("accept", accept);
        }
        let got = asked.got().await;
        assert_eq!(got.status, 200, "{accept:?}");
        assert_eq!(got.form(), form, "{accept:?}");
        assert_eq!(got.body["data"]["__typename"], "Query", "{accept:?}");
    }
    let got = post(&system.bff).header("accept", "text/html").json(&query);
    let got = got.got().await;
    assert_eq!(
        (got.status, got.code()),
        (StatusCode::NOT_ACCEPTABLE, "BAD_USER_INPUT")
    );
    assert!(got.message().contains("application/graphql-response+json"));
}

#[tokio::test]
async fn the_status_says_how_it_went_to_who_asked_for_the_new_form() {
    let system = System::start(0).await;
    for (query, new, code) in [
        ("{ __typename }", 200, ""),
        ("{", 400, "GRAPHQL_PARSE_FAILED"),
        ("{ nothing }", 400, "GRAPHQL_VALIDATION_FAILED"),
        (
            "query A { __typename } query B { __typename }",
            400,
            "OPERATION_RESOLUTION_FAILURE",
        ),
        // Executed, with an error: nobody is there.
        ("{ hello { message } }", 200, "UPSTREAM_UNAVAILABLE"),
    ] {
        for (accept, status) in [
            ("application/graphql-response+json", new),
            ("application/json", 200),
        ] {
            let asked = post(&system.bff).header("accept", accept);
            let got = asked.json(&json!({ "query": query })).got().await;
            assert_eq!(got.status, status, "{query} as {accept}");
            assert_eq!(got.code(), code, "{query} as {accept}: {got:?}");
            let executed = code.is_empty() || code == "UPSTREAM_UNAVAILABLE";
            assert_eq!(
                got.body.get("data").is_some(),
                executed,
                "{query} as {accept}"
            );
        }
    }
}

#[tokio::test]
async fn what_is_no_request_is_400_in_graphqls_form() {
    let system = System::start(0).await;
    for body in [
        "",
        "{",
        "null",
        "[]",
        "1",
        "{}",
        r#"{"qeury":"{ a }"}"#,
        r#"{"query":null}"#,
        r#"{"query":{}}"#,
        r#"{"query":0}"#,
        r#"{"query":false}"#,
        r#"{"query":["{ a }"]}"#,
        r#"{"query":"{ __typename }","operationName":{}}"#,
        r#"{"query":"{ __typename }","operationName":0}"#,
        r#"{"query":"{ __typename }","variables":"a"}"#,
        r#"{"query":"{ __typename }","variables":[1]}"#,
        r#"{"query":"{ __typename }","extensions":"a"}"#,
        r#"[{"query":"{ __typename }"},{"query":"{ __typename }"}]"#,
    ] {
        let got = post(&system.bff).body(body).got().await;
        assert_eq!(
            (got.status.as_u16(), got.code()),
            (400, "BAD_USER_INPUT"),
            "{body}"
        );
        assert_eq!(got.form(), JSON, "{body}");
        assert!(!got.message().contains("Json"), "{}", got.message());
    }
    for body in [
        r#"{"query":"{ __typename }","operationName":null,"variables":null,"extensions":null}"#,
        r#"{"query":"{ __typename }","variables":{},"extensions":{"a":{"b":1}}}"#,
    ] {
        let got = post(&system.bff).body(body).got().await;
        assert_eq!(got.body["data"]["__typename"], "Query", "{body}");
    }
}

#[tokio::test]
async fn queries_come_by_get_and_nothing_else_does() {
    let system = System::start(0).await;
    let get = |query: &[(&str, &str)]| {
        ask(&system.bff, Method::GET, query).header("accept", "application/graphql-response+json")
    };
    let named = [
        (
            "query",
            "query A($b: Boolean!) { __typename @include(if: $b) } query B { __schema { __typename } }",
        ),
        ("operationName", "A"),
        ("variables", r#"{"b":true}"#),
        ("extensions", "{}"),
    ];
    let got = get(&named).got().await;
    assert_eq!(
        (got.status.as_u16(), &got.body["data"]["__typename"]),
        (200, &json!("Query"))
    );
    for (query, status) in [
        (vec![], 400),
        (vec![("query", "{")], 400),
        (vec![("query", "{ __typename }"), ("variables", "a")], 400),
        (vec![("query", "{ __typename }"), ("variables", "[]")], 400),
        (vec![("query", "{ __typename }"), ("extensions", "1")], 400),
        (
            vec![("query", "subscription { greetings { message } }")],
            405,
        ),
    ] {
        assert_eq!(get(&query).got().await.status, status, "{query:?}");
    }
    // What curl --http2 offers.
    let offering = get(&named).header("connection", "upgrade, http2-settings");
    let offering = offering
        .header("upgrade", "h2c")
        .header("http2-settings", "AAMAAABk");
    assert_eq!(offering.got().await.status, 200);
    for method in [Method::PUT, Method::DELETE, Method::PATCH, Method::OPTIONS] {
        let got = ask(&system.bff, method.clone(), &[]).got().await;
        assert_eq!(got.status, 405, "{method}");
        assert_eq!(got.headers["allow"], "GET, POST", "{method}");
    }
}

#[tokio::test]
async fn a_mutation_by_get_is_not_executed() {
    let (program, calls) = bff_tests::everything::program();
    let bff = TestBff::builder().program(program).start().await;
    let mutation = [("query", "mutation { fail }")];
    let got = ask(&bff, Method::GET, &mutation).got().await;
    assert_eq!(
        (got.status.as_u16(), got.code()),
        (405, "OPERATION_RESOLUTION_FAILURE"),
        "{got:?}"
    );
    assert_eq!(got.headers["allow"], "POST");
    assert!(calls.take().is_empty());
}

#[tokio::test]
async fn only_json_is_read_so_that_no_page_can_send_a_form() {
    let system = System::start(0).await;
    let query = json!({ "query": "{ __typename }" }).to_string();
    for kind in [
        None,
        Some("text/plain"),
        Some("application/x-www-form-urlencoded"),
        Some("multipart/form-data; boundary=a"),
        Some("multipart/mixed; boundary=a"),
        Some("application/json; charset=utf-16"),
    ] {
        let mut asked = ask(&system.bff, Method::POST, &[]).body(query.clone());
        if let Some(kind) = kind {
            asked = asked.header("content-type", kind);
        }
        let got = asked.got().await;
        assert_eq!(
            (got.status.as_u16(), got.code()),
            (415, "BAD_USER_INPUT"),
            "{kind:?}"
        );
    }
    let got = post(&system.bff)
        .header("content-encoding", "br")
        .body(query.clone());
    assert_eq!(got.got().await.status, 415);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(query.as_bytes()).unwrap();
    let packed = post(&system.bff).header("content-encoding", "gzip");
    let got = packed.body(gzip.finish().unwrap()).got().await;
    assert_eq!(got.body["data"]["__typename"], "Query");
}

#[tokio::test]
async fn a_get_that_another_sites_page_may_have_sent_is_refused() {
    let system = System::start(0).await;
    let get = || ask(&system.bff, Method::GET, &[("query", "{ __typename }")]);
    for (name, value) in [
        ("cookie", "session=1"),
        ("sec-fetch-site", "cross-site"),
        ("origin", "https://evil.example"),
    ] {
        let got = get().header(name, value).got().await;
        assert_eq!(got.status, 403, "{name}");
        assert!(got.message().contains("Apollo-Require-Preflight"));
        let agreed = get()
            .header(name, value)
            .header("apollo-require-preflight", "1");
        assert_eq!(agreed.got().await.status, 200, "{name}");
    }
}

#[tokio::test]
async fn a_body_that_is_too_large_is_answered_and_the_answer_can_be_read() {
    let system = System::start(0).await;
    let large = || json!({ "query": "{ __typename }", "variables": { "a": "x".repeat(8 << 20) } });
    for _ in 0..10 {
        let got = post(&system.bff).json(&large()).got().await;
        assert_eq!((got.status.as_u16(), got.code()), (413, "BAD_USER_INPUT"));
        let pieces = large().to_string().into_bytes();
        let pieces = pieces.chunks(64 << 10).map(bytes::Bytes::copy_from_slice);
        let frames: Vec<_> = pieces
            .map(|piece| Ok::<_, std::io::Error>(http_body::Frame::data(piece)))
            .collect();
        let body = http_body_util::StreamBody::new(futures_util::stream::iter(frames));
        let chunked = reqwest::Body::wrap(body);
        let got = post(&system.bff).body(chunked).got().await;
        assert_eq!((got.status.as_u16(), got.code()), (413, "BAD_USER_INPUT"));
        // So are answers that are given before a body is looked at.
        let got = post(&system.bff)
            .header("accept", "text/html")
            .json(&large())
            .got()
            .await;
        assert_eq!(got.status, 406);
    }
}

/// The events of a body, as they come.
struct Events {
    response: reqwest::Response,
    text: String,
}

impl Events {
    async fn next(&mut self) -> String {
        loop {
            if let Some(end) = self.text.find("\n\n") {
                let event = self.text[..end].to_owned();
                self.text.drain(..end + 2);
                return event;
            }
            let chunk = soon(self.response.chunk()).await.unwrap();
            self.text += std::str::from_utf8(&chunk.expect("an event")).unwrap();
        }
    }
}

async fn events(asked: Ask<'_>) -> Events {
    let asked = asked.header("accept", "text/event-stream");
    let response = asked.request.send().await.unwrap();
    assert_eq!(response.status(), 200);
    let form = response.headers()["content-type"].to_str().unwrap();
    assert_eq!(form, "text/event-stream; charset=utf-8");
    let text = String::new();
    Events { response, text }
}

const COMPLETE: &str = "event: complete\ndata:";

fn greeting(n: u32) -> String {
    let message = format!("Hello, iveBoy! ({n})");
    let data = json!({ "data": { "greetings": { "message": message } } });
    format!("event: next\ndata: {data}")
}

#[tokio::test]
async fn answers_come_as_events_to_who_accepts_them() {
    let system = System::start(1).await;
    let subscription = "subscription { greetings { message } }";
    for asked in [
        post(&system.bff).json(&json!({ "query": subscription })),
        ask(&system.bff, Method::GET, &[("query", subscription)]),
    ] {
        let mut events = events(asked).await;
        for n in 1..=3 {
            assert_eq!(events.next().await, greeting(n));
        }
        assert_eq!(events.next().await, COMPLETE);
        assert_eq!(events.response.chunk().await.unwrap(), None);
    }
    let query = post(&system.bff).json(&json!({ "query": "{ __typename }" }));
    let mut one = events(query).await;
    assert_eq!(
        one.next().await,
        r#"event: next
data: {"data":{"__typename":"Query"}}"#
    );
    assert_eq!(one.next().await, COMPLETE);
    let wrong = post(&system.bff).header("accept", "text/event-stream");
    let got = wrong.json(&json!({ "query": "{ nothing }" })).got().await;
    assert_eq!(
        (got.status.as_u16(), got.code()),
        (400, "GRAPHQL_VALIDATION_FAILED")
    );
}

#[tokio::test]
async fn events_end_when_their_reader_leaves_and_are_completed_by_a_stop() {
    let system = System::start(1).await;
    system.greeters[0].script(|script| {
        script.greetings = 1;
        script.holds = true;
    });
    let subscription = json!({ "query": "subscription { greetings { message } }" });
    let mut leaves = events(post(&system.bff).json(&subscription)).await;
    assert_eq!(leaves.next().await, greeting(1));
    let mut open = system.greeters[0].open();
    assert_eq!(*open.borrow_and_update(), 1);
    drop(leaves);
    soon(open.wait_for(|open| *open == 0)).await.unwrap();
    let mut stays = events(post(&system.bff).json(&subscription)).await;
    assert_eq!(stays.next().await, greeting(1));
    let stopping = tokio::spawn(system.bff.stop());
    assert_eq!(stays.next().await, COMPLETE);
    drop(stays);
    soon(stopping).await.unwrap();
}

#[tokio::test]
async fn pages_of_configured_origins_may_call_and_no_others() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(
        file.path(),
        "[http.cors]\norigins = ['https://app.example']\n",
    )
    .unwrap();
    let bff = TestBff::builder().file(file.path()).start().await;
    let preflight = async |origin: &str| {
        let asked = ask(&bff, Method::OPTIONS, &[])
            .header("origin", origin)
            .header("access-control-request-method", "POST")
            .header(
                "access-control-request-headers",
                "content-type,authorization",
            );
        asked.got().await.headers
    };
    let allowed = preflight("https://app.example").await;
    assert_eq!(
        allowed["access-control-allow-origin"],
        "https://app.example"
    );
    assert_eq!(allowed["access-control-allow-credentials"], "true");
    assert_eq!(
        allowed["access-control-allow-headers"],
        "content-type,authorization"
    );
    let other = preflight("https://evil.example").await;
    assert!(other.get("access-control-allow-origin").is_none());
    let query = json!({ "query": "{ __typename }" });
    let got = post(&bff)
        .header("origin", "https://app.example")
        .json(&query)
        .got()
        .await;
    assert_eq!(
        got.headers["access-control-allow-origin"],
        "https://app.example"
    );
    assert_eq!(got.body["data"]["__typename"], "Query");
    let get = |origin: &str| {
        let asked = ask(&bff, Method::GET, &[("query", "{ __typename }")]);
        asked.header("origin", origin).header("cookie", "a=b")
    };
    assert_eq!(get("https://app.example").got().await.status, 200);
    assert_eq!(get("https://evil.example").got().await.status, 403);
    // Whoever may not is told so where no browser asks first.
    let none = TestBff::builder().start().await;
    let got = ask(&none, Method::OPTIONS, &[]).got().await;
    assert_eq!(got.status, 405);
}

#[tokio::test]
async fn more_requests_than_may_be_in_flight_are_told_to_come_back() {
    let system = System::with(1, |bff| bff.set("http.max_in_flight", 2)).await;
    let greeter = &system.greeters[0];
    let addr = system.bff.addr();
    // A subscription that has begun is none.
    greeter.script(|script| (script.greetings, script.holds) = (1, true));
    let mut client = Client::connect(addr, &[]).await;
    let operation = |id: &str, query: &str| json!({ "id": id, "type": "subscribe", "payload": { "query": query } });
    for id in ["1", "2", "3"] {
        let greetings = "subscription { greetings { message } }";
        client.send(operation(id, greetings)).await;
        assert_eq!(client.next().await["type"], "next");
    }
    greeter.script(|script| script.latency = std::time::Duration::from_secs(20));
    let before = greeter.call_count();
    let asking: Vec<_> = (0..2)
        .map(|_| tokio::spawn(async move { TestBff::at(addr).greets().await }))
        .collect();
    let mut pace = tokio::time::interval(std::time::Duration::from_millis(5));
    soon(async {
        while greeter.call_count() < before + 2 {
            pace.tick().await;
        }
    })
    .await;
    client.send(operation("4", "{ __typename }")).await;
    let refused = client.next().await;
    assert_eq!(refused["type"], "error", "{refused}");
    let code = &refused["payload"][0]["extensions"]["code"];
    assert_eq!(code, "OVERLOADED");
    let query = json!({ "query": "{ __typename }" });
    let got = post(&system.bff).json(&query).got().await;
    assert_eq!((got.status.as_u16(), got.code()), (503, "OVERLOADED"));
    assert_eq!(got.headers["retry-after"], "1");
    // Whoever leaves gives the place back.
    asking.iter().for_each(tokio::task::JoinHandle::abort);
    soon(async {
        while post(&system.bff).json(&query).got().await.status != 200 {
            pace.tick().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_document_that_was_sent_once_is_asked_for_by_its_hash() {
    let system = System::start(0).await;
    let hash = "7f56e67dd21ab3f30d1ff8b7bed08893f0a0db86449836189b361dd1e56ddb4b";
    let extensions = json!({ "persistedQuery": { "version": 1, "sha256Hash": hash } });
    let by_hash = json!({ "extensions": extensions });
    for (accept, status) in [
        ("application/json", 200),
        ("application/graphql-response+json", 400),
    ] {
        let got = post(&system.bff)
            .header("accept", accept)
            .json(&by_hash)
            .got()
            .await;
        assert_eq!(got.status, status);
        let known = (got.code(), got.message());
        assert_eq!(
            known,
            ("PERSISTED_QUERY_NOT_FOUND", "PersistedQueryNotFound")
        );
    }
    let wrong = json!({ "query": "{ other }", "extensions": extensions });
    let got = post(&system.bff).json(&wrong).got().await;
    assert_eq!((got.status.as_u16(), got.code()), (400, "BAD_USER_INPUT"));
    let with = json!({ "query": "{ __typename }", "extensions": extensions });
    for asked in [with, by_hash] {
        let got = post(&system.bff).json(&asked).got().await;
        assert_eq!(got.body["data"]["__typename"], "Query", "{got:?}");
    }
    let extensions = extensions.to_string();
    let got = ask(&system.bff, Method::GET, &[("extensions", &extensions)])
        .got()
        .await;
    assert_eq!(got.body["data"]["__typename"], "Query", "{got:?}");
}

#[tokio::test]
async fn a_resolver_that_panics_ends_its_operation_and_nothing_else() {
    use async_graphql::{EmptyMutation, Object, Schema, Subscription};
    use bff_tests::websocket::Client;

    fn panics() -> i32 {
        panic!("on purpose")
    }

    struct Query;

    #[Object]
    impl Query {
        async fn good(&self) -> i32 {
            1
        }

        async fn bad(&self) -> Option<i32> {
            Some(panics())
        }
    }

    struct Events;

    #[Subscription]
    impl Events {
        async fn bad(&self) -> impl futures_util::Stream<Item = i32> {
            futures_util::stream::poll_fn(|_| panic!("on purpose"))
        }
    }

    let program = bff_engine::Bff::new("panics", || Schema::build(Query, EmptyMutation, Events));
    let bff = TestBff::builder().program(program).start().await;
    let mut client = Client::connect(bff.addr(), &[]).await;
    for query in ["{ bad }", "subscription { bad }"] {
        let payload = json!({ "query": query });
        client
            .send(json!({ "id": "1", "type": "subscribe", "payload": payload }))
            .await;
        let error = client.next().await;
        assert_eq!(error["type"], "error", "{error}");
        assert_eq!(
            error["payload"][0]["extensions"]["code"], "INTERNAL",
            "{error}"
        );
        let mut events = events(post(&bff).json(&payload)).await;
        assert!(events.next().await.contains("INTERNAL"));
        assert_eq!(events.next().await, COMPLETE);
    }
    client
        .send(json!({ "id": "1", "type": "subscribe", "payload": { "query": "{ good }" } }))
        .await;
    assert_eq!(client.next().await["payload"]["data"]["good"], 1);
}

#[tokio::test]
async fn a_large_answer_is_sent_in_gzip_to_who_takes_it() {
    let system = System::start(1).await;
    for (name, accept, packed) in [
        ("x".repeat(100_000), Some("gzip, br"), true),
        ("x".repeat(2000), Some("gzip"), true),
        ("x".repeat(2000), Some("gzip;q=0"), false),
        ("x".repeat(2000), None, false),
        ("Ann".to_owned(), Some("gzip"), false),
    ] {
        let query = "query($name: String!) { hello(name: $name) { message } }";
        let request = reqwest::Client::new()
            .post(system.bff.url("/graphql"))
            .json(&json!({ "query": query, "variables": { "name": name } }));
        let request = match accept {
            Some(accept) => request.header("accept-encoding", accept),
            None => request,
        };
        let answer = request.send().await.unwrap();
        let header = |name: &str| {
            let value = answer.headers().get(name);
            value.map(|value| value.to_str().unwrap().to_owned())
        };
        let varies = (name.len() > 1000).then(|| "accept-encoding".to_owned());
        assert_eq!(header("vary"), varies);
        assert_eq!(header("content-encoding").is_some(), packed, "{accept:?}");
        let body = answer.bytes().await.unwrap();
        let mut text = String::new();
        match packed {
            true => {
                assert!(body.len() < name.len());
                let mut decoder = flate2::read::GzDecoder::new(body.as_ref());
                std::io::Read::read_to_string(&mut decoder, &mut text).unwrap();
            }
            false => text = String::from_utf8(body.to_vec()).unwrap(),
        }
        let answer: Value = serde_json::from_str(&text).unwrap();
        let message = format!("Hello, {name}!");
        assert_eq!(answer["data"]["hello"]["message"], message.as_str());
    }
}

#[tokio::test]
async fn several_operations_come_in_one_request_where_that_is_allowed() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("bff.toml");
    let rule = "[rate_limit.fields.\"Query.hello\"]\ncalls = 2\nperiod = \"1h\"\n";
    std::fs::write(&file, rule).unwrap();
    let system = System::with(1, |bff| bff.file(&file).set("http.max_batch", 3)).await;
    let post = |body: Value| {
        let request = reqwest::Client::new()
            .post(system.bff.url("/graphql"))
            .header("accept", "application/graphql-response+json")
            .json(&body);
        async move {
            let answer = request.send().await.unwrap();
            (
                answer.status().as_u16(),
                answer.json::<Value>().await.unwrap(),
            )
        }
    };
    let hello = json!({ "query": "{ hello { message } }" });
    let wrong = json!({ "query": "{ nope }" });
    let (status, answers) = post(json!([hello, wrong, hello])).await;
    assert_eq!(status, 200, "{answers}");
    assert_eq!(answers[0]["data"]["hello"]["message"], "Hello, iveBoy!");
    let code = |answer: &Value| answer["errors"][0]["extensions"]["code"].clone();
    assert_eq!(code(&answers[1]), "GRAPHQL_VALIDATION_FAILED");
    assert_eq!(answers[2], answers[0]);
    // Each counts for itself.
    let (_, answers) = post(json!([hello])).await;
    assert_eq!(code(&answers[0]), "RATE_LIMITED", "{answers}");
    for body in [json!([]), json!([hello, hello, hello, hello]), json!([1])] {
        let (status, answer) = post(body).await;
        assert_eq!((status, code(&answer)), (400, "BAD_USER_INPUT".into()));
    }
}
