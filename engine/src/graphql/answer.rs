//! The library's answer to the one that the specification asks for: its fields in the order they
//! were asked for ("Executing Selection Sets": an ordered map), `null` where a field failed, and
//! `null` further up where that field cannot be `null` ("Handling Field Errors").
//!
//! The library resolves the fields of an object at the same time and writes them down as they come
//! in; it leaves out a field that failed, also one that cannot be `null`; and an object without any
//! field is `null` to it.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use async_graphql::{Name, PathSegment, Pos, Response, ServerError, Value, indexmap::IndexMap};

use super::{collect::TYPE_KEY, error::Code, types::Type};

/// What is below a field.
#[derive(Debug, Default)]
pub(super) struct Shape {
    /// The fields, whatever the object.
    nodes: Vec<Node>,
    /// The fields of each object, where they differ; its name is answered under [`TYPE_KEY`].
    by_object: Option<Vec<(Name, Vec<Node>)>>,
    /// Whether objects are asked for their type.
    typed: bool,
    /// How often the same value can be in it: fields with one name come from one field of a reply. Known from
    /// the beginning: shapes share what is below them, and a walk would see it once for each way there.
    repeats: usize,
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
            repeats: repeats(&nodes),
            nodes,
            by_object: None,
            typed,
        }
    }

    /// Fields by the name of the object.
    pub(super) fn by_object(objects: Vec<(Name, Vec<Node>)>) -> Self {
        let most = objects.iter().map(|(_, nodes)| repeats(nodes)).max();
        Self {
            repeats: most.unwrap_or_default(),
            nodes: Vec::new(),
            by_object: Some(objects),
            typed: true,
        }
    }

    pub(super) fn is_typed(&self) -> bool {
        self.typed
    }

    /// How often the same value of a reply can be below.
    pub(super) fn repeats(&self) -> usize {
        self.repeats
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

/// See [`Shape::repeats`], of one object's fields.
fn repeats(nodes: &[Node]) -> usize {
    let mut by_name: HashMap<&Name, usize> = HashMap::new();
    for node in nodes {
        let sum = by_name.entry(&node.name).or_default();
        *sum = sum.saturating_add(node.below.repeats.max(1));
    }
    by_name.into_values().max().unwrap_or_default()
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
    let mut completion = Completion {
        failed,
        places: Places::of(&errors),
        errors,
    };
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

/// Where errors are.
#[derive(Default)]
struct Places {
    at: HashSet<Vec<Step>>,
    below: HashSet<Vec<Step>>,
}

impl Places {
    fn of(errors: &[ServerError]) -> Self {
        let mut places = Self::default();
        for error in errors {
            let mut path = Vec::with_capacity(error.path.len());
            for segment in &error.path {
                if !path.is_empty() {
                    places.below.insert(path.clone());
                }
                path.push(match segment {
                    PathSegment::Field(key) => Step::Key(Name::new(key)),
                    PathSegment::Index(index) => Step::Index(*index),
                });
            }
            places.at.insert(path);
        }
        places
    }
}

/// A segment of a path.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Step {
    Key(Name),
    Index(usize),
}

/// A field that cannot be `null` has no value: the nearest field around it that can is `null`.
struct NoValue;

struct Completion<'c> {
    failed: &'c Failed,
    places: Places,
    errors: Vec<ServerError>,
}

/// Where a value is within the answer.
#[derive(Clone, Copy)]
struct At<'a> {
    around: Option<&'a At<'a>>,
    step: Here<'a>,
}

#[derive(Clone, Copy)]
enum Here<'a> {
    Key(&'a Name),
    Index(usize),
}

impl<'a> At<'a> {
    fn key(around: Option<&'a At<'a>>, key: &'a Name) -> Self {
        let step = Here::Key(key);
        Self { around, step }
    }

    fn steps(&self) -> Vec<Step> {
        let mut steps = self.around.map(Self::steps).unwrap_or_default();
        steps.push(match self.step {
            Here::Key(key) => Step::Key(key.clone()),
            Here::Index(index) => Step::Index(index),
        });
        steps
    }

    fn path(&self) -> Vec<PathSegment> {
        let steps = self.steps().into_iter();
        let path = steps.map(|step| match step {
            Step::Key(key) => PathSegment::Field(key.to_string()),
            Step::Index(index) => PathSegment::Index(index),
        });
        path.collect()
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
        let mut completed = Ok(());
        for (node, value) in nodes.iter().zip(object.values_mut()) {
            // Most fields are such.
            if node.below.is_leaf() && *value != Value::Null && node.ty.item().is_none() {
                continue;
            }
            let at = At::key(around, &node.key);
            // The siblings are completed all the same: their errors belong to the answer.
            completed = completed.and(self.value(node, node.ty, value, &at));
        }
        completed
    }

    /// Says why a field was left out, if the library did not, or not where.
    fn missing(&mut self, node: &Node, at: &At<'_>) {
        if let Some(error) = self.failed.get(&node.id) {
            self.add(error.clone(), at);
            return;
        }
        // The library's interfaces do not say where a field of theirs failed.
        if self.places.at.contains(&at.steps()) {
            return;
        }
        let mut errors = self.errors.iter();
        let lost =
            errors.position(|error| error.path.is_empty() && error.locations.contains(&node.pos));
        if let Some(lost) = lost {
            let error = self.errors.remove(lost);
            self.add(error, at);
        }
    }

    fn add(&mut self, error: ServerError, at: &At<'_>) {
        let path = at.path();
        self.places.at.insert(at.steps());
        self.errors.push(ServerError { path, ..error });
    }

    fn value(
        &mut self,
        node: &Node,
        ty: Type,
        value: &mut Value,
        at: &At<'_>,
    ) -> Result<(), NoValue> {
        match self.inside(node, ty, value, at) {
            Err(NoValue) => *value = Value::Null,
            // What resolvers return as something may be written as `null`: a number that is none.
            Ok(()) if *value == Value::Null && ty.is_non_null() && !self.has_failed(at) => {
                let problem = format!(
                    "Cannot return null for non-nullable field \"{}\".",
                    node.name
                );
                self.add(Code::Internal.error(problem, Some(node.pos)), at);
            }
            Ok(()) => {}
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
        let untyped = !node.below.is_leaf() && !node.below.is_typed();
        if *value == Value::Null && item.is_none() && untyped && self.has_failed_below(at) {
            // An object all of whose fields failed.
            *value = Value::Object(IndexMap::new());
        }
        match (item, value) {
            (Some(item), Value::List(values)) => {
                let mut completed = Ok(());
                for (n, value) in values.iter_mut().enumerate() {
                    let step = Here::Index(n);
                    let around = Some(at);
                    let at = At { around, step };
                    completed = completed.and(self.value(node, item, value, &at));
                }
                completed
            }
            (None, Value::Object(object)) if !node.below.is_leaf() => {
                self.object(&node.below, object, Some(at))
            }
            _ => Ok(()),
        }
    }

    fn has_failed_below(&self, at: &At<'_>) -> bool {
        !self.places.below.is_empty() && self.places.below.contains(&at.steps())
    }

    /// Whether there is an error at this place, or below it.
    fn has_failed(&self, at: &At<'_>) -> bool {
        !self.places.at.is_empty()
            && (self.places.at.contains(&at.steps()) || self.has_failed_below(at))
    }
}

impl Shape {
    fn is_leaf(&self) -> bool {
        self.nodes.is_empty() && !self.typed
    }
}
