//! `#[derive(FromProto)]`.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::{Data, DataEnum, DeriveInput, Error, Fields, Ident, Path, Result};

use crate::attributes::{FieldAttributes, message};

pub(crate) fn derive(input: &DeriveInput) -> Result<TokenStream> {
    let message = message(input)?;
    match &input.data {
        Data::Struct(data) => object(input, &message, &data.fields),
        Data::Enum(data) => enumeration(input, &message, data),
        Data::Union(_) => Err(Error::new_spanned(
            &input.ident,
            "no union can be made of a message",
        )),
    }
}

fn object(input: &DeriveInput, message: &Path, fields: &Fields) -> Result<TokenStream> {
    let Fields::Named(fields) = fields else {
        let problem = "fields are found by their names, and these have none";
        return Err(Error::new_spanned(&input.ident, problem));
    };
    let mut values = Vec::new();
    // The alternatives of each oneof that are published: the field that each is for.
    let mut oneofs: Vec<(Ident, Vec<(Path, Ident)>)> = Vec::new();
    for field in &fields.named {
        let Some(name) = &field.ident else { continue };
        let attributes = FieldAttributes::of(&field.attrs)?;
        let taken = match attributes.oneof {
            Some((oneof, path)) => {
                let slot = format_ident!("alternative_{}", values.len());
                match oneofs.iter_mut().find(|(known, _)| *known == oneof) {
                    Some((_, alternatives)) => alternatives.push((path, slot.clone())),
                    None => oneofs.push((oneof, vec![(path, slot.clone())])),
                }
                quote!(#slot)
            }
            None => {
                let from = attributes.from.as_ref().unwrap_or(name);
                quote!(message.#from)
            }
        };
        values.push(match attributes.set {
            true => quote!(#name: #taken.is_some()),
            false => quote!(#name: ::bff_engine::FromProto::from_proto(#taken)),
        });
    }
    let oneofs = oneofs.iter().map(|(oneof, alternatives)| {
        let slots: Vec<_> = alternatives.iter().map(|(_, slot)| slot).collect();
        let paths: Vec<_> = alternatives.iter().map(|(path, _)| path).collect();
        quote! {
            #(let mut #slots = ::core::option::Option::None;)*
            match message.#oneof {
                #(::core::option::Option::Some(#paths(value)) => {
                    #slots = ::core::option::Option::Some(value);
                })*
                _ => {}
            }
        }
    });
    let name = &input.ident;
    Ok(quote! {
        #[automatically_derived]
        #[allow(deprecated, unused_variables, unreachable_patterns)]
        impl ::bff_engine::FromProto<#message> for #name {
            fn from_proto(message: #message) -> Self {
                #(#oneofs)*
                Self { #(#values),* }
            }
        }
    })
}

fn enumeration(input: &DeriveInput, proto: &Path, data: &DataEnum) -> Result<TokenStream> {
    for variant in &data.variants {
        if !matches!(variant.fields, Fields::Unit) {
            let problem =
                "a oneof is published as fields side by side: #[proto(oneof = …)] on each";
            return Err(Error::new_spanned(variant, problem));
        }
    }
    let name = &input.ident;
    let variants: Vec<_> = data.variants.iter().map(|variant| &variant.ident).collect();
    Ok(quote! {
        #[automatically_derived]
        #[allow(deprecated, unreachable_patterns)]
        impl ::bff_engine::codegen::PublishedEnum for #name {
            type Proto = #proto;

            fn published(proto: #proto) -> ::core::option::Option<Self> {
                match proto {
                    #(#proto::#variants => ::core::option::Option::Some(Self::#variants),)*
                    _ => ::core::option::Option::None,
                }
            }

            fn proto_name(proto: #proto) -> &'static str {
                proto.as_str_name()
            }
        }
    })
}
