//! The command line.

use std::{net::SocketAddr, time::Duration};

use clap::Parser;
use tonic::Code;

/// A gRPC greeter that registers itself in Consul.
#[derive(Clone, Debug, Parser)]
#[command(name = "greeter-srv", version)]
pub struct Options {
    /// Address to listen on; port 0 lets the system choose.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:50051")]
    pub listen: SocketAddr,
    /// Address under which others reach this instance; the listen address if absent.
    #[arg(long, value_name = "ADDR")]
    pub advertise: Option<SocketAddr>,
    /// The Consul agent's HTTP API; absent means not to register.
    #[arg(long, value_name = "URL", value_parser = http_url)]
    pub consul: Option<String>,
    /// ACL token for Consul; it needs service:write on the service.
    #[arg(
        long,
        value_name = "TOKEN",
        env = "CONSUL_HTTP_TOKEN",
        hide_env_values = true
    )]
    pub consul_token: Option<String>,
    /// Service name to register under.
    #[arg(long, value_name = "NAME", default_value = "greeter-srv")]
    pub service: String,
    /// Share of the calls relative to the other instances.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    pub weight: u16,
    /// How often Consul asks for this instance's health.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = humantime::parse_duration)]
    pub check_interval: Duration,
    /// How often to look whether the agent still knows this instance.
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = heartbeat)]
    pub heartbeat: Duration,
    /// How long Consul keeps an unhealthy instance; Consul itself allows no less than a minute.
    #[arg(long, value_name = "TIME", default_value = "1m", value_parser = humantime::parse_duration)]
    pub deregister_critical_after: Duration,
    /// How long it serves as before after a stop signal: those who call it learn of it a moment later.
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = humantime::parse_duration)]
    pub drain_delay: Duration,
    /// How long all of a stop may take, the delay and calls that are open included.
    #[arg(long, value_name = "TIME", default_value = "20s", value_parser = humantime::parse_duration)]
    pub drain_timeout: Duration,
    /// A collector that takes OTLP over gRPC; absent means no traces.
    #[arg(long, value_name = "URL", value_parser = http_url)]
    pub otlp: Option<String>,
    /// Sparring: how long to wait before each answer.
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = humantime::parse_duration)]
    pub latency: Duration,
    /// Sparring: share of the calls that fail, 0 to 1.
    #[arg(long, value_name = "RATIO", default_value_t = 0.0, value_parser = ratio)]
    pub error_ratio: f64,
    /// Sparring: the status those calls fail with.
    #[arg(long, value_name = "CODE", default_value = "UNAVAILABLE", value_parser = code)]
    pub error_code: Code,
    /// How many greetings a stream has.
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub greetings: u32,
    /// The pause between the greetings of a stream.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = humantime::parse_duration)]
    pub greeting_interval: Duration,
}

fn http_url(text: &str) -> Result<String, String> {
    let wrong = || format!("`{text}` is no address like http://127.0.0.1:8500");
    let uri: tonic::transport::Uri = text.parse().map_err(|_| wrong())?;
    let plain = matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some();
    match plain && uri.path().trim_end_matches('/').is_empty() {
        true => Ok(text.trim_end_matches('/').to_owned()),
        false => Err(wrong()),
    }
}

fn heartbeat(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(time) if time >= Duration::from_millis(100) => Ok(time),
        Ok(_) => Err("use 100ms or more".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

fn ratio(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(ratio) if (0.0..=1.0).contains(&ratio) => Ok(ratio),
        _ => Err("use a number from 0 to 1".to_owned()),
    }
}

fn code(text: &str) -> Result<Code, String> {
    const NAMES: [(&str, Code); 16] = [
        ("CANCELLED", Code::Cancelled),
        ("UNKNOWN", Code::Unknown),
        ("INVALID_ARGUMENT", Code::InvalidArgument),
        ("DEADLINE_EXCEEDED", Code::DeadlineExceeded),
        ("NOT_FOUND", Code::NotFound),
        ("ALREADY_EXISTS", Code::AlreadyExists),
        ("PERMISSION_DENIED", Code::PermissionDenied),
        ("RESOURCE_EXHAUSTED", Code::ResourceExhausted),
        ("FAILED_PRECONDITION", Code::FailedPrecondition),
        ("ABORTED", Code::Aborted),
        ("OUT_OF_RANGE", Code::OutOfRange),
        ("UNIMPLEMENTED", Code::Unimplemented),
        ("INTERNAL", Code::Internal),
        ("UNAVAILABLE", Code::Unavailable),
        ("DATA_LOSS", Code::DataLoss),
        ("UNAUTHENTICATED", Code::Unauthenticated),
    ];
    NAMES
        .iter()
        .find(|(name, _)| *name == text)
        .map(|(_, code)| *code)
        .ok_or_else(|| {
            let names: Vec<_> = NAMES.iter().map(|(name, _)| *name).collect();
            format!("use one of {}", names.join(", "))
        })
}
