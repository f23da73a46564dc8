//! Rules on a paused clock.

use tokio::time::{advance, sleep};

use super::*;

const MINUTE: Duration = Duration::from_secs(60);

fn config(rules: &str) -> Config {
    let text = format!("[fields.\"Query.hello\"]\n{rules}");
    toml_edit::de::from_str(&text).unwrap()
}

fn take(limiter: &Limiter, client: &str) -> Result<(), Throttled> {
    limiter.take_here(
        limiter.rules("Query", "hello").unwrap(),
        ClientKey::of(client),
    )
}

fn allowed(limiter: &Limiter, client: &str, tries: usize) -> usize {
    (0..tries).filter(|_| take(limiter, client).is_ok()).count()
}

#[tokio::test(start_paused = true)]
async fn ten_a_minute_are_ten_at_once_and_then_one_every_six_seconds() {
    let limiter = Limiter::new(&config("calls = 10\nperiod = '1m'"));
    assert_eq!(allowed(&limiter, "a", 20), 10);
    let throttled = take(&limiter, "a").unwrap_err();
    assert_eq!(throttled.message, "请求过于频繁，请稍后重试！");
    assert_eq!((throttled.limit, throttled.period), (10, MINUTE));
    assert_eq!(throttled.retry_after, Duration::from_secs(6));
    advance(throttled.retry_after).await;
    assert_eq!(allowed(&limiter, "a", 20), 1);
    advance(MINUTE).await;
    assert_eq!(allowed(&limiter, "a", 20), 10);
}

#[tokio::test(start_paused = true)]
async fn a_fixed_window_of_ten_a_minute_gives_ten_and_then_none_until_the_minute_is_over() {
    let text = "calls = 10\nperiod = '1m'\nalgorithm = 'fixed-window'";
    let limiter = Limiter::new(&config(text));
    assert_eq!(allowed(&limiter, "a", 20), 10);
    sleep(MINUTE - Duration::from_millis(1)).await;
    assert_eq!(
        take(&limiter, "a").unwrap_err().retry_after,
        Duration::from_millis(1)
    );
    sleep(Duration::from_millis(1)).await;
    assert_eq!(allowed(&limiter, "a", 20), 10);
}

#[tokio::test(start_paused = true)]
async fn f26_at_a_hundred_times_the_rate_exactly_burst_and_rate_pass() {
    for algorithm in ["gcra", "fixed-window"] {
        let text = format!("calls = 100\nperiod = '10s'\nalgorithm = '{algorithm}'");
        let limiter = Limiter::new(&config(&text));
        let (mut passed, seconds) = (0, 95);
        for _ in 0..seconds * 1000 {
            passed += allowed(&limiter, "a", 1);
            advance(Duration::from_millis(1)).await;
        }
        let expected = match algorithm {
            "gcra" => 100 + 10 * seconds,
            _ => 100 * (seconds / 10 + 1),
        };
        crate::simulation::figure!("F26", "{algorithm}: {passed} of {expected} accepted");
        assert!(passed.abs_diff(expected) <= 1, "{passed} of {expected}");
    }
}

#[tokio::test(start_paused = true)]
async fn f26_a_million_clients_stay_within_the_cap_and_a_throttled_one_stays_throttled() {
    let mut config = config("calls = 2\nperiod = '1h'");
    config.max_keys = 10_000;
    let limiter = Limiter::new(&config);
    assert_eq!(allowed(&limiter, "persistent", 5), 2);
    let mut again = 0;
    for n in 0..1_000_000 {
        // The persistent one asks again and again, as such clients do.
        if n % 50 == 0 {
            again += allowed(&limiter, "persistent", 1);
        }
        let _ = take(&limiter, &n.to_string());
    }
    assert_eq!(again, 0, "it was forgotten and let through");
    let keys = limiter.all().next().unwrap().keys();
    crate::simulation::figure!("F26", "a million clients: {keys} remembered, cap 10000");
    assert!(keys <= 10_000, "{keys}");
}

#[tokio::test(start_paused = true)]
async fn clients_do_not_share_a_limit_and_a_global_limit_is_shared() {
    let each = Limiter::new(&config("calls = 1\nperiod = '1m'"));
    assert!(take(&each, "a").is_ok() && take(&each, "b").is_ok());
    let all = Limiter::new(&config("calls = 1\nperiod = '1m'\nper = 'global'"));
    assert!(take(&all, "a").is_ok() && take(&all, "b").is_err());
}

#[tokio::test(start_paused = true)]
async fn a_call_may_cost_several() {
    let limiter = Limiter::new(&config("calls = 10\nperiod = '1m'\ncost = 5"));
    assert_eq!(allowed(&limiter, "a", 10), 2);
    assert_eq!(
        take(&limiter, "a").unwrap_err().retry_after,
        Duration::from_secs(30)
    );
}

#[tokio::test(start_paused = true)]
async fn several_rules_have_to_agree() {
    let text = r#"
        [[fields."Query.hello"]]
        calls = 3
        period = "1m"
        [[fields."Query.hello"]]
        calls = 5
        period = "1m"
        per = "global"
        message = "everybody, please"
    "#;
    let limiter = Limiter::new(&toml_edit::de::from_str(text).unwrap());
    assert_eq!(allowed(&limiter, "a", 10), 3);
    assert_eq!(allowed(&limiter, "b", 10), 2);
    assert_eq!(
        take(&limiter, "c").unwrap_err().message,
        "everybody, please"
    );
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_counts_and_lets_everything_through() {
    let limiter = Limiter::new(&config("calls = 1\nperiod = '1m'\ndry_run = true"));
    assert_eq!(allowed(&limiter, "a", 10), 10);
    let rule = limiter.all().next().unwrap();
    assert_eq!((rule.allowed(), rule.throttled()), (1, 9));
}

#[tokio::test(start_paused = true)]
async fn f26_a_reload_keeps_the_buckets_of_a_rule_it_leaves_alone_and_bans_nobody() {
    let before = Limiter::new(&config("calls = 10\nperiod = '1m'"));
    assert_eq!(allowed(&before, "a", 20), 10);
    let same = before.reconfigured(&config("calls = 10\nperiod = '1m'\nmessage = 'slower'"));
    assert_eq!(take(&same, "a").unwrap_err().message, "slower");
    // From a huge quota to a small one: what was used before is not held against anybody.
    let huge = Limiter::new(&config("calls = 1000000\nperiod = '1h'"));
    allowed(&huge, "a", 100_000);
    let small = huge.reconfigured(&config("calls = 3\nperiod = '1m'"));
    assert_eq!(allowed(&small, "a", 10), 3);
    advance(MINUTE).await;
    assert_eq!(allowed(&small, "a", 10), 3);
}

#[tokio::test]
async fn with_redis_away_each_replica_counts_for_itself_and_says_so() {
    // A port that is taken and never answers.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut config = config("calls = 3\nperiod = '1h'");
    config.store = Store::Redis;
    config.redis.url = format!("redis://{}", silent.local_addr().unwrap());
    let limiter = Limiter::new(&config);
    let rules = limiter.rules("Query", "hello").unwrap();
    let client = ClientKey::of("a");
    let mut passed = 0;
    for _ in 0..10 {
        passed += usize::from(limiter.take(rules, client).await.is_ok());
    }
    assert_eq!(passed, 3);
    assert_eq!(limiter.store_status().unwrap().fallbacks, 10);
    // Another rule beside it is no reason for another connection.
    let same = limiter.reconfigured(&config);
    assert_eq!(same.store_status().unwrap().fallbacks, 10);
    config.store = Store::Memory;
    assert_eq!(limiter.reconfigured(&config).store_status(), None);
}
