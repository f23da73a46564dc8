//! A schema as requests meet it, without a server around it.

use std::{sync::Arc, time::Duration};

use async_graphql::{ObjectType, Request, SchemaBuilder, SubscriptionType};
use futures_util::StreamExt;
use serde_json::Value;

use super::meter;
use crate::{
    discovery::{WatchOptions, consul::Consul},
    graphql::{self, Executable, Execution, Limits, SchemaSource, Takes, Written},
    rate_limit::{self, Limiter},
    telemetry::trace::Span,
    upstream::{Hooks, Upstreams},
};

/// A schema with everything between it and a request's body.
pub struct Graph {
    source: SchemaSource,
    executable: Executable,
    execution: Execution,
}

impl Graph {
    /// The schema that `builder` begins, with a `[rate_limit]` section.
    ///
    /// # Errors
    /// When the section is none.
    pub fn new<Q, M, S>(
        builder: impl Fn() -> SchemaBuilder<Q, M, S> + Send + Sync + 'static,
        rate_limit: &str,
    ) -> anyhow::Result<Self>
    where
        Q: ObjectType + 'static,
        M: ObjectType + 'static,
        S: SubscriptionType + 'static,
    {
        let consul = Consul::new(&Default::default())?;
        let times = WatchOptions {
            wait: Duration::from_secs(1),
            empty_hold: Duration::ZERO,
        };
        let meter = meter();
        let upstreams = Upstreams::connect(
            &[],
            &Default::default(),
            &consul,
            times,
            &meter,
            &Hooks::default(),
        );
        let source = SchemaSource::new(builder);
        let limits = Limits {
            introspection: true,
            max_depth: 64,
            max_complexity: 100_000,
            max_root_fields: 100_000,
            max_aliases: 100_000,
            max_calls: 100_000,
            max_answer: 1 << 30,
            max_errors: 100_000,
        };
        let config: rate_limit::Config = toml_edit::de::from_str(rate_limit)?;
        let limiter = Arc::new(Limiter::new(&config));
        let executable = source.build(&limits, upstreams, limiter);
        let execution = Execution {
            slow: Duration::MAX,
            errors: meter.u64_counter("errors").build(),
            beyond: graphql::Beyond::new(&meter),
        };
        Ok(Self {
            source,
            executable,
            execution,
        })
    }

    /// The schema in the schema definition language.
    pub fn sdl(&self) -> &str {
        self.source.sdl()
    }

    /// The answer to the request that `body` is, as it is sent.
    ///
    /// # Errors
    /// When it is no request.
    pub async fn execute(&self, body: Value) -> anyhow::Result<String> {
        let request: Request = serde_json::from_value(body)?;
        let (executable, execution) = (&self.executable, &self.execution);
        let answer = graphql::execute(
            executable,
            execution,
            request,
            Takes::OneAnswer,
            tokio::time::Instant::now() + Duration::from_secs(60),
            &Span::default(),
        )
        .await;
        Ok(String::from_utf8(
            answer.json(&executable.limits, execution)?,
        )?)
    }

    /// The answers to the subscription that `body` is, until it ends.
    ///
    /// # Errors
    /// When it is no request.
    pub async fn subscribe(&self, body: Value) -> anyhow::Result<Vec<String>> {
        let request: Request = serde_json::from_value(body)?;
        let (executable, execution) = (&self.executable, &self.execution);
        let span = Span::default();
        let timeout = std::time::Duration::from_secs(60);
        let session = Arc::default();
        let answers = graphql::execute_stream(
            executable,
            execution,
            request,
            Takes::All,
            session,
            timeout,
            &span,
        )
        .await;
        let answers: Vec<_> = match answers {
            Ok(answers) => answers.collect().await,
            Err(refused) => vec![Written::errors(&refused.0)],
        };
        Ok(answers
            .iter()
            .map(|answer| answer.as_str().into())
            .collect())
    }
}

impl std::fmt::Debug for Graph {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Graph")
    }
}
