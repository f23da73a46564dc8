//! What resolvers answer with and are given: a nullable result, conversions between messages and
//! GraphQL types, and scalars for what GraphQL has no type for. One policy, whoever writes the
//! resolver.

mod answer;
mod enums;
mod from_proto;
mod into_proto;
mod scalars;

pub use self::{
    answer::Answer,
    enums::{PublishedEnum, TakenEnum},
    from_proto::FromProto,
    into_proto::{Fill, IntoProto, Requested},
    scalars::{Any, AnyInput, Bytes, Duration, Int64, Json, Timestamp, UInt32, UInt64},
};

#[cfg(test)]
mod tests;
