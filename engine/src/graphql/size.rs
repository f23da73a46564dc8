//! Documents that are small to send and endless to read are refused before anything follows their
//! fragments.
//!
//! Fragments that spread each other multiply: fifteen of them can be five kilobytes and more
//! fields than atoms. Depth and complexity limits follow every spread, so they do not help.

use async_graphql::{
    ServerError, ServerResult,
    parser::types::{ExecutableDocument, Selection, SelectionSet},
};

/// Fields, spreads included as often as they are spread, in all operations of a document.
const MAX_SELECTIONS: usize = 10_000;
/// How deep they may nest, spreads included.
const MAX_DEPTH: usize = 500;

/// Refuses a document beyond all reason.
///
/// # Errors
/// One that says what is too large.
pub(super) fn check(document: &ExecutableDocument) -> ServerResult<()> {
    let mut left = MAX_SELECTIONS;
    let fits = document.operations.iter().all(|(_, operation)| {
        count(
            document,
            &operation.node.selection_set.node,
            MAX_DEPTH,
            &mut left,
        )
    });
    match fits {
        true => Ok(()),
        false => Err(ServerError::new(
            format!(
                "the document is too large: more than {MAX_SELECTIONS} fields with its fragments \
                 written out, or more than {MAX_DEPTH} levels"
            ),
            None,
        )),
    }
}

fn count(
    document: &ExecutableDocument,
    selections: &SelectionSet,
    depth: usize,
    left: &mut usize,
) -> bool {
    if depth == 0 || selections.items.len() > *left {
        return false;
    }
    *left -= selections.items.len();
    selections.items.iter().all(|selection| {
        let nested = match &selection.node {
            Selection::Field(field) => Some(&field.node.selection_set.node),
            Selection::InlineFragment(inline) => Some(&inline.node.selection_set.node),
            Selection::FragmentSpread(spread) => document
                .fragments
                .get(&spread.node.fragment_name.node)
                .map(|fragment| &fragment.node.selection_set.node),
        };
        nested.is_none_or(|nested| count(document, nested, depth - 1, left))
    })
}

#[cfg(test)]
mod tests {
    use async_graphql::parser::parse_query;

    use super::*;

    #[test]
    fn fragments_that_multiply_or_go_round_are_refused_at_once_and_people_s_queries_are_not() {
        let mut bomb = "{ ...F0 } ".to_owned();
        for n in 0..15 {
            let spreads = format!("...F{} ", n + 1).repeat(20);
            bomb += &format!("fragment F{n} on Query {{ {spreads} }} ");
        }
        bomb += "fragment F15 on Query { a }";
        assert!(check(&parse_query(&bomb).unwrap()).is_err());
        let cycle = "{ ...F } fragment F on Query { a ...F }";
        assert!(check(&parse_query(cycle).unwrap()).is_err());
        assert!(
            check(&parse_query("query A { a { b ...F } } fragment F on T { c }").unwrap()).is_ok()
        );
    }
}
