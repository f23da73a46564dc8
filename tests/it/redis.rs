//! Limits that replicas share in Redis, against a real `redis-server` that is started here,
//! stopped, frozen and killed: `just redis`. `REDIS_SERVER` names the program if it is not on the
//! path.

use std::{
    env, fs,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
    time::Duration,
};

use bff_tests::{Load, TestBff, process::Program};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::{Instant, interval, timeout},
};

use crate::support::{System, dev, metric};

/// A server of its own, killed at the end.
struct Redis {
    process: Child,
    port: u16,
    dir: tempfile::TempDir,
}

impl Redis {
    /// The server cannot choose a port itself, so ports are tried until it keeps one. No two
    /// tests try the same: one that was killed comes back where it was.
    async fn start() -> Self {
        static TRIED: AtomicU16 = AtomicU16::new(0);
        let dir = tempfile::tempdir().unwrap();
        // Below the ports that the system hands out itself.
        let first = u16::try_from(std::process::id() % 12_000).unwrap() + 20_000;
        for _ in 0..100 {
            let port = first + TRIED.fetch_add(1, Ordering::Relaxed);
            let mut process = spawn(port, dir.path());
            if answers(&mut process, port).await {
                return Self { process, port, dir };
            }
        }
        panic!("redis-server finds no port");
    }

    fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// What it answers to a command.
    async fn ask(&self, command: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
        let lines = format!("{command}\r\nQUIT\r\n");
        stream.write_all(lines.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.process.id()).unwrap();
        kill(Pid::from_raw(pid), signal).unwrap();
    }

    fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Starts it again where it was, without its data.
    async fn restart(&mut self) {
        self.process = spawn(self.port, self.dir.path());
        assert!(answers(&mut self.process, self.port).await);
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn spawn(port: u16, dir: &Path) -> Child {
    let program = env::var("REDIS_SERVER").unwrap_or_else(|_| "redis-server".to_owned());
    Command::new(program)
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
        .args(["--save", "", "--appendonly", "no", "--dir"])
        .arg(dir)
        .stdout(Stdio::null())
        .spawn()
        .expect("redis-server (Debian: apt install redis-server)")
}

/// Whether it is this process that answers on the port; not, if it ended because the port was
/// somebody else's.
async fn answers(process: &mut Child, port: u16) -> bool {
    let wanted = format!("process_id:{}\r", process.id());
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut pace = interval(Duration::from_millis(10));
    while Instant::now() < deadline && process.try_wait().unwrap().is_none() {
        if info(port).await.is_some_and(|info| info.contains(&wanted)) {
            return true;
        }
        pace.tick().await;
    }
    false
}

async fn info(port: u16) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
    stream.write_all(b"INFO server\r\nQUIT\r\n").await.ok()?;
    let mut text = String::new();
    let read = stream.read_to_string(&mut text);
    timeout(Duration::from_secs(1), read).await.ok()?.ok()?;
    Some(text)
}

/// A system whose `rules` on greetings are counted in `redis`.
async fn limited(redis: &Redis, rules: &str) -> System {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("bff.toml");
    fs::write(&file, rules).unwrap();
    let system = System::with(1, |bff| {
        bff.file(&file)
            .set("rate_limit.store", "redis")
            .set("rate_limit.redis.url", redis.url())
            .set("rate_limit.redis.prefix", dir.path().display())
            // A busy test machine is no Redis that is away.
            .set("rate_limit.redis.timeout", "1s")
    })
    .await;
    wait_store(&system.bff, 1.0).await;
    system
}

fn rule(text: &str) -> String {
    format!("[rate_limit.fields.\"Query.hello\"]\n{text}\n")
}

async fn wait_store(bff: &TestBff, up: f64) {
    bff.wait_page("/metrics", |_, page| {
        page.contains("bff_rate_limit_store_up") && metric(page, "bff_rate_limit_store_up") == up
    })
    .await;
}

async fn greetings(bff: &TestBff, tries: usize) -> usize {
    let mut greeted = 0;
    for _ in 0..tries {
        greeted += usize::from(bff.greets().await);
    }
    greeted
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server: just redis"]
async fn two_processes_hold_one_limit_together() {
    let redis = Redis::start().await;
    let System {
        consul, greeters, ..
    } = System::start(1).await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("bff.toml");
    fs::write(&file, rule("calls = 1000\nperiod = '7d'")).unwrap();
    let mut programs = Vec::new();
    let mut queries = JoinSet::new();
    for _ in 0..2 {
        let args = [
            "bff".to_owned(),
            "run".to_owned(),
            "--listen=127.0.0.1:0".to_owned(),
            "--admin=127.0.0.1:0".to_owned(),
            format!("--consul={}", consul.url()),
            format!("--config={}", file.display()),
            "--set=consul.register=false".to_owned(),
            "--set=rate_limit.store=redis".to_owned(),
            format!("--set=rate_limit.redis.url={}", redis.url()),
            "--set=rate_limit.redis.timeout=1s".to_owned(),
        ];
        let mut program = Program::start(dev(), args).await.unwrap();
        let bff = Arc::new(TestBff::of(&mut program).await);
        bff.wait_ready().await;
        wait_store(&bff, 1.0).await;
        for _ in 0..4 {
            let bff = Arc::clone(&bff);
            queries.spawn(async move { greetings(&bff, 200).await });
        }
        programs.push(program);
    }
    let passed: usize = queries.join_all().await.into_iter().sum();
    println!("F26  two processes on one Redis: {passed} of 1600 pass a limit of 1000");
    assert!(passed.abs_diff(1000) <= 1, "{passed}");
    for program in programs {
        program.stop(Duration::from_secs(20)).await.unwrap();
    }
    drop(greeters);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server: just redis"]
async fn redis_killed_frozen_and_restarted_in_the_middle_loses_no_query() {
    let mut redis = Redis::start().await;
    let t = limited(&redis, &rule("calls = 1000000\nperiod = '1s'")).await;
    let bff = Arc::new(t.bff);
    let load = Load::clients(&bff, 8);
    load.wait_for(200).await;
    redis.kill();
    wait_store(&bff, 0.0).await;
    load.wait_for(200).await;
    let (status, text) = bff.admin("/readyz?verbose").await;
    assert_eq!(status, 200);
    assert!(text.contains("counts for itself"), "{text}");
    redis.restart().await;
    wait_store(&bff, 1.0).await;
    load.wait_for(200).await;
    redis.signal(Signal::SIGSTOP);
    wait_store(&bff, 0.0).await;
    load.wait_for(200).await;
    redis.signal(Signal::SIGCONT);
    wait_store(&bff, 1.0).await;
    load.wait_for(200).await;
    assert_eq!(load.failures().await, 0);
}

#[tokio::test]
#[ignore = "needs redis-server: just redis"]
async fn what_was_used_in_redis_is_used_up_when_it_goes_away() {
    let mut redis = Redis::start().await;
    let t = limited(&redis, &rule("calls = 5\nperiod = '1d'")).await;
    assert_eq!(greetings(&t.bff, 3).await, 3);
    redis.kill();
    assert_eq!(greetings(&t.bff, 5).await, 2);
}

#[tokio::test]
#[ignore = "needs redis-server: just redis"]
async fn each_kind_of_rule_counts_in_redis_as_it_does_here() {
    let redis = Redis::start().await;
    let cases = [
        (rule("calls = 10\nperiod = '1d'"), 10),
        (rule("calls = 7\nperiod = '1d'"), 7),
        (rule("calls = 10\nperiod = '1d'\ncost = 4"), 2),
        (rule("calls = 6\nperiod = '1d'\nper = 'global'"), 6),
        (
            rule("calls = 9\nperiod = '1d'\nalgorithm = 'fixed-window'"),
            9,
        ),
        (rule("calls = 1\nperiod = '1d'\ndry_run = true"), 20),
        (
            "[[rate_limit.fields.'Query.hello']]\ncalls = 1\nperiod = '1d'\ndry_run = true\n\
             [[rate_limit.fields.'Query.hello']]\ncalls = 4\nperiod = '1d'\n\
             [[rate_limit.fields.'Query.hello']]\ncalls = 8\nperiod = '1d'\n"
                .to_owned(),
            4,
        ),
    ];
    for (rules, passes) in cases {
        let t = limited(&redis, &rules).await;
        assert_eq!(greetings(&t.bff, 20).await, passes, "{rules}");
        let (_, page) = t.bff.admin("/metrics").await;
        assert_eq!(
            metric(&page, "bff_rate_limit_fallbacks_total"),
            0.0,
            "{page}"
        );
    }
}

#[tokio::test]
#[ignore = "needs redis-server: just redis"]
async fn redis_says_when_to_come_back_and_keeps_its_word() {
    let redis = Redis::start().await;
    for algorithm in ["gcra", "fixed-window"] {
        let text = format!("calls = 2\nperiod = '1s'\nalgorithm = '{algorithm}'");
        let t = limited(&redis, &rule(&text)).await;
        let mut wait = None;
        while wait.is_none() {
            let answer = t.bff.query("{ hello { message } }").await;
            wait = answer["errors"][0]["extensions"]["retryAfterMs"].as_u64();
        }
        let wait = Duration::from_millis(wait.unwrap());
        let most = match algorithm {
            "gcra" => Duration::from_millis(500),
            _ => Duration::from_secs(1),
        };
        assert!(!wait.is_zero() && wait <= most, "{algorithm}: {wait:?}");
        // This is the thing itself: the time that was named.
        tokio::time::sleep(wait).await;
        assert!(t.bff.greets().await, "{algorithm}");
    }
}

#[tokio::test]
#[ignore = "needs redis-server: just redis"]
async fn a_clock_that_was_set_back_bans_nobody() {
    let redis = Redis::start().await;
    let t = limited(&redis, &rule("calls = 3\nperiod = '1m'")).await;
    assert_eq!(greetings(&t.bff, 5).await, 3);
    // What the bucket would hold if the clock had been an hour ahead until now.
    let keys = redis.ask("KEYS *hello*").await;
    let key = keys.lines().find(|line| line.contains("hello")).unwrap();
    let time = redis.ask("TIME").await;
    let seconds: u64 = time.lines().nth(2).unwrap().trim().parse().unwrap();
    redis
        .ask(&format!("SET {key} {}", (seconds + 3600) * 1_000_000))
        .await;
    assert!(t.bff.greets().await);
}

#[tokio::test]
#[ignore = "needs redis-server: just redis"]
async fn a_server_that_answers_with_errors_is_not_left_and_not_believed() {
    let redis = Redis::start().await;
    let t = limited(&redis, &rule("calls = 3\nperiod = '1d'")).await;
    assert_eq!(greetings(&t.bff, 1).await, 1);
    let keys = redis.ask("KEYS *hello*").await;
    let key = keys
        .lines()
        .find(|line| line.contains("hello"))
        .unwrap()
        .to_owned();
    redis.ask(&format!("DEL {key}")).await;
    redis.ask(&format!("LPUSH {key} nonsense")).await;
    // It decides alone, having counted along.
    assert_eq!(greetings(&t.bff, 5).await, 2);
    wait_store(&t.bff, 0.0).await;
    redis.ask(&format!("DEL {key}")).await;
    assert_eq!(greetings(&t.bff, 5).await, 3);
    wait_store(&t.bff, 1.0).await;
}

#[tokio::test]
#[ignore = "needs redis-server: just redis"]
async fn keys_go_away_when_they_say_nothing_any_more() {
    let redis = Redis::start().await;
    let t = limited(&redis, &rule("calls = 100\nperiod = '1s'")).await;
    assert_eq!(greetings(&t.bff, 5).await, 5);
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut pace = interval(Duration::from_millis(20));
    loop {
        let text = redis.ask("DBSIZE").await;
        if text.starts_with(":0") {
            break;
        }
        assert!(Instant::now() < deadline, "{text}");
        pace.tick().await;
    }
}
