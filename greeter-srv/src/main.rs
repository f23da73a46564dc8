//! The `greeter-srv` program; everything it does is in the library.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    greeter_srv::main().await
}
