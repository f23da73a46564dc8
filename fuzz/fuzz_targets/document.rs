//! A document, and behind a NUL its variables: every answer is GraphQL's.

#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};

fuzz_target!(|said: &str| {
    let (query, variables) = said.split_once('\0').unwrap_or((said, "null"));
    let variables: Value = serde_json::from_str(variables).unwrap_or_default();
    let answer =
        bff_fuzz::Fuzzed::get().request(&json!({ "query": query, "variables": variables }));
    assert!(
        answer["data"].is_object() || answer["errors"].is_array(),
        "{answer}"
    );
});
