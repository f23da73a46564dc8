//! From messages to what the schema publishes of them.

use std::collections::{BTreeMap, HashMap};

use async_graphql::ID;

/// What a GraphQL type makes of an `M` of a proto's. Usually derived, for a struct with a field for each
/// field of the message that is published:
///
/// ```
/// use async_graphql::{ID, SimpleObject};
/// use bff_engine::{FromProto, Int64};
/// # mod v1 {
/// #     #[derive(Clone, PartialEq, prost::Message)]
/// #     pub struct Money {
/// #         #[prost(string, tag = "1")]
/// #         pub currency: String,
/// #         #[prost(int64, tag = "2")]
/// #         pub cents: i64,
/// #     }
/// # }
///
/// #[derive(SimpleObject, FromProto)]
/// #[proto(v1::Money)]
/// struct Money {
///     currency: String,
///     cents: Int64,
/// }
///
/// let money = Money::from_proto(v1::Money { currency: "EUR".into(), cents: 1999 });
/// assert_eq!(money.cents, Int64(1999));
/// ```
///
/// | of the proto | is published as |
/// |---|---|
/// | `string`, `bool`, `int32`, `float`, `double` | `String` or `ID`, `bool`, `i32`, `f64`; also `Option<f64>`, which is `null` for what is no number |
/// | `int64`, `uint64`, `uint32` and the like | [`Int64`](crate::Int64), [`UInt64`](crate::UInt64), [`UInt32`](crate::UInt32) |
/// | `bytes` | [`Bytes`](crate::Bytes) |
/// | an enum | [`Answer`](crate::Answer) of an enum that derives `FromProto` |
/// | a message, `optional` | `Option` of its type |
/// | `repeated` | `Vec` |
/// | `map` | `Vec` of a type made of `(key, value)`, by key |
/// | `Timestamp`, `Duration`, `Struct`, `Value`, `ListValue`, `Any` | [`Timestamp`](crate::Timestamp), [`Duration`](crate::Duration), [`Json`](crate::Json), [`Any`](crate::Any) |
/// | `FieldMask` | `Vec<String>` of paths as GraphQL has them |
/// | `Empty` | `bool` |
pub trait FromProto<M>: Sized {
    /// Makes it of `message`.
    fn from_proto(message: M) -> Self;
}

impl<M, T: FromProto<M>> FromProto<Option<M>> for Option<T> {
    fn from_proto(message: Option<M>) -> Self {
        message.map(T::from_proto)
    }
}

impl<M, T: FromProto<M>> FromProto<Vec<M>> for Vec<T> {
    fn from_proto(messages: Vec<M>) -> Self {
        messages.into_iter().map(T::from_proto).collect()
    }
}

/// A message within itself.
impl<M, T: FromProto<M>> FromProto<Box<M>> for Box<T> {
    fn from_proto(message: Box<M>) -> Self {
        Self::new(T::from_proto(*message))
    }
}

/// A map has no order of its own, and two answers should not differ.
impl<K: Ord, V, T: FromProto<(K, V)>> FromProto<HashMap<K, V>> for Vec<T> {
    fn from_proto(map: HashMap<K, V>) -> Self {
        let sorted: BTreeMap<_, _> = map.into_iter().collect();
        sorted.into_iter().map(T::from_proto).collect()
    }
}

macro_rules! as_it_is {
    ($($ty:ty),*) => {$(
        impl FromProto<$ty> for $ty {
            fn from_proto(value: $ty) -> Self {
                value
            }
        }
    )*};
}

as_it_is!(String, bool, i32, f64);

impl FromProto<f32> for f64 {
    fn from_proto(value: f32) -> Self {
        // By its digits: 0.1 is not to become 0.10000000149011612.
        value.to_string().parse().unwrap_or(value.into())
    }
}

/// JSON has no NaN and no infinity.
impl FromProto<f64> for Option<f64> {
    fn from_proto(value: f64) -> Self {
        value.is_finite().then_some(value)
    }
}

impl FromProto<f32> for Option<f64> {
    fn from_proto(value: f32) -> Self {
        value.is_finite().then(|| f64::from_proto(value))
    }
}

impl FromProto<String> for ID {
    fn from_proto(id: String) -> Self {
        Self(id)
    }
}

macro_rules! ids {
    ($($ty:ty),*) => {$(
        impl FromProto<$ty> for ID {
            fn from_proto(id: $ty) -> Self {
                Self(id.to_string())
            }
        }
    )*};
}

ids!(i32, i64, u32, u64);

/// `google.protobuf.Empty` as an answer: it is done.
impl FromProto<()> for bool {
    fn from_proto((): ()) -> Self {
        true
    }
}

/// `google.protobuf.Empty` as a field: whether it is set.
impl FromProto<Option<()>> for bool {
    fn from_proto(set: Option<()>) -> Self {
        set.is_some()
    }
}

/// Paths of a message, as GraphQL names their fields.
impl FromProto<prost_types::FieldMask> for Vec<String> {
    fn from_proto(mask: prost_types::FieldMask) -> Self {
        mask.paths.iter().map(|path| lower_camel(path)).collect()
    }
}

/// `display_name.first` as `displayName.first`: the rule of JSON's field masks.
fn lower_camel(path: &str) -> String {
    let mut camel = String::with_capacity(path.len());
    let mut upper = false;
    for letter in path.chars() {
        match letter {
            '_' => upper = true,
            letter if upper => {
                camel.extend(letter.to_uppercase());
                upper = false;
            }
            letter => camel.push(letter),
        }
    }
    camel
}
