//! Literals: 5.6 "Values".

use super::{Place, Problems, Uses};
use crate::graphql::{
    coerce,
    language::ast::{Named, Value, ValueKind, again},
    types::{Kind, Scalar, Types},
};

/// Checks `value` against `ty`, and notes the variables in it.
pub(super) fn check<'d>(
    types: &Types,
    value: &'d Value,
    place: Place,
    uses: &mut Uses<'d>,
    problems: &mut Problems,
) {
    let ty = place.ty;
    let refuse = |problems: &mut Problems, found: &str| {
        let expected = types.show(ty);
        let message = format!("Expected a value of type \"{expected}\", found {found}.");
        problems.add(value.pos, message);
    };
    match &value.kind {
        ValueKind::Variable(name) => {
            uses.note(name, value.pos, Some(place));
            return;
        }
        ValueKind::Null => {
            if ty.is_non_null() {
                refuse(problems, "null");
            }
            return;
        }
        _ => {}
    }
    if let Some(item) = ty.item() {
        match &value.kind {
            ValueKind::List(items) => {
                for value in items {
                    check(types, value, Place::of(item), uses, problems);
                }
            }
            // One is as good as a list of one.
            _ => check(types, value, Place::of(item), uses, problems),
        }
        return;
    }
    let def = types.get(ty.named);
    let fits = match (&def.kind, &value.kind) {
        (Kind::Input(input), ValueKind::Object(fields)) => {
            unique(fields, problems);
            for (name, value) in fields {
                match input.fields.get(&name.node) {
                    Some(field) => {
                        let place = Place {
                            ty: field.ty,
                            has_default: field.has_default,
                            in_one_of: input.one_of,
                        };
                        check(types, value, place, uses, problems);
                    }
                    // 5.6.2 "Input Object Field Names"
                    None => {
                        uses.note_all(value);
                        let message = format!(
                            "Field \"{}\" is not defined by type \"{}\".",
                            name.node, def.name
                        );
                        let known = input.fields.keys().map(|known| known.as_str());
                        problems.unknown(name.pos, message, &name.node, known);
                    }
                }
            }
            // 5.6.4 "Input Object Required Fields"
            for (name, field) in &input.fields {
                let given = fields.iter().any(|(given, _)| given.node == *name);
                if !given && field.is_required() {
                    let message = format!(
                        "Field \"{}.{name}\" of required type \"{}\" was not provided.",
                        def.name,
                        types.show(field.ty)
                    );
                    problems.add(value.pos, message);
                }
            }
            let null =
                matches!(fields.first(), Some((_, value)) if matches!(value.kind, ValueKind::Null));
            if input.one_of && (fields.len() != 1 || null) {
                let message = format!(
                    "Exactly one field of \"{}\" has to be given, and not as null.",
                    def.name
                );
                problems.add(value.pos, message);
            }
            true
        }
        (Kind::Enum(names), ValueKind::Enum(name)) => {
            if !names.contains(name) {
                problems.unknown(
                    value.pos,
                    format!("Value \"{name}\" does not exist in \"{}\" enum.", def.name),
                    name,
                    names.iter().map(|known| known.as_str()),
                );
            }
            true
        }
        (Kind::Scalar(Scalar::Custom(is_valid)), _) => {
            unique_within(value, problems);
            uses.note_all(value);
            let constant = || coerce::plain(value, &coerce::Coerced::default());
            value.is_open() || constant().is_ok_and(|value| Types::takes(is_valid.as_ref(), &value))
        }
        (Kind::Scalar(scalar), kind) => is_scalar(scalar, kind),
        _ => false,
    };
    if !fits {
        let found = match &value.kind {
            ValueKind::Int(_) | ValueKind::Float(_) => "a number that it does not have",
            ValueKind::String(_) => "a string",
            ValueKind::Boolean(_) => "a boolean",
            ValueKind::Enum(_) => "a name",
            ValueKind::List(_) => "a list",
            ValueKind::Object(_) => "an object",
            ValueKind::Variable(_) | ValueKind::Null => "another",
        };
        refuse(problems, found);
        // What is in it is of no type, but its variables are used.
        uses.note_all(value);
    }
}

/// 5.6.3 "Input Object Field Uniqueness"
fn unique(fields: &[(Named, Value)], problems: &mut Problems) {
    for Named { pos, node } in again(fields.iter().map(|(name, _)| name)) {
        let message = format!("There can be only one input field named \"{node}\".");
        problems.add(*pos, message);
    }
}

/// The same for all that is in a value whose type says nothing about it.
fn unique_within(value: &Value, problems: &mut Problems) {
    match &value.kind {
        ValueKind::List(items) => items.iter().for_each(|item| unique_within(item, problems)),
        ValueKind::Object(fields) => {
            unique(fields, problems);
            fields
                .iter()
                .for_each(|(_, value)| unique_within(value, problems));
        }
        _ => {}
    }
}

/// Whether a literal of this form is a value of `scalar`.
fn is_scalar(scalar: &Scalar, kind: &ValueKind) -> bool {
    match (scalar, kind) {
        (Scalar::Int, ValueKind::Int(digits)) => digits.parse::<i32>().is_ok(),
        (Scalar::Float, ValueKind::Int(digits) | ValueKind::Float(digits)) => {
            digits.parse::<f64>().is_ok_and(f64::is_finite)
        }
        (Scalar::String | Scalar::Id, ValueKind::String(_))
        | (Scalar::Id, ValueKind::Int(_))
        | (Scalar::Boolean, ValueKind::Boolean(_)) => true,
        _ => false,
    }
}
