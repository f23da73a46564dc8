//! The owner's schema, whatever its types are.

use std::sync::Arc;

use async_graphql::{
    Data, ObjectType, Request, Response, Schema, SchemaBuilder, SubscriptionType,
    parser::types::{TypeKind, TypeSystemDefinition},
};
use futures_util::{StreamExt, stream::BoxStream};

use super::{Limits, rate_limit::RateLimit};
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

/// Builds the owner's schema, each time the configuration changes.
pub(crate) struct SchemaSource {
    build: Box<Build>,
    sdl: String,
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
        let build = move |limits: &Limits, upstreams: Upstreams, limiter: Arc<Limiter>| {
            let mut builder = builder()
                .limit_depth(limits.max_depth)
                .limit_complexity(limits.max_complexity)
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
        }
    }

    /// The schema over `upstreams`, within the limits `limits` and of `limiter`.
    pub(crate) fn build(
        &self,
        limits: &Limits,
        upstreams: Upstreams,
        limiter: Arc<Limiter>,
    ) -> Arc<dyn Execute> {
        (self.build)(limits, upstreams, limiter)
    }

    /// The schema in the schema definition language.
    pub(crate) fn sdl(&self) -> &str {
        &self.sdl
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
