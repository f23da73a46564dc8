//! An executable document as it was written: nothing is merged, coerced or looked up.

use std::collections::{HashMap, HashSet};

use async_graphql::{Name, Pos, parser::types::OperationType};

/// Operations and fragments, in the order they stand in.
#[derive(Debug)]
pub(crate) struct Document {
    pub(crate) operations: Vec<Operation>,
    pub(crate) fragments: Vec<Fragment>,
    /// The place of the first fragment of each name.
    by_name: HashMap<Name, usize>,
}

impl Document {
    pub(super) fn new(operations: Vec<Operation>, fragments: Vec<Fragment>) -> Self {
        let names = fragments.iter().enumerate().rev();
        let by_name = names.map(|(index, fragment)| (fragment.name.node.clone(), index));
        Self {
            by_name: by_name.collect(),
            operations,
            fragments,
        }
    }

    /// The fragment with this name, and its place.
    pub(crate) fn fragment(&self, name: &Name) -> Option<(usize, &Fragment)> {
        let index = *self.by_name.get(name)?;
        Some((index, self.fragments.get(index)?))
    }
}

impl Document {
    /// The variables that `@skip` and `@include` ask within `operation`.
    pub(crate) fn deciding<'d>(&'d self, operation: &'d Operation) -> HashSet<&'d Name> {
        let mut deciding = HashSet::new();
        let mut seen = HashSet::new();
        let mut ahead = vec![&operation.selections];
        while let Some(selections) = ahead.pop() {
            for selection in &selections.items {
                match selection {
                    Selection::Field(field) => ahead.extend(&field.selections),
                    Selection::Inline(inline) => ahead.push(&inline.selections),
                    Selection::Spread(spread) => {
                        if let Some((index, fragment)) = self.fragment(&spread.name.node)
                            && seen.insert(index)
                        {
                            ahead.push(&fragment.selections);
                        }
                    }
                }
                let asking = selection
                    .directives()
                    .iter()
                    .filter(|asking| matches!(asking.name.node.as_str(), "skip" | "include"));
                for argument in asking.flat_map(|directive| &directive.arguments) {
                    argument.value.each_variable(&mut |name, _| {
                        deciding.insert(name);
                    });
                }
            }
        }
        deciding
    }
}

/// A name and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct Named {
    pub(crate) pos: Pos,
    pub(crate) node: Name,
}

#[derive(Debug)]
pub(crate) struct Operation {
    pub(crate) pos: Pos,
    pub(crate) kind: OperationType,
    pub(crate) name: Option<Named>,
    pub(crate) variables: Vec<VariableDefinition>,
    pub(crate) directives: Vec<Directive>,
    pub(crate) selections: SelectionSet,
}

#[derive(Debug)]
pub(crate) struct VariableDefinition {
    pub(crate) name: Named,
    pub(crate) ty: TypeName,
    pub(crate) default: Option<Value>,
    pub(crate) directives: Vec<Directive>,
}

/// A type as a variable names it.
#[derive(Debug)]
pub(crate) enum TypeName {
    Named(Named),
    List(Box<TypeName>),
    NonNull(Box<TypeName>),
}

impl TypeName {
    /// What is left without lists and exclamation marks.
    pub(crate) fn innermost(&self) -> &Named {
        match self {
            Self::Named(named) => named,
            Self::List(inner) | Self::NonNull(inner) => inner.innermost(),
        }
    }
}

impl std::fmt::Display for TypeName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Named(named) => f.write_str(&named.node),
            Self::List(inner) => write!(f, "[{inner}]"),
            Self::NonNull(inner) => write!(f, "{inner}!"),
        }
    }
}

#[derive(Debug)]
pub(crate) struct Fragment {
    pub(crate) name: Named,
    pub(crate) on: Named,
    pub(crate) directives: Vec<Directive>,
    pub(crate) selections: SelectionSet,
}

#[derive(Debug)]
pub(crate) struct SelectionSet {
    pub(crate) pos: Pos,
    pub(crate) items: Vec<Selection>,
}

#[derive(Debug)]
pub(crate) enum Selection {
    Field(Field),
    Spread(Spread),
    Inline(Inline),
}

impl Selection {
    pub(crate) fn directives(&self) -> &[Directive] {
        match self {
            Self::Field(field) => &field.directives,
            Self::Spread(spread) => &spread.directives,
            Self::Inline(inline) => &inline.directives,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) alias: Option<Named>,
    pub(crate) name: Named,
    pub(crate) arguments: Vec<Argument>,
    pub(crate) directives: Vec<Directive>,
    pub(crate) selections: Option<SelectionSet>,
}

impl Field {
    /// The name it is answered under.
    pub(crate) fn key(&self) -> &Named {
        self.alias.as_ref().unwrap_or(&self.name)
    }
}

/// `...Name`
#[derive(Debug)]
pub(crate) struct Spread {
    pub(crate) name: Named,
    pub(crate) directives: Vec<Directive>,
}

/// `... on Type { }`
#[derive(Debug)]
pub(crate) struct Inline {
    pub(crate) pos: Pos,
    pub(crate) on: Option<Named>,
    pub(crate) directives: Vec<Directive>,
    pub(crate) selections: SelectionSet,
}

#[derive(Debug)]
pub(crate) struct Directive {
    pub(crate) name: Named,
    pub(crate) arguments: Vec<Argument>,
}

#[derive(Clone, Debug)]
pub(crate) struct Argument {
    pub(crate) name: Named,
    pub(crate) value: Value,
}

#[derive(Clone, Debug)]
pub(crate) struct Value {
    pub(crate) pos: Pos,
    pub(crate) kind: ValueKind,
}

/// A value as it was written. Numbers keep their digits: an `ID` may have more of them than any
/// number of the machine.
#[derive(Clone, Debug)]
pub(crate) enum ValueKind {
    Variable(Name),
    Int(Box<str>),
    Float(Box<str>),
    String(String),
    Boolean(bool),
    Null,
    Enum(Name),
    List(Vec<Value>),
    Object(Vec<(Named, Value)>),
}

impl Value {
    /// Calls `with` for each variable in it, and where it stands.
    pub(crate) fn each_variable<'v>(&'v self, with: &mut impl FnMut(&'v Name, Pos)) {
        match &self.kind {
            ValueKind::Variable(name) => with(name, self.pos),
            ValueKind::List(items) => items.iter().for_each(|item| item.each_variable(with)),
            ValueKind::Object(fields) => {
                fields
                    .iter()
                    .for_each(|(_, value)| value.each_variable(with));
            }
            _ => {}
        }
    }

    /// Whether a variable is in it.
    pub(crate) fn is_open(&self) -> bool {
        let mut open = false;
        self.each_variable(&mut |_, _| open = true);
        open
    }

    /// Whether both mean the same: the order of an input object's fields means nothing ("Input
    /// Object Values").
    pub(crate) fn means(&self, other: &Self) -> bool {
        use ValueKind::{Boolean, Enum, Float, Int, List, Null, Object, String, Variable};
        match (&self.kind, &other.kind) {
            (Variable(a), Variable(b)) | (Enum(a), Enum(b)) => a == b,
            (Int(a), Int(b)) | (Float(a), Float(b)) => a == b,
            (String(a), String(b)) => a == b,
            (Boolean(a), Boolean(b)) => a == b,
            (Null, Null) => true,
            (List(a), List(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.means(b)),
            (Object(a), Object(b)) => {
                a.len() == b.len() && {
                    let pairs = by_name(a).into_iter().zip(by_name(b));
                    let mut pairs = pairs.map(|(a, b)| a.0.node == b.0.node && a.1.means(&b.1));
                    pairs.all(|same| same)
                }
            }
            _ => false,
        }
    }
}

fn by_name(fields: &[(Named, Value)]) -> Vec<&(Named, Value)> {
    let mut fields: Vec<_> = fields.iter().collect();
    fields.sort_by(|a, b| a.0.node.cmp(&b.0.node));
    fields
}

/// The names that stand in `names` before, each where it does so again.
pub(crate) fn again<'n>(names: impl Iterator<Item = &'n Named>) -> impl Iterator<Item = &'n Named> {
    let mut seen = HashSet::new();
    names.filter(move |name| !seen.insert(&name.node))
}

/// Whether both lists of arguments say the same, in whatever order.
pub(crate) fn same_arguments(a: &[Argument], b: &[Argument]) -> bool {
    a.len() == b.len()
        && a.iter().all(|in_a| {
            let mut others = b.iter();
            others.any(|in_b| in_a.name.node == in_b.name.node && in_a.value.means(&in_b.value))
        })
}
