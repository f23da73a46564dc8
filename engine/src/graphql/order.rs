//! What an operation asks for, in the order it asks for it.
//!
//! The fields of an object are resolved at the same time, and the library writes them down as they
//! come in. GraphQL wants them as they stand in the query ("Executing Selection Sets": an ordered
//! map), and people compare answers as text.
//!
//! Reading it is also where documents are refused that are small to send and endless to read: fragments
//! that spread each other multiply, and fifteen of them can be five kilobytes and more fields than
//! atoms. Depth and complexity limits follow every spread, so they do not help.

use async_graphql::{
    Name, Value,
    indexmap::IndexMap,
    parser::types::{ExecutableDocument, Selection, SelectionSet},
};

/// Fields, spreads included as often as they are spread, in all operations of a document.
const MAX_SELECTIONS: usize = 10_000;
/// How deep they may nest, spreads included.
const MAX_DEPTH: usize = 500;

/// A document has too many fields with its fragments written out, or too many levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the document is too large: more than {MAX_SELECTIONS} fields with its fragments written out, or \
     more than {MAX_DEPTH} levels"
)]
pub(super) struct TooLarge;

/// The response keys of a selection, in the order they stand in, and what answers under them.
#[derive(Debug, Default)]
pub(crate) struct Order(IndexMap<Name, Asked>);

/// What answers under one response key.
#[derive(Debug)]
struct Asked {
    name: Name,
    /// How often the selection has it.
    times: usize,
    nested: Order,
}

/// What a document may still have.
pub(super) struct Left(usize);

impl Left {
    /// How many fields and spreads were read.
    pub(super) fn read(&self) -> usize {
        MAX_SELECTIONS - self.0
    }
}

impl Default for Left {
    fn default() -> Self {
        Self(MAX_SELECTIONS)
    }
}

impl Order {
    /// The order that `selections` of `document` ask for.
    ///
    /// # Errors
    /// [`TooLarge`], when more than what is `left` would have to be read.
    pub(super) fn of(
        document: &ExecutableDocument,
        selections: &SelectionSet,
        left: &mut Left,
    ) -> Result<Self, TooLarge> {
        let mut order = Self::default();
        order.read(document, selections, MAX_DEPTH, left)?;
        Ok(order)
    }

    fn read(
        &mut self,
        document: &ExecutableDocument,
        selections: &SelectionSet,
        depth: usize,
        left: &mut Left,
    ) -> Result<(), TooLarge> {
        let depth = depth.checked_sub(1).ok_or(TooLarge)?;
        left.0 = left.0.checked_sub(selections.items.len()).ok_or(TooLarge)?;
        for selection in &selections.items {
            match &selection.node {
                Selection::Field(field) => {
                    let field = &field.node;
                    let key = field.response_key().node.clone();
                    let asked = self.0.entry(key).or_insert_with(|| Asked {
                        name: field.name.node.clone(),
                        times: 0,
                        nested: Self::default(),
                    });
                    asked.times += 1;
                    let nested = &mut asked.nested;
                    nested.read(document, &field.selection_set.node, depth, left)?;
                }
                Selection::InlineFragment(inline) => {
                    self.read(document, &inline.node.selection_set.node, depth, left)?;
                }
                Selection::FragmentSpread(spread) => {
                    let fragment = document.fragments.get(&spread.node.fragment_name.node);
                    if let Some(fragment) = fragment {
                        self.read(document, &fragment.node.selection_set.node, depth, left)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Response key and name of each field as often as it is asked for, of the outermost selection
    /// only. A subscription has a stream for each.
    pub(super) fn fields(&self) -> impl Iterator<Item = (&Name, &Name)> {
        let fields = self.0.iter();
        fields.flat_map(|(key, asked)| std::iter::repeat_n((key, &asked.name), asked.times))
    }

    /// Puts the fields of `data` into this order. What it does not know stays behind the rest.
    pub(crate) fn apply(&self, data: &mut Value) {
        match data {
            Value::List(items) => items.iter_mut().for_each(|item| self.apply(item)),
            Value::Object(object) => {
                let place = |name: &Name| self.0.get_index_of(name).unwrap_or(usize::MAX);
                if !object.keys().map(place).is_sorted() {
                    object.sort_by_cached_key(|name, _| place(name));
                }
                for (name, value) in object {
                    match self.0.get(name) {
                        Some(asked) if !asked.nested.0.is_empty() => asked.nested.apply(value),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use async_graphql::{parser::parse_query, value};

    use super::*;

    fn ordered(query: &str, mut data: Value) -> String {
        let document = parse_query(query).unwrap();
        let (_, operation) = document.operations.iter().next().unwrap();
        let selections = &operation.node.selection_set.node;
        let order = Order::of(&document, selections, &mut Left::default()).unwrap();
        order.apply(&mut data);
        serde_json::to_string(&data).unwrap()
    }

    #[test]
    fn fields_come_in_the_order_of_the_query_through_lists_aliases_and_fragments() {
        let query = "query { b a: x { ...F d } l { q p } } fragment F on T { c }";
        let data = value!({
            "l": [{ "p": 1, "q": 2 }, { "q": 3, "p": 4 }, null],
            "a": { "d": 1, "c": 2 },
            "b": 5,
        });
        assert_eq!(
            ordered(query, data),
            r#"{"b":5,"a":{"c":2,"d":1},"l":[{"q":2,"p":1},{"q":3,"p":4},null]}"#
        );
    }

    #[test]
    fn fragments_that_multiply_or_go_round_are_refused_at_once_and_people_s_queries_are_not() {
        let read = |query: &str| {
            let document = parse_query(query).unwrap();
            let (_, operation) = document.operations.iter().next().unwrap();
            let selections = &operation.node.selection_set.node;
            Order::of(&document, selections, &mut Left::default()).map(drop)
        };
        let mut bomb = "{ ...F0 } ".to_owned();
        for n in 0..15 {
            let spreads = format!("...F{} ", n + 1).repeat(20);
            bomb += &format!("fragment F{n} on Query {{ {spreads} }} ");
        }
        bomb += "fragment F15 on Query { a }";
        assert_eq!(read(&bomb), Err(TooLarge));
        assert_eq!(
            read("{ ...F } fragment F on Query { a ...F }"),
            Err(TooLarge)
        );
        assert_eq!(
            read("query A { a { b ...F } } fragment F on T { c }"),
            Ok(())
        );
    }
}
