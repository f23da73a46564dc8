//! `#[derive(IntoProto)]`.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Data, DataEnum, DeriveInput, Error, Fields, Path, Result, Type};

use crate::attributes::{FieldAttributes, message};

pub(crate) fn derive(input: &DeriveInput) -> Result<TokenStream> {
    let message = message(input)?;
    match &input.data {
        Data::Struct(data) => object(input, &message, &data.fields),
        Data::Enum(data)
            if data
                .variants
                .iter()
                .all(|variant| variant.fields.is_empty()) =>
        {
            Ok(enumeration(input, &message, data))
        }
        Data::Enum(data) => oneof(input, &message, data),
        Data::Union(_) => Err(Error::new_spanned(
            &input.ident,
            "no message can be made of a union",
        )),
    }
}

fn object(input: &DeriveInput, message: &Path, fields: &Fields) -> Result<TokenStream> {
    let Fields::Named(fields) = fields else {
        let problem = "fields are found by their names, and these have none";
        return Err(Error::new_spanned(&input.ident, problem));
    };
    let mut fills = Vec::new();
    for field in &fields.named {
        let Some(name) = &field.ident else { continue };
        let attributes = FieldAttributes::of(&field.attrs)?;
        let into = attributes.from.as_ref().unwrap_or(name);
        let optional = is_option(&field.ty);
        fills.push(match (attributes.set, optional) {
            (true, true) => quote! {
                if self.#name == ::core::option::Option::Some(true) {
                    message.#into = ::core::option::Option::Some(::core::default::Default::default());
                }
            },
            (true, false) => quote! {
                if self.#name {
                    message.#into = ::core::option::Option::Some(::core::default::Default::default());
                }
            },
            (false, true) => quote! {
                if let ::core::option::Option::Some(value) = self.#name {
                    ::bff_engine::codegen::Fill::fill(&mut message.#into, value)?;
                }
            },
            (false, false) => quote! {
                ::bff_engine::codegen::Fill::fill(&mut message.#into, self.#name)?;
            },
        });
    }
    let name = &input.ident;
    Ok(quote! {
        #[automatically_derived]
        #[allow(deprecated, unused_mut, clippy::field_reassign_with_default)]
        impl ::bff_engine::IntoProto<#message> for #name {
            fn into_proto(self) -> ::bff_engine::codegen::Result<#message> {
                let mut message = <#message as ::core::default::Default>::default();
                #(#fills)*
                ::core::result::Result::Ok(message)
            }
        }
    })
}

fn enumeration(input: &DeriveInput, proto: &Path, data: &DataEnum) -> TokenStream {
    let name = &input.ident;
    let variants: Vec<_> = data.variants.iter().map(|variant| &variant.ident).collect();
    quote! {
        #[automatically_derived]
        #[allow(deprecated)]
        impl ::bff_engine::IntoProto<i32> for #name {
            fn into_proto(self) -> ::bff_engine::codegen::Result<i32> {
                ::core::result::Result::Ok(match self {
                    #(Self::#variants => #proto::#variants as i32,)*
                })
            }
        }

        #[automatically_derived]
        impl ::bff_engine::codegen::TakenEnum for #name {}
    }
}

fn oneof(input: &DeriveInput, proto: &Path, data: &DataEnum) -> Result<TokenStream> {
    let mut arms = Vec::new();
    for variant in &data.variants {
        let name = &variant.ident;
        if !matches!(&variant.fields, Fields::Unnamed(fields) if fields.unnamed.len() == 1) {
            let problem = "an alternative of a oneof has one value";
            return Err(Error::new_spanned(variant, problem));
        }
        let attributes = FieldAttributes::of(&variant.attrs)?;
        let into = attributes.from.as_ref().unwrap_or(name);
        let value = match attributes.set {
            true => quote!({
                let _: bool = value;
                ::core::default::Default::default()
            }),
            false => quote!(::bff_engine::IntoProto::into_proto(value)?),
        };
        arms.push(quote!(Self::#name(value) => #proto::#into(#value),));
    }
    let name = &input.ident;
    Ok(quote! {
        #[automatically_derived]
        #[allow(deprecated)]
        impl ::bff_engine::IntoProto<#proto> for #name {
            fn into_proto(self) -> ::bff_engine::codegen::Result<#proto> {
                ::core::result::Result::Ok(match self {
                    #(#arms)*
                })
            }
        }
    })
}

/// Whether a type is written as an `Option`.
fn is_option(ty: &Type) -> bool {
    match ty {
        Type::Path(path) => {
            let last = path.path.segments.last();
            last.is_some_and(|segment| segment.ident == "Option")
        }
        _ => false,
    }
}
