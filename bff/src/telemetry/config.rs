//! `[log]`.

use garde::Validate;
use serde::{Deserialize, Serialize};
use tracing_subscriber::EnvFilter;

/// What the log shows.
#[derive(Clone, Debug, Deserialize, Serialize, Validate)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// Directives as `tracing_subscriber::EnvFilter` reads them, such as `info,bff=debug`.
    #[garde(custom(parses))]
    pub filter: String,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            filter: "info".to_owned(),
        }
    }
}

fn parses(filter: &str, _: &()) -> garde::Result {
    EnvFilter::try_new(filter).map(drop).map_err(|error| {
        garde::Error::new(format!(
            "`{filter}` is no log filter ({error}); write it like info,bff=debug"
        ))
    })
}
