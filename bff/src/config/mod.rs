//! What the operator wrote, checked, as one value per room.
//!
//! [`load()`] merges the sources (later wins: defaults, file, Nacos, environment, flags), reports
//! every problem at once, and hands out a [`Config`] whose values need no further checking.
//! [`Live`] is the configuration in force while documents come from Nacos.

mod live;
mod load;
mod nacos;
mod print;
mod problem;
pub mod types;

use garde::Validate;
use serde::{Deserialize, Serialize};

pub use self::{
    live::{InForce, Live, Nacos, NacosState},
    load::{Document, Given, Loaded, Origins, Sources, load},
    nacos::Config as NacosConfig,
    problem::{Problem, Problems},
};
use crate::{discovery, graphql, http, rate_limit, telemetry, upstream};

/// The whole configuration: one field per room, each room owns its section.
#[derive(Clone, Debug, Default, Deserialize, Serialize, Validate)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// `[http]`: where the frontend reaches us.
    #[garde(dive)]
    pub http: http::Config,
    /// `[consul]`: where services are found and where this program registers itself.
    #[garde(dive)]
    pub consul: discovery::Config,
    /// `[nacos]`: whose document is put between the file and the environment. Absent means none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[garde(dive)]
    pub nacos: Option<NacosConfig>,
    /// `[graphql]`: what a query may ask.
    #[garde(dive)]
    pub graphql: graphql::Config,
    /// `[log]`: what the log shows.
    #[garde(dive)]
    pub log: telemetry::LogConfig,
    /// `[telemetry]`: where traces go.
    #[garde(dive)]
    pub telemetry: telemetry::Config,
    /// `[rate_limit]`: how often fields may be asked for.
    #[garde(dive)]
    pub rate_limit: rate_limit::Config,
    /// `[upstreams.<name>]`: how each gRPC service is called.
    #[garde(dive)]
    pub upstreams: upstream::ConfigMap,
}

impl Config {
    /// The effective configuration as TOML, secrets redacted.
    ///
    /// # Errors
    /// Never for a configuration that came out of [`load()`]; the TOML writer's type asks for it.
    pub fn to_toml(&self) -> Result<String, toml_edit::ser::Error> {
        toml_edit::ser::to_string_pretty(self)
    }

    /// This configuration with those parts of `other` that can change while the program runs.
    fn with_live_parts_of(&self, other: &Self) -> Self {
        Self {
            http: self.http.clone(),
            consul: self.consul.clone(),
            nacos: self.nacos.clone(),
            graphql: self.graphql.with_live_parts_of(&other.graphql),
            log: self.log.with_live_parts_of(&other.log),
            telemetry: self.telemetry.with_live_parts_of(&other.telemetry),
            rate_limit: other.rate_limit.clone(),
            upstreams: other.upstreams.clone(),
        }
    }
}
