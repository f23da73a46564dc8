//! What the fixture promises about Consul. With `CONSUL_HTTP_ADDR` set, the same tests ask the
//! real agent there.

use std::{env, time::Duration};

use bff_tests::fixtures::consul::ConsulFixture;
use reqwest::{Client, Response, StatusCode};
use serde_json::{Value, json};
use tokio::time::Instant;

/// A real agent, or a fixture that lives as long as this.
struct Agent {
    url: String,
    http: Client,
    _fixture: Option<ConsulFixture>,
}

impl Agent {
    async fn get() -> Self {
        let (url, fixture) = match env::var("CONSUL_HTTP_ADDR") {
            Ok(addr) if addr.starts_with("http") => (addr, None),
            Ok(addr) => (format!("http://{addr}"), None),
            Err(_) => {
                let fixture = ConsulFixture::start().await.unwrap();
                (fixture.url(), Some(fixture))
            }
        };
        Self {
            url,
            http: Client::new(),
            _fixture: fixture,
        }
    }

    async fn fetch(&self, path: &str) -> Response {
        self.http
            .get(format!("{}{path}", self.url))
            .send()
            .await
            .unwrap()
    }

    async fn put(&self, path: &str, body: Value) -> Response {
        self.http
            .put(format!("{}{path}", self.url))
            .json(&body)
            .send()
            .await
            .unwrap()
    }

    /// The passing instances and the index.
    async fn passing(&self, service: &str, query: &str) -> (Vec<Value>, u64) {
        let answer = self
            .fetch(&format!("/v1/health/service/{service}?passing{query}"))
            .await;
        assert_eq!(answer.status(), StatusCode::OK);
        let index = answer.headers()["x-consul-index"]
            .to_str()
            .unwrap()
            .parse()
            .unwrap();
        (answer.json().await.unwrap(), index)
    }

    async fn register(&self, service: &str, id: &str, check: Value) {
        let body = json!({
            "ID": id, "Name": service, "Address": "127.0.0.1", "Port": 7777,
            "Weights": { "Passing": 5, "Warning": 1 }, "Check": check,
        });
        let answer = self.put("/v1/agent/service/register", body).await;
        assert_eq!(
            answer.status(),
            StatusCode::OK,
            "{}",
            answer.text().await.unwrap()
        );
    }

    async fn deregister(&self, id: &str) {
        let path = format!("/v1/agent/service/deregister/{id}");
        assert_eq!(self.put(&path, json!(null)).await.status(), StatusCode::OK);
    }

    /// Waits by blocking queries until as many instances pass.
    async fn wait_passing(&self, service: &str, count: usize) -> u64 {
        let (mut list, mut index) = self.passing(service, "").await;
        while list.len() != count {
            (list, index) = self
                .passing(service, &format!("&index={index}&wait=10s"))
                .await;
        }
        index
    }
}

/// A name no other test, and no other run, uses.
fn unique(name: &str) -> String {
    format!("contract-{name}-{}", std::process::id())
}

fn ttl(status: &str) -> Value {
    json!({ "TTL": "1m", "Status": status })
}

#[tokio::test]
async fn an_unknown_service_is_an_empty_list_with_an_index() {
    let agent = Agent::get().await;
    let (list, index) = agent.passing(&unique("unknown"), "").await;
    assert_eq!(list, [] as [Value; 0]);
    assert!(index >= 1);
}

#[tokio::test]
async fn a_registered_instance_is_listed_with_its_address_and_weights_once_it_passes() {
    let agent = Agent::get().await;
    let service = unique("listed");
    agent.register(&service, &service, ttl("critical")).await;
    agent.wait_passing(&service, 0).await;
    let path = format!("/v1/agent/check/pass/service:{service}");
    assert_eq!(agent.put(&path, json!(null)).await.status(), StatusCode::OK);
    agent.wait_passing(&service, 1).await;
    let (list, _) = agent.passing(&service, "").await;
    let one = &list[0]["Service"];
    assert_eq!(
        (
            &one["ID"],
            &one["Address"],
            &one["Port"],
            &one["Weights"]["Passing"]
        ),
        (
            &json!(service),
            &json!("127.0.0.1"),
            &json!(7777),
            &json!(5)
        )
    );
    assert!(list[0]["Node"]["Address"].is_string());
    agent.deregister(&service).await;
    agent.wait_passing(&service, 0).await;
}

#[tokio::test]
async fn a_check_starts_as_critical_unless_told_otherwise() {
    let agent = Agent::get().await;
    let service = unique("initial");
    agent
        .register(&service, &service, json!({ "TTL": "1m" }))
        .await;
    let path = format!("/v1/health/service/{service}");
    let mut list: Value = agent.fetch(&path).await.json().await.unwrap();
    while list.as_array().unwrap().is_empty() {
        list = agent.fetch(&path).await.json().await.unwrap();
    }
    let checks = list[0]["Checks"].as_array().unwrap();
    assert!(
        checks.iter().any(|check| check["Status"] == "critical"),
        "{list}"
    );
    assert_eq!(agent.passing(&service, "").await.0.len(), 0);
    agent.deregister(&service).await;
}

#[tokio::test]
async fn a_blocking_query_answers_as_soon_as_something_changes() {
    let agent = Agent::get().await;
    let service = unique("blocking");
    agent.register(&service, &service, ttl("passing")).await;
    let index = agent.wait_passing(&service, 1).await;
    let start = Instant::now();
    let query = format!("&index={index}&wait=60s");
    let path = format!("/v1/agent/check/fail/service:{service}");
    let ((_, next), _) = tokio::join!(
        agent.passing(&service, &query),
        agent.put(&path, json!(null))
    );
    assert!(start.elapsed() < Duration::from_secs(10));
    assert!(next > index);
    agent.wait_passing(&service, 0).await;
    agent.deregister(&service).await;
}

#[tokio::test]
async fn a_blocking_query_without_a_change_ends_after_its_wait_with_the_same_index() {
    let agent = Agent::get().await;
    let service = unique("quiet");
    agent.register(&service, &service, ttl("passing")).await;
    let index = agent.wait_passing(&service, 1).await;
    let start = Instant::now();
    let (list, next) = agent
        .passing(&service, &format!("&index={index}&wait=1s"))
        .await;
    assert!(start.elapsed() >= Duration::from_secs(1));
    assert_eq!((list.len(), next), (1, index));
    agent.deregister(&service).await;
}

#[tokio::test]
async fn an_unknown_id_is_404_on_the_agent_and_removing_it_does_no_harm() {
    let agent = Agent::get().await;
    let id = unique("nobody");
    let answer = agent.fetch(&format!("/v1/agent/service/{id}")).await;
    assert_eq!(answer.status(), StatusCode::NOT_FOUND);
    let answer = agent
        .put(&format!("/v1/agent/service/deregister/{id}"), json!(null))
        .await;
    // Older agents say 200, newer ones 404, as the fixture does.
    assert!(matches!(
        answer.status(),
        StatusCode::OK | StatusCode::NOT_FOUND
    ));
}

#[tokio::test]
async fn a_registration_with_the_same_id_replaces_the_old_one() {
    let agent = Agent::get().await;
    let service = unique("again");
    agent.register(&service, &service, ttl("passing")).await;
    agent.wait_passing(&service, 1).await;
    agent.register(&service, &service, ttl("passing")).await;
    agent.wait_passing(&service, 1).await;
    let answer = agent.fetch(&format!("/v1/agent/service/{service}")).await;
    assert_eq!(
        answer.json::<Value>().await.unwrap()["Service"],
        json!(service)
    );
    agent.deregister(&service).await;
}

#[tokio::test]
async fn a_check_can_be_updated_with_a_status_and_an_output() {
    let agent = Agent::get().await;
    let service = unique("update");
    agent.register(&service, &service, ttl("critical")).await;
    let path = format!("/v1/agent/check/update/service:{service}");
    let update = json!({ "Status": "passing", "Output": "fine" });
    assert_eq!(agent.put(&path, update).await.status(), StatusCode::OK);
    agent.wait_passing(&service, 1).await;
    let bad = agent.put(&path, json!({ "Status": "splendid" })).await;
    assert_eq!(bad.status(), StatusCode::BAD_REQUEST);
    agent.deregister(&service).await;
}

#[tokio::test]
async fn a_registration_without_a_name_or_with_a_check_that_checks_nothing_is_refused() {
    let agent = Agent::get().await;
    for body in [
        json!({ "ID": "x" }),
        json!({ "Name": unique("bad"), "Check": { "Name": "x" } }),
    ] {
        let answer = agent.put("/v1/agent/service/register", body).await;
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
    }
}

#[tokio::test]
async fn the_catalog_lists_services_and_their_instances() {
    let agent = Agent::get().await;
    let service = unique("catalog");
    agent.register(&service, &service, ttl("passing")).await;
    agent.wait_passing(&service, 1).await;
    let services: Value = agent
        .fetch("/v1/catalog/services")
        .await
        .json()
        .await
        .unwrap();
    assert!(services[&service].is_array(), "{services}");
    let path = format!("/v1/catalog/service/{service}");
    let list: Value = agent.fetch(&path).await.json().await.unwrap();
    assert_eq!(list[0]["ServiceID"], json!(service));
    assert_eq!(list[0]["ServicePort"], 7777);
    let own: Value = agent
        .fetch("/v1/agent/services")
        .await
        .json()
        .await
        .unwrap();
    assert_eq!(own[&service]["Port"], 7777);
    agent.deregister(&service).await;
}
