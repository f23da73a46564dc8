//! What the specification says, by POST and over a WebSocket.

use std::collections::BTreeMap;

use bff_tests::{
    TestBff,
    everything::{self, Calls},
    websocket::Client,
};
use serde_json::{Value, json};

/// A server with everything in its schema.
struct Served {
    bff: TestBff,
    calls: Calls,
}

impl Served {
    async fn start() -> Self {
        Self::with(&[]).await
    }

    async fn with(settings: &[(&str, &str)]) -> Self {
        let (program, calls) = everything::program();
        let mut builder = TestBff::builder().program(program);
        for (key, value) in settings {
            builder = builder.set(key, value);
        }
        let bff = builder.start().await;
        Self { bff, calls }
    }

    /// The answer's body, as it came.
    async fn post(&self, query: &str, variables: Value) -> String {
        self.calls.take();
        let body = json!({ "query": query, "variables": variables });
        self.bff.post(&body).await
    }

    async fn answers(&self, query: &str, variables: Value, expected: &str) {
        let answer = self.post(query, variables).await;
        assert_eq!(answer, format!("{{\"data\":{expected}}}"), "{query}");
    }

    /// The request is refused before anything runs, with this code and these words.
    async fn refuses(&self, query: &str, variables: Value, code: &str, words: &str) {
        let text = self.post(query, variables).await;
        let answer: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(answer.get("data"), None, "{query}: {text}");
        let error = &answer["errors"][0];
        assert_eq!(error["extensions"]["code"], code, "{query}: {text}");
        assert_eq!(error.get("path"), None, "{query}: {text}");
        let message = error["message"].as_str().unwrap();
        assert!(message.contains(words), "{query}: {text}");
        assert_eq!(self.calls(), [], "{query}");
    }

    fn calls(&self) -> Vec<(String, u32)> {
        self.calls.take().into_iter().collect()
    }

    /// The messages that a subscription is answered with, to the one that ends it.
    async fn subscribe(&self, query: &str, variables: Value) -> Vec<Value> {
        self.calls.take();
        let mut client = Client::connect(self.bff.addr(), &[]).await;
        let payload = json!({ "query": query, "variables": variables });
        client
            .send(json!({ "id": "1", "type": "subscribe", "payload": payload }))
            .await;
        let mut messages = Vec::new();
        loop {
            let message = client.next().await;
            let ends = message["type"] != "next";
            messages.push(message);
            if ends {
                return messages;
            }
        }
    }
}

const INVALID: &str = "GRAPHQL_VALIDATION_FAILED";
const BAD_INPUT: &str = "BAD_USER_INPUT";

fn once(coordinates: &[&str]) -> Vec<(String, u32)> {
    let counted: BTreeMap<_, _> = coordinates.iter().map(|of| ((*of).to_owned(), 1)).collect();
    counted.into_iter().collect()
}

#[tokio::test]
async fn a_field_that_two_fragments_select_is_called_once() {
    let served = Served::start().await;
    let query = "{ ...A ...B } fragment A on Query { me { a: name } } \
                 fragment B on Query { me { b: name friend { name } } }";
    let expected = r#"{"me":{"a":"Ann","b":"Ann","friend":{"name":"Ann"}}}"#;
    served.answers(query, json!({}), expected).await;
    let calls: BTreeMap<_, _> = served.calls().into_iter().collect();
    assert_eq!((calls["Query.me"], calls["Person.friend"]), (1, 1));
    let mutation = "mutation { ...A ...A add { value } ... { add { again: value } } } \
                    fragment A on Mutation { add { animal { name } } }";
    let expected = r#"{"add":{"animal":{"name":"Rex"},"value":1,"again":1}}"#;
    served.answers(mutation, json!({}), expected).await;
    let calls: BTreeMap<_, _> = served.calls().into_iter().collect();
    assert_eq!(calls["Mutation.add"], 1);
    // Lists of lists, too.
    let query = "{ matrix { a: message } matrix { b: message } }";
    let expected = r#"{"matrix":[[{"a":"m","b":"m"},{"a":"m","b":"m"}],null,[]]}"#;
    served.answers(query, json!({}), expected).await;
    // Below an interface each object has its own.
    let query = "{ animals { name ... on Dog { barks name } ...C } } \
                 fragment C on Cat { meows friend { name } }";
    let expected = r#"{"animals":[{"name":"Rex","barks":true},{"name":"Tom","meows":3,"friend":{"name":"Rex"}}]}"#;
    served.answers(query, json!({}), expected).await;
}

#[tokio::test]
async fn the_default_of_a_variable_decides_where_it_is_not_given() {
    let served = Served::start().await;
    let person = r#"{"me":{"name":"Ann","age":null}}"#;
    let without = r#"{"me":{"age":null}}"#;
    for query in [
        "query($s: Boolean = true) { me { name @include(if: $s) age } }",
        "query($s: Boolean = true) { me { ...N @include(if: $s) age } } fragment N on Person { name }",
        "query($s: Boolean = true) { me { ... @include(if: $s) { name } age } }",
        "query($s: Boolean = true) { me @include(if: $s) { name age } }",
    ] {
        served.answers(query, json!({}), person).await;
    }
    let query = "query($s: Boolean = true) { me { name @skip(if: $s) age } }";
    served.answers(query, json!({}), without).await;
    served.answers(query, json!({ "s": false }), person).await;
    served.answers(query, json!({ "s": true }), without).await;
    let query = "subscription($s: Boolean = true) { ticks(n: 1) { value @include(if: $s) } }";
    let messages = served.subscribe(query, json!({})).await;
    assert_eq!(
        messages[0]["payload"],
        json!({ "data": { "ticks": { "value": 1 } } })
    );
}

#[tokio::test]
async fn variables_that_are_none_of_their_type_refuse_the_request_and_are_not_repeated() {
    let served = Served::start().await;
    for (definition, value, words) in [
        (
            "String!",
            None,
            "Variable \"$v\" of required type \"String!\" was not provided.",
        ),
        (
            "String!",
            Some(Value::Null),
            "Variable \"$v\" of non-null type \"String!\" must not be null.",
        ),
        (
            "String!",
            Some(json!(7)),
            "Variable \"$v\" got an invalid value: expected a \"String\", found a number.",
        ),
        (
            "String!",
            Some(json!(["secret"])),
            "expected a \"String\", found a list.",
        ),
    ] {
        let query = format!("query($v: {definition}) {{ a: me {{ name }} b: echo(string: $v) }}");
        let variables = value.map_or(json!({}), |value| json!({ "v": value }));
        served.refuses(&query, variables, BAD_INPUT, words).await;
    }
    for (argument, definition, value, words) in [
        (
            "kind",
            "Kind",
            json!("secret"),
            "it is no value of the enum \"Kind\".",
        ),
        (
            "kind",
            "Kind",
            json!(1),
            "expected a \"Kind\", found a number.",
        ),
        (
            "int",
            "Int",
            json!(2_147_483_648_u32),
            "expected a \"Int\", found a number.",
        ),
        (
            "int",
            "Int",
            json!(1.5),
            "expected a \"Int\", found a number.",
        ),
        (
            "int",
            "Int",
            json!("1"),
            "expected a \"Int\", found a string.",
        ),
        (
            "float",
            "Float",
            json!("1"),
            "expected a \"Float\", found a string.",
        ),
        (
            "bool",
            "Boolean",
            json!("true"),
            "expected a \"Boolean\", found a string.",
        ),
        ("id", "ID", json!(1.5), "expected a \"ID\", found a number."),
        (
            "list",
            "[Int!]",
            json!([1, "secret"]),
            "at \"v[1]\": expected a \"Int\", found a string.",
        ),
        (
            "list",
            "[Int!]",
            json!([null]),
            "at \"v[0]\": expected a \"Int!\", found null.",
        ),
        (
            "input",
            "Filter",
            json!({}),
            "the field \"req\" of type \"Int!\" is missing.",
        ),
        (
            "input",
            "Filter",
            json!("secret"),
            "expected a \"Filter\", found a string.",
        ),
        (
            "input",
            "Filter",
            json!({ "req": 1, "secre": 1 }),
            "\"Filter\" has no field \"secre\".",
        ),
        (
            "input",
            "Filter",
            json!({ "req": 1, "nested": { "req": 1, "tags": ["a", {}] } }),
            "at \"v.nested.tags[1]\": expected a \"String\", found an object.",
        ),
        (
            "one",
            "Choice",
            json!({ "a": 1, "b": "secret" }),
            "exactly one field of \"Choice\"",
        ),
        (
            "one",
            "Choice",
            json!({ "a": null }),
            "at \"v.a\": it must not be null.",
        ),
    ] {
        let query = format!("query($v: {definition}) {{ me {{ name }} echo({argument}: $v) }}");
        let variables = json!({ "v": value });
        served
            .refuses(&query, variables.clone(), BAD_INPUT, words)
            .await;
        let answer = served.post(&query, variables).await;
        assert!(!answer.contains("secret"), "{answer}");
    }
    // What is given as one is as good as a list of one, and 1.0 as good as 1.
    let query = "query($l: [Int!], $i: Int) { echo(list: $l, int: $i) }";
    let expected = r#"{"echo":"{\"int\":1,\"list\":[3],\"string\":\"x\"}"}"#;
    served
        .answers(query, json!({ "l": 3, "i": 1.0 }), expected)
        .await;
}

#[tokio::test]
async fn a_variable_stands_only_where_its_type_fits() {
    let served = Served::start().await;
    for (query, words) in [
        (
            "query($n: Int!) { echo(string: $n) }",
            "Variable \"$n\" of type \"Int!\" used in position expecting type \"String!\".",
        ),
        (
            "query($n: Int) { echo(input: { req: $n }) }",
            "expecting type \"Int!\"",
        ),
        (
            "query($n: [Int]) { echo(list: $n) }",
            "expecting type \"[Int!]\"",
        ),
        (
            "query($n: Boolean) { me @include(if: $n) { name } }",
            "expecting type \"Boolean!\"",
        ),
        (
            "query($n: Boolean) { __typename @skip(if: $n) }",
            "expecting type \"Boolean!\"",
        ),
        (
            "query($n: String) { echo(one: { b: $n }) }",
            "expecting non-null type \"String!\"",
        ),
        (
            "query($n: Int) { me { name } }",
            "Variable \"$n\" is never used in this operation.",
        ),
        (
            "{ me { name @skip(if: $n) } }",
            "Variable \"$n\" is not defined by this operation.",
        ),
        (
            "{ __typename @skip(if: $n) }",
            "Variable \"$n\" is not defined by this operation.",
        ),
        (
            "query($n: Person) { echo(any: $n) }",
            "Variable \"$n\" cannot be of non-input type \"Person\".",
        ),
    ] {
        served
            .refuses(query, json!({ "n": "x" }), INVALID, words)
            .await;
    }
    // A variable that only `__typename` uses is used.
    let query = "query($s: Boolean!) { __typename @skip(if: $s) t: __typename }";
    served
        .answers(query, json!({ "s": true }), r#"{"t":"Query"}"#)
        .await;
}

#[tokio::test]
async fn fields_under_one_key_are_one_field_or_the_document_is_refused() {
    let served = Served::start().await;
    for (query, words) in [
        (
            "{ a: echo(int: 1) ...F } fragment F on Query { a: echo(int: 2) }",
            "Fields \"a\" conflict because they have differing arguments.",
        ),
        (
            "{ ... { a: me { name } } ... on Query { a: strict { message } } }",
            "\"me\" and \"strict\" are different fields",
        ),
        ("{ me { a: name } me { a: age } }", "Fields \"a\" conflict"),
        (
            "{ animals { ... on Dog { s: sound } ... on Cat { s: sound } } }",
            "they return conflicting types \"String\" and \"Int\"",
        ),
        (
            "{ animals { ... on Dog { s: name } ... on Cat { s: friend { name } } } }",
            "conflicting types",
        ),
        (
            "{ animals { k: __typename ... on Dog { k: sound } } }",
            "are different fields",
        ),
        (
            "query($a: Int, $b: Int) { a: echo(int: $a) a: echo(int: $b) }",
            "differing arguments",
        ),
    ] {
        served.refuses(query, json!({}), INVALID, words).await;
    }
    // Objects that are never the same may differ, and the order of what is given means nothing.
    for query in [
        "{ animals { ... on Dog { s: name } ... on Cat { s: name } } }",
        "{ animals { ... on Dog { n: noise(loud: true) } ... on Cat { n: noise(loud: false) } } }",
        "{ echo(int: 1, string: \"a\") echo(string: \"a\", int: 1) }",
        "{ echo(input: { req: 1, min: 2 }) echo(input: { min: 2, req: 1 }) }",
        "{ echo(string: \"a\") echo(string: \"\"\"a\"\"\") }",
    ] {
        let answer = served.post(query, json!({})).await;
        assert!(answer.starts_with("{\"data\":{"), "{query}: {answer}");
    }
}

#[tokio::test]
async fn a_subscription_has_one_field_wherever_that_stands() {
    let served = Served::start().await;
    for query in [
        "subscription { ... on Subscription { ticks(n: 1) { value } } }",
        "subscription { ...T } fragment T on Subscription { ticks(n: 1) { value } }",
        "subscription { ticks(n: 1) { value } ... { ticks(n: 1) { value } } }",
    ] {
        let messages = served.subscribe(query, json!({})).await;
        assert_eq!(messages.len(), 2, "{query}: {messages:?}");
        assert_eq!(
            messages[0]["payload"],
            json!({ "data": { "ticks": { "value": 1 } } })
        );
        assert_eq!(messages[1]["type"], "complete");
        assert_eq!(
            served.calls(),
            once(&["Counter.value", "Subscription.ticks"]),
            "{query}"
        );
    }
    for (query, words) in [
        (
            "subscription { ticks { value } stricts { message } }",
            "must select only one top level field",
        ),
        (
            "subscription($v: Boolean = false) { ticks { value } stricts @include(if: $v) { message } }",
            "must select only one",
        ),
        (
            "subscription { ticks { value } ...F } fragment F on Subscription { t: ticks { value } }",
            "must select only one",
        ),
        (
            "subscription { __typename }",
            "must not select an introspection top level field",
        ),
        (
            "subscription { ticks @skip(if: true) { value } }",
            "asks for nothing",
        ),
        (
            "subscription($v: Boolean!) { ticks @skip(if: $v) { value } }",
            "asks for nothing",
        ),
    ] {
        let messages = served.subscribe(query, json!({ "v": true })).await;
        assert!(
            messages[0].to_string().contains(words),
            "{query}: {messages:?}"
        );
        assert_eq!(served.calls(), [], "{query}");
    }
}

#[tokio::test]
async fn where_nothing_is_given_the_default_counts_and_null_is_given() {
    let served = Served::start().await;
    let query = "query($v: Int) { echo(int: $v) }";
    let answer = r#"{"echo":"{\"int\":5,\"string\":\"x\"}"}"#;
    served.answers(query, json!({}), answer).await;
    let answer = r#"{"echo":"{\"int\":null,\"string\":\"x\"}"}"#;
    served.answers(query, json!({ "v": null }), answer).await;
    let query = "query($s: String, $m: Int, $t: [String!], $k: Kind) { \
                 echo(string: $s, input: { req: 1, min: $m, max: $m, tags: $t, kind: $k }) }";
    let answer = r#"{"echo":"{\"input\":{\"kind\":\"DOG\",\"min\":1,\"req\":1,\"tags\":[\"a\"]},\"int\":5,\"string\":\"x\"}"}"#;
    served.answers(query, json!({}), answer).await;
    let answer = r#"{"echo":"{\"input\":{\"kind\":\"DOG\",\"max\":null,\"min\":null,\"req\":1,\"tags\":[\"a\"]},\"int\":5,\"string\":\"x\"}"}"#;
    served.answers(query, json!({ "m": null }), answer).await;
    // A hole in a list is null.
    let query = "query($v: Int) { echo(nested: [[$v, 1]]) }";
    let answer = r#"{"echo":"{\"int\":5,\"nested\":[[null,1]],\"string\":\"x\"}"}"#;
    served.answers(query, json!({}), answer).await;
    let query = "subscription($v: Int) { ticks(n: $v) { value } }";
    let messages = served.subscribe(query, json!({})).await;
    assert_eq!(messages.len(), 3, "two, and the end: {messages:?}");
    let messages = served.subscribe(query, json!({ "v": null })).await;
    assert!(
        messages[0].to_string().contains("must not be null"),
        "{messages:?}"
    );
}

#[tokio::test]
async fn a_field_whose_arguments_fail_is_null_beside_its_siblings() {
    let served = Served::start().await;
    let query = "query($n: String) { me { name } must(n: $n) }";
    let answer: Value =
        serde_json::from_str(&served.post(query, json!({ "n": null })).await).unwrap();
    assert_eq!(
        answer["data"],
        json!({ "me": { "name": "Ann" }, "must": null })
    );
    let error = &answer["errors"][0];
    assert_eq!(
        (&error["path"], &error["extensions"]["code"]),
        (&json!(["must"]), &json!(BAD_INPUT))
    );
    assert!(error["locations"].is_array(), "{answer}");
    assert_eq!(served.calls(), once(&["Person.name", "Query.me"]));
    // In lists and input objects, and below other fields.
    let query = "query($n: Int = 1) { strict { message again { k: args(n: 1, list: [$n]) } } }";
    let answer: Value =
        serde_json::from_str(&served.post(query, json!({ "n": null })).await).unwrap();
    assert_eq!(
        answer["data"],
        json!({ "strict": { "message": "m", "again": null } })
    );
    assert_eq!(answer["errors"][0]["path"], json!(["strict", "again", "k"]));
    // One that cannot be null takes what is around it along, and nobody is called for that.
    let query = "query($n: Int) { me { name } mustNot(n: $n) }";
    let answer: Value =
        serde_json::from_str(&served.post(query, json!({ "n": null })).await).unwrap();
    assert_eq!(answer["data"], Value::Null);
    assert_eq!(served.calls(), []);
    // Mutations before it have been done.
    let query = "mutation($n: Int) { add { value } hard(n: $n) { value } last: add { value } }";
    let answer: Value =
        serde_json::from_str(&served.post(query, json!({ "n": null })).await).unwrap();
    assert_eq!(answer["data"], Value::Null);
    assert_eq!(served.calls(), once(&["Counter.value", "Mutation.add"]));
}

#[tokio::test]
async fn a_field_that_fails_is_null_or_what_is_around_it_is() {
    let served = Served::start().await;
    let answer = async |query: &str| -> Value {
        serde_json::from_str(&served.post(query, json!({})).await).unwrap()
    };
    for (query, data, path) in [
        (
            "{ strict { message fail } }",
            json!({ "strict": null }),
            json!(["strict", "fail"]),
        ),
        (
            "{ strict { message maybe } }",
            json!({ "strict": { "message": "m", "maybe": null } }),
            json!(["strict", "maybe"]),
        ),
        (
            "{ strict { maybe } }",
            json!({ "strict": { "maybe": null } }),
            json!(["strict", "maybe"]),
        ),
        (
            "{ strict { again { must { fail } } } }",
            json!({ "strict": { "again": null } }),
            json!(["strict", "again", "must", "fail"]),
        ),
        (
            "{ strict { items { message fail } } }",
            json!({ "strict": { "items": null } }),
            json!(["strict", "items", 0, "fail"]),
        ),
        (
            "{ strict { words } }",
            json!({ "strict": { "words": ["a", null, null] } }),
            json!(["strict", "words", 1]),
        ),
        (
            "{ strict { hardWords } }",
            json!({ "strict": { "hardWords": null } }),
            json!(["strict", "hardWords", 1]),
        ),
        (
            "{ stricts { fail } }",
            json!({ "stricts": [null, null] }),
            json!(["stricts", 0, "fail"]),
        ),
        (
            "{ animal { name hard: maybe ... on Dog { h: hard } } }",
            json!({ "animal": null }),
            json!(["animal", "hard"]),
        ),
        (
            "mutation { fail add { value } }",
            json!({ "fail": null, "add": { "value": 2 } }),
            json!(["fail"]),
        ),
    ] {
        let answer = answer(query).await;
        assert_eq!(answer["data"], data, "{query}: {answer}");
        assert_eq!(answer["errors"][0]["path"], path, "{query}: {answer}");
    }
    let messages = served
        .subscribe("subscription { stricts { message fail } }", json!({}))
        .await;
    assert_eq!(messages[0]["payload"]["data"], json!({ "stricts": null }));
    assert_eq!(
        messages[0]["payload"]["errors"][0]["path"],
        json!(["stricts", "fail"])
    );
}

#[tokio::test]
async fn an_object_of_which_nothing_is_asked_is_empty_and_not_null() {
    let served = Served::start().await;
    for (query, expected) in [
        ("{ me @skip(if: true) { name } }", "{}"),
        ("{ me { name @skip(if: true) } }", r#"{"me":{}}"#),
        (
            "{ nothing { message @skip(if: true) } }",
            r#"{"nothing":null}"#,
        ),
        (
            "{ animals { ... on Dog { barks } } }",
            r#"{"animals":[{"barks":true},{}]}"#,
        ),
        (
            "{ things { ... on Cat { name } } }",
            r#"{"things":[{},null,{},{"name":"Tom"}]}"#,
        ),
        ("mutation { add @include(if: false) { value } }", "{}"),
    ] {
        served.answers(query, json!({}), expected).await;
    }
}

#[tokio::test]
async fn strings_are_read_as_they_are_written() {
    let served = Served::start().await;
    for (literal, expected) in [
        (r#""\uD83D\uDE00""#, "😀"),
        (r#""\u{1F600}""#, "😀"),
        (r#""""say \"""hi\""" \n ok""""#, r#"say """hi""" \n ok"#),
    ] {
        let query = format!("{{ me {{ says(what: {literal}) }} }}");
        let expected = json!({ "me": { "says": expected } }).to_string();
        served.answers(&query, json!({}), &expected).await;
    }
    let lone = r#"{ me { says(what: "\uD83D") } }"#;
    served
        .refuses(lone, json!({}), "GRAPHQL_PARSE_FAILED", "escape")
        .await;
}

/// As graphql-js 16 writes it for GraphiQL and code generators, `getIntrospectionQuery()` with all
/// options.
const INTROSPECTION: &str = include_str!("introspection.graphql");

#[tokio::test]
async fn limits_of_data_do_not_count_introspection_and_name_themselves() {
    let limits = [("graphql.max_depth", "3"), ("graphql.max_complexity", "5")];
    let served = Served::with(&limits).await;
    let answer = served.post(INTROSPECTION, json!({})).await;
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(answer.get("errors"), None, "{answer}");
    assert!(answer["data"]["__schema"].is_object(), "{answer}");
    assert_eq!(answer["data"]["__schema"]["queryType"]["name"], "Query");
    assert_eq!(
        answer["data"]["__schema"]["description"],
        Value::Null,
        "there is none"
    );
    let deep = "{ me { friend { friend { name } } } }";
    served
        .refuses(
            deep,
            json!({}),
            INVALID,
            "nest 4 deep, graphql.max_depth is 3",
        )
        .await;
    let wide = "{ a: __typename b: __typename c: __typename d: __typename me { name age } }";
    served
        .refuses(
            wide,
            json!({}),
            INVALID,
            "asks for 7 fields, graphql.max_complexity is 5",
        )
        .await;
    // A field counts once, however often it is selected.
    let merged = "{ me { name name ...F } me { name } } fragment F on Person { name age }";
    served
        .answers(merged, json!({}), r#"{"me":{"name":"Ann","age":null}}"#)
        .await;
    // Introspection has a bound of its own: this one would be as large as the schema to the fourth.
    let endless = "{ __schema { types { fields { type { fields { type { fields { type { fields { name } } } } } } } } } }";
    served
        .refuses(endless, json!({}), INVALID, "introspection is too large")
        .await;
}

#[tokio::test]
async fn a_cycle_of_fragments_is_named() {
    let served = Served::start().await;
    for (query, words) in [
        (
            "{ ...A } fragment A on Query { ...B } fragment B on Query { me { name } ...A }",
            "Cannot spread fragment \"A\" within itself via \"B\".",
        ),
        (
            "{ ...A } fragment A on Query { ...A }",
            "Cannot spread fragment \"A\" within itself.",
        ),
        (
            "{ me { ...P } } fragment P on Person { friend { ...P } }",
            "Cannot spread fragment \"P\" within itself.",
        ),
    ] {
        served.refuses(query, json!({}), INVALID, words).await;
    }
}

#[tokio::test]
async fn null_decides_nothing() {
    let served = Served::start().await;
    let query = "query($v: Boolean = true) { me @skip(if: $v) { name } }";
    served
        .refuses(
            query,
            json!({ "v": null }),
            BAD_INPUT,
            "Variable \"$v\" must not be null",
        )
        .await;
}

#[tokio::test]
async fn what_is_no_document_of_this_schema_is_refused_and_what_is_one_is_not() {
    let served = Served::start().await;
    for (query, words) in [
        (
            "{ echo(input: { req: 1, req: 2 }) }",
            "There can be only one input field named \"req\".",
        ),
        (
            "{ echo(kind: \"DOG\") }",
            "Expected a value of type \"Kind\", found a string.",
        ),
        (
            "query($k: Kind = \"DOG\") { echo(kind: $k) }",
            "Expected a value of type \"Kind\"",
        ),
        ("{ echo(input: 7) }", "Expected a value of type \"Filter\""),
        (
            "{ echo(input: [7]) }",
            "Expected a value of type \"Filter\", found a list.",
        ),
        (
            "query($i: Filter = 7) { echo(input: $i) }",
            "Expected a value of type \"Filter\"",
        ),
        (
            "{ echo(int: 2147483648) }",
            "Expected a value of type \"Int\"",
        ),
        (
            "query($v: Int) { echo(list: [$v, \"x\"]) }",
            "Expected a value of type \"Int!\", found a string.",
        ),
        ("{ __typename(a: 1) }", "Unknown argument \"a\""),
        ("{ __typename { a } }", "must not have a selection"),
        ("{ __typename @unheard }", "Unknown directive \"@unheard\"."),
        (
            "{ __typename @skip }",
            "Argument \"if\" of type \"Boolean!\" is required",
        ),
        (
            "query($v: Int @skip(if: true)) { echo(int: $v) }",
            "may not be used on VARIABLE_DEFINITION",
        ),
        (
            "{ echo(float: 1e400) }",
            "Expected a value of type \"Float\"",
        ),
        (
            "{ must(list: [null]) }",
            "Expected a value of type \"Int!\", found null.",
        ),
        (
            "{ echo @include(if: true) @include(if: true) }",
            "can only be used once",
        ),
        (
            "{ mee { name } }",
            "Cannot query field \"mee\" on type \"Query\". Did you mean \"me\"?",
        ),
    ] {
        served.refuses(query, json!({}), INVALID, words).await;
    }
    for query in [
        "query Q() { me { name } }",
        "{ me { ...on } } fragment on on Person { name }",
    ] {
        served
            .refuses(query, json!({}), "GRAPHQL_PARSE_FAILED", "syntax error")
            .await;
    }
    let names = "query A { me { name } } query B { me { age } }";
    served
        .refuses(
            names,
            json!({}),
            "OPERATION_RESOLUTION_FAILURE",
            "operation name",
        )
        .await;
    for (query, expected) in [
        ("query($v: Int = 3 @unheard) { echo(int: $v) }", None),
        (
            "{ echo(id: 123456789012345678901234567890, int: -0) }",
            Some(r#"{"id":"123456789012345678901234567890","int":0,"string":"x"}"#),
        ),
        (
            "{ echo(any: [-0, 0, -1]) }",
            Some(r#"{"any":[0,0,-1],"int":5,"string":"x"}"#),
        ),
        (
            "{ echo(id: -0) }",
            Some(r#"{"id":"-0","int":5,"string":"x"}"#),
        ),
        (
            "{ echo(list: 1, nested: 2) }",
            Some(r#"{"int":5,"list":[1],"nested":[[2]],"string":"x"}"#),
        ),
    ] {
        match expected {
            None => {
                served
                    .refuses(query, json!({}), INVALID, "Unknown directive")
                    .await
            }
            Some(expected) => {
                let expected = json!({ "echo": expected }).to_string();
                served.answers(query, json!({}), &expected).await;
            }
        }
    }
    // A union within an interface.
    let query = "{ animals { ... on Thing { ... on Dog { barks } } } }";
    served
        .answers(query, json!({}), r#"{"animals":[{"barks":true},{}]}"#)
        .await;
}

#[tokio::test]
async fn names_are_not_suggested_where_introspection_is_turned_off() {
    let served = Served::with(&[("graphql.introspection", "false")]).await;
    let answer = served.post("{ mee { name } }", json!({})).await;
    assert!(!answer.contains("\\\"me\\\""), "{answer}");
    for query in [
        "{ __schema { types { name } } }",
        "{ me { name } __type(name: \"Query\") { name } }",
    ] {
        served
            .refuses(query, json!({}), INVALID, "Introspection is turned off")
            .await;
    }
    served
        .answers("{ __typename }", json!({}), r#"{"__typename":"Query"}"#)
        .await;
}

#[tokio::test]
async fn a_rule_on_a_field_of_an_object_holds_also_where_an_interface_is_asked_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("bff.toml");
    let rule = "[rate_limit.fields.\"Dog.name\"]\ncalls = 1\nperiod = '1h'\nper = 'global'\n";
    std::fs::write(&file, rule).unwrap();
    let (program, _calls) = everything::program();
    let bff = TestBff::builder()
        .program(program)
        .file(&file)
        .start()
        .await;
    let query = "{ animals { n: noise name } }";
    let answer = bff.query(query).await;
    assert_eq!(answer.get("errors"), None, "{answer}");
    let answer = bff.query(query).await;
    assert_eq!(
        answer["data"],
        Value::Null,
        "Dog.name cannot be null, nor can what is around it"
    );
    let error = &answer["errors"][0];
    assert_eq!(error["path"], json!(["animals", 0, "name"]));
    assert_eq!(error["extensions"]["code"], "RATE_LIMITED");
    assert_eq!(error["locations"], json!([{ "line": 1, "column": 22 }]));
    let cat = bff.query("{ animal(kind: CAT) { name } }").await;
    assert_eq!(cat["data"]["animal"]["name"], "Tom");
}

/// What users of other servers reported, and what the specification says to it.
const REPORTED: &str = include_str!("reported.jsonl");

#[tokio::test]
async fn what_users_of_other_servers_reported_is_right_here() {
    let served = Served::start().await;
    for line in REPORTED.lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        let about = &case["about"];
        served.calls.take();
        let text = served.bff.post(&case["body"]).await;
        let answer: Value = serde_json::from_str(&text).unwrap();
        let errors = answer["errors"].as_array().cloned().unwrap_or_default();
        if case["refused"] == true {
            assert!(
                answer.get("data").is_none() && !errors.is_empty(),
                "{about}: {text}"
            );
            assert_eq!(served.calls(), [], "{about}: {text}");
            continue;
        }
        let data = format!("{{\"data\":{}", case["data"].as_str().unwrap());
        assert!(text.starts_with(&data), "{about}: {text}");
        let sorted = |paths: &mut dyn Iterator<Item = &Value>| {
            let paths: std::collections::BTreeSet<_> = paths.map(Value::to_string).collect();
            paths
        };
        let paths = sorted(&mut errors.iter().map(|error| &error["path"]));
        let expected = sorted(&mut case["errors"].as_array().unwrap().iter());
        assert_eq!(paths, expected, "{about}: {text}");
    }
}

#[tokio::test]
async fn a_subscription_by_post_is_refused_and_told_where_to_go() {
    let served = Served::start().await;
    let query = "subscription { ticks { value } }";
    served
        .refuses(
            query,
            json!({}),
            "OPERATION_RESOLUTION_FAILURE",
            "graphql-transport-ws",
        )
        .await;
}

#[tokio::test]
async fn null_where_the_schema_has_none_is_an_error_and_a_failed_field_of_an_interface_has_its_path()
 {
    let served = Served::start().await;
    for (query, data, path) in [
        (
            "{ strict { nan } }",
            json!({ "strict": null }),
            json!(["strict", "nan"]),
        ),
        (
            "{ strict { floats message } }",
            json!({ "strict": { "floats": null, "message": "m" } }),
            json!(["strict", "floats", 1]),
        ),
        (
            "{ animal { lost } }",
            json!({ "animal": { "lost": null } }),
            json!(["animal", "lost"]),
        ),
        (
            "{ animals { l: lost } }",
            json!({ "animals": [{ "l": null }, { "l": "here" }] }),
            json!(["animals", 0, "l"]),
        ),
    ] {
        let answer: Value = serde_json::from_str(&served.post(query, json!({})).await).unwrap();
        assert_eq!(answer["data"], data, "{query}: {answer}");
        assert_eq!(
            answer["errors"].as_array().map(Vec::len),
            Some(1),
            "{query}: {answer}"
        );
        assert_eq!(answer["errors"][0]["path"], path, "{query}: {answer}");
    }
}

#[tokio::test]
async fn a_subscription_whose_argument_has_no_value_is_refused_with_one_error() {
    let served = Served::start().await;
    let query = "subscription($n: Int) { ticks(n: $n) { value } }";
    let messages = served.subscribe(query, json!({ "n": null })).await;
    let errors = messages[0]["payload"]["errors"].as_array();
    let errors = errors.or(messages[0]["payload"].as_array()).unwrap();
    assert_eq!(errors.len(), 1, "{messages:?}");
    assert_eq!(errors[0]["extensions"]["code"], BAD_INPUT, "{messages:?}");
    assert_eq!(served.calls(), []);
}

/// Fragments on `Strict` that double `levels` times, around `last`.
fn doubled(levels: usize, last: &str) -> String {
    let each = |n: usize| {
        let next = n + 1;
        format!(
            "fragment D{n} on Strict {{ a: again {{ ...D{next} }} b: again {{ ...D{next} }} }} "
        )
    };
    let all: String = (0..levels).map(each).collect();
    all + &format!("fragment D{levels} on Strict {{ {last} }} ")
}

#[tokio::test]
async fn what_is_small_to_send_and_large_to_write_out_is_refused() {
    // What a document may become is bounded whatever an operation may ask.
    let limits = [
        ("graphql.max_root_fields", "1000"),
        ("graphql.max_aliases", "1000"),
    ];
    let served = Served::with(&limits).await;
    let operations: String = (0..150)
        .map(|n| format!("query Q{n} {{ strict {{ ...D0 }} }} "))
        .collect();
    let zeros = "0, ".repeat(5000);
    let names = "message ".repeat(7000);
    let inline = |n: usize| format!("{}...I{}{} ", "... { ".repeat(60), n + 1, " }".repeat(60));
    let chain: String = (0..70)
        .map(|n| format!("fragment I{n} on Animal {{ {} }} ", inline(n)))
        .collect();
    for (query, name) in [
        (
            format!("{operations} {}", doubled(10, "message")),
            Some("Q0"),
        ),
        (
            format!(
                "{{ strict {{ ...D0 }} }} {}",
                doubled(10, &format!("args(list: [{zeros}])"))
            ),
            None,
        ),
        (
            format!("{{ strict {{ ...D0 }} }} {}", doubled(10, &names)),
            None,
        ),
        (
            format!("{{ animals {{ ...I0 }} }} {chain} fragment I70 on Animal {{ name }}"),
            None,
        ),
        (
            format!(
                "{{ me {{ ...P0 }} }} {} fragment P70 on Person {{ name }}",
                chain.replace("Animal", "Person").replace("I", "P")
            ),
            None,
        ),
        (
            format!(
                "subscription {{ ...S0 }} {} fragment S70 on Subscription {{ ticks {{ value }} }}",
                chain.replace("Animal", "Subscription").replace("I", "S")
            ),
            None,
        ),
    ] {
        let body = json!({ "query": query, "operationName": name });
        let answer = served.bff.post(&body).await;
        assert!(
            answer.contains("too large") && !answer.contains("\"data\""),
            "{}: {answer}",
            &query[..60]
        );
    }
    // Variables that are copied to many places.
    let uses: String = (0..300)
        .map(|n| format!("a{n}: echo(string: $v) "))
        .collect();
    let large = json!({ "v": "x".repeat(100_000) });
    served
        .refuses(
            &format!("query($v: String!) {{ {uses} }}"),
            large,
            BAD_INPUT,
            "too often for their size",
        )
        .await;
    let uses = "$v, ".repeat(3000);
    let large = json!({ "v": "x".repeat(10_000) });
    served
        .refuses(
            &format!("query($v: String!) {{ echo(any: [{uses}]) }}"),
            large,
            BAD_INPUT,
            "too often",
        )
        .await;
    // Aliases that are copied to every field of every type.
    let aliases: String = (0..100).map(|n| format!("a{n}: name ")).collect();
    let query =
        format!("{{ __schema {{ types {{ fields {{ type {{ fields {{ {aliases} }} }} }} }} }} }}");
    served
        .refuses(&query, json!({}), INVALID, "introspection is too large")
        .await;
}

#[tokio::test]
async fn a_type_that_nests_beyond_reason_and_a_variable_in_an_unknown_field_have_one_error() {
    let served = Served::start().await;
    let (open, close) = ("[".repeat(40), "!]".repeat(40));
    let query = format!("query($v: {open}Int{close}) {{ echo(list: $v) }}");
    served
        .refuses(&query, json!({ "v": 1 }), INVALID, "too many lists")
        .await;
    let query = "query($v: Int) { echo(input: { req: 1, nope: $v }) }";
    let text = served.post(query, json!({})).await;
    let answer: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(answer["errors"].as_array().map(Vec::len), Some(1), "{text}");
}

#[tokio::test]
async fn the_key_under_which_objects_say_their_type_is_no_clients() {
    let served = Served::start().await;
    for query in [
        "{ animals { __type_of_object: name ... on Dog { barks } } }",
        "{ me { __type_of_object: age } }",
    ] {
        let words = "\"__type_of_object\" is reserved";
        served.refuses(query, json!({}), INVALID, words).await;
    }
}

#[tokio::test]
async fn aliases_that_are_asked_for_by_type_count_once() {
    let served = Served::with(&[("graphql.max_aliases", "30")]).await;
    let names = |letter| -> String { (0..20).map(|n| format!("{letter}{n}: name ")).collect() };
    let of = |cat: String| {
        let dog = names('d');
        format!("{{ animals {{ ... on Dog {{ {dog} }} ... on Cat {{ {cat} }} }} }}")
    };
    let answer = served.post(&of(names('c')), json!({})).await;
    assert!(!answer.contains("errors"), "{answer}");
    let more = names('c') + &names('m');
    let words = "graphql.max_aliases is 30";
    served.refuses(&of(more), json!({}), INVALID, words).await;
}

#[tokio::test]
async fn objects_of_an_interface_that_ask_for_different_fields_at_every_level_take_no_longer() {
    let served = Served::start().await;
    // What is below is the same for both objects, and there are two ways to each level of it.
    let level = "... on Dog { x: name } friend { ";
    let query = format!(
        "{{ animals {{ {} __typename {} }} }}",
        level.repeat(58),
        "}".repeat(58)
    );
    served.refuses(&query, json!({}), INVALID, "too deep").await;
}
