//! Two BFFs behind a proxy that learns of their ends late, replaced one after the other.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bff_tests::{
    TestBff,
    fixtures::{consul::ConsulFixture, greeter::GreeterFixture},
    websocket::{Client, subscribe},
};
use serde_json::{Value, json};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::interval,
};

use crate::support::soon;

/// How late the proxy learns who is ready.
const LATE: Duration = Duration::from_secs(2);
const CONNECTIONS: usize = 20;
const STREAMS: usize = 10;

/// A proxy of connections: each goes to the next of those that were ready when it looked last.
struct Proxy {
    addr: SocketAddr,
    all: Arc<Mutex<Vec<SocketAddr>>>,
    ready: Arc<Mutex<Vec<SocketAddr>>>,
    tasks: JoinSet<()>,
}

impl Proxy {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (all, ready) = <(Arc<Mutex<Vec<_>>>, Arc<Mutex<Vec<_>>>)>::default();
        let mut tasks = JoinSet::new();
        let (from, to) = (Arc::clone(&all), Arc::clone(&ready));
        tasks.spawn(async move {
            let mut looks = interval(LATE);
            loop {
                looks.tick().await;
                let candidates: Vec<SocketAddr> = locked(&from).clone();
                let mut good = Vec::new();
                for addr in candidates {
                    // On a connection of its own, as probes are.
                    let answer = reqwest::Client::new()
                        .get(format!("http://{addr}/readyz"))
                        .send();
                    if answer.await.is_ok_and(|answer| answer.status() == 200) {
                        good.push(addr);
                    }
                }
                *locked(&to) = good;
            }
        });
        let backends = Arc::clone(&ready);
        tasks.spawn(async move {
            let mut pairs = JoinSet::new();
            for n in 0.. {
                let Ok((mut client, _)) = listener.accept().await else {
                    return;
                };
                let good: Vec<_> = locked(&backends).clone();
                let Some(backend) = good.get(n % good.len().max(1)).copied() else {
                    continue;
                };
                pairs.spawn(async move {
                    if let Ok(mut server) = TcpStream::connect(backend).await {
                        let _ = copy_bidirectional(&mut client, &mut server).await;
                    }
                });
            }
        });
        Self {
            addr,
            all,
            ready,
            tasks,
        }
    }

    /// Waits until `wanted` are those it sends to.
    async fn sends_to(&self, wanted: &[SocketAddr]) {
        let mut pace = interval(Duration::from_millis(20));
        soon(async {
            while *locked(&self.ready) != wanted {
                pace.tick().await;
            }
        })
        .await;
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Asks through `proxy`, over connections that are kept, until `done`.
async fn ask(proxy: SocketAddr, done: Arc<AtomicBool>, asked: Arc<AtomicUsize>) -> Vec<String> {
    let http = reqwest::Client::new();
    let mut failures = Vec::new();
    while !done.load(Ordering::Relaxed) {
        let request = http
            .post(format!("http://{proxy}/graphql"))
            .json(&json!({ "query": "{ hello { message } }" }));
        let answer = async {
            let answer = request.send().await.map_err(|error| format!("{error:?}"))?;
            let answer: Value = answer.json().await.map_err(|error| format!("{error:?}"))?;
            match answer["data"]["hello"]["message"] == "Hello, iveBoy!" {
                true => Ok(()),
                false => Err(answer.to_string()),
            }
        };
        if let Err(failure) = answer.await {
            failures.push(failure);
        }
        asked.fetch_add(1, Ordering::Relaxed);
    }
    failures
}

/// One connection with streams; what it was told at its end: how many were completed, and the code.
async fn listen(proxy: SocketAddr) -> (usize, u16) {
    let mut client = Client::connect(proxy, &[]).await;
    for id in 0..STREAMS {
        let mut message = subscribe("subscription { greetings { message } }");
        message["id"] = json!(id.to_string());
        client.send(message).await;
    }
    let (messages, code) = client.last_words().await;
    let completed = messages
        .iter()
        .filter(|message| message["type"] == "complete");
    (completed.count(), code)
}

#[tokio::test(flavor = "multi_thread")]
async fn two_bffs_are_replaced_under_load_and_no_query_fails_and_every_subscription_is_told() {
    let consul = ConsulFixture::start().await.unwrap();
    let greeter = GreeterFixture::start().await.unwrap();
    greeter.script(|script| (script.greetings, script.holds) = (1, true));
    consul.register("greeter-srv", greeter.addr());
    let start = async || {
        let bff = TestBff::builder()
            .consul(consul.url())
            .set("http.drain_delay", "3s")
            .set("http.drain_timeout", "15s")
            .start()
            .await;
        bff.wait_ready().await;
        bff
    };
    let proxy = Proxy::start().await;
    let mut bffs = vec![start().await, start().await];
    let addrs = |bffs: &[TestBff]| bffs.iter().map(TestBff::addr).collect::<Vec<_>>();
    *locked(&proxy.all) = addrs(&bffs);
    proxy.sends_to(&addrs(&bffs)).await;

    let (done, asked) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicUsize::new(0)),
    );
    let mut queries = JoinSet::new();
    for _ in 0..8 {
        queries.spawn(ask(proxy.addr, Arc::clone(&done), Arc::clone(&asked)));
    }
    let mut listeners = JoinSet::new();
    for _ in 0..CONNECTIONS {
        listeners.spawn(listen(proxy.addr));
    }
    let all = CONNECTIONS * STREAMS;
    soon(greeter.open().wait_for(|open| *open == all))
        .await
        .unwrap();

    for _ in 0..2 {
        let new = start().await;
        locked(&proxy.all).push(new.addr());
        let old = bffs.remove(0);
        bffs.push(new);
        let gone = old.addr();
        // The proxy sees it only when it looks again.
        soon(old.stop()).await;
        locked(&proxy.all).retain(|addr| *addr != gone);
        proxy.sends_to(&addrs(&bffs)).await;
    }
    let before = asked.load(Ordering::Relaxed);
    let mut pace = interval(Duration::from_millis(20));
    soon(async {
        while asked.load(Ordering::Relaxed) < before + 200 {
            pace.tick().await;
        }
    })
    .await;
    done.store(true, Ordering::Relaxed);
    let failures: Vec<_> = queries.join_all().await.into_iter().flatten().collect();
    let ends = soon(listeners.join_all()).await;
    println!(
        "F27  two BFFs replaced: {} of {} queries failed; {} of {CONNECTIONS} connections told",
        failures.len(),
        asked.load(Ordering::Relaxed),
        ends.iter().filter(|end| **end == (STREAMS, 1001)).count(),
    );
    assert_eq!(failures, [""; 0]);
    assert!(ends.iter().all(|end| *end == (STREAMS, 1001)), "{ends:?}");
    drop(proxy.tasks);
}
