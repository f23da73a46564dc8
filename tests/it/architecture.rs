//! The shape of the code: what ARCHITECTURE.md says of it, held by a test.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// The engine's modules, from bottom to top: each uses only those before it.
const ORDER: [&str; 16] = [
    "types",
    "telemetry",
    "call",
    "rate_limit",
    "discovery",
    "balance",
    "resilience",
    "upstream",
    "made_up",
    "graphql",
    "http",
    "config",
    "shutdown",
    "app",
    "testing",
    "cli",
];

/// Crates that one place alone may name.
const OWNERS: [(&str, &str); 8] = [
    ("consulrs", "discovery/consul.rs"),
    ("rustify", "discovery/consul.rs"),
    ("nacos_sdk", "config/nacos/"),
    ("redis", "rate_limit/redis/"),
    ("opentelemetry_jaeger", "telemetry/jaeger.rs"),
    ("opentelemetry_023", "telemetry/jaeger.rs"),
    ("opentelemetry_sdk_023", "telemetry/jaeger.rs"),
    ("tonic", "call/transport/"),
];

/// Files that take time and randomness as arguments.
const PURE: [&str; 27] = [
    "balance/gate.rs",
    "balance/picker.rs",
    "balance/sampler.rs",
    "balance/stats.rs",
    "balance/view.rs",
    "call/code.rs",
    "call/outcome.rs",
    "discovery/entries.rs",
    "discovery/membership.rs",
    "discovery/pace.rs",
    "graphql/answer.rs",
    "graphql/coerce.rs",
    "graphql/collect.rs",
    "graphql/language/ast.rs",
    "graphql/language/lexer.rs",
    "graphql/language/parser.rs",
    "graphql/prepare.rs",
    "graphql/types.rs",
    "graphql/validate/definitions.rs",
    "graphql/validate/merge.rs",
    "graphql/validate/selections.rs",
    "graphql/validate/values.rs",
    "resilience/breaker/state/mod.rs",
    "resilience/breaker/window.rs",
    "resilience/budget.rs",
    "resilience/retry/policy.rs",
    "types/backoff.rs",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() && !["target", ".git"].contains(&name) {
            files(&path, found);
        } else if path.is_file() {
            found.push(path);
        }
    }
}

/// Every file of the repository, by its path from the root.
fn tree() -> Vec<String> {
    let root = root();
    let mut found = Vec::new();
    files(&root, &mut found);
    found
        .iter()
        .map(|path| {
            path.strip_prefix(&root)
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned()
        })
        .collect()
}

/// A file's code that is no test, without its comments.
fn production(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    let end = text.find("#[cfg(test)]\nmod ").unwrap_or(text.len());
    let lines = text[..end].lines();
    lines
        .filter(|line| !line.trim_start().starts_with("//"))
        .fold(String::new(), |text, line| text + line + "\n")
}

/// The engine's production code, by its path below `engine/src/`.
fn engine() -> BTreeMap<String, String> {
    let src = root().join("engine/src");
    let mut found = Vec::new();
    files(&src, &mut found);
    found
        .into_iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .map(|path| {
            let name = path
                .strip_prefix(&src)
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned();
            (name, production(&path))
        })
        .filter(|(name, _)| {
            !name.ends_with("tests.rs") && name != "simulation.rs" && !name.starts_with("internals")
        })
        .collect()
}

/// The modules that `code` names behind `crate::`.
fn modules_named(code: &str) -> BTreeSet<String> {
    let mut named = BTreeSet::new();
    let word = |text: &str| -> String {
        let is_word = |c: &char| c.is_ascii_alphanumeric() || *c == '_';
        text.chars().take_while(is_word).collect()
    };
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        let Some(group) = rest.strip_prefix('{') else {
            named.insert(word(rest));
            continue;
        };
        // The outermost names of `crate::{a::…, b::{…}, c}`.
        let (mut depth, mut expects_name) = (0, true);
        for (place, character) in group.char_indices() {
            match character {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => expects_name = true,
                c if expects_name && depth == 0 && !c.is_whitespace() => {
                    named.insert(word(&group[place..]));
                    expects_name = false;
                }
                _ => {}
            }
        }
    }
    named
}

#[test]
fn modules_use_only_those_below_them_so_none_depend_on_each_other_in_circles() {
    let place = |module: &str| ORDER.iter().position(|known| *known == module);
    let mut upward = Vec::new();
    for (file, code) in engine() {
        let module = file.split(['/', '.']).next().unwrap();
        if module == "lib" {
            continue;
        }
        let own = place(module).unwrap_or_else(|| panic!("{file}: put `{module}` into the order"));
        for named in modules_named(&code) {
            if place(&named).is_some_and(|named| named > own) {
                upward.push(format!("{file} uses {named}"));
            }
        }
    }
    assert!(upward.is_empty(), "{upward:#?}");
}

#[test]
fn one_place_alone_names_each_client_library() {
    for (file, code) in engine() {
        for (library, owner) in OWNERS {
            let named = [
                format!("use {library}::"),
                format!(" {library}::"),
                format!("({library}::"),
            ]
            .iter()
            .any(|text| code.contains(text));
            // A module of our own may have the library's name.
            let own = library == "redis" && file.starts_with("rate_limit/");
            assert!(
                !named || own || file.starts_with(owner),
                "{file} names {library}, which is {owner}'s"
            );
        }
    }
}

#[test]
fn pure_files_read_no_clock_and_nothing_reads_the_wall_clock() {
    let engine = engine();
    for pure in PURE {
        let code = &engine[pure];
        for clock in [
            "Instant::now",
            "now()",
            "rand::rng",
            ".await",
            "tokio::spawn",
        ] {
            assert!(!code.contains(clock), "{pure}: {clock}");
        }
    }
    for (file, code) in &engine {
        assert!(!code.contains("SystemTime::now"), "{file}");
    }
}

#[test]
fn the_plumbing_stays_small() {
    let engine = engine();
    let count =
        |text: &str| -> usize { engine.values().map(|code| code.matches(text).count()).sum() };
    assert!(count("http_body::Body for") <= 2, "body wrappers");
    // The peer's address, by the listener and by the test kit, which stands for it; the span.
    assert!(count("extensions_mut().insert(") <= 3, "request extensions");
    let public = engine
        .iter()
        .filter(|(name, _)| !name.starts_with("testing") && !name.starts_with("made_up"))
        .flat_map(|(_, code)| code.lines())
        .filter(|line| {
            let line = line.trim_start();
            line.starts_with("pub ")
                && !line.starts_with("pub use ")
                && !line.starts_with("pub mod internals")
        });
    // What an owner writes a schema with, and around it; the kit for tests is apart.
    assert!(public.count() <= 110, "public items of the engine");
    let bff = ["lib.rs", "main.rs", "greeter.rs"].map(|file| root().join("bff/src").join(file));
    let lines: usize = bff
        .iter()
        .map(|file| fs::read_to_string(file).unwrap().lines().count())
        .sum();
    assert_eq!(
        fs::read_dir(root().join("bff/src")).unwrap().count(),
        bff.len()
    );
    assert!(lines <= 250, "{lines} lines of the web tier");
}

#[test]
fn every_field_backed_by_a_call_is_nullable() {
    let schema = fs::read_to_string(root().join("schema/schema.graphql")).unwrap();
    let mut root_type = false;
    let mut fields = 0;
    for line in schema.lines() {
        match line.trim() {
            "type Query {" | "type Mutation {" => root_type = true,
            "}" => root_type = false,
            // A field's type stands behind its arguments or its name.
            field if root_type && field.contains(": ") && !field.contains(" = ") => {
                let named =
                    field.starts_with("):") || line.starts_with("\t") && !line.starts_with("\t\t");
                if named {
                    fields += 1;
                    assert!(!field.ends_with('!'), "{field} cannot be null");
                }
            }
            _ => {}
        }
    }
    assert!(fields >= 1, "no field was found");
}

#[test]
fn production_crates_do_not_depend_on_the_tests() {
    for manifest in ["engine", "bff", "greeter-srv", "proto"] {
        let text = fs::read_to_string(root().join(manifest).join("Cargo.toml")).unwrap();
        assert!(!text.contains("bff-tests"), "{manifest}");
    }
    let greeter = fs::read_to_string(root().join("greeter-srv/Cargo.toml")).unwrap();
    assert!(!greeter.contains("bff-engine"), "the greeter stands alone");
}

#[test]
fn every_path_that_the_documents_name_exists() {
    let tree = tree();
    let documents = tree.iter().filter(|path| path.ends_with(".md"));
    let mut missing = Vec::new();
    let mut named = 0;
    for document in documents {
        let text = fs::read_to_string(root().join(document)).unwrap();
        for quoted in text.split('`').skip(1).step_by(2) {
            let plain = quoted
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "_-./".contains(c));
            let is_file = [
                ".rs", ".toml", ".md", ".sh", ".lua", ".json", ".yml", ".proto", ".graphql",
            ]
            .iter()
            .any(|extension| quoted.ends_with(extension));
            let is_folder = quoted.ends_with('/') && quoted.len() > 1;
            // Paths of a user's machine are no paths of ours.
            if !plain || !(is_file || is_folder) || quoted.starts_with('/') {
                continue;
            }
            named += 1;
            let exists = tree.iter().any(|path| {
                let path = format!("/{path}");
                match is_folder {
                    true => path.contains(&format!("/{quoted}")),
                    false => path.ends_with(&format!("/{quoted}")),
                }
            });
            // What ARCHITECTURE tells an owner to write is not there yet.
            let example = ["foo.proto", "foo.rs"]
                .iter()
                .any(|name| quoted.ends_with(name));
            if !exists && !example {
                missing.push(format!("{document}: {quoted}"));
            }
        }
    }
    assert!(named > 20, "only {named} paths were found");
    assert!(missing.is_empty(), "{missing:#?}");
}
