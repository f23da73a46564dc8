//! The command line: `bff run|check-config|print-config|schema`.

#[cfg(feature = "made-up")]
mod dev;

use std::{env, ffi::OsString, net::SocketAddr, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Context;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use tracing::warn;

use crate::{
    app::Bff,
    config::{Problems, Sources},
    http::{self, admin::Listen},
    shutdown, telemetry,
    types::BaseUrl,
};

/// The exit code of a bad configuration: `EX_CONFIG` of BSD's sysexits.
const EX_CONFIG: u8 = 78;

/// How long a running BFF may take to answer with its configuration.
const ASK_TIMEOUT: Duration = Duration::from_secs(5);

/// A GraphQL backend-for-frontend over gRPC services found in Consul.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve until Ctrl-C or SIGTERM; prints `listening on ADDR` and `admin on ADDR` on standard output.
    Run(ConfigArgs),
    /// Serve with a made-up service for every upstream that nobody runs: no backend is needed.
    #[cfg(feature = "made-up")]
    Dev(ConfigArgs),
    /// Print everything that is wrong with the configuration, or that nothing is.
    CheckConfig(ConfigArgs),
    /// Print the configuration, and where each value comes from; secrets are redacted.
    PrintConfig(PrintArgs),
    /// Print the GraphQL schema.
    Schema,
}

#[derive(Debug, Args)]
struct PrintArgs {
    /// The effective configuration of the BFF whose admin listener is here, such as
    /// http://127.0.0.1:8001.
    #[arg(long, value_name = "URL", value_parser = |url: &str| BaseUrl::try_from(url.to_owned()))]
    live: Option<BaseUrl>,
    #[command(flatten)]
    config: ConfigArgs,
}

/// Where the configuration comes from. Later wins: defaults, file, Nacos (while running),
/// environment, flags.
#[derive(Debug, Args)]
struct ConfigArgs {
    /// A TOML file.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Address to listen on (http.listen).
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// Address the admin listener has, or none (admin.listen).
    #[arg(long, value_name = "ADDR", value_parser = |text: &str| Listen::try_from(text.to_owned()))]
    admin: Option<Listen>,
    /// The Consul agent's HTTP API (consul.address).
    #[arg(long, value_name = "URL")]
    consul: Option<String>,
    /// Any other key, such as --set upstreams.greeter.timeout=1s. May be repeated.
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    set: Vec<(String, String)>,
}

fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) => Ok((key.trim().to_owned(), value.trim().to_owned())),
        None => Err("write it as KEY=VALUE".to_owned()),
    }
}

impl ConfigArgs {
    fn sources(self) -> Sources {
        let mut flags = self.set;
        flags.extend(
            self.listen
                .map(|addr| ("http.listen".to_owned(), addr.to_string())),
        );
        flags.extend(
            self.admin
                .map(|listen| ("admin.listen".to_owned(), listen.to_string())),
        );
        flags.extend(self.consul.map(|url| ("consul.address".to_owned(), url)));
        let environment = env::vars_os()
            .filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        Sources {
            file: self.config,
            environment,
            flags,
        }
    }
}

impl Bff {
    /// Runs the command that the process's arguments give, until it ends or a signal stops it, or a
    /// second one does so at once: all that a `main` has to do. The exit code is 78 for a bad configuration.
    pub async fn main(self) -> ExitCode {
        let args = env::args_os().collect();
        let (stop, at_once) = shutdown::signals();
        tokio::select! {
            code = self.run(args, stop) => code,
            () = at_once => {
                warn!("stopped at once, by a second signal");
                ExitCode::FAILURE
            }
        }
    }

    /// Runs the command that `args` give, the program's name first, until it ends or `stop` does.
    /// Errors go to standard error.
    pub async fn run(
        self,
        args: Vec<OsString>,
        stop: impl Future<Output = ()> + Send + 'static,
    ) -> ExitCode {
        let name = self.name();
        let command = Cli::command().name(name).bin_name(name);
        let parsed = command
            .try_get_matches_from(args)
            .and_then(|matches| Cli::from_arg_matches(&matches));
        let cli = match parsed {
            Ok(cli) => cli,
            Err(error) => error.exit(),
        };
        match execute(self, cli.command, stop).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) if error.is::<Problems>() => {
                eprintln!("{error}");
                ExitCode::from(EX_CONFIG)
            }
            Err(error) => {
                eprintln!("{name}: {error:#}");
                ExitCode::FAILURE
            }
        }
    }
}

async fn execute(
    bff: Bff,
    command: Command,
    stop: impl Future<Output = ()> + Send + 'static,
) -> anyhow::Result<()> {
    match command {
        Command::Run(args) => run(bff, args.sources(), stop).await?,
        #[cfg(feature = "made-up")]
        Command::Dev(args) => {
            let mut sources = args.sources();
            let services = dev::make_up(&bff, &mut sources).await?;
            run(bff, sources, stop).await?;
            drop(services);
        }
        Command::CheckConfig(args) => {
            args.sources().read(bff.known())?.with(None)?;
            println!("the configuration is good");
        }
        Command::PrintConfig(PrintArgs {
            live: Some(url), ..
        }) => print!("{}", ask(&url).await?),
        Command::PrintConfig(PrintArgs { config, .. }) => {
            let loaded = config.sources().read(bff.known())?.with(None)?;
            print!("{}", loaded.to_toml()?);
        }
        Command::Schema => print!("{}", bff.sdl()),
    }
    Ok(())
}

/// Serves what `sources` say until `stop`.
async fn run(
    bff: Bff,
    sources: Sources,
    stop: impl Future<Output = ()> + Send + 'static,
) -> anyhow::Result<()> {
    // The log first, so that the rest can write to it.
    let loaded = sources.read(bff.known())?.with(None)?;
    let log = telemetry::init(&loaded.config.log);
    let server = bff.build(&sources).await?;
    let live = server.live().clone();
    let effective = live.now();
    log.set(&effective.config.log.filter);
    let bound = server.bind().await?;
    // All there is on standard output, for callers that asked for port 0; in one piece, so that one who
    // reads no further than the first line does not break the pipe of the second.
    let admin = bound.admin().map(|admin| format!("admin on {admin}\n"));
    print!(
        "listening on {}\n{}",
        bound.addr(),
        admin.unwrap_or_default()
    );
    tokio::select! {
                served = bound.serve(stop) => served,
                // Never ends.
                () = live.each_change(effective.generation, |rules| log.set(&rules.log_filter)) => Ok(()),
    }
}

/// The effective configuration of the BFF at `url`, by its own word.
async fn ask(url: &BaseUrl) -> anyhow::Result<String> {
    let page = format!("{url}{}", http::CONFIGZ);
    let client = reqwest::Client::builder()
        .no_proxy()
        .timeout(ASK_TIMEOUT)
        .build()?;
    let answer = client
        .get(&page)
        .send()
        .await
        .with_context(|| format!("{page} does not answer"))?;
    let (status, text) = (answer.status(), answer.text().await?);
    anyhow::ensure!(
        status != reqwest::StatusCode::NOT_FOUND,
        "{page} is not there: is {url} the admin listener (admin.listen)?"
    );
    anyhow::ensure!(
        status.is_success(),
        "{page} answers {status}: {}",
        text.trim()
    );
    Ok(text)
}
