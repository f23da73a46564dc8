//! Answers of the right shape, made up from a method's descriptors and from what was asked.

use prost_reflect::{
    DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, ReflectMessage, Value,
};

/// How deep messages within messages go; deeper ones are absent.
const DEEPEST: usize = 4;
/// How many there are of what is repeated, unless the request says so.
const SOME: usize = 2;
/// The most of what a request asks for.
const MOST: usize = 100;
/// 2026-01-01T00:00:00Z.
const NEW_YEAR: i64 = 1_767_225_600;

/// The `n`th answer to `request`, from 1: what the request names is answered with what it names.
pub(super) fn answer(
    kind: &MessageDescriptor,
    request: &DynamicMessage,
    n: usize,
) -> DynamicMessage {
    let mut answer = message(kind, n, DEEPEST);
    repeat(&mut answer, request);
    echo(&mut answer, request);
    // The message that it is about: `GetProductReply.product`.
    let mut about = kind.fields().filter(is_singular_message);
    if let (Some(field), None) = (about.next(), about.next())
        && let Some(Value::Message(inner)) = answer
            .has_field(&field)
            .then(|| answer.get_field_mut(&field))
    {
        echo(inner, request);
    }
    answer
}

/// A made-up message, the `n`th of its kind.
fn message(kind: &MessageDescriptor, n: usize, depth: usize) -> DynamicMessage {
    let mut message = DynamicMessage::new(kind.clone());
    if well_known(&mut message, n) {
        return message;
    }
    for field in kind.fields() {
        // Of a oneof, its first alternative.
        let alternatives = field.containing_oneof();
        let first = alternatives.and_then(|oneof| oneof.fields().next());
        if first.is_some_and(|first| first != field) {
            continue;
        }
        if let Some(value) = of_field(&field, n, depth) {
            message.set_field(&field, value);
        }
    }
    message
}

fn of_field(field: &FieldDescriptor, n: usize, depth: usize) -> Option<Value> {
    if field.is_map() {
        let Kind::Message(entry) = field.kind() else {
            return None;
        };
        let value = single(&entry.map_entry_value_field(), 1, depth)?;
        let key = map_key(&entry.map_entry_key_field());
        return Some(Value::Map([(key, value)].into()));
    }
    if field.is_list() {
        let items = (1..=SOME).map(|n| single(field, n, depth));
        return Some(Value::List(items.collect::<Option<_>>()?));
    }
    single(field, n, depth)
}

fn single(field: &FieldDescriptor, n: usize, depth: usize) -> Option<Value> {
    let signed = i32::try_from(n).unwrap_or(i32::MAX);
    let unsigned = signed.unsigned_abs();
    Some(match field.kind() {
        Kind::String => Value::String(text(field.name(), n)),
        Kind::Bytes => Value::Bytes(text(field.name(), n).into_bytes().into()),
        Kind::Bool => Value::Bool(true),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => Value::I32(signed),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => Value::I64(signed.into()),
        Kind::Uint32 | Kind::Fixed32 => Value::U32(unsigned),
        Kind::Uint64 | Kind::Fixed64 => Value::U64(unsigned.into()),
        Kind::Float => Value::F32(signed as f32 + 0.5),
        Kind::Double => Value::F64(f64::from(signed) + 0.5),
        Kind::Enum(kind) => {
            // The 0 often says that nothing is said.
            let said = kind.values().find(|value| value.number() != 0);
            Value::EnumNumber(said.map_or(0, |value| value.number()))
        }
        Kind::Message(kind) => Value::Message(message(&kind, n, depth.checked_sub(1)?)),
    })
}

/// `name` as `name-1`; a token for another page is empty, because there is none.
fn text(field: &str, n: usize) -> String {
    match field.ends_with("page_token") || field.ends_with("cursor") {
        true => String::new(),
        false => format!("{}-{n}", field.replace('_', "-")),
    }
}

fn map_key(field: &FieldDescriptor) -> MapKey {
    match field.kind() {
        Kind::Bool => MapKey::Bool(true),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => MapKey::I32(1),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => MapKey::I64(1),
        Kind::Uint32 | Kind::Fixed32 => MapKey::U32(1),
        Kind::Uint64 | Kind::Fixed64 => MapKey::U64(1),
        _ => MapKey::String("key-1".to_owned()),
    }
}

/// Fills in a message that has rules of its own; `false` if it has none.
fn well_known(message: &mut DynamicMessage, n: usize) -> bool {
    let set = |message: &mut DynamicMessage, field: &str, value: Value| {
        // It is there in every version of the file.
        let _ = message.try_set_field_by_name(field, value);
    };
    match message.descriptor().full_name() {
        "google.protobuf.Timestamp" => {
            set(message, "seconds", Value::I64(NEW_YEAR + n as i64));
        }
        "google.protobuf.Duration" => set(message, "seconds", Value::I64(n as i64)),
        "google.protobuf.FieldMask" => {
            let paths = vec![Value::String("name".to_owned())];
            set(message, "paths", Value::List(paths));
        }
        "google.protobuf.Any" => {
            let empty = "type.googleapis.com/google.protobuf.Empty".to_owned();
            set(message, "type_url", Value::String(empty));
        }
        "google.protobuf.Value" => {
            set(message, "string_value", Value::String(format!("value-{n}")))
        }
        "google.protobuf.Struct" | "google.protobuf.ListValue" => {}
        _ => return false,
    }
    true
}

/// Sets the fields of `answer` that the request has as well.
fn echo(answer: &mut DynamicMessage, request: &DynamicMessage) {
    for field in answer.descriptor().fields() {
        let asked = request.descriptor().get_field_by_name(field.name());
        if let Some(asked) = asked
            && asked.kind() == field.kind()
            && asked.cardinality() == field.cardinality()
            && request.has_field(&asked)
        {
            answer.set_field(&field, request.get_field(&asked).into_owned());
        }
    }
}

/// Makes as many of what is repeated as the request asks for: one for each of its keys (`ids`, and each
/// has its `id`), or a page of `page_size`.
fn repeat(answer: &mut DynamicMessage, request: &DynamicMessage) {
    let kind = answer.descriptor();
    let mut lists = kind
        .fields()
        .filter(|field| field.is_list() && matches!(field.kind(), Kind::Message(_)));
    let (Some(list), None) = (lists.next(), lists.next()) else {
        return;
    };
    let Kind::Message(item) = list.kind() else {
        return;
    };
    let keys = request.descriptor().fields().find_map(|field| {
        // A filter that is not used is none.
        if !request.has_field(&field) {
            return None;
        }
        let Value::List(keys) = request.get_field(&field).into_owned() else {
            return None;
        };
        let name = field.name().strip_suffix('s')?;
        // `ids` and `seller_ids` are both for `id`.
        let last = name.rsplit('_').next().unwrap_or(name);
        let key = [name, last]
            .iter()
            .find_map(|name| item.get_field_by_name(name))?;
        (key.kind() == field.kind() && !key.is_list()).then_some((key, keys))
    });
    let items: Vec<_> = match keys {
        Some((key, keys)) => {
            let keys = keys.into_iter().take(MOST).enumerate();
            keys.map(|(n, value)| {
                let mut item = message(&item, n + 1, DEEPEST - 1);
                item.set_field(&key, value);
                Value::Message(item)
            })
            .collect()
        }
        None => {
            let size = request.get_field_by_name("page_size");
            let size = size.and_then(|size| match size.as_ref() {
                Value::I32(size) => usize::try_from(*size).ok(),
                Value::U32(size) => usize::try_from(*size).ok(),
                _ => None,
            });
            let Some(size) = size.filter(|size| *size > 0) else {
                return;
            };
            let numbers = 1..=size.min(MOST);
            numbers
                .map(|n| Value::Message(message(&item, n, DEEPEST - 1)))
                .collect()
        }
    };
    answer.set_field(&list, Value::List(items));
}

fn is_singular_message(field: &FieldDescriptor) -> bool {
    !field.is_list() && !field.is_map() && matches!(field.kind(), Kind::Message(_))
}

#[cfg(test)]
mod tests {
    use prost::Message as _;
    use prost_reflect::DescriptorPool;
    use prost_types::{
        DescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet,
        field_descriptor_proto::{Label, Type},
    };

    use super::*;

    fn field(
        name: &str,
        number: i32,
        ty: Type,
        label: Label,
        of: Option<&str>,
    ) -> FieldDescriptorProto {
        FieldDescriptorProto {
            name: Some(name.to_owned()),
            number: Some(number),
            r#type: Some(ty.into()),
            label: Some(label.into()),
            type_name: of.map(str::to_owned),
            ..Default::default()
        }
    }

    /// `Request { repeated string ids; int32 page_size }`, `Reply { repeated Item items }`,
    /// `Item { string id }`.
    fn pool() -> DescriptorPool {
        let message = |name: &str, field: Vec<FieldDescriptorProto>| DescriptorProto {
            name: Some(name.to_owned()),
            field,
            ..Default::default()
        };
        let (one, many) = (Label::Optional, Label::Repeated);
        let file = FileDescriptorProto {
            name: Some("a.proto".to_owned()),
            syntax: Some("proto3".to_owned()),
            message_type: vec![
                message(
                    "Request",
                    vec![
                        field("ids", 1, Type::String, many, None),
                        field("page_size", 2, Type::Int32, one, None),
                    ],
                ),
                message(
                    "Reply",
                    vec![field("items", 1, Type::Message, many, Some(".Item"))],
                ),
                message("Item", vec![field("id", 1, Type::String, one, None)]),
            ],
            ..Default::default()
        };
        let set = FileDescriptorSet { file: vec![file] };
        DescriptorPool::decode(set.encode_to_vec().as_slice()).unwrap()
    }

    #[test]
    fn there_are_as_many_as_were_asked_for_by_key_or_by_page() {
        let pool = pool();
        let kind = |name: &str| pool.get_message_by_name(name).unwrap();
        let length = |ids: &[&str], size: i32| {
            let mut request = DynamicMessage::new(kind("Request"));
            let ids = ids.iter().map(|id| Value::String((*id).to_owned()));
            request.set_field_by_name("ids", Value::List(ids.collect()));
            request.set_field_by_name("page_size", Value::I32(size));
            let answer = answer(&kind("Reply"), &request, 1);
            let items = answer.get_field_by_name("items").unwrap();
            items.as_list().unwrap().len()
        };
        assert_eq!(length(&["a", "b", "c"], 0), 3);
        // A filter that is not used is none.
        assert_eq!(length(&[], 10), 10);
        assert_eq!(length(&[], 0), SOME);
    }
}
