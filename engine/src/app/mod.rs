//! The program as a whole: what its owner brings, put together with everything else.

mod reload;
mod server;

use std::{any::Any, sync::Arc};

use async_graphql::{ObjectType, SchemaBuilder, SubscriptionType};
use axum::Router;
use tower::{Layer, Service};

#[cfg(feature = "made-up")]
pub(crate) use self::server::Assembled;
pub use self::server::{Bound, Server};
use crate::{
    call::{Call, Failed, Reply},
    config::{Known, Live, Problem, Problems, Sources, SourcesRead},
    graphql::SchemaSource,
    http::{Incoming, RequestData},
    resilience::{Stack, breaker::BreakerChange},
    upstream::{Description, Hooks, Upstream},
};

/// A backend-for-frontend: a name, a schema, and the upstreams that its resolvers call.
pub struct Bff {
    name: &'static str,
    schema: SchemaSource,
    upstreams: Vec<Description>,
    hooks: Hooks,
    data: RequestData,
    routes: Router,
}

impl Bff {
    /// One called `name` on the command line that serves what `schema` begins to build. It is asked
    /// again whenever limits change.
    pub fn new<Q, M, S>(
        name: &'static str,
        schema: impl Fn() -> SchemaBuilder<Q, M, S> + Send + Sync + 'static,
    ) -> Self
    where
        Q: ObjectType + 'static,
        M: ObjectType + 'static,
        S: SubscriptionType + 'static,
    {
        Self {
            name,
            schema: SchemaSource::new(schema),
            upstreams: Vec::new(),
            hooks: Hooks::default(),
            data: RequestData::default(),
            routes: Router::new(),
        }
    }

    /// The same with an upstream for its resolvers to call. Its section of the configuration,
    /// `[upstreams.<name>]`, comes with it.
    pub fn upstream<U: Upstream>(mut self) -> Self {
        self.upstreams.push(Description::of::<U>());
        self
    }

    /// The same with data that resolvers find as `ctx.data::<D>()`: made of each request, and over a
    /// WebSocket of each connection.
    pub fn data<D: Any + Send + Sync>(
        mut self,
        make: impl Fn(&Incoming<'_>) -> D + Send + Sync + 'static,
    ) -> Self {
        self.data.add(make);
        self
    }

    /// The same with routes of the owner's beside its own. They are traced and measured like those.
    pub fn routes(mut self, routes: Router) -> Self {
        self.routes = self.routes.merge(routes);
        self
    }

    /// The same with a tower layer around the calls to the upstream `U`: outermost, so that it sees a
    /// call once and not its attempts. Of two layers the later one is the outer one.
    pub fn layer<U: Upstream, L>(mut self, layer: L) -> Self
    where
        L: Layer<Stack> + Send + Sync + 'static,
        L::Service: Service<
                Call,
                Response = Reply,
                Error = Failed,
                Future: Future<Output = Result<Reply, Failed>> + Send + 'static,
            > + Clone
            + Send
            + Sync
            + 'static,
    {
        self.hooks.add_layer::<U, L>(layer);
        self
    }

    /// The same with a listener that is told of every change of a breaker's state, in order. It is
    /// called on the way of the call that made the change, so it must not wait.
    pub fn on_breaker_change(
        mut self,
        listener: impl Fn(&BreakerChange) + Send + Sync + 'static,
    ) -> Self {
        self.hooks.add_listener(listener);
        self
    }

    /// The schema in the schema definition language.
    pub fn sdl(&self) -> &str {
        self.schema.sdl()
    }

    /// The upstreams that its resolvers call.
    #[cfg(feature = "made-up")]
    pub(crate) fn upstreams(&self) -> &[Description] {
        &self.upstreams
    }

    /// The name it has on the command line.
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// What a configuration of it may name.
    pub(crate) fn known(&self) -> Arc<Known> {
        Arc::new(Known {
            upstreams: self.upstreams.clone(),
            coordinates: self.schema.coordinates(),
        })
    }

    /// Reads the configuration, Nacos included, and gets ready to serve: for tests, and for a `main` of
    /// one's own. [`main`](Self::main) does this, and reads the process's arguments, sets up the log and
    /// stops on signals.
    ///
    /// # Errors
    /// [`Problems`], all that the sources have.
    pub async fn build(self, sources: &Sources) -> Result<Server, Problems> {
        let live = Live::start(self.read(sources)?).await?;
        Ok(Server::new(self, live))
    }

    /// The same without Nacos, whatever the sources say.
    #[cfg(feature = "made-up")]
    pub(crate) fn build_alone(self, sources: &Sources) -> Result<Server, Problems> {
        let live = Live::alone(&self.read(sources)?)?;
        Ok(Server::new(self, live))
    }

    fn read(&self, sources: &Sources) -> Result<SourcesRead, Problems> {
        let layer = self.hooks.around_none_of(&self.upstreams).map(|name| {
            format!(
                "there is a layer around the upstream {name}, and no such upstream: add it by .upstream()"
            )
        });
        if let Some(message) = self.schema.problem().map(str::to_owned).or(layer) {
            return Err(Problems(vec![Problem {
                key: String::new(),
                origin: None,
                message,
            }]));
        }
        sources.read(self.known())
    }
}

impl std::fmt::Debug for Bff {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bff").field("name", &self.name).finish()
    }
}
