//! Sources laid over one another, value by value, each with where it came from.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json};

/// Every value that some source set, and where it came from.
#[derive(Debug)]
pub(super) struct Merged {
    pub(super) values: Json,
    pub(super) origins: Origins,
}

/// Where values came from; unset ones are not in it.
#[derive(Clone, Debug)]
pub(crate) struct Origins(Node);

#[derive(Clone, Debug)]
enum Node {
    Table(BTreeMap<String, Node>),
    Value(String),
}

impl Default for Merged {
    fn default() -> Self {
        Self {
            values: Json::Object(Map::new()),
            origins: Origins(Node::Table(BTreeMap::new())),
        }
    }
}

impl Merged {
    /// Lays the values of `source` over those before.
    pub(super) fn add(&mut self, source: Json, origin: &str) {
        add(&mut self.values, &mut self.origins.0, source, origin);
    }

    /// Takes out of the tables in the table `of` what `source` says in another way: of the `two` keys a
    /// later source's takes the place of an earlier one's.
    pub(super) fn make_way(&mut self, of: &str, two: [&str; 2], source: &Json) {
        let tables = source.get(of).and_then(Json::as_object);
        for (name, table) in tables.into_iter().flatten() {
            for (said, other) in [(two[0], two[1]), (two[1], two[0])] {
                if table.get(said).is_none() || table.get(other).is_some() {
                    continue;
                }
                let values = self
                    .values
                    .get_mut(of)
                    .and_then(|tables| tables.get_mut(name));
                if let Some(values) = values.and_then(Json::as_object_mut) {
                    values.remove(other);
                }
                if let Some(Node::Table(origins)) =
                    self.origins.0.child(of).and_then(|of| of.child(name))
                {
                    origins.remove(other);
                }
            }
        }
    }

    /// Sets one value.
    pub(super) fn set(&mut self, path: &[&str], value: &str, origin: &str) {
        let value = path.iter().rev().fold(Json::from(value), |value, key| {
            Json::Object(Map::from_iter([((*key).to_owned(), value)]))
        });
        self.add(value, origin);
    }
}

impl Merged {
    /// Takes the table `name` out of the table `of`, and lays it under each of `siblings` in it, where
    /// they say nothing themselves. Returns what it took out.
    pub(super) fn spread(&mut self, of: &str, name: &str, siblings: &[&str]) -> Option<Json> {
        let values = self.values.get_mut(of)?.as_object_mut()?;
        let Node::Table(origins) = &mut self.origins.0 else {
            return None;
        };
        let Some(Node::Table(origins)) = origins.get_mut(of) else {
            return None;
        };
        let defaults = values.remove(name)?;
        let default_origins = origins.remove(name)?;
        for sibling in siblings {
            let mut value = defaults.clone();
            let mut origin = default_origins.clone();
            if let (Some(own), Some(from)) = (values.remove(*sibling), origins.remove(*sibling)) {
                overlay(&mut value, &mut origin, own, from);
            }
            values.insert((*sibling).to_owned(), value);
            origins.insert((*sibling).to_owned(), origin);
        }
        Some(defaults)
    }
}

/// Lays `over` over `values`, with where each came from.
fn overlay(values: &mut Json, origins: &mut Node, over: Json, from: Node) {
    match (&mut *values, &mut *origins, over, from) {
        (Json::Object(values), Node::Table(origins), Json::Object(over), Node::Table(mut from)) => {
            for (key, over) in over {
                let from = from.remove(&key).unwrap_or(Node::Value(String::new()));
                match (values.get_mut(&key), origins.get_mut(&key)) {
                    (Some(value), Some(origin)) => overlay(value, origin, over, from),
                    _ => {
                        values.insert(key.clone(), over);
                        origins.insert(key, from);
                    }
                }
            }
        }
        (_, _, over, from) => {
            *values = over;
            *origins = from;
        }
    }
}

/// Moves the value at `path`, of which `*` stands for any name, to another name in the same table, and
/// tells `found` where there was one. A value under the new name stays.
pub(super) fn rename(values: &mut Json, path: &[&str], name: &str, found: &mut dyn FnMut(&str)) {
    rename_below(values, path, name, "", found);
}

fn rename_below(
    values: &mut Json,
    path: &[&str],
    name: &str,
    at: &str,
    found: &mut dyn FnMut(&str),
) {
    let (Json::Object(values), [first, rest @ ..]) = (values, path) else {
        return;
    };
    if rest.is_empty() {
        if let Some(value) = values.remove(*first) {
            found(&format!("{at}{first}"));
            values.entry(name).or_insert(value);
        }
        return;
    }
    for (key, values) in values
        .iter_mut()
        .filter(|(key, _)| *first == "*" || key == first)
    {
        rename_below(values, rest, name, &format!("{at}{key}."), found);
    }
}

fn add(values: &mut Json, origins: &mut Node, source: Json, origin: &str) {
    let Json::Object(source) = source else {
        *values = source;
        *origins = Node::Value(origin.to_owned());
        return;
    };
    // What is a table takes the place of what was none.
    if !values.is_object() {
        *values = Json::Object(Map::new());
    }
    if matches!(origins, Node::Value(_)) {
        *origins = Node::Table(BTreeMap::new());
    }
    if let (Json::Object(values), Node::Table(origins)) = (values, origins) {
        for (key, value) in source {
            let below = origins
                .entry(key.clone())
                .or_insert_with(|| Node::Value(String::new()));
            add(
                values.entry(key).or_insert(Json::Null),
                below,
                value,
                origin,
            );
        }
    }
}

impl Node {
    fn child(&mut self, key: &str) -> Option<&mut Self> {
        match self {
            Self::Table(table) => table.get_mut(key),
            Self::Value(_) => None,
        }
    }

    fn origin(&self) -> Option<&str> {
        match self {
            Self::Value(origin) => Some(origin),
            Self::Table(table) => table.values().find_map(Self::origin),
        }
    }
}

impl Origins {
    /// Where the value at `keys`, or the list or text it is in, came from: a file's name, a
    /// document's, `the environment` or `command line`; of a table, that of its first value. `None` for
    /// a default.
    pub(crate) fn at<'k>(&self, keys: impl IntoIterator<Item = &'k str>) -> Option<&str> {
        let mut node = &self.0;
        for key in keys {
            match node {
                Node::Table(table) => node = table.get(key)?,
                Node::Value(_) => break,
            }
        }
        node.origin()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn later_sources_win_value_by_value_and_each_value_knows_its_own() {
        let mut merged = Merged::default();
        merged.add(json!({ "a": { "x": 1, "y": [1, 2] }, "b": 3 }), "file");
        merged.add(json!({ "a": { "y": [5] }, "b": { "c": 4 } }), "document");
        merged.set(&["a", "z"], "6", "flag");
        assert_eq!(
            merged.values,
            json!({ "a": { "x": 1, "y": [5], "z": "6" }, "b": { "c": 4 } })
        );
        let at = |keys: &[&str]| merged.origins.at(keys.iter().copied());
        assert_eq!(at(&["a", "x"]), Some("file"));
        assert_eq!(at(&["a", "y"]), Some("document"));
        assert_eq!(at(&["a", "y", "0"]), Some("document"));
        assert_eq!(at(&["b", "c"]), Some("document"));
        assert_eq!(at(&["a", "z"]), Some("flag"));
        assert_eq!(at(&["a"]), Some("file"));
        assert_eq!(at(&["nowhere"]), None);
    }

    #[test]
    fn a_renamed_value_gives_way_to_one_under_the_new_name() {
        let mut values =
            json!({ "u": { "a": { "e": { "old": 1 } }, "b": { "e": { "old": 2, "new": 3 } } } });
        let mut found = Vec::new();
        let path = ["u", "*", "e", "old"];
        rename(&mut values, &path, "new", &mut |key| {
            found.push(key.to_owned())
        });
        assert_eq!(found, ["u.a.e.old", "u.b.e.old"]);
        assert_eq!(
            values,
            json!({ "u": { "a": { "e": { "new": 1 } }, "b": { "e": { "new": 3 } } } })
        );
    }
}
