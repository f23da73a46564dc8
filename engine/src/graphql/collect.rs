//! An operation to what is executed of it ("CollectFields()"): a tree in which every response key
//! stands once, written as an operation of plain fields.
//!
//! `@skip` and `@include` are decided before, so that nothing here depends on a variable but the
//! values of arguments. What is below an interface or a union keeps its conditions only where they
//! make a difference: a key for which every object collects the same fields stays plain, the rest
//! goes into one `... on Object` each. (Writing each selection out for each object would double with
//! every level.)

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use async_graphql::{Name, Pos, Positioned, indexmap::IndexMap, parser::types as library};

use super::{
    answer::{Node, Shape},
    coerce::{self, Coerced},
    language::ast::{
        Argument, Directive, Document, Field, Operation, Selection, SelectionSet, Value, ValueKind,
    },
    types::{InputDef, TypeId, TypeSet, Types},
};

/// What the operations of a document may have together when they are written out: selections that are
/// read, fields that are written, and what stands in their arguments.
const MAX_PARTS: usize = 20_000;
/// How deep fields may nest.
const MAX_DEPTH: usize = 100;
/// How deep fragments may nest within one level of fields.
const MAX_NESTING: usize = 100;
/// Lists of fields and types inside one another that an introspection may not have: each multiplies
/// the answer by all types of the schema. (The bound of graphql-js's `MaxIntrospectionDepthRule`.)
const TOO_MANY_LISTS: usize = 3;
/// Fields that an introspection may have; programs send fewer than two hundred.
const MAX_INTROSPECTED: usize = 500;
/// What a field counts there inside two lists.
const INSIDE_TWO_LISTS: usize = 10;

/// The key under which objects say of what type they are, where the answer is to be put in order by
/// it, and under which those answer that would have no field. Names like it are reserved ("Reserved
/// Names"); validation refuses a client's alias of this one.
pub(super) const TYPE_KEY: &str = "__type_of_object";

/// An operation written out is too large.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum TooLarge {
    #[error(
        "the document is too large: more than {MAX_PARTS} fields, selections and values with its \
         fragments written out"
    )]
    Parts,
    #[error(
        "the document is too large: more than {MAX_DEPTH} levels of fields, or {MAX_NESTING} \
         fragments inside one another, with its fragments written out"
    )]
    Levels,
    #[error(
        "the introspection is too large: {TOO_MANY_LISTS} of `fields`, `interfaces`, \
         `possibleTypes` and `inputFields` inside one another, or more than {MAX_INTROSPECTED} \
         fields"
    )]
    Introspection,
}

/// What may still be written out of a document.
#[derive(Debug)]
pub(super) struct Left(usize);

impl Default for Left {
    fn default() -> Self {
        Self(MAX_PARTS)
    }
}

/// What is executed of an operation.
#[derive(Debug)]
pub(super) struct Plan {
    /// Complete but for the arguments of `waiting`.
    pub(super) selections: library::SelectionSet,
    /// Fields whose arguments wait for variables.
    pub(super) waiting: Vec<Waiting>,
    /// What the answer looks like.
    pub(super) answer: Shape,
    pub(super) size: Size,
}

/// How much an operation asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Size {
    /// How deep fields nest, introspection apart.
    pub(super) depth: usize,
    /// How many fields there are, introspection apart. Where objects of an interface or a union are
    /// asked for different ones, those of the object that is asked for most.
    pub(super) fields: usize,
    /// Whether the schema itself is asked for.
    pub(super) introspects: bool,
    /// What was read and written to write it out.
    pub(super) parts: usize,
    /// How many fields have another name than their own, introspection apart.
    pub(super) aliases: usize,
    /// How often the same value of a reply can be in the answer: the same field is asked for under so many
    /// names.
    pub(super) repeats: usize,
}

/// A field with arguments that wait for variables.
#[derive(Debug)]
pub(super) struct Waiting {
    /// Where it is: the index in each selection on the way.
    pub(super) path: Box<[usize]>,
    /// Its node in the answer.
    pub(super) node: u32,
    /// Whether it can be `null` itself.
    pub(super) nullable: bool,
    pub(super) arguments: Vec<WaitingArgument>,
    /// The same of its directives, by index.
    pub(super) directives: Vec<(usize, WaitingArgument)>,
}

#[derive(Debug)]
pub(super) struct WaitingArgument {
    pub(super) argument: Argument,
    pub(super) def: InputDef,
}

/// Whether a selection is included by a variable that has to be so: what `@include(if: $name)` with
/// `true` and `@skip(if: $name)` with `false` ask.
pub(super) type Decide<'d> = &'d dyn Fn(&Name, bool) -> bool;

/// Writes `operation` of `document` out, as `decide` has it.
///
/// # Errors
/// [`TooLarge`].
pub(super) fn collect(
    types: &Types,
    limited: &Limited,
    document: &Document,
    operation: &Operation,
    decide: Decide<'_>,
    left: &mut Left,
) -> Result<Plan, TooLarge> {
    let parts = left.0;
    let mut collector = Collector {
        types,
        limited,
        document,
        decide,
        size: Size::default(),
        next: 0,
        path: Vec::new(),
        waiting: Vec::new(),
        introspects: false,
        introspected: 0,
        lists: 0,
        left,
    };
    // Validation has seen to it that there is one.
    let root = types.root(operation.kind).ok_or(TooLarge::Parts)?;
    let (selections, answer) = collector.position(root, &[&operation.selections], 0)?;
    collector.size.parts = parts - collector.left.0;
    // What a field of the root has, no other has.
    let repeats = answer.roots().iter().map(|root| root.below.repeats());
    collector.size.repeats = repeats.max().unwrap_or_default().max(1);
    Ok(Plan {
        selections: selections.node,
        waiting: collector.waiting,
        answer,
        size: collector.size,
    })
}

/// Fields of objects that have a rate limit of their own, and so are kept apart from the same field of
/// an interface.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Limited(HashSet<(TypeId, Name)>);

impl Limited {
    /// Those of `fields`, an object and a field each, that may be asked of an interface.
    pub(super) fn of<'c>(types: &Types, fields: impl Iterator<Item = (&'c str, &'c str)>) -> Self {
        let fields = fields.filter_map(|(object, field)| {
            let object = types.named(object)?;
            types
                .is_in_abstract(object)
                .then(|| (object, Name::new(field)))
        });
        Self(fields.collect())
    }

    fn contains(&self, object: TypeId, field: &Name) -> bool {
        !self.0.is_empty() && self.0.contains(&(object, field.clone()))
    }
}

struct Collector<'c> {
    types: &'c Types,
    limited: &'c Limited,
    document: &'c Document,
    decide: Decide<'c>,
    size: Size,
    /// The number of the next node.
    next: u32,
    /// Where the field is that is being written.
    path: Vec<usize>,
    waiting: Vec<Waiting>,
    /// Whether what is being written is about the schema itself, and so does not count.
    introspects: bool,
    /// What of the introspection was written.
    introspected: usize,
    /// Lists of the introspection that are around.
    lists: usize,
    left: &'c mut Left,
}

/// A field and the objects for which it is collected.
struct Occurrence<'c> {
    field: &'c Field,
    on: TypeSet,
    /// The order in which they stand.
    place: usize,
}

/// The fields of one key, in the order they stand in. The first says what is executed, and all of
/// them what is selected of it.
type Fields<'c> = Vec<&'c Field>;

type Written = (Positioned<library::SelectionSet>, Shape);

impl<'c> Collector<'c> {
    /// Pays for so many parts.
    fn spend(&mut self, parts: usize) -> Result<(), TooLarge> {
        let left = self.left.0.checked_sub(parts);
        self.left.0 = left.ok_or(TooLarge::Parts)?;
        Ok(())
    }

    /// What is selected of a value of type `parent` by all of `sets` together.
    fn position(
        &mut self,
        parent: TypeId,
        sets: &[&'c SelectionSet],
        depth: usize,
    ) -> Result<Written, TooLarge> {
        if depth > MAX_DEPTH {
            return Err(TooLarge::Levels);
        }
        let types = self.types;
        let pos = sets.first().map(|set| set.pos).unwrap_or_default();
        let mut items = Vec::new();
        let shape = match types.is_object(parent) {
            true => {
                let mut by_key = IndexMap::new();
                let mut seen = HashSet::new();
                for set in sets {
                    self.of_object(parent, set, MAX_NESTING, &mut seen, &mut by_key)?;
                }
                let mut nodes = Vec::with_capacity(by_key.len());
                for fields in by_key.into_values() {
                    self.path.push(items.len());
                    let (field, mut node) = self.field(parent, &fields, depth)?;
                    self.path.pop();
                    // The library has no description of the schema, and says `String!` and that of
                    // the type `__Schema`. What is not asked for is `null`.
                    match &types.get(parent).name == "__Schema" && node.name == "description" {
                        true => node.ty = node.ty.nullable(),
                        false => items.push(field),
                    }
                    nodes.push(node);
                }
                let typed = items.is_empty();
                Shape::of(nodes, typed)
            }
            false => self.of_abstract(parent, sets, depth, &mut items)?,
        };
        if shape.is_typed() {
            items.push(type_of_object(pos));
        }
        let selections = Positioned::new(library::SelectionSet { items }, pos);
        Ok((selections, shape))
    }

    /// Collects what `selections` ask of an object of type `object`.
    fn of_object(
        &mut self,
        object: TypeId,
        selections: &'c SelectionSet,
        nesting: usize,
        seen: &mut HashSet<usize>,
        by_key: &mut IndexMap<&'c Name, Fields<'c>>,
    ) -> Result<(), TooLarge> {
        let nesting = nesting.checked_sub(1).ok_or(TooLarge::Levels)?;
        self.spend(selections.items.len())?;
        let types = self.types;
        let applies = |on: &Name| {
            let on = types.named(on);
            on.is_some_and(|on| types.get(on).possible.contains(object))
        };
        for selection in &selections.items {
            if !self.is_included(selection.directives()) {
                continue;
            }
            match selection {
                Selection::Field(field) => {
                    by_key.entry(&field.key().node).or_default().push(field);
                }
                Selection::Inline(inline) => {
                    if inline.on.as_ref().is_none_or(|on| applies(&on.node)) {
                        self.of_object(object, &inline.selections, nesting, seen, by_key)?;
                    }
                }
                Selection::Spread(spread) => {
                    if let Some((index, fragment)) = self.document.fragment(&spread.name.node)
                        && applies(&fragment.on.node)
                        && seen.insert(index)
                    {
                        self.of_object(object, &fragment.selections, nesting, seen, by_key)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn is_included(&self, directives: &[Directive]) -> bool {
        directives.iter().all(|directive| {
            let wanted = match directive.name.node.as_str() {
                "skip" => false,
                "include" => true,
                _ => return true,
            };
            let value = directive
                .arguments
                .first()
                .map(|argument| &argument.value.kind);
            match value {
                Some(ValueKind::Boolean(value)) => *value == wanted,
                Some(ValueKind::Variable(name)) => (self.decide)(name, wanted),
                _ => true,
            }
        })
    }

    /// The same for an interface or a union.
    fn of_abstract(
        &mut self,
        parent: TypeId,
        sets: &[&'c SelectionSet],
        depth: usize,
        items: &mut Vec<Positioned<library::Selection>>,
    ) -> Result<Shape, TooLarge> {
        let types = self.types;
        let possible = &types.get(parent).possible;
        let mut by_key = IndexMap::new();
        let mut seen = HashMap::new();
        for set in sets {
            self.for_objects(possible, set, MAX_NESTING, &mut seen, &mut by_key)?;
        }
        let mut plain = Vec::new();
        let mut split = false;
        for (key, occurrences) in &by_key {
            let alike = occurrences
                .iter()
                .all(|occurrence| occurrence.on.covers(possible));
            let name = occurrences.first().map(|first| &first.field.name.node);
            let known = name.is_some_and(|name| types.field(parent, name).is_some());
            let limited = || {
                name.is_some_and(|name| {
                    possible
                        .iter()
                        .any(|object| self.limited.contains(object, name))
                })
            };
            let is_plain = alike && known && !limited();
            split |= !is_plain;
            if is_plain {
                plain.push(*key);
            }
        }
        let mut nodes: HashMap<&Name, Node> = HashMap::new();
        for key in &plain {
            let fields: Fields<'_> = by_key[*key].iter().map(|one| one.field).collect();
            self.path.push(items.len());
            let (field, node) = self.field(parent, &fields, depth)?;
            self.path.pop();
            items.push(field);
            nodes.insert(*key, node);
        }
        if !split {
            let in_order = by_key.keys().filter_map(|key| nodes.remove(*key));
            // An error in a field of an interface has no path: its object has to be distinguished from
            // one that is `null` otherwise.
            return Ok(Shape::of(in_order.collect(), true));
        }
        let mut objects = Vec::new();
        // An object is of one type: of what is asked for by type, the most counts.
        let before = (self.size.fields, self.size.aliases);
        let mut most = before;
        for object in possible.iter() {
            (self.size.fields, self.size.aliases) = before;
            let mut own = Vec::new();
            let mut in_order = Vec::new();
            self.path.push(items.len());
            for (key, occurrences) in &by_key {
                let applying = occurrences.iter().filter(|one| one.on.contains(object));
                let Some(first) = applying.clone().next() else {
                    continue;
                };
                let node = match nodes.get(*key) {
                    Some(node) => {
                        self.spend(1)?;
                        node.clone()
                    }
                    None => {
                        let fields: Fields<'_> = applying.map(|one| one.field).collect();
                        self.path.push(own.len());
                        let (field, node) = self.field(object, &fields, depth)?;
                        self.path.pop();
                        own.push(field);
                        node
                    }
                };
                in_order.push((first.place, node));
            }
            self.path.pop();
            // A key that another object asks for earlier comes where this one asks for it.
            in_order.sort_by_key(|(place, _)| *place);
            let in_order = in_order.into_iter().map(|(_, node)| node).collect();
            most.0 = most.0.max(self.size.fields);
            most.1 = most.1.max(self.size.aliases);
            let name = types.get(object).name.clone();
            if !own.is_empty() {
                items.push(on_object(name.clone(), own));
            }
            objects.push((name, in_order));
        }
        (self.size.fields, self.size.aliases) = most;
        Ok(Shape::by_object(objects))
    }

    /// Collects what `selections` ask of each of the objects `on`.
    fn for_objects(
        &mut self,
        on: &TypeSet,
        selections: &'c SelectionSet,
        nesting: usize,
        seen: &mut HashMap<usize, Vec<TypeSet>>,
        by_key: &mut IndexMap<&'c Name, Vec<Occurrence<'c>>>,
    ) -> Result<(), TooLarge> {
        let nesting = nesting.checked_sub(1).ok_or(TooLarge::Levels)?;
        self.spend(selections.items.len())?;
        let types = self.types;
        let those = |condition: &Name| {
            let condition = types.named(condition)?;
            types.get(condition).possible.and(on)
        };
        for selection in &selections.items {
            if !self.is_included(selection.directives()) {
                continue;
            }
            match selection {
                Selection::Field(field) => {
                    let occurrences = by_key.entry(&field.key().node).or_default();
                    occurrences.push(Occurrence {
                        field,
                        on: on.clone(),
                        // What is left only becomes less.
                        place: MAX_PARTS - self.left.0,
                    });
                    self.spend(1)?;
                }
                Selection::Inline(inline) => match &inline.on {
                    None => self.for_objects(on, &inline.selections, nesting, seen, by_key)?,
                    Some(condition) => {
                        if let Some(on) = those(&condition.node) {
                            self.for_objects(&on, &inline.selections, nesting, seen, by_key)?;
                        }
                    }
                },
                Selection::Spread(spread) => {
                    if let Some((index, fragment)) = self.document.fragment(&spread.name.node)
                        && let Some(on) = those(&fragment.on.node)
                    {
                        let before = seen.entry(index).or_default();
                        if !before.iter().any(|before| before.covers(&on)) {
                            before.push(on.clone());
                            self.for_objects(&on, &fragment.selections, nesting, seen, by_key)?;
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// One field of `parent`, as it is executed and as it is answered.
    fn field(
        &mut self,
        parent: TypeId,
        fields: &Fields<'c>,
        depth: usize,
    ) -> Result<(Positioned<library::Selection>, Node), TooLarge> {
        let [first, ..] = fields.as_slice() else {
            return Err(TooLarge::Parts);
        };
        let name = &first.name.node;
        // Validation has seen to it that it is there.
        let def = self.types.field(parent, name).ok_or(TooLarge::Parts)?;
        let around = (self.introspects, self.lists);
        if depth == 0 && matches!(name.as_str(), "__schema" | "__type") {
            self.introspects = true;
            self.size.introspects = true;
        } else if self.introspects {
            let multiplies = ["fields", "interfaces", "possibleTypes", "inputFields"];
            self.lists += usize::from(multiplies.contains(&name.as_str()));
            self.introspected += match self.lists {
                ..2 => 1,
                _ => INSIDE_TWO_LISTS,
            };
            if self.lists >= TOO_MANY_LISTS || self.introspected > MAX_INTROSPECTED {
                return Err(TooLarge::Introspection);
            }
        }
        let values = first
            .arguments
            .iter()
            .map(|argument| parts_of(&argument.value));
        self.spend(1 + values.sum::<usize>())?;
        if !self.introspects {
            self.size.fields += 1;
            self.size.aliases += usize::from(first.key().node != *name);
            self.size.depth = self.size.depth.max(depth + 1);
        }
        let id = self.next;
        self.next += 1;
        let (arguments, open) = self.arguments(&first.arguments, &def.arguments);
        let (directives, open_directives) = self.directives(&first.directives);
        if !open.is_empty() || !open_directives.is_empty() {
            self.waiting.push(Waiting {
                path: self.path.as_slice().into(),
                node: id,
                nullable: !def.ty.is_non_null(),
                arguments: open,
                directives: open_directives,
            });
        }
        let sets: Vec<_> = fields
            .iter()
            .filter_map(|field| field.selections.as_ref())
            .collect();
        let (selection_set, below) = match sets.is_empty() {
            true => Default::default(),
            false => self.position(def.ty.named, &sets, depth + 1)?,
        };
        (self.introspects, self.lists) = around;
        let key = first.key();
        let node = Node {
            id,
            key: key.node.clone(),
            name: name.clone(),
            pos: key.pos,
            ty: def.ty,
            below: Arc::new(below),
        };
        let place =
            |named: &super::language::ast::Named| Positioned::new(named.node.clone(), named.pos);
        let field = library::Field {
            alias: first.alias.as_ref().map(place),
            name: place(&first.name),
            arguments,
            directives,
            selection_set,
        };
        let field = library::Selection::Field(Positioned::new(field, key.pos));
        Ok((Positioned::new(field, key.pos), node))
    }
}

impl Collector<'_> {
    /// Arguments whose values are known, and those that wait for variables.
    fn arguments(
        &self,
        arguments: &[Argument],
        defined: &IndexMap<Name, InputDef>,
    ) -> (LibraryArguments, Vec<WaitingArgument>) {
        let mut known = Vec::with_capacity(arguments.len());
        let mut open = Vec::new();
        for argument in arguments {
            let Some(def) = defined.get(&argument.name.node) else {
                continue;
            };
            let constant = match argument.value.is_open() {
                true => None,
                false => value_of(self.types, &argument.value, def),
            };
            match constant {
                Some(value) => known.push(library_argument(argument, value)),
                None => open.push(WaitingArgument {
                    argument: argument.clone(),
                    def: *def,
                }),
            }
        }
        (known, open)
    }

    /// The owner's own directives; the two of the specification are decided.
    fn directives(
        &self,
        directives: &[Directive],
    ) -> (
        Vec<Positioned<library::Directive>>,
        Vec<(usize, WaitingArgument)>,
    ) {
        let own = directives
            .iter()
            .filter(|directive| !matches!(directive.name.node.as_str(), "skip" | "include"));
        let mut open_arguments = Vec::new();
        let own = own.enumerate().filter_map(|(n, directive)| {
            let def = self.types.directives.get(&directive.name.node)?;
            let (arguments, open) = self.arguments(&directive.arguments, &def.arguments);
            open_arguments.extend(open.into_iter().map(|open| (n, open)));
            let pos = directive.name.pos;
            let name = Positioned::new(directive.name.node.clone(), pos);
            let directive = library::Directive { name, arguments };
            Some(Positioned::new(directive, pos))
        });
        (own.collect(), open_arguments)
    }
}

type LibraryArguments = Vec<(Positioned<Name>, Positioned<async_graphql_value::Value>)>;

/// What a value costs when it is copied.
fn parts_of(value: &Value) -> usize {
    match &value.kind {
        ValueKind::List(items) => 1 + items.iter().map(parts_of).sum::<usize>(),
        ValueKind::Object(fields) => {
            1 + fields
                .iter()
                .map(|(_, value)| parts_of(value))
                .sum::<usize>()
        }
        ValueKind::String(text) => 1 + text.len() / 64,
        _ => 1,
    }
}

/// A constant as the library is given it.
fn value_of(types: &Types, value: &Value, def: &InputDef) -> Option<async_graphql::Value> {
    coerce::argument(types, value, def, &Coerced::default()).ok()?
}

/// `argument` with its value, as the library has it.
pub(super) fn library_argument(
    argument: &Argument,
    value: async_graphql::Value,
) -> (Positioned<Name>, Positioned<async_graphql_value::Value>) {
    let name = Positioned::new(argument.name.node.clone(), argument.name.pos);
    (name, Positioned::new(value.into(), argument.value.pos))
}

/// The field by which an object says of what type it is.
pub(super) fn type_of_object(pos: Pos) -> Positioned<library::Selection> {
    let place = |name| Positioned::new(Name::new(name), pos);
    let field = library::Field {
        alias: Some(place(TYPE_KEY)),
        name: place("__typename"),
        arguments: Vec::new(),
        directives: Vec::new(),
        selection_set: Positioned::new(library::SelectionSet { items: Vec::new() }, pos),
    };
    Positioned::new(library::Selection::Field(Positioned::new(field, pos)), pos)
}

fn on_object(
    object: Name,
    items: Vec<Positioned<library::Selection>>,
) -> Positioned<library::Selection> {
    let pos = items.first().map(|item| item.pos).unwrap_or_default();
    let on = Positioned::new(object, pos);
    let inline = library::InlineFragment {
        type_condition: Some(Positioned::new(library::TypeCondition { on }, pos)),
        directives: Vec::new(),
        selection_set: Positioned::new(library::SelectionSet { items }, pos),
    };
    let inline = library::Selection::InlineFragment(Positioned::new(inline, pos));
    Positioned::new(inline, pos)
}
