//! What a crate is made of: proto files, a descriptor set, or a running server's own word.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail, ensure};
use bff_codegen::protos::{self, Behavior, Facts, Root};
use heck::{ToSnakeCase, ToUpperCamelCase};
use prost_reflect::{
    DescriptorPool, DynamicMessage, EnumDescriptor, MessageDescriptor, MethodDescriptor, Value,
};

use crate::names;

/// Services that everybody has, and nobody publishes.
const NOBODYS: [&str; 2] = ["grpc.health.", "grpc.reflection."];

/// What was read.
#[derive(Clone, Debug)]
pub(crate) struct Read {
    pub(crate) pool: DescriptorPool,
    pub(crate) facts: Facts,
    /// The files that were named, by their name within their root.
    pub(crate) named: Vec<String>,
    /// All files that have to come along, by that name.
    pub(crate) files: Vec<(String, PathBuf)>,
}

/// Reads proto files.
pub(crate) fn protos(files: &[PathBuf], includes: &[PathBuf]) -> anyhow::Result<Read> {
    let mut roots: Vec<Root> = Vec::new();
    for file in files {
        let root = protos::root_of(file, includes, &roots)?;
        if let Some(other) = roots
            .iter()
            .find(|other| overlap(&other.folder, &root.folder))
        {
            bail!(
                "{} is read from {} and {} from {}, which lie within one another: name one folder for both by --include",
                other.name,
                other.folder.display(),
                root.name,
                root.folder.display()
            );
        }
        roots.push(root);
    }
    let mut folders: Vec<PathBuf> = Vec::new();
    for folder in roots.iter().map(|root| &root.folder).chain(includes) {
        if !folders.contains(folder) {
            folders.push(folder.clone());
        }
    }
    let named: Vec<_> = roots.iter().map(|root| root.name.clone()).collect();
    let compiled = protos::compile(&named, &folders)?;
    let pool = DescriptorPool::from_file_descriptor_set(compiled.descriptors)
        .context("the files do not fit together")?;
    Ok(Read {
        pool,
        facts: compiled.facts,
        named,
        files: compiled.read,
    })
}

/// Whether one folder lies in the other, and is not the same.
fn overlap(one: &Path, other: &Path) -> bool {
    one != other && (one.starts_with(other) || other.starts_with(one))
}

impl Read {
    /// The methods of the services in the files that were named.
    pub(crate) fn methods(&self) -> anyhow::Result<Vec<MethodDescriptor>> {
        let services: Vec<_> = self
            .pool
            .services()
            .filter(|service| {
                self.named
                    .iter()
                    .any(|name| name == service.parent_file().name())
            })
            .filter(|service| {
                !NOBODYS
                    .iter()
                    .any(|prefix| service.full_name().starts_with(prefix))
            })
            .collect();
        ensure!(
            !services.is_empty(),
            "{}: no service is in it: name the file with the service",
            self.named.join(", ")
        );
        let methods: Vec<_> = services
            .iter()
            .flat_map(|service| service.methods())
            .collect();
        ensure!(
            !methods.is_empty(),
            "{}: its services have no methods",
            self.named.join(", ")
        );
        Ok(methods)
    }

    /// The name of the upstream: of the first service's package, or of its file.
    pub(crate) fn upstream(&self, methods: &[MethodDescriptor]) -> String {
        let service = methods.first().map(MethodDescriptor::parent_service);
        let package = service
            .as_ref()
            .map(|service| service.package_name().to_owned());
        let file = service.map(|service| service.parent_file().name().to_owned());
        names::upstream(&package.unwrap_or_default(), &file.unwrap_or_default())
    }
}

impl Read {
    /// What a person may want to know who named these files: services of others, and what is left out.
    pub(crate) fn hints(&self, methods: &[MethodDescriptor]) -> Vec<String> {
        let mut hints = Vec::new();
        let known: BTreeSet<_> = methods
            .iter()
            .map(|method| method.parent_service().full_name().to_owned())
            .collect();
        let others: Vec<_> = self
            .pool
            .services()
            .filter(|service| !known.contains(service.full_name()))
            .filter(|service| {
                !NOBODYS
                    .iter()
                    .any(|prefix| service.full_name().starts_with(prefix))
            })
            .filter(|service| !service.full_name().starts_with("google."))
            .map(|service| format!("{} ({})", service.name(), service.parent_file().name()))
            .collect();
        if !others.is_empty() {
            hints.push(format!(
                "files that are imported have services too: {}; name them by --proto",
                others.join(", ")
            ));
        }
        let (messages, _) = reached(methods);
        let extended: Vec<_> = messages
            .iter()
            .flat_map(|message| message.extensions())
            .filter(|extension| !extension.full_name().starts_with("google."))
            .map(|extension| extension.full_name().to_owned())
            .collect();
        if !extended.is_empty() {
            hints.push(format!("left out, extensions: {}", extended.join(", ")));
        }
        hints
    }
}

/// Whether a message stands within itself.
pub(crate) fn is_recursive(message: &MessageDescriptor) -> bool {
    let (mut seen, mut waiting) = (BTreeSet::new(), vec![message.clone()]);
    while let Some(next) = waiting.pop() {
        for field in next.fields() {
            if let prost_reflect::Kind::Message(inner) = field.kind() {
                if inner.full_name() == message.full_name() {
                    return true;
                }
                if seen.insert(inner.full_name().to_owned()) {
                    waiting.push(inner);
                }
            }
        }
    }
    false
}

/// All messages and enums that `methods` reach.
pub(crate) fn reached(
    methods: &[MethodDescriptor],
) -> (Vec<MessageDescriptor>, Vec<EnumDescriptor>) {
    let mut waiting: Vec<_> = methods
        .iter()
        .flat_map(|method| [method.output(), method.input()])
        .collect();
    let (mut messages, mut enums) = (BTreeMap::new(), BTreeMap::new());
    while let Some(message) = waiting.pop() {
        if messages
            .insert(message.full_name().to_owned(), message.clone())
            .is_some()
        {
            continue;
        }
        for field in message.fields() {
            match field.kind() {
                prost_reflect::Kind::Message(inner) => waiting.push(inner),
                prost_reflect::Kind::Enum(kind) => {
                    enums.insert(kind.full_name().to_owned(), kind);
                }
                _ => {}
            }
        }
    }
    (
        messages.into_values().collect(),
        enums.into_values().collect(),
    )
}

/// What no Rust can be written of, found before any is.
pub(crate) fn clashes(
    methods: &[MethodDescriptor],
    messages: &[MessageDescriptor],
    enums: &[EnumDescriptor],
    upstream: &str,
) -> anyhow::Result<()> {
    for kind in enums {
        let mut seen: BTreeMap<String, String> = BTreeMap::new();
        let mut numbers = BTreeSet::new();
        for value in kind.values() {
            // An alias is no value of its own.
            if !numbers.insert(value.number()) {
                continue;
            }
            let name = bff_codegen::names::variant(kind.name(), value.name());
            if let Some(first) = seen.insert(name.clone(), value.name().to_owned()) {
                bail!(
                    "{}: {first} and {} are both {name} in Rust: rename one of them",
                    kind.full_name(),
                    value.name()
                );
            }
        }
    }
    let mut seen: BTreeMap<(String, String), String> = BTreeMap::new();
    let types = messages
        .iter()
        .filter(|message| !message.is_map_entry())
        .map(|message| {
            let parent = message
                .parent_message()
                .map_or(message.package_name().to_owned(), |it| {
                    it.full_name().to_owned()
                });
            (
                parent,
                message.name().to_owned(),
                message.full_name().to_owned(),
            )
        });
    let kinds = enums.iter().map(|kind| {
        let parent = kind
            .parent_message()
            .map_or(kind.package_name().to_owned(), |it| {
                it.full_name().to_owned()
            });
        (parent, kind.name().to_owned(), kind.full_name().to_owned())
    });
    for (parent, own, full) in types.chain(kinds) {
        let key = (parent, own.to_upper_camel_case());
        if let Some(first) = seen.insert(key.clone(), full.clone()) {
            bail!(
                "{first} and {full} are both {} in Rust: rename one of them",
                key.1
            );
        }
        let ty = bff_codegen::names::upper_camel(upstream);
        if key.0.is_empty() && [ty.clone(), format!("{ty}Client")].contains(&key.1) {
            bail!(
                "the message {full} has the name of the upstream: give that another one by --service"
            );
        }
    }
    // A message's own module against a package of its name.
    let packages: BTreeSet<_> = messages
        .iter()
        .map(|message| message.package_name().to_owned())
        .collect();
    for message in messages {
        let has_module = message.child_messages().any(|child| !child.is_map_entry())
            || message.child_enums().next().is_some()
            || message.oneofs().next().is_some();
        let module = match message.package_name() {
            "" => message.name().to_snake_case(),
            package => format!("{package}.{}", message.name().to_snake_case()),
        };
        if has_module && packages.contains(&module) {
            bail!(
                "the message {} and the package {module} are one module in Rust: rename one of them",
                message.full_name()
            );
        }
    }
    let mut seen: BTreeMap<(String, String), String> = BTreeMap::new();
    for method in methods {
        let key = (
            method.parent_service().full_name().to_owned(),
            method.name().to_snake_case(),
        );
        if let Some(first) = seen.insert(key.clone(), method.name().to_owned()) {
            bail!(
                "{}: {first} and {} are both {} in Rust: rename one of them",
                key.0,
                method.name(),
                key.1
            );
        }
    }
    Ok(())
}

/// What a descriptor set has; the named files are those that no other imports.
pub(crate) fn from_descriptors(bytes: &[u8], origin: &str) -> anyhow::Result<Read> {
    use prost::Message;
    let set = prost_types::FileDescriptorSet::decode(bytes)
        .with_context(|| format!("{origin} is no descriptor set"))?;
    if let Some(file) = set.file.iter().find(|file| file.syntax() == "editions") {
        bail!(
            "{origin}: {} is written in an edition, which cannot be read yet",
            file.name()
        );
    }
    let imported: BTreeSet<_> = set
        .file
        .iter()
        .flat_map(|file| file.dependency.clone())
        .collect();
    let with_services = set.file.iter().filter(|file| !file.service.is_empty());
    let named = with_services
        .filter(|file| !imported.contains(file.name()))
        .map(|file| file.name().to_owned())
        .collect();
    let pool = DescriptorPool::decode(bytes)
        .with_context(|| format!("{origin}: the files do not fit together"))?;
    Ok(Read {
        facts: facts(&pool),
        pool,
        named,
        files: Vec::new(),
    })
}

/// What third-party options tell, where the set has the files that define them.
fn facts(pool: &DescriptorPool) -> Facts {
    let mut facts = Facts::default();
    for method in pool
        .services()
        .flat_map(|service| service.methods().collect::<Vec<_>>())
    {
        let Some(Value::Message(rule)) = option(&method.options(), "google.api.http") else {
            continue;
        };
        let pattern = rule
            .fields()
            .find(|(field, _)| field.containing_oneof().is_some());
        if let Some((field, _)) = pattern {
            facts
                .http
                .insert(method.full_name().to_owned(), field.name().to_owned());
        }
    }
    for field in pool
        .all_messages()
        .flat_map(|message| message.fields().collect::<Vec<_>>())
    {
        let options = field.options();
        let mut said = BTreeSet::new();
        if let Some(Value::List(behaviors)) = option(&options, "google.api.field_behavior") {
            // Numbers of google.api.FieldBehavior.
            said.extend(behaviors.iter().filter_map(|value| match value {
                Value::EnumNumber(2) => Some(Behavior::Required),
                Value::EnumNumber(3) => Some(Behavior::OutputOnly),
                Value::EnumNumber(4) => Some(Behavior::InputOnly),
                _ => None,
            }));
        }
        if let Some(Value::Message(rules)) = option(&options, "buf.validate.field")
            && rules
                .get_field_by_name("required")
                .is_some_and(|required| required.as_bool() == Some(true))
        {
            said.insert(Behavior::Required);
        }
        if !said.is_empty() {
            facts.behavior.insert(field.full_name().to_owned(), said);
        }
    }
    facts
}

/// An option that is an extension.
fn option(options: &DynamicMessage, name: &str) -> Option<Value> {
    let mut extensions = options.extensions();
    let found = extensions.find(|(extension, _)| extension.full_name() == name);
    found.map(|(_, value)| value.clone())
}
