//! 5.3.2 "Field Selection Merging": fields that answer under one key ask for one thing.
//!
//! Each level of an operation is written out once, and what is below fields of one key is looked at
//! together, so that the work grows as the operation does with its fragments written out. (The rule
//! as the specification words it compares all pairs. This way of doing it is Simon Adameit's.)

use std::collections::HashSet;

use async_graphql::{Name, indexmap::IndexMap};

use super::{Problem, Problems};
use crate::graphql::{
    language::ast::{Document, Field, Selection, SelectionSet, same_arguments},
    types::{Type, TypeId, Types},
};

/// Fields, spreads included as often as they are spread, in all operations of a document.
const MAX_SELECTIONS: usize = 10_000;
/// How deep they may nest.
const MAX_DEPTH: usize = 100;
/// How deep fragments may nest within one level of fields.
const MAX_NESTING: usize = 100;

pub(super) fn check(types: &Types, document: &Document, problems: &mut Problems) {
    let mut merge = Merge {
        types,
        document,
        left: MAX_SELECTIONS,
        known: HashSet::new(),
        problem: None,
    };
    for operation in &document.operations {
        let Some(root) = types.root(operation.kind) else {
            continue;
        };
        let set = [(root, &operation.selections)];
        if merge.level(&set, true, MAX_DEPTH).is_none() {
            let too_large = || Problem {
                message: format!(
                    "the document is too large: more than {MAX_SELECTIONS} fields with its fragments \
                     written out, more than {MAX_DEPTH} levels of them, or more than \
                     {MAX_NESTING} fragments inside one another"
                ),
                nearest: None,
                at: Vec::new(),
            };
            problems.push(merge.problem.unwrap_or_else(too_large));
            return;
        }
    }
}

struct Merge<'m> {
    types: &'m Types,
    document: &'m Document,
    /// How many selections may still be read.
    left: usize,
    /// What has been looked at together before, by where it stands in memory: fragments bring the
    /// same selections to many places.
    known: HashSet<(Vec<(TypeId, usize)>, bool)>,
    /// The first conflict.
    problem: Option<Problem>,
}

/// A field with the type that it is asked of.
type Asked<'m> = (TypeId, &'m Field);

impl<'m> Merge<'m> {
    /// Looks at what is selected together, and all below; `None` when it has to end, because of a
    /// conflict or of its size. `same` says whether the fields of one key can meet in one object;
    /// where they cannot, only their shapes have to agree.
    fn level(
        &mut self,
        sets: &[(TypeId, &'m SelectionSet)],
        same: bool,
        depth: usize,
    ) -> Option<()> {
        let depth = depth.checked_sub(1)?;
        let place = |(id, set): &(TypeId, &SelectionSet)| (*id, std::ptr::from_ref(*set).addr());
        let places = sets.iter().map(place).collect();
        if !self.known.insert((places, same)) {
            return Some(());
        }
        let mut by_key: IndexMap<&Name, Vec<Asked<'m>>> = IndexMap::new();
        let mut seen = HashSet::new();
        for (parent, selections) in sets {
            self.write_out(*parent, selections, MAX_NESTING, &mut seen, &mut by_key)?;
        }
        for fields in by_key.values() {
            if same {
                self.names(fields)?;
            }
            self.shapes(fields)?;
            self.below(fields, same, depth)?;
        }
        Some(())
    }

    fn write_out(
        &mut self,
        parent: TypeId,
        selections: &'m SelectionSet,
        nesting: usize,
        seen: &mut HashSet<(TypeId, usize)>,
        by_key: &mut IndexMap<&'m Name, Vec<Asked<'m>>>,
    ) -> Option<()> {
        let nesting = nesting.checked_sub(1)?;
        self.left = self.left.checked_sub(selections.items.len())?;
        for selection in &selections.items {
            match selection {
                Selection::Field(field) => {
                    let fields = by_key.entry(&field.key().node).or_default();
                    fields.push((parent, field));
                }
                Selection::Inline(inline) => {
                    let on = inline.on.as_ref();
                    let on = on.and_then(|on| self.types.named(&on.node));
                    self.write_out(
                        on.unwrap_or(parent),
                        &inline.selections,
                        nesting,
                        seen,
                        by_key,
                    )?;
                }
                Selection::Spread(spread) => {
                    let Some((index, fragment)) = self.document.fragment(&spread.name.node) else {
                        continue;
                    };
                    let Some(on) = self.types.named(&fragment.on.node) else {
                        continue;
                    };
                    if seen.insert((on, index)) {
                        self.write_out(on, &fragment.selections, nesting, seen, by_key)?;
                    }
                }
            }
        }
        Some(())
    }

    /// Looks at what is below the fields of one key: together where they can meet in one object, and
    /// in any case together for the shape of the answer.
    fn below(&mut self, fields: &[Asked<'m>], same: bool, depth: usize) -> Option<()> {
        let sets = |fields: &[Asked<'m>]| -> Vec<(TypeId, &'m SelectionSet)> {
            let sets = fields.iter().filter_map(|(parent, field)| {
                let def = self.types.field(*parent, &field.name.node)?;
                Some((def.ty.named, field.selections.as_ref()?))
            });
            sets.collect()
        };
        let all = sets(fields);
        if all.is_empty() {
            return Some(());
        }
        let groups = self.groups(fields);
        if !same || groups.len() == 1 {
            return self.level(&all, same, depth);
        }
        let groups: Vec<_> = groups.iter().map(|group| sets(group)).collect();
        for group in groups.iter().filter(|group| !group.is_empty()) {
            self.level(group, true, depth)?;
        }
        self.level(&all, false, depth)
    }

    /// The fields that can meet in one object: for each object type those of it and of all interfaces
    /// and unions.
    fn groups(&self, fields: &[Asked<'m>]) -> Vec<Vec<Asked<'m>>> {
        let mut objects: Vec<TypeId> = fields
            .iter()
            .map(|(parent, _)| *parent)
            .filter(|parent| self.types.is_object(*parent))
            .collect();
        objects.sort_unstable();
        objects.dedup();
        if objects.is_empty() {
            return vec![fields.to_vec()];
        }
        let of = |object: TypeId| {
            let fields = fields.iter().copied();
            let meet =
                fields.filter(|(parent, _)| *parent == object || !self.types.is_object(*parent));
            meet.collect()
        };
        objects.into_iter().map(of).collect()
    }

    /// Fields of one key in one object have one name and the same arguments.
    fn names(&mut self, fields: &[Asked<'m>]) -> Option<()> {
        for group in self.groups(fields) {
            let Some((&(_, first), rest)) = group.split_first() else {
                continue;
            };
            for (_, other) in rest {
                let key = &first.key().node;
                let (a, b) = (&first.name.node, &other.name.node);
                if a != b {
                    let reason = format!("\"{a}\" and \"{b}\" are different fields");
                    return self.conflict(key, &reason, first, other);
                }
                if !same_arguments(&first.arguments, &other.arguments) {
                    return self.conflict(key, "they have differing arguments", first, other);
                }
            }
        }
        Some(())
    }

    /// Fields of one key have answers of one shape, in whatever objects they are.
    fn shapes(&mut self, fields: &[Asked<'m>]) -> Option<()> {
        let type_of = |(parent, field): &Asked<'m>| {
            let def = self.types.field(*parent, &field.name.node)?;
            Some(def.ty)
        };
        let Some((first, rest)) = fields.split_first() else {
            return Some(());
        };
        let Some(ty) = type_of(first) else {
            return Some(());
        };
        for other in rest {
            if let Some(other_ty) = type_of(other)
                && !self.one_shape(ty, other_ty)
            {
                let (a, b) = (self.types.show(ty), self.types.show(other_ty));
                let reason = format!("they return conflicting types \"{a}\" and \"{b}\"");
                return self.conflict(&first.1.key().node, &reason, first.1, other.1);
            }
        }
        Some(())
    }

    /// "SameResponseShape()", without what is below.
    fn one_shape(&self, a: Type, b: Type) -> bool {
        if a.is_non_null() != b.is_non_null() {
            return false;
        }
        match (a.item(), b.item()) {
            (Some(a), Some(b)) => self.one_shape(a, b),
            (None, None) => {
                let composite = |ty: Type| self.types.is_composite(ty.named);
                a.named == b.named || composite(a) && composite(b)
            }
            _ => false,
        }
    }

    fn conflict(&mut self, key: &Name, reason: &str, a: &Field, b: &Field) -> Option<()> {
        self.problem = Some(Problem {
            message: format!(
                "Fields \"{key}\" conflict because {reason}. Use different aliases on the fields \
                 to fetch both if this was intentional."
            ),
            nearest: None,
            at: vec![a.key().pos, b.key().pos],
        });
        None
    }
}
