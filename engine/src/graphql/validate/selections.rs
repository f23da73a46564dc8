//! Fields, arguments, fragments and directives where they stand: 5.3.1, 5.3.3, 5.4, 5.5.1.2,
//! 5.5.1.3, 5.5.2.1, 5.5.2.3 and 5.7.

use async_graphql::{Name, Pos, indexmap::IndexMap, parser::types::OperationType};

use super::{Place, Problems, Uses, values};
use crate::graphql::{
    collect::TYPE_KEY,
    language::ast::{Argument, Directive, Document, Field, Named, Selection, SelectionSet, again},
    types::{InputDef, TypeId, Types},
};

/// Checks what stands in each definition of `document`, and returns what operations and what
/// fragments name.
pub(super) fn check<'d>(
    types: &Types,
    document: &'d Document,
    problems: &mut Problems,
) -> (Vec<Uses<'d>>, Vec<Uses<'d>>) {
    let mut checker = Checker {
        types,
        document,
        problems,
        uses: Uses::default(),
    };
    let operations = document.operations.iter().map(|operation| {
        let location = match operation.kind {
            OperationType::Query => "QUERY",
            OperationType::Mutation => "MUTATION",
            OperationType::Subscription => "SUBSCRIPTION",
        };
        checker.directives(&operation.directives, location);
        for variable in &operation.variables {
            checker.directives(&variable.directives, "VARIABLE_DEFINITION");
        }
        match types.root(operation.kind) {
            Some(root) => checker.selections(Some(root), &operation.selections),
            None => {
                let message = format!("The schema has no {}.", operation.kind);
                checker.problems.add(operation.pos, message);
            }
        }
        std::mem::take(&mut checker.uses)
    });
    let operations = operations.collect();
    let fragments = document.fragments.iter().map(|fragment| {
        checker.directives(&fragment.directives, "FRAGMENT_DEFINITION");
        let on = checker.condition(&fragment.on, Some(&fragment.name.node));
        checker.selections(on, &fragment.selections);
        std::mem::take(&mut checker.uses)
    });
    let fragments = fragments.collect();
    (operations, fragments)
}

struct Checker<'c, 'd> {
    types: &'c Types,
    document: &'d Document,
    problems: &'c mut Problems,
    /// What the definition that is being read names.
    uses: Uses<'d>,
}

impl<'d> Checker<'_, 'd> {
    /// The type of `parent` is `None` where it is not known, which has been said.
    fn selections(&mut self, parent: Option<TypeId>, selections: &'d SelectionSet) {
        for selection in &selections.items {
            match selection {
                Selection::Field(field) => self.field(parent, field),
                Selection::Inline(inline) => {
                    self.directives(&inline.directives, "INLINE_FRAGMENT");
                    let on = match &inline.on {
                        None => parent,
                        Some(on) => {
                            let condition = self.condition(on, None);
                            self.possible(parent, condition, inline.pos, None);
                            condition
                        }
                    };
                    self.selections(on, &inline.selections);
                }
                Selection::Spread(spread) => {
                    self.directives(&spread.directives, "FRAGMENT_SPREAD");
                    let Named { pos, node } = &spread.name;
                    match self.document.fragment(node) {
                        // 5.5.2.1 "Fragment Spread Target Defined"
                        None => {
                            let message = format!("Unknown fragment \"{node}\".");
                            let known = self.document.fragments.iter();
                            let known = known.map(|fragment| fragment.name.node.as_str());
                            self.problems.unknown(*pos, message, node, known);
                        }
                        Some((index, fragment)) => {
                            self.uses.spreads.push((index, *pos));
                            let condition = self.types.named(&fragment.on.node);
                            self.possible(parent, condition, *pos, Some(node));
                        }
                    }
                }
            }
        }
    }

    /// The type that a fragment is on.
    fn condition(&mut self, on: &Named, fragment: Option<&Name>) -> Option<TypeId> {
        let Named { pos, node } = on;
        let Some(id) = self.types.named(node) else {
            // 5.5.1.2 "Fragment Spread Type Existence"
            let message = format!("Unknown type \"{node}\".");
            self.problems
                .unknown(*pos, message, node, self.types.names());
            return None;
        };
        if self.types.is_composite(id) {
            return Some(id);
        }
        // 5.5.1.3 "Fragments on Object, Interface or Union Types"
        let which = fragment.map_or_else(
            || "An inline fragment".to_owned(),
            |name| format!("Fragment \"{name}\""),
        );
        let message = format!("{which} cannot condition on non composite type \"{node}\".");
        self.problems.add(*pos, message);
        None
    }

    /// 5.5.2.3 "Fragment Spread Is Possible"
    fn possible(
        &mut self,
        parent: Option<TypeId>,
        on: Option<TypeId>,
        pos: Pos,
        fragment: Option<&Name>,
    ) {
        let (Some(parent), Some(on)) = (parent, on) else {
            return;
        };
        let overlap = self
            .types
            .get(parent)
            .possible
            .and(&self.types.get(on).possible);
        // What is on a type that has no fields has been refused.
        if overlap.is_some() || !self.types.is_composite(on) {
            return;
        }
        let (parent, on) = (self.types.get(parent), self.types.get(on));
        let which = fragment.map_or_else(String::new, |name| format!(" \"{name}\""));
        let message = format!(
            "Fragment{which} cannot be spread here as objects of type \"{}\" can never be of type \
             \"{}\".",
            parent.name, on.name
        );
        self.problems.add(pos, message);
    }

    fn field(&mut self, parent: Option<TypeId>, field: &'d Field) {
        self.directives(&field.directives, "FIELD");
        if field.key().node == TYPE_KEY {
            let message = format!("The alias \"{TYPE_KEY}\" is reserved.");
            self.problems.add(field.key().pos, message);
        }
        let Named { pos, node } = &field.name;
        let def = parent.and_then(|parent| self.types.field(parent, node));
        let Some(def) = def else {
            if let Some(parent) = parent {
                // 5.3.1 "Field Selections"
                let parent_name = &self.types.get(parent).name;
                let message = format!("Cannot query field \"{node}\" on type \"{parent_name}\".");
                let known = self.types.fields(parent).into_iter().flatten();
                let known = known.map(|(name, _)| name.as_str());
                self.problems.unknown(*pos, message, node, known);
            }
            self.untyped(&field.arguments);
            if let Some(selections) = &field.selections {
                self.selections(None, selections);
            }
            return;
        };
        let parent_name = parent.map_or("", |parent| &self.types.get(parent).name);
        let on = format_args!("field \"{parent_name}.{node}\"").to_string();
        self.arguments(&field.arguments, &def.arguments, *pos, &on);
        // 5.3.3 "Leaf Field Selections"
        let leaf = !self.types.is_composite(def.ty.named);
        match &field.selections {
            Some(selections) if leaf => {
                let message = format!(
                    "Field \"{node}\" must not have a selection since type \"{}\" has no \
                     subfields.",
                    self.types.show(def.ty)
                );
                self.problems.add(selections.pos, message);
            }
            None if !leaf => {
                let message = format!(
                    "Field \"{node}\" of type \"{}\" must have a selection of subfields. Did you \
                     mean \"{node} {{ ... }}\"?",
                    self.types.show(def.ty)
                );
                self.problems.add(*pos, message);
            }
            Some(selections) => self.selections(Some(def.ty.named), selections),
            None => {}
        }
    }

    /// The variables in arguments of what is not known are used nevertheless.
    fn untyped(&mut self, arguments: &'d [Argument]) {
        for argument in arguments {
            self.uses.note_all(&argument.value);
        }
    }

    /// 5.4 "Arguments"
    fn arguments(
        &mut self,
        arguments: &'d [Argument],
        defined: &IndexMap<Name, InputDef>,
        pos: Pos,
        on: &str,
    ) {
        for Named { pos, node } in again(arguments.iter().map(|argument| &argument.name)) {
            let message = format!("There can be only one argument named \"{node}\".");
            self.problems.add(*pos, message);
        }
        for argument in arguments {
            let Named { pos, node } = &argument.name;
            let Some(def) = defined.get(node) else {
                let message = format!("Unknown argument \"{node}\" on {on}.");
                let known = defined.keys().map(|known| known.as_str());
                self.problems.unknown(*pos, message, node, known);
                self.uses.note_all(&argument.value);
                continue;
            };
            let place = Place {
                ty: def.ty,
                has_default: def.has_default,
                in_one_of: false,
            };
            let uses = &mut self.uses;
            values::check(self.types, &argument.value, place, uses, self.problems);
        }
        for (name, def) in defined {
            let given = arguments.iter().any(|argument| argument.name.node == *name);
            if !given && def.is_required() {
                let message = format!(
                    "Argument \"{name}\" of type \"{}\" is required on {on}, but it was not \
                     provided.",
                    self.types.show(def.ty)
                );
                self.problems.add(pos, message);
            }
        }
    }

    /// 5.7 "Directives"
    fn directives(&mut self, directives: &'d [Directive], location: &str) {
        for Named { pos, node } in again(directives.iter().map(|directive| &directive.name)) {
            if self
                .types
                .directives
                .get(node)
                .is_some_and(|def| !def.repeatable)
            {
                let message =
                    format!("The directive \"@{node}\" can only be used once at this location.");
                self.problems.add(*pos, message);
            }
        }
        for directive in directives {
            let Named { pos, node } = &directive.name;
            let Some(def) = self.types.directives.get(node) else {
                let message = format!("Unknown directive \"@{node}\".");
                self.problems.add(*pos, message);
                self.untyped(&directive.arguments);
                continue;
            };
            if !def.locations.contains(location) {
                let message = format!("Directive \"@{node}\" may not be used on {location}.");
                self.problems.add(*pos, message);
            }
            let on = format!("directive \"@{node}\"");
            self.arguments(&directive.arguments, &def.arguments, *pos, &on);
        }
    }
}
