//! What follows the configuration while the program runs.

use std::{collections::HashSet, sync::Arc};

use arc_swap::ArcSwap;

use crate::{
    config::Rules, graphql::SchemaSource, http::Served, rate_limit::Limiter,
    telemetry::trace::Tracing, upstream::Upstreams,
};

/// What [`Rules`] reach, and how.
pub(super) struct Reload {
    schema: SchemaSource,
    pub(super) upstreams: Upstreams,
    pub(super) limiter: Arc<ArcSwap<Limiter>>,
    pub(super) served: Arc<ArcSwap<Served>>,
    pub(super) tracing: Tracing,
}

impl Reload {
    pub(super) fn new(
        schema: SchemaSource,
        rules: &Rules,
        upstreams: Upstreams,
        tracing: Tracing,
    ) -> Self {
        let limiter = Arc::new(Limiter::new(&rules.rate_limit));
        let served = serve(&schema, rules, &upstreams, &limiter);
        Self {
            schema,
            upstreams,
            limiter: Arc::new(ArcSwap::new(limiter)),
            served: Arc::new(ArcSwap::from_pointee(served)),
            tracing,
        }
    }

    /// Operations that the schema answers, to begin with.
    pub(super) fn operations(&self) -> Vec<String> {
        self.schema.operations()
    }

    /// Makes `rules` effective from the next call and the next request on.
    pub(super) fn apply(&self, rules: &Rules) {
        self.upstreams.apply(&rules.upstreams);
        self.tracing.set_ratio(rules.sample_ratio);
        let limiter = Arc::new(self.limiter.load().reconfigured(&rules.rate_limit));
        let served = serve(&self.schema, rules, &self.upstreams, &limiter);
        self.limiter.store(limiter);
        self.served.store(Arc::new(served));
    }
}

/// What requests are executed with under `rules`.
fn serve(
    schema: &SchemaSource,
    rules: &Rules,
    upstreams: &Upstreams,
    limiter: &Arc<Limiter>,
) -> Served {
    let configs = rules.upstreams.values();
    let forward: HashSet<_> = configs.flat_map(|upstream| &upstream.forward).collect();
    Served {
        executable: schema.build(&rules.graphql, upstreams.clone(), Arc::clone(limiter)),
        clients: rules.rate_limit.client.clone(),
        forward: forward.into_iter().cloned().collect(),
    }
}
