//! What happens to an operation before and after the library executes it, by its price: the same
//! requests to the library alone, which is given its own, parsed document each time, as a cache would
//! give it. Resolvers answer at once.

#![expect(
    clippy::expect_used,
    reason = "a bench that cannot ask has nothing to say"
)]

use async_graphql::{Request, Variables, parser::parse_query};
use bff_tests::everything::{everything, schema};
use criterion::{Criterion, criterion_group, criterion_main};
use serde_json::{Value, json};

const PAGE: &str = "query Page($n: Int = 3) { \
    me { ...P friend { ...P friend { name } } } \
    animals { ...A friend { ...A } ... on Dog { barks owner { ...P } } } \
    echo(int: $n, input: { req: 1, min: $n, tags: [\"a\", \"b\"] }) } \
    fragment P on Person { name age says(what: \"x\") } \
    fragment A on Animal { name noise(loud: true) ... on Cat { meows } }";

fn requests() -> Vec<(&'static str, Value)> {
    vec![
        ("anonymous", json!({ "query": "{ me { name } }" })),
        (
            "variables",
            json!({
                "query": "query($what: String!) { me { says(what: $what) } }",
                "variables": { "what": "hello" },
            }),
        ),
        ("page", json!({ "query": PAGE, "operationName": "Page" })),
    ]
}

fn remembered(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let _entered = runtime.enter();
    let (graph, calls) = everything("").expect("a schema");
    let library = schema().data(calls).finish();
    for (name, body) in requests() {
        let mut group = c.benchmark_group(name);
        let query = body["query"].as_str().unwrap_or_default().to_owned();
        let parsed = parse_query(&query).expect("a document");
        group.bench_function("the library alone", |b| {
            b.iter(|| {
                let mut request = Request::new(query.as_str());
                request.operation_name = body["operationName"].as_str().map(str::to_owned);
                request = request.variables(Variables::from_json(body["variables"].clone()));
                request.set_parsed_query(parsed.clone());
                let answer = runtime.block_on(library.execute(request));
                serde_json::to_string(&answer).expect("an answer")
            });
        });
        group.bench_function("all of it", |b| {
            b.iter(|| {
                let answer = runtime.block_on(graph.execute(body.clone()));
                answer.expect("an answer")
            });
        });
        group.finish();
    }
}

/// A document of as many bytes, of aliases and fragments.
fn page(bytes: usize) -> String {
    let mut text = "{ ...F0".to_owned();
    let mut fragments = String::new();
    for n in 0.. {
        if text.len() + fragments.len() > bytes - 200 {
            break;
        }
        text += &format!(" alias_{n:06}_of_a_page_that_is_large: me {{ name age }}");
        if n % 20 == 0 {
            let n = n / 20;
            fragments += &format!(
                " fragment F{n} on Query {{ f{n}: animals {{ name ... on Dog {{ barks }} }} }}"
            );
            text += &format!(" ...F{n}");
        }
    }
    text + " }" + &fragments
}

/// `open`, as many of `each` as fit, and `close`.
fn many(bytes: usize, open: &str, each: impl Fn(usize) -> String, close: &str) -> String {
    let mut text = open.to_owned();
    for n in 0.. {
        let next = each(n);
        // What the parser takes of tokens, too.
        if text.len() + next.len() + close.len() > bytes || n * 45 > bytes {
            break;
        }
        text += &next;
    }
    text + close
}

/// A name of a shape that documents have, and one of as many bytes.
type Shape = (&'static str, fn(usize) -> String);

/// Documents that give each step much to do.
const SHAPES: [Shape; 9] = [
    ("page", page),
    ("arguments", |bytes| {
        many(bytes, "{ echo(", |n| format!("a{n}: 1 "), ") }")
    }),
    ("variables", |bytes| {
        let used = many(
            bytes * 2 / 3,
            "",
            |n| format!("a{n}: echo(int: $v{n}) "),
            "",
        );
        let count = used.split('$').count() - 1;
        let defined: String = (0..count).map(|n| format!("$v{n}: Int ")).collect();
        format!("query({defined}) {{ {used} }}")
    }),
    ("directives", |bytes| {
        many(
            bytes,
            "{ __typename ",
            |_| "@skip(if: false) ".to_owned(),
            "}",
        )
    }),
    ("an object", |bytes| {
        many(bytes, "{ echo(input: { ", |n| format!("a{n}: 1 "), "}) }")
    }),
    ("one key", |bytes| {
        many(bytes, "{ ", |_| "me { name } ".to_owned(), "}")
    }),
    ("one key with arguments", |bytes| {
        many(
            bytes,
            "{ ",
            |_| "echo(int: 1, string: \"a\") ".to_owned(),
            "}",
        )
    }),
    ("one key of many objects", |bytes| {
        let each = |n| {
            let on = ["Dog", "Cat", "Animal"][n % 3];
            format!("... on {on} {{ friend {{ name }} }} ")
        };
        many(bytes, "{ animals { ", each, "} }")
    }),
    ("fragments", |bytes| {
        let count = (bytes / 320).clamp(2, 199);
        let spreads: String = (0..count).map(|n| format!("...F{n} ")).collect();
        let each = |n: usize| {
            let next: String = (n + 1..count.min(n + 20))
                .map(|n| format!("...F{n} "))
                .collect();
            format!("fragment F{n} on Query {{ f{n}: me {{ name }} {next} }} ")
        };
        let fragments: String = (0..count).map(each).collect();
        format!("{{ {spreads} }} {fragments}")
    }),
];

fn unknown(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let _entered = runtime.enter();
    let (graph, _) = everything("").expect("a schema");
    for (name, shape) in SHAPES {
        let mut group = c.benchmark_group(format!("never seen: {name}"));
        group.sample_size(10);
        for bytes in [6_400, 64_000] {
            let text = shape(bytes);
            let mut times = 0;
            group.bench_function(format!("{} bytes", text.len()), |b| {
                b.iter(|| {
                    times += 1;
                    // An operation that it does not have: everything but the execution.
                    let body = json!({ "query": format!("{text}#{times}"), "operationName": "-" });
                    let answer = runtime.block_on(graph.execute(body)).expect("an answer");
                    assert!(!answer.contains(" tokens"), "it is read to its end");
                });
            });
        }
        group.finish();
    }
}

criterion_group!(benches, remembered, unknown);
criterion_main!(benches);
