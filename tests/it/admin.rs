//! The admin listener: what is on it is on no other.

use bff_tests::{TestBff, process::Program};
use serde_json::Value;

use crate::support::{dev, soon};

#[tokio::test]
async fn what_operators_read_is_not_on_the_public_listener() {
    let bff = TestBff::builder().start().await;
    for page in ["/metrics", "/configz"] {
        assert_eq!(bff.get(page).await.0, 404, "{page}");
        let (status, text) = bff.admin(page).await;
        assert_eq!(status, 200, "{page}: {text}");
    }
    // One word, whatever is asked for.
    assert_eq!(
        bff.get("/readyz?verbose").await,
        (503, "not ready\n".into())
    );
    assert_eq!(bff.get("/livez?verbose").await, (200, "ok\n".into()));
    let (status, text) = bff.admin("/readyz?verbose").await;
    assert_eq!(status, 503);
    assert!(text.contains("upstream greeter: no instance"), "{text}");
    assert_eq!(bff.admin("/readyz").await, (503, "not ready\n".into()));
    assert_eq!(bff.admin("/livez").await.0, 200);
    let (status, index) = bff.admin("/").await;
    assert_eq!(status, 200);
    assert!(index.contains("/configz"), "{index}");
    // And the other way round.
    assert_eq!(bff.admin("/graphql?query=%7B__typename%7D").await.0, 404);
}

#[tokio::test]
async fn pages_of_other_sites_do_not_reach_it_by_an_operators_browser() {
    let bff = TestBff::builder().start().await;
    let with = |name: &'static str, value: &'static str| {
        let request = reqwest::Client::new().get(bff.admin_url("/configz"));
        async move {
            let answer = request.header(name, value).send().await.unwrap();
            answer.status().as_u16()
        }
    };
    assert_eq!(with("origin", "https://evil.example").await, 403);
    assert_eq!(with("sec-fetch-site", "cross-site").await, 403);
    assert_eq!(with("host", "rebound.example").await, 403);
    assert_eq!(with("sec-fetch-site", "none").await, 200);
}

#[tokio::test]
async fn it_answers_until_the_last_request_of_a_drain_is_over() {
    let (bff, greeter) = {
        let greeter = bff_tests::fixtures::greeter::GreeterFixture::start()
            .await
            .unwrap();
        let endpoints = format!("[\"http://{}\"]", greeter.addr());
        let bff = TestBff::builder()
            .set("upstreams.greeter.endpoints", endpoints)
            .set("upstreams.greeter.timeout", "10s")
            .set("upstreams.greeter.attempt_timeout", "9s")
            .start()
            .await;
        (bff, greeter)
    };
    bff.wait_ready().await;
    greeter.script(|script| script.latency = std::time::Duration::from_secs(1));
    let (addr, admin) = (bff.addr(), bff.admin_url("/readyz?verbose"));
    let last = tokio::spawn(async move { TestBff::at(addr).greets().await });
    soon(async {
        while greeter.call_count() < 1 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let stopping = tokio::spawn(bff.stop());
    let mut drained = String::new();
    soon(async {
        while !drained.contains("shutdown: draining") {
            drained = reqwest::get(&admin).await.unwrap().text().await.unwrap();
        }
    })
    .await;
    assert!(last.await.unwrap());
    stopping.await.unwrap();
}

#[tokio::test]
async fn without_one_a_program_serves_and_says_nothing_of_it() {
    let mut program = Program::start(
        dev(),
        [
            "bff",
            "run",
            "--listen=127.0.0.1:0",
            "--admin=none",
            "--set=consul.register=false",
        ],
    )
    .await
    .unwrap();
    let url = format!("http://{}/graphql?query=%7B__typename%7D", program.addr());
    let answer: Value = reqwest::get(url).await.unwrap().json().await.unwrap();
    assert_eq!(answer["data"]["__typename"], "Query");
    // Its output is over without another word.
    program.signal(nix::sys::signal::Signal::SIGKILL).unwrap();
    assert!(program.admin().await.is_err());
}

#[tokio::test]
async fn a_port_that_is_taken_is_named_by_its_key() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let admin = format!("--admin={}", taken.local_addr().unwrap());
    let output = tokio::process::Command::new(dev())
        .args([
            "bff",
            "run",
            "--listen=127.0.0.1:0",
            "--set=consul.register=false",
            &admin,
        ])
        .output()
        .await
        .unwrap();
    assert!(!output.status.success());
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        error.contains("admin.listen (command line): cannot listen on"),
        "{error}"
    );
    // Nothing said that it listens.
    assert!(output.stdout.is_empty());
}
