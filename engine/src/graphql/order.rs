//! Answers in the order they were asked for.
//!
//! The fields of an object are resolved at the same time, and the library writes them down as they
//! come in. GraphQL wants them as they stand in the query ("Executing Selection Sets": an ordered
//! map), and people compare answers as text.

use async_graphql::{
    Name, Value,
    indexmap::IndexMap,
    parser::types::{ExecutableDocument, Selection, SelectionSet},
};

/// The response keys of a selection, in the order they stand in, each with its own selection's.
#[derive(Debug, Default)]
pub(crate) struct Order(IndexMap<Name, Order>);

impl Order {
    /// The order that `selections` of `document` ask for. The document's size has been checked: it
    /// can be followed.
    pub(crate) fn of(document: &ExecutableDocument, selections: &SelectionSet) -> Self {
        let mut order = Self::default();
        order.read(document, selections);
        order
    }

    fn read(&mut self, document: &ExecutableDocument, selections: &SelectionSet) {
        for selection in &selections.items {
            match &selection.node {
                Selection::Field(field) => {
                    let key = field.node.response_key().node.clone();
                    let nested = self.0.entry(key).or_default();
                    nested.read(document, &field.node.selection_set.node);
                }
                Selection::InlineFragment(inline) => {
                    self.read(document, &inline.node.selection_set.node);
                }
                Selection::FragmentSpread(spread) => {
                    let fragment = document.fragments.get(&spread.node.fragment_name.node);
                    if let Some(fragment) = fragment {
                        self.read(document, &fragment.node.selection_set.node);
                    }
                }
            }
        }
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

    fn ordered(query: &str, mut data: Value) -> String {
        let document = parse_query(query).unwrap();
        let (_, operation) = document.operations.iter().next().unwrap();
        let selections = &operation.node.selection_set.node;
        Order::of(&document, selections).apply(&mut data);
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
}
