//! Documents that are small to send and would end the process, or keep it busy: refused with an
//! error. The program runs as a child, because a stack overflow takes its process with it.

use bff_tests::{TestBff, process::Program, websocket::Client};
use serde_json::{Value, json};

use crate::support::dev;

/// A BFF in a process of its own, whose upstream is not there.
async fn child() -> (Program, TestBff) {
    let args = [
        "bff",
        "run",
        "--listen",
        "127.0.0.1:0",
        "--admin",
        "127.0.0.1:0",
        "--set",
        "consul.register=false",
        "--set",
        "upstreams.greeter.endpoints=[\"http://127.0.0.1:1\"]",
    ];
    let mut program = Program::start(dev(), args).await.unwrap();
    let bff = TestBff::of(&mut program).await;
    (program, bff)
}

/// `text` with `n` of it inside one another, around nothing.
fn nested(open: &str, n: usize, close: &str) -> String {
    format!("{}{}", open.repeat(n), close.repeat(n))
}

/// What ends a process without a limit, and a word that its error has to have.
fn endless() -> Vec<(String, &'static str)> {
    let chain = |n: usize| {
        (0..n).fold("{ __typename }".to_owned(), |text, n| {
            text + &format!(" fragment f{n} on Query {{ ...f{} }}", n + 1)
        })
    };
    let many = |part: &str, n: usize| format!("{{ hello{} {{ message }} }}", part.repeat(n));
    vec![
        (
            format!("{{hello(name:{}){{message}}}}", nested("[", 1500, "]")),
            "deep",
        ),
        (
            format!("{{hello(name:{}){{message}}}}", nested("{a:", 1500, "}")),
            "deep",
        ),
        (
            format!(
                "query($a:Int={}){{hello{{message}}}}",
                nested("[", 2000, "]")
            ),
            "deep",
        ),
        (nested("{hello", 1500, "}"), "deep"),
        // The brackets in texts and comments are none.
        (
            format!(
                "{{hello(name:\"[[[\" #]]]\n other:{}){{message}}}}",
                nested("[", 1500, "]")
            ),
            "deep",
        ),
        (chain(6000), "bytes"),
        (chain(1000), "definitions"),
        (many(" @a", 20_000), "tokens"),
        (
            format!("{{hello(name:\"{}\"){{message}}}}", "x".repeat(200_000)),
            "bytes",
        ),
    ]
}

fn message(answer: &Value) -> &str {
    answer["errors"][0]["message"].as_str().unwrap_or_default()
}

#[tokio::test]
async fn a_document_that_nests_or_goes_on_without_end_is_an_error_and_the_process_lives() {
    let (_program, bff) = child().await;
    for (query, word) in endless() {
        let start: String = query.chars().take(60).collect();
        let answer = bff.query(&query).await;
        assert!(message(&answer).contains(word), "{start}: {answer}");
        assert!(answer["data"].is_null(), "{start}: {answer}");
        assert_eq!(bff.get("/livez").await.0, 200, "{start}");
    }
}

#[tokio::test]
async fn the_same_over_a_websocket_is_an_error_of_that_operation_only() {
    let (program, bff) = child().await;
    let mut client = Client::connect(program.addr(), &[]).await;
    for (n, (query, word)) in endless().into_iter().enumerate() {
        let start: String = query.chars().take(60).collect();
        let id = n.to_string();
        client
            .send(json!({ "id": id, "type": "subscribe", "payload": { "query": query } }))
            .await;
        loop {
            let answer = client.next().await;
            assert_eq!(answer["id"], id, "{answer}");
            match answer["type"].as_str() {
                Some("complete") => break,
                Some("next") => assert!(answer.to_string().contains(word), "{start}: {answer}"),
                _ => {
                    assert!(answer.to_string().contains(word), "{start}: {answer}");
                    break;
                }
            }
        }
    }
    assert_eq!(bff.get("/livez").await.0, 200);
}

#[tokio::test]
async fn variables_that_nest_without_end_are_an_error_and_the_process_lives() {
    let (_program, bff) = child().await;
    for deep in [100, 2000] {
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            let inner = match close {
                "}" => "1",
                _ => "",
            };
            let variables = format!("{}{inner}{}", open.repeat(deep), close.repeat(deep));
            let body = format!(
                "{{\"query\":\"query($v:String){{hello(name:$v){{message}}}}\",\"variables\":{{\"v\":{variables}}}}}"
            );
            let answer = reqwest::Client::new()
                .post(bff.url("/graphql"))
                .header("content-type", "application/json")
                .body(body)
                .send()
                .await
                .unwrap();
            let text = answer.text().await.unwrap();
            assert!(
                text.contains("deep") || text.contains("recursion"),
                "{text}"
            );
            assert_eq!(bff.get("/livez").await.0, 200);
        }
    }
}

#[tokio::test]
async fn what_people_write_passes() {
    let (_program, bff) = child().await;
    let deep = "{__schema{types{fields{type{ofType{ofType{ofType{ofType{name}}}}}}}}}";
    let block = "{ hello(name: \"\"\" a \"quoted\" [[[ { \\\"\"\" \"\"\") { message } } # {{{{ ";
    for query in [deep, block] {
        let answer = bff.query(query).await;
        assert!(!answer["data"].is_null(), "{query}: {answer}");
    }
}
