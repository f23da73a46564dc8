//! Connections of clients: those that say nothing, too many, and the end of all.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bff_tests::{
    Load, TestBff,
    fixtures::{consul::Health, greeter::GreeterFixture},
    process::Program,
};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, interval},
};

use crate::support::{System, dev, soon};

const MS: Duration = Duration::from_millis(1);

/// A connection over which HTTP/1.1 is spoken by hand.
struct Raw(TcpStream);

impl Raw {
    async fn connect(addr: SocketAddr) -> Self {
        Self(TcpStream::connect(addr).await.unwrap())
    }

    async fn say(&mut self, text: &str) {
        // Whether the other side is there is what the tests ask.
        let _ = self.0.write_all(text.as_bytes()).await;
    }

    /// Waits until the other side closes.
    async fn closed(&mut self) {
        let mut buffer = [0; 4096];
        while matches!(self.0.read(&mut buffer).await, Ok(1..)) {}
    }

    /// Asks for `/livez` and returns the answer's head and body, which has a known length.
    async fn livez(&mut self) -> String {
        self.say("GET /livez HTTP/1.1\r\nhost: bff\r\n\r\n").await;
        let mut answer = String::new();
        while !answer.ends_with("ok\n") && !answer.ends_with("ok") {
            let mut buffer = [0; 4096];
            let read = soon(self.0.read(&mut buffer)).await.unwrap();
            assert!(read > 0, "closed after {answer:?}");
            answer += std::str::from_utf8(&buffer[..read]).unwrap();
        }
        answer
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn f22_connections_that_send_half_a_head_or_nothing_are_closed_in_its_time() {
    let system = System::with(1, |bff| bff.set("http.header_timeout", "500ms")).await;
    let bff = Arc::new(system.bff);
    let mut idle = Raw::connect(bff.addr()).await;
    idle.livez().await;
    let mut silent = Vec::new();
    for n in 0..200 {
        let mut one = Raw::connect(bff.addr()).await;
        match n % 4 {
            0 => {}
            1 => one.say("GET /livez HTTP/1.1\r\nhost: ").await,
            // Half of HTTP/2's first words.
            2 => one.say("PRI * HTTP/2.0\r\n").await,
            _ => {
                one.say("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
                    .await
            }
        }
        silent.push(one);
    }
    // One that sends a byte at a time gains nothing by it.
    let mut dripping = Raw::connect(bff.addr()).await;
    let drips = async {
        let mut pace = interval(50 * MS);
        for byte in "GET /livez HTTP/1.1\r\nhost: bff\r\nx: "
            .chars()
            .chain(std::iter::repeat('a'))
        {
            pace.tick().await;
            let written = dripping.0.write_all(byte.to_string().as_bytes()).await;
            if written.is_err() {
                return;
            }
        }
    };
    let load = Load::clients(&bff, 2);
    let closed = async {
        for one in &mut silent {
            one.closed().await;
        }
    };
    soon(async { tokio::join!(closed, drips) }).await;
    load.wait_for(10).await;
    assert_eq!(load.failures().await, 0);
    // Between two requests a connection may take longer than that.
    idle.livez().await;
}

#[tokio::test]
async fn f22_five_thousand_sockets_that_say_nothing_are_gone_in_time_and_requests_are_served() {
    // Each is a file here and one there, and what a process may have is little by default.
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, most, most).unwrap();
    let sockets = 5_000.min(usize::try_from(most).unwrap_or(usize::MAX) / 2);
    let greeter = GreeterFixture::start().await.unwrap();
    let endpoints = format!("[\"http://{}\"]", greeter.addr());
    let args = [
        "bff",
        "run",
        "--listen=127.0.0.1:0",
        "--admin=none",
        "--set=consul.register=false",
        "--set=http.header_timeout=3s",
        "--set=http.max_connections_per_client=10000",
        &format!("--set=upstreams.greeter.endpoints={endpoints}"),
    ];
    let program = Program::start(dev(), args).await.unwrap();
    let bff = TestBff::at(program.addr());
    assert!(bff.greets().await);
    let began = Instant::now();
    let mut silent = Vec::with_capacity(sockets);
    for _ in 0..sockets {
        silent.push(Raw::connect(program.addr()).await);
    }
    assert!(bff.greets().await);
    let closed = async {
        for one in &mut silent {
            one.closed().await;
        }
    };
    soon(closed).await;
    println!(
        "F22  {sockets} silent sockets: gone {:?} after the first",
        began.elapsed()
    );
    assert!(bff.greets().await);
}

#[tokio::test]
async fn a_connection_that_stops_in_the_middle_of_its_second_head_is_closed() {
    let system = System::with(0, |bff| bff.set("http.header_timeout", "200ms")).await;
    let mut raw = Raw::connect(system.bff.addr()).await;
    raw.livez().await;
    raw.say("GET /livez HTTP/1.1\r\n").await;
    soon(raw.closed()).await;
}

#[tokio::test]
async fn an_idle_connection_is_closed_in_its_time() {
    let system = System::with(0, |bff| bff.set("http.idle_timeout", "1s")).await;
    let mut raw = Raw::connect(system.bff.addr()).await;
    raw.livez().await;
    soon(raw.closed()).await;
}

#[tokio::test]
async fn a_body_that_does_not_come_is_answered_at_the_requests_deadline() {
    let system = System::with(0, |bff| bff.set("http.request_timeout", "200ms")).await;
    let mut raw = Raw::connect(system.bff.addr()).await;
    raw.say("POST /graphql HTTP/1.1\r\nhost: bff\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{")
        .await;
    let mut answer = [0; 12];
    soon(raw.0.read_exact(&mut answer)).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 408");
}

async fn metric(bff: &TestBff, name: &str) -> f64 {
    let (_, text) = bff.admin("/metrics").await;
    let line = text.lines().find(|line| line.starts_with(name));
    let value = line.and_then(|line| line.rsplit(' ').next());
    value.map_or(0.0, |value| value.parse().unwrap())
}

#[tokio::test]
async fn further_connections_wait_until_one_ends_and_a_metric_says_so() {
    let system = System::with(0, |bff| bff.set("http.max_connections", 3)).await;
    let addr = system.bff.addr();
    let mut open = Vec::new();
    for _ in 0..3 {
        let mut raw = Raw::connect(addr).await;
        raw.livez().await;
        open.push(raw);
    }
    // Whoever reads the metrics takes no place.
    assert_eq!(metric(&system.bff, "bff_http_connections ").await, 3.0);
    let mut waiting = Raw::connect(addr).await;
    waiting
        .say("GET /livez HTTP/1.1\r\nhost: bff\r\n\r\n")
        .await;
    let mut pace = interval(5 * MS);
    soon(async {
        while metric(&system.bff, "bff_http_connections_full_total").await < 1.0 {
            pace.tick().await;
        }
    })
    .await;
    drop(open.pop());
    let mut answer = [0; 12];
    soon(waiting.0.read_exact(&mut answer)).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
}

#[tokio::test]
async fn one_address_has_no_more_than_its_share_of_connections() {
    let system = System::with(0, |bff| bff.set("http.max_connections_per_client", 2)).await;
    let mut first = Raw::connect(system.bff.addr()).await;
    first.livez().await;
    let mut second = Raw::connect(system.bff.addr()).await;
    second.livez().await;
    let mut third = Raw::connect(system.bff.addr()).await;
    soon(third.closed()).await;
    first.livez().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f27_a_stop_says_so_first_serves_on_and_lets_requests_finish() {
    let system = System::with(1, |bff| {
        bff.set("http.drain_delay", "1s")
            .set("consul.register", true)
            .set("http.header_timeout", "5m")
            .set("upstreams.greeter.timeout", "10s")
            .set("upstreams.greeter.attempt_timeout", "9s")
    })
    .await;
    let registered = |list: &[bff_tests::fixtures::consul::Listed]| {
        list.iter().any(|one| one.health == Health::Passing)
    };
    soon(system.consul.wait_for("bff", registered)).await;
    let addr = system.bff.addr();
    let url = system.bff.url("/readyz");
    let greeter = &system.greeters[0];
    // In flight until after the delay.
    greeter.script(|script| script.latency = 2 * Duration::from_secs(1));
    let client = TestBff::at(addr);
    let requests: Vec<_> = (0..50)
        .map(|_| tokio::spawn(async move { TestBff::at(addr).greets().await }))
        .collect();
    let mut pace = interval(5 * MS);
    soon(async {
        while greeter.call_count() < 50 {
            pace.tick().await;
        }
    })
    .await;
    let mut keeps = Raw::connect(addr).await;
    assert!(!keeps.livez().await.contains("connection: close"));
    greeter.script(|script| script.latency = Duration::ZERO);
    // As browsers do, which connect before they know what to ask.
    let mut silent = Raw::connect(addr).await;
    let stopping = tokio::spawn(system.bff.stop());
    // Not ready, not in Consul, and serving whoever does not know it yet.
    soon(async {
        while client.get("/readyz").await.0 != 503 {
            pace.tick().await;
        }
    })
    .await;
    soon(system.consul.wait_for("bff", |list| list.is_empty())).await;
    assert!(client.greets().await);
    assert_eq!(reqwest::get(&url).await.unwrap().status(), 503);
    // What was kept open is closed, politely.
    soon(keeps.closed()).await;
    soon(silent.closed()).await;
    for request in requests {
        assert!(request.await.unwrap());
    }
    soon(stopping).await.unwrap();
    assert!(TcpStream::connect(addr).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_http2_connection_kept_for_later_is_given_up_with_its_first_request() {
    let system = System::with(0, |bff| {
        bff.set("http.drain_delay", "4s")
            .set("http.header_timeout", "5m")
    })
    .await;
    let addr = system.bff.addr();
    let socket = TcpStream::connect(addr).await.unwrap();
    let (mut requests, connection) = h2::client::handshake(socket).await.unwrap();
    let ended = tokio::spawn(connection);
    let stopping = tokio::spawn(system.bff.stop());
    // Until kept connections are given up.
    let mut pace = interval(20 * MS);
    soon(async {
        while !Raw::connect(addr)
            .await
            .livez()
            .await
            .contains("connection: close")
        {
            pace.tick().await;
        }
    })
    .await;
    let request = http::Request::get(format!("http://{addr}/livez"));
    let request = request.body(()).unwrap();
    let (answer, _) = requests.send_request(request, true).unwrap();
    assert_eq!(soon(answer).await.unwrap().status(), 200);
    soon(ended).await.unwrap().unwrap();
    // Sooner than everybody has to go.
    assert!(TcpStream::connect(addr).await.is_ok());
    soon(stopping).await.unwrap();
}
