//! The owner's types in a form that is quick to ask: ids for names, bits for lists and exclamation
//! marks. It is read from the library's registry once, when the program starts.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::Arc,
};

use async_graphql::{
    Name, Value,
    indexmap::IndexMap,
    parser::types::OperationType,
    registry::{self, MetaInputValue, MetaType, MetaTypeName, Registry},
};

use super::language::ast::TypeName;

/// A named type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct TypeId(u32);

/// A type with its lists and exclamation marks, such as `[Product!]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Type {
    /// What it is in the end.
    pub(super) named: TypeId,
    /// What is around it, the outermost in the lowest bit: a list is 0, non-null is 1.
    wraps: u64,
    count: u8,
}

/// As many lists and exclamation marks as fit.
const MAX_WRAPS: u8 = 64;

impl Type {
    /// `named` without anything around it.
    pub(super) fn of(named: TypeId) -> Self {
        Self {
            named,
            wraps: 0,
            count: 0,
        }
    }

    fn wrapped(self, bit: u64) -> Option<Self> {
        (self.count < MAX_WRAPS).then(|| Self {
            named: self.named,
            wraps: self.wraps << 1 | bit,
            count: self.count + 1,
        })
    }

    fn outermost(self) -> Option<u64> {
        (self.count > 0).then_some(self.wraps & 1)
    }

    fn unwrapped(self) -> Self {
        Self {
            named: self.named,
            wraps: self.wraps >> 1,
            count: self.count - 1,
        }
    }

    /// Whether it cannot be `null`.
    pub(super) fn is_non_null(self) -> bool {
        self.outermost() == Some(1)
    }

    /// The same, but that it can be `null`.
    pub(super) fn nullable(self) -> Self {
        match self.is_non_null() {
            true => self.unwrapped(),
            false => self,
        }
    }

    /// What a list of this type has in it, whether or not the list can be `null`.
    pub(super) fn item(self) -> Option<Self> {
        let list = self.nullable();
        (list.outermost() == Some(0)).then(|| list.unwrapped())
    }

    /// The type that the registry prints as `text`.
    fn parse(text: &str, by_name: &HashMap<Name, TypeId>) -> Option<Self> {
        match MetaTypeName::create(text) {
            MetaTypeName::Named(name) => by_name.get(name).copied().map(Self::of),
            MetaTypeName::List(inner) => Self::parse(inner, by_name)?.wrapped(0),
            MetaTypeName::NonNull(inner) => Self::parse(inner, by_name)?.wrapped(1),
        }
    }

    /// Whether a value of this type can stand where `wanted` is ("AreTypesCompatible()").
    pub(super) fn fits(self, wanted: Self) -> bool {
        if wanted.is_non_null() {
            return self.is_non_null() && self.nullable().fits(wanted.nullable());
        }
        let this = self.nullable();
        match (this.item(), wanted.item()) {
            (Some(this), Some(wanted)) => this.fits(wanted),
            (None, None) => this.named == wanted.named,
            _ => false,
        }
    }
}

/// A set of object types.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct TypeSet(Box<[u64]>);

impl TypeSet {
    fn empty(types: usize) -> Self {
        Self(vec![0; types.div_ceil(64)].into())
    }

    fn insert(&mut self, id: TypeId) {
        self.0[id.0 as usize / 64] |= 1 << (id.0 % 64);
    }

    pub(super) fn contains(&self, id: TypeId) -> bool {
        self.0[id.0 as usize / 64] >> (id.0 % 64) & 1 == 1
    }

    /// Those in both; `None` if there is none.
    pub(super) fn and(&self, other: &Self) -> Option<Self> {
        let both = self.0.iter().zip(&other.0).map(|(a, b)| a & b);
        let both: Box<[u64]> = both.collect();
        both.iter().any(|word| *word != 0).then_some(Self(both))
    }

    /// Whether all of `other` are in it.
    pub(super) fn covers(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).all(|(a, b)| a & b == *b)
    }

    /// Each of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = TypeId> + '_ {
        let words = self.0.iter().zip(0..);
        words.flat_map(|(word, n)| {
            let bits = (0..64).filter(move |bit| word >> bit & 1 == 1);
            bits.map(move |bit| TypeId(n * 64 + bit))
        })
    }
}

/// A named type as the schema defines it.
pub(super) struct TypeDef {
    pub(super) name: Name,
    pub(super) kind: Kind,
    /// The objects that a value of an object, an interface or a union can be.
    pub(super) possible: TypeSet,
}

pub(super) enum Kind {
    Scalar(Scalar),
    Enum(HashSet<Name>),
    Input(Input),
    Object(IndexMap<Name, FieldDef>),
    Interface(IndexMap<Name, FieldDef>),
    Union,
}

/// How a scalar's values are recognised.
pub(super) enum Scalar {
    Int,
    Float,
    String,
    Boolean,
    Id,
    /// The owner's own, with what tells its values, if anything does.
    Custom(Option<registry::ScalarValidatorFn>),
}

pub(super) struct Input {
    pub(super) fields: IndexMap<Name, InputDef>,
    /// Whether exactly one of the fields has to be given.
    pub(super) one_of: bool,
}

/// A field of an object or an interface.
pub(super) struct FieldDef {
    pub(super) ty: Type,
    pub(super) arguments: IndexMap<Name, InputDef>,
}

/// An argument or a field of an input object.
#[derive(Clone, Copy, Debug)]
pub(super) struct InputDef {
    pub(super) ty: Type,
    /// What stands for it where nothing is given is the library's affair; here it only matters
    /// whether anything does.
    pub(super) has_default: bool,
}

impl InputDef {
    /// Whether it has to be given.
    pub(super) fn is_required(&self) -> bool {
        self.ty.is_non_null() && !self.has_default
    }
}

/// A directive for executable documents.
pub(super) struct DirectiveDef {
    /// Where it may stand, as the specification spells it.
    pub(super) locations: HashSet<String>,
    pub(super) repeatable: bool,
    pub(super) arguments: IndexMap<Name, InputDef>,
}

/// All types of a schema.
pub(crate) struct Types {
    by_name: HashMap<Name, TypeId>,
    types: Vec<TypeDef>,
    /// Those for executable documents.
    pub(super) directives: HashMap<Name, DirectiveDef>,
    roots: [Option<TypeId>; 3],
    /// `__typename`, which every object has and none lists.
    typename: FieldDef,
}

impl Types {
    /// The types of `registry`. One that another type names and the registry does not have, which
    /// would be a fault of the library, is as if it were not named.
    pub(super) fn of(registry: &Registry) -> Arc<Self> {
        let ids = (0..).map(TypeId);
        let names = registry.types.keys().map(Name::new);
        let by_name: HashMap<_, _> = names.zip(ids).collect();
        let inputs = |all: &IndexMap<String, MetaInputValue>| {
            let inputs = all.values().filter_map(|input| {
                let def = InputDef {
                    ty: Type::parse(&input.ty, &by_name)?,
                    has_default: input.default_value.is_some(),
                };
                Some((Name::new(&input.name), def))
            });
            inputs.collect::<IndexMap<_, _>>()
        };
        let fields = |all: &IndexMap<String, registry::MetaField>| {
            let fields = all.values().filter_map(|field| {
                let def = FieldDef {
                    ty: Type::parse(&field.ty, &by_name)?,
                    arguments: inputs(&field.args),
                };
                Some((Name::new(&field.name), def))
            });
            fields.collect::<IndexMap<_, _>>()
        };
        let set = |names: &mut dyn Iterator<Item = &String>| {
            let mut set = TypeSet::empty(by_name.len());
            let is_object =
                |name: &String| matches!(registry.types.get(name), Some(MetaType::Object { .. }));
            // The library lists an interface among those that another one can be.
            let objects = names.filter(|name| is_object(name));
            let known = objects.filter_map(|name| by_name.get(name.as_str()));
            known.for_each(|id| set.insert(*id));
            set
        };
        let types = registry.types.iter().map(|(name, meta)| {
            let (kind, possible) = match meta {
                MetaType::Scalar { is_valid, .. } => {
                    let scalar = match name.as_str() {
                        "Int" => Scalar::Int,
                        "Float" => Scalar::Float,
                        "String" => Scalar::String,
                        "Boolean" => Scalar::Boolean,
                        "ID" => Scalar::Id,
                        _ => Scalar::Custom(is_valid.clone()),
                    };
                    (Kind::Scalar(scalar), set(&mut std::iter::empty()))
                }
                MetaType::Enum { enum_values, .. } => {
                    let names = enum_values.keys().map(Name::new).collect();
                    (Kind::Enum(names), set(&mut std::iter::empty()))
                }
                MetaType::InputObject {
                    input_fields,
                    oneof,
                    ..
                } => {
                    let fields = inputs(input_fields);
                    let one_of = *oneof;
                    let input = Input { fields, one_of };
                    (Kind::Input(input), set(&mut std::iter::empty()))
                }
                MetaType::Object { fields: all, .. } => {
                    (Kind::Object(fields(all)), set(&mut std::iter::once(name)))
                }
                MetaType::Interface {
                    fields: all,
                    possible_types,
                    ..
                } => (
                    Kind::Interface(fields(all)),
                    set(&mut possible_types.iter()),
                ),
                MetaType::Union { possible_types, .. } => {
                    (Kind::Union, set(&mut possible_types.iter()))
                }
            };
            let name = Name::new(name);
            TypeDef {
                name,
                kind,
                possible,
            }
        });
        let types = types.collect();
        let directives = registry.directives.values().map(|directive| {
            let locations = directive.locations.iter();
            let def = DirectiveDef {
                locations: locations.map(|at| format!("{at:?}")).collect(),
                repeatable: directive.is_repeatable,
                arguments: inputs(&directive.args),
            };
            (Name::new(&directive.name), def)
        });
        let directives = directives.collect();
        let id = |name: Option<&String>| by_name.get(name?.as_str()).copied();
        let roots = [
            id(Some(&registry.query_type)),
            id(registry.mutation_type.as_ref()),
            id(registry.subscription_type.as_ref()),
        ];
        let string = by_name.get("String").copied().map(Type::of);
        let typename = string.and_then(|string| string.wrapped(1));
        let typename = FieldDef {
            // Every registry has `String`.
            ty: typename.unwrap_or(Type::of(TypeId(0))),
            arguments: IndexMap::new(),
        };
        Arc::new(Self {
            by_name,
            types,
            directives,
            roots,
            typename,
        })
    }

    pub(super) fn get(&self, id: TypeId) -> &TypeDef {
        &self.types[id.0 as usize]
    }

    /// The type called `name`.
    pub(super) fn named(&self, name: &str) -> Option<TypeId> {
        self.by_name.get(name).copied()
    }

    /// Every type's name.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.types.iter().map(|def| def.name.as_str())
    }

    /// The type that operations of this kind start from.
    pub(super) fn root(&self, kind: OperationType) -> Option<TypeId> {
        match kind {
            OperationType::Query => self.roots[0],
            OperationType::Mutation => self.roots[1],
            OperationType::Subscription => self.roots[2],
        }
    }

    /// The type that a variable's definition names.
    pub(super) fn of_variable(&self, name: &TypeName) -> Option<Type> {
        match name {
            TypeName::Named(named) => self.named(&named.node).map(Type::of),
            TypeName::List(inner) => self.of_variable(inner)?.wrapped(0),
            TypeName::NonNull(inner) => self.of_variable(inner)?.wrapped(1),
        }
    }

    /// The fields of `id`, if it is an object or an interface.
    pub(super) fn fields(&self, id: TypeId) -> Option<&IndexMap<Name, FieldDef>> {
        match &self.get(id).kind {
            Kind::Object(fields) | Kind::Interface(fields) => Some(fields),
            _ => None,
        }
    }

    /// The field `name` of `id`, which may be `__typename`.
    pub(super) fn field(&self, id: TypeId, name: &str) -> Option<&FieldDef> {
        match name {
            "__typename" if self.is_composite(id) => Some(&self.typename),
            _ => self.fields(id)?.get(name),
        }
    }

    /// Whether fields are selected of it.
    pub(super) fn is_composite(&self, id: TypeId) -> bool {
        let kind = &self.get(id).kind;
        matches!(kind, Kind::Object(_) | Kind::Interface(_) | Kind::Union)
    }

    pub(super) fn is_object(&self, id: TypeId) -> bool {
        matches!(self.get(id).kind, Kind::Object(_))
    }

    /// Whether an interface or a union can be this object.
    pub(super) fn is_in_abstract(&self, object: TypeId) -> bool {
        let abstracts = self.types.iter();
        let mut abstracts =
            abstracts.filter(|def| matches!(def.kind, Kind::Interface(_) | Kind::Union));
        abstracts.any(|def| def.possible.contains(object))
    }

    /// Whether a variable can be of it.
    pub(super) fn is_input(&self, id: TypeId) -> bool {
        !self.is_composite(id)
    }

    /// Whether `value` is one that the owner's scalar takes; `true` also where nothing tells.
    pub(super) fn takes(is_valid: Option<&registry::ScalarValidatorFn>, value: &Value) -> bool {
        is_valid.is_none_or(|is_valid| is_valid(value))
    }

    /// The type as the schema writes it.
    pub(super) fn show(&self, ty: Type) -> impl fmt::Display + '_ {
        Shown { types: self, ty }
    }
}

impl fmt::Debug for Types {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.names()).finish()
    }
}

struct Shown<'t> {
    types: &'t Types,
    ty: Type,
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = |ty| self.types.show(ty);
        match self.ty.outermost() {
            None => f.write_str(&self.types.get(self.ty.named).name),
            Some(0) => write!(f, "[{}]", inner(self.ty.unwrapped())),
            Some(_) => write!(f, "{}!", inner(self.ty.unwrapped())),
        }
    }
}
