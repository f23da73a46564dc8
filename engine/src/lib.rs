//! A GraphQL backend-for-frontend over gRPC services found in Consul: everything that names no
//! service. A team's own crate brings schema, resolvers and upstreams, and starts it:
//!
//! ```no_run
//! use async_graphql::{EmptyMutation, EmptySubscription, Object, Schema};
//! use bff_engine::Bff;
//!
//! #[derive(Default)]
//! struct Query;
//!
//! #[Object]
//! impl Query {
//!     async fn answer(&self) -> i32 {
//!         42
//!     }
//! }
//!
//! #[tokio::main]
//! async fn main() -> std::process::ExitCode {
//!     let schema = || Schema::build(Query, EmptyMutation, EmptySubscription);
//!     Bff::new("bff", schema).main().await
//! }
//! ```
//!
//! Inside, the modules in the order a request meets them: `http` takes it, `graphql` executes it,
//! `upstream` is what resolvers call, `resilience` the layers around each call, `balance` the choice
//! of an instance among those that `discovery` found, `call` what passes between them, and how it
//! travels. `app` puts them together.

mod app;
mod balance;
mod call;
mod cli;
mod config;
mod discovery;
mod graphql;
mod http;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod internals;
#[cfg(feature = "made-up")]
mod made_up;
mod rate_limit;
mod resilience;
mod shutdown;
#[cfg(test)]
mod simulation;
mod telemetry;
#[cfg(feature = "made-up")]
pub mod testing;
mod types;
mod upstream;

pub use self::{
    app::{Bff, Bound, Server},
    call::{Call, Code, Failed, Method, Reply},
    config::{Problem, Problems, Sources},
    graphql::{
        Answer, Any, AnyInput, Batch, BatchExt, Bytes, CallExt, Calls, Client, Duration, FromProto,
        Int64, IntoProto, Json, Timestamp, UInt32, UInt64,
    },
    http::Incoming,
    resilience::{
        Stack,
        breaker::{BreakerChange, State as BreakerState},
    },
    shutdown::signal as stop_signal,
    upstream::{Typed, Upstream, UpstreamError},
};

pub use bff_derive::{FromProto, IntoProto};

/// What a file with resolvers uses.
pub mod prelude {
    pub use crate::{Answer, Batch, BatchExt, CallExt, Calls, FromProto, IntoProto, request};
}

// Derives name this crate by its name, also in its own tests and examples.
extern crate self as bff_engine;

/// What generated clients and derives stand on; no part of the door.
#[doc(hidden)]
pub mod codegen {
    pub use crate::graphql::{Fill, PublishedEnum, Requested, TakenEnum};
    pub use async_graphql::Result;
    pub use futures_util::stream::BoxStream;
    pub use {prost, prost_types};
}

/// A request made of a resolver's arguments, which have the names of the message's fields: what is written
/// with a `?` may be absent, and then the field has its default. It is a `Result`, which a client's method
/// takes as it is.
///
/// ```
/// # mod v1 {
/// #     #[derive(Clone, PartialEq, prost::Message)]
/// #     pub struct GetRequest {
/// #         #[prost(string, tag = "1")]
/// #         pub id: String,
/// #         #[prost(int64, tag = "2")]
/// #         pub revision: i64,
/// #         #[prost(message, optional, tag = "3")]
/// #         pub deep: Option<()>,
/// #     }
/// # }
/// use bff_engine::{Int64, request};
///
/// # fn main() -> async_graphql::Result<()> {
/// let (id, revision, deep) = ("a".to_owned(), None::<Int64>, Some(true));
/// let request = request!(v1::GetRequest { id, revision?, set deep? })?;
/// assert_eq!((request.id.as_str(), request.revision, request.deep), ("a", 0, Some(())));
/// # Ok(())
/// # }
/// ```
#[macro_export]
macro_rules! request {
    ($message:ty { $($parts:tt)* }) => {
        (move || -> $crate::codegen::Result<$message> {
            #[allow(unused_mut)]
            let mut message = <$message as ::core::default::Default>::default();
            $crate::request_fields!(message, $($parts)*);
            ::core::result::Result::Ok(message)
        })()
    };
}

/// The fields of [`request!`], one after the other.
#[doc(hidden)]
#[macro_export]
macro_rules! request_fields {
    ($message:ident, ) => {};
    ($message:ident, $field:ident = set $value:ident ? $(, $($rest:tt)*)?) => {
        if $value == ::core::option::Option::Some(true) {
            $message.$field = ::core::option::Option::Some(::core::default::Default::default());
        }
        $crate::request_fields!($message, $($($rest)*)?);
    };
    ($message:ident, $field:ident = set $value:ident $(, $($rest:tt)*)?) => {
        if $value {
            $message.$field = ::core::option::Option::Some(::core::default::Default::default());
        }
        $crate::request_fields!($message, $($($rest)*)?);
    };
    ($message:ident, $field:ident = $value:ident ? $(, $($rest:tt)*)?) => {
        if let ::core::option::Option::Some(value) = $value {
            $crate::codegen::Fill::fill(&mut $message.$field, value)?;
        }
        $crate::request_fields!($message, $($($rest)*)?);
    };
    ($message:ident, $field:ident = $value:ident $(, $($rest:tt)*)?) => {
        $crate::codegen::Fill::fill(&mut $message.$field, $value)?;
        $crate::request_fields!($message, $($($rest)*)?);
    };
    ($message:ident, set $field:ident ? $(, $($rest:tt)*)?) => {
        $crate::request_fields!($message, $field = set $field ? $(, $($rest)*)?);
    };
    ($message:ident, set $field:ident $(, $($rest:tt)*)?) => {
        $crate::request_fields!($message, $field = set $field $(, $($rest)*)?);
    };
    ($message:ident, $field:ident ? $(, $($rest:tt)*)?) => {
        $crate::request_fields!($message, $field = $field ? $(, $($rest)*)?);
    };
    ($message:ident, $field:ident $(, $($rest:tt)*)?) => {
        $crate::request_fields!($message, $field = $field $(, $($rest)*)?);
    };
}

/// A module `upstreams` with what `bff-codegen` made in the crate's build script.
#[macro_export]
macro_rules! upstreams {
    () => {
        #[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
        pub mod upstreams {
            //! Messages by their package, and the upstreams that take them.

            include!(concat!(env!("OUT_DIR"), "/upstreams.rs"));
        }
    };
}
