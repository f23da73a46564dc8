//! What several subjects need.

use std::{
    env,
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bff_tests::{
    TestBff, TestBffBuilder,
    chaos::ChaosProxy,
    fixtures::{
        consul::{ConsulFixture, Health, Listed},
        greeter::GreeterFixture,
        nacos::NacosFixture,
    },
    process::Program,
};

/// The program that contains all others.
pub(crate) fn dev() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_dev"))
}

/// A greeter-srv process registered in `consul`.
pub(crate) async fn greeter_process(consul: &ConsulFixture, args: &[&str]) -> Program {
    let url = consul.url();
    let mut all = vec!["greeter-srv", "--listen", "127.0.0.1:0", "--consul", &url];
    if !args.iter().any(|arg| arg.starts_with("--drain-delay")) {
        all.push("--drain-delay=100ms");
    }
    all.extend_from_slice(args);
    Program::start(dev(), all).await.unwrap()
}

/// `n` greeter-srv processes with these arguments, all passing, and a BFF that knows them.
pub(crate) async fn processes(
    n: usize,
    args: &[&str],
) -> (ConsulFixture, Vec<Program>, Arc<TestBff>) {
    let consul = ConsulFixture::start().await.unwrap();
    let mut greeters = Vec::new();
    for _ in 0..n {
        greeters.push(greeter_process(&consul, args).await);
    }
    let passing = |list: &[Listed]| {
        let passing = list.iter().filter(|one| one.health == Health::Passing);
        passing.count() == n
    };
    consul.wait_for("greeter-srv", passing).await;
    let bff = TestBff::builder().consul(consul.url()).start().await;
    bff.wait_readyz(|_, text| text.contains(&format!("greeter: {n} instance")))
        .await;
    (consul, greeters, Arc::new(bff))
}

/// Waits for something that has to come: a test that waits for ever says nothing.
///
/// # Panics
/// When it does not come within half a minute.
pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> T {
    let waited = tokio::time::timeout(Duration::from_secs(30), what).await;
    waited.expect("it comes within half a minute")
}

/// A fixture Consul, `n` scriptable greeters registered in it, and a ready BFF.
pub(crate) struct System {
    pub(crate) consul: ConsulFixture,
    pub(crate) greeters: Vec<GreeterFixture>,
    pub(crate) bff: TestBff,
}

impl System {
    pub(crate) async fn start(n: usize) -> Self {
        Self::with(n, |bff| bff).await
    }

    pub(crate) async fn with(
        n: usize,
        configure: impl FnOnce(TestBffBuilder) -> TestBffBuilder,
    ) -> Self {
        let consul = ConsulFixture::start().await.unwrap();
        let mut greeters = Vec::new();
        for _ in 0..n {
            let greeter = GreeterFixture::start().await.unwrap();
            consul.register("greeter-srv", greeter.addr());
            greeters.push(greeter);
        }
        let bff = configure(TestBff::builder().consul(consul.url()))
            .start()
            .await;
        if n > 0 {
            let all = format!("greeter: {n} instance");
            bff.wait_readyz(|_, text| text.contains(&all)).await;
        }
        Self {
            consul,
            greeters,
            bff,
        }
    }
}

/// A Nacos server, a real one with `NACOS_ADDR` set and otherwise a fixture, with a network of
/// its own that breaks on command, and a document that no other test knows of.
pub(crate) struct Center {
    pub(crate) fixture: Option<NacosFixture>,
    pub(crate) network: ChaosProxy,
    pub(crate) data_id: String,
    addr: String,
    http: reqwest::Client,
}

impl Center {
    pub(crate) async fn start() -> Self {
        match env::var("NACOS_ADDR") {
            Ok(addr) => Self::at(addr, None).await,
            Err(_) => Self::of(NacosFixture::start().await.unwrap()).await,
        }
    }

    pub(crate) async fn of(fixture: NacosFixture) -> Self {
        Self::at(fixture.addr().to_string(), Some(fixture)).await
    }

    async fn at(addr: String, fixture: Option<NacosFixture>) -> Self {
        static DOCUMENTS: AtomicUsize = AtomicUsize::new(0);
        let number = DOCUMENTS.fetch_add(1, Ordering::Relaxed);
        let http: SocketAddr = addr.parse().expect("NACOS_ADDR is an address");
        let grpc = SocketAddr::from((http.ip(), http.port() + 1000));
        Self {
            fixture,
            network: ChaosProxy::start(grpc).await.unwrap(),
            data_id: format!("bff-{}-{number}.toml", std::process::id()),
            addr,
            http: reqwest::Client::new(),
        }
    }

    /// Tells a BFF to follow the document.
    pub(crate) fn followed(&self, bff: TestBffBuilder) -> TestBffBuilder {
        bff.set("nacos.server", &self.addr)
            .set("nacos.grpc_port", self.network.addr().port())
            .set("nacos.data_id", &self.data_id)
    }

    /// Its address, as `nacos.server` has it.
    pub(crate) fn server(&self) -> &str {
        &self.addr
    }

    fn url(&self) -> String {
        format!("http://{}/nacos/v1/cs/configs", self.addr)
    }

    fn names(&self) -> [(&str, &str); 2] {
        [("dataId", &self.data_id), ("group", "DEFAULT_GROUP")]
    }

    /// Publishes the document as a person does, and returns what the server says.
    pub(crate) async fn publish(&self, content: &str) -> reqwest::Response {
        let [data_id, group] = self.names();
        let form = [data_id, group, ("content", content)];
        let answer = self.http.post(self.url()).form(&form).send().await;
        answer.unwrap()
    }

    pub(crate) async fn read(&self) -> reqwest::Response {
        let question = self.http.get(self.url()).query(&self.names());
        question.send().await.unwrap()
    }

    pub(crate) async fn remove(&self) {
        let request = self.http.delete(self.url()).query(&self.names());
        assert!(request.send().await.unwrap().status().is_success());
    }
}

/// The value of a metric on a page of them; zero if it is not there.
pub(crate) fn metric(page: &str, name: &str) -> f64 {
    page.lines()
        .find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
        .unwrap_or(0.0)
}
