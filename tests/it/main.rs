//! The BFF as a whole, against fixtures: one binary, one module per subject.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod admin;
mod architecture;
mod bad_instances;
mod batch;
mod behind_a_proxy;
mod cli;
mod codegen;
mod consul_contract;
mod costs;
mod deploy;
mod discovery;
mod documents;
mod forty;
mod hooks;
mod http;
mod instances;
mod jaeger_contract;
mod nacos_contract;
mod processes;
mod published;
mod query;
mod rate_limit;
mod redis;
mod registration;
mod reload;
mod resilience;
mod rolling;
mod schema;
mod shop;
mod sockets;
mod subscription;
mod support;
mod tls;
mod tracing;
mod websocket;
