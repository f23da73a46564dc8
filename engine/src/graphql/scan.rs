//! A look at a document's text before it is parsed, in one pass and without recursion.
//!
//! The parser builds values by recursion, and so do validation, clone and drop of what it built:
//! some thousand brackets inside one another overflow a worker's stack, and a stack overflow ends
//! the process. A chain of fragments does the same to the rule that looks for cycles. So what
//! nests, repeats or goes on beyond what people and programs write never reaches the parser.

/// Bytes of a document. Parsed, a byte may become a hundred.
const MAX_BYTES: usize = 64 * 1024;
/// Brackets inside one another, of any kind; the parser itself stops at 64 selection sets.
const MAX_DEPTH: usize = 64;
/// Names, numbers, texts and punctuators.
const MAX_TOKENS: usize = 15_000;
/// Operations and fragments together.
const MAX_DEFINITIONS: usize = 200;

/// What a document has too much of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum TooLarge {
    #[error("the document has {0} bytes, {MAX_BYTES} are allowed")]
    Bytes(usize),
    #[error("the document is too deep: {MAX_DEPTH} brackets inside one another are allowed")]
    Depth,
    #[error("the document has more than {MAX_TOKENS} tokens")]
    Tokens,
    #[error("the document has more than {MAX_DEFINITIONS} definitions")]
    Definitions,
}

/// Refuses a text that is too large to be parsed. What it accepts may still be no document.
///
/// # Errors
/// [`TooLarge`], for the first limit that the text goes beyond.
pub(super) fn check(text: &str) -> Result<(), TooLarge> {
    if text.len() > MAX_BYTES {
        return Err(TooLarge::Bytes(text.len()));
    }
    let (mut depth, mut tokens, mut definitions) = (0_usize, 0, 0);
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        match first {
            b' ' | b'\t' | b'\n' | b'\r' | b',' => continue,
            b'#' => {
                rest = skip(rest, |byte| !matches!(byte, b'\n' | b'\r'));
                continue;
            }
            b'"' => rest = after_text(rest),
            b'{' | b'[' | b'(' => {
                // Each definition has one selection set at the top.
                definitions += usize::from(depth == 0 && *first == b'{');
                depth += 1;
            }
            b'}' | b']' | b')' => depth = depth.saturating_sub(1),
            byte if is_word(*byte) => rest = skip(rest, is_word),
            _ => {}
        }
        tokens += 1;
        if depth > MAX_DEPTH {
            return Err(TooLarge::Depth);
        }
        if tokens > MAX_TOKENS {
            return Err(TooLarge::Tokens);
        }
        if definitions > MAX_DEFINITIONS {
            return Err(TooLarge::Definitions);
        }
    }
    Ok(())
}

/// Names and numbers, and every byte that is not ASCII: none of those is punctuation.
fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || !byte.is_ascii()
}

fn skip(text: &[u8], while_true: impl Fn(u8) -> bool) -> &[u8] {
    let end = text.iter().position(|byte| !while_true(*byte));
    &text[end.unwrap_or(text.len())..]
}

/// What follows the string or block string whose first quote is behind us. One that does not end
/// goes on to the end of the text; the parser says so.
fn after_text(text: &[u8]) -> &[u8] {
    if let [b'"', b'"', block @ ..] = text {
        let mut rest = block;
        loop {
            rest = match rest {
                [b'\\', b'"', b'"', b'"', after @ ..] | [_, after @ ..]
                    if !rest.starts_with(b"\"\"\"") =>
                {
                    after
                }
                [b'"', b'"', b'"', after @ ..] => return after,
                _ => return rest,
            };
        }
    }
    let mut rest = text;
    loop {
        rest = match rest {
            [b'"', after @ ..] => return after,
            // A string ends with its line: what follows is looked at again.
            [b'\n' | b'\r', ..] | [] => return rest,
            [b'\\', _, after @ ..] | [_, after @ ..] => after,
        };
    }
}

/// How deep the values of variables may nest.
const MAX_VALUE_DEPTH: usize = 64;

/// Refuses variables that nest beyond what anything reads.
///
/// # Errors
/// A sentence for the client.
pub(super) fn check_variables(variables: &async_graphql::Variables) -> Result<(), String> {
    use async_graphql::Value;
    fn fits(value: &Value, depth: usize) -> bool {
        depth > 0
            && match value {
                Value::List(items) => items.iter().all(|item| fits(item, depth - 1)),
                Value::Object(fields) => fields.values().all(|field| fits(field, depth - 1)),
                _ => true,
            }
    }
    match variables.values().all(|value| fits(value, MAX_VALUE_DEPTH)) {
        true => Ok(()),
        false => Err(format!(
            "the variables are too deep: {MAX_VALUE_DEPTH} values inside one another are allowed"
        )),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn brackets_in_texts_and_comments_do_not_nest() {
        let open = "[".repeat(1000);
        for harmless in [
            format!("{{ a(b: \"{open}\") }}"),
            format!("{{ a(b: \"\\\"{open}\") }}"),
            format!("{{ a(b: \"\"\"{open} \\\"\"\" \" {open}\"\"\") }}"),
            format!("# {open}\n{{ a }}"),
        ] {
            assert_eq!(check(&harmless), Ok(()), "{harmless}");
        }
        for nested in [
            format!("{{ a(b: {open}"),
            format!("{{ a(b: \"\" c: {open}"),
            format!("{{ a(b: \"\\\"\" c: {open}"),
            format!("{{ a(b: \"\"\"x\"\"\" c: {open}"),
            format!("{{ a(b: \"not closed\n c: {open}"),
            format!("# comment\r{{ a(b: {open}"),
            format!("{{ größe ä(b: {open}"),
        ] {
            assert_eq!(check(&nested), Err(TooLarge::Depth), "{nested}");
        }
    }

    #[test]
    fn each_limit_is_met_and_one_more_is_refused() {
        let deep = |n: usize| format!("{}a{}", "{".repeat(n), "}".repeat(n));
        assert_eq!(check(&deep(MAX_DEPTH)), Ok(()));
        assert_eq!(check(&deep(MAX_DEPTH + 1)), Err(TooLarge::Depth));
        let many = |n: usize| "a ".repeat(n);
        assert_eq!(check(&many(MAX_TOKENS)), Ok(()));
        assert_eq!(check(&many(MAX_TOKENS + 1)), Err(TooLarge::Tokens));
        let definitions = |n: usize| "{a}".repeat(n);
        assert_eq!(check(&definitions(MAX_DEFINITIONS)), Ok(()));
        assert_eq!(
            check(&definitions(MAX_DEFINITIONS + 1)),
            Err(TooLarge::Definitions)
        );
        let long = |n: usize| format!("\"{}", "x".repeat(n - 1));
        assert_eq!(check(&long(MAX_BYTES)), Ok(()));
        assert!(matches!(
            check(&long(MAX_BYTES + 1)),
            Err(TooLarge::Bytes(_))
        ));
    }

    proptest! {
        /// Whatever the text, it ends, and never in a panic.
        #[test]
        fn any_text_is_looked_at_to_its_end(text in "[\\PC\"\\\\#{}\\[\\]()\n ]{0,300}") {
            let _ = check(&text);
        }

        /// What the parser takes and people write is never refused.
        #[test]
        fn a_value_of_modest_depth_passes(depth in 0_usize..50) {
            let value = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
            prop_assert_eq!(check(&format!("{{ a(b: {value}) {{ c }} }}")), Ok(()));
        }
    }
}
