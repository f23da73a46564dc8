//! The derives behind `bff_engine::FromProto` and `bff_engine::IntoProto`; their traits are described
//! there.

mod attributes;
mod from_proto;
mod into_proto;

use proc_macro::TokenStream;
use syn::{DeriveInput, parse_macro_input};

/// Makes a GraphQL type of a message: `#[proto(path::Message)]` names it. Each field is converted from
/// the message's field of the same name; what is not named is not published.
///
/// On a field: `#[proto(from = name)]` takes it from another field, `#[proto(oneof = kind,
/// path::Kind::Text)]` from an alternative of a oneof, and `#[proto(set)]` says only whether the message
/// is there. An enum without values in its variants is made of an enum of the same variants.
#[proc_macro_derive(FromProto, attributes(proto))]
pub fn from_proto(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    from_proto::derive(&input)
        .unwrap_or_else(syn::Error::into_compile_error)
        .into()
}

/// Makes a message of a GraphQL input: `#[proto(path::Message)]` names it. What the input does not name
/// has its default.
///
/// On a field: `#[proto(from = name)]` is for another field, and `#[proto(set)]` sets an empty message.
/// An enum with values in its variants is made a oneof, one without an enum.
#[proc_macro_derive(IntoProto, attributes(proto))]
pub fn into_proto(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    into_proto::derive(&input)
        .unwrap_or_else(syn::Error::into_compile_error)
        .into()
}
