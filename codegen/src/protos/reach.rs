//! What of the files is reached from the methods that are called.

use std::collections::{BTreeSet, HashMap};

use prost_types::{DescriptorProto, FileDescriptorSet};

/// `descriptors` with the messages and enums only that the methods of `services` reach, and without
/// extensions and other services. No service named means all of them.
pub fn reachable(descriptors: &FileDescriptorSet, services: &[String]) -> FileDescriptorSet {
    // What each message at a file's top names, all nested ones included.
    let mut named: HashMap<String, Vec<String>> = HashMap::new();
    let mut tops = BTreeSet::new();
    for file in &descriptors.file {
        let scope = scope(file.package());
        for message in &file.message_type {
            let name = format!("{scope}.{}", message.name());
            let mut types = Vec::new();
            types_of(message, &mut types);
            named.insert(name.clone(), types);
            tops.insert(name);
        }
        tops.extend(
            file.enum_type
                .iter()
                .map(|kind| format!("{scope}.{}", kind.name())),
        );
    }
    let mut waiting = Vec::new();
    for file in &descriptors.file {
        for service in &file.service {
            let name = format!("{}.{}", scope(file.package()), service.name());
            if is_called(&name, services) {
                let types = service.method.iter();
                waiting.extend(types.flat_map(|method| {
                    [
                        method.input_type().to_owned(),
                        method.output_type().to_owned(),
                    ]
                }));
            }
        }
    }
    let mut reached = BTreeSet::new();
    while let Some(name) = waiting.pop() {
        let Some(top) = top_of(&name, &tops) else {
            continue;
        };
        if reached.insert(top.clone()) {
            waiting.extend(named.get(&top).into_iter().flatten().cloned());
        }
    }
    let mut descriptors = descriptors.clone();
    for file in &mut descriptors.file {
        let scope = scope(file.package());
        let is_reached = |name: &str| reached.contains(&format!("{scope}.{name}"));
        // Numbers of comments are places in these lists; comments are looked up before this.
        let mut removed = file.clone();
        file.message_type
            .retain(|message| is_reached(message.name()));
        file.enum_type.retain(|kind| is_reached(kind.name()));
        file.service
            .retain(|service| is_called(&format!("{scope}.{}", service.name()), services));
        file.extension.clear();
        file.message_type.iter_mut().for_each(without_extensions);
        renumber(file, &mut removed);
    }
    descriptors
}

/// Extensions may name what nothing reaches.
fn without_extensions(message: &mut DescriptorProto) {
    message.extension.clear();
    message.nested_type.iter_mut().for_each(without_extensions);
}

fn scope(package: &str) -> String {
    match package {
        "" => String::new(),
        package => format!(".{package}"),
    }
}

fn is_called(name: &str, services: &[String]) -> bool {
    services.is_empty()
        || services
            .iter()
            .any(|service| service == name.trim_start_matches('.'))
}

fn types_of(message: &DescriptorProto, types: &mut Vec<String>) {
    let fields = message
        .field
        .iter()
        .filter_map(|field| field.type_name.clone());
    types.extend(fields);
    message
        .nested_type
        .iter()
        .for_each(|nested| types_of(nested, types));
}

/// The message at a file's top that `name` is, or stands in.
fn top_of(name: &str, tops: &BTreeSet<String>) -> Option<String> {
    let mut name = name;
    loop {
        if tops.contains(name) {
            return Some(name.to_owned());
        }
        name = name.rsplit_once('.')?.0;
    }
}

/// Moves the comments of `file` to where things are now; `before` is how it was.
fn renumber(
    file: &mut prost_types::FileDescriptorProto,
    before: &mut prost_types::FileDescriptorProto,
) {
    const MESSAGES: i32 = 4;
    const ENUMS: i32 = 5;
    const SERVICES: i32 = 6;
    const EXTENSIONS: i32 = 7;
    let Some(info) = &mut file.source_code_info else {
        return;
    };
    let place = |kind: i32, number: i32| -> Option<i32> {
        let at = usize::try_from(number).ok()?;
        let position = match kind {
            MESSAGES => {
                let name = before.message_type.get(at)?.name();
                file.message_type.iter().position(|it| it.name() == name)
            }
            ENUMS => {
                let name = before.enum_type.get(at)?.name();
                file.enum_type.iter().position(|it| it.name() == name)
            }
            SERVICES => {
                let name = before.service.get(at)?.name();
                file.service.iter().position(|it| it.name() == name)
            }
            EXTENSIONS => None,
            _ => Some(at),
        };
        position.map(|position| position as i32)
    };
    info.location
        .retain_mut(|location| match location.path.as_mut_slice() {
            [kind, number, ..] => match place(*kind, *number) {
                Some(now) => {
                    *number = now;
                    true
                }
                None => false,
            },
            _ => true,
        });
}
