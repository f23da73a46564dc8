//! The dashboard and the alerts name metrics that exist.

use std::{collections::BTreeSet, fs, path::Path};

use bff_tests::fixtures::{collector::CollectorFixture, nacos::NacosFixture};

use crate::support::System;

/// Prefixes of our metrics.
const OURS: [&str; 3] = ["bff_", "http_server_", "rpc_client_"];

/// The metrics that a text names.
fn named(text: &str) -> BTreeSet<String> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| OURS.iter().any(|prefix| word.starts_with(prefix)))
        .map(str::to_owned)
        .collect()
}

#[tokio::test]
async fn every_metric_that_the_dashboard_and_the_alerts_name_is_served() {
    let nacos = NacosFixture::start().await.unwrap();
    let rules = "[rate_limit.fields.'Query.hello']\ncalls = 1000\nperiod = '1m'\n";
    nacos.publish("bff.toml", rules);
    let collector = CollectorFixture::start().await.unwrap();
    let t = System::with(1, |bff| {
        bff.set("nacos.server", nacos.addr())
            .set("telemetry.exporter", "otlp")
            .set("telemetry.endpoint", collector.otlp())
            .set("rate_limit.store", "redis")
            // Nobody is there.
            .set("rate_limit.redis.url", format!("redis://{}", nacos.addr()))
    })
    .await;
    // A retry, so that there is one to count.
    t.greeters[0].network(bff_tests::chaos::Network::Cut);
    t.bff.greets().await;
    t.greeters[0].network(bff_tests::chaos::Network::Up);
    assert!(t.bff.greets().await);
    // And an error.
    t.greeters[0].script(|script| script.fail_with = Some(tonic::Code::PermissionDenied));
    assert!(!t.bff.greets().await);
    let (_, page) = t.bff.admin("/metrics").await;
    let series: String = page
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| format!("{line}\n"))
        .collect();
    let served = named(&series);
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy");
    for file in ["grafana/bff.json", "prometheus/bff.rules.yml"] {
        let text = fs::read_to_string(deploy.join(file)).unwrap();
        let wanted = named(&text);
        assert!(wanted.len() > 5, "{file} names {wanted:?}");
        let missing: Vec<_> = wanted.difference(&served).collect();
        assert!(missing.is_empty(), "{file}: {missing:?}\n{page}");
    }
}

#[test]
fn the_dashboard_is_json_and_shows_everything_that_an_alert_is_about() {
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy");
    let dashboard = fs::read_to_string(deploy.join("grafana/bff.json")).unwrap();
    let parsed: serde_json::Value = serde_json::from_str(&dashboard).unwrap();
    assert!(
        parsed["panels"]
            .as_array()
            .is_some_and(|panels| panels.len() > 10)
    );
    let alerts = fs::read_to_string(deploy.join("prometheus/bff.rules.yml")).unwrap();
    let expressions: String = alerts
        .lines()
        .filter(|line| line.trim_start().starts_with("expr:"))
        .collect();
    let missing: Vec<_> = named(&expressions)
        .difference(&named(&dashboard))
        .cloned()
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}
