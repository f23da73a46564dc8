//! Fields of `Query`, `Mutation` and `Subscription`, of methods.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
};

use bff_codegen::{names as rust, protos::Facts};
use prost_reflect::{Kind, MessageDescriptor, MethodDescriptor};

use crate::{
    names,
    types::{self, Argument, Types, doc, graphql, in_upstreams, well_known},
    verbs::{self, Reason, Said},
};

/// A root type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Root {
    Query,
    Mutation,
    Subscription,
}

impl Root {
    pub(crate) const ALL: [Self; 3] = [Self::Query, Self::Mutation, Self::Subscription];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Query => "Query",
            Self::Mutation => "Mutation",
            Self::Subscription => "Subscription",
        }
    }
}

/// A field of a root type.
pub(crate) struct RootField {
    pub(crate) root: Root,
    pub(crate) name: String,
    pub(crate) method: MethodDescriptor,
    pub(crate) reason: Reason,
    /// The client's method.
    call: String,
}

/// The most arguments that stand side by side.
const ARGUMENTS: usize = 6;
/// The most of a finite stream that its list has.
const LISTED: usize = 100;

/// What becomes of `methods`, and what is told of those that are left out.
pub(crate) fn fields(
    methods: &[MethodDescriptor],
    facts: &Facts,
    said: &Said,
    published: &BTreeMap<Root, BTreeSet<String>>,
) -> (Vec<RootField>, Vec<String>) {
    let called: Vec<_> = methods
        .iter()
        .filter(|method| !method.is_client_streaming())
        .collect();
    let pairs: Vec<_> = called
        .iter()
        .map(|method| {
            let service = method.parent_service().full_name().to_owned();
            (service, method.name().to_owned())
        })
        .collect();
    let pairs: Vec<_> = pairs
        .iter()
        .map(|(service, method)| (service.as_str(), method.as_str()))
        .collect();
    let calls = rust::methods(&pairs);
    let calls: BTreeMap<_, _> = called
        .iter()
        .map(|method| method.full_name().to_owned())
        .zip(calls)
        .collect();
    let mut notes = Vec::new();
    let mut fields = Vec::new();
    for method in methods {
        let http = facts.http.get(method.full_name()).map(String::as_str);
        let (kind, reason) = verbs::classify(method, http, said);
        let roots: &[Root] = match kind {
            verbs::Kind::Query => &[Root::Query],
            verbs::Kind::Mutation => &[Root::Mutation],
            verbs::Kind::Live => &[Root::Subscription],
            verbs::Kind::Finite => {
                notes.push(format!(
                    "{}: a stream that ends, so a list of {LISTED} in Query as well",
                    method.full_name()
                ));
                &[Root::Query, Root::Subscription]
            }
            verbs::Kind::Effects => {
                notes.push(format!(
                    "left out: {}, a stream that does something, and a client that connects again would do it \
                     again; --mutation {} to have it as a subscription",
                    method.full_name(),
                    method.name()
                ));
                &[]
            }
            verbs::Kind::TakesStream => {
                notes.push(format!(
                    "left out: {}, which takes a stream",
                    method.full_name()
                ));
                &[]
            }
        };
        for root in roots {
            fields.push(RootField {
                root: *root,
                name: String::new(),
                method: method.clone(),
                reason,
                call: calls.get(method.full_name()).cloned().unwrap_or_default(),
            });
        }
    }
    name(&mut fields, published);
    (fields, notes)
}

/// Names the fields: where two of a root would have one name, all of them have their service's in front,
/// and if need be as much of their package's as tells them apart.
fn name(fields: &mut [RootField], published: &BTreeMap<Root, BTreeSet<String>>) {
    for root in Root::ALL {
        let mut taken = published.get(&root).cloned().unwrap_or_default();
        let mut groups: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (n, field) in fields
            .iter()
            .enumerate()
            .filter(|(_, field)| field.root == root)
        {
            let own = names::root_field(&[field.method.name()]);
            groups.entry(own).or_default().push(n);
        }
        // Those that nobody contends for keep their names, whatever the others take.
        taken.extend(
            groups
                .iter()
                .filter(|(_, of)| of.len() == 1)
                .map(|(name, _)| name.clone()),
        );
        let none = BTreeSet::new();
        let published = published.get(&root).unwrap_or(&none);
        for (own, of) in groups {
            if of.len() == 1 && !published.contains(&own) {
                fields[of[0]].name = own;
                continue;
            }
            let named = |level: usize| -> Vec<String> {
                of.iter()
                    .map(|n| with_more(&fields[*n].method, level))
                    .collect()
            };
            let are_free = |names: &Vec<String>| {
                let distinct: BTreeSet<_> = names.iter().collect();
                distinct.len() == names.len() && names.iter().all(|name| !taken.contains(name))
            };
            let mut names = (1..=4)
                .map(named)
                .find(are_free)
                .unwrap_or_else(|| named(4));
            for (n, name) in of.iter().zip(&mut names) {
                while !taken.insert(name.clone()) {
                    name.push('2');
                }
                fields[*n].name = name.clone();
            }
        }
    }
}

/// A method's name with more in front: its service, the package's last segment that is no version, that and
/// the version, the whole package.
fn with_more(method: &MethodDescriptor, level: usize) -> String {
    let service = method.parent_service();
    let (service, package) = (service.name().to_owned(), service.package_name().to_owned());
    let segment = package
        .split('.')
        .rev()
        .find(|segment| !names::is_version(segment));
    let version = package
        .split('.')
        .rev()
        .find(|segment| names::is_version(segment));
    let (segment, version) = (segment.unwrap_or_default(), version.unwrap_or_default());
    let whole = package.replace('.', "_");
    match level {
        1 => names::root_field(&[&service, method.name()]),
        2 => names::root_field(&[segment, &service, method.name()]),
        3 => names::root_field(&[segment, version, &service, method.name()]),
        _ => names::root_field(&[&whole, &service, method.name()]),
    }
}

/// The whole of a root's part: the type and its fields.
pub(crate) fn part(
    root: Root,
    part_name: &str,
    upstream: &str,
    fields: &[RootField],
    types: &mut Types<'_>,
) -> String {
    let mut text = String::new();
    let macro_name = if root == Root::Subscription {
        "Subscription"
    } else {
        "Object"
    };
    // Writing to a String cannot fail.
    let _ = write!(
        text,
        "/// The part of `{}` that this upstream answers.\n#[derive(Default)]\npub struct {part_name};\n\n\
         #[{macro_name}]\nimpl {part_name} {{\n",
        root.as_str()
    );
    let mut functions = BTreeSet::new();
    for field in fields.iter().filter(|field| field.root == root) {
        let mut function = names::function(&field.name);
        while !functions.insert(function.clone()) {
            function += "_2";
        }
        one(&mut text, field, &function, upstream, types);
        text += "\n";
    }
    let text = text.trim_end().to_owned();
    text + "\n}\n"
}

/// How a request is made of what a client gives: the parameters, and the expression.
struct Given {
    parameters: Vec<String>,
    request: String,
}

fn given(method: &MethodDescriptor, types: &mut Types<'_>) -> Given {
    let input = method.input();
    let path = in_upstreams(&names::message_path(&input));
    if input.full_name() == "google.protobuf.Empty" {
        return Given {
            parameters: Vec::new(),
            request: "()".to_owned(),
        };
    }
    if let Some(known) = well_known(&input, false) {
        let request = "value.into_proto()".to_owned();
        return Given {
            parameters: vec![format!("value: {}", known.rust)],
            request,
        };
    }
    let arguments = types.arguments(&input);
    if arguments.is_empty() {
        return Given {
            parameters: Vec::new(),
            request: format!("{path}::default()"),
        };
    }
    if arguments.len() > ARGUMENTS
        && let Some(name) = types.input(&input)
    {
        return Given {
            parameters: vec![format!("input: {name}")],
            request: "input.into_proto()".to_owned(),
        };
    }
    let mut parameters = Vec::new();
    let mut parts = Vec::new();
    for argument in &arguments {
        let (parameter, part) = argument_of(argument);
        parameters.push(parameter);
        parts.push(part);
    }
    Given {
        parameters,
        request: format!("request!({path} {{ {} }})", parts.join(", ")),
    }
}

fn argument_of(argument: &Argument) -> (String, String) {
    let variable = match argument.ident.as_str() {
        name @ ("ctx" | "request" | "self_") => format!("{}_", name.trim_end_matches('_')),
        name => name.to_owned(),
    };
    let mut parts = Vec::new();
    if !names::is_derived(&variable, &argument.graphql) {
        parts.push(format!("name = {:?}", argument.graphql));
    }
    parts.extend(argument.default.clone());
    let docs: Vec<_> = argument
        .docs
        .iter()
        .take_while(|line| !line.is_empty())
        .cloned()
        .collect();
    if !docs.is_empty() {
        parts.push(format!("desc = {:?}", docs.join(" ")));
    }
    let attribute = match parts.is_empty() {
        true => String::new(),
        false => format!("#[graphql({})] ", parts.join(", ")),
    };
    let optional = if argument.rust.starts_with("Option<") {
        "?"
    } else {
        ""
    };
    let set = if argument.set { "set " } else { "" };
    let part = match variable == argument.ident {
        true => format!("{set}{variable}{optional}"),
        false => format!("{} = {set}{variable}{optional}", argument.ident),
    };
    (format!("{attribute}{variable}: {}", argument.rust), part)
}

/// What a reply is published as.
enum Reply {
    /// It says nothing but that it is done.
    Done {
        is_unit: bool,
    },
    Type(String),
}

fn reply(message: &MessageDescriptor, types: &mut Types<'_>) -> Reply {
    match types.output(message) {
        Some(known) => Reply::Type(known.rust),
        None => Reply::Done {
            is_unit: message.full_name() == "google.protobuf.Empty",
        },
    }
}

fn one(
    text: &mut String,
    field: &RootField,
    function: &str,
    upstream: &str,
    types: &mut Types<'_>,
) {
    let method = &field.method;
    let file = method.parent_service().parent_file();
    let mut docs = types.docs(&file, method.path());
    if docs.is_empty() {
        docs.push(format!(
            "Calls `{}/{}`.",
            method.parent_service().full_name(),
            method.name()
        ));
    }
    let given = given(method, types);
    let reply = reply(&method.output(), types);
    if field.reason.is_guess() {
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "    // In {} {}.",
            field.root.as_str(),
            field.reason.as_str()
        );
    }
    doc(text, "    ", &docs);
    let mut parts = Vec::new();
    if !names::is_derived(function, &field.name) {
        parts.push(format!("name = {:?}", field.name));
    }
    let options = method.method_descriptor_proto().options.as_ref();
    if options.is_some_and(|options| options.deprecated()) {
        parts.push("deprecation".to_owned());
    }
    graphql(text, "    ", &parts);
    let parameters: Vec<_> = ["&self".to_owned(), "ctx: &Context<'_>".to_owned()]
        .into_iter()
        .chain(given.parameters)
        .collect();
    let parameters = parameters.join(", ");
    let call = format!(
        "ctx.to::<upstreams::{upstream}>().{}(request).await",
        field.call
    );
    let request = given.request;
    let ty = match &reply {
        Reply::Done { .. } => "bool".to_owned(),
        Reply::Type(name) => name.clone(),
    };
    let body = match (field.root, &reply) {
        (Root::Subscription, Reply::Done { .. }) => {
            format!("let replies = {call}?;\n        Ok(replies.map(|reply| reply.map(|_| true)))")
        }
        (Root::Subscription, Reply::Type(_)) => {
            format!(
                "let replies = {call}?;\n        Ok(replies.map(|reply| reply.map({}::from_proto)))",
                turbofish(&ty)
            )
        }
        _ if method.is_server_streaming() => format!("Answer::collect({call}, {LISTED}).await"),
        (_, Reply::Done { is_unit: false }) => format!("Answer::of({call}.map(|_| true))"),
        _ => format!("{call}.into()"),
    };
    let answer = match field.root {
        Root::Subscription => format!("Result<impl Stream<Item = Result<{ty}>> + use<>>"),
        _ if method.is_server_streaming() => format!("Answer<Vec<{ty}>>"),
        _ => format!("Answer<{ty}>"),
    };
    let _ = write!(
        text,
        "    async fn {function}({parameters}) -> {answer} {{\n        let request = {request};\n        {body}\n    }}\n"
    );
}

/// `Vec<String>` as an expression has it.
fn turbofish(ty: &str) -> String {
    ty.replace('<', "::<")
}

/// A query of one field that a made-up service answers; `None` if the field needs what cannot be made up.
pub(crate) fn example(field: &RootField, types: &mut Types<'_>) -> Option<String> {
    let method = &field.method;
    let input = method.input();
    let mut arguments = Vec::new();
    if well_known(&input, false).is_some() {
        arguments.push(format!(
            "value: {}",
            literal_of(&Kind::Message(input.clone()), types, 4)?
        ));
    } else if input.full_name() != "google.protobuf.Empty" {
        let all = types.arguments(&input);
        let literals = given_literals(&all, types, 4)?;
        match all.len() > ARGUMENTS {
            true => arguments.push(format!("input: {{ {} }}", literals.join(", "))),
            false => arguments = literals,
        }
    }
    let arguments = match arguments.is_empty() {
        true => String::new(),
        false => format!("({})", arguments.join(", ")),
    };
    let selection = selection(&method.output(), types, 6)?;
    Some(format!("{{ {}{arguments}{selection} }}", field.name))
}

/// What has to be given, each as `name: literal`.
fn given_literals(all: &[Argument], types: &mut Types<'_>, depth: usize) -> Option<Vec<String>> {
    let mut literals = Vec::new();
    for argument in all
        .iter()
        .filter(|argument| argument.required && argument.default.is_none())
    {
        let literal = match &argument.field {
            _ if argument.set => "true".to_owned(),
            Some(field) if field.is_list() || field.is_map() => "[]".to_owned(),
            Some(field) => literal_of(&field.kind(), types, depth.checked_sub(1)?)?,
            None => return None,
        };
        literals.push(format!("{}: {literal}", argument.graphql));
    }
    Some(literals)
}

fn literal_of(kind: &Kind, types: &mut Types<'_>, depth: usize) -> Option<String> {
    Some(match kind {
        Kind::Message(message) => match well_known(message, false)
            .map(|known| known.rust)
            .as_deref()
        {
            Some("Timestamp") => "\"2026-01-01T00:00:00Z\"".to_owned(),
            Some("Duration") => "\"1s\"".to_owned(),
            Some("Json") => "{}".to_owned(),
            Some("Vec<String>") => "[]".to_owned(),
            Some("AnyInput") => "{ typeUrl: \"\", value: \"\" }".to_owned(),
            Some("bool") => "true".to_owned(),
            Some("i32" | "f64") => "1".to_owned(),
            Some("Bytes") => "\"\"".to_owned(),
            Some(_) => "\"1\"".to_owned(),
            None => {
                let all = types.arguments(message);
                format!("{{ {} }}", given_literals(&all, types, depth)?.join(", "))
            }
        },
        Kind::Enum(kind) => {
            types.enumeration(kind);
            types::published_name(kind)?
        }
        Kind::Bool => "true".to_owned(),
        Kind::Double | Kind::Float | Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => "1".to_owned(),
        Kind::Bytes => "\"\"".to_owned(),
        _ => "\"1\"".to_owned(),
    })
}

/// The shortest way to something that is no object: ` { price { cents } }`, or nothing for a scalar.
fn selection(message: &MessageDescriptor, types: &Types<'_>, depth: usize) -> Option<String> {
    match well_known(message, true).map(|known| known.rust).as_deref() {
        Some("Any") => return Some(" { typeUrl }".to_owned()),
        Some(_) => return Some(String::new()),
        None if types.is_empty_output(message) => return Some(String::new()),
        None => {}
    }
    let fields: Vec<_> = message
        .fields()
        .filter(|field| !types.says(field.full_name(), bff_codegen::protos::Behavior::InputOnly))
        .collect();
    let plain = fields
        .iter()
        .find(|field| !field.is_map() && !matches!(field.kind(), Kind::Message(_)));
    if let Some(field) = plain {
        return Some(format!(" {{ {} }}", names::field(field)));
    }
    fields.iter().find_map(|field| {
        let Kind::Message(inner) = field.kind() else {
            return None;
        };
        if field.is_map() {
            return Some(format!(" {{ {} {{ key }} }}", names::field(field)));
        }
        let below = selection(&inner, types, depth.checked_sub(1)?)?;
        Some(format!(" {{ {}{below} }}", names::field(field)))
    })
}

/// The type of an upstream.
pub(crate) fn upstream_type(name: &str) -> String {
    rust::upper_camel(name)
}
