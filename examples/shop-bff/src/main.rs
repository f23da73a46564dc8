//! The `shop-bff` program.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    shop_bff::shop().main().await
}
