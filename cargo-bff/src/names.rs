//! Names in the schema, and the Rust names beside them.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bff_codegen::names::{camel, identifier, module, snake};
use heck::{ToLowerCamelCase, ToUpperCamelCase};
use prost_reflect::{EnumDescriptor, FieldDescriptor, MessageDescriptor};

/// Names that a type of one's own cannot have: GraphQL's, the engine's scalars, and what the generated
/// code uses of Rust's.
const RESERVED: [&str; 54] = [
    "Query",
    "Mutation",
    "Subscription",
    "Int",
    "Float",
    "String",
    "Boolean",
    "ID",
    "Int64",
    "UInt64",
    "UInt32",
    "Bytes",
    "Timestamp",
    "Duration",
    "JSON",
    "Json",
    "Any",
    "AnyInput",
    "Result",
    "Option",
    "Vec",
    "Box",
    "Error",
    "Some",
    "None",
    "Ok",
    "Err",
    "Answer",
    "Batch",
    "BatchExt",
    "Context",
    "Object",
    "SimpleObject",
    "InputObject",
    "OneofObject",
    "Enum",
    "Calls",
    "CallExt",
    "FromProto",
    "IntoProto",
    "Stream",
    "StreamExt",
    "Default",
    "Clone",
    "Copy",
    "Send",
    "Sync",
    "Fn",
    "Eq",
    "Self",
    "Into",
    "From",
    "Iterator",
    "PageInfo",
];

/// Whether it stands for a version: `v1`, `v1beta1`.
pub(crate) fn is_version(segment: &str) -> bool {
    let rest = segment.strip_prefix('v').unwrap_or_default();
    rest.starts_with(|first: char| first.is_ascii_digit())
        && rest.chars().all(|c| c.is_ascii_alphanumeric())
}

/// The name of the upstream that serves `package`: its last segment that is no version.
pub(crate) fn upstream(package: &str, file: &str) -> String {
    let segment = package
        .split('.')
        .rev()
        .find(|segment| !segment.is_empty() && !is_version(segment));
    let file = file.rsplit('/').next().unwrap_or(file);
    let name = segment.unwrap_or_else(|| file.trim_end_matches(".proto"));
    name.replace('_', "-").to_lowercase()
}

/// Names for things of many packages: each has its own, with as much of its package in front as it takes.
pub(crate) struct Names {
    /// By full name.
    names: HashMap<String, String>,
    taken: BTreeSet<String>,
}

impl Names {
    /// Names for `things`, each a full name with its package and its own name; none is one of `taken`.
    pub(crate) fn of(things: &[(String, String, String)], taken: &BTreeSet<String>) -> Self {
        let mut groups: BTreeMap<&str, Vec<&(String, String, String)>> = BTreeMap::new();
        for thing in things {
            groups.entry(thing.2.as_str()).or_default().push(thing);
        }
        let mut names = HashMap::new();
        let mut used: BTreeSet<String> = taken.clone();
        used.extend(
            groups
                .iter()
                .filter(|(_, of)| of.len() == 1)
                .map(|(name, _)| (*name).to_owned()),
        );
        for (own, of) in groups {
            let is_reserved = RESERVED.contains(&own) || taken.contains(own);
            if of.len() == 1 && !is_reserved {
                names.insert(of[0].0.clone(), own.to_owned());
                continue;
            }
            let in_front: [fn(&str) -> String; 3] = [
                |package| last_segment(package),
                |package| last_segment(package) + &version(package),
                |package| package.replace('.', "_").to_upper_camel_case(),
            ];
            let candidates = in_front.iter().map(|front| -> Vec<_> {
                let names = of
                    .iter()
                    .map(|(_, package, own)| format!("{}{own}", front(package)));
                names.collect()
            });
            let mut candidates = candidates.filter(|names| {
                let distinct: BTreeSet<_> = names.iter().collect();
                distinct.len() == names.len()
                    && names
                        .iter()
                        .all(|name| !used.contains(name) && !RESERVED.contains(&name.as_str()))
            });
            let chosen = candidates.next().unwrap_or_else(|| {
                let numbered = of.iter().enumerate();
                numbered
                    .map(|(n, (.., own))| format!("{own}Type{}", n + 1))
                    .collect()
            });
            for ((full, ..), name) in of.iter().zip(chosen) {
                used.insert(name.clone());
                names.insert(full.clone(), name);
            }
        }
        Self { names, taken: used }
    }

    /// The name of `full`.
    pub(crate) fn get(&self, full: &str) -> String {
        self.names
            .get(full)
            .cloned()
            .unwrap_or_else(|| full.to_upper_camel_case())
    }

    /// A name that nobody has yet, of those in `wanted` the first that is free.
    pub(crate) fn free(&mut self, wanted: &[String]) -> String {
        let is_free =
            |name: &String| !self.taken.contains(name) && !RESERVED.contains(&name.as_str());
        let found = wanted.iter().find(|name| is_free(name)).cloned();
        let name = found.unwrap_or_else(|| {
            let last = wanted.last().cloned().unwrap_or_default();
            let mut numbered = (2..).map(|n| format!("{last}{n}"));
            numbered.find(is_free).unwrap_or(last)
        });
        self.taken.insert(name.clone());
        name
    }
}

fn last_segment(package: &str) -> String {
    let segment = package
        .split('.')
        .rev()
        .find(|segment| !segment.is_empty() && !is_version(segment));
    segment.unwrap_or("Proto").to_upper_camel_case()
}

fn version(package: &str) -> String {
    let version = package.split('.').rev().find(|segment| is_version(segment));
    version.unwrap_or_default().to_upper_camel_case()
}

/// The own name of a message, with those of the messages around it: `OuterInner`.
pub(crate) fn joined(package: &str, full_name: &str) -> String {
    let own = full_name
        .strip_prefix(package)
        .unwrap_or(full_name)
        .trim_start_matches('.');
    let joined: String = own.split('.').collect();
    let is_upper = joined.starts_with(|first: char| first.is_ascii_uppercase());
    match joined.contains('_') || !is_upper {
        true => joined.to_upper_camel_case(),
        false => joined,
    }
}

/// The Rust type of a message, behind `crate::upstreams::`.
pub(crate) fn message_path(message: &MessageDescriptor) -> String {
    path(message.package_name(), message.full_name())
}

/// The Rust type of an enum, behind `crate::upstreams::`.
pub(crate) fn enum_path(kind: &EnumDescriptor) -> String {
    path(kind.package_name(), kind.full_name())
}

/// Modules of the package and of the messages around it, and the type.
fn path(package: &str, full_name: &str) -> String {
    let own = full_name
        .strip_prefix(package)
        .unwrap_or(full_name)
        .trim_start_matches('.');
    let segments: Vec<_> = own.split('.').collect();
    let (last, around) = segments.split_last().unwrap_or((&"", &[]));
    if package == "google.protobuf" {
        let around: String = around
            .iter()
            .map(|name| format!("{}::", snake(name)))
            .collect();
        return format!(
            "::bff_engine::codegen::prost_types::{around}{}",
            camel(last)
        );
    }
    let packages = package
        .split('.')
        .filter(|segment| !segment.is_empty())
        .map(module);
    let around = around.iter().map(|name| snake(name));
    let mut path: Vec<_> = packages.chain(around).collect();
    path.push(camel(last));
    path.join("::")
}

/// The module of a message's oneofs and nested types.
pub(crate) fn module_path(message: &MessageDescriptor) -> String {
    let path = message_path(message);
    let (before, _) = path.rsplit_once("::").unwrap_or(("", &path));
    let own = snake(message.name());
    match before {
        "" => own,
        before => format!("{before}::{own}"),
    }
}

/// A field's name in the schema.
pub(crate) fn field(field: &FieldDescriptor) -> String {
    let json = field.json_name();
    match is_graphql(json) {
        true => json.to_owned(),
        false => {
            let camel = field.name().to_lower_camel_case();
            if is_graphql(&camel) {
                camel
            } else {
                format!("field{}", field.number())
            }
        }
    }
}

/// Whether it is a name in GraphQL that is not reserved.
pub(crate) fn is_graphql(name: &str) -> bool {
    let first = name.chars().next();
    first.is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
        && !name.starts_with("__")
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// Whether the derives make `graphql` of the Rust name `rust` by themselves. Where numbers or single
/// underscores come in, opinions differ.
pub(crate) fn is_derived(rust: &str, graphql: &str) -> bool {
    let plain = rust.trim_start_matches("r#");
    let words = || plain.split('_');
    words().all(|word| word.len() > 1 && word.chars().all(|c| c.is_ascii_lowercase()))
        && plain.to_lower_camel_case() == graphql
}

/// A method's name in the schema.
pub(crate) fn root_field(parts: &[&str]) -> String {
    parts.join("_").to_lower_camel_case()
}

/// A Rust name of a function for a root field.
pub(crate) fn function(field: &str) -> String {
    identifier(snake(field).trim_start_matches("r#"))
}
