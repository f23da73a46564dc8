//! The files of an upstream, and of a crate.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
};

use bff_codegen::names::snake;
use prost_reflect::MethodDescriptor;

use crate::{
    comments::Comments,
    names::{self, Names},
    roots::{self, Root, RootField},
    sources::{self, Read},
    types::Types,
    verbs::Said,
};

/// An upstream, written.
pub(crate) struct Upstream {
    pub(crate) name: String,
    /// Its module.
    pub(crate) module: String,
    /// Its type among the upstreams.
    pub(crate) ty: String,
    pub(crate) services: Vec<String>,
    /// The parts of roots, by their names in the module.
    pub(crate) parts: BTreeMap<Root, String>,
    /// Text of the module, and of the types below it.
    pub(crate) roots: String,
    pub(crate) types: String,
    pub(crate) test: String,
    /// Fields of roots.
    pub(crate) fields: Vec<(Root, String)>,
    /// What was guessed, and what was left out.
    pub(crate) notes: Vec<String>,
}

impl Upstream {
    /// What it is, in a line.
    pub(crate) fn summary(&self) -> String {
        let fields = match self.fields.len() {
            1 => "1 field".to_owned(),
            many => format!("{many} fields"),
        };
        let services = match self.services.as_slice() {
            services if services.len() <= 3 => services.join(", "),
            services => format!(
                "{} and {} more services",
                services[..2].join(", "),
                services.len() - 2
            ),
        };
        format!(
            "the upstream {} has {fields} of {services}; --service NAME names it otherwise",
            self.name
        )
    }
}

/// What else is in the crate: names that are taken.
#[derive(Clone, Debug, Default)]
pub(crate) struct Published {
    pub(crate) fields: BTreeMap<Root, BTreeSet<String>>,
    pub(crate) types: BTreeSet<String>,
}

/// Writes the upstream that `read` describes.
pub(crate) fn upstream(
    read: &Read,
    name: &str,
    krate: &str,
    said: &Said,
    published: &Published,
) -> anyhow::Result<Upstream> {
    let methods: Vec<MethodDescriptor> = read.methods()?;
    let (fields, mut notes) = roots::fields(&methods, &read.facts, said, &published.fields);
    for pattern in said.unmatched(&methods) {
        notes.push(format!("{pattern}: no method has this name"));
    }
    let used: Vec<_> = fields.iter().map(|field| field.method.clone()).collect();
    let (messages, enums) = sources::reached(&used);
    sources::clashes(&methods, &messages, &enums, name)?;
    let ty = roots::upstream_type(name);
    let things: Vec<_> = messages
        .iter()
        .filter(|message| {
            !message.is_map_entry() && !message.full_name().starts_with("google.protobuf.")
        })
        .map(|message| {
            (
                message.full_name().to_owned(),
                message.package_name().to_owned(),
            )
        })
        .chain(
            enums
                .iter()
                .map(|kind| (kind.full_name().to_owned(), kind.package_name().to_owned())),
        )
        .map(|(full, package)| {
            (
                full.clone(),
                package.clone(),
                names::joined(&package, &full),
            )
        })
        .collect();
    let mut taken = published.types.clone();
    let parts_of = [Root::Query, Root::Mutation, Root::Subscription];
    let own_names: BTreeSet<_> = things.iter().map(|(.., own)| own.clone()).collect();
    let mut parts = BTreeMap::new();
    for root in parts_of {
        let wanted = format!("{ty}{}", root.as_str());
        let part = if own_names.contains(&wanted) {
            format!("{wanted}Root")
        } else {
            wanted
        };
        taken.insert(part.clone());
        let is_there = fields.iter().any(|field| field.root == root) || root == Root::Query;
        if is_there {
            parts.insert(root, part);
        }
    }
    let comments = Comments::of(read.pool.files());
    let mut types = Types::new(&read.facts, &comments, Names::of(&things, &taken));
    let mut text = String::new();
    for (root, part) in &parts {
        text += &match fields.iter().any(|field| field.root == *root) {
            true => roots::part(*root, part, &ty, &fields, &mut types),
            false => {
                notes.push(match fields.is_empty() {
                    true => "nothing can be published: see above".to_owned(),
                    false => {
                        "nothing is a read by its name: name those that are by --query PATTERN"
                            .to_owned()
                    }
                });
                no_read(part, name)
            }
        };
        text += "\n";
    }
    let example = fields
        .iter()
        .filter(|field| field.root == Root::Query && !field.method.is_server_streaming())
        .find_map(|field| roots::example(field, &mut types));
    guesses(&fields, &mut notes);
    if messages.iter().any(sources::is_recursive) {
        notes.push(
            "some replies stand within themselves: graphql.max_depth says how deep a query may go"
                .to_owned(),
        );
    }
    notes.extend(read.hints(&methods));
    notes.extend(types.notes.iter().cloned());
    let services: BTreeSet<_> = methods
        .iter()
        .map(|method| method.parent_service().full_name().to_owned())
        .collect();
    let listed: Vec<_> = fields
        .iter()
        .map(|field| (field.root, field.name.clone()))
        .collect();
    let test = test(name, krate, &listed, example.as_deref());
    let types_text = types.text();
    let module = snake(name);
    let services: Vec<_> = services.into_iter().collect();
    Ok(Upstream {
        roots: format(&root_file(name, &services, &text, types.len() > 0)),
        types: if types.len() > 0 {
            format(&types_file(name, &types_text))
        } else {
            String::new()
        },
        test: format(&test),
        name: name.to_owned(),
        module,
        ty,
        services,
        parts,
        fields: listed,
        notes,
    })
}

/// Tells what was decided by what.
fn guesses(fields: &[RootField], notes: &mut Vec<String>) {
    let mut counts: BTreeMap<_, BTreeMap<_, usize>> = BTreeMap::new();
    for field in fields {
        *counts
            .entry(field.reason)
            .or_default()
            .entry(field.root)
            .or_default() += 1;
    }
    for (reason, roots) in counts {
        let roots: Vec<_> = roots
            .iter()
            .map(|(root, count)| format!("{} {count}", root.as_str()))
            .collect();
        notes.push(format!("{}: {}", reason.as_str(), roots.join(", ")));
    }
}

fn no_read(part: &str, name: &str) -> String {
    format!(
        "/// The part of `Query` that this upstream answers.\n#[derive(Default)]\npub struct {part};\n\n#[Object]\nimpl {part} {{\n    \
         /// The name of the service.\n    async fn service(&self) -> &str {{\n        {name:?}\n    }}\n}}\n"
    )
}

/// Those of `names` that the code `text` names: not in comments, not behind a path.
fn used<'n>(text: &str, names: &[&'n str]) -> Vec<&'n str> {
    let mut in_enum = false;
    let code: String = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .map(|line| {
            in_enum = line.starts_with("pub enum ") || in_enum && line != "}";
            let line = match in_enum && !line.starts_with("pub enum ") {
                // A value's own name is nobody else's.
                true => line.trim_start().trim_start_matches(char::is_alphanumeric),
                false => line,
            };
            without_texts(line) + "\n"
        })
        .collect();
    let text = code.replace("::Result<", "::_<");
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words: BTreeSet<_> = text.split(|c: char| !is_word(c)).collect();
    names
        .iter()
        .copied()
        .filter(|name| words.contains(name))
        // A field or a variable may have that name, too.
        .filter(|name| *name != "request" || text.contains("request!("))
        .collect()
}

/// A line without what stands in quotes, and without paths into the messages.
fn without_texts(line: &str) -> String {
    let mut kept = String::new();
    let mut quoted = false;
    let mut escaped = false;
    for letter in line.chars() {
        match letter {
            '"' if !escaped => quoted = !quoted,
            letter if !quoted => kept.push(letter),
            _ => {}
        }
        escaped = letter == '\\' && !escaped;
    }
    let is_path = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':' || c == '#';
    while let Some(at) = kept.find("upstreams::") {
        let end = kept[at..]
            .find(|c| !is_path(c))
            .map_or(kept.len(), |end| at + end);
        kept.replace_range(at..end, "_");
    }
    kept
}

fn import(text: &mut String, from: &str, names: &[&str]) {
    // Writing to a String cannot fail.
    match names {
        [] => {}
        [one] => drop(writeln!(text, "use {from}::{one};")),
        many => drop(writeln!(text, "use {from}::{{{}}};", many.join(", "))),
    }
}

const ENGINE: [&str; 13] = [
    "Answer",
    "Any",
    "AnyInput",
    "Bytes",
    "Duration",
    "FromProto",
    "Int64",
    "IntoProto",
    "Json",
    "Timestamp",
    "UInt32",
    "UInt64",
    "request",
];

fn root_file(name: &str, services: &[String], text: &str, has_types: bool) -> String {
    let mut file = format!(
        "//! Fields that `{name}` answers: {}.\n\n",
        services.join(", ")
    );
    if has_types {
        file += "mod types;\n\n";
    }
    let mut uses = used(text, &["Context", "Object", "Result", "Subscription"]);
    uses.retain(|name| *name != "Subscription" || text.contains("#[Subscription]"));
    import(&mut file, "async_graphql", &uses);
    let mut engine = used(text, &ENGINE);
    // Methods of traits that are named nowhere.
    if text.contains("ctx.to::<") {
        engine.push("CallExt");
    }
    if text.contains("into_proto()") && !engine.contains(&"IntoProto") {
        engine.push("IntoProto");
    }
    if text.contains("::from_proto") && !engine.contains(&"FromProto") {
        engine.push("FromProto");
    }
    engine.sort_unstable();
    import(&mut file, "bff_engine", &engine);
    let streams = text.contains("impl Stream<");
    if streams {
        file += "use futures_util::{Stream, StreamExt};\n";
    }
    file += "\n";
    if has_types {
        file += "#[allow(unused_imports, reason = \"what no field names is reached through others\")]\nuse self::types::*;\n";
    }
    if text.contains("upstreams::") {
        file += "use crate::upstreams;\n";
    }
    file + "\n" + text
}

fn types_file(name: &str, text: &str) -> String {
    let mut file =
        format!("//! What `{name}` gives and takes. Only what is named here is published.\n\n");
    import(
        &mut file,
        "async_graphql",
        &used(
            text,
            &[
                "Enum",
                "InputObject",
                "OneofObject",
                "Result",
                "SimpleObject",
            ],
        ),
    );
    import(&mut file, "bff_engine", &used(text, &ENGINE));
    if text.contains("upstreams::") {
        file += "\nuse crate::upstreams;\n";
    }
    file + "\n" + text
}

fn test(name: &str, krate: &str, fields: &[(Root, String)], example: Option<&str>) -> String {
    let krate = snake(krate);
    let names: Vec<_> = fields.iter().map(|(_, name)| format!("{name:?}")).collect();
    let mut text = format!("//! The schema over a made-up `{name}`.\n\n");
    if example.is_some() {
        text += "use bff_engine::testing::TestBff;\n";
    }
    // Writing to a String cannot fail.
    let _ = write!(
        text,
        "use {krate}::bff;\n\n#[test]\nfn every_field_is_in_the_schema() {{\n    let bff = bff();\n    \
         for field in [{}] {{\n        let is_there = [\"(\", \":\"].iter().any(|end| bff.sdl().contains(&format!(\"\\t{{field}}{{end}}\")));\n        \
         assert!(is_there, \"{{field}}\");\n    }}\n}}\n",
        names.join(", ")
    );
    if let Some(query) = example {
        let _ = write!(
            text,
            "\n#[tokio::test]\nasync fn a_field_is_answered() -> Result<(), Box<dyn std::error::Error>> {{\n    \
             let bff = TestBff::start(bff()).await?;\n    let answer = bff.query({query:?}).await;\n    \
             assert!(answer[\"errors\"].is_null(), \"{{answer}}\");\n    Ok(())\n}}\n"
        );
    }
    text
}

/// Whether something was written that is no Rust.
static REFUSED: AtomicBool = AtomicBool::new(false);

/// Fails if something was written that is no Rust: a name that was not foreseen.
pub(crate) fn check() -> anyhow::Result<()> {
    anyhow::ensure!(
        !REFUSED.load(Ordering::Relaxed),
        "what these files make cannot be read as Rust, so nothing was written: a name in them is none"
    );
    Ok(())
}

/// Rust as everybody writes it; as it is, where there is no rustfmt.
pub(crate) fn format(text: &str) -> String {
    let formatted = || -> std::io::Result<String> {
        let mut child = Command::new("rustfmt")
            .args(["--edition", "2024", "--emit", "stdout", "--quiet"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        if let Some(stdin) = child.stdin.take() {
            let text = text.to_owned();
            // In a thread of its own: both pipes may be full.
            std::thread::spawn(move || {
                let mut stdin = stdin;
                stdin.write_all(text.as_bytes())
            });
        }
        let output = child.wait_with_output()?;
        match output.status.success() {
            true => String::from_utf8(output.stdout).map_err(std::io::Error::other),
            false => {
                REFUSED.store(true, Ordering::Relaxed);
                Err(std::io::Error::other("rustfmt refused it"))
            }
        }
    };
    formatted().unwrap_or_else(|_| text.to_owned())
}

/// The program's files beside its upstream's.
pub(crate) fn library(krate: &str, upstream: &Upstream) -> String {
    let Upstream {
        module, ty, parts, ..
    } = upstream;
    let mut uses = vec!["MergedObject", "Schema", "SchemaBuilder"];
    let mut roots = String::new();
    let mut types = Vec::new();
    let mut values = Vec::new();
    for root in Root::ALL {
        match parts.get(&root) {
            Some(part) => {
                let (name, derive) = match root {
                    Root::Query => ("queries", "MergedObject"),
                    Root::Mutation => ("mutations", "MergedObject"),
                    Root::Subscription => ("subscriptions", "MergedSubscription"),
                };
                if root == Root::Subscription {
                    uses.push("MergedSubscription");
                }
                let root = root.as_str();
                // Writing to a String cannot fail.
                let _ = write!(
                    roots,
                    "/// The root of {name}.\n#[derive(Default, {derive})]\npub struct {root}({module}::{part});\n\n"
                );
                types.push(root.to_owned());
                values.push(format!("{root}::default()"));
            }
            None => {
                let empty = format!("Empty{}", root.as_str());
                uses.push(if root == Root::Mutation {
                    "EmptyMutation"
                } else {
                    "EmptySubscription"
                });
                types.push(empty.clone());
                values.push(empty);
            }
        }
    }
    uses.sort_unstable();
    format(&format!(
        "//! A web tier: a schema, one module for each upstream, and everything else is `bff-engine`'s.\n\n\
         // The compiler looks through the parts of the schema one within the other.\n\
         #![recursion_limit = \"1024\"]\n\n\
         mod {module};\n\nuse async_graphql::{{{}}};\nuse bff_engine::Bff;\n\nbff_engine::upstreams!();\n\n{roots}\
         fn schema() -> SchemaBuilder<{}> {{\n    Schema::build({})\n}}\n\n\
         /// The whole program.\npub fn bff() -> Bff {{\n    Bff::new({krate:?}, schema).upstream::<upstreams::{ty}>()\n}}\n",
        uses.join(", "),
        types.join(", "),
        values.join(", ")
    ))
}

pub(crate) fn main_file(krate: &str) -> String {
    format!(
        "//! The `{krate}` program.\n\nuse std::process::ExitCode;\n\n#[tokio::main]\nasync fn main() -> ExitCode {{\n    \
         {}::bff().main().await\n}}\n",
        snake(krate)
    )
}

/// The chain in `build.rs` that stands for the upstream.
pub(crate) fn in_build_script(upstream: &Upstream) -> String {
    let serves: String = upstream
        .services
        .iter()
        .map(|service| format!(".serves({service:?})"))
        .collect();
    format!(".upstream(Upstream::new({:?}){serves})", upstream.name)
}

/// How the protos of an upstream are named in `build.rs`.
pub(crate) enum Protos<'p> {
    Files(&'p [String]),
    Descriptors(&'p str),
}

pub(crate) fn build_script(protos: &Protos<'_>, upstream: &Upstream) -> String {
    let protos = match protos {
        Protos::Files(files) => {
            let files: Vec<_> = files
                .iter()
                .map(|file| format!("{:?}", format!("proto/{file}")))
                .collect();
            format!("Protos::new([{}], [\"proto\"])", files.join(", "))
        }
        Protos::Descriptors(file) => format!("Protos::descriptors({file:?})"),
    };
    format(&format!(
        "//! Makes clients of the upstreams' proto files.\n\nuse bff_codegen::{{Protos, Upstream}};\n\n\
         fn main() -> Result<(), bff_codegen::Error> {{\n    {protos}{}.generate()\n}}\n",
        in_build_script(upstream)
    ))
}

pub(crate) fn manifest(krate: &str, engine: &Path) -> String {
    let engine = engine.display();
    format!(
        r#"[package]
name = "{krate}"
version = "0.1.0"
edition = "2024"
publish = false

[dependencies]
async-graphql = {{ version = "7.2", default-features = false }}
bff-engine = {{ path = "{engine}/engine" }}
futures-util = {{ version = "0.3", default-features = false }}
tokio = {{ version = "1.48", features = ["macros", "rt-multi-thread"] }}

[dev-dependencies]
bff-engine = {{ path = "{engine}/engine", features = ["testing"] }}

[build-dependencies]
bff-codegen = {{ path = "{engine}/codegen" }}

[profile.dev]
# Line numbers in backtraces, no variable tables: builds and links in half the time.
debug = "line-tables-only"

# It stands by itself, wherever it lies.
[workspace]
"#
    )
}

pub(crate) fn configuration(krate: &str, upstream: &Upstream) -> String {
    format!(
        "# What is not said here has its default: `cargo run -- print-config --config bff.toml`.\n\n\
         [consul]\nservice = {krate:?}\n\n{}",
        section(upstream)
    )
}

/// The upstream's section of the configuration.
pub(crate) fn section(upstream: &Upstream) -> String {
    let name = &upstream.name;
    format!("[upstreams.{name}]\nservice = {name:?}               # its name in Consul\n")
}
