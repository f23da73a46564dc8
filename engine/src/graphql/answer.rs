//! The library's answer to the one that the specification asks for: its fields in the order they
//! were asked for ("Executing Selection Sets": an ordered map), `null` where a field failed, and
//! `null` further up where that field cannot be `null` ("Handling Field Errors").
//!
//! The library resolves the fields of an object at the same time and writes them down as they come
//! in; it leaves out a field that failed, also one that cannot be `null`; and an object without any
//! field is `null` to it.

use std::{collections::HashMap, sync::Arc};

use async_graphql::{Name, PathSegment, Pos, Response, ServerError, Value, indexmap::IndexMap};

use super::{collect::TYPE_KEY, types::Type};

/// What is below a field.
#[derive(Debug, Default)]
pub(super) struct Shape {
    /// The fields, whatever the object.
    nodes: Vec<Node>,
    /// The fields of each object, where they differ; its name is answered under [`TYPE_KEY`].
    by_object: Option<Vec<(Name, Vec<Node>)>>,
    /// Whether objects are asked for their type.
    typed: bool,
}

/// What is answered under one key.
#[derive(Clone, Debug)]
pub(super) struct Node {
    /// Its number within the operation.
    pub(super) id: u32,
    pub(super) key: Name,
    pub(super) name: Name,
    pub(super) pos: Pos,
    pub(super) ty: Type,
    pub(super) below: Arc<Shape>,
}

impl Shape {
    /// The same fields for every object.
    pub(super) fn of(nodes: Vec<Node>, typed: bool) -> Self {
        Self {
            nodes,
            by_object: None,
            typed,
        }
    }

    /// Fields by the name of the object.
    pub(super) fn by_object(objects: Vec<(Name, Vec<Node>)>) -> Self {
        Self {
            nodes: Vec::new(),
            by_object: Some(objects),
            typed: true,
        }
    }

    pub(super) fn is_typed(&self) -> bool {
        self.typed
    }

    /// The fields of an operation's root.
    pub(super) fn roots(&self) -> &[Node] {
        &self.nodes
    }

    /// The fields of `object`.
    fn nodes_of(&self, object: &IndexMap<Name, Value>) -> &[Node] {
        let Some(by_object) = &self.by_object else {
            return &self.nodes;
        };
        let Some(Value::String(name)) = object.get(TYPE_KEY) else {
            return &[];
        };
        let mut all = by_object.iter();
        let found = all.find(|(object, _)| object == name);
        found.map_or(&[], |(_, nodes)| nodes)
    }
}

/// Fields that are not executed, by the number of their node: why.
pub(super) type Failed = HashMap<u32, ServerError>;

/// Makes `response` what the operation that looks like `shape` is answered with.
pub(super) fn complete(shape: &Shape, failed: &Failed, response: &mut Response) {
    // Errors without a path are of the request: nothing was executed.
    let executed = response.errors.is_empty()
        || !failed.is_empty()
        || response.errors.iter().any(|error| !error.path.is_empty());
    if response.data == Value::Null && !executed {
        return;
    }
    let errors = std::mem::take(&mut response.errors);
    let mut completion = Completion { failed, errors };
    if response.data == Value::Null {
        response.data = Value::Object(IndexMap::new());
    }
    let completed = match &mut response.data {
        Value::Object(object) => completion.object(shape, object, None),
        _ => Ok(()),
    };
    if completed.is_err() {
        response.data = Value::Null;
    }
    response.errors = completion.errors;
}

/// A field that cannot be `null` has no value: the nearest field around it that can is `null`.
struct NoValue;

struct Completion<'c> {
    failed: &'c Failed,
    errors: Vec<ServerError>,
}

/// Where a value is within the answer.
#[derive(Clone, Copy)]
struct At<'a> {
    around: Option<&'a At<'a>>,
    segment: Segment<'a>,
}

#[derive(Clone, Copy)]
enum Segment<'a> {
    Key(&'a Name),
    Index(usize),
}

impl<'a> At<'a> {
    fn key(around: Option<&'a At<'a>>, key: &'a Name) -> Self {
        let segment = Segment::Key(key);
        Self { around, segment }
    }

    fn path(&self) -> Vec<PathSegment> {
        let mut path = self.around.map(Self::path).unwrap_or_default();
        path.push(match self.segment {
            Segment::Key(key) => PathSegment::Field(key.to_string()),
            Segment::Index(index) => PathSegment::Index(index),
        });
        path
    }
}

impl Completion<'_> {
    fn object(
        &mut self,
        shape: &Shape,
        object: &mut IndexMap<Name, Value>,
        around: Option<&At<'_>>,
    ) -> Result<(), NoValue> {
        let nodes = shape.nodes_of(object);
        let keys = object.keys();
        let in_order = object.len() == nodes.len()
            && nodes.iter().zip(keys).all(|(node, key)| node.key == *key);
        if !in_order {
            let mut found = std::mem::take(object);
            object.reserve(nodes.len());
            for node in nodes {
                let value = found.swap_remove(&node.key).unwrap_or_else(|| {
                    self.missing(node, &At::key(around, &node.key));
                    Value::Null
                });
                object.insert(node.key.clone(), value);
            }
        }
        for (node, value) in nodes.iter().zip(object.values_mut()) {
            // Most fields are such.
            if node.below.is_leaf() && *value != Value::Null {
                continue;
            }
            self.value(node, node.ty, value, &At::key(around, &node.key))?;
        }
        Ok(())
    }

    /// Says why a field was left out, if that was not the library's doing.
    fn missing(&mut self, node: &Node, at: &At<'_>) {
        if let Some(error) = self.failed.get(&node.id) {
            let mut error = error.clone();
            error.path = at.path();
            self.errors.push(error);
        }
    }

    fn value(
        &mut self,
        node: &Node,
        ty: Type,
        value: &mut Value,
        at: &At<'_>,
    ) -> Result<(), NoValue> {
        if self.inside(node, ty, value, at).is_err() {
            *value = Value::Null;
        }
        match *value == Value::Null && ty.is_non_null() {
            true => Err(NoValue),
            false => Ok(()),
        }
    }

    fn inside(
        &mut self,
        node: &Node,
        ty: Type,
        value: &mut Value,
        at: &At<'_>,
    ) -> Result<(), NoValue> {
        let item = ty.item();
        if *value == Value::Null
            && item.is_none()
            && !node.below.is_leaf()
            && self.has_failed_below(at)
        {
            // An object all of whose fields failed.
            *value = Value::Object(IndexMap::new());
        }
        match (item, value) {
            (Some(item), Value::List(values)) => {
                for (n, value) in values.iter_mut().enumerate() {
                    let segment = Segment::Index(n);
                    let around = Some(at);
                    self.value(node, item, value, &At { around, segment })?;
                }
                Ok(())
            }
            (None, Value::Object(object)) if !node.below.is_leaf() => {
                self.object(&node.below, object, Some(at))
            }
            _ => Ok(()),
        }
    }

    fn has_failed_below(&self, at: &At<'_>) -> bool {
        if self.errors.is_empty() {
            return false;
        }
        let path = at.path();
        let errors = self.errors.iter().map(|error| &error.path);
        let mut below = errors.filter(|below| below.len() > path.len());
        below.any(|below| below.starts_with(&path))
    }
}

impl Shape {
    fn is_leaf(&self) -> bool {
        self.nodes.is_empty() && !self.typed
    }
}
