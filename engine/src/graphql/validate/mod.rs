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

use async_graphql::{Name, Pos};

use super::{
    language::ast::{Document, SelectionSet},
    types::{Type, Types},
};

/// Problems that one document is told of. Who writes by hand mends the first ones first; who sends
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
        if self.0.len() == MAX_PROBLEMS {
            return;
        }
        let known = known.into_iter().filter(|known| !known.starts_with("__"));
        let near = known
            .map(|known| (strsim::osa_distance(name, known), known))
            .filter(|(distance, known)| *distance <= known.len() * 2 / 5 + 1)
            .min();
        self.push(Problem {
            message,
            nearest: near.map(|(_, known)| known.to_owned()),
            at: vec![at],
        });
    }

    fn push(&mut self, problem: Problem) {
        if self.0.len() < MAX_PROBLEMS {
            self.0.push(problem);
        }
    }
}

/// A variable where it is used.
struct Use<'d> {
    name: &'d Name,
    pos: Pos,
    /// The type of the place and whether it has a default; `None` where anything may stand.
    place: Option<(Type, bool)>,
    /// Whether it stands in a field of an input object of which exactly one is given.
    in_one_of: bool,
}

/// What an operation or a fragment names.
#[derive(Default)]
struct Uses<'d> {
    variables: Vec<Use<'d>>,
    /// Fragments by index, and where they are spread.
    spreads: Vec<(usize, Pos)>,
}

/// Whether `document` can be executed. `size` is what it may still have of selections, with its
/// fragments written out.
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

/// Each selection set of `document`, with the name of the type that it is of.
fn roots<'d>(
    types: &'d Types,
    document: &'d Document,
) -> impl Iterator<Item = (super::types::TypeId, &'d SelectionSet)> {
    let operations = document.operations.iter();
    operations.filter_map(|operation| {
        let root = types.root(operation.kind)?;
        Some((root, &operation.selections))
    })
}
