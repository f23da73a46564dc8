//! Values to what resolvers are given: variables ("CoerceVariableValues()") and literals
//! ("Input Coercion" of each type).

use std::{cell::Cell, collections::HashMap, fmt::Write};

use async_graphql::{Name, Number, Pos, Value, Variables, indexmap::IndexMap};

use super::{
    language::ast::{self, ValueKind},
    types::{Input, InputDef, Kind, Scalar, Type, Types},
};

/// How many problems of its variables a request's answer lists.
const MAX_PROBLEMS: usize = 10;

/// How deep the values of variables may nest.
const MAX_VALUE_DEPTH: usize = 64;

/// Refuses variables that nest beyond what anything reads.
///
/// # Errors
/// A sentence for the client.
pub(super) fn check_depth(variables: &Variables) -> Result<(), String> {
    fn fits(value: &Value, depth: usize) -> bool {
        depth > 0
            && match value {
                Value::List(items) => items.iter().all(|item| fits(item, depth - 1)),
                Value::Object(fields) => fields.values().all(|field| fits(field, depth - 1)),
                _ => true,
            }
    }
    match variables.values().all(|value| fits(value, MAX_VALUE_DEPTH)) {
        true => Ok(()),
        false => Err(format!(
            "the variables are too deep: {MAX_VALUE_DEPTH} values inside one another are allowed"
        )),
    }
}

/// A variable of an operation.
#[derive(Debug)]
pub(super) struct Variable {
    pub(super) name: Name,
    pub(super) pos: Pos,
    pub(super) ty: Type,
    pub(super) default: Option<Value>,
    /// Whether `@skip` or `@include` asks for it. `null` says neither yes nor no, so it is refused
    /// there even where its type allows it.
    pub(super) decides: bool,
}

/// The variables of a request as resolvers get them. One that has neither a value nor a default is
/// not there, which is something else than `null`.
#[derive(Debug)]
pub(super) struct Coerced {
    values: HashMap<Name, (Value, usize)>,
    /// Bytes that may still be copied into arguments.
    left: Cell<usize>,
}

/// Bytes that a request's variables may take as arguments: each use is a copy, and an operation may
/// have a thousand of them.
const MAX_COPIED: usize = 4 << 20;

impl Default for Coerced {
    fn default() -> Self {
        Self {
            values: HashMap::new(),
            left: Cell::new(MAX_COPIED),
        }
    }
}

impl Coerced {
    pub(super) fn get(&self, name: &Name) -> Option<&Value> {
        self.values.get(name).map(|(value, _)| value)
    }

    fn insert(&mut self, name: &Name, value: Value) {
        let bytes = bytes_of(&value);
        self.values.insert(name.clone(), (value, bytes));
    }

    /// A copy of a variable's value, if it has one.
    fn copy(&self, name: &Name) -> Result<Option<Value>, NoArgument> {
        let Some((value, bytes)) = self.values.get(name) else {
            return Ok(None);
        };
        let left = self.left.get().checked_sub(*bytes);
        self.left.set(left.ok_or(NoArgument::TooLarge)?);
        Ok(Some(value.clone()))
    }
}

/// About as much as a value takes in memory.
fn bytes_of(value: &Value) -> usize {
    const NODE: usize = 64;
    NODE + match value {
        Value::String(text) => text.len(),
        Value::List(items) => items.iter().map(bytes_of).sum(),
        Value::Object(fields) => {
            let fields = fields.iter();
            fields
                .map(|(name, value)| name.len() + bytes_of(value))
                .sum()
        }
        _ => 0,
    }
}

/// What is wrong with a variable, and where it is defined.
#[derive(Debug, PartialEq)]
pub(super) struct WrongVariable {
    pub(super) message: String,
    pub(super) pos: Pos,
}

/// What `given` means for an operation with these `variables`.
///
/// # Errors
/// Each variable that is missing, or no value of its type. What was given is not repeated: it may be
/// a password.
pub(super) fn variables(
    types: &Types,
    variables: &[Variable],
    given: &mut Variables,
) -> Result<Coerced, Vec<WrongVariable>> {
    let mut coerced = Coerced::default();
    let mut wrong = Vec::new();
    for variable in variables {
        let Variable { name, pos, ty, .. } = variable;
        let mut refuse = |problem: std::fmt::Arguments<'_>| {
            if wrong.len() < MAX_PROBLEMS {
                let message = format!("Variable \"${name}\"{problem}");
                wrong.push(WrongVariable { message, pos: *pos });
            }
        };
        let shown = types.show(*ty);
        match given.remove(name) {
            None => match &variable.default {
                Some(default) => coerced.insert(name, default.clone()),
                None if ty.is_non_null() => {
                    refuse(format_args!(
                        " of required type \"{shown}\" was not provided."
                    ));
                }
                None => {}
            },
            Some(Value::Null) if ty.is_non_null() => {
                refuse(format_args!(
                    " of non-null type \"{shown}\" must not be null."
                ));
            }
            Some(Value::Null) if variable.decides => refuse(format_args!(
                " must not be null: @skip or @include asks whether it is true."
            )),
            Some(value) => {
                let mut reader = Reader {
                    types,
                    path: Vec::new(),
                    left: MAX_PROBLEMS,
                    refuse: &mut |path: &[Segment], problem| {
                        let mut at = name.to_string();
                        for segment in path {
                            // Writing to a String cannot fail.
                            let _ = match segment {
                                Segment::Field(field) => write!(at, ".{field}"),
                                Segment::Item(index) => write!(at, "[{index}]"),
                            };
                        }
                        match path.is_empty() {
                            true => refuse(format_args!(" got an invalid value: {problem}")),
                            false => {
                                refuse(format_args!(" got an invalid value at \"{at}\": {problem}"))
                            }
                        }
                    },
                };
                let value = reader.read(value, *ty);
                coerced.insert(name, value);
            }
        }
    }
    match wrong.is_empty() {
        true => Ok(coerced),
        false => Err(wrong),
    }
}

enum Segment {
    Field(Name),
    Item(usize),
}

/// Reads one variable's value.
struct Reader<'r> {
    types: &'r Types,
    path: Vec<Segment>,
    /// Problems that are still listed; without any left the rest is not looked at.
    left: usize,
    refuse: &'r mut dyn FnMut(&[Segment], String),
}

impl Reader<'_> {
    fn refuse(&mut self, problem: String) -> Value {
        self.left = self.left.saturating_sub(1);
        (self.refuse)(&self.path, problem);
        Value::Null
    }

    fn below<T>(&mut self, segment: Segment, read: impl FnOnce(&mut Self) -> T) -> T {
        self.path.push(segment);
        let read = read(self);
        self.path.pop();
        read
    }

    fn read(&mut self, value: Value, ty: Type) -> Value {
        if self.left == 0 {
            return Value::Null;
        }
        if value == Value::Null {
            return match ty.is_non_null() {
                true => {
                    let problem = format!("expected a \"{}\", found null.", self.types.show(ty));
                    self.refuse(problem)
                }
                false => Value::Null,
            };
        }
        if let Some(item) = ty.item() {
            let items = match value {
                Value::List(items) => items.into_iter().enumerate(),
                // One is as good as a list of one.
                single => return Value::List(vec![self.read(single, item)]),
            };
            let items = items
                .map(|(n, value)| self.below(Segment::Item(n), |reader| reader.read(value, item)));
            return Value::List(items.collect());
        }
        let def = self.types.get(ty.named);
        let found = kind_of(&value);
        let read = match &def.kind {
            Kind::Scalar(scalar) => scalar_of(scalar, value),
            Kind::Enum(names) => match value {
                Value::String(name) => match names.get(name.as_str()) {
                    Some(name) => Some(Value::Enum(name.clone())),
                    None => {
                        let problem = format!("it is no value of the enum \"{}\".", def.name);
                        return self.refuse(problem);
                    }
                },
                _ => None,
            },
            Kind::Input(input) => match value {
                Value::Object(fields) => return self.object(&def.name, input, fields),
                _ => None,
            },
            // Variables are of input types: validation has seen to that.
            _ => None,
        };
        read.unwrap_or_else(|| {
            let problem = format!("expected a \"{}\", found {found}.", def.name);
            self.refuse(problem)
        })
    }

    fn object(&mut self, name: &Name, input: &Input, mut given: IndexMap<Name, Value>) -> Value {
        let mut fields = IndexMap::with_capacity(given.len());
        let count = given.len();
        for (field, def) in &input.fields {
            match given.swap_remove(field) {
                Some(value) => {
                    let segment = Segment::Field(field.clone());
                    let one_of_null = input.one_of && value == Value::Null;
                    let value = self.below(segment, |reader| match one_of_null {
                        true => reader.refuse("it must not be null.".to_owned()),
                        false => reader.read(value, def.ty),
                    });
                    fields.insert(field.clone(), value);
                }
                None if def.is_required() => {
                    let ty = self.types.show(def.ty);
                    let problem = format!("the field \"{field}\" of type \"{ty}\" is missing.");
                    self.refuse(problem);
                }
                None => {}
            }
        }
        if let Some(unknown) = given.keys().next() {
            // A field's name is the client's word, and the only help there is.
            let unknown: String = unknown.chars().take(40).collect();
            self.refuse(format!("\"{name}\" has no field \"{unknown}\"."));
        } else if input.one_of && count != 1 {
            self.refuse(format!("exactly one field of \"{name}\" has to be given."));
        }
        Value::Object(fields)
    }
}

/// What sort of value a client sent, without what it says.
fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Boolean(_) => "a boolean",
        Value::List(_) => "a list",
        Value::Object(_) => "an object",
        Value::Enum(_) | Value::Binary(_) => "something else",
    }
}

/// The value of a scalar that JSON's `value` is, if it is one ("Input Coercion" of each scalar).
fn scalar_of(scalar: &Scalar, value: Value) -> Option<Value> {
    match (scalar, &value) {
        (Scalar::Int, Value::Number(number)) => {
            let whole = number.as_i64().or_else(|| {
                // JSON has one kind of number: 1.0 is as good as 1.
                let float = number.as_f64()?;
                (float.fract() == 0.0).then_some(float as i64)
            });
            let whole = i32::try_from(whole?).ok()?;
            Some(Value::Number(whole.into()))
        }
        (Scalar::Float, Value::Number(_))
        | (Scalar::String | Scalar::Id, Value::String(_))
        | (Scalar::Boolean, Value::Boolean(_)) => Some(value),
        (Scalar::Id, Value::Number(number)) => {
            (!number.is_f64()).then(|| Value::String(number.to_string()))
        }
        (Scalar::Custom(is_valid), _) => Types::takes(is_valid.as_ref(), &value).then_some(value),
        _ => None,
    }
}

/// Why a place of the operation gets no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoArgument {
    /// It cannot be `null` and would be given `null`, by a variable whose type allows it.
    Null,
    /// The variables are used too often for their size.
    TooLarge,
}

/// What a literal stands for at a place of type `ty`: `None` if it is a variable that is not there.
/// The literal is known to be a value of that type but for its variables.
///
/// # Errors
/// [`NoArgument`]. The type of a variable may allow `null`: "All Variable Usages Are Allowed" trusts
/// in the default of the place.
pub(super) fn literal(
    types: &Types,
    value: &ast::Value,
    ty: Type,
    variables: &Coerced,
) -> Result<Option<Value>, NoArgument> {
    let constant = match &value.kind {
        ValueKind::Variable(name) => match variables.get(name) {
            Some(Value::Null) if ty.is_non_null() => return Err(NoArgument::Null),
            // Its type is known to fit.
            _ => return variables.copy(name),
        },
        ValueKind::Null => match ty.is_non_null() {
            true => return Err(NoArgument::Null),
            false => return Ok(Some(Value::Null)),
        },
        _ => value,
    };
    if let Some(item) = ty.item() {
        let each = |value| match literal(types, value, item, variables)? {
            None if item.is_non_null() => Err(NoArgument::Null),
            // There is no list with a hole in it.
            None => Ok(Value::Null),
            Some(value) => Ok(value),
        };
        let items = match &constant.kind {
            ValueKind::List(items) => items.iter().map(each).collect::<Result<Vec<_>, _>>()?,
            _ => vec![each(constant)?],
        };
        return Ok(Some(Value::List(items)));
    }
    let read = match (&types.get(ty.named).kind, &constant.kind) {
        (Kind::Input(input), ValueKind::Object(given)) => {
            let mut fields = IndexMap::with_capacity(given.len());
            for (name, value) in given {
                let Some(def) = input.fields.get(&name.node) else {
                    continue;
                };
                match argument(types, value, def, variables)? {
                    // Exactly one is to be given, and this is the one.
                    Some(Value::Null) | None if input.one_of => return Err(NoArgument::Null),
                    Some(value) => {
                        fields.insert(name.node.clone(), value);
                    }
                    None => {}
                }
            }
            Value::Object(fields)
        }
        (Kind::Scalar(Scalar::Int), ValueKind::Int(digits)) => {
            Value::Number(digits.parse::<i32>().unwrap_or_default().into())
        }
        (Kind::Scalar(Scalar::Float), ValueKind::Int(digits) | ValueKind::Float(digits)) => {
            let float = digits.parse().ok().and_then(Number::from_f64);
            float.map_or(Value::Null, Value::Number)
        }
        (Kind::Scalar(Scalar::Id), ValueKind::Int(digits)) => Value::String(digits.to_string()),
        _ => plain(constant, variables)?,
    };
    Ok(Some(read))
}

/// The same for an argument or a field of an input object, which may have a default: `None` if
/// nothing is given there.
///
/// # Errors
/// [`NoArgument`], also when nothing is given and the place has no default.
pub(super) fn argument(
    types: &Types,
    value: &ast::Value,
    def: &InputDef,
    variables: &Coerced,
) -> Result<Option<Value>, NoArgument> {
    match literal(types, value, def.ty, variables)? {
        None if def.is_required() => Err(NoArgument::Null),
        value => Ok(value),
    }
}

/// A literal as it stands, for a type that does not say what is in it.
///
/// # Errors
/// [`NoArgument::TooLarge`].
pub(super) fn plain(value: &ast::Value, variables: &Coerced) -> Result<Value, NoArgument> {
    Ok(match &value.kind {
        ValueKind::Variable(name) => variables.copy(name)?.unwrap_or_default(),
        ValueKind::Null => Value::Null,
        // -0 is no integer to the reader of numbers.
        ValueKind::Int(digits) if digits.parse::<i64>() == Ok(0) => Value::Number(0.into()),
        ValueKind::Int(digits) | ValueKind::Float(digits) => {
            digits.parse::<Number>().map_or(Value::Null, Value::Number)
        }
        ValueKind::String(text) => Value::String(text.clone()),
        ValueKind::Boolean(boolean) => Value::Boolean(*boolean),
        ValueKind::Enum(name) => Value::Enum(name.clone()),
        ValueKind::List(items) => {
            let items = items.iter().map(|item| plain(item, variables));
            Value::List(items.collect::<Result<_, _>>()?)
        }
        ValueKind::Object(fields) => {
            let mut object = IndexMap::with_capacity(fields.len());
            for (name, value) in fields {
                let absent = match &value.kind {
                    ValueKind::Variable(name) => variables.get(name).is_none(),
                    _ => false,
                };
                if !absent {
                    object.insert(name.node.clone(), plain(value, variables)?);
                }
            }
            Value::Object(object)
        }
    })
}
