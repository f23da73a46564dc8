//! Requests of a mebibyte that ask for as much as one can.

use serde_json::json;

/// Their names and their bodies.
pub fn requests() -> Vec<(&'static str, String)> {
    let many = |n: usize| -> String {
        let fields = (0..n).map(|n| format!("a{n}: hello(name: $name) {{ message }} "));
        fields.collect()
    };
    let echo = |n: usize, name: String| {
        let query = format!("query($name: String!) {{ {} }}", many(n));
        json!({ "query": query, "variables": { "name": name } }).to_string()
    };
    let document = |text: String| json!({ "query": text }).to_string();
    let names: String = (0..99).map(|n| format!("a{n}: message ")).collect();
    let multiplied = format!("query($name: String!) {{ hello(name: $name) {{ {names} }} }}");
    let large = "x".repeat(900_000);
    let of = |variables: String| {
        format!("{{\"query\":\"{{ __typename }}\",\"variables\":{{\"v\":{variables}}}}}")
    };
    let keys: String = (0..80_000).map(|n| format!("\"{n:05}\":1,")).collect();
    vec![
        ("four of a large variable", echo(4, large.clone())),
        ("fifty of a large variable", echo(50, large.clone())),
        ("fifty of one that fits", echo(50, "x".repeat(80_000))),
        ("control characters", echo(8, "\u{1}".repeat(170_000))),
        (
            "a large reply under many names",
            json!({ "query": multiplied, "variables": { "name": large } }).to_string(),
        ),
        (
            "a long document",
            document(format!("{{{}}}", "a ".repeat(500_000))),
        ),
        (
            "directives",
            document(format!("{{ hello {} {{ message }} }}", "@a".repeat(30_000))),
        ),
        ("numbers", of(format!("[{}1]", "1,".repeat(500_000)))),
        ("lists", of(format!("[{}1]", "[],".repeat(330_000)))),
        ("objects", of(format!("[{}1]", "{},".repeat(330_000)))),
        ("keys", of(format!("{{{keys}\"a\":1}}"))),
        ("brackets", "[".repeat(1_000_000)),
    ]
}
