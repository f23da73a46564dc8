//! Documents that are published beforehand.

use std::{fs, path::Path};

use bff_tests::{TestBff, websocket::Client};
use serde_json::{Value, json};

use crate::support::{Center, System, soon};

const HELLO: &str = "query Hello { hello { message } }";
/// `HELLO`'s.
const HASH: &str = "5951a43fb41acde575f8be2e4d2041e761b686f791043d60115c6c18a0f05a0d";

async fn ask(bff: &TestBff, body: Value) -> (u16, Value) {
    let answer = reqwest::Client::new()
        .post(bff.url("/graphql"))
        .header("accept", "application/graphql-response+json")
        .json(&body)
        .send()
        .await
        .unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

fn code(answer: &Value) -> &str {
    answer["errors"][0]["extensions"]["code"]
        .as_str()
        .unwrap_or("none")
}

async fn system(manifest: &Path, keys: &[(&str, &str)]) -> System {
    System::with(1, |mut bff| {
        bff = bff.set("documents.manifest", manifest.display());
        for (key, value) in keys {
            bff = bff.set(key, value);
        }
        bff
    })
    .await
}

/// Apollo's form, with the names that its tools give.
fn apollo(hash: &str) -> String {
    let operation = json!({ "id": hash, "name": "Hello", "type": "query", "body": HELLO });
    json!({
        "format": "apollo-persisted-query-manifest",
        "version": 1,
        "operations": [operation],
    })
    .to_string()
}

#[tokio::test]
async fn of_published_documents_only_those_are_executed_by_whatever_name() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("manifest.json");
    fs::write(&file, apollo(HASH)).unwrap();
    let system = system(&file, &[("documents.only", "true")]).await;
    let by_apollo = json!({ "persistedQuery": { "version": 1, "sha256Hash": HASH } });
    for body in [
        json!({ "documentId": HASH }),
        json!({ "documentId": format!("sha256:{HASH}") }),
        json!({ "extensions": by_apollo }),
        json!({ "query": HELLO }),
    ] {
        let (status, answer) = ask(&system.bff, body.clone()).await;
        assert_eq!((status, code(&answer)), (200, "none"), "{body}: {answer}");
    }
    for (body, wanted) in [
        (json!({ "query": "{ hello { message } }" }), "FORBIDDEN"),
        (
            json!({ "query": "{ __schema { types { name } } }" }),
            "FORBIDDEN",
        ),
        (
            json!({ "query": "{", "extensions": by_apollo }),
            "FORBIDDEN",
        ),
        (
            json!({ "documentId": "other" }),
            "PERSISTED_QUERY_NOT_FOUND",
        ),
        (json!({}), "BAD_USER_INPUT"),
    ] {
        let (status, answer) = ask(&system.bff, body.clone()).await;
        assert_eq!((status, code(&answer)), (400, wanted), "{body}: {answer}");
    }
    let mut client = Client::connect(system.bff.addr(), &[]).await;
    for (id, payload, kind) in [
        ("1", json!({ "query": "{ hello { message } }" }), "error"),
        ("2", json!({ "documentId": HASH }), "next"),
    ] {
        let message = json!({ "id": id, "type": "subscribe", "payload": payload });
        client.send(message).await;
        assert_eq!(client.next().await["type"], kind);
    }
    assert_eq!(system.greeters[0].call_count(), 5);
}

#[tokio::test]
async fn a_dry_run_counts_what_would_be_refused_and_a_changed_file_is_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("manifest.json");
    fs::write(&file, "{}").unwrap();
    let keys = [("documents.only", "true"), ("documents.dry_run", "true")];
    let system = system(&file, &keys).await;
    let untrusted = async || {
        let (_, page) = system.bff.admin("/metrics").await;
        let mut lines = page.lines();
        let line = lines.find(|line| line.starts_with("bff_graphql_documents_untrusted_total"));
        let value = line.and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        value.unwrap_or(0.0)
    };
    assert!(system.bff.greets().await);
    assert_eq!(untrusted().await, 1.0);
    // Also where the document itself came once and its hash since.
    let extensions = json!({ "persistedQuery": { "version": 1, "sha256Hash": HASH } });
    for (query, counted) in [(json!(HELLO), 2.0), (Value::Null, 3.0)] {
        let body = json!({ "query": query, "extensions": extensions });
        let (status, answer) = ask(&system.bff, body).await;
        assert_eq!((status, untrusted().await), (200, counted), "{answer}");
    }
    // A mistake changes nothing; what is good does.
    fs::write(&file, "{ \"greet\": ").unwrap();
    system
        .bff
        .wait_page("/metrics", |_, page| {
            page.contains("bff_graphql_documents_manifest_errors_total 1")
        })
        .await;
    fs::write(
        &file,
        json!({ "greet": "{ hello { message } }" }).to_string(),
    )
    .unwrap();
    let mut pace = tokio::time::interval(std::time::Duration::from_millis(20));
    let named = json!({ "documentId": "greet" });
    soon(async {
        while ask(&system.bff, named.clone()).await.0 != 200 {
            pace.tick().await;
        }
    })
    .await;
    let before = untrusted().await;
    assert!(system.bff.greets().await);
    assert_eq!(untrusted().await, before);
}

#[tokio::test]
async fn a_manifest_that_is_not_there_keeps_it_from_starting_and_is_named() {
    let run = tokio::process::Command::new(crate::support::dev())
        .args(["bff", "run", "--listen=127.0.0.1:0", "--admin=none"])
        .args([
            "--set=consul.register=false",
            "--set=documents.manifest=/nowhere.json",
        ])
        .output()
        .await
        .unwrap();
    assert!(!run.status.success());
    let error = String::from_utf8_lossy(&run.stderr);
    assert!(
        error.contains("documents.manifest: /nowhere.json"),
        "{error}"
    );
}

#[tokio::test]
async fn documents_published_in_nacos_are_followed_and_without_any_it_is_not_ready() {
    let center = Center::start().await;
    let system = System::with(1, |bff| {
        center
            .followed(bff)
            .set("nacos.data_id", format!("{}.none", center.data_id))
            .set("documents.data_id", &center.data_id)
            .set("documents.only", true)
    })
    .await;
    let bff = &system.bff;
    let lacking = "[-] documents: none are published: nacos";
    bff.wait_readyz(|status, text| {
        status == 503 && text.contains(lacking) && text.contains("there is no such document")
    })
    .await;
    let hello = json!({ "documentId": "hello" });
    assert_eq!(
        code(&ask(bff, hello.clone()).await.1),
        "PERSISTED_QUERY_NOT_FOUND"
    );
    let published = json!({ "hello": HELLO }).to_string();
    center.publish(&published).await;
    bff.wait_ready().await;
    assert_eq!(ask(bff, hello.clone()).await.0, 200);
    // A mistake changes nothing; what is good does.
    center.publish("{ \"hello\": ").await;
    bff.wait_page("/metrics", |_, page| {
        page.contains("bff_graphql_documents_manifest_errors_total 1")
    })
    .await;
    assert_eq!(ask(bff, hello.clone()).await.0, 200);
    let published = json!({ "greet": HELLO }).to_string();
    center.publish(&published).await;
    let mut pace = tokio::time::interval(std::time::Duration::from_millis(20));
    soon(async {
        while ask(bff, json!({ "documentId": "greet" })).await.0 != 200 {
            pace.tick().await;
        }
    })
    .await;
    assert_eq!(ask(bff, hello).await.0, 400);
}
