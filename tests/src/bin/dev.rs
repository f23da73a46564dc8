//! `cargo dev`: the whole system in one terminal, on real processes, with nothing to install.

use std::{
    collections::HashMap,
    env,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{ExitCode, Stdio},
    time::Duration,
};

use anyhow::{Context, bail};
use bff_tests::{
    fixtures::{consul::ConsulFixture, nacos::NacosFixture},
    process::{Program, stdin_closed},
};
use clap::{Parser, Subcommand};
use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::time::{Instant, sleep};

/// The rules in the fixture Nacos, for a walk through what a limit does.
const RULES: &str = "\
# The rules of `cargo dev`. Publish another document and they change.
[rate_limit.fields.\"Query.hello\"]
calls = 10
period = \"1m\"
per = \"client\"
";
/// The same with a configuration of one's own, which it should not override.
const NO_RULES: &str = "# Rules published here override those of the file.\n";

/// A fixture Consul, a fixture Nacos, some greeter-srv instances and the BFF.
#[derive(Debug, Parser)]
#[command(name = "cargo dev", bin_name = "cargo dev --")]
struct Cli {
    #[command(subcommand)]
    program: Option<Inner>,
    /// A real Consul agent to use instead of the fixture.
    #[arg(long, value_name = "URL")]
    consul: Option<String>,
    /// A real Nacos server to use instead of the fixture (document bff.toml, DEFAULT_GROUP).
    #[arg(long, value_name = "ADDR")]
    nacos: Option<String>,
    /// A collector of traces that takes OTLP over gRPC, such as Jaeger's http://127.0.0.1:4317.
    #[arg(long, value_name = "URL")]
    otlp: Option<String>,
    /// Where the BFF listens.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8000")]
    http: SocketAddr,
    /// Where its admin listener is; the next port unless given.
    #[arg(long, value_name = "ADDR")]
    admin: Option<SocketAddr>,
    /// How many greeter-srv instances to run.
    #[arg(long, value_name = "N", default_value_t = 2)]
    instances: usize,
    /// A configuration file for the BFF.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Serve an example instead, with the services it calls.
    #[arg(long, value_name = "NAME")]
    example: Option<Example>,
}

/// The examples.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Example {
    /// `examples/shop-bff`, over a catalog and the greeter.
    Shop,
}

/// The programs this one runs as its children, by executing itself.
#[derive(Debug, Subcommand)]
enum Inner {
    #[command(hide = true)]
    GreeterSrv(Box<greeter_srv::Options>),
    #[command(hide = true)]
    CatalogSrv(catalog_srv::Options),
    #[command(hide = true)]
    ShopBff {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    #[command(hide = true)]
    Bff {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse_from(arguments());
    match cli.program {
        Some(Inner::GreeterSrv(options)) => greeter_srv::start(*options, child_stop()).await,
        Some(Inner::CatalogSrv(options)) => catalog_srv::start(options, child_stop()).await,
        Some(Inner::Bff { args }) => run(bff::bff(), "bff", args).await,
        Some(Inner::ShopBff { args }) => run(shop_bff::shop(), "shop-bff", args).await,
        None => match dev(cli).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("cargo dev: {error:#}");
                ExitCode::FAILURE
            }
        },
    }
}

/// A folder with the playground's files: as npm has left them, or leaves them now, if it is there and the network
/// too. Without them the page takes them from a CDN. They are beside the programs and not where the engine is
/// built, which would be built anew with them inside.
async fn playground_files(executable: &Path) -> Option<PathBuf> {
    const LISTS: [(&str, &str); 2] = [
        (
            "package.json",
            include_str!("../../../engine/playground/package.json"),
        ),
        (
            "package-lock.json",
            include_str!("../../../engine/playground/package-lock.json"),
        ),
    ];
    const LIMIT: Duration = Duration::from_secs(30);
    let folder = executable.parent()?.join("playground");
    let is_there = |(name, text): (&str, &str)| {
        std::fs::read_to_string(folder.join(name)).is_ok_and(|there| there == text)
    };
    let complete = folder
        .join("node_modules/graphiql/graphiql.min.js")
        .is_file();
    if complete && LISTS.into_iter().all(is_there) {
        return Some(folder);
    }
    std::fs::create_dir_all(&folder).ok()?;
    for (name, text) in LISTS {
        std::fs::write(folder.join(name), text).ok()?;
    }
    let npm = tokio::process::Command::new("npm")
        .args([
            "ci",
            "--silent",
            "--no-audit",
            "--no-fund",
            "--ignore-scripts",
        ])
        .current_dir(&folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .status();
    let brought = tokio::time::timeout(LIMIT, npm).await;
    matches!(brought, Ok(Ok(status)) if status.success()).then_some(folder)
}

/// Port 0 stays, for the system to choose.
fn next_port(mut addr: SocketAddr) -> SocketAddr {
    if addr.port() != 0 {
        addr.set_port(addr.port().wrapping_add(1));
    }
    addr
}

async fn run(bff: bff_engine::Bff, name: &str, args: Vec<String>) -> ExitCode {
    let args = std::iter::once(name.to_owned()).chain(args);
    bff.run(args.map(Into::into).collect(), child_stop()).await
}

/// The arguments without the `--` that may stand before them: people write `cargo dev --http …`
/// and, as for `cargo run`, `cargo dev -- --http …`.
fn arguments() -> impl Iterator<Item = std::ffi::OsString> {
    let mut arguments = env::args_os();
    let name = arguments.next();
    let mut rest = arguments.peekable();
    rest.next_if(|first| first == "--");
    name.into_iter().chain(rest)
}

/// A child stops for a signal, and when its parent is gone.
fn child_stop() -> impl Future<Output = ()> {
    let signal = bff_engine::stop_signal();
    async move {
        tokio::select! {
            () = signal => {}
            () = stdin_closed() => {}
        }
    }
}

async fn dev(cli: Cli) -> anyhow::Result<()> {
    let stop = bff_engine::stop_signal();
    tokio::pin!(stop);
    let mut system = System::default();
    let outcome = tokio::select! {
        () = &mut stop => Ok(()),
        started = system.start(&cli) => started,
    };
    let outcome = match outcome {
        Ok(()) if system.bff.is_some() => {
            tokio::select! {
                () = &mut stop => Ok(()),
                ended = system.watch() => ended,
            }
        }
        other => other,
    };
    eprintln!("\nstopping");
    let stopped = tokio::select! {
        stopped = system.stop() => stopped,
        // A second Ctrl-C: the children die with this process.
        () = bff_engine::stop_signal() => Ok(()),
    };
    outcome.and(stopped)
}

/// Everything that runs.
#[derive(Default)]
struct System {
    consul: Option<ConsulFixture>,
    nacos: Option<NacosFixture>,
    /// Where Consul is, the fixture or a real one.
    url: Option<String>,
    greeters: Vec<Program>,
    catalog: Option<Program>,
    bff: Option<Program>,
}

impl System {
    /// Starts everything and, once it all answers, says where it is.
    async fn start(&mut self, cli: &Cli) -> anyhow::Result<()> {
        let consul = match &cli.consul {
            Some(url) => url.trim_end_matches('/').to_owned(),
            None => self.consul.insert(ConsulFixture::start().await?).url(),
        };
        self.url = Some(consul.clone());
        let nacos = match &cli.nacos {
            Some(addr) => addr.clone(),
            None => {
                let fixture = NacosFixture::start_where_expected().await?;
                let own_rules = cli.config.is_some() || cli.example.is_some();
                let rules = if own_rules { NO_RULES } else { RULES };
                fixture.publish("bff.toml", rules);
                self.nacos.insert(fixture).addr().to_string()
            }
        };
        let executable = env::current_exe().context("this program's own path is unknown")?;
        for _ in 0..cli.instances {
            let mut args = vec![
                "greeter-srv",
                "--listen",
                "127.0.0.1:0",
                "--consul",
                &consul,
                // Nobody has to learn of its end.
                "--drain-delay=0s",
            ];
            if let Some(otlp) = &cli.otlp {
                args.extend(["--otlp", otlp]);
            }
            let greeter = Program::start(&executable, args)
                .await
                .context("greeter-srv")?;
            self.greeters.push(greeter);
        }
        if cli.example == Some(Example::Shop) {
            let args = ["catalog-srv", "--consul", &consul];
            let catalog = Program::start(&executable, args).await;
            self.catalog = Some(catalog.context("catalog-srv")?);
        }
        let http = cli.http.to_string();
        let program = match cli.example {
            Some(Example::Shop) => "shop-bff",
            None => "bff",
        };
        let admin = cli.admin.unwrap_or_else(|| next_port(cli.http)).to_string();
        let mut args = vec![program, "run", "--listen", &http, "--admin", &admin];
        args.extend(["--consul", &consul]);
        let server = format!("nacos.server={nacos}");
        // Nobody has to learn of its end.
        args.extend(["--set", &server, "--set", "http.drain_delay=0s"]);
        let endpoint = cli
            .otlp
            .as_ref()
            .map(|url| format!("telemetry.endpoint={url}"));
        if let Some(endpoint) = &endpoint {
            args.extend(["--set", "telemetry.exporter=otlp", "--set", endpoint]);
        }
        let shops = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../examples/shop-bff/shop.toml"
        );
        let config = cli.config.as_ref().map(|path| path.display().to_string());
        let config = config.or_else(|| cli.example.map(|Example::Shop| shops.to_owned()));
        if let Some(config) = &config {
            args.extend(["--config", config]);
        }
        let playground = playground_files(&executable).await;
        let playground =
            playground.map(|folder| format!("graphql.playground_files={}", folder.display()));
        if let Some(playground) = &playground {
            args.extend(["--set", playground]);
        }
        let mut bff = Program::start(&executable, args).await.context("bff")?;
        let url = format!("http://{}", bff.addr());
        let admin = format!("http://{}", bff.admin().await?);
        self.bff = Some(bff);
        self.wait_until_it_answers(&admin).await?;
        self.tell(&url, &admin, &consul, &nacos, cli.example);
        Ok(())
    }

    /// Ready means that one instance is known; a person at the terminal wants all of them.
    async fn wait_until_it_answers(&self, admin: &str) -> anyhow::Result<()> {
        let wanted = format!("upstream greeter: {} instance", self.greeters.len());
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let page = reqwest::get(format!("{admin}/readyz?verbose")).await;
            let text = match page {
                Ok(page) => page.text().await.unwrap_or_default(),
                Err(error) => error.to_string(),
            };
            // The greeters are last to be known; the catalog has one instance.
            let catalog = self.catalog.is_none() || text.contains("upstream catalog: 1 instance");
            if catalog && text.contains(&wanted) || (self.greeters.is_empty() && !text.is_empty()) {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("the BFF does not become ready:\n{text}");
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    fn tell(&self, url: &str, admin: &str, consul: &str, nacos: &str, example: Option<Example>) {
        let pid = |program: &Program| program.pid().unwrap_or(0);
        println!("\nEverything is up.\n");
        println!("  playground   {url}/");
        println!("  GraphQL      {url}/graphql");
        println!("  admin        {admin}/");
        println!("  readiness    {admin}/readyz?verbose");
        println!("  metrics      {admin}/metrics");
        let kind = |is_fixture| if is_fixture { "fixture" } else { "real" };
        println!(
            "  Consul       {consul}   ({})",
            kind(self.consul.is_some())
        );
        println!(
            "  Nacos        {nacos}   ({}, rules in DEFAULT_GROUP/bff.toml)",
            kind(self.nacos.is_some())
        );
        for greeter in &self.greeters {
            println!("  greeter-srv  {}   (pid {})", greeter.addr(), pid(greeter));
        }
        if let Some(catalog) = &self.catalog {
            println!("  catalog-srv  {}   (pid {})", catalog.addr(), pid(catalog));
        }
        println!("\nTry:\n");
        let query = match example {
            Some(Example::Shop) => {
                "{ products(first: 3) { edges { node { name seller { name } } } } }"
            }
            None => "{ hello { message } }",
        };
        println!(
            "  curl -s {url}/graphql -H 'content-type: application/json' \
             -d '{{\"query\":\"{query}\"}}'"
        );
        println!("\nCtrl-C ends all of it.\n");
    }

    /// Ends when the BFF does; a greeter that ends is worth a line, not the end.
    async fn watch(&mut self) -> anyhow::Result<()> {
        let Some(bff) = &mut self.bff else {
            return Ok(());
        };
        let mut greeters: FuturesUnordered<_> = self
            .greeters
            .iter_mut()
            .map(|greeter| async {
                let addr = greeter.addr();
                (addr, greeter.wait().await)
            })
            .collect();
        loop {
            tokio::select! {
                status = bff.wait() => bail!("the BFF ended by itself: {}", status?),
                Some((addr, status)) = greeters.next() => {
                    eprintln!("greeter-srv at {addr} ended: {}", status?);
                }
            }
        }
    }

    /// The BFF first, so that it drains while its upstreams still answer.
    async fn stop(self) -> anyhow::Result<()> {
        const LIMIT: Duration = Duration::from_secs(30);
        let programs = self.bff.iter().chain(&self.greeters).chain(&self.catalog);
        let ours: Vec<_> = programs.map(Program::addr).collect();
        if let Some(bff) = self.bff {
            bff.stop(LIMIT).await.context("bff")?;
        }
        let services = self.greeters.into_iter().chain(self.catalog);
        let mut services: FuturesUnordered<_> =
            services.map(|service| service.stop(LIMIT)).collect();
        while let Some(stopped) = services.next().await {
            stopped.context("a service")?;
        }
        match self.url {
            // The fixture forgets by itself.
            Some(url) if self.consul.is_none() => deregister_killed(&url, &ours).await,
            _ => Ok(()),
        }
    }
}

/// Removes what a child that was killed could not remove itself.
async fn deregister_killed(consul: &str, ours: &[SocketAddr]) -> anyhow::Result<()> {
    let http = reqwest::Client::new();
    let listed = http.get(format!("{consul}/v1/agent/services")).send().await;
    // An agent that is away has nothing that could be removed.
    let Ok(listed) = listed else { return Ok(()) };
    let services: HashMap<String, serde_json::Value> = listed.json().await?;
    for (id, service) in services {
        let address = format!(
            "{}:{}",
            service["Address"].as_str().unwrap_or(""),
            service["Port"]
        );
        if ours.iter().any(|addr| addr.to_string() == address) {
            http.put(format!("{consul}/v1/agent/service/deregister/{id}"))
                .send()
                .await?;
        }
    }
    Ok(())
}
