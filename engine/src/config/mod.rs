//! What the operator wrote, checked, as one value per module.
//!
//! [`Sources`] are read and merged (later wins: defaults, file, Nacos, environment, flags), every
//! problem is reported at once, and a [`Config`] comes out whose values need no further checking.
//! [`Live`] is the effective configuration while documents come from Nacos; of those only
//! [`Rules`] act without a restart.

mod known;
mod live;
mod load;
mod metrics;
mod nacos;
mod print;
mod problem;
mod rules;
mod view;

use garde::Validate;
use serde::{Deserialize, Serialize};

pub(crate) use self::{
    known::Known,
    live::Live,
    load::{Document, Origins, SourcesRead},
    metrics::register,
    nacos::{Config as NacosConfig, NacosState},
    rules::Rules,
};
pub use self::{
    load::Sources,
    problem::{Problem, Problems},
};
use crate::{discovery, graphql, http, rate_limit, telemetry, upstream};

/// The whole configuration: one field per module, each module owns its section.
#[derive(Clone, Debug, Default, Deserialize, Serialize, Validate)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// `[http]`: where the frontend reaches us.
    #[garde(dive)]
    pub(crate) http: http::Config,
    /// `[admin]`: where operators reach us.
    #[garde(dive)]
    pub(crate) admin: http::admin::Config,
    /// `[consul]`: where services are found and where this program registers itself.
    #[garde(dive)]
    pub(crate) consul: discovery::Config,
    /// `[nacos]`: whose document is put between the file and the environment. Absent means none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[garde(dive)]
    pub(crate) nacos: Option<NacosConfig>,
    /// `[graphql]`: what a query may ask.
    #[garde(dive)]
    pub(crate) graphql: graphql::Config,
    /// `[documents]`: documents that are published beforehand. Absent means any document will do.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[garde(dive, custom(nacos_is_there(&self.nacos)))]
    pub(crate) documents: Option<http::DocumentsConfig>,
    /// `[log]`: what the log shows.
    #[garde(dive)]
    pub(crate) log: telemetry::LogConfig,
    /// `[telemetry]`: where traces go.
    #[garde(dive)]
    pub(crate) telemetry: telemetry::Config,
    /// `[rate_limit]`: how often fields may be asked for.
    #[garde(dive)]
    pub(crate) rate_limit: rate_limit::Config,
    /// `[upstreams.<name>]`: how each gRPC service is called.
    #[garde(dive)]
    pub(crate) upstreams: upstream::Configs,
}

#[expect(clippy::ref_option, reason = "what the macro gives")]
fn nacos_is_there(
    nacos: &Option<NacosConfig>,
) -> impl FnOnce(&Option<http::DocumentsConfig>, &()) -> garde::Result + '_ {
    move |documents, ()| match documents {
        Some(documents) if documents.data_id.is_some() && nacos.is_none() => Err(
            garde::Error::new("`data_id` is a document in Nacos, and there is no section [nacos]"),
        ),
        _ => Ok(()),
    }
}
