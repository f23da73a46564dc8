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

/// Fields that an operation may have when it is written out.
const MAX_FIELDS: usize = 10_000;
/// How deep they may nest.
const MAX_DEPTH: usize = 100;
/// How deep lists of fields and types may nest in an introspection: each multiplies the answer by all
/// types of the schema. (The bound of graphql-js's `MaxIntrospectionDepthRule`.)
const MAX_INTROSPECTED_LISTS: usize = 3;

/// The key under which objects say of what type they are, where the answer is to be put in order by
/// it, and under which those answer that would have no field. Names like it are GraphQL's own
/// ("Reserved Names"), so no client has one.
pub(super) const TYPE_KEY: &str = "__type_of_object";

/// An operation written out has too many fields, or too many levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum TooLarge {
    #[error(
        "the document is too large: more than {MAX_FIELDS} fields with its fragments written out"
    )]
    Fields,
    #[error(
        "the document is too large: more than {MAX_DEPTH} levels with its fragments written out"
    )]
    Levels,
    #[error(
        "the introspection is too large: more than {MAX_INTROSPECTED_LISTS} of `fields`, \
         `interfaces`, `possibleTypes` and `inputFields` inside one another"
    )]
    Introspection,
}

/// What is executed of an operation.
#[derive(Debug)]
pub(super) struct Plan {
    /// Complete but for the arguments of `open`.
    pub(super) selections: library::SelectionSet,
    /// Fields whose arguments wait for variables.
    pub(super) open: Vec<Open>,
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
    /// asked for different ones, all count.
    pub(super) fields: usize,
    /// Whether the schema itself is asked for.
    pub(super) introspects: bool,
    /// All fields.
    pub(super) written_out: usize,
}

/// A field with arguments that wait for variables.
#[derive(Debug)]
pub(super) struct Open {
    /// Where it is: the index in each selection on the way.
    pub(super) path: Box<[usize]>,
    /// Its node in the answer.
    pub(super) node: u32,
    /// Whether it can be `null` itself.
    pub(super) nullable: bool,
    pub(super) arguments: Vec<OpenArgument>,
    /// The same of its directives, by index.
    pub(super) directives: Vec<(usize, OpenArgument)>,
}

#[derive(Debug)]
pub(super) struct OpenArgument {
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
) -> Result<Plan, TooLarge> {
    let mut collector = Collector {
        types,
        limited,
        document,
        decide,
        size: Size::default(),
        next: 0,
        path: Vec::new(),
        open: Vec::new(),
        introspects: false,
        lists: 0,
    };
    // Validation has seen to it that there is one.
    let root = types.root(operation.kind).ok_or(TooLarge::Fields)?;
    let (selections, answer) = collector.position(root, &[&operation.selections], 0)?;
    Ok(Plan {
        selections: selections.node,
        open: collector.open,
        answer,
        size: collector.size,
    })
}

/// Fields of objects that are to be told from the same field of an interface: those with a rule of
/// their own.
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
    open: Vec<Open>,
    /// Whether what is being written is about the schema itself, and so does not count.
    introspects: bool,
    /// Lists of the introspection that are around.
    lists: usize,
}

/// A field and the objects for which it is collected.
struct Occurrence<'c> {
    field: &'c Field,
    on: TypeSet,
    /// How many were collected before.
    place: usize,
}

/// The fields of one key, in the order they stand in. The first says what is executed, and all of
/// them what is selected of it.
type Fields<'c> = Vec<&'c Field>;

type Written = (Positioned<library::SelectionSet>, Shape);

impl<'c> Collector<'c> {
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
                    self.of_object(parent, set, &mut seen, &mut by_key);
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
        &self,
        object: TypeId,
        selections: &'c SelectionSet,
        seen: &mut HashSet<usize>,
        by_key: &mut IndexMap<&'c Name, Fields<'c>>,
    ) {
        let applies = |on: &Name| {
            let on = self.types.named(on);
            on.is_some_and(|on| self.types.get(on).possible.contains(object))
        };
        for selection in &selections.items {
            match selection {
                Selection::Field(field) => {
                    if self.is_included(&field.directives) {
                        by_key.entry(&field.key().node).or_default().push(field);
                    }
                }
                Selection::Inline(inline) => {
                    if self.is_included(&inline.directives)
                        && inline.on.as_ref().is_none_or(|on| applies(&on.node))
                    {
                        self.of_object(object, &inline.selections, seen, by_key);
                    }
                }
                Selection::Spread(spread) => {
                    if let Some((index, fragment)) = self.document.fragment(&spread.name.node)
                        && self.is_included(&spread.directives)
                        && applies(&fragment.on.node)
                        && seen.insert(index)
                    {
                        self.of_object(object, &fragment.selections, seen, by_key);
                    }
                }
            }
        }
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
        let mut place = 0;
        for set in sets {
            self.for_objects(possible, set, &mut seen, &mut by_key, &mut place);
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
            let in_order: Vec<_> = in_order.collect();
            let typed = in_order.is_empty();
            return Ok(Shape::of(in_order, typed));
        }
        let mut objects = Vec::new();
        for object in possible.iter() {
            let mut own = Vec::new();
            let mut in_order = Vec::new();
            self.path.push(items.len());
            for (key, occurrences) in &by_key {
                let applying = occurrences.iter().filter(|one| one.on.contains(object));
                let Some(first) = applying.clone().next() else {
                    continue;
                };
                let node = match nodes.get(*key) {
                    Some(node) => node.clone(),
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
            let name = types.get(object).name.clone();
            if !own.is_empty() {
                items.push(on_object(name.clone(), own));
            }
            objects.push((name, in_order));
        }
        Ok(Shape::by_object(objects))
    }

    /// Collects what `selections` ask of each of the objects `on`.
    fn for_objects(
        &self,
        on: &TypeSet,
        selections: &'c SelectionSet,
        seen: &mut HashMap<usize, Vec<TypeSet>>,
        by_key: &mut IndexMap<&'c Name, Vec<Occurrence<'c>>>,
        place: &mut usize,
    ) {
        let those = |condition: &Name| {
            let condition = self.types.named(condition)?;
            self.types.get(condition).possible.and(on)
        };
        for selection in &selections.items {
            match selection {
                Selection::Field(field) => {
                    if self.is_included(&field.directives) {
                        let occurrences = by_key.entry(&field.key().node).or_default();
                        let on = on.clone();
                        occurrences.push(Occurrence {
                            field,
                            on,
                            place: *place,
                        });
                        *place += 1;
                    }
                }
                Selection::Inline(inline) => {
                    if !self.is_included(&inline.directives) {
                        continue;
                    }
                    match &inline.on {
                        None => self.for_objects(on, &inline.selections, seen, by_key, place),
                        Some(condition) => {
                            if let Some(on) = those(&condition.node) {
                                self.for_objects(&on, &inline.selections, seen, by_key, place);
                            }
                        }
                    }
                }
                Selection::Spread(spread) => {
                    if let Some((index, fragment)) = self.document.fragment(&spread.name.node)
                        && self.is_included(&spread.directives)
                        && let Some(on) = those(&fragment.on.node)
                    {
                        let before = seen.entry(index).or_default();
                        if !before.iter().any(|before| before.covers(&on)) {
                            before.push(on.clone());
                            self.for_objects(&on, &fragment.selections, seen, by_key, place);
                        }
                    }
                }
            }
        }
    }

    /// One field of `parent`, as it is executed and as it is answered.
    fn field(
        &mut self,
        parent: TypeId,
        fields: &Fields<'c>,
        depth: usize,
    ) -> Result<(Positioned<library::Selection>, Node), TooLarge> {
        let [first, ..] = fields.as_slice() else {
            return Err(TooLarge::Fields);
        };
        let name = &first.name.node;
        // Validation has seen to it that it is there.
        let def = self.types.field(parent, name).ok_or(TooLarge::Fields)?;
        let around = (self.introspects, self.lists);
        if depth == 0 && matches!(name.as_str(), "__schema" | "__type") {
            self.introspects = true;
            self.size.introspects = true;
        } else if self.introspects {
            let multiplies = ["fields", "interfaces", "possibleTypes", "inputFields"];
            self.lists += usize::from(multiplies.contains(&name.as_str()));
            if self.lists > MAX_INTROSPECTED_LISTS {
                return Err(TooLarge::Introspection);
            }
        }
        self.size.written_out += 1;
        if self.size.written_out > MAX_FIELDS {
            return Err(TooLarge::Fields);
        }
        if !self.introspects {
            self.size.fields += 1;
            self.size.depth = self.size.depth.max(depth + 1);
        }
        let id = self.next;
        self.next += 1;
        let (arguments, open) = self.arguments(&first.arguments, &def.arguments);
        let (directives, open_directives) = self.directives(&first.directives);
        if !open.is_empty() || !open_directives.is_empty() {
            self.open.push(Open {
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
    ) -> (LibraryArguments, Vec<OpenArgument>) {
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
                None => open.push(OpenArgument {
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
        Vec<(usize, OpenArgument)>,
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

/// A constant as the library is given it.
fn value_of(types: &Types, value: &Value, def: &InputDef) -> Option<async_graphql::Value> {
    coerce::open(types, value, def, &Coerced::default()).ok()?
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
