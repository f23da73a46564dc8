//! Names of protos as Rust has them.

use std::collections::HashMap;

use heck::{ToSnakeCase, ToUpperCamelCase};

/// Words that are no names in Rust, but for a mark.
const KEYWORDS: [&str; 46] = [
    "abstract", "as", "async", "await", "become", "box", "break", "const", "continue", "do", "dyn",
    "else", "enum", "false", "final", "fn", "for", "gen", "if", "impl", "in", "let", "loop",
    "macro", "match", "mod", "move", "mut", "override", "priv", "pub", "ref", "return", "static",
    "struct", "trait", "true", "try", "type", "typeof", "unsafe", "unsized", "use", "virtual",
    "where", "while",
];

/// A name that Rust takes, as prost-build makes it.
pub fn identifier(name: &str) -> String {
    match name {
        "_" | "super" | "self" | "Self" | "extern" | "crate" => format!("{name}_"),
        "yield" => "r#yield".to_owned(),
        _ if KEYWORDS.contains(&name) => format!("r#{name}"),
        _ if name.starts_with(|first: char| first.is_numeric()) => format!("_{name}"),
        _ => name.to_owned(),
    }
}

/// A field, a method or a module of a message: `display_name`.
pub fn snake(name: &str) -> String {
    identifier(&name.to_snake_case())
}

/// A message, an enum or a oneof: `OrderItem`.
pub fn camel(name: &str) -> String {
    identifier(&name.to_upper_camel_case())
}

/// A value of an enum: without the enum's name in front, if it has it.
pub fn variant(kind: &str, name: &str) -> String {
    let (prefix, name) = (camel(kind), camel(name));
    let stripped = name.strip_prefix(&prefix).unwrap_or(&name);
    let is_name = stripped.chars().next().is_some_and(char::is_uppercase);
    identifier(if is_name { stripped } else { &name })
}

/// The module of a package's segment.
pub fn module(segment: &str) -> String {
    snake(segment)
}

/// The names of a client's methods, each given as its service's full name and its own name: where two
/// services have one of a name, both carry their service's, and if need be their package's.
pub fn methods(methods: &[(&str, &str)]) -> Vec<String> {
    let name = |(service, method): &(&str, &str), level: usize| {
        let own = snake(method);
        let plain = own.trim_start_matches("r#");
        let (package, service) = service.rsplit_once('.').unwrap_or(("", service));
        match level {
            0 => own,
            1 => format!("{}_{plain}", service.to_snake_case()),
            _ => format!(
                "{}_{}_{plain}",
                package.to_snake_case(),
                service.to_snake_case()
            ),
        }
    };
    let mut levels = vec![0; methods.len()];
    for _ in 0..2 {
        let mut users: HashMap<String, Vec<usize>> = HashMap::new();
        for (n, method) in methods.iter().enumerate() {
            users.entry(name(method, levels[n])).or_default().push(n);
        }
        for clashing in users.into_values().filter(|users| users.len() > 1) {
            clashing.into_iter().for_each(|n| levels[n] += 1);
        }
    }
    let named = methods.iter().zip(levels);
    named.map(|(method, level)| name(method, level)).collect()
}

/// `price-book` as `PriceBook`.
pub fn upper_camel(name: &str) -> String {
    let words = name.split(['-', '_', '.']);
    let words = words.map(|word| {
        let mut letters = word.chars();
        let first = letters.next().map(|first| first.to_ascii_uppercase());
        first.into_iter().chain(letters).collect::<String>()
    });
    words.collect()
}

/// `path`, which is relative to the module of `package`, as seen from the module around all of them.
pub fn from_root(package: &str, path: &str) -> String {
    if path.starts_with("::") || path == "()" {
        return path.to_owned();
    }
    let segments = package.split('.').filter(|segment| !segment.is_empty());
    let mut modules: Vec<_> = segments.map(module).collect();
    let mut rest = path;
    while let Some(outer) = rest.strip_prefix("super::") {
        modules.pop();
        rest = outer;
    }
    modules.push(rest.to_owned());
    modules.join("::")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_of_a_package_is_one_from_the_root() {
        for (package, path, root) in [
            ("shop.catalog.v1", "Product", "shop::catalog::v1::Product"),
            (
                "shop.catalog.v1",
                "super::super::common::v1::Money",
                "shop::common::v1::Money",
            ),
            ("google.type", "Color", "google::r#type::Color"),
            ("", "Thing", "Thing"),
            (
                "a",
                "::bff_engine::codegen::prost_types::Any",
                "::bff_engine::codegen::prost_types::Any",
            ),
            ("a", "()", "()"),
        ] {
            assert_eq!(from_root(package, path), root);
        }
        assert_eq!(upper_camel("price-book"), "PriceBook");
        assert_eq!(upper_camel("catalog"), "Catalog");
    }
}
