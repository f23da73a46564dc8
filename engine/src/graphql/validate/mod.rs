//! Whether a document can be executed against the schema: all of "Validation", section 5 of the
//! specification, each rule by the number that it has there.
//!
//! The library has such rules too. Ours are here because theirs leave out whole sections (5.8.5, most
//! of 5.3.2, `__typename`, what stands in literals beside a variable), and because what follows takes
//! a valid document for granted.

mod definitions;
mod merge;
mod selections;
mod values;

use std::collections::HashSet;

use async_graphql::{Name, Pos};

use super::{
    language::ast::{Document, Value},
    types::{Type, Types},
};

/// How many problems of a document its answer lists. Who writes by hand mends the first ones first; who sends
/// a thousand wrong fields wants an answer of a megabyte.
const MAX_PROBLEMS: usize = 20;

/// What is wrong with a document.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Problem {
    pub(super) message: String,
    /// A name of the schema that may have been meant: not for those who may not see the schema.
    pub(super) nearest: Option<String>,
    pub(super) at: Vec<Pos>,
}

/// All that is wrong with a document, up to a point.
#[derive(Debug, Default)]
pub(super) struct Problems(Vec<Problem>);

impl Problems {
    fn add(&mut self, at: Pos, message: impl Into<String>) {
        self.push(Problem {
            message: message.into(),
            nearest: None,
            at: vec![at],
        });
    }

    /// The same for a name that the schema does not have, with the one of `known` that is like it.
    fn unknown<'n>(
        &mut self,
        at: Pos,
        message: String,
        name: &str,
        known: impl IntoIterator<Item = &'n str>,
    ) {
        if self.is_full() {
            return;
        }
        let most = |known: &str| known.len() * 2 / 5 + 1;
        let near = known
            .into_iter()
            .filter(|known| !known.starts_with("__"))
            // No distance is below that of the lengths; measuring it costs their product.
            .filter(|known| known.len().abs_diff(name.len()) <= most(known))
            .map(|known| (strsim::osa_distance(name, known), known))
            .filter(|(distance, known)| *distance <= most(known))
            .min();
        self.push(Problem {
            message,
            nearest: near.map(|(_, known)| known.to_owned()),
            at: vec![at],
        });
    }

    /// Whether no further one is listed.
    fn is_full(&self) -> bool {
        self.0.len() == MAX_PROBLEMS
    }

    fn push(&mut self, problem: Problem) {
        if !self.is_full() {
            self.0.push(problem);
        }
    }
}

/// Where a value stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Place {
    ty: Type,
    has_default: bool,
    /// Whether it is a field of an input object of which exactly one is given.
    in_one_of: bool,
}

impl Place {
    /// One of this type that nothing stands for.
    fn of(ty: Type) -> Self {
        Self {
            ty,
            has_default: false,
            in_one_of: false,
        }
    }
}

/// A variable where it is used.
struct Use<'d> {
    name: &'d Name,
    pos: Pos,
    /// `None` where anything may stand.
    place: Option<Place>,
}

/// What an operation or a fragment names.
#[derive(Default)]
struct Uses<'d> {
    /// One use of each variable for each kind of place.
    variables: Vec<Use<'d>>,
    known: HashSet<(&'d Name, Option<Place>)>,
    /// Fragments by index, and where they are spread.
    spreads: Vec<(usize, Pos)>,
}

impl<'d> Uses<'d> {
    fn note(&mut self, name: &'d Name, pos: Pos, place: Option<Place>) {
        if self.known.insert((name, place)) {
            self.variables.push(Use { name, pos, place });
        }
    }

    /// Notes the variables in a value of which nothing is known.
    fn note_all(&mut self, value: &'d Value) {
        value.each_variable(&mut |name, pos| self.note(name, pos, None));
    }
}

/// Whether `document` can be executed.
///
/// # Errors
/// The problems, at least one.
pub(super) fn validate(types: &Types, document: &Document) -> Result<(), Vec<Problem>> {
    let mut problems = Problems::default();
    let (operations, fragments) = selections::check(types, document, &mut problems);
    definitions::check(types, document, &operations, &fragments, &mut problems);
    // Only what is right so far can be written out.
    if problems.0.is_empty() {
        merge::check(types, document, &mut problems);
    }
    match problems.0.is_empty() {
        true => Ok(()),
        false => Err(problems.0),
    }
}
