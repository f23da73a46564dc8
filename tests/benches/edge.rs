//! What clients that mean no good cost the others: a real BFF, ordinary queries with and without them in turns, and
//! the ratios at the end.

use std::{net::SocketAddr, path::Path, time::Duration};

use bff_tests::{
    TestBff, fixtures::greeter::GreeterFixture, heavy, process::Program, websocket::Client,
};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde_json::json;
use tokio::{
    io::AsyncReadExt,
    net::TcpStream,
    task::JoinSet,
    time::{Instant, interval, timeout},
};

const ROUNDS: u32 = 3;
const SILENT: usize = 5_000;

/// 200 queries a second for three seconds: the median, and the ninety-ninth of a hundred.
async fn queries(addr: SocketAddr) -> (Duration, Duration) {
    let client = reqwest::Client::new();
    let mut pace = interval(Duration::from_millis(5));
    let mut calls = JoinSet::new();
    for _ in 0..600 {
        pace.tick().await;
        let request = client
            .post(format!("http://{addr}/graphql"))
            .json(&json!({ "query": "{ hello { message } }" }));
        calls.spawn(async move {
            let start = Instant::now();
            let answer = request
                .send()
                .await
                .and_then(reqwest::Response::error_for_status);
            let answer = match answer {
                Ok(answer) => answer.text().await.unwrap_or_default(),
                Err(error) => error.to_string(),
            };
            assert!(answer.contains("Hello"), "{answer}");
            start.elapsed()
        });
    }
    let mut took = calls.join_all().await;
    took.sort_unstable();
    (took[took.len() / 2], took[took.len() * 99 / 100])
}

/// The CPU time a process has used, in milliseconds.
fn cpu(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let (_, rest) = stat.rsplit_once(") ").unwrap_or_default();
    let mut fields = rest
        .split(' ')
        .skip(11)
        .map_while(|field| field.parse::<u64>().ok());
    // A tick is ten milliseconds.
    (fields.next().unwrap_or_default() + fields.next().unwrap_or_default()) * 10
}

fn ratio(what: &str, with: Duration, without: Duration) {
    let ratio = with.as_secs_f64() / without.as_secs_f64();
    println!("{what}: {with:?} to {without:?} over {ROUNDS} rounds, ratio {ratio:.2}");
}

async fn unread(addr: SocketAddr) -> Vec<Client> {
    let name = "x".repeat(900 << 10);
    let query = "subscription($name: String!) { greetings(name: $name) { message } }";
    let mut clients = Vec::new();
    for _ in 0..8 {
        let mut client = Client::connect(addr, &[]).await;
        let payload = json!({ "query": query, "variables": { "name": name } });
        let subscribe = json!({ "id": "1", "type": "subscribe", "payload": payload });
        client.send(subscribe).await;
        clients.push(client);
    }
    clients
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    // Each silent socket is a file here and one there.
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    let greeter = GreeterFixture::start().await?;
    greeter.script(|script| (script.greetings, script.holds) = (50, true));
    let endpoints = format!(
        "upstreams.greeter.endpoints=[\"http://{}\"]",
        greeter.addr()
    );
    let args = [
        "bff",
        "run",
        "--listen=127.0.0.1:0",
        "--admin=none",
        "--set=consul.register=false",
        "--set=http.header_timeout=3s",
        "--set=http.max_connections_per_client=10000",
        "--set",
        &endpoints,
    ];
    let program = Program::start(Path::new(env!("CARGO_BIN_EXE_dev")), args).await?;
    let (addr, pid) = (program.addr(), program.pid().unwrap_or_default());
    let bff = TestBff::at(addr);
    queries(addr).await;

    let (mut alone, mut beside) = (Duration::ZERO, Duration::ZERO);
    let (mut alone_p99, mut beside_p99) = (Duration::ZERO, Duration::ZERO);
    for _ in 0..ROUNDS {
        let (median, p99) = queries(addr).await;
        (alone, alone_p99) = (alone + median, alone_p99 + p99);
        let clients = unread(addr).await;
        let (median, p99) = queries(addr).await;
        (beside, beside_p99) = (beside + median, beside_p99 + p99);
        drop(clients);
    }
    ratio(
        "median beside eight subscriptions of 900 KiB that nobody reads",
        beside,
        alone,
    );
    ratio("p99 beside them", beside_p99, alone_p99);

    for (what, body) in heavy::requests() {
        let before = cpu(pid);
        let times = 5;
        for _ in 0..times {
            bff.send(body.clone()).await;
        }
        println!("{what}: {} ms of a core each", (cpu(pid) - before) / times);
    }

    let (mut alone_p99, mut beside_p99) = (Duration::ZERO, Duration::ZERO);
    for _ in 0..ROUNDS {
        alone_p99 += queries(addr).await.1;
        let heavy = tokio::spawn(async move {
            let bff = TestBff::at(addr);
            for (_, body) in heavy::requests().iter().cycle() {
                bff.send(body.clone()).await;
            }
        });
        beside_p99 += queries(addr).await.1;
        heavy.abort();
    }
    ratio(
        "p99 beside a client of such requests",
        beside_p99,
        alone_p99,
    );

    let start = Instant::now();
    let mut silent = JoinSet::new();
    for _ in 0..SILENT {
        let mut socket = TcpStream::connect(addr).await?;
        silent.spawn(async move {
            let mut rest = Vec::new();
            // An end or a reset.
            let _ = socket.read_to_end(&mut rest).await;
        });
    }
    let meanwhile = Instant::now();
    assert!(bff.greets().await);
    let served = meanwhile.elapsed();
    let gone = timeout(Duration::from_secs(30), silent.join_all()).await;
    println!(
        "{SILENT} silent sockets: {}gone {:?} after the first, a query meanwhile took {served:?}",
        if gone.is_ok() { "" } else { "not " },
        start.elapsed()
    );
    Ok(())
}
