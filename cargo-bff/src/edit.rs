//! A crate that is there: what it has, and another upstream for it. What its owner wrote stays.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail, ensure};

use crate::{
    Files,
    roots::Root,
    write::{self, Published, Upstream},
};

/// The files of an upstream's module and of its test.
pub(crate) fn modules(upstream: &Upstream) -> Files {
    let module = upstream.module.trim_start_matches("r#");
    let mut files: Files = vec![
        (
            format!("src/{module}.rs").into(),
            upstream.roots.clone().into_bytes(),
        ),
        (
            format!("tests/{module}.rs").into(),
            upstream.test.clone().into_bytes(),
        ),
    ];
    if !upstream.types.is_empty() {
        let types = upstream.types.clone().into_bytes();
        files.push((format!("src/{module}/types.rs").into(), types));
    }
    files
}

/// A crate that was made before.
pub(crate) struct Crate {
    dir: PathBuf,
    pub(crate) name: String,
    library: String,
    build: String,
    pub(crate) published: Published,
}

impl Crate {
    pub(crate) fn open(dir: &Path) -> anyhow::Result<Self> {
        let read = |file: &str| {
            fs::read_to_string(dir.join(file)).with_context(|| {
                format!("{file}: there is no crate of cargo bff new here; change into its folder")
            })
        };
        let manifest = read("Cargo.toml")?;
        let name = manifest.lines().find_map(|line| {
            let value = line.strip_prefix("name")?.trim_start().strip_prefix('=')?;
            Some(value.trim().trim_matches('"').to_owned())
        });
        let (library, build) = (read("src/lib.rs")?, read("build.rs")?);
        let mut sources = String::new();
        sources_of(&dir.join("src"), &mut sources)?;
        Ok(Self {
            dir: dir.to_owned(),
            name: name.context("Cargo.toml has no name")?,
            published: published(&sources),
            library,
            build,
        })
    }

    /// Whether an upstream can be called `name`.
    pub(crate) fn is_free(&self, name: &str) -> anyhow::Result<()> {
        let module = bff_codegen::names::snake(name);
        let module = module.trim_start_matches("r#");
        let named = self.build.contains(&format!("Upstream::new({name:?})"));
        let there = self.dir.join(format!("src/{module}.rs")).exists();
        ensure!(
            !named && !there,
            "the upstream {name} is there already, and what its owner changed is not written over: \
             cargo bff diff tells what it lacks, --service NAME adds another"
        );
        Ok(())
    }

    /// Adds an upstream. Returns what has to be done by hand, because the place was not found.
    pub(crate) fn add(
        &self,
        upstream: &Upstream,
        protos: Files,
        named: &[String],
        has_descriptors: bool,
    ) -> anyhow::Result<Vec<String>> {
        let mut by_hand = Vec::new();
        let mut files = modules(upstream);
        for (path, bytes) in protos {
            match fs::read(self.dir.join(&path)) {
                Ok(there) if there == bytes => {}
                Ok(_) => bail!("{} is there already, and another one", path.display()),
                Err(_) => files.push((path, bytes)),
            }
        }
        let mut library = self.library.clone();
        for (done, what) in in_library(&mut library, upstream) {
            if !done {
                by_hand.push(format!("src/lib.rs: {what}"));
            }
        }
        let mut build = self.build.clone();
        let protos: Vec<_> = match has_descriptors {
            true => vec![format!("proto/{}.bin", upstream.name)],
            false => named.iter().map(|file| format!("proto/{file}")).collect(),
        };
        for (done, what) in in_build(&mut build, upstream, &protos, has_descriptors) {
            if !done {
                by_hand.push(format!("build.rs: {what}"));
            }
        }
        files.push(("src/lib.rs".into(), write::format(&library).into_bytes()));
        files.push(("build.rs".into(), write::format(&build).into_bytes()));
        let configuration = self.dir.join("bff.toml");
        if let Ok(text) = fs::read_to_string(&configuration)
            && !text.contains(&format!("[upstreams.{}]", upstream.name))
        {
            let text = format!("{}\n\n{}", text.trim_end(), write::section(upstream));
            files.push(("bff.toml".into(), text.into_bytes()));
        }
        write::check()?;
        for (path, bytes) in files {
            let path = self.dir.join(path);
            if let Some(folder) = path.parent() {
                fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
            }
            fs::write(&path, bytes).with_context(|| path.display().to_string())?;
        }
        Ok(by_hand)
    }
}

fn sources_of(dir: &Path, text: &mut String) -> anyhow::Result<()> {
    for entry in fs::read_dir(dir).with_context(|| dir.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            sources_of(&path, text)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            *text += &fs::read_to_string(&path).with_context(|| path.display().to_string())?;
            text.push('\n');
        }
    }
    Ok(())
}

/// All of a crate's own code.
pub(crate) fn code(dir: &Path) -> anyhow::Result<String> {
    let mut code = String::new();
    sources_of(&dir.join("src"), &mut code)?;
    Ok(code)
}

/// The messages that types are made of, each with the fields that are named.
pub(crate) fn published_messages(code: &str) -> Vec<(String, Vec<String>)> {
    let mut found: Vec<(String, Vec<String>)> = Vec::new();
    let mut path = None;
    let mut within = false;
    for line in code.lines().map(str::trim) {
        if within {
            if line.starts_with('}') {
                within = false;
                continue;
            }
            // `from = name` and `oneof = name` name another field than the type's own.
            let attribute = line
                .strip_prefix("#[proto(")
                .and_then(|rest| rest.split_once("= "));
            let name = match attribute {
                Some((_, rest)) => rest.split([',', ')']).next(),
                None if line.starts_with(['#', '/']) => None,
                None => line
                    .split_once(':')
                    .map(|(name, _)| name.rsplit(' ').next().unwrap_or(name)),
            };
            if let (Some(name), Some((_, fields))) = (name, found.last_mut()) {
                fields.push(name.trim().to_owned());
            }
            continue;
        }
        if let Some(rest) = line.strip_prefix("#[proto(") {
            path = rest.split(')').next().map(str::to_owned);
        } else if line.contains("struct ") && line.ends_with('{') {
            if let Some(path) = path.take() {
                found.push((path, Vec::new()));
                within = true;
            }
        } else if line.contains("enum ") && line.ends_with('{') {
            path = None;
        }
    }
    found
}

/// What sources publish: types, and fields of roots. More than there is does no harm.
pub(crate) fn published(sources: &str) -> Published {
    let mut types = BTreeSet::new();
    let mut fields: BTreeMap<Root, BTreeSet<String>> = BTreeMap::new();
    let mut named = None;
    let mut root = None;
    let mut attribute = String::new();
    for line in sources.lines() {
        let line = line.trim();
        if let Some(at) = line.find("name = \"")
            && line.starts_with("#[graphql")
        {
            named = line[at + 8..].split('"').next().map(str::to_owned);
        }
        if line == "#[Object]" || line == "#[Subscription]" {
            attribute = line.to_owned();
        }
        if let Some(rest) = line.strip_prefix("impl ") {
            let of = rest.split([' ', '{']).next().unwrap_or_default();
            root = match attribute.as_str() {
                "#[Subscription]" => Some(Root::Subscription),
                "#[Object]" if of.contains("Mutation") => Some(Root::Mutation),
                "#[Object]" if of.contains("Query") => Some(Root::Query),
                _ => None,
            };
            attribute.clear();
        }
        let rest = line.strip_prefix("pub ").unwrap_or(line);
        let rest = rest.strip_prefix("(crate) ").unwrap_or(rest);
        if let Some(rest) = rest
            .strip_prefix("struct ")
            .or_else(|| rest.strip_prefix("enum "))
        {
            let is_word = |c: &char| c.is_ascii_alphanumeric() || *c == '_';
            let own: String = rest.chars().take_while(is_word).collect();
            types.extend([named.take().unwrap_or_else(|| own.clone()), own]);
        }
        if let Some(rest) = line.strip_prefix("async fn ")
            && let Some(root) = root
        {
            let function = rest.split(['(', '<']).next().unwrap_or_default();
            let name = named
                .take()
                .unwrap_or_else(|| crate::names::root_field(&[function.trim_start_matches("r#")]));
            fields.entry(root).or_default().insert(name);
        }
    }
    Published { fields, types }
}

/// Puts `text` behind the last place that `find` ends at.
fn put_behind(library: &mut String, at: Option<usize>, text: &str) -> bool {
    if let Some(at) = at {
        library.insert_str(at, text);
    }
    at.is_some()
}

/// Puts the upstream into `src/lib.rs`; says of each step whether it was done, and what it was.
fn in_library(library: &mut String, upstream: &Upstream) -> Vec<(bool, String)> {
    let Upstream {
        module, ty, parts, ..
    } = upstream;
    let mut steps = Vec::new();
    let place = library.find("\nmod ").map(|at| at + 1);
    let line = format!("mod {module};\n");
    steps.push((put_behind(library, place, &line), line.trim().to_owned()));
    for (root, part) in parts {
        let root_name = root.as_str();
        let path = format!("{module}::{part}");
        let start = library.find(&format!("pub struct {root_name}("));
        let end = start.and_then(|start| Some(start + library[start..].find(");")?));
        let done = match end {
            Some(end) => {
                let comma = if library[..end].trim_end().ends_with(',') {
                    " "
                } else {
                    ", "
                };
                put_behind(library, Some(end), &format!("{comma}{path}"))
            }
            None => first_of_root(library, *root, &path),
        };
        steps.push((done, format!("{path} is a part of {root_name}")));
    }
    let call = format!(".upstream::<upstreams::{ty}>()");
    let last = library.rfind(".upstream::<");
    let place = last.and_then(|last| Some(last + library[last..].find("()")? + 2));
    steps.push((put_behind(library, place, &call), call));
    steps
}

/// Makes a root of which there was none.
fn first_of_root(library: &mut String, root: Root, path: &str) -> bool {
    let name = root.as_str();
    let empty = format!("Empty{name}");
    let (derive, what) = match root {
        Root::Subscription => ("MergedSubscription", "subscriptions"),
        Root::Mutation => ("MergedObject", "mutations"),
        Root::Query => ("MergedObject", "queries"),
    };
    let (Some(function), true) = (library.find("fn schema()"), library.contains(&empty)) else {
        return false;
    };
    // The use, the type, and the value in `Schema::build`.
    let body = library.split_off(function);
    let body = match body.find("Schema::build(") {
        Some(at) => {
            let (types, values) = body.split_at(at);
            types.replace(&empty, name) + &values.replacen(&empty, &format!("{name}::default()"), 1)
        }
        None => body,
    };
    let uses = if library.contains(derive) {
        String::new()
    } else {
        format!("{derive}, ")
    };
    *library = library.replacen(&format!("{empty}, "), &uses, 1);
    *library += &format!(
        "/// The root of {what}.\n#[derive(Default, {derive})]\npub struct {name}({path});\n\n{body}"
    );
    true
}

/// Puts the upstream into `build.rs`.
fn in_build(
    build: &mut String,
    upstream: &Upstream,
    protos: &[String],
    has_descriptors: bool,
) -> Vec<(bool, String)> {
    let mut steps = Vec::new();
    let missing: Vec<_> = protos
        .iter()
        .filter(|file| !build.contains(&format!("{file:?}")))
        .cloned()
        .collect();
    if has_descriptors {
        let call: String = missing
            .iter()
            .map(|file| format!(".and_descriptors({file:?})"))
            .collect();
        let place = build.find(".upstream(");
        steps.push((put_behind(build, place, &call), format!("Protos{call}")));
    } else if !missing.is_empty() {
        let list: Vec<_> = missing.iter().map(|file| format!("{file:?}")).collect();
        let list = list.join(", ");
        let start = build
            .find("Protos::new([")
            .map(|at| at + "Protos::new([".len());
        match start {
            Some(start) => steps.push((put_behind(build, Some(start), &format!("{list}, ")), list)),
            None => {
                let call = format!(".and([{list}], [\"proto\"])");
                let place = build.find(".upstream(");
                steps.push((put_behind(build, place, &call), format!("Protos{call}")));
            }
        }
    }
    let call = write::in_build_script(upstream);
    let place = build.rfind(".generate()");
    steps.push((put_behind(build, place, &call), call));
    steps
}
