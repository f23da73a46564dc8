//! `#[proto(…)]` on types and fields.

use syn::{Attribute, DeriveInput, Error, Ident, Path, Result, Token, parse::ParseStream};

/// The message that `#[proto(path::Message)]` on a type names.
pub(crate) fn message(input: &DeriveInput) -> Result<Path> {
    let mut named = input
        .attrs
        .iter()
        .filter(|attr| attr.path().is_ident("proto"));
    let attribute = named.next().ok_or_else(|| {
        Error::new_spanned(
            &input.ident,
            "name the message: #[proto(upstreams::shop::catalog::v1::Product)]",
        )
    })?;
    attribute.parse_args()
}

/// What `#[proto(…)]` on a field or a variant says.
#[derive(Default)]
pub(crate) struct FieldAttributes {
    /// The message's field, if it has another name.
    pub(crate) from: Option<Ident>,
    /// The field of a oneof, and the path of the alternative.
    pub(crate) oneof: Option<(Ident, Path)>,
    /// Whether it says only that the message is there.
    pub(crate) set: bool,
}

impl FieldAttributes {
    pub(crate) fn of(attributes: &[Attribute]) -> Result<Self> {
        let mut found = Self::default();
        for attribute in attributes
            .iter()
            .filter(|attr| attr.path().is_ident("proto"))
        {
            attribute.parse_args_with(|input: ParseStream<'_>| {
                while !input.is_empty() {
                    found.read(input)?;
                    if !input.is_empty() {
                        input.parse::<Token![,]>()?;
                    }
                }
                Ok(())
            })?;
        }
        Ok(found)
    }

    fn read(&mut self, input: ParseStream<'_>) -> Result<()> {
        let word: Ident = input.parse()?;
        if word == "set" {
            self.set = true;
            return Ok(());
        }
        if word != "from" && word != "oneof" {
            let problem = "write from = field, oneof = field, path::Kind::Alternative, or set";
            return Err(Error::new_spanned(word, problem));
        }
        input.parse::<Token![=]>()?;
        let field: Ident = input.parse()?;
        if word == "from" {
            self.from = Some(field);
            return Ok(());
        }
        input.parse::<Token![,]>()?;
        self.oneof = Some((field, input.parse()?));
        Ok(())
    }
}
