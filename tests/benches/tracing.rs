//! What tracing costs a query, and what a collector that hangs adds: servers that differ only in
//! `[telemetry]`, asked one after the other, query by query, in an order that changes. So whatever
//! else the machine does falls on all of them alike. Ratios are to the one that traces nothing.

use std::{io, time::Duration};

use bff_tests::{
    TestBff,
    chaos::Network,
    fixtures::{collector::CollectorFixture, greeter::GreeterFixture},
};
use tokio::time::Instant;

const QUERIES: usize = 10_000;

struct Server {
    name: &'static str,
    bff: TestBff,
    /// Each query's time, of all rounds.
    took: Vec<Duration>,
}

impl Server {
    async fn start(
        name: &'static str,
        greeter: &GreeterFixture,
        telemetry: &[(&str, String)],
    ) -> Self {
        let endpoints = format!("[\"http://{}\"]", greeter.addr());
        let mut bff = TestBff::builder().set("upstreams.greeter.endpoints", endpoints);
        for (key, value) in telemetry {
            bff = bff.set(&format!("telemetry.{key}"), value);
        }
        Self {
            name,
            bff: bff.start().await,
            took: Vec::new(),
        }
    }

    async fn ask(&mut self) {
        let start = Instant::now();
        // How it ends does not matter here, only how long it takes.
        let _ = self.bff.greets().await;
        self.took.push(start.elapsed());
    }

    fn mean(&self) -> f64 {
        self.took.iter().map(Duration::as_secs_f64).sum::<f64>() / self.took.len() as f64
    }

    /// What `percent` of the queries stay below.
    fn quantile(&mut self, percent: usize) -> f64 {
        self.took.sort_unstable();
        self.took[self.took.len() * percent / 100].as_secs_f64()
    }
}

/// A collector on a thread of its own, as a real one is a process of its own; returns where it takes
/// OTLP.
fn collector(network: Network) -> io::Result<String> {
    let (started, address) = std::sync::mpsc::channel();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    std::thread::spawn(move || {
        runtime.block_on(async {
            if let Ok(collector) = CollectorFixture::start().await {
                collector.network(network);
                // Whoever asked may have gone.
                let _ = started.send(collector.otlp());
                std::future::pending::<()>().await;
            }
        });
    });
    address.recv().map_err(io::Error::other)
}

#[tokio::main]
async fn main() -> io::Result<()> {
    let greeter = GreeterFixture::start().await?;
    let (healthy, hanging) = (collector(Network::Up)?, collector(Network::Frozen)?);
    let with = |endpoint: String, ratio: f64, keep_errors: bool| {
        [
            ("exporter", "otlp".to_owned()),
            ("endpoint", endpoint),
            ("sample_ratio", ratio.to_string()),
            ("keep_errors", keep_errors.to_string()),
        ]
    };
    let to = || healthy.clone();
    let mut servers = [
        Server::start("none", &greeter, &[]).await,
        Server::start("ratio 0", &greeter, &with(to(), 0.0, false)).await,
        Server::start("ratio 0.01", &greeter, &with(to(), 0.01, false)).await,
        Server::start("ratio 0.01, errors kept", &greeter, &with(to(), 0.01, true)).await,
        Server::start("ratio 1", &greeter, &with(to(), 1.0, true)).await,
        Server::start(
            "ratio 1, collector hangs",
            &greeter,
            &with(hanging.clone(), 1.0, true),
        )
        .await,
    ];
    let count = servers.len();
    for query in 0..QUERIES + QUERIES / 10 {
        // Everybody follows everybody equally often.
        let step = [1, 5][query % 2];
        for turn in 0..count {
            servers[(query + turn * step) % count].ask().await;
        }
        // The first ones make connections and fill caches.
        if query == QUERIES / 10 {
            servers.iter_mut().for_each(|server| server.took.clear());
        }
    }
    let none = [
        servers[0].mean(),
        servers[0].quantile(50),
        servers[0].quantile(99),
    ];
    println!("{QUERIES} queries each; ratios to no tracing");
    println!(
        "{:<26} {:>9} {:>6} {:>10} {:>6} {:>9} {:>6}",
        "", "mean", "ratio", "median", "ratio", "p99", "ratio"
    );
    for server in &mut servers {
        let took = [server.mean(), server.quantile(50), server.quantile(99)];
        let columns = took
            .iter()
            .zip(none)
            .map(|(took, none)| format!("{:>7.1} us {:>6.3}", took * 1e6, took / none));
        println!(
            "{:<25} {}",
            server.name,
            columns.collect::<Vec<_>>().join(" ")
        );
    }
    Ok(())
}
