//! The owner's schema, whatever its types are.

use std::sync::{Arc, OnceLock};

use async_graphql::{
    Data, ObjectType, Request, Response, Schema, SchemaBuilder, SubscriptionType, ValidationMode,
    extensions::{Extension, ExtensionContext, ExtensionFactory, NextRequest},
    parser::types::{TypeKind, TypeSystemDefinition},
    registry::Registry,
};
use futures_util::{FutureExt, StreamExt, stream::BoxStream};
use opentelemetry::metrics::Meter;
use parking_lot::Mutex;

use super::{
    Limits,
    collect::Limited,
    documents::{Documents, Looks},
    rate_limit::RateLimit,
    types::Types,
};
use crate::{
    call::{BoxFuture, boxed},
    rate_limit::Limiter,
    upstream::Upstreams,
};

/// How deep the library follows selections and fragments; `max_depth` refuses earlier.
const RECURSION: usize = 500;

/// An executable schema.
pub(crate) trait Execute: Send + Sync {
    /// Executes an operation.
    fn execute(&self, request: Request) -> BoxFuture<Response>;

    /// Executes an operation as a stream of answers.
    fn execute_stream(&self, request: Request, session: Arc<Data>) -> BoxStream<'static, Response>;
}

impl<Q, M, S> Execute for Schema<Q, M, S>
where
    Q: ObjectType + 'static,
    M: ObjectType + 'static,
    S: SubscriptionType + 'static,
{
    fn execute(&self, request: Request) -> BoxFuture<Response> {
        let schema = self.clone();
        boxed(async move { Schema::execute(&schema, request).await })
    }

    fn execute_stream(&self, request: Request, session: Arc<Data>) -> BoxStream<'static, Response> {
        self.execute_stream_with_session_data(request, session)
            .boxed()
    }
}

type Build = dyn Fn(&Limits, Upstreams, Arc<Limiter>) -> Arc<dyn Execute> + Send + Sync;

/// The owner's schema under one set of rules.
pub(crate) struct Executable {
    pub(super) schema: Arc<dyn Execute>,
    pub(crate) limits: Limits,
    pub(super) documents: Arc<Documents>,
}

/// Builds the owner's schema, each time the configuration changes.
pub(crate) struct SchemaSource {
    build: Box<Build>,
    sdl: String,
    /// The owner's types; `None` if an extension of the owner's kept them from being read.
    types: Option<Arc<Types>>,
    looks: Arc<Looks>,
    /// The documents of the schema that was built last.
    documents: Mutex<Option<Arc<Documents>>>,
}

impl SchemaSource {
    /// A source of what `builder` begins.
    pub(crate) fn new<Q, M, S>(
        builder: impl Fn() -> SchemaBuilder<Q, M, S> + Send + Sync + 'static,
    ) -> Self
    where
        Q: ObjectType + 'static,
        M: ObjectType + 'static,
        S: SubscriptionType + 'static,
    {
        let mut sdl = builder().finish().sdl();
        sdl.truncate(sdl.trim_end().len());
        sdl.push('\n');
        let types = types_of(builder());
        let build = move |limits: &Limits, upstreams: Upstreams, limiter: Arc<Limiter>| {
            let mut builder = builder()
                // What is handed over is valid and within the limits; the rest of its own rules
                // would only cost.
                .validation_mode(ValidationMode::Fast)
                .limit_recursive_depth(RECURSION)
                .data(upstreams);
            // Any extension costs each field of each query something.
            if limiter.has_rules() {
                builder = builder.extension(RateLimit(limiter));
            }
            if !limits.introspection {
                builder = builder.disable_introspection();
            }
            Arc::new(builder.finish()) as Arc<dyn Execute>
        };
        Self {
            build: Box::new(build),
            sdl,
            types,
            looks: Arc::default(),
            documents: Mutex::default(),
        }
    }

    /// The schema over `upstreams`, within the limits `limits` and of `limiter`.
    pub(crate) fn build(
        &self,
        limits: &Limits,
        upstreams: Upstreams,
        limiter: Arc<Limiter>,
    ) -> Executable {
        let types = self
            .types
            .clone()
            .unwrap_or_else(|| Types::of(&Registry::default()));
        let limited = Limited::of(&types, limiter.fields());
        let mut documents = self.documents.lock();
        // What is remembered of a document depends on nothing else that changes.
        let same = documents
            .as_ref()
            .filter(|documents| *documents.limited() == limited);
        let documents = match same {
            Some(same) => Arc::clone(same),
            None => {
                let new = Documents::new(types, limited, Arc::clone(&self.looks));
                Arc::clone(documents.insert(Arc::new(new)))
            }
        };
        Executable {
            schema: (self.build)(limits, upstreams, limiter),
            limits: *limits,
            documents,
        }
    }

    /// Registers the instruments of what is remembered of documents.
    pub(crate) fn register(&self, meter: &Meter) {
        Looks::register(meter, &self.looks);
    }

    /// What keeps the schema from being served.
    pub(crate) fn problem(&self) -> Option<&'static str> {
        self.types.is_none().then_some(
            "an extension of the schema's kept its types from being read: its hook for requests has \
             to let `{ __typename }` through without waiting when there is no request",
        )
    }

    /// The schema in the schema definition language.
    pub(crate) fn sdl(&self) -> &str {
        &self.sdl
    }

    /// Operations that it answers, to begin with.
    pub(crate) fn operations(&self) -> Vec<String> {
        super::sample::operations(&self.sdl)
    }

    /// Every field of the schema as `Type.field`: what a rate limit can be about.
    pub(crate) fn coordinates(&self) -> Vec<String> {
        // What the library prints, it can parse.
        let Ok(document) = async_graphql::parser::parse_schema(&self.sdl) else {
            return Vec::new();
        };
        let mut coordinates = Vec::new();
        for definition in document.definitions {
            if let TypeSystemDefinition::Type(definition) = definition
                && let TypeKind::Object(object) = definition.node.kind
            {
                let parent = definition.node.name.node;
                let fields = object.fields.into_iter();
                coordinates
                    .extend(fields.map(|field| format!("{parent}.{}", field.node.name.node)));
            }
        }
        coordinates
    }
}

/// The types of the schema that `builder` begins; `None` if an extension of it waits for something, or
/// refuses the operation.
///
/// The library shows its registry to extensions only, so one looks at an operation of no consequence.
pub(super) fn types_of<Q, M, S>(builder: SchemaBuilder<Q, M, S>) -> Option<Arc<Types>>
where
    Q: ObjectType + 'static,
    M: ObjectType + 'static,
    S: SubscriptionType + 'static,
{
    let registry = Arc::new(OnceLock::new());
    let schema = builder
        .extension(Registered(Arc::clone(&registry)))
        .finish();
    // Nothing in it waits.
    let _ = schema.execute("{ __typename }").now_or_never();
    registry.get().cloned()
}

/// Reads the types of the schema that it is an extension of.
struct Registered(Arc<OnceLock<Arc<Types>>>);

impl ExtensionFactory for Registered {
    fn create(&self) -> Arc<dyn Extension> {
        Arc::new(Self(Arc::clone(&self.0)))
    }
}

#[async_trait::async_trait]
impl Extension for Registered {
    async fn request(&self, ctx: &ExtensionContext<'_>, next: NextRequest<'_>) -> Response {
        self.0.get_or_init(|| Types::of(&ctx.schema_env.registry));
        next.run(ctx).await
    }
}

#[cfg(test)]
mod tests {
    use async_graphql::{EmptyMutation, EmptySubscription, SimpleObject};

    use super::*;

    #[derive(Default, SimpleObject)]
    struct Query {
        hello: String,
    }

    #[test]
    fn the_coordinates_are_those_of_the_schema() {
        let source =
            SchemaSource::new(|| Schema::build(Query::default(), EmptyMutation, EmptySubscription));
        assert_eq!(source.coordinates(), ["Query.hello"]);
        assert!(source.sdl().ends_with("}\n"));
    }
}
