//! GraphQL by the book: what the specification says, about a schema with everything in it.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod by_the_book;
mod generator;
mod opinion;

use std::path::PathBuf;

fn number(name: &str, default: u64) -> u64 {
    let set = std::env::var(name).ok();
    set.and_then(|set| set.parse().ok()).unwrap_or(default)
}

/// Where `node_modules` has graphql-js.
fn modules() -> PathBuf {
    PathBuf::from(std::env::var_os("SECOND_OPINION").expect("SECOND_OPINION is set"))
}

/// `SEED=7 REQUESTS=1000` asks others than usual.
#[tokio::test]
#[ignore = "asks graphql-js, by Node: SECOND_OPINION is where node_modules has it"]
async fn a_second_opinion_on_requests_at_random_finds_no_difference() {
    let (seed, count) = (number("SEED", 1), number("REQUESTS", 100_000));
    let found = opinion::compare(&modules(), seed, count, 20).await;
    assert_eq!(found, 0, "from seed {seed} on");
}

/// What graphql-js answered once.
const RECORDED: &str = include_str!("recorded.jsonl");

#[tokio::test]
async fn what_graphql_js_answered_once_is_answered_here() {
    let mut ours = opinion::Ours::new();
    assert!(RECORDED.lines().count() >= 300);
    for line in RECORDED.lines() {
        let recorded: opinion::Recorded = serde_json::from_str(line).unwrap();
        let answer = ours
            .answer(recorded.body.clone(), recorded.subscribes)
            .await;
        assert_eq!(answer, recorded.outcome, "{}", recorded.body);
    }
}

/// Writes them down anew, after a change of the schema or of the generator.
#[tokio::test]
#[ignore = "writes tests/graphql/recorded.jsonl"]
async fn record() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/graphql/recorded.jsonl");
    std::fs::write(file, opinion::record(&modules(), 320).await).unwrap();
}
