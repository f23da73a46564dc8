//! What services offer and the schema lacks, and the reverse.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use anyhow::Context;
use bff_codegen::{names as rust, protos::Behavior};
use prost_reflect::{MessageDescriptor, MethodDescriptor};

use crate::{
    edit, names,
    sources::{self, Read},
};

/// Compares the crate in `dir` with what `offered` says, or with its own copies. `false` if something that
/// is used is gone.
pub(crate) fn run(dir: &Path, offered: Option<Read>) -> anyhow::Result<bool> {
    // That it is a crate of ours.
    edit::Crate::open(dir)?;
    let own = own(dir)?;
    let compares = offered.is_some();
    let offered = offered.map_or_else(|| own.clone(), |read| vec![read]);
    let code = edit::code(dir)?;
    let (lacks, gone) = compare(&code, &own, &offered, compares)?;
    for line in &lacks {
        crate::say!("+ {line}");
    }
    for line in &gone {
        crate::say!("- {line}");
    }
    if lacks.is_empty() && gone.is_empty() {
        crate::say!("the schema has all that is offered");
    }
    Ok(gone.is_empty())
}

/// What the crate's own build script names.
fn own(dir: &Path) -> anyhow::Result<Vec<Read>> {
    let build = fs::read_to_string(dir.join("build.rs")).context("build.rs")?;
    let named: Vec<_> = build
        .split('"')
        .filter(|text| text.starts_with("proto/"))
        .collect();
    let root = fs::canonicalize(dir.join("proto")).context("proto")?;
    let mut reads = Vec::new();
    let files: Vec<_> = named
        .iter()
        .filter(|file| file.ends_with(".proto"))
        .map(|file| dir.join(file))
        .collect();
    if !files.is_empty() {
        reads.push(sources::protos(&files, &[root])?);
    }
    for set in named.iter().filter(|file| !file.ends_with(".proto")) {
        let bytes = fs::read(dir.join(set)).with_context(|| (*set).to_owned())?;
        reads.push(sources::from_descriptors(&bytes, set)?);
    }
    Ok(reads)
}

/// What the schema lacks, and what it uses that is gone.
fn compare(
    code: &str,
    own: &[Read],
    offered: &[Read],
    compares: bool,
) -> anyhow::Result<(Vec<String>, Vec<String>)> {
    let (mut lacks, mut gone) = (Vec::new(), Vec::new());
    let own_methods = methods(own)?;
    let offered_methods = methods(offered)?;
    let own_calls = calls(&own_methods);
    let is_called = |path: &String| {
        let call = own_calls.get(path);
        call.is_some_and(|call| code.contains(&format!(".{call}(")))
    };
    let services: BTreeSet<_> = offered_methods
        .values()
        .map(|method| method.parent_service().full_name().to_owned())
        .collect();
    for (path, method) in &offered_methods {
        if !method.is_client_streaming() && !is_called(path) {
            lacks.push(format!("{path}: no field calls it"));
        }
    }
    for path in own_methods.keys().filter(|path| is_called(path)) {
        // Another server's methods are none of this one's business.
        let service = path.split('/').next().unwrap_or_default();
        let package = service.rsplit_once('.').map_or("", |(package, _)| package);
        let same = services
            .iter()
            .any(|known| known == service || known.starts_with(&format!("{package}.")));
        if compares && same && !offered_methods.contains_key(path) {
            gone.push(format!(
                "{path}: a field calls it, and it is not offered any more"
            ));
        }
    }
    let own_messages = messages(&own_methods);
    let offered_messages = messages(&offered_methods);
    for (path, fields) in edit::published_messages(code) {
        let Some(before) = find(&own_messages, &path) else {
            continue;
        };
        let Some(now) = offered_messages.get(before.full_name()) else {
            if compares
                && offered_messages
                    .values()
                    .any(|message| message.package_name() == before.package_name())
            {
                gone.push(format!(
                    "{}: a type is made of it, and it is not offered any more",
                    before.full_name()
                ));
            }
            continue;
        };
        let used: BTreeSet<_> = fields.iter().map(String::as_str).collect();
        for field in now.fields() {
            let facts = own
                .iter()
                .chain(offered)
                .find_map(|read| read.facts.behavior.get(field.full_name()));
            let is_input = facts.is_some_and(|said| said.contains(&Behavior::InputOnly));
            let oneof = field
                .containing_oneof()
                .map(|oneof| rust::snake(oneof.name()));
            let is_used = used.contains(rust::snake(field.name()).as_str())
                || oneof.is_some_and(|oneof| used.contains(oneof.as_str()));
            if !is_used && !is_input {
                lacks.push(format!("{}: not in the schema", field.full_name()));
            }
        }
        for field in before.fields() {
            let is_used = used.contains(rust::snake(field.name()).as_str());
            if is_used && now.get_field_by_name(field.name()).is_none() {
                gone.push(format!(
                    "{}: the schema has it, and it is not offered any more",
                    field.full_name()
                ));
            }
        }
    }
    lacks.sort();
    lacks.dedup();
    gone.sort();
    gone.dedup();
    Ok((lacks, gone))
}

/// The methods of all services, by `package.Service/Method`.
fn methods(reads: &[Read]) -> anyhow::Result<BTreeMap<String, MethodDescriptor>> {
    let mut methods = BTreeMap::new();
    for read in reads {
        for method in read.methods()? {
            let path = format!("{}/{}", method.parent_service().full_name(), method.name());
            methods.insert(path, method);
        }
    }
    Ok(methods)
}

/// What each method is called in Rust. Two upstreams may have one of a name, so both forms are known.
fn calls(methods: &BTreeMap<String, MethodDescriptor>) -> BTreeMap<String, String> {
    let called: Vec<_> = methods
        .iter()
        .filter(|(_, method)| !method.is_client_streaming())
        .collect();
    let pairs: Vec<_> = called
        .iter()
        .map(|(path, _)| path.split_once('/').unwrap_or((path.as_str(), "")))
        .collect();
    let names = rust::methods(&pairs);
    called
        .iter()
        .map(|(path, _)| (*path).clone())
        .zip(names)
        .collect()
}

fn messages(methods: &BTreeMap<String, MethodDescriptor>) -> BTreeMap<String, MessageDescriptor> {
    let methods: Vec<_> = methods.values().cloned().collect();
    let (messages, _) = sources::reached(&methods);
    messages
        .into_iter()
        .map(|message| (message.full_name().to_owned(), message))
        .collect()
}

/// The message that `path` is in Rust: by the end of the path, because an owner may have named its
/// beginning otherwise.
fn find<'m>(
    messages: &'m BTreeMap<String, MessageDescriptor>,
    path: &str,
) -> Option<&'m MessageDescriptor> {
    let path = path
        .trim_start_matches("crate::")
        .trim_start_matches("upstreams::");
    let whole = messages
        .values()
        .find(|message| names::message_path(message) == path);
    whole.or_else(|| {
        let by_end = |message: &&MessageDescriptor| {
            names::message_path(message).ends_with(&format!("::{path}"))
        };
        let last = path.rsplit("::").next().unwrap_or(path);
        let by_name = |message: &&MessageDescriptor| rust::camel(message.name()) == last;
        messages.values().find(by_end).or_else(|| {
            let mut named = messages.values().filter(by_name);
            named.next().filter(|_| named.next().is_none())
        })
    })
}
