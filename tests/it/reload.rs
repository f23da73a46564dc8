//! Rules that change while the BFF runs, by documents in Nacos. With `NACOS_ADDR` set, the
//! documents are in the real server there.

use std::{fs, sync::Arc, time::Duration};

use bff_tests::{
    Load, TestBff,
    chaos::Network,
    fixtures::{
        greeter::GreeterFixture,
        nacos::{Fault, NacosFixture},
    },
    process::Program,
};
use tokio::{process::Command, time::Instant};

use crate::support::{Center, System, dev, metric, soon};

const REFUSED: &str = "bff_config_refusals_total{reason=\"invalid\"}";

/// A limit on greetings.
fn limit(calls: u32) -> String {
    format!("[rate_limit.fields.\"Query.hello\"]\ncalls = {calls}\nperiod = \"1h\"\n")
}

/// A BFF with a greeter that follows `center`, which it asks by the clock only once an hour, so
/// that what it hears it was told.
async fn following(center: &Center) -> System {
    let t = follow_hourly(center).await;
    if let Some(fixture) = &center.fixture {
        fixture.wait_for_listener(&center.data_id).await;
    }
    t
}

async fn follow_hourly(center: &Center) -> System {
    System::with(1, |bff| center.followed(bff).set("nacos.reconcile", "1h")).await
}

async fn wait_metric(bff: &TestBff, name: &str, is: impl Fn(f64) -> bool) {
    bff.wait_page("/metrics", |_, page| is(metric(page, name)))
        .await;
}

async fn wait_generation(bff: &TestBff, generation: f64) {
    wait_metric(bff, "bff_config_generation", |now| now == generation).await;
}

/// How many of `tries` greetings are let through.
async fn greetings(bff: &TestBff, tries: usize) -> usize {
    let mut greeted = 0;
    for _ in 0..tries {
        greeted += usize::from(bff.greets().await);
    }
    greeted
}

#[tokio::test]
async fn a_new_limit_is_obeyed_by_the_query_after_it_and_starts_fresh() {
    let center = Center::start().await;
    center.publish(&limit(3)).await;
    let t = following(&center).await;
    assert_eq!(greetings(&t.bff, 5).await, 3);
    center.publish(&limit(5)).await;
    wait_generation(&t.bff, 2.0).await;
    assert_eq!(greetings(&t.bff, 8).await, 5);
}

#[tokio::test]
async fn f26_a_reloaded_quota_counts_exactly_and_bans_nobody() {
    let center = Center::start().await;
    center.publish(&limit(50)).await;
    let t = following(&center).await;
    assert_eq!(greetings(&t.bff, 200).await, 50);
    // Another message is no other quota: what was used stays used.
    let message = "[rate_limit]\nmessage = \"later\"\n";
    center.publish(&format!("{message}{}", limit(50))).await;
    wait_generation(&t.bff, 2.0).await;
    let answer = t.bff.query("{ hello { message } __typename }").await;
    assert_eq!(answer["errors"][0]["message"], "later", "{answer}");
    assert_eq!(answer["data"]["__typename"], "Query", "siblings are served");
    // Another quota starts fresh, also for whoever was throttled.
    center.publish(&limit(80)).await;
    wait_generation(&t.bff, 3.0).await;
    assert_eq!(greetings(&t.bff, 200).await, 80);
    center.publish("# no limit").await;
    wait_generation(&t.bff, 4.0).await;
    assert_eq!(greetings(&t.bff, 100).await, 100);
}

#[tokio::test]
async fn f28_garbage_out_of_range_and_nothing_leave_the_last_good_configuration_and_are_explained()
{
    let center = Center::start().await;
    center.publish(&limit(1000)).await;
    let t = following(&center).await;
    wait_generation(&t.bff, 1.0).await;
    let bad = [
        ("[rate_limit", "TOML"),
        ("[rate_limit]\nmesage = 'x'\n", "rate_limit.mesage"),
        (
            "[upstreams.greeter]\ntimeout = '5ms'\n",
            "upstreams.greeter.timeout",
        ),
        (
            "[upstreams.greeter]\ntimeout = 'soon'\n",
            "upstreams.greeter.timeout",
        ),
        ("[upstreams.gretter]\ntimeout = '1s'\n", "upstreams.gretter"),
        (
            "[rate_limit.fields.'Query.helo']\ncalls = 1\nperiod = '1m'\n",
            "`Query.hello`",
        ),
        ("[nacos]\nserver = '127.0.0.1:1'\n", "nacos"),
        ("  \n\n", "empty"),
    ];
    for (n, (document, explained)) in bad.into_iter().enumerate() {
        center.publish(document).await;
        wait_metric(&t.bff, REFUSED, |count| count == (n + 1) as f64).await;
        let (status, text) = t.bff.admin("/readyz?verbose").await;
        assert_eq!(status, 200, "a bad document takes nobody out of traffic");
        assert!(text.contains("refused"), "{text}");
        let (_, text) = t.bff.admin("/configz").await;
        assert!(
            text.contains("refused") && text.contains(explained),
            "{text}"
        );
        assert!(t.bff.greets().await);
        let (_, in_force) = t.bff.admin("/configz").await;
        assert!(
            in_force.contains("\ncalls = 1000 "),
            "{document}: {in_force}"
        );
    }
    let (_, page) = t.bff.admin("/metrics").await;
    assert_eq!(metric(&page, "bff_config_generation"), 1.0);
    assert_eq!(metric(&page, "bff_config_refused"), 1.0);
    // And then it is good again.
    center.publish(&limit(2)).await;
    wait_generation(&t.bff, 2.0).await;
    wait_metric(&t.bff, "bff_config_refused", |refused| refused == 0.0).await;
    assert_eq!(greetings(&t.bff, 3).await, 2);
}

#[tokio::test]
async fn f28_a_document_that_is_deleted_stays_in_force() {
    let center = Center::start().await;
    center.publish(&limit(2)).await;
    let t = System::with(1, |bff| center.followed(bff).set("nacos.reconcile", "1s")).await;
    center.remove().await;
    wait_metric(&t.bff, "bff_config_document{state=\"missing\"}", |is| {
        is == 1.0
    })
    .await;
    assert_eq!(greetings(&t.bff, 3).await, 2);
}

#[tokio::test]
async fn f28_with_nacos_down_at_boot_the_file_is_in_force_and_the_document_once_nacos_is_there() {
    for network in [Network::Cut, Network::Frozen] {
        let center = Center::start().await;
        center.publish(&limit(2)).await;
        center.network.set(network);
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("bff.toml");
        fs::write(&file, limit(1)).unwrap();
        let t = System::with(1, |bff| center.followed(bff).file(&file)).await;
        assert_eq!(greetings(&t.bff, 2).await, 1, "{network:?}");
        wait_metric(&t.bff, "bff_config_document{state=\"failing\"}", |is| {
            is == 1.0
        })
        .await;
        let up = Instant::now();
        // What was frozen stays so until it is cut.
        center.network.set(Network::Cut);
        center.network.wait_closed().await;
        center.network.set(Network::Up);
        wait_generation(&t.bff, 2.0).await;
        assert!(
            up.elapsed() <= Duration::from_secs(30),
            "{:?}",
            up.elapsed()
        );
        assert_eq!(greetings(&t.bff, 3).await, 2, "{network:?}");
    }
}

#[tokio::test]
async fn f28_the_first_publication_of_a_document_that_was_missing_is_applied() {
    let center = Center::start().await;
    let t = follow_hourly(&center).await;
    wait_metric(&t.bff, "bff_config_document{state=\"missing\"}", |is| {
        is == 1.0
    })
    .await;
    center.publish(&limit(2)).await;
    let published = Instant::now();
    wait_generation(&t.bff, 2.0).await;
    assert!(published.elapsed() <= Duration::from_secs(30));
    assert_eq!(greetings(&t.bff, 3).await, 2);
    // From then on it is told.
    center.publish(&limit(4)).await;
    wait_generation(&t.bff, 3.0).await;
}

#[tokio::test]
async fn f28_nacos_going_away_changes_nothing_and_is_shown_until_it_is_back() {
    let center = Center::start().await;
    center.publish(&limit(2)).await;
    let t = System::with(1, |bff| center.followed(bff).set("nacos.reconcile", "1s")).await;
    center.network.set(Network::Cut);
    wait_metric(&t.bff, "bff_config_document{state=\"failing\"}", |is| {
        is == 1.0
    })
    .await;
    wait_metric(&t.bff, "bff_config_staleness_seconds", |stale| stale > 0.0).await;
    assert_eq!(greetings(&t.bff, 3).await, 2);
    center.publish(&limit(3)).await;
    center.network.set(Network::Up);
    wait_generation(&t.bff, 2.0).await;
    assert_eq!(greetings(&t.bff, 4).await, 3);
}

#[tokio::test]
async fn f28_answers_that_no_client_expects_change_nothing() {
    let center = Center::of(NacosFixture::start().await.unwrap()).await;
    center.publish(&limit(1000)).await;
    let t = System::with(1, |bff| center.followed(bff).set("nacos.reconcile", "1s")).await;
    for fault in [Fault::Error, Fault::NoContent, Fault::Garbage] {
        let fixture = center.fixture.as_ref().unwrap();
        fixture.answer_with(Some(fault));
        wait_metric(&t.bff, "bff_config_document{state=\"failing\"}", |is| {
            is == 1.0
        })
        .await;
        assert!(t.bff.greets().await);
        fixture.answer_with(None);
        wait_metric(&t.bff, "bff_config_document{state=\"found\"}", |is| {
            is == 1.0
        })
        .await;
    }
    let (_, page) = t.bff.admin("/metrics").await;
    assert_eq!(metric(&page, "bff_config_generation"), 1.0);
}

#[tokio::test]
async fn f28_a_server_that_never_answers_as_expected_is_not_connected_to_again_and_again() {
    let center = Center::of(NacosFixture::start().await.unwrap()).await;
    center.publish(&limit(1000)).await;
    let fixture = center.fixture.as_ref().unwrap();
    fixture.answer_with(Some(Fault::NoContent));
    let t = System::with(1, |bff| center.followed(bff).set("nacos.reconcile", "1s")).await;
    wait_metric(&t.bff, "bff_config_document{state=\"failing\"}", |is| {
        is == 1.0
    })
    .await;
    fixture.wait_for_queries(6).await;
    // One that listens and one that looks.
    assert_eq!(center.network.connections(), 2);
    fixture.answer_with(None);
    wait_generation(&t.bff, 2.0).await;
}

#[tokio::test]
async fn word_of_a_change_that_gets_lost_is_made_up_for_by_the_clock() {
    let center = Center::of(NacosFixture::start().await.unwrap()).await;
    center.publish(&limit(1)).await;
    let t = System::with(1, |bff| center.followed(bff).set("nacos.reconcile", "1s")).await;
    center.fixture.as_ref().unwrap().push(false);
    center.publish(&limit(3)).await;
    wait_generation(&t.bff, 2.0).await;
    assert_eq!(greetings(&t.bff, 4).await, 3);
}

#[tokio::test]
async fn a_server_that_wants_a_password_gets_it() {
    let fixture = NacosFixture::with_user("ops", "hunter2").await.unwrap();
    fixture.publish("bff.toml", &limit(2));
    let server = fixture.addr();
    let with = |password| {
        System::with(1, move |bff| {
            bff.set("nacos.server", server)
                .set("nacos.username", "ops")
                .set("nacos.password", password)
        })
    };
    let let_in = with("hunter2").await;
    assert_eq!(greetings(&let_in.bff, 3).await, 2);
    let shut_out = with("hunter3").await;
    wait_metric(
        &shut_out.bff,
        "bff_config_document{state=\"failing\"}",
        |is| is == 1.0,
    )
    .await;
    let (_, text) = shut_out.bff.admin("/readyz?verbose").await;
    assert!(text.contains("user not found"), "{text}");
    assert_eq!(greetings(&shut_out.bff, 3).await, 3);
    let (_, page) = let_in.bff.admin("/configz").await;
    assert!(
        page.contains("username") && !page.contains("hunter2"),
        "{page}"
    );
}

#[tokio::test]
async fn keys_that_need_a_restart_are_named_and_the_rest_of_the_document_is_in_force() {
    let center = Center::start().await;
    center.publish(&limit(1)).await;
    let t = following(&center).await;
    let document = format!("[http]\nrequest_timeout = \"7s\"\n{}", limit(3));
    center.publish(&document).await;
    wait_generation(&t.bff, 2.0).await;
    assert_eq!(greetings(&t.bff, 4).await, 3);
    let (_, text) = t.bff.admin("/readyz?verbose").await;
    assert!(
        text.contains("http.request_timeout") && text.contains("needs a restart"),
        "{text}"
    );
    let (_, page) = t.bff.admin("/metrics").await;
    assert_eq!(metric(&page, "bff_config_awaiting_restart"), 1.0);
    assert_eq!(
        metric(&page, "bff_config_refusals_total{reason=\"needs_restart\"}"),
        1.0
    );
    // A restart is what it needs.
    let after = System::with(1, |bff| center.followed(bff)).await;
    let (_, page) = after.bff.admin("/configz").await;
    assert!(page.contains("request_timeout = \"7s\""), "{page}");
    assert!(!page.contains("needs a restart"), "{page}");
}

#[tokio::test]
async fn nacos_overrides_the_file_and_flags_override_nacos() {
    let center = Center::start().await;
    center
        .publish("[graphql]\nmax_depth = 5\nmax_complexity = 50\n")
        .await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("bff.toml");
    fs::write(&file, "[graphql]\nmax_depth = 4\nmax_complexity = 40\n").unwrap();
    let t = System::with(1, |bff| {
        center
            .followed(bff)
            .file(&file)
            .set("graphql.max_complexity", 60)
    })
    .await;
    let (_, page) = t.bff.admin("/configz").await;
    let line = |key: &str| page.lines().find(|line| line.starts_with(key)).unwrap();
    assert!(line("max_depth = 5").contains(&center.data_id), "{page}");
    assert!(
        line("max_complexity = 60").ends_with("# command line"),
        "{page}"
    );
    assert!(line("introspection").ends_with("# default"), "{page}");
}

#[tokio::test]
async fn limits_on_queries_and_introspection_change_with_the_next_request() {
    let center = Center::start().await;
    center.publish("# as in the file").await;
    let t = following(&center).await;
    let schema = "{ __schema { queryType { name } } }";
    assert!(t.bff.query(schema).await.get("errors").is_none());
    center
        .publish("[graphql]\nintrospection = false\nmax_depth = 1\n")
        .await;
    wait_generation(&t.bff, 2.0).await;
    assert!(t.bff.query(schema).await["data"]["__schema"].is_null());
    let too_deep = t.bff.query("{ hello { message } }").await;
    assert!(too_deep.to_string().contains("too deep"), "{too_deep}");
    center.publish("# as in the file").await;
    wait_generation(&t.bff, 3.0).await;
    assert!(t.bff.greets().await);
}

#[tokio::test]
async fn a_timeout_and_an_operators_breaker_act_on_the_next_call() {
    let center = Center::start().await;
    center.publish("# as in the file").await;
    let t = following(&center).await;
    t.greeters[0].script(|script| script.latency = Duration::from_millis(300));
    center
        .publish("[upstreams.greeter]\ntimeout = \"100ms\"\n")
        .await;
    wait_generation(&t.bff, 2.0).await;
    let answer = t.bff.query("{ hello { message } }").await;
    assert_eq!(
        answer["errors"][0]["extensions"]["code"], "UPSTREAM_TIMEOUT",
        "{answer}"
    );
    center
        .publish("[upstreams.greeter.breaker]\nmode = \"open\"\n")
        .await;
    wait_generation(&t.bff, 3.0).await;
    let calls = t.greeters[0].call_count();
    let answer = t.bff.query("{ hello { message } }").await;
    assert_eq!(
        answer["errors"][0]["extensions"]["code"], "CIRCUIT_OPEN",
        "{answer}"
    );
    assert_eq!(t.greeters[0].call_count(), calls);
    center
        .publish("[upstreams.greeter.breaker]\nmode = \"closed\"\n")
        .await;
    wait_generation(&t.bff, 4.0).await;
    assert!(t.bff.greets().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_changes_under_load_no_query_is_lost() {
    let center = Center::start().await;
    center.publish("# as in the file").await;
    let t = following(&center).await;
    let bff = Arc::new(t.bff);
    let load = Load::clients(&bff, 8);
    for (n, change) in [
        "timeout = '3s'",
        "attempt_timeout = '1s'",
        "max_in_flight = 50",
        "balancer = 'random'",
        "keepalive = '20s'",
        "connect_timeout = '500ms'",
        "breaker.window = '20s'",
        "breaker.mode = 'closed'",
        "retry.max_attempts = 1",
        "ejection.base = '1s'",
    ]
    .into_iter()
    .enumerate()
    {
        load.wait_for(100).await;
        center
            .publish(&format!("[upstreams.greeter]\n{change}\n"))
            .await;
        wait_generation(&bff, (n + 2) as f64).await;
    }
    load.wait_for(100).await;
    assert_eq!(load.failures().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_service_is_used_once_it_has_an_instance_without_a_failed_query() {
    let center = Center::start().await;
    center.publish("# as in the file").await;
    let t = following(&center).await;
    let bff = Arc::new(t.bff);
    let load = Load::clients(&bff, 4);
    center
        .publish("[upstreams.greeter]\nservice = \"greeter-v2\"\n")
        .await;
    wait_generation(&bff, 2.0).await;
    load.wait_for(50).await;
    let other = GreeterFixture::start().await.unwrap();
    t.consul.register("greeter-v2", other.addr());
    soon(async {
        while other.call_count() < 20 {
            load.wait_for(1).await;
        }
    })
    .await;
    assert_eq!(load.failures().await, 0);
}

#[tokio::test]
async fn print_config_shows_what_is_in_force_in_a_running_program_and_why_a_document_is_not() {
    let center = Center::start().await;
    center.publish(&limit(7)).await;
    let greeter = GreeterFixture::start().await.unwrap();
    let args = [
        "bff".to_owned(),
        "run".to_owned(),
        "--listen=127.0.0.1:0".to_owned(),
        "--admin=127.0.0.1:0".to_owned(),
        "--set".to_owned(),
        "consul.register=false".to_owned(),
        "--set".to_owned(),
        format!("nacos.server={}", center.server()),
        "--set".to_owned(),
        format!("nacos.grpc_port={}", center.network.addr().port()),
        "--set".to_owned(),
        format!("nacos.data_id={}", center.data_id),
        "--consul".to_owned(),
        // Nobody is asked there: what counts is what is printed.
        format!("http://{}", greeter.addr()),
    ];
    let mut bff = Program::start(dev(), args).await.unwrap();
    let admin = bff.admin().await.unwrap();
    let print = || async {
        let url = format!("http://{admin}");
        let output = Command::new(dev())
            .args(["bff", "print-config", "--live", &url])
            .output()
            .await
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let printed = print().await;
    let calls = printed.lines().find(|line| line.starts_with("calls = 7"));
    assert!(calls.unwrap().contains(&center.data_id), "{printed}");
    center.publish("[rate_limit]\nmessage = 5\n").await;
    let deadline = Instant::now() + Duration::from_secs(40);
    loop {
        let printed = print().await;
        assert!(Instant::now() < deadline, "{printed}");
        if printed.contains("refused") {
            assert!(printed.contains("rate_limit.message"), "{printed}");
            assert!(printed.contains("calls = 7"), "{printed}");
            break;
        }
    }
    bff.stop(Duration::from_secs(20)).await.unwrap();
}
