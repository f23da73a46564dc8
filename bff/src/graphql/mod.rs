//! The schema: what a frontend may ask.
//!
//! A domain is one file: its types, its `…Query` and `…Subscription` parts, and one entry in each
//! of [`Query`] and [`Subscription`].
//!
//! **Invariant:** every field backed by a call is nullable and returns `Option<Result<T>>`, never
//! `Result<Option<T>>`: the schema is the same, but only the former answers `null` beside its
//! siblings when the call fails. One bad upstream never blanks the page.

mod config;
mod context;
mod error;
mod greeter;

use async_graphql::{EmptyMutation, MergedObject, MergedSubscription};

pub use self::{config::Config, error::Code};
use crate::upstream::Upstreams;

/// What can be asked.
#[derive(Default, MergedObject)]
pub struct Query(greeter::GreeterQuery);

/// What can be listened to.
#[derive(Default, MergedSubscription)]
pub struct Subscription(greeter::GreeterSubscription);

/// The executable schema.
pub type Schema = async_graphql::Schema<Query, EmptyMutation, Subscription>;

/// The schema over `upstreams`, within the limits of `config`.
pub fn schema(config: &Config, upstreams: Upstreams) -> Schema {
    let mut builder = Schema::build(Query::default(), EmptyMutation, Subscription::default())
        .limit_depth(config.max_depth)
        .limit_complexity(config.max_complexity)
        .data(upstreams);
    if !config.introspection {
        builder = builder.disable_introspection();
    }
    builder.finish()
}

/// The schema in the schema definition language, as `schema/schema.graphql` holds it.
pub fn sdl() -> String {
    let schema = Schema::build(Query::default(), EmptyMutation, Subscription::default()).finish();
    let mut text = schema.sdl();
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}
