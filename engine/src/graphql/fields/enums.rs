//! Enums of protos: numbers, of which an upstream that is newer than this program may send others.

use async_graphql::Error;
use tracing::warn;

use super::{Answer, FromProto};
use crate::graphql::error::Code;

/// An enum of the schema, made of one of a proto. The derive `FromProto` implements it.
pub trait PublishedEnum: Sized {
    /// The proto's enum.
    type Proto: TryFrom<i32> + Copy;

    /// The published value; `None` where the schema has none for it.
    fn published(proto: Self::Proto) -> Option<Self>;

    /// The value's name in the proto.
    fn proto_name(proto: Self::Proto) -> &'static str;
}

/// An enum of the schema that a proto's is made of. The derive `IntoProto` implements it.
pub trait TakenEnum: super::IntoProto<i32> {}

/// A number that the schema has no value for is `null` and an error, never another value. The 0 that
/// stands for "not said", by its name, is `null` unless it is published.
impl<E: PublishedEnum> FromProto<i32> for Answer<E> {
    fn from_proto(number: i32) -> Self {
        let Ok(proto) = E::Proto::try_from(number) else {
            return unknown(&number.to_string()).into();
        };
        let name = E::proto_name(proto);
        match E::published(proto) {
            Some(value) => Self::value(value),
            None if number == 0 && name.ends_with("UNSPECIFIED") => Self::null(),
            None => unknown(name).into(),
        }
    }
}

impl<E: PublishedEnum> FromProto<Option<i32>> for Answer<E> {
    fn from_proto(number: Option<i32>) -> Self {
        number.map_or_else(Self::null, Self::from_proto)
    }
}

/// The value is for the log: an owner may have left it out on purpose.
fn unknown(value: &str) -> Error {
    warn!(
        value,
        "an upstream answered with a value of an enum that the schema does not have"
    );
    Code::Internal.field_error("The upstream answered with a value that the schema does not have.")
}
