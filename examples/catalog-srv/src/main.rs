//! The `catalog-srv` program.

use std::process::ExitCode;

use clap::Parser;

#[tokio::main]
async fn main() -> ExitCode {
    let options = catalog_srv::Options::parse();
    let stop = async {
        // Without a handler Ctrl-C ends the process by itself.
        let _ = tokio::signal::ctrl_c().await;
    };
    catalog_srv::start(options, stop).await
}
