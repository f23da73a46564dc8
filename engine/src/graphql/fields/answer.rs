//! What a field that is backed by a call answers.

use std::borrow::Cow;

use async_graphql::{
    ContextSelectionSet, Error, OutputType, Positioned, Result, ServerResult, Value,
    parser::types::Field, registry::Registry,
};

use futures_util::{Stream, StreamExt, TryStreamExt};

use super::FromProto;
use crate::graphql::error::is_not_found;

/// What a field that is backed by a call answers: a value, `null`, or `null` and an error. Its type in
/// the schema is nullable, so that a failed call leaves the field's siblings alone.
///
/// A resolver makes one of a call's result, and the message in it becomes the field's type:
///
/// ```
/// # use async_graphql::{Context, ID, Object, Result, SimpleObject};
/// use bff_engine::{Answer, CallExt, FromProto};
/// # use bff_engine::{Method, Upstream};
/// # struct Catalog;
/// # impl Upstream for Catalog {
/// #     const NAME: &'static str = "catalog";
/// #     const SERVICE: &'static str = "catalog-srv";
/// # }
/// # #[derive(Clone, PartialEq, prost::Message)]
/// # pub struct ProductMessage {
/// #     #[prost(string, tag = "1")]
/// #     id: String,
/// # }
/// # static GET_PRODUCT: Method<Catalog, String, ProductMessage> =
/// #     Method::unary("/shop.Catalog/GetProduct").idempotent();
///
/// #[derive(SimpleObject, FromProto)]
/// #[proto(ProductMessage)]
/// struct Product {
///     id: ID,
/// }
///
/// # struct Query;
/// #[Object]
/// impl Query {
///     async fn product(&self, ctx: &Context<'_>, id: String) -> Answer<Product> {
///         ctx.client().call(&GET_PRODUCT, &id).await.into()
///     }
/// }
/// ```
#[derive(Clone, Debug)]
#[must_use = "an answer says nothing until a field returns it"]
pub struct Answer<T>(Option<Result<T>>);

impl<T> Answer<T> {
    /// An answer with a value.
    pub fn value(value: T) -> Self {
        Self(Some(Ok(value)))
    }

    /// `null`, and nothing is wrong.
    pub fn null() -> Self {
        Self(None)
    }

    /// A value that is no message any more, or an error.
    pub fn of(result: Result<T>) -> Self {
        Self(Some(result))
    }

    /// `null` without an error where the upstream says that there is no such thing (NOT_FOUND), or where
    /// a batch has no answer for its key.
    pub fn not_found_as_null(self) -> Self {
        Self(
            self.0
                .filter(|result| !result.as_ref().is_err_and(is_not_found)),
        )
    }

    /// The same with another value.
    pub fn map<U>(self, map: impl FnOnce(T) -> U) -> Answer<U> {
        Answer(self.0.map(|result| result.map(map)))
    }

    /// What is answered: `None` is `null`.
    ///
    /// # Errors
    /// Why the field failed.
    pub fn into_result(self) -> Result<Option<T>> {
        self.0.transpose()
    }
}

impl<T> Answer<Vec<T>> {
    /// Of a stream that ends, its first `limit` messages as a list. What was read before it breaks is not
    /// answered: half a list looks like a whole one.
    pub async fn collect<M>(
        stream: Result<impl Stream<Item = Result<M>> + Unpin>,
        limit: usize,
    ) -> Self
    where
        T: FromProto<M>,
    {
        let messages = match stream {
            Ok(stream) => stream.take(limit).try_collect::<Vec<M>>().await,
            Err(error) => Err(error),
        };
        messages.into()
    }
}

/// Of a call's result.
impl<M, T: FromProto<M>> From<Result<M>> for Answer<T> {
    fn from(result: Result<M>) -> Self {
        Self(Some(result.map(T::from_proto)))
    }
}

impl<T> From<Error> for Answer<T> {
    fn from(error: Error) -> Self {
        Self(Some(Err(error)))
    }
}

impl<T: OutputType> OutputType for Answer<T> {
    fn type_name() -> Cow<'static, str> {
        T::type_name()
    }

    fn qualified_type_name() -> String {
        T::type_name().into_owned()
    }

    fn create_type_info(registry: &mut Registry) -> String {
        T::create_type_info(registry);
        T::type_name().into_owned()
    }

    async fn resolve(
        &self,
        ctx: &ContextSelectionSet<'_>,
        field: &Positioned<Field>,
    ) -> ServerResult<Value> {
        let error = match &self.0 {
            None => return Ok(Value::Null),
            Some(Ok(value)) => match value.resolve(ctx, field).await {
                Ok(value) => return Ok(value),
                Err(error) => error,
            },
            Some(Err(error)) => {
                let error = error.clone().into_server_error(field.pos);
                ctx.set_error_path(error)
            }
        };
        ctx.add_error(error);
        Ok(Value::Null)
    }
}
