//! The command line: `bff run|check-config|print-config|schema`.

use std::{env, net::SocketAddr, path::PathBuf, process::ExitCode};

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use tokio::net::TcpListener;

use crate::{
    config::{self, Config, Problems, Sources},
    graphql, shutdown, telemetry,
};

/// The exit code of a bad configuration: `EX_CONFIG` of BSD's sysexits.
const EX_CONFIG: u8 = 78;

/// A GraphQL backend-for-frontend over gRPC services found in Consul.
#[derive(Debug, Parser)]
#[command(name = "bff", version)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve until Ctrl-C or SIGTERM; prints `listening on ADDR` on standard output.
    Run(ConfigArgs),
    /// Say everything that is wrong with the configuration, or that nothing is.
    CheckConfig(ConfigArgs),
    /// Print the configuration in force, secrets redacted.
    PrintConfig(ConfigArgs),
    /// Print the GraphQL schema.
    Schema,
}

/// Where the configuration comes from. Later wins: defaults, file, environment, flags.
#[derive(Debug, Args)]
struct ConfigArgs {
    /// A TOML file.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Address to listen on (http.listen).
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
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
    fn load(self) -> Result<Config, Problems> {
        let mut flags = self.set;
        flags.extend(
            self.listen
                .map(|addr| ("http.listen".to_owned(), addr.to_string())),
        );
        flags.extend(self.consul.map(|url| ("consul.address".to_owned(), url)));
        let environment = env::vars_os()
            .filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        config::load(&Sources {
            file: self.config,
            environment,
            flags,
        })
    }
}

/// Runs the command and says how it ended, errors on standard error.
pub async fn run(cli: Cli, stop: impl Future<Output = ()> + Send + 'static) -> ExitCode {
    match execute(cli.command, stop).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<Problems>() => {
            eprintln!("{error}");
            ExitCode::from(EX_CONFIG)
        }
        Err(error) => {
            eprintln!("bff: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn execute(
    command: Command,
    stop: impl Future<Output = ()> + Send + 'static,
) -> anyhow::Result<()> {
    match command {
        Command::Run(args) => {
            let config = args.load()?;
            telemetry::init(&config.log);
            let listener = TcpListener::bind(config.http.listen)
                .await
                .with_context(|| format!("http.listen: cannot listen on {}", config.http.listen))?;
            // For whoever asked for port 0: the one line on standard output.
            println!("listening on {}", listener.local_addr()?);
            crate::serve(listener, config, stop).await?;
        }
        Command::CheckConfig(args) => {
            args.load()?;
            println!("the configuration is good");
        }
        Command::PrintConfig(args) => print!("{}", args.load()?.to_toml()?),
        Command::Schema => print!("{}", graphql::sdl()),
    }
    Ok(())
}

/// Runs the command until a signal: what the program's `main` does.
pub async fn main() -> ExitCode {
    run(Cli::parse(), shutdown::signal()).await
}
