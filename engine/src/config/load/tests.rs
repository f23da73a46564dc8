//! Sources merged, mistakes found.

use std::{fs, time::Duration};

use super::*;
use crate::config::{Config, Known};
use crate::simulation::toml;

/// What the greeter's program knows.
pub(crate) fn known() -> Arc<Known> {
    crate::simulation::known()
}

fn load(sources: &Sources) -> Result<Config, Problems> {
    Ok(sources.read(known())?.with(None)?.config)
}

fn from_file(text: &str) -> Result<Config, Problems> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("bff.toml");
    fs::write(&file, text).unwrap();
    load(&Sources {
        file: Some(file),
        ..Sources::default()
    })
}

fn from_environment(pairs: &[(&str, &str)]) -> Result<Config, Problems> {
    let environment = pairs
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect();
    load(&Sources {
        environment,
        ..Sources::default()
    })
}

fn keys(problems: Problems) -> Vec<String> {
    problems.0.into_iter().map(|problem| problem.key).collect()
}

#[test]
fn nothing_configured_is_a_valid_configuration() {
    let config = load(&Sources::default()).unwrap();
    assert_eq!(config.http.listen.to_string(), "127.0.0.1:8000");
    assert_eq!(config.upstreams["greeter"].timeout, Duration::from_secs(2));
}

#[test]
fn three_mistakes_in_a_file_are_all_named_with_their_keys() {
    let problems = from_file(
        r#"
        [http]
        listne = "127.0.0.1:8000"
        [upstreams.greeter]
        timeout = "2 parsecs"
        [graphql]
        max_depth = 0
        "#,
    )
    .unwrap_err();
    let text = problems.to_string();
    assert_eq!(
        keys(problems),
        [
            "graphql.max_depth",
            "http.listne",
            "upstreams.greeter.timeout"
        ],
        "{text}"
    );
    assert!(text.contains("did you mean `listen`?"), "{text}");
    assert!(text.contains("bff.toml"), "{text}");
}

#[test]
fn the_environment_overrides_the_file_and_flags_override_both() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("bff.toml");
    fs::write(
        &file,
        "[graphql]\nmax_depth = 3\nmax_complexity = 30\nplayground = false",
    )
    .unwrap();
    let config = load(&Sources {
        file: Some(file),
        environment: [
            ("BFF__GRAPHQL__MAX_DEPTH".to_owned(), "4".to_owned()),
            ("BFF__GRAPHQL__MAX_COMPLEXITY".to_owned(), "40".to_owned()),
            ("UNRELATED".to_owned(), "x".to_owned()),
        ]
        .into(),
        flags: vec![("graphql.max_complexity".to_owned(), "50".to_owned())],
    })
    .unwrap();
    assert_eq!(config.graphql.max_depth, 4);
    assert_eq!(config.graphql.max_complexity, 50);
    assert!(!config.graphql.playground);
}

#[test]
fn a_misspelt_environment_variable_is_refused() {
    let problems = from_environment(&[("BFF__HTTP__LISSEN", "127.0.0.1:1")]).unwrap_err();
    assert_eq!(keys(problems), ["http.lissen"]);
}

#[test]
fn a_token_of_digits_from_the_environment_stays_a_string_and_is_never_printed() {
    let config = from_environment(&[("BFF__CONSUL__TOKEN", "0012345")]).unwrap();
    let token = config.consul.token.as_ref().unwrap();
    assert_eq!(token.reveal(), "0012345");
    let printed = toml(&config);
    assert!(!printed.contains("0012345"), "{printed}");
    assert!(printed.contains("[redacted]"), "{printed}");
    assert!(!format!("{config:?}").contains("0012345"));
}

#[test]
fn a_file_that_is_not_toml_is_one_problem_that_names_the_file_and_the_line() {
    let problems = from_file("[http\nlisten = 1").unwrap_err().to_string();
    assert!(
        problems.contains("bff.toml") && problems.contains("line 1"),
        "{problems}"
    );
}

#[test]
fn an_attempt_timeout_that_nobody_wrote_follows_the_timeout() {
    let attempt =
        |text: &str| from_file(text).map(|config| config.upstreams["greeter"].attempt_timeout());
    let ms = Duration::from_millis;
    assert_eq!(attempt("").unwrap(), ms(500));
    assert_eq!(
        attempt("[upstreams.greeter]\ntimeout = '5s'").unwrap(),
        ms(500)
    );
    assert_eq!(
        attempt("[upstreams.greeter]\ntimeout = '200ms'").unwrap(),
        ms(100)
    );
}

#[test]
fn a_wildcard_listener_that_registers_has_to_say_where_it_is_reached() {
    let problems = from_file("[http]\nlisten = '0.0.0.0:80'").unwrap_err();
    assert_eq!(keys(problems), ["consul.advertise"]);
    let good = "[http]\nlisten = '0.0.0.0:80'\n[consul]\nadvertise = 'bff.internal:80'";
    assert!(from_file(good).is_ok());
}

#[test]
fn a_limit_on_a_field_that_the_schema_does_not_have_names_the_nearest() {
    let text = "[rate_limit.fields.'Query.helo']\ncalls = 1\nperiod = '1m'";
    let problems = from_file(text).unwrap_err();
    assert!(problems.to_string().contains("`Query.hello`"), "{problems}");
    assert_eq!(keys(problems), ["rate_limit.fields.Query.helo"]);
    let text = "[rate_limit.fields.'Query.hello']\ncalls = 0\nperiod = '1 fortnight'";
    let problems = from_file(text).unwrap_err();
    assert!(problems.to_string().contains("period"), "{problems}");
}

#[test]
fn contradictions_within_an_upstream_are_refused() {
    for (text, key) in [
        ("timeout = '1s'\nattempt_timeout = '1s'", "attempt_timeout"),
        ("retry.max_attempts = 0", "retry.max_attempts"),
        ("retry.budget_ratio = 1.5", "retry.budget_ratio"),
        ("breaker.failure_ratio = 1.01", "breaker.failure_ratio"),
        ("breaker.failure_ratio = 0", "breaker.failure_ratio"),
        ("breaker.open_for = '2m'", "breaker.open_for_max"),
        ("ejection.eject_for = '10m'", "ejection.eject_for_max"),
        ("max_in_flight = 0", "max_in_flight"),
        ("service = 'a'\nendpoints = ['http://h:1']", "service"),
        ("endpoints = []", "endpoints"),
    ] {
        let problems = from_file(&format!("[upstreams.greeter]\n{text}")).unwrap_err();
        assert_eq!(
            keys(problems),
            [format!("upstreams.greeter.{key}")],
            "{text}"
        );
    }
}

#[test]
fn an_upstream_nobody_calls_is_refused_and_the_known_ones_are_named() {
    let problems = from_file("[upstreams.greter]\nservice = \"x\"").unwrap_err();
    assert!(problems.to_string().contains("greeter"), "{problems}");
    assert_eq!(keys(problems), ["upstreams.greter"]);
}

#[test]
fn what_print_config_prints_is_a_configuration() {
    let printed = toml(&load(&Sources::default()).unwrap());
    let again = from_file(&printed).unwrap();
    assert_eq!(toml(&again), printed);
}

#[test]
fn the_documented_file_holds_exactly_the_defaults() {
    let documented = from_file(include_str!("../../../../bff/bff.toml")).unwrap();
    let defaults = load(&Sources::default()).unwrap();
    assert_eq!(toml(&documented), toml(&defaults));
}

#[test]
fn a_section_whose_name_is_a_path_is_an_unknown_key() {
    for name in ["http[100000000]", "nacos.server", "a b", "größe"] {
        let problems = from_file(&format!("\"{name}\" = 1")).unwrap_err();
        assert_eq!(keys(problems), [name]);
    }
}

#[test]
fn no_message_repeats_what_may_be_a_secret() {
    for text in [
        "[consul]\ntoken = \"hun\"ter2\"",
        "[consul]\naddress = \"http://u:hunter2@h:1\"",
        "[rate_limit]\nredis = \"redis://:hunter2@h\"",
        "[rate_limit.redis]\nurl = \"rediss://:hunter2@h\"",
        "[telemetry]\nendpoint = \"grpc://u:hunter2@h:1\"",
        "[nacos]\nserver = \"u:hunter2@h:1\"",
        "[nacos]\nusername = \"u\"\npassword = 5\n[http]\nlisten = 1",
    ] {
        let problems = from_file(text).unwrap_err().to_string();
        assert!(
            !problems.contains("hunter2") && !problems.contains("ter2"),
            "{problems}"
        );
    }
}

#[test]
fn a_key_under_its_old_name_is_read_and_says_where_it_came_from() {
    let document = Document {
        origin: "document".to_owned(),
        text: "[upstreams.greeter.ejection]\nbase = '7s'\nmax_share = 0.25\n".to_owned(),
    };
    let loaded = Sources::default().read(known()).unwrap();
    let loaded = loaded.with(Some(&document)).unwrap();
    let ejection = &loaded.config.upstreams["greeter"].ejection;
    assert_eq!(
        (ejection.eject_for, ejection.max_ratio),
        (Duration::from_secs(7), 0.25)
    );
    let path = ["upstreams", "greeter", "ejection", "eject_for"];
    assert_eq!(loaded.origins.at(path), Some("document"));
}

#[test]
fn an_old_name_in_a_later_source_wins_over_the_new_one_in_an_earlier_source() {
    let file = Document {
        origin: "bff.toml".to_owned(),
        text: "[upstreams.greeter.ejection]\neject_for = '5s'\nmax_ratio = 0.1".to_owned(),
    };
    let read = |environment: &[(&str, &str)], flags: &[(&str, &str)], document: Option<&str>| {
        let own = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
            let own = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
            pairs.iter().map(own).collect()
        };
        let document = document.map(|text| Document {
            origin: "Nacos".to_owned(),
            text: text.to_owned(),
        });
        let read = SourcesRead {
            file: Some(file.clone()),
            environment: own(environment).into_iter().collect(),
            flags: own(flags),
            known: known(),
        };
        let config = read.with(document.as_ref()).unwrap().config;
        config.upstreams["greeter"].ejection.eject_for.as_secs()
    };
    assert_eq!(read(&[], &[], None), 5);
    let old = "[upstreams.greeter.ejection]\nbase = '20s'";
    assert_eq!(read(&[], &[], Some(old)), 20);
    let variable = "BFF__UPSTREAMS__GREETER__EJECTION__BASE";
    assert_eq!(read(&[(variable, "30s")], &[], Some(old)), 30);
    let flag = "upstreams.greeter.ejection.base";
    assert_eq!(read(&[(variable, "30s")], &[(flag, "40s")], None), 40);
    // Within one source the new name wins, whatever comes first.
    let both = [
        (variable, "30s"),
        ("BFF__UPSTREAMS__GREETER__EJECTION__EJECT_FOR", "31s"),
    ];
    assert_eq!(read(&both, &[], None), 31);
    let both = [
        ("upstreams.greeter.ejection.eject_for", "41s"),
        (flag, "40s"),
    ];
    assert_eq!(read(&[], &both, None), 41);
}

#[test]
fn where_an_upstream_is_said_later_takes_the_place_of_where_it_was_said_before() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("bff.toml");
    let text = "[upstreams.greeter]\nservice = 'a'\ntimeout = '3s'";
    fs::write(&file, text).unwrap();
    let flag = ("upstreams.greeter.endpoints", "[\"http://127.0.0.1:1\"]");
    let loaded = load(&Sources {
        flags: vec![(flag.0.to_owned(), flag.1.to_owned())],
        file: Some(file.clone()),
        ..Sources::default()
    })
    .unwrap();
    let greeter = &loaded.upstreams["greeter"];
    assert_eq!((&greeter.service, greeter.timeout.as_secs()), (&None, 3));
    assert_eq!(greeter.endpoints.as_ref().map(Vec::len), Some(1));
}

#[test]
fn defaults_hold_for_every_upstream_that_does_not_say_otherwise() {
    let config = from_file(
        r#"
        [upstreams.defaults]
        timeout = "3s"
        required = false
        forward = ["x-tenant"]
        retry = { max_attempts = 5, backoff = "7ms" }
        [upstreams.greeter]
        timeout = "1s"
        retry.max_attempts = 2
        "#,
    )
    .unwrap();
    assert_eq!(config.upstreams.len(), 1, "they are no upstream");
    let greeter = &config.upstreams["greeter"];
    assert_eq!(greeter.timeout, Duration::from_secs(1));
    assert_eq!(greeter.retry.max_attempts, 2);
    assert_eq!(greeter.retry.backoff, Duration::from_millis(7));
    assert!(!greeter.required);
    let without = from_file("[upstreams.defaults]\ntimeout = '3s'").unwrap();
    assert_eq!(without.upstreams["greeter"].timeout, Duration::from_secs(3));
    let pairs = [("BFF__UPSTREAMS__DEFAULTS__TIMEOUT", "4s")];
    let of_environment = from_environment(&pairs).unwrap();
    assert_eq!(
        of_environment.upstreams["greeter"].timeout,
        Duration::from_secs(4)
    );
}

#[test]
fn what_is_wrong_with_the_defaults_is_said_once_and_of_them() {
    let problems = from_file(
        r#"
        [upstreams.defaults]
        timeout = "2 parsecs"
        max_in_flight = 0
        forward = ["host"]
        service = "everybody"
        [upstreams.greeter]
        max_in_flight = -1
        "#,
    );
    let keys = keys(problems.unwrap_err());
    assert_eq!(
        keys,
        [
            "upstreams.defaults.forward[0]",
            "upstreams.defaults.service",
            "upstreams.defaults.timeout",
            "upstreams.greeter.max_in_flight",
        ]
    );
}
