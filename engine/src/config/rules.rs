//! What of a configuration can change while the program runs. Everything else needs a restart.

use super::Config;
use crate::{graphql, rate_limit, upstream};

/// The part of a configuration that acts without a restart. Code that follows changes gets one of
/// these and nothing else: a key that is not in it cannot be obeyed by accident.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    /// `[graphql]` but for the playground, whose route is there or not from the start.
    pub(crate) graphql: graphql::Limits,
    /// `log.filter`.
    pub(crate) log_filter: String,
    /// `telemetry.sample_ratio`.
    pub(crate) sample_ratio: f64,
    /// `[rate_limit]`.
    pub(crate) rate_limit: rate_limit::Config,
    /// `[upstreams.<name>]`.
    pub(crate) upstreams: upstream::Configs,
}

impl Config {
    /// What of this configuration can change while the program runs.
    pub(crate) fn rules(&self) -> Rules {
        // Every section is named: a new one has to decide.
        let Self {
            http: _,
            admin: _,
            documents: _,
            consul: _,
            nacos: _,
            graphql,
            log,
            telemetry,
            rate_limit,
            upstreams,
        } = self;
        Rules {
            graphql: graphql.limits(),
            log_filter: log.filter.clone(),
            sample_ratio: telemetry.sample_ratio,
            rate_limit: rate_limit.clone(),
            upstreams: upstreams.clone(),
        }
    }

    /// This configuration under other rules.
    pub(super) fn with_rules(&self, rules: Rules) -> Self {
        let mut config = self.clone();
        config.graphql.set_limits(rules.graphql);
        config.log.filter = rules.log_filter;
        config.telemetry.sample_ratio = rules.sample_ratio;
        config.rate_limit = rules.rate_limit;
        config.upstreams = rules.upstreams;
        config
    }
}
