//! A BFF in this process, as the program runs it.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use bff_engine::{Bff, Sources};
use serde_json::{Value, json};
use tokio::{
    sync::oneshot,
    task::JoinHandle,
    time::{Instant, interval},
};

use crate::process::Program;

/// Builds a [`TestBff`].
#[derive(Debug, Default)]
pub struct TestBffBuilder {
    program: Option<Bff>,
    flags: Vec<(String, String)>,
    file: Option<PathBuf>,
}

impl TestBffBuilder {
    /// Sets a configuration key, such as `upstreams.greeter.timeout`.
    pub fn set(mut self, key: &str, value: impl ToString) -> Self {
        self.flags.push((key.to_owned(), value.to_string()));
        self
    }

    /// Reads a configuration file, for keys that a flag cannot name.
    pub fn file(mut self, file: &Path) -> Self {
        self.file = Some(file.to_owned());
        self
    }

    /// Finds services in the Consul at `url`.
    pub fn consul(self, url: impl ToString) -> Self {
        self.set("consul.address", url)
    }

    /// Another program than the one with the greeter.
    pub fn program(mut self, program: Bff) -> Self {
        self.program = Some(program);
        self
    }

    /// Starts it.
    ///
    /// # Panics
    /// When the configuration is bad or no port is left.
    #[expect(clippy::expect_used, reason = "a test that cannot start should say so")]
    pub async fn start(self) -> TestBff {
        let sources = Sources {
            flags: self.flags,
            file: self.file,
            ..Sources::default()
        };
        let program = self.program.unwrap_or_else(bff::bff);
        let server = program.build(&sources).await;
        let server = server.expect("a good configuration");
        let bound = server.bind().await.expect("free ports");
        let (addr, admin) = (bound.addr(), bound.admin());
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(bound.serve(async {
            let _ = stopped.await;
        }));
        TestBff {
            addr,
            admin,
            http: reqwest::Client::new(),
            stop: Some(stop),
            task: Some(task),
        }
    }
}

/// A running BFF.
#[derive(Debug)]
pub struct TestBff {
    addr: SocketAddr,
    admin: Option<SocketAddr>,
    http: reqwest::Client,
    stop: Option<oneshot::Sender<()>>,
    task: Option<JoinHandle<anyhow::Result<()>>>,
}

impl TestBff {
    /// A builder with the defaults, but for the ports, the registration and the delay of its end: few
    /// tests want them.
    pub fn builder() -> TestBffBuilder {
        TestBffBuilder::default()
            .set("http.listen", "127.0.0.1:0")
            .set("admin.listen", "127.0.0.1:0")
            .set("consul.register", false)
            // Nobody has to learn of its end.
            .set("http.drain_delay", "0s")
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// One that runs in a process of its own.
    ///
    /// # Panics
    /// When it has no admin listener.
    #[expect(clippy::expect_used, reason = "its pages are wanted")]
    pub async fn of(program: &mut Program) -> Self {
        let admin = program.admin().await.expect("an admin listener");
        let mut bff = Self::at(program.addr());
        bff.admin = Some(admin);
        bff
    }

    /// The same as whoever knows `addr` alone sees it: without the pages of its admin listener.
    pub fn at(addr: SocketAddr) -> Self {
        Self {
            addr,
            admin: None,
            http: reqwest::Client::new(),
            stop: None,
            task: None,
        }
    }

    /// A URL on its admin listener.
    ///
    /// # Panics
    /// When it has none.
    #[expect(clippy::expect_used, reason = "its pages are wanted")]
    pub fn admin_url(&self, path: &str) -> String {
        let admin = self.admin.expect("an admin listener");
        format!("http://{admin}{path}")
    }

    /// A URL on it.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }

    /// Executes a GraphQL operation and returns the whole answer.
    ///
    /// # Panics
    /// When there is no answer or it is no JSON.
    #[expect(clippy::expect_used, reason = "a test without an answer has failed")]
    pub async fn query(&self, query: &str) -> Value {
        let text = self.post(&json!({ "query": query })).await;
        serde_json::from_str(&text).expect("a JSON answer")
    }

    /// Sends a GraphQL request and returns the answer's body as it came.
    ///
    /// # Panics
    /// When there is no answer.
    #[expect(clippy::expect_used, reason = "a test without an answer has failed")]
    pub async fn post(&self, body: &Value) -> String {
        let request = self.http.post(self.url("/graphql")).json(body);
        let answer = request.send().await.expect("an answer");
        answer.text().await.expect("text")
    }

    /// Sends a body as JSON, which it may not be; the answer's status and how many bytes it has.
    ///
    /// # Panics
    /// When there is no answer.
    #[expect(clippy::expect_used, reason = "a test without an answer has failed")]
    pub async fn send(&self, body: String) -> (u16, usize) {
        let request = self.http.post(self.url("/graphql"));
        let request = request.header("content-type", "application/json");
        let answer = request.body(body).send().await.expect("an answer");
        let status = answer.status().as_u16();
        (status, answer.bytes().await.expect("a body").len())
    }

    /// Asks for a greeting and says whether it came without an error.
    pub async fn greets(&self) -> bool {
        let answer = self.query("{ hello { message } }").await;
        answer["data"]["hello"]["message"] == "Hello, iveBoy!" && answer.get("errors").is_none()
    }

    /// Fetches a page as text, with its status.
    ///
    /// # Panics
    /// When there is no answer.
    pub async fn get(&self, path: &str) -> (u16, String) {
        self.fetch(self.url(path)).await
    }

    /// Fetches a page of its admin listener.
    ///
    /// # Panics
    /// When there is no answer.
    pub async fn admin(&self, path: &str) -> (u16, String) {
        self.fetch(self.admin_url(path)).await
    }

    #[expect(clippy::expect_used, reason = "a test without an answer has failed")]
    async fn fetch(&self, url: String) -> (u16, String) {
        let answer = self.http.get(url).send().await.expect("an answer");
        (answer.status().as_u16(), answer.text().await.expect("text"))
    }

    /// Waits until `/readyz?verbose` fulfils `condition`.
    ///
    /// # Panics
    /// When it does not within half a minute.
    pub async fn wait_readyz(&self, condition: impl Fn(u16, &str) -> bool) {
        self.wait_page("/readyz?verbose", condition).await;
    }

    /// Waits until a page of its admin listener fulfils `condition`.
    ///
    /// # Panics
    /// When it does not within half a minute.
    pub async fn wait_page(&self, path: &str, condition: impl Fn(u16, &str) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(30);
        let mut pace = interval(Duration::from_millis(10));
        loop {
            let (status, text) = self.admin(path).await;
            if condition(status, &text) {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "{path} stayed at {status}: {text}"
            );
            pace.tick().await;
        }
    }

    /// Waits until it is ready.
    pub async fn wait_ready(&self) {
        self.wait_readyz(|status, _| status == 200).await;
    }

    /// Stops it as a signal would, and waits for the end of its drain.
    ///
    /// # Panics
    /// When it ends with an error.
    #[expect(clippy::expect_used, reason = "a test whose server failed has failed")]
    pub async fn stop(mut self) {
        drop(self.stop.take());
        if let Some(task) = self.task.take() {
            task.await.expect("no panic").expect("a clean end");
        }
    }
}

impl Drop for TestBff {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}
