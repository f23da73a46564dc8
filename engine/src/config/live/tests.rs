//! Documents and the effective configuration.

use super::*;
use crate::config::Sources;
use crate::simulation::toml;

fn sources(flags: &[(&str, &str)]) -> SourcesRead {
    let flags = flags
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .chain([("nacos.group".to_owned(), "g".to_owned())])
        .collect();
    let sources = Sources {
        flags,
        ..Sources::default()
    };
    sources.read(crate::simulation::known()).unwrap()
}

fn start(sources: &SourcesRead) -> EffectiveConfig {
    EffectiveConfig::at_start(sources, Instant::now()).unwrap()
}

fn found(text: &str) -> PollResult {
    PollResult::Found(text.to_owned())
}

fn running(state: &EffectiveConfig, sources: &SourcesRead, reading: PollResult) -> EffectiveConfig {
    state.read(sources, reading, Change::WhileRunning, Instant::now())
}

#[tokio::test]
async fn a_document_that_was_seen_already_is_not_looked_at_again() {
    let sources = sources(&[]);
    let first = running(
        &start(&sources),
        &sources,
        found("[graphql]\nmax_depth = 3"),
    );
    assert_eq!((first.generation, first.config.graphql.max_depth), (2, 3));
    let again = running(&first, &sources, found("[graphql]\nmax_depth = 3"));
    assert_eq!(again.generation, 2);
    let bad = running(&again, &sources, found("[graphql]\nmax_depth = 0"));
    let bad = running(&bad, &sources, found("[graphql]\nmax_depth = 0"));
    assert_eq!((bad.refusals, bad.config.graphql.max_depth), (1, 3));
}

#[tokio::test]
async fn going_back_to_a_document_after_a_bad_one_is_a_change() {
    let sources = sources(&[]);
    let good = running(
        &start(&sources),
        &sources,
        found("[graphql]\nmax_depth = 3"),
    );
    let bad = running(&good, &sources, found("[graphql]\nmax_depth = 'deep'"));
    assert!(bad.refused.is_some());
    let back = running(&bad, &sources, found("[graphql]\nmax_depth = 3"));
    assert!(back.refused.is_none());
    assert_eq!(back.config.graphql.max_depth, 3);
}

#[tokio::test]
async fn at_the_start_every_key_of_a_document_counts_and_later_only_live_ones() {
    let sources = sources(&[]);
    let text = "[http]\nrequest_timeout = '7s'\n[graphql]\nmax_depth = 3\nplayground = false";
    let started = start(&sources).read(&sources, found(text), Change::AtStart, Instant::now());
    assert_eq!(started.config.http.request_timeout.as_secs(), 7);
    assert!(!started.config.graphql.playground && started.awaiting_restart.is_empty());
    let later = running(&start(&sources), &sources, found(text));
    assert_eq!(later.config.http.request_timeout.as_secs(), 10);
    assert_eq!(later.config.graphql.max_depth, 3);
    let keys: Vec<_> = later.awaiting_restart.iter().map(|c| &c.key).collect();
    assert_eq!(keys, ["graphql.playground", "http.request_timeout"]);
    // Taken back, there is nothing to wait for.
    let back = running(&later, &sources, found("# nothing"));
    assert!(back.awaiting_restart.is_empty());
    assert_eq!(back.config.graphql.max_depth, 15);
}

#[tokio::test]
async fn flags_stay_stronger_than_documents() {
    let sources = sources(&[("graphql.max_depth", "9")]);
    let state = running(
        &start(&sources),
        &sources,
        found("[graphql]\nmax_depth = 3"),
    );
    assert_eq!(state.config.graphql.max_depth, 9);
    assert_eq!(
        state.origins.at(["graphql", "max_depth"]),
        Some("command line")
    );
}

#[tokio::test(start_paused = true)]
async fn staleness_runs_from_the_last_answer_and_only_while_there_is_none() {
    let sources = sources(&[]);
    let state = running(&start(&sources), &sources, PollResult::Missing);
    tokio::time::advance(Duration::from_secs(40)).await;
    let now = Instant::now();
    assert_eq!(state.nacos.as_ref().unwrap().staleness(now), Duration::ZERO);
    let failing = running(&state, &sources, PollResult::Failed("gone".to_owned()));
    let stale = failing.nacos.as_ref().unwrap().staleness(now);
    assert_eq!(stale, Duration::from_secs(40));
}

#[tokio::test]
async fn what_is_printed_is_a_configuration_with_its_origins_as_comments() {
    let sources = sources(&[]);
    let text =
        "[graphql]\nmax_depth = 3\n[[rate_limit.fields.'Query.hello']]\ncalls = 1\nperiod = '1m'";
    let state = running(&start(&sources), &sources, found(text));
    let printed = state.to_toml(Instant::now()).unwrap();
    assert!(
        printed.contains("max_depth = 3  # nacos g/bff.toml"),
        "{printed}"
    );
    assert!(
        printed.contains("max_complexity = 1000  # default"),
        "{printed}"
    );
    assert!(
        printed.contains("calls = 1  # nacos g/bff.toml"),
        "{printed}"
    );
    assert!(
        printed.contains("group = \"g\"  # command line"),
        "{printed}"
    );
    let again: Config = toml_edit::de::from_str(&printed).unwrap();
    assert_eq!(toml(&again), toml(&state.config));
}

#[tokio::test]
async fn what_came_into_force_before_anybody_listened_is_applied_all_the_same() {
    let sources = sources(&[]);
    let first = start(&sources);
    let second = running(&first, &sources, found("[graphql]\nmax_depth = 3"));
    let (_sender, state) = watch::channel(Arc::new(second));
    let live = Live {
        state,
        follow: None,
    };
    let mut depths = Vec::new();
    let changes = live.each_change(first.generation, |config| {
        depths.push(config.graphql.max_depth);
    });
    assert!(timeout(Duration::from_millis(10), changes).await.is_err());
    assert_eq!(depths, [3]);
}

#[tokio::test]
async fn a_value_that_waits_for_a_restart_is_printed_with_where_it_came_from_itself() {
    let sources = sources(&[]);
    let text = "[http]\nrequest_timeout = '7s'\n[consul]\ntoken = 'new'";
    let state = running(&start(&sources), &sources, found(text));
    let printed = state.to_toml(Instant::now()).unwrap();
    assert!(
        printed.contains("request_timeout = \"10s\"  # default"),
        "{printed}"
    );
    let keys: Vec<_> = state.awaiting_restart.iter().map(|c| &c.key).collect();
    assert_eq!(keys, ["consul.token", "http.request_timeout"]);
    assert!(!printed.contains("new"), "{printed}");
}
