//! GraphQL types of messages and enums.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    fmt::Write,
};

use bff_codegen::{
    names::{camel, snake, variant},
    protos::{Behavior, Facts},
};
use heck::{ToShoutySnakeCase, ToUpperCamelCase};
use prost_reflect::{
    Cardinality, EnumDescriptor, FieldDescriptor, FileDescriptor, Kind, MessageDescriptor,
    OneofDescriptor, Value,
};

use crate::{
    comments::Comments,
    names::{self, Names, is_derived, is_graphql},
};

/// Makes types, each once.
pub(crate) struct Types<'p> {
    facts: &'p Facts,
    comments: &'p Comments,
    pub(crate) names: Names,
    /// Names of inputs and of entries, which have none in the protos.
    own: BTreeMap<String, String>,
    /// What is made already, or being made: marked before its fields are looked at.
    made: HashSet<String>,
    /// The text of each, by its name.
    texts: BTreeMap<String, String>,
    /// What is told at the end.
    pub(crate) notes: BTreeSet<String>,
}

/// How a value is written in Rust, in the schema's types.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Type {
    /// Without what says that it may be absent.
    pub(crate) rust: String,
    /// Whether it is `null` by itself, as an `Answer` is.
    pub(crate) nullable: bool,
}

impl Type {
    fn of(rust: impl Into<String>) -> Self {
        Self {
            rust: rust.into(),
            nullable: false,
        }
    }
}

/// A value that is one of the well-known messages, if it is.
pub(crate) fn well_known(message: &MessageDescriptor, output: bool) -> Option<Type> {
    let name = message.full_name().strip_prefix("google.protobuf.")?;
    Some(Type::of(match name {
        "Timestamp" => "Timestamp",
        "Duration" => "Duration",
        "Struct" | "Value" | "ListValue" => "Json",
        "FieldMask" => "Vec<String>",
        "Any" => {
            if output {
                "Any"
            } else {
                "AnyInput"
            }
        }
        "StringValue" => "String",
        "BoolValue" => "bool",
        "Int32Value" => "i32",
        "Int64Value" => "Int64",
        "UInt32Value" => "UInt32",
        "UInt64Value" => "UInt64",
        "FloatValue" | "DoubleValue" => "f64",
        "BytesValue" => "Bytes",
        _ => return None,
    }))
}

/// Whether the messages of a field are put into boxes: the message stands in itself.
fn is_boxed(field: &FieldDescriptor) -> bool {
    let Kind::Message(kind) = field.kind() else {
        return false;
    };
    if field.is_list() {
        return false;
    }
    let wanted = field.parent_message().full_name().to_owned();
    let (mut seen, mut waiting) = (HashSet::new(), vec![kind]);
    while let Some(message) = waiting.pop() {
        if message.full_name() == wanted {
            return true;
        }
        if seen.insert(message.full_name().to_owned()) {
            let fields = message
                .fields()
                .filter(|field| !field.is_list() && !field.is_map());
            waiting.extend(fields.filter_map(|field| match field.kind() {
                Kind::Message(message) => Some(message),
                _ => None,
            }));
        }
    }
    false
}

/// The oneof that a field is an alternative of; one that only stands for `optional` is none.
pub(crate) fn oneof_of(field: &FieldDescriptor) -> Option<OneofDescriptor> {
    field
        .containing_oneof()
        .filter(|oneof| !is_synthetic(oneof))
}

fn is_synthetic(oneof: &OneofDescriptor) -> bool {
    let mut fields = oneof.fields();
    let first = fields.next();
    fields.next().is_none()
        && first.is_some_and(|field| field.field_descriptor_proto().proto3_optional())
}

/// The Rust type of a oneof, behind `crate::upstreams::`.
pub(crate) fn oneof_path(oneof: &OneofDescriptor) -> String {
    let message = oneof.parent_message();
    let name = camel(oneof.name());
    let messages = message
        .child_messages()
        .filter(|child| !child.is_map_entry());
    let clashes = messages
        .map(|child| child.name().to_owned())
        .chain(message.child_enums().map(|it| it.name().to_owned()));
    let suffix = if clashes.into_iter().any(|child| camel(&child) == name) {
        "OneOf"
    } else {
        ""
    };
    format!("{}::{name}{suffix}", names::module_path(message))
}

/// Behind `crate::upstreams::`, or where it stands in the engine.
pub(crate) fn in_upstreams(path: &str) -> String {
    match path.strip_prefix("::") {
        Some(_) => path.to_owned(),
        None => format!("upstreams::{path}"),
    }
}

/// Documentation, and what it is indented by.
pub(crate) fn doc(text: &mut String, indent: &str, lines: &[String]) {
    for line in lines {
        let space = if line.is_empty() { "" } else { " " };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{indent}///{space}{line}");
    }
}

/// `#[graphql(…)]` with what there is.
pub(crate) fn graphql(text: &mut String, indent: &str, parts: &[String]) {
    if !parts.is_empty() {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{indent}#[graphql({})]", parts.join(", "));
    }
}

/// Gives a type its name, where a derive would make another of it.
fn named(text: &mut String, name: &str) {
    let plain = name.chars().all(|c| c.is_ascii_alphabetic()) && name.to_upper_camel_case() == name;
    if !plain {
        graphql(text, "", &[format!("name = {name:?}")]);
    }
}

impl<'p> Types<'p> {
    pub(crate) fn new(facts: &'p Facts, comments: &'p Comments, names: Names) -> Self {
        Self {
            facts,
            comments,
            names,
            own: BTreeMap::new(),
            made: HashSet::new(),
            texts: BTreeMap::new(),
            notes: BTreeSet::new(),
        }
    }

    /// All that was made, by name.
    pub(crate) fn text(&self) -> String {
        self.texts.values().cloned().collect::<Vec<_>>().join("\n")
    }

    /// How many types there are.
    pub(crate) fn len(&self) -> usize {
        self.texts.len()
    }

    pub(crate) fn says(&self, name: &str, behavior: Behavior) -> bool {
        self.facts
            .behavior
            .get(name)
            .is_some_and(|said| said.contains(&behavior))
    }

    /// The documentation of what stands at `path`.
    pub(crate) fn docs(&self, file: &FileDescriptor, path: &[i32]) -> Vec<String> {
        self.comments.at(file, path)
    }

    fn own_name(&mut self, key: &str, wanted: &[String]) -> String {
        if let Some(name) = self.own.get(key) {
            return name.clone();
        }
        let name = self.names.free(wanted);
        self.own.insert(key.to_owned(), name.clone());
        name
    }

    /// The type of a message in replies; made if it is not there yet. `None` if it says nothing.
    pub(crate) fn output(&mut self, message: &MessageDescriptor) -> Option<Type> {
        if let Some(known) = well_known(message, true) {
            return Some(known);
        }
        if self.is_empty_output(message) {
            return None;
        }
        let name = self.names.get(message.full_name());
        if self.made.insert(format!("out {}", message.full_name())) {
            let text = self.object(message, &name);
            self.texts.insert(name.clone(), text);
        }
        Some(Type::of(name))
    }

    /// Whether nothing of a message is published.
    pub(crate) fn is_empty_output(&self, message: &MessageDescriptor) -> bool {
        well_known(message, true).is_none()
            && message
                .fields()
                .all(|field| self.says(field.full_name(), Behavior::InputOnly))
    }

    /// Whether nothing of a message can be given.
    pub(crate) fn is_empty_input(&self, message: &MessageDescriptor) -> bool {
        well_known(message, false).is_none() && self.input_fields(message).is_empty()
    }

    /// The type of one value of `field` in replies; `None` for a message that says nothing.
    fn output_value(&mut self, field: &FieldDescriptor) -> Option<Type> {
        Some(match field.kind() {
            Kind::Message(message) => return self.output(&message),
            Kind::Enum(kind) => Type {
                rust: format!("Answer<{}>", self.enumeration(&kind)),
                nullable: true,
            },
            kind => Type::of(scalar(&kind)),
        })
    }

    fn object(&mut self, message: &MessageDescriptor, name: &str) -> String {
        let mut text = String::new();
        let mut docs = self.docs(&message.parent_file(), message.path());
        if docs.is_empty() {
            docs.push(format!("`{}`.", message.full_name()));
        }
        doc(&mut text, "", &docs);
        text += "#[derive(Clone, SimpleObject, FromProto)]\n";
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "#[proto({})]",
            in_upstreams(&names::message_path(message))
        );
        named(&mut text, name);
        let _ = writeln!(text, "pub struct {name} {{");
        let mut seen = BTreeSet::new();
        for field in message.fields() {
            if self.says(field.full_name(), Behavior::InputOnly) {
                continue;
            }
            let graphql_name = match seen.insert(names::field(&field)) {
                true => names::field(&field),
                false => field.name().to_owned(),
            };
            self.object_field(&mut text, &field, &graphql_name);
        }
        text += "}\n";
        text
    }

    fn object_field(&mut self, text: &mut String, field: &FieldDescriptor, graphql_name: &str) {
        let ident = snake(field.name());
        let mut docs = self.docs(&field.parent_message().parent_file(), field.path());
        let mut proto = Vec::new();
        let oneof = oneof_of(field);
        if let Some(oneof) = &oneof {
            let others: Vec<_> = oneof
                .fields()
                .map(|field| format!("`{}`", names::field(&field)))
                .collect();
            if !docs.is_empty() {
                docs.push(String::new());
            }
            docs.push(match others.len() {
                ..=8 => format!("At most one of {} is there.", others.join(", ")),
                many => format!(
                    "At most one of {many} alternatives is there: `{}`.",
                    oneof.name()
                ),
            });
            proto.push(format!("oneof = {}", snake(oneof.name())));
            proto.push(format!(
                "{}::{}",
                in_upstreams(&oneof_path(oneof)),
                camel(field.name())
            ));
        }
        let rust = if field.is_map() {
            match self.entry(field, true) {
                Some(entry) => format!("Vec<{entry}>"),
                None => return self.left_out(field),
            }
        } else {
            let value = self.output_value(field);
            match (value, field.is_list()) {
                (None, true) => return self.left_out(field),
                (None, false) => {
                    proto.push("set".to_owned());
                    "bool".to_owned()
                }
                (Some(value), true) if value.rust == "f64" && is_float(field) => {
                    "Vec<Option<f64>>".to_owned()
                }
                (Some(value), true) => format!("Vec<{}>", value.rust),
                (Some(value), false) => output_type(field, oneof.is_some(), value),
            }
        };
        doc(text, "    ", &docs);
        let mut parts = Vec::new();
        if !is_derived(&ident, graphql_name) {
            parts.push(format!("name = {graphql_name:?}"));
        }
        if field
            .field_descriptor_proto()
            .options
            .as_ref()
            .is_some_and(|it| it.deprecated())
        {
            parts.push("deprecation".to_owned());
        }
        graphql(text, "    ", &parts);
        // Writing to a String cannot fail.
        if !proto.is_empty() {
            let _ = writeln!(text, "    #[proto({})]", proto.join(", "));
        }
        let _ = writeln!(text, "    pub {ident}: {rust},");
    }

    fn left_out(&mut self, field: &FieldDescriptor) {
        self.notes.insert(format!(
            "left out: {}, a list of messages without fields",
            field.full_name()
        ));
    }

    /// The type of the entries of a map; `None` if their values say nothing.
    fn entry(&mut self, field: &FieldDescriptor, output: bool) -> Option<String> {
        let Kind::Message(entry) = field.kind() else {
            return None;
        };
        let (key_field, value_field) = (entry.map_entry_key_field(), entry.map_entry_value_field());
        let key = scalar(&key_field.kind());
        let value = match output {
            true => self.output_value(&value_field)?.rust,
            false => self.input_value(&value_field)?,
        };
        let value = match value.as_str() {
            "f64" if output => "Option<f64>".to_owned(),
            _ => value,
        };
        let base = names::joined(entry.package_name(), entry.full_name());
        let (suffix, direction) = if output { ("", "out") } else { ("Input", "in") };
        let wanted = [
            format!("{base}{suffix}"),
            format!("{base}Of{suffix}"),
            format!("{base}Pair{suffix}"),
        ];
        let name = self.own_name(&format!("{direction} {}", entry.full_name()), &wanted);
        if self
            .made
            .insert(format!("{direction} {}", entry.full_name()))
        {
            let proto = format!("({}, {})", proto_type(&key_field), proto_type(&value_field));
            let docs = format!("An entry of `{}`.", field.full_name());
            let text = match output {
                true => format!(
                    "/// {docs}\n#[derive(Clone, SimpleObject)]\npub struct {name} {{\n    pub key: {key},\n    pub value: {value},\n}}\n\n\
                     impl FromProto<{proto}> for {name} {{\n    fn from_proto((key, value): {proto}) -> Self {{\n        Self {{\n            \
                     key: FromProto::from_proto(key),\n            value: FromProto::from_proto(value),\n        }}\n    }}\n}}\n"
                ),
                false => format!(
                    "/// {docs}\n#[derive(Clone, InputObject)]\npub struct {name} {{\n    pub key: {key},\n    pub value: {value},\n}}\n\n\
                     impl IntoProto<{proto}> for {name} {{\n    fn into_proto(self) -> Result<{proto}> {{\n        \
                     Ok((self.key.into_proto()?, self.value.into_proto()?))\n    }}\n}}\n"
                ),
            };
            self.texts.insert(name.clone(), text);
        }
        Some(name)
    }

    /// An enum, in both directions.
    pub(crate) fn enumeration(&mut self, kind: &EnumDescriptor) -> String {
        let name = self.names.get(kind.full_name());
        if !self.made.insert(format!("enum {}", kind.full_name())) {
            return name;
        }
        let mut text = String::new();
        let mut docs = self.docs(&kind.parent_file(), kind.path());
        if docs.is_empty() {
            docs.push(format!("`{}`.", kind.full_name()));
        }
        doc(&mut text, "", &docs);
        text += "#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum, FromProto, IntoProto)]\n";
        // Writing to a String cannot fail.
        let _ = writeln!(text, "#[proto({})]", in_upstreams(&names::enum_path(kind)));
        named(&mut text, &name);
        let _ = writeln!(text, "pub enum {name} {{");
        for value in published_values(kind) {
            let docs = self.docs(&kind.parent_file(), value.path());
            doc(&mut text, "    ", &docs);
            let mut parts = vec![format!("name = {:?}", value_name(kind, value.name()))];
            let proto = value.enum_value_descriptor_proto();
            if proto.options.as_ref().is_some_and(|it| it.deprecated()) {
                parts.push("deprecation".to_owned());
            }
            graphql(&mut text, "    ", &parts);
            let _ = writeln!(text, "    {},", variant(kind.name(), value.name()));
        }
        text += "}\n";
        self.texts.insert(name.clone(), text);
        name
    }

    /// The fields of a message that can be given, but for alternatives of oneofs.
    fn input_fields(&self, message: &MessageDescriptor) -> Vec<FieldDescriptor> {
        let can_be_given = |field: &FieldDescriptor| {
            let deprecated = field
                .field_descriptor_proto()
                .options
                .as_ref()
                .is_some_and(|it| it.deprecated());
            !self.says(field.full_name(), Behavior::OutputOnly)
                && (!deprecated || self.is_required(field))
        };
        message.fields().filter(can_be_given).collect()
    }

    /// Whether a request has to have it.
    pub(crate) fn is_required(&self, field: &FieldDescriptor) -> bool {
        field.cardinality() == Cardinality::Required
            || self.says(field.full_name(), Behavior::Required)
    }

    /// The input of a message; made if it is not there yet. `None` if nothing can be given.
    pub(crate) fn input(&mut self, message: &MessageDescriptor) -> Option<String> {
        if let Some(known) = well_known(message, false) {
            return Some(known.rust);
        }
        if self.is_empty_input(message) {
            return None;
        }
        let base = self.names.get(message.full_name());
        let wanted = [
            format!("{base}Input"),
            format!("{base}Data"),
            format!("{base}DataInput"),
        ];
        let name = self.own_name(&format!("in {}", message.full_name()), &wanted);
        if self.made.insert(format!("in {}", message.full_name())) {
            let text = self.input_object(message, &name);
            self.texts.insert(name.clone(), text);
        }
        Some(name)
    }

    fn input_value(&mut self, field: &FieldDescriptor) -> Option<String> {
        match field.kind() {
            Kind::Message(message) => self.input(&message),
            Kind::Enum(kind) => Some(self.enumeration(&kind)),
            kind => Some(scalar(&kind).to_owned()),
        }
    }

    fn input_object(&mut self, message: &MessageDescriptor, name: &str) -> String {
        let mut text = String::new();
        let mut docs = self.docs(&message.parent_file(), message.path());
        if docs.is_empty() {
            docs.push(format!("`{}`.", message.full_name()));
        }
        doc(&mut text, "", &docs);
        text += "#[derive(Clone, InputObject, IntoProto)]\n";
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "#[proto({})]",
            in_upstreams(&names::message_path(message))
        );
        named(&mut text, name);
        let _ = writeln!(text, "pub struct {name} {{");
        for argument in self.arguments(message) {
            doc(&mut text, "    ", &argument.docs);
            let mut parts = Vec::new();
            if !is_derived(&argument.ident, &argument.graphql) {
                parts.push(format!("name = {:?}", argument.graphql));
            }
            parts.extend(argument.default.clone());
            graphql(&mut text, "    ", &parts);
            if argument.set {
                text += "    #[proto(set)]\n";
            }
            let _ = writeln!(text, "    pub {}: {},", argument.ident, argument.rust);
        }
        text += "}\n";
        text
    }

    /// What of a message a client gives, as arguments or as fields of an input: a oneof is one of them.
    pub(crate) fn arguments(&mut self, message: &MessageDescriptor) -> Vec<Argument> {
        let mut arguments = Vec::new();
        let mut oneofs = BTreeSet::new();
        let mut seen = BTreeSet::new();
        for field in self.input_fields(message) {
            let argument = match oneof_of(&field) {
                Some(oneof) => match oneofs.insert(oneof.full_name().to_owned()) {
                    true => self.oneof_argument(&oneof),
                    false => None,
                },
                None => self.argument(&field),
            };
            let Some(mut argument) = argument else {
                continue;
            };
            if !seen.insert(argument.graphql.clone()) {
                argument.graphql = field.name().to_owned();
            }
            arguments.push(argument);
        }
        arguments
    }

    fn argument(&mut self, field: &FieldDescriptor) -> Option<Argument> {
        let required = self.is_required(field);
        let value = match field.is_map() {
            true => Some(format!("Vec<{}>", self.entry(field, false)?)),
            false => self.input_value(field),
        };
        let (value, set) = match (value, field.is_list()) {
            (None, true) => {
                self.left_out(field);
                return None;
            }
            (None, false) => ("bool".to_owned(), true),
            (Some(value), _) if field.is_map() => (value, false),
            (Some(value), true) => (format!("Vec<{value}>"), false),
            (Some(value), false) if is_boxed(field) => (format!("Box<{value}>"), false),
            (Some(value), false) => (value, false),
        };
        let default = self.default_of(field);
        // A message within itself could never end.
        let required = required && !value.starts_with("Box<");
        let rust = match required || default.is_some() {
            true => value,
            false => format!("Option<{value}>"),
        };
        Some(Argument {
            ident: snake(field.name()),
            graphql: names::field(field),
            docs: self.docs(&field.parent_message().parent_file(), field.path()),
            rust,
            default,
            set,
            required,
            field: Some(field.clone()),
        })
    }

    /// The default that a proto2 file gives a field, as a part of `#[graphql(…)]`.
    fn default_of(&mut self, field: &FieldDescriptor) -> Option<String> {
        let given = field.field_descriptor_proto().default_value.as_ref()?;
        if given.is_empty() && !matches!(field.kind(), Kind::String) {
            return None;
        }
        Some(match (field.default_value(), field.kind()) {
            (Value::String(text), _) => format!("default = {text:?}"),
            (Value::Bool(value), _) => format!("default = {value}"),
            (Value::I32(value), _) => format!("default = {value}"),
            (Value::F64(value), _) if value.is_finite() => format!("default = {value:?}"),
            (Value::F32(value), _) if value.is_finite() => format!("default = {value:?}"),
            (Value::I64(value), _) => format!("default_with = \"Int64({value})\""),
            (Value::U64(value), _) => format!("default_with = \"UInt64({value})\""),
            (Value::U32(value), _) => format!("default_with = \"UInt32({value})\""),
            (Value::EnumNumber(number), Kind::Enum(kind)) => {
                let value = published_values(&kind)
                    .into_iter()
                    .find(|value| value.number() == number)?;
                let path = self.enumeration(&kind);
                format!(
                    "default_with = \"{path}::{}\"",
                    variant(kind.name(), value.name())
                )
            }
            _ => return None,
        })
    }

    fn oneof_argument(&mut self, oneof: &OneofDescriptor) -> Option<Argument> {
        let message = oneof.parent_message();
        let base = self.names.get(message.full_name()) + &oneof.name().to_upper_camel_case();
        let wanted = [
            format!("{base}Input"),
            format!("{base}Choice"),
            format!("{base}ChoiceInput"),
        ];
        let key = format!("oneof {}", oneof.full_name());
        let name = self.own_name(&key, &wanted);
        if self.made.insert(key) {
            let mut text = String::new();
            let mut docs = self.docs(&message.parent_file(), oneof.path());
            if docs.is_empty() {
                docs.push(format!(
                    "One of the alternatives of `{}`.",
                    oneof.full_name()
                ));
            }
            doc(&mut text, "", &docs);
            text += "#[derive(Clone, OneofObject, IntoProto)]\n";
            // Writing to a String cannot fail.
            let _ = writeln!(text, "#[proto({})]", in_upstreams(&oneof_path(oneof)));
            named(&mut text, &name);
            let _ = writeln!(text, "pub enum {name} {{");
            let given = self.input_fields(message);
            for field in oneof.fields().filter(|field| given.contains(field)) {
                let docs = self.docs(&message.parent_file(), field.path());
                doc(&mut text, "    ", &docs);
                graphql(
                    &mut text,
                    "    ",
                    &[format!("name = {:?}", names::field(&field))],
                );
                let value = match self.input_value(&field) {
                    Some(value) if is_boxed(&field) => format!("Box<{value}>"),
                    Some(value) => value,
                    None => {
                        text += "    #[proto(set)]\n";
                        "bool".to_owned()
                    }
                };
                let _ = writeln!(text, "    {}({value}),", camel(field.name()));
            }
            text += "}\n";
            self.texts.insert(name.clone(), text);
        }
        Some(Argument {
            ident: snake(oneof.name()),
            graphql: names::root_field(&[oneof.name()]),
            docs: self.docs(&message.parent_file(), oneof.path()),
            rust: format!("Option<{name}>"),
            default: None,
            set: false,
            required: false,
            field: None,
        })
    }
}

/// What a client gives.
pub(crate) struct Argument {
    /// The field of the message, in Rust.
    pub(crate) ident: String,
    pub(crate) graphql: String,
    pub(crate) docs: Vec<String>,
    pub(crate) rust: String,
    /// A part of `#[graphql(…)]`.
    pub(crate) default: Option<String>,
    /// Whether it says only that an empty message is there.
    pub(crate) set: bool,
    pub(crate) required: bool,
    /// `None` for a oneof.
    pub(crate) field: Option<FieldDescriptor>,
}

fn is_float(field: &FieldDescriptor) -> bool {
    matches!(field.kind(), Kind::Float | Kind::Double)
}

/// The type of a singular field in replies.
fn output_type(field: &FieldDescriptor, in_oneof: bool, value: Type) -> String {
    if value.nullable {
        return value.rust;
    }
    let is_message = matches!(field.kind(), Kind::Message(_));
    let rust = match is_boxed(field) {
        true => format!("Box<{}>", value.rust),
        false => value.rust,
    };
    let required = field.cardinality() == Cardinality::Required;
    // JSON has no word for what is no number, so a float can be null.
    let absent =
        in_oneof || is_float(field) || (!required && (is_message || field.supports_presence()));
    if absent {
        format!("Option<{rust}>")
    } else {
        rust
    }
}

/// A scalar's type in the schema.
pub(crate) fn scalar(kind: &Kind) -> &'static str {
    match kind {
        Kind::Double | Kind::Float => "f64",
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => "i32",
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => "Int64",
        Kind::Uint32 | Kind::Fixed32 => "UInt32",
        Kind::Uint64 | Kind::Fixed64 => "UInt64",
        Kind::Bool => "bool",
        Kind::Bytes => "Bytes",
        Kind::String | Kind::Message(_) | Kind::Enum(_) => "String",
    }
}

/// A value's type in the message.
fn proto_type(field: &FieldDescriptor) -> String {
    match field.kind() {
        Kind::Message(message) => match message.full_name() {
            "google.protobuf.StringValue" => "String".to_owned(),
            "google.protobuf.BoolValue" => "bool".to_owned(),
            "google.protobuf.Int32Value" => "i32".to_owned(),
            "google.protobuf.Int64Value" => "i64".to_owned(),
            "google.protobuf.UInt32Value" => "u32".to_owned(),
            "google.protobuf.UInt64Value" => "u64".to_owned(),
            "google.protobuf.FloatValue" => "f32".to_owned(),
            "google.protobuf.DoubleValue" => "f64".to_owned(),
            "google.protobuf.BytesValue" => "Vec<u8>".to_owned(),
            "google.protobuf.Empty" => "()".to_owned(),
            _ => in_upstreams(&names::message_path(&message)),
        },
        Kind::Enum(_) | Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => "i32".to_owned(),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => "i64".to_owned(),
        Kind::Uint32 | Kind::Fixed32 => "u32".to_owned(),
        Kind::Uint64 | Kind::Fixed64 => "u64".to_owned(),
        Kind::Double => "f64".to_owned(),
        Kind::Float => "f32".to_owned(),
        Kind::Bool => "bool".to_owned(),
        Kind::Bytes => "Vec<u8>".to_owned(),
        Kind::String => "String".to_owned(),
    }
}

/// The values of an enum that are published: of several with one number the first, and not the 0 that
/// stands for nothing said, unless there is no other.
pub(crate) fn published_values(kind: &EnumDescriptor) -> Vec<prost_reflect::EnumValueDescriptor> {
    let mut numbers = BTreeSet::new();
    // In the order of the file, which aliases go by.
    let mut values: Vec<_> = kind.values().collect();
    values.sort_by_key(|value| value.path().to_vec());
    values.retain(|value| numbers.insert(value.number()));
    let says_nothing = |value: &prost_reflect::EnumValueDescriptor| {
        value.number() == 0 && value.name().ends_with("UNSPECIFIED")
    };
    match values.iter().all(says_nothing) {
        true => values,
        false => values
            .into_iter()
            .filter(|value| !says_nothing(value))
            .collect(),
    }
}

/// What GraphQL reads as something else than a value of an enum.
const NO_VALUES: [&str; 3] = ["true", "false", "null"];

/// The name of a value in the schema: without the type's name in front, if every value but the 0 has it.
fn value_name(kind: &EnumDescriptor, name: &str) -> String {
    let prefix = format!("{}_", kind.name().to_shouty_snake_case());
    let stripped = |name: &str| -> Option<String> {
        let rest = name.strip_prefix(&prefix)?;
        let reserved = NO_VALUES.contains(&rest);
        (is_graphql(rest) && !reserved).then(|| rest.to_owned())
    };
    let all: Vec<_> = kind
        .values()
        .filter(|value| value.number() != 0)
        .map(|value| stripped(value.name()))
        .collect();
    let distinct: BTreeSet<_> = kind
        .values()
        .map(|value| stripped(value.name()).unwrap_or_else(|| value.name().to_owned()))
        .collect();
    let strips = all.iter().all(Option::is_some) && distinct.len() == kind.values().len();
    let name = match strips {
        true => stripped(name).unwrap_or_else(|| name.to_owned()),
        false => name.to_owned(),
    };
    match NO_VALUES.contains(&name.as_str()) || !is_graphql(&name) {
        true => format!("{prefix}{}", name.trim_start_matches('_').to_uppercase()),
        false => name,
    }
}

/// A value of an enum as a query has it.
pub(crate) fn published_name(kind: &EnumDescriptor) -> Option<String> {
    let value = published_values(kind).into_iter().next()?;
    Some(value_name(kind, value.name()))
}
