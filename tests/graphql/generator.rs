//! Requests at random: most of them valid, some slightly broken.

use std::collections::{BTreeMap, HashSet};

use async_graphql::parser::{
    parse_schema,
    types::{BaseType, Type, TypeKind, TypeSystemDefinition},
};
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use serde_json::{Value, json};

/// A piece of a document. What is left out of it leaves the rest as it was, or nearly.
#[derive(Clone, Debug)]
enum Piece {
    Text(String),
    Part(Vec<Piece>),
}

/// A request.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pieces: Vec<Piece>,
    variables: BTreeMap<String, Value>,
    operation_name: Option<String>,
    pub(crate) subscribes: bool,
    /// Parts that are left out, by their number.
    without: HashSet<usize>,
    /// Where something is written over the text, and what; nothing takes a character out.
    damage: Vec<(usize, &'static str)>,
}

impl Case {
    /// The request as it is sent.
    pub(crate) fn body(&self) -> Value {
        json!({
            "query": self.text(),
            "variables": self.variables,
            "operationName": self.operation_name,
        })
    }

    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        write(&self.pieces, &self.without, &mut 0, &mut text);
        for (place, damage) in &self.damage {
            let mut characters: Vec<String> = text.chars().map(String::from).collect();
            let place = place % characters.len().max(1);
            if let Some(character) = characters.get_mut(place) {
                *character = (*damage).to_owned();
            }
            text = characters.concat();
        }
        text
    }

    /// The same without one more part or variable, for each that it has.
    pub(crate) fn smaller(&self) -> Vec<Self> {
        let mut parts = 0;
        write(
            &self.pieces,
            &HashSet::new(),
            &mut parts,
            &mut String::new(),
        );
        let parts = (0..parts).filter(|part| !self.without.contains(part));
        let without_part = parts.map(|part| {
            let mut smaller = self.clone();
            smaller.without.insert(part);
            smaller
        });
        let without_variable = self.variables.keys().map(|name| {
            let mut smaller = self.clone();
            smaller.variables.remove(name);
            smaller
        });
        let all = without_part.chain(without_variable);
        // Some parts are within others that are left out.
        all.filter(|smaller| {
            smaller.text() != self.text() || smaller.variables.len() < self.variables.len()
        })
        .collect()
    }
}

fn write(pieces: &[Piece], without: &HashSet<usize>, count: &mut usize, text: &mut String) {
    for piece in pieces {
        match piece {
            Piece::Text(piece) => text.push_str(piece),
            Piece::Part(inside) => {
                let number = *count;
                *count += 1;
                let mut written = String::new();
                write(inside, without, count, &mut written);
                if !without.contains(&number) {
                    text.push_str(&written);
                }
            }
        }
    }
}

/// What a schema has.
pub(crate) struct Model {
    composites: BTreeMap<String, Composite>,
    inputs: BTreeMap<String, Input>,
    enums: BTreeMap<String, Vec<String>>,
}

struct Composite {
    fields: Vec<Field>,
    possible: HashSet<String>,
}

struct Field {
    name: String,
    ty: Type,
    arguments: Vec<Argument>,
}

struct Input {
    fields: Vec<Argument>,
    one_of: bool,
}

#[derive(Clone)]
struct Argument {
    name: String,
    ty: Type,
    has_default: bool,
}

impl Model {
    /// What the schema `sdl` has.
    pub(crate) fn of(sdl: &str) -> Self {
        let mut model = Self {
            composites: BTreeMap::new(),
            inputs: BTreeMap::new(),
            enums: BTreeMap::new(),
        };
        let mut members: Vec<(String, String)> = Vec::new();
        for definition in parse_schema(sdl).unwrap().definitions {
            let TypeSystemDefinition::Type(definition) = definition else {
                continue;
            };
            let definition = definition.node;
            let name = definition.name.node.to_string();
            let argument = |value: &async_graphql::parser::types::InputValueDefinition| Argument {
                name: value.name.node.to_string(),
                ty: value.ty.node.clone(),
                has_default: value.default_value.is_some(),
            };
            let fields_of = |fields: &[async_graphql::Positioned<_>]| -> Vec<Field> {
                let fields = fields.iter().map(
                    |field: &async_graphql::Positioned<
                        async_graphql::parser::types::FieldDefinition,
                    >| Field {
                        name: field.node.name.node.to_string(),
                        ty: field.node.ty.node.clone(),
                        arguments: field
                            .node
                            .arguments
                            .iter()
                            .map(|value| argument(&value.node))
                            .collect(),
                    },
                );
                fields.collect()
            };
            match definition.kind {
                TypeKind::Object(object) => {
                    for interface in &object.implements {
                        members.push((interface.node.to_string(), name.clone()));
                    }
                    members.push((name.clone(), name.clone()));
                    let fields = fields_of(&object.fields);
                    let possible = HashSet::new();
                    model
                        .composites
                        .insert(name, Composite { fields, possible });
                }
                TypeKind::Interface(interface) => {
                    let fields = fields_of(&interface.fields);
                    let possible = HashSet::new();
                    model
                        .composites
                        .insert(name, Composite { fields, possible });
                }
                TypeKind::Union(union) => {
                    for member in &union.members {
                        members.push((name.clone(), member.node.to_string()));
                    }
                    let (fields, possible) = (Vec::new(), HashSet::new());
                    model
                        .composites
                        .insert(name, Composite { fields, possible });
                }
                TypeKind::Enum(values) => {
                    let values = values.values.iter();
                    let values = values.map(|value| value.node.value.node.to_string());
                    model.enums.insert(name, values.collect());
                }
                TypeKind::InputObject(input) => {
                    let fields = input.fields.iter().map(|value| argument(&value.node));
                    let fields = fields.collect();
                    let mut directives = definition.directives.iter();
                    let one_of = directives.any(|directive| directive.node.name.node == "oneOf");
                    model.inputs.insert(name, Input { fields, one_of });
                }
                TypeKind::Scalar => {}
            }
        }
        for (of, member) in members {
            if let Some(composite) = model.composites.get_mut(&of) {
                composite.possible.insert(member);
            }
        }
        model
    }

    fn overlaps(&self, a: &str, b: &str) -> bool {
        let (a, b) = (&self.composites[a].possible, &self.composites[b].possible);
        !a.is_disjoint(b)
    }
}

/// What is written over a text to see whether it is still read.
const DAMAGE: [&str; 32] = [
    "", "", "", "", "{", "}", "(", ")", "[", "]", ":", "$", "@", "!", "...", "=", "\"", "\"\"\"",
    "\\", "#", ",", "0", "1.", ".5", "e9", "-", "on", " query ", "\n", "\u{feff}", "é", " null ",
];

struct Variable {
    ty: String,
    default: Option<String>,
    value: Option<Value>,
}

struct Generator<'m> {
    model: &'m Model,
    random: StdRng,
    variables: Vec<Variable>,
    /// Name and type of each; the bodies are written when all are known.
    fragments: Vec<String>,
    /// The fragment that is being written: it spreads later ones only.
    within: Option<usize>,
    aliases: usize,
    left: usize,
    /// Whether something may be wrong with the request.
    broken: bool,
}

/// The request that `seed` stands for.
pub(crate) fn case(model: &Model, seed: u64) -> Case {
    let mut generator = Generator {
        model,
        random: StdRng::seed_from_u64(seed),
        variables: Vec::new(),
        fragments: Vec::new(),
        within: None,
        aliases: 0,
        left: 40,
        broken: false,
    };
    generator.broken = generator.one_in(4);
    generator.case()
}

impl Generator<'_> {
    fn one_in(&mut self, n: u32) -> bool {
        self.random.random_ratio(1, n)
    }

    /// Whether to do something wrong: in a quarter of the requests, once in `n` chances.
    fn breaks(&mut self, n: u32) -> bool {
        self.broken && self.one_in(n)
    }

    fn pick<'t>(&mut self, all: &[&'t str]) -> &'t str {
        all.choose(&mut self.random).copied().unwrap_or_default()
    }

    fn case(&mut self) -> Case {
        let root = match self.random.random_range(0..10) {
            0..=5 => "Query",
            6..=7 => "Mutation",
            _ => "Subscription",
        };
        let subscribes = root == "Subscription";
        // Most of what operations do to one another is done by two.
        let second = self.one_in(12);
        let mut bodies = vec![self.root(root)];
        if second {
            bodies.push(self.root("Query"));
        }
        let mut fragments = Vec::new();
        let mut written = 0;
        while written < self.fragments.len() {
            self.within = Some(written);
            let on = self.fragments[written].clone();
            let mut pieces = vec![Piece::Text(format!(" fragment F{written} on {on}"))];
            pieces.extend(self.selections(&on, 3));
            fragments.push(Piece::Part(pieces));
            written += 1;
        }
        let texts: Vec<_> = fragments
            .iter()
            .map(|fragment| text_of(std::slice::from_ref(fragment)))
            .collect();
        let named = second || self.one_in(3);
        let mut pieces = Vec::new();
        for (n, body) in bodies.into_iter().enumerate() {
            let kind = if n == 0 { root } else { "Query" }.to_lowercase();
            let name = match (named, n) {
                (false, _) => String::new(),
                (true, 1) if self.breaks(10) => " Q0".to_owned(),
                (true, n) => format!(" Q{n}"),
            };
            let described = match self.one_in(20) {
                true => " \"\"\"what it does\"\"\"",
                false => "",
            };
            let mut operation = vec![Piece::Text(format!("{described} {kind}{name}"))];
            let used = used(text_of(&body), &texts);
            operation.extend(self.definitions(&used));
            operation.extend(body);
            pieces.push(Piece::Part(operation));
        }
        if self.one_in(3) {
            fragments.extend(pieces);
            pieces = fragments;
        } else {
            pieces.extend(fragments);
        }
        let values = self.variables.iter().enumerate();
        let values =
            values.filter_map(|(n, variable)| Some((format!("v{n}"), variable.value.clone()?)));
        let variables = values.collect();
        let operation_name = match named {
            true if second || self.one_in(2) => Some("Q0".to_owned()),
            _ => None,
        };
        let operation_name = match self.breaks(60) {
            true => Some("Nobody".to_owned()),
            false => operation_name,
        };
        let mut damage = Vec::new();
        while self.breaks(3) {
            let place = self.random.random_range(0..10_000);
            damage.push((place, self.pick(&DAMAGE)));
        }
        Case {
            pieces,
            variables,
            operation_name,
            subscribes,
            without: HashSet::new(),
            damage,
        }
    }

    fn root(&mut self, root: &str) -> Vec<Piece> {
        if root != "Subscription" || self.breaks(5) {
            return self.selections(root, 4);
        }
        let fields = &self.model.composites[root].fields;
        let Some(field) = fields.choose(&mut self.random) else {
            return Vec::new();
        };
        let field = self.field(root, field, 4);
        let mut pieces = vec![Piece::Text(" {".to_owned())];
        match self.random.random_range(0..4) {
            0 => {
                pieces.push(Piece::Text(" ... on Subscription {".to_owned()));
                pieces.push(Piece::Part(field));
                pieces.push(Piece::Text(" }".to_owned()));
            }
            _ => pieces.push(Piece::Part(field)),
        }
        pieces.push(Piece::Text(" }".to_owned()));
        pieces
    }

    fn selections(&mut self, parent: &str, depth: usize) -> Vec<Piece> {
        let mut pieces = vec![Piece::Text(" {".to_owned())];
        let count = self.random.random_range(1..=4);
        for _ in 0..count {
            let piece = self.selection(parent, depth);
            pieces.push(Piece::Part(piece));
        }
        pieces.push(Piece::Text(" }".to_owned()));
        pieces
    }

    fn selection(&mut self, parent: &str, depth: usize) -> Vec<Piece> {
        self.left = self.left.saturating_sub(1);
        let leaf_only = depth == 0 || self.left == 0;
        let choice = self.random.random_range(0..20);
        if choice < 3 && !leaf_only {
            return self.inline(parent, depth);
        }
        if choice < 6 && !leaf_only {
            return self.spread(parent);
        }
        if self.breaks(120) {
            return vec![Piece::Text(" unheard".to_owned())];
        }
        let model = self.model;
        let fields = &model.composites[parent].fields;
        let leaf = |field: &&Field| !model.composites.contains_key(base_of(&field.ty));
        let candidates: Vec<_> = match leaf_only {
            true => fields.iter().filter(leaf).collect(),
            false => fields.iter().collect(),
        };
        if parent == "Query" && self.one_in(25) {
            let introspection = self.pick(&[
                " __schema { queryType { name kind } types { __typename @skip(if: true) } }",
                " __type(name: \"Dog\") { name kind ...on __Type { possibleTypes { name } } ofType { name } }",
                " t2: __type(name: \"Nobody\") { name }",
                " __schema { description subscriptionType { fields { name } } }",
            ]);
            return vec![Piece::Text(introspection.to_owned())];
        }
        if choice == 6 || candidates.is_empty() {
            let alias = match self.one_in(4) {
                true if self.breaks(8) => "name: ",
                true => "t: ",
                false => "",
            };
            let mut pieces = vec![Piece::Text(format!(" {alias}__typename"))];
            pieces.extend(self.conditions());
            return pieces;
        }
        let Some(field) = candidates.choose(&mut self.random) else {
            return Vec::new();
        };
        self.field(parent, field, depth)
    }

    fn field(&mut self, _parent: &str, field: &Field, depth: usize) -> Vec<Piece> {
        let mut arguments = Vec::new();
        for argument in &field.arguments {
            let required = is_required(argument);
            let given = match required {
                true => !self.breaks(60),
                false => self.one_in(if field.arguments.len() > 4 { 5 } else { 2 }),
            };
            if given {
                let value = self.value(&argument.ty, argument.has_default, 3, true);
                let text = format!(" {}: {value}", argument.name);
                arguments.push(Piece::Part(vec![Piece::Text(text)]));
            }
        }
        if self.breaks(150) {
            arguments.push(Piece::Part(vec![Piece::Text(" unheard: 1".to_owned())]));
        }
        // Fields with arguments under a name of their own, or they would all be in conflict.
        let alias = match self.random.random_range(0..20) {
            0 if self.broken || self.one_in(5) => {
                format!("{}: ", self.pick(&["x", "y", "name", "sound"]))
            }
            1..=16 if !arguments.is_empty() => {
                self.aliases += 1;
                format!("k{}: ", self.aliases)
            }
            17 => format!("own_{}: ", field.name),
            _ => String::new(),
        };
        let mut pieces = vec![Piece::Text(format!(" {alias}{}", field.name))];
        if !arguments.is_empty() {
            pieces.push(Piece::Text("(".to_owned()));
            pieces.extend(arguments);
            pieces.push(Piece::Text(")".to_owned()));
        }
        pieces.extend(self.conditions());
        let base = base_of(&field.ty);
        let composite = self.model.composites.contains_key(base);
        if composite != self.breaks(80) {
            let on = if composite { base } else { "Person" };
            pieces.extend(self.selections(on, depth.saturating_sub(1)));
        }
        pieces
    }

    fn inline(&mut self, parent: &str, depth: usize) -> Vec<Piece> {
        let on = match self.one_in(4) {
            true => None,
            false => Some(self.overlapping(parent)),
        };
        let condition = on.as_ref().map(|on| format!(" on {on}"));
        let mut pieces = vec![Piece::Text(format!(
            " ...{}",
            condition.unwrap_or_default()
        ))];
        pieces.extend(self.conditions());
        let on = on.unwrap_or_else(|| parent.to_owned());
        pieces.extend(self.selections(&on, depth - 1));
        pieces
    }

    fn spread(&mut self, parent: &str) -> Vec<Piece> {
        let first = self.within.map_or(0, |within| within + 1);
        let known: Vec<usize> = (first..self.fragments.len())
            .filter(|index| self.model.overlaps(parent, &self.fragments[*index]))
            .collect();
        let index = match known.choose(&mut self.random) {
            Some(known) if self.fragments.len() > 3 || self.one_in(2) => *known,
            _ if self.fragments.len() < 5 => {
                let on = self.overlapping(parent);
                self.fragments.push(on);
                self.fragments.len() - 1
            }
            _ => return vec![Piece::Text(" __typename".to_owned())],
        };
        let index = match self.breaks(150) {
            true => self.random.random_range(0..6),
            false => index,
        };
        let mut pieces = vec![Piece::Text(format!(" ...F{index}"))];
        pieces.extend(self.conditions());
        pieces
    }

    /// A type that a fragment within `parent` can be on.
    fn overlapping(&mut self, parent: &str) -> String {
        let model = self.model;
        let any = self.breaks(80);
        let all = model.composites.keys();
        let all: Vec<_> = all.filter(|on| any || model.overlaps(parent, on)).collect();
        all.choose(&mut self.random)
            .map_or_else(String::new, |on| (*on).clone())
    }

    fn conditions(&mut self) -> Option<Piece> {
        if !self.one_in(8) {
            return None;
        }
        let name = self.pick(&["skip", "include"]);
        let boolean = Type::new("Boolean!").unwrap();
        let value = match self.random.random_range(0..4) {
            0 => self.pick(&["true", "false"]).to_owned(),
            _ => self.variable(&boolean, false),
        };
        let wrong = self.breaks(20).then(|| self.random.random_range(0..4));
        let text = match wrong {
            Some(0) => " @unheard".to_owned(),
            Some(1) => format!(" @{name}"),
            Some(2) => format!(" @{name}(if: {value}) @{name}(if: {value})"),
            Some(3) => format!(" @{name}(if: {value}, unless: 1)"),
            _ => format!(" @{name}(if: {value})"),
        };
        Some(Piece::Part(vec![Piece::Text(text)]))
    }

    /// A literal or a variable for a place of type `ty`.
    fn value(&mut self, ty: &Type, has_default: bool, depth: usize, variables: bool) -> String {
        if variables && self.one_in(3) {
            return self.variable(ty, has_default);
        }
        if self.breaks(60) {
            return self.any_literal();
        }
        if ty.nullable && self.one_in(10) {
            return "null".to_owned();
        }
        match &ty.base {
            BaseType::List(item) => {
                if self.one_in(5) {
                    return self.value(item, false, depth, variables);
                }
                let count = self.random.random_range(0..3);
                let items: Vec<_> = (0..count)
                    .map(|_| self.value(item, false, depth, variables))
                    .collect();
                format!("[{}]", items.join(", "))
            }
            BaseType::Named(name) => self.named(name, depth, variables),
        }
    }

    fn named(&mut self, name: &str, depth: usize, variables: bool) -> String {
        match name {
            "Int" => self
                .pick(&["0", "1", "-7", "2147483647", "2", "3"])
                .to_owned(),
            "Float" => self.pick(&["1", "0.5", "-2.25", "1e3", "7"]).to_owned(),
            "Boolean" => self.pick(&["true", "false"]).to_owned(),
            "ID" => self
                .pick(&["\"a\"", "7", "\"\"", "-0", "123456789012345678901234567890"])
                .to_owned(),
            "String" => self
                .pick(&[
                    "\"\"",
                    "\"a\"",
                    "\"é😀\"",
                    "\"\\uD83D\\uDE00\"",
                    "\"\\u{1F600}\\n\"",
                    "\"\"\"say \\\"\"\"hi\\\"\"\"\n   two\n  \"\"\"",
                    "\"\\\\ \\\" \\/\"",
                ])
                .to_owned(),
            "Anything" => self
                .pick(&["1", "\"a\"", "{ a: [1, true] }", "[null]", "false"])
                .to_owned(),
            _ => {
                if let Some(values) = self.model.enums.get(name) {
                    return values.choose(&mut self.random).cloned().unwrap_or_default();
                }
                let Some(input) = self.model.inputs.get(name) else {
                    return "null".to_owned();
                };
                let one = self.random.random_range(0..input.fields.len());
                let mut fields = Vec::new();
                for (n, field) in input.fields.iter().enumerate() {
                    let given = match input.one_of {
                        true => n == one,
                        false if is_required(field) => !self.breaks(60),
                        false => depth > 0 && self.one_in(3),
                    };
                    if given {
                        let mut ty = field.ty.clone();
                        ty.nullable &= !input.one_of;
                        let depth = depth.saturating_sub(1);
                        let value = self.value(&ty, field.has_default, depth, variables);
                        fields.push(format!("{}: {value}", field.name));
                    }
                }
                if self.breaks(80) {
                    fields.push(
                        self.pick(&["unheard: 1", "req: 1", "a: 1", "b: null"])
                            .to_owned(),
                    );
                }
                format!("{{ {} }}", fields.join(", "))
            }
        }
    }

    fn any_literal(&mut self) -> String {
        self.pick(&[
            "1",
            "\"a\"",
            "true",
            "null",
            "DOG",
            "[]",
            "{}",
            "1.5",
            "2147483648",
            "[1, \"a\"]",
            "{ req: 1 }",
            "\"DOG\"",
            "[[1], null]",
            "-0",
            "$unheard",
        ])
        .to_owned()
    }

    /// A variable that can stand at a place of type `ty`, known or new.
    fn variable(&mut self, ty: &Type, has_default: bool) -> String {
        let wanted = ty.to_string();
        let fitting: Vec<usize> = self
            .variables
            .iter()
            .enumerate()
            .filter(|(_, known)| known.ty == wanted || known.ty == format!("{wanted}!"))
            .map(|(n, _)| n)
            .collect();
        if let Some(known) = fitting.choose(&mut self.random)
            && self.one_in(2)
        {
            return format!("$v{known}");
        }
        let mut own = ty.clone();
        let mut default = None;
        if !own.nullable && self.one_in(2) {
            own.nullable = true;
            // Allowed by a default of either.
            if !has_default || self.one_in(2) {
                let mut non_null = own.clone();
                non_null.nullable = false;
                default = Some(self.value(&non_null, false, 2, false));
            }
        } else if own.nullable && self.one_in(3) {
            own.nullable = false;
        } else if own.nullable && self.one_in(3) {
            default = Some(self.value(&own, false, 2, false));
        }
        if self.breaks(80) {
            own = Type::new(self.pick(&["Int", "String!", "[Int]", "Kind", "Person", "Nobody"]))
                .unwrap_or(own);
        }
        let value = self.given(&own, default.is_some());
        let ty = own.to_string();
        self.variables.push(Variable { ty, default, value });
        format!("$v{}", self.variables.len() - 1)
    }

    /// What a client sends for a variable.
    fn given(&mut self, ty: &Type, has_default: bool) -> Option<Value> {
        match self.random.random_range(0..40) {
            0 if self.broken => return None,
            1..=9 if ty.nullable || has_default => return None,
            10 if self.broken => return Some(Value::Null),
            11..=14 if ty.nullable && (self.broken || base_of(ty) != "Boolean") => {
                return Some(Value::Null);
            }
            _ => {}
        }
        Some(self.json(ty, 3))
    }

    fn json(&mut self, ty: &Type, depth: usize) -> Value {
        if self.breaks(100) {
            let any = [
                json!(1),
                json!("a"),
                json!(true),
                json!(null),
                json!([]),
                json!({}),
                json!(1.5),
                json!(2147483648_u32),
                json!("DOG"),
                json!({ "a": 1, "b": null }),
                json!(1.0),
            ];
            return any.choose(&mut self.random).cloned().unwrap_or_default();
        }
        if ty.nullable && base_of(ty) != "Boolean" && self.one_in(10) {
            return Value::Null;
        }
        match &ty.base {
            BaseType::List(item) => {
                if self.one_in(6) {
                    return self.json(item, depth);
                }
                let count = self.random.random_range(0..3);
                (0..count).map(|_| self.json(item, depth)).collect()
            }
            BaseType::Named(name) => self.named_json(name, depth),
        }
    }

    fn named_json(&mut self, name: &str, depth: usize) -> Value {
        match name {
            "Int" => self.random.random_range(-3..9).into(),
            "Float" => json!(0.5),
            "Boolean" => self.random.random_bool(0.5).into(),
            "ID" if self.one_in(2) => 7.into(),
            "Anything" => json!({ "z": [1, "a"], "a": null }),
            "String" | "ID" => self.pick(&["", "a", "é😀\n"]).into(),
            _ => {
                if let Some(values) = self.model.enums.get(name) {
                    let values = values.choose(&mut self.random);
                    return values.cloned().unwrap_or_default().into();
                }
                let Some(input) = self.model.inputs.get(name) else {
                    return json!(1);
                };
                let one = self.random.random_range(0..input.fields.len());
                let mut object = serde_json::Map::new();
                for (n, field) in input.fields.iter().enumerate() {
                    let given = match input.one_of {
                        true => n == one,
                        false if is_required(field) => !self.breaks(60),
                        false => depth > 0 && self.one_in(3),
                    };
                    if given {
                        let mut ty = field.ty.clone();
                        ty.nullable &= !input.one_of;
                        let value = self.json(&ty, depth.saturating_sub(1));
                        object.insert(field.name.clone(), value);
                    }
                }
                if self.breaks(80) {
                    object.insert("unheard".to_owned(), json!(1));
                }
                Value::Object(object)
            }
        }
    }

    /// The variables that `used` says are used.
    fn definitions(&mut self, used: &HashSet<String>) -> Vec<Piece> {
        if self.breaks(60) {
            let ty = Type::new("Int").unwrap();
            self.variables.push(Variable {
                ty: ty.to_string(),
                default: None,
                value: None,
            });
        }
        let left_out = match !self.variables.is_empty() && self.breaks(80) {
            true => self.random.random_range(0..self.variables.len()),
            false => usize::MAX,
        };
        let mut pieces = Vec::new();
        for (n, variable) in self.variables.iter().enumerate() {
            let wrong = self.broken && self.random.random_ratio(1, 80);
            if n == left_out || used.contains(&format!("v{n}")) == wrong {
                continue;
            }
            let Variable { ty, default, .. } = variable;
            let mut definition = vec![Piece::Text(format!(" $v{n}: {ty}"))];
            if let Some(default) = default {
                definition.push(Piece::Part(vec![Piece::Text(format!(" = {default}"))]));
            }
            pieces.push(Piece::Part(definition));
        }
        if !pieces.is_empty() {
            pieces.insert(0, Piece::Text("(".to_owned()));
            pieces.push(Piece::Text(")".to_owned()));
        }
        pieces
    }
}

fn text_of(pieces: &[Piece]) -> String {
    let mut text = String::new();
    write(pieces, &HashSet::new(), &mut 0, &mut text);
    text
}

/// The variables in `text` and in the fragments that it spreads, of which these are the texts.
fn used(text: String, fragments: &[String]) -> HashSet<String> {
    let mut ahead = vec![text];
    let mut spread = HashSet::new();
    let mut used = HashSet::new();
    while let Some(text) = ahead.pop() {
        let word = |rest: &str| {
            let word = rest.chars().take_while(|c| c.is_ascii_alphanumeric());
            word.collect::<String>()
        };
        used.extend(text.split('$').skip(1).map(word));
        for fragment in text.split("...F").skip(1) {
            let index = word(fragment).parse::<usize>().ok();
            if let Some(index) = index.filter(|index| spread.insert(*index)) {
                ahead.extend(fragments.get(index).cloned());
            }
        }
    }
    used
}

fn is_required(argument: &Argument) -> bool {
    !argument.ty.nullable && !argument.has_default
}

fn base_of(ty: &Type) -> &str {
    match &ty.base {
        BaseType::Named(name) => name,
        BaseType::List(item) => base_of(item),
    }
}
