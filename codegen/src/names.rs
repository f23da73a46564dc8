//! Names of protos as Rust has them.

/// Words that are no names in Rust.
const KEYWORDS: [&str; 51] = [
    "abstract", "as", "async", "await", "become", "box", "break", "const", "continue", "crate",
    "do", "dyn", "else", "enum", "extern", "false", "final", "fn", "for", "gen", "if", "impl",
    "in", "let", "loop", "macro", "match", "mod", "move", "mut", "override", "priv", "pub", "ref",
    "return", "self", "static", "struct", "super", "trait", "true", "try", "type", "typeof",
    "unsafe", "unsized", "use", "virtual", "where", "while", "yield",
];

/// The module of a package's segment.
pub(crate) fn module(segment: &str) -> String {
    let snake = segment.to_lowercase();
    match KEYWORDS.contains(&snake.as_str()) {
        true => format!("r#{snake}"),
        false => snake,
    }
}

/// `price-book` as `PriceBook`.
pub(crate) fn upper_camel(name: &str) -> String {
    let words = name.split(['-', '_', '.']);
    let words = words.map(|word| {
        let mut letters = word.chars();
        let first = letters.next().map(|first| first.to_ascii_uppercase());
        first.into_iter().chain(letters).collect::<String>()
    });
    words.collect()
}

/// `path`, which is relative to the module of `package`, as seen from the module around all of them.
pub(crate) fn from_root(package: &str, path: &str) -> String {
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
