//! What third-party options tell of methods and fields.

use std::collections::{BTreeMap, BTreeSet};

use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto,
    UninterpretedOption,
};

/// What options said, by the full name of what they stood on.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The HTTP method of `(google.api.http)`, in lower case.
    pub http: BTreeMap<String, String>,
    /// What `(google.api.field_behavior)` and validators say of fields.
    pub behavior: BTreeMap<String, BTreeSet<Behavior>>,
}

/// How a field is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Behavior {
    /// A request has to have it.
    Required,
    /// Only replies have it.
    OutputOnly,
    /// Only requests have it.
    InputOnly,
}

/// Takes all third-party options out of `file` and notes what they say.
pub(super) fn take_out(file: &mut FileDescriptorProto, facts: &mut Facts) {
    let package = file.package().to_owned();
    if let Some(options) = &mut file.options {
        plain(&mut options.uninterpreted_option);
    }
    for message in &mut file.message_type {
        in_message(message, &package, facts);
    }
    file.enum_type.iter_mut().for_each(in_enum);
    for extension in &mut file.extension {
        in_field(extension, &package, facts);
    }
    for service in &mut file.service {
        let service_name = full(&package, service.name());
        if let Some(options) = &mut service.options {
            plain(&mut options.uninterpreted_option);
        }
        for method in &mut service.method {
            let name = full(&service_name, method.name());
            let Some(options) = &mut method.options else {
                continue;
            };
            for option in plain(&mut options.uninterpreted_option) {
                if is(&option, "google.api.http")
                    && let Some(verb) = verb(&option)
                {
                    facts.http.insert(name.clone(), verb);
                }
            }
        }
    }
}

fn in_message(message: &mut DescriptorProto, scope: &str, facts: &mut Facts) {
    let name = full(scope, message.name());
    if let Some(options) = &mut message.options {
        plain(&mut options.uninterpreted_option);
    }
    for field in message.field.iter_mut().chain(&mut message.extension) {
        in_field(field, &name, facts);
    }
    for oneof in &mut message.oneof_decl {
        if let Some(options) = &mut oneof.options {
            plain(&mut options.uninterpreted_option);
        }
    }
    for range in &mut message.extension_range {
        if let Some(options) = &mut range.options {
            plain(&mut options.uninterpreted_option);
        }
    }
    for nested in &mut message.nested_type {
        in_message(nested, &name, facts);
    }
    message.enum_type.iter_mut().for_each(in_enum);
}

fn in_field(field: &mut FieldDescriptorProto, scope: &str, facts: &mut Facts) {
    let name = full(scope, field.name());
    let Some(options) = &mut field.options else {
        return;
    };
    for option in plain(&mut options.uninterpreted_option) {
        let said = behavior(&option);
        if !said.is_empty() {
            facts.behavior.entry(name.clone()).or_default().extend(said);
        }
    }
}

fn in_enum(kind: &mut EnumDescriptorProto) {
    if let Some(options) = &mut kind.options {
        plain(&mut options.uninterpreted_option);
    }
    for value in &mut kind.value {
        if let Some(options) = &mut value.options {
            plain(&mut options.uninterpreted_option);
        }
    }
}

/// Keeps the options that protos themselves define, and returns the others.
fn plain(options: &mut Vec<UninterpretedOption>) -> Vec<UninterpretedOption> {
    let is_own = |option: &UninterpretedOption| !option.name.iter().any(|part| part.is_extension);
    let (own, others) = std::mem::take(options).into_iter().partition(is_own);
    *options = own;
    others
}

/// Whether it is the option `name`, or a field of it.
fn is(option: &UninterpretedOption, name: &str) -> bool {
    let first = option.name.first();
    first.is_some_and(|part| part.name_part.trim_start_matches('.') == name)
}

/// The fields that stand behind an option's name, such as `get` of `(google.api.http).get`.
fn fields(option: &UninterpretedOption) -> Vec<&str> {
    option
        .name
        .iter()
        .skip(1)
        .map(|part| part.name_part.as_str())
        .collect()
}

fn verb(option: &UninterpretedOption) -> Option<String> {
    const VERBS: [&str; 6] = ["get", "put", "post", "delete", "patch", "custom"];
    if let Some(field) = fields(option).first() {
        return VERBS.contains(field).then(|| (*field).to_owned());
    }
    // The first that stands in it: further ones are of `additional_bindings`.
    let words = words(option.aggregate_value());
    words
        .into_iter()
        .find(|word| VERBS.contains(&word.as_str()))
}

/// The words of an aggregate that are outside of texts.
fn words(aggregate: &str) -> Vec<String> {
    let mut outside = String::new();
    let mut quote = None;
    let mut letters = aggregate.chars();
    while let Some(letter) = letters.next() {
        match (quote, letter) {
            (Some(_), '\\') => {
                letters.next();
            }
            (Some(open), letter) if letter == open => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => {
                quote = Some(letter);
                outside.push(' ');
            }
            (None, letter) => outside.push(letter),
        }
    }
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    outside
        .split(|c: char| !is_word(c))
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect()
}

fn behavior(option: &UninterpretedOption) -> Vec<Behavior> {
    let all = words(option.aggregate_value());
    let fields = fields(option);
    if is(option, "google.api.field_behavior") {
        let said = all
            .iter()
            .map(String::as_str)
            .chain(option.identifier_value.as_deref());
        return said
            .filter_map(|word| match word {
                "REQUIRED" => Some(Behavior::Required),
                "OUTPUT_ONLY" => Some(Behavior::OutputOnly),
                "INPUT_ONLY" => Some(Behavior::InputOnly),
                _ => None,
            })
            .collect();
    }
    let validates = ["buf.validate.field", "validate.rules"]
        .iter()
        .any(|name| is(option, name));
    let by_name = fields.last() == Some(&"required") && option.identifier_value() == "true";
    let within = all
        .windows(2)
        .any(|pair| pair[0] == "required" && pair[1] == "true");
    match validates && (by_name || within) {
        true => vec![Behavior::Required],
        false => Vec::new(),
    }
}

fn full(scope: &str, name: &str) -> String {
    match scope {
        "" => name.to_owned(),
        scope => format!("{scope}.{name}"),
    }
}
