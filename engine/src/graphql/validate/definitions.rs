//! What operations, fragments and variables have to do with each other: 5.2, 5.5.1.1, 5.5.1.4,
//! 5.5.2.2 and 5.8.

use std::collections::{HashMap, HashSet};

use async_graphql::{Name, Pos, parser::types::OperationType};

use super::{Place, Problem, Problems, Use, Uses, values};
use crate::graphql::{
    language::ast::{
        Directive, Document, Named, Operation, Selection, SelectionSet, ValueKind, again,
    },
    types::Types,
};

pub(super) fn check<'d>(
    types: &Types,
    document: &'d Document,
    operations: &[Uses<'d>],
    fragments: &[Uses<'d>],
    problems: &mut Problems,
) {
    // 5.2.1.1 "Operation Name Uniqueness"
    let names = document.operations.iter();
    let names = names.filter_map(|operation| operation.name.as_ref());
    unique(names, "operation", problems);
    // 5.2.2.1 "Lone Anonymous Operation"
    for operation in &document.operations {
        if operation.name.is_none() && document.operations.len() > 1 {
            let message = "This anonymous operation must be the only defined operation.";
            problems.add(operation.pos, message);
        }
    }
    // 5.5.1.1 "Fragment Name Uniqueness"
    let names = document.fragments.iter().map(|fragment| &fragment.name);
    unique(names, "fragment", problems);
    cycles(document, fragments, problems);
    let mut used = vec![false; document.fragments.len()];
    for (operation, uses) in document.operations.iter().zip(operations) {
        let reached = reached(uses, fragments);
        for (index, reached) in reached.iter().enumerate() {
            used[index] |= reached;
        }
        let all = fragments.iter().zip(&reached);
        let of_fragments = all.filter(|(_, reached)| **reached).map(|(uses, _)| uses);
        let all = std::iter::once(uses).chain(of_fragments);
        let uses: Vec<_> = all.flat_map(|uses| &uses.variables).collect();
        variables(types, operation, &uses, problems);
        if operation.kind == OperationType::Subscription {
            single_root(document, operation, problems);
        }
    }
    // 5.5.1.4 "Fragments Must Be Used"
    for (fragment, used) in document.fragments.iter().zip(used) {
        if !used {
            let message = format!("Fragment \"{}\" is never used.", fragment.name.node);
            problems.add(fragment.name.pos, message);
        }
    }
}

fn unique<'d>(names: impl Iterator<Item = &'d Named>, what: &str, problems: &mut Problems) {
    for Named { pos, node } in again(names) {
        problems.add(
            *pos,
            format!("There can be only one {what} named \"{node}\"."),
        );
    }
}

/// The fragments that `uses` reaches, directly or through others.
fn reached(uses: &Uses<'_>, fragments: &[Uses<'_>]) -> Vec<bool> {
    let mut reached = vec![false; fragments.len()];
    let mut ahead = vec![uses];
    while let Some(uses) = ahead.pop() {
        for (index, _) in &uses.spreads {
            if !std::mem::replace(&mut reached[*index], true) {
                ahead.push(&fragments[*index]);
            }
        }
    }
    reached
}

/// 5.5.2.2 "Fragment Spreads Must Not Form Cycles"
fn cycles(document: &Document, fragments: &[Uses<'_>], problems: &mut Problems) {
    // Where each fragment is: not met, on the way that is being followed, or done with.
    let mut state = vec![State::Unmet; fragments.len()];
    for start in 0..fragments.len() {
        if state[start] != State::Unmet {
            continue;
        }
        state[start] = State::OnTheWay;
        // A fragment and how many of its spreads have been followed.
        let mut way = vec![(start, 0)];
        while let Some((index, followed)) = way.last_mut() {
            let index = *index;
            let Some((next, pos)) = fragments[index].spreads.get(*followed) else {
                state[index] = State::Done;
                way.pop();
                continue;
            };
            *followed += 1;
            match state[*next] {
                State::Done => {}
                State::Unmet => {
                    state[*next] = State::OnTheWay;
                    way.push((*next, 0));
                }
                State::OnTheWay if problems.is_full() => {}
                State::OnTheWay => {
                    let from = way.iter().position(|(index, _)| index == next);
                    let through = &way[from.unwrap_or_default() + 1..];
                    problems.push(cycle(document, *next, through, *pos));
                }
            }
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    Unmet,
    OnTheWay,
    Done,
}

fn cycle(document: &Document, first: usize, through: &[(usize, usize)], pos: Pos) -> Problem {
    let name = |index: usize| format!("\"{}\"", document.fragments[index].name.node);
    let via: Vec<_> = through.iter().map(|(index, _)| name(*index)).collect();
    let via = match via.is_empty() {
        true => String::new(),
        false => format!(" via {}", via.join(", ")),
    };
    Problem {
        message: format!("Cannot spread fragment {} within itself{via}.", name(first)),
        nearest: None,
        at: vec![pos],
    }
}

/// 5.8 "Variables"
fn variables<'d>(
    types: &Types,
    operation: &'d Operation,
    uses: &[&Use<'d>],
    problems: &mut Problems,
) {
    let of = match &operation.name {
        Some(name) => format!(" operation \"{}\"", name.node),
        None => " this operation".to_owned(),
    };
    // 5.8.1 "Variable Uniqueness"
    unique(
        operation.variables.iter().map(|variable| &variable.name),
        "variable",
        problems,
    );
    let used: HashSet<_> = uses.iter().map(|used| used.name).collect();
    for variable in &operation.variables {
        let Named { pos, node } = &variable.name;
        // 5.8.2 "Variables Are Input Types"
        let innermost = variable.ty.innermost();
        match types.named(&innermost.node) {
            None => {
                let message = format!("Unknown type \"{}\".", innermost.node);
                problems.unknown(innermost.pos, message, &innermost.node, types.names());
            }
            Some(id) if !types.is_input(id) => {
                let message = format!(
                    "Variable \"${node}\" cannot be of non-input type \"{}\".",
                    variable.ty
                );
                problems.add(*pos, message);
            }
            Some(_) if types.of_variable(&variable.ty).is_none() => {
                let message = format!("Variable \"${node}\" is of a type with too many lists.");
                problems.add(*pos, message);
            }
            Some(_) => {
                if let (Some(default), Some(ty)) =
                    (&variable.default, types.of_variable(&variable.ty))
                {
                    let mut none = Uses::default();
                    values::check(types, default, Place::of(ty), &mut none, problems);
                }
            }
        }
        // 5.8.4 "All Variables Used"
        if !used.contains(node) {
            let message = format!("Variable \"${node}\" is never used in{of}.");
            problems.add(*pos, message);
        }
    }
    let defined = operation.variables.iter();
    let defined: HashMap<_, _> = defined
        .map(|variable| (&variable.name.node, variable))
        .collect();
    let mut undefined: HashSet<&Name> = HashSet::new();
    for used in uses {
        let Some(variable) = defined.get(used.name) else {
            // 5.8.3 "All Variable Uses Defined"
            if undefined.insert(used.name) {
                let message = format!("Variable \"${}\" is not defined by{of}.", used.name);
                problems.add(used.pos, message);
            }
            continue;
        };
        // 5.8.5 "All Variable Usages Are Allowed"
        let (Some(place), Some(ty)) = (used.place, types.of_variable(&variable.ty)) else {
            continue;
        };
        let default = variable.default.as_ref();
        let never_null = place.has_default
            || default.is_some_and(|default| !matches!(default.kind, ValueKind::Null));
        let wanted = match place.ty.is_non_null() && !ty.is_non_null() && never_null {
            true => place.ty.nullable(),
            false => place.ty,
        };
        let nullable_one_of = place.in_one_of && !ty.is_non_null();
        if (ty.fits(wanted) && !nullable_one_of) || problems.is_full() {
            continue;
        }
        let shown = types.show(place.ty);
        let expected = match nullable_one_of {
            true => format!("non-null type \"{shown}!\""),
            false => format!("type \"{shown}\""),
        };
        problems.push(Problem {
            message: format!(
                "Variable \"${}\" of type \"{}\" used in position expecting {expected}.",
                used.name, variable.ty
            ),
            nearest: None,
            at: vec![variable.name.pos, used.pos],
        });
    }
}

/// 5.2.3.1 "Single Root Field"
fn single_root(document: &Document, operation: &Operation, problems: &mut Problems) {
    let mut roots = Vec::new();
    let mut seen = HashSet::new();
    collect(
        document,
        &operation.selections,
        MAX_NESTING,
        &mut seen,
        &mut roots,
    );
    let which = match &operation.name {
        Some(name) => format!("Subscription \"{}\"", name.node),
        None => "Anonymous Subscription".to_owned(),
    };
    if let Some((_, _, pos)) = roots.iter().find(|(_, name, _)| name.starts_with("__")) {
        let message = format!("{which} must not select an introspection top level field.");
        problems.add(*pos, message);
    }
    let first = roots.first().map(|(key, _, _)| *key);
    if let Some((_, _, pos)) = roots.iter().find(|(key, _, _)| Some(*key) != first) {
        problems.add(
            *pos,
            format!("{which} must select only one top level field."),
        );
    }
}

/// What is deeper than so many fragments inside one another is not looked at: it is refused where the
/// operation is written out.
const MAX_NESTING: usize = 100;

/// The fields that `selections` may ask for, whatever variables say: key, name and place.
fn collect<'d>(
    document: &'d Document,
    selections: &'d SelectionSet,
    nesting: usize,
    seen: &mut HashSet<&'d Name>,
    roots: &mut Vec<(&'d Name, &'d Name, Pos)>,
) {
    let Some(nesting) = nesting.checked_sub(1) else {
        return;
    };
    for selection in &selections.items {
        if selection.directives().iter().any(never) {
            continue;
        }
        match selection {
            Selection::Field(field) => {
                let Named { pos, node } = field.key();
                roots.push((node, &field.name.node, *pos));
            }
            Selection::Inline(inline) => {
                collect(document, &inline.selections, nesting, seen, roots)
            }
            Selection::Spread(spread) => {
                if let Some((_, fragment)) = document.fragment(&spread.name.node)
                    && seen.insert(&fragment.name.node)
                {
                    collect(document, &fragment.selections, nesting, seen, roots);
                }
            }
        }
    }
}

/// Whether what has this directive is never asked for.
fn never(directive: &Directive) -> bool {
    let excluding = match directive.name.node.as_str() {
        "skip" => true,
        "include" => false,
        _ => return false,
    };
    let mut values = directive
        .arguments
        .iter()
        .map(|argument| &argument.value.kind);
    values.any(|value| matches!(value, ValueKind::Boolean(value) if *value == excluding))
}
