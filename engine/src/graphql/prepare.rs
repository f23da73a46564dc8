//! What happens to an operation before the schema runs it: its variables are coerced, the fields it
//! asks for collected, and what is handed over is an operation in which nothing is left to decide
//! (section 6.1 and 6.3.2 of the specification).

use std::sync::Arc;

use async_graphql::{
    Positioned, Request, ServerError,
    parser::types::{
        DocumentOperations, ExecutableDocument, OperationDefinition, OperationType, Selection,
        SelectionSet,
    },
};

use super::{
    Limits,
    answer::{Failed, Node, Shape},
    coerce::{self, Coerced},
    collect::{Open, OpenArgument, Plan, library_argument, type_of_object},
    documents::{Document, Documents, Operation},
    error::Code,
    types::Types,
};

/// An operation that is being executed: what its answer looks like.
#[derive(Debug)]
pub(super) struct Prepared {
    plan: Arc<Plan>,
    /// Fields that are not executed because an argument of theirs has no value.
    pub(super) failed: Failed,
}

impl Prepared {
    pub(super) fn answer(&self) -> &Shape {
        &self.plan.answer
    }

    /// The fields of the root, in the order they are answered.
    pub(super) fn roots(&self) -> &[Node] {
        self.plan.answer.roots()
    }
}

/// Makes `request` execute what it asks of `document` within `limits`.
///
/// # Errors
/// Request errors: nothing of the operation runs.
pub(super) fn prepare(
    request: &mut Request,
    documents: &Documents,
    document: &Document,
    limits: &Limits,
) -> Result<Prepared, Vec<ServerError>> {
    let analysed = document.analysed.as_ref();
    if let Err(refusal) = analysed {
        return Err(refusal.errors(limits.introspection));
    }
    let name = request.operation_name.take();
    let operation = document.operation(name.as_deref());
    let operation = operation.ok_or_else(|| vec![no_operation(name.as_deref())])?;
    coerce::check_depth(&request.variables)
        .map_err(|problem| vec![Code::BadUserInput.error(problem, None)])?;
    let types = documents.types();
    let variables = coerce::variables(types, &operation.variables, &mut request.variables)
        .map_err(|wrong| {
            let errors = wrong.into_iter();
            let errors =
                errors.map(|wrong| Code::BadUserInput.error(wrong.message, Some(wrong.pos)));
            errors.collect::<Vec<_>>()
        })?;
    request.variables = Default::default();
    let plan = operation
        .plan(documents, &variables)
        .map_err(|too_large| vec![Code::ValidationFailed.error(too_large.to_string(), None)])?;
    within(limits, &plan, operation).map_err(|error| vec![error])?;
    let mut selections = plan.selections.clone();
    let failed = fill(types, &plan, operation, &variables, &mut selections);
    request.set_parsed_query(ExecutableDocument {
        operations: DocumentOperations::Single(Positioned::new(
            OperationDefinition {
                ty: operation.ty,
                variable_definitions: Vec::new(),
                directives: Vec::new(),
                selection_set: Positioned::new(selections, Default::default()),
            },
            Default::default(),
        )),
        fragments: Default::default(),
    });
    Ok(Prepared { plan, failed })
}

fn no_operation(name: Option<&str>) -> ServerError {
    let problem = match name {
        Some(name) => format!("Unknown operation named \"{name}\"."),
        None => "Must provide operation name if query contains multiple operations.".to_owned(),
    };
    Code::OperationResolution.error(problem, None)
}

/// Whether an operation is within `limits`.
fn within(limits: &Limits, plan: &Plan, operation: &Operation) -> Result<(), ServerError> {
    let size = &plan.size;
    let problem = if size.introspects && !limits.introspection {
        "Introspection is turned off: graphql.introspection.".to_owned()
    } else if size.depth > limits.max_depth {
        format!(
            "The operation is too deep: its fields nest {} deep, graphql.max_depth is {}.",
            size.depth, limits.max_depth
        )
    } else if size.fields > limits.max_complexity {
        format!(
            "The operation is too complex: it asks for {} fields, graphql.max_complexity is {}.",
            size.fields, limits.max_complexity
        )
    } else if operation.ty == OperationType::Subscription && plan.answer.roots().is_empty() {
        let problem = "The subscription asks for nothing: its field is skipped.".to_owned();
        return Err(Code::BadUserInput.error(problem, None));
    } else {
        return Ok(());
    };
    Err(Code::ValidationFailed.error(problem, None))
}

/// Fills in what waits for variables. A field whose argument has no value is taken out; so are its
/// siblings where it cannot be `null`, because then its object is, and nobody needs to be called for
/// it. (Mutations before it have to be done: they stand in order.)
fn fill(
    types: &Types,
    plan: &Plan,
    operation: &Operation,
    variables: &Coerced,
    selections: &mut SelectionSet,
) -> Failed {
    let mut failed = Failed::new();
    let mut removals: Vec<(&Open, bool)> = Vec::new();
    for open in &plan.open {
        match arguments(types, open, variables, selections) {
            Ok(()) => {}
            Err(error) => {
                failed.insert(open.node, error);
                removals.push((open, open.nullable));
            }
        }
    }
    // From the last to the first, so that the places before stay what they are.
    for (open, nullable) in removals.into_iter().rev() {
        let Some((index, around)) = open.path.split_last() else {
            continue;
        };
        let Some(siblings) = set_at(selections, around) else {
            continue;
        };
        let pos = siblings
            .items
            .first()
            .map(|item| item.pos)
            .unwrap_or_default();
        let in_order = around.is_empty() && operation.ty == OperationType::Mutation;
        match (nullable, in_order) {
            // A sibling may have taken it out already.
            (true, _) if *index >= siblings.items.len() => {}
            (true, _) => drop(siblings.items.remove(*index)),
            (false, true) => siblings.items.truncate(*index),
            (false, false) => siblings.items.clear(),
        }
        if siblings.items.is_empty() {
            siblings.items.push(type_of_object(pos));
        }
    }
    failed
}

/// Fills in the arguments of one field.
fn arguments(
    types: &Types,
    open: &Open,
    variables: &Coerced,
    selections: &mut SelectionSet,
) -> Result<(), ServerError> {
    let Some((index, around)) = open.path.split_last() else {
        return Ok(());
    };
    let items = set_at(selections, around).map(|set| &mut set.items);
    let Some(Selection::Field(field)) = items
        .and_then(|items| items.get_mut(*index))
        .map(|item| &mut item.node)
    else {
        return Ok(());
    };
    for waiting in &open.arguments {
        if let Some(value) = value_of(types, waiting, variables)? {
            let argument = library_argument(&waiting.argument, value);
            field.node.arguments.push(argument);
        }
    }
    for (directive, waiting) in &open.directives {
        if let Some(value) = value_of(types, waiting, variables)?
            && let Some(directive) = field.node.directives.get_mut(*directive)
        {
            let argument = library_argument(&waiting.argument, value);
            directive.node.arguments.push(argument);
        }
    }
    Ok(())
}

fn value_of(
    types: &Types,
    waiting: &OpenArgument,
    variables: &Coerced,
) -> Result<Option<async_graphql::Value>, ServerError> {
    let OpenArgument { argument, def } = waiting;
    coerce::open(types, &argument.value, def, variables).map_err(|coerce::NullForNonNull| {
        let ty = types.show(def.ty);
        let name = &argument.name.node;
        let problem =
            format!("Argument \"{name}\" of type \"{ty}\" has null where it must not be null.");
        Code::BadUserInput.error(problem, Some(argument.value.pos))
    })
}

/// The selection at `path`.
fn set_at<'s>(selections: &'s mut SelectionSet, path: &[usize]) -> Option<&'s mut SelectionSet> {
    path.iter().try_fold(selections, |set, index| {
        Some(match &mut set.items.get_mut(*index)?.node {
            Selection::Field(field) => &mut field.node.selection_set.node,
            Selection::InlineFragment(inline) => &mut inline.node.selection_set.node,
            Selection::FragmentSpread(_) => return None,
        })
    })
}
