//! From what a client gave to messages.

use std::{collections::HashMap, hash::Hash};

use async_graphql::{ID, Result};

use super::TakenEnum;
use crate::graphql::error::Code;

/// What an `M` of a proto's is made of. Usually derived, for a GraphQL input with a field for each field
/// of the message that a client may give; the others have their defaults.
///
/// ```
/// use async_graphql::InputObject;
/// use bff_engine::{Int64, IntoProto};
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
/// #[derive(InputObject, IntoProto)]
/// #[proto(v1::Money)]
/// struct MoneyInput {
///     /// What a message has a default for may be left out.
///     currency: Option<String>,
///     cents: Int64,
/// }
///
/// # fn main() -> async_graphql::Result<()> {
/// let money = MoneyInput { currency: None, cents: Int64(1999) }.into_proto()?;
/// assert_eq!((money.currency.as_str(), money.cents), ("", 1999));
/// # Ok(())
/// # }
/// ```
pub trait IntoProto<M>: Sized {
    /// Makes an `M` of it.
    ///
    /// # Errors
    /// A field error, `BAD_USER_INPUT`, that says what is wrong with it.
    fn into_proto(self) -> Result<M>;
}

/// What a typed client's method takes: a message, or why there is none, which the call then answers with.
pub trait Requested<Q>: Sized {
    /// The message.
    ///
    /// # Errors
    /// Why there is none.
    fn requested(self) -> Result<Q>;
}

impl<Q> Requested<Q> for Q {
    fn requested(self) -> Result<Q> {
        Ok(self)
    }
}

impl<Q> Requested<Q> for Result<Q> {
    fn requested(self) -> Self {
        self
    }
}

/// A field of a message that a `T` can be put into.
pub trait Fill<T> {
    /// Puts `value` into it.
    ///
    /// # Errors
    /// As [`IntoProto::into_proto`].
    fn fill(&mut self, value: T) -> Result<()>;
}

impl<M, T: IntoProto<M>> Fill<T> for Option<M> {
    fn fill(&mut self, value: T) -> Result<()> {
        *self = Some(value.into_proto()?);
        Ok(())
    }
}

impl<M, T: IntoProto<M>> Fill<Vec<T>> for Vec<M> {
    fn fill(&mut self, values: Vec<T>) -> Result<()> {
        let values = values.into_iter().map(T::into_proto);
        *self = values.collect::<Result<_>>()?;
        Ok(())
    }
}

impl<K, V, T> Fill<Vec<T>> for HashMap<K, V>
where
    K: Eq + Hash + ToString,
    T: IntoProto<(K, V)>,
{
    fn fill(&mut self, entries: Vec<T>) -> Result<()> {
        for entry in entries {
            let (key, value) = entry.into_proto()?;
            if self.contains_key(&key) {
                let key = key.to_string();
                let problem = format!("The key {key:?} is given twice.");
                return Err(Code::BadUserInput.field_error(problem));
            }
            self.insert(key, value);
        }
        Ok(())
    }
}

impl<E: TakenEnum> Fill<E> for i32 {
    fn fill(&mut self, value: E) -> Result<()> {
        *self = value.into_proto()?;
        Ok(())
    }
}

/// A message that is there in any case (a required one of proto2) has no `Option` around it; neither has
/// a number. `fill` for both is the conversion.
macro_rules! fills {
    ($($from:ty => $into:ty: $convert:expr;)*) => {$(
        impl IntoProto<$into> for $from {
            fn into_proto(self) -> Result<$into> {
                Ok($convert(self))
            }
        }

        impl Fill<$from> for $into {
            fn fill(&mut self, value: $from) -> Result<()> {
                *self = value.into_proto()?;
                Ok(())
            }
        }
    )*};
}
pub(super) use fills;

fills! {
    String => String: |text| text;
    ID => String: |ID(id)| id;
    bool => bool: |value| value;
    i32 => i32: |value| value;
    f64 => f64: |value| value;
}

impl IntoProto<f32> for f64 {
    fn into_proto(self) -> Result<f32> {
        let value = self as f32;
        match value.is_finite() {
            true => Ok(value),
            false => {
                Err(Code::BadUserInput.field_error(format!("{self} is too large for this field.")))
            }
        }
    }
}

impl Fill<f64> for f32 {
    fn fill(&mut self, value: f64) -> Result<()> {
        *self = value.into_proto()?;
        Ok(())
    }
}

/// A message within itself.
impl<M, T: IntoProto<M>> IntoProto<Box<M>> for Box<T> {
    fn into_proto(self) -> Result<Box<M>> {
        Ok(Box::new((*self).into_proto()?))
    }
}

/// Paths as GraphQL names their fields.
impl IntoProto<prost_types::FieldMask> for Vec<String> {
    fn into_proto(self) -> Result<prost_types::FieldMask> {
        let paths = self.iter().map(|path| snake(path)).collect();
        Ok(prost_types::FieldMask { paths })
    }
}

/// `displayName.first` as `display_name.first`: the rule of JSON's field masks.
fn snake(path: &str) -> String {
    let mut snake = String::with_capacity(path.len());
    for letter in path.chars() {
        if letter.is_ascii_uppercase() {
            snake.push('_');
        }
        snake.push(letter.to_ascii_lowercase());
    }
    snake
}
