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
    allowance::{Allowance, Beyond},
    answer::{Failed, Node, Shape},
    coerce::{self, Coerced, NoArgument},
    collect::{Plan, Waiting, WaitingArgument, library_argument, type_of_object},
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
    /// What it may still cost.
    pub(super) allowance: Arc<Allowance>,
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
    beyond: &Beyond,
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
    within(limits, &plan, operation, beyond).map_err(|error| vec![error])?;
    let mut selections = plan.selections.clone();
    let failed = fill(types, &plan, operation, &variables, &mut selections)
        .map_err(|too_large| vec![too_large])?;
    // A subscription whose field is not executed has no stream whose events could say so.
    let root = plan.answer.roots().first();
    if operation.ty == OperationType::Subscription
        && let Some(error) = root.and_then(|root| failed.get(&root.id))
    {
        return Err(vec![error.clone()]);
    }
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
    let allowance = Arc::new(Allowance::new(
        limits,
        operation.ty,
        plan.size.repeats,
        beyond,
    ));
    request.data.insert(Arc::clone(&allowance));
    Ok(Prepared {
        plan,
        failed,
        allowance,
    })
}

fn no_operation(name: Option<&str>) -> ServerError {
    let problem = match name {
        Some(name) => format!("Unknown operation named \"{name}\"."),
        None => "Must provide operation name if query contains multiple operations.".to_owned(),
    };
    Code::OperationResolution.error(problem, None)
}

/// Whether an operation is within `limits`.
fn within(
    limits: &Limits,
    plan: &Plan,
    operation: &Operation,
    beyond: &Beyond,
) -> Result<(), ServerError> {
    let size = &plan.size;
    let roots = plan.answer.roots().len();
    let (limit, problem) = if size.introspects && !limits.introspection {
        let problem = "Introspection is turned off: graphql.introspection.".to_owned();
        ("introspection", problem)
    } else if size.depth > limits.max_depth {
        let problem = format!(
            "The operation is too deep: its fields nest {} deep, graphql.max_depth is {}.",
            size.depth, limits.max_depth
        );
        ("max_depth", problem)
    } else if size.fields > limits.max_complexity {
        let problem = format!(
            "The operation is too complex: it asks for {} fields, graphql.max_complexity is {}.",
            size.fields, limits.max_complexity
        );
        ("max_complexity", problem)
    } else if roots > limits.max_root_fields {
        let problem = format!(
            "The operation is too wide: it asks for {roots} fields of its root, graphql.max_root_fields is {}.",
            limits.max_root_fields
        );
        ("max_root_fields", problem)
    } else if size.aliases > limits.max_aliases {
        let problem = format!(
            "The operation renames too many fields: it has {} aliases, graphql.max_aliases is {}.",
            size.aliases, limits.max_aliases
        );
        ("max_aliases", problem)
    } else if operation.ty == OperationType::Subscription && plan.answer.roots().is_empty() {
        let problem = "The subscription asks for nothing: its field is skipped.".to_owned();
        return Err(Code::BadUserInput.error(problem, None));
    } else {
        return Ok(());
    };
    beyond.count(limit);
    Err(Code::ValidationFailed.error(problem, None))
}

/// Fills in what waits for variables. A field whose argument has no value is taken out; so are its
/// siblings where it cannot be `null`, because then its object is, and no resolver needs to be called
/// for it. (Mutations before it have to be done: they stand in order.)
///
/// # Errors
/// When the variables are too large for their number of uses.
fn fill(
    types: &Types,
    plan: &Plan,
    operation: &Operation,
    variables: &Coerced,
    selections: &mut SelectionSet,
) -> Result<Failed, ServerError> {
    let mut failed = Failed::new();
    let mut removals: Vec<&Waiting> = Vec::new();
    for waiting in &plan.waiting {
        if let Err((argument, no_argument)) = arguments(types, waiting, variables, selections) {
            let error = no_value(types, argument, no_argument);
            if no_argument == NoArgument::TooLarge {
                return Err(error);
            }
            failed.insert(waiting.node, error);
            removals.push(waiting);
        }
    }
    // From the last to the first, so that the places before stay what they are.
    for waiting in removals.into_iter().rev() {
        let Some((index, around)) = waiting.path.split_last() else {
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
        match (waiting.nullable, in_order) {
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
    Ok(failed)
}

/// Fills in the arguments of one field.
///
/// # Errors
/// The first argument that has no value.
fn arguments<'w>(
    types: &Types,
    waiting: &'w Waiting,
    variables: &Coerced,
    selections: &mut SelectionSet,
) -> Result<(), (&'w WaitingArgument, NoArgument)> {
    let Some((index, around)) = waiting.path.split_last() else {
        return Ok(());
    };
    let items = set_at(selections, around).map(|set| &mut set.items);
    let item = items.and_then(|items| items.get_mut(*index));
    let Some(Selection::Field(field)) = item.map(|item| &mut item.node) else {
        return Ok(());
    };
    let value_of = |waiting: &'w WaitingArgument| {
        let WaitingArgument { argument, def } = waiting;
        let value = coerce::argument(types, &argument.value, def, variables);
        let value = value.map_err(|no_argument| (waiting, no_argument))?;
        Ok(value.map(|value| library_argument(argument, value)))
    };
    for waiting in &waiting.arguments {
        field.node.arguments.extend(value_of(waiting)?);
    }
    for (directive, waiting) in &waiting.directives {
        if let Some(directive) = field.node.directives.get_mut(*directive) {
            directive.node.arguments.extend(value_of(waiting)?);
        }
    }
    Ok(())
}

/// The error for an argument without a value.
fn no_value(types: &Types, waiting: &WaitingArgument, no_argument: NoArgument) -> ServerError {
    let WaitingArgument { argument, def } = waiting;
    let name = &argument.name.node;
    let problem = match no_argument {
        NoArgument::Null => format!(
            "Argument \"{name}\" of type \"{}\" has null where it must not be null.",
            types.show(def.ty)
        ),
        NoArgument::TooLarge => "The variables are used too often for their size.".to_owned(),
    };
    Code::BadUserInput.error(problem, Some(argument.value.pos))
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
