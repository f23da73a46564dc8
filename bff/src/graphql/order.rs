//! Answers to requests by POST in the order they were asked for.
//!
//! The fields of an object are resolved at the same time, and the library writes them down as they
//! come in. GraphQL wants them as they stand in the query ("Executing Selection Sets": an ordered
//! map), and people compare answers as text.

use async_graphql::{
    Name, Value,
    indexmap::IndexMap,
    parser::types::{ExecutableDocument, Selection, SelectionSet},
};

/// Fields counted while the order is read; `size.rs` refuses a document beyond that.
const MAX_FIELDS: usize = 10_000;
/// How deep selections are followed, for the same reason.
const MAX_DEPTH: usize = 100;

/// The response keys of a selection, in the order they stand in, each with its own selection's.
#[derive(Debug, Default)]
pub(crate) struct Order(IndexMap<Name, Order>);

impl Order {
    /// The order that an operation of `document` asks for; none if it is not there, or beyond all
    /// limits.
    pub(crate) fn of(document: &ExecutableDocument, operation_name: Option<&str>) -> Self {
        let mut operations = document.operations.iter();
        let operation = operations.find(|(name, _)| match (operation_name, name) {
            (Some(wanted), Some(name)) => name.as_str() == wanted,
            (Some(_), None) => false,
            (None, _) => true,
        });
        let mut order = Self::default();
        let Some((_, operation)) = operation else {
            return order;
        };
        let mut fields = 0;
        match order.read(document, &operation.node.selection_set.node, 0, &mut fields) {
            Some(()) => order,
            None => Self::default(),
        }
    }

    fn read(
        &mut self,
        document: &ExecutableDocument,
        selections: &SelectionSet,
        depth: usize,
        fields: &mut usize,
    ) -> Option<()> {
        *fields += selections.items.len();
        if depth > MAX_DEPTH || *fields > MAX_FIELDS {
            return None;
        }
        for selection in &selections.items {
            match &selection.node {
                Selection::Field(field) => {
                    let key = field.node.response_key().node.clone();
                    let nested = self.0.entry(key).or_default();
                    nested.read(document, &field.node.selection_set.node, depth + 1, fields)?;
                }
                Selection::InlineFragment(inline) => {
                    self.read(document, &inline.node.selection_set.node, depth + 1, fields)?;
                }
                Selection::FragmentSpread(spread) => {
                    let fragment = document.fragments.get(&spread.node.fragment_name.node);
                    if let Some(fragment) = fragment {
                        let selections = &fragment.node.selection_set.node;
                        self.read(document, selections, depth + 1, fields)?;
                    }
                }
            }
        }
        Some(())
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
                    if let Some(nested) = self.0.get(name).filter(|nested| !nested.0.is_empty()) {
                        nested.apply(value);
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

    fn ordered(query: &str, operation: Option<&str>, mut data: Value) -> String {
        Order::of(&parse_query(query).unwrap(), operation).apply(&mut data);
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
            ordered(query, None, data),
            r#"{"b":5,"a":{"c":2,"d":1},"l":[{"q":2,"p":1},{"q":3,"p":4},null]}"#
        );
    }

    #[test]
    fn the_operation_that_runs_decides() {
        let query = "query A { a b } query B { b a }";
        let data = || value!({ "a": 1, "b": 2 });
        assert_eq!(ordered(query, Some("B"), data()), r#"{"b":2,"a":1}"#);
        assert_eq!(ordered(query, Some("C"), data()), r#"{"a":1,"b":2}"#);
    }

    #[test]
    fn fragments_that_refer_to_themselves_or_grow_without_end_are_given_up() {
        let cycle = "{ ...F } fragment F on Query { a ...F }";
        assert_eq!(ordered(cycle, None, value!({ "a": 1 })), r#"{"a":1}"#);
        let mut bomb = "{ ...F0 } ".to_owned();
        for n in 0..30 {
            bomb += &format!("fragment F{n} on Query {{ ...F{0} ...F{0} }} ", n + 1);
        }
        assert_eq!(ordered(&bomb, None, value!({ "a": 1 })), r#"{"a":1}"#);
    }
}
