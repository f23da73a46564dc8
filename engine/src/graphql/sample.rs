//! Operations to begin with, made of a schema: what a playground opens with.

use std::{collections::HashMap, fmt::Write};

use async_graphql::parser::types::{
    BaseType, FieldDefinition, InputValueDefinition, ServiceDocument, Type, TypeDefinition,
    TypeKind, TypeSystemDefinition,
};

/// Fields of one object.
const FIELDS: usize = 5;
/// Objects inside one another.
const DEPTH: usize = 3;
/// Operations of one kind.
const OPERATIONS: usize = 3;

/// Operations that the schema of `sdl` answers: queries, and a subscription if it has one. An argument that
/// has to be there has a value of its type.
pub(super) fn operations(sdl: &str) -> Vec<String> {
    // What the library prints, it can parse.
    let Ok(document) = async_graphql::parser::parse_schema(sdl) else {
        return Vec::new();
    };
    let sampler = Sampler::of(&document);
    let queries = sampler.operations("query", &sampler.query);
    let subscriptions = sampler.operations("subscription", &sampler.subscription);
    queries
        .into_iter()
        .take(OPERATIONS)
        .chain(subscriptions.into_iter().take(1))
        .collect()
}

struct Sampler<'s> {
    types: HashMap<&'s str, &'s TypeDefinition>,
    query: String,
    subscription: String,
}

impl<'s> Sampler<'s> {
    fn of(document: &'s ServiceDocument) -> Self {
        let mut types = HashMap::new();
        let (mut query, mut subscription) = ("Query".to_owned(), "Subscription".to_owned());
        for definition in &document.definitions {
            match definition {
                TypeSystemDefinition::Type(definition) => {
                    types.insert(definition.node.name.node.as_str(), &definition.node);
                }
                TypeSystemDefinition::Schema(schema) => {
                    let schema = &schema.node;
                    let name = |name: &async_graphql::Positioned<async_graphql::Name>| {
                        name.node.to_string()
                    };
                    query = schema.query.as_ref().map_or(query, name);
                    subscription = schema.subscription.as_ref().map_or(subscription, name);
                }
                TypeSystemDefinition::Directive(_) => {}
            }
        }
        Self {
            types,
            query,
            subscription,
        }
    }

    fn operations(&self, kind: &str, root: &str) -> Vec<String> {
        let fields = self.fields(root).into_iter().flatten();
        let operations = fields.filter_map(|field| {
            let mut text = format!("{kind} {} {{\n", capitalized(&field.name.node));
            self.field(field, 1, &mut text)?;
            text.push_str("}\n");
            Some(text)
        });
        operations.collect()
    }

    fn fields(&self, of: &str) -> Option<impl Iterator<Item = &'s FieldDefinition> + use<'s>> {
        let fields = match &self.types.get(of)?.kind {
            TypeKind::Object(object) => &object.fields,
            TypeKind::Interface(interface) => &interface.fields,
            _ => return None,
        };
        Some(fields.iter().map(|field| &field.node))
    }

    /// Writes `field` with what it needs; `None` if that cannot be made up.
    fn field(&self, field: &FieldDefinition, depth: usize, text: &mut String) -> Option<()> {
        let arguments = field.arguments.iter().map(|argument| &argument.node);
        let arguments = self.values(arguments, DEPTH)?;
        let named = named(&field.ty.node);
        let is_leaf = self.is_leaf(named);
        if depth >= DEPTH && !is_leaf {
            return None;
        }
        // Writing to a String cannot fail.
        let _ = write!(text, "{}{}", "  ".repeat(depth), field.name.node);
        if !arguments.is_empty() {
            let _ = write!(text, "({arguments})");
        }
        if is_leaf {
            text.push('\n');
            return Some(());
        }
        let mut below = String::new();
        let each = self.fields(named).into_iter().flatten();
        for field in each.take(FIELDS) {
            // What cannot be made up is left out.
            let mut one = String::new();
            if self.field(field, depth + 1, &mut one).is_some() {
                below += &one;
            }
        }
        if below.is_empty() {
            let _ = writeln!(below, "{}__typename", "  ".repeat(depth + 1));
        }
        let _ = writeln!(text, " {{\n{below}{}}}", "  ".repeat(depth));
        Some(())
    }

    /// Values for those of `arguments` that have to have one.
    fn values<'a>(
        &self,
        arguments: impl Iterator<Item = &'a InputValueDefinition>,
        depth: usize,
    ) -> Option<String> {
        let required = arguments
            .filter(|argument| !argument.ty.node.nullable && argument.default_value.is_none());
        let values = required.map(|argument| {
            let value = self.value(&argument.ty.node, depth)?;
            Some(format!("{}: {value}", argument.name.node))
        });
        let values: Option<Vec<_>> = values.collect();
        Some(values?.join(", "))
    }

    fn value(&self, ty: &Type, depth: usize) -> Option<String> {
        let depth = depth.checked_sub(1)?;
        let name = match &ty.base {
            BaseType::List(item) => return Some(format!("[{}]", self.value(item, depth)?)),
            BaseType::Named(name) => name.as_str(),
        };
        Some(match name {
            "Int" => "1".to_owned(),
            "Float" => "1.0".to_owned(),
            "Boolean" => "true".to_owned(),
            "String" | "ID" => "\"1\"".to_owned(),
            other => match &self.types.get(other)?.kind {
                TypeKind::Enum(of) => of.values.first()?.node.value.node.to_string(),
                TypeKind::InputObject(of) => {
                    let fields = of.fields.iter().map(|field| &field.node);
                    format!("{{{}}}", self.values(fields, depth)?)
                }
                TypeKind::Scalar => "\"1\"".to_owned(),
                _ => return None,
            },
        })
    }

    fn is_leaf(&self, name: &str) -> bool {
        let of = self.types.get(name).map(|of| &of.kind);
        // The built-in scalars are nowhere defined.
        of.is_none_or(|of| matches!(of, TypeKind::Scalar | TypeKind::Enum(_)))
    }
}

fn named(ty: &Type) -> &str {
    match &ty.base {
        BaseType::Named(name) => name.as_str(),
        BaseType::List(item) => named(item),
    }
}

fn capitalized(name: &str) -> String {
    let mut letters = name.chars();
    let first = letters.next().map(|first| first.to_ascii_uppercase());
    first.into_iter().chain(letters).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_have_what_they_need_and_no_more_than_a_screen() {
        let sdl = r#"
            enum Kind { NEW OLD }
            input Filter { kind: Kind!, deep: Filter, tags: [String!]! }
            type Product { id: ID!, name: String, price(in: Kind!): Int, next: Product }
            union Found = Product
            type Query {
              product(id: ID!, kind: Kind = NEW): Product
              find(filter: Filter!): [Found!]!
              count: Int!
              more: Int!
            }
            type Subscription { changes(id: ID!): Product! }
            schema { query: Query, subscription: Subscription }
        "#;
        let operations = operations(sdl);
        assert_eq!(operations.len(), 4);
        assert_eq!(
            operations[0],
            "query Product {\n  product(id: \"1\") {\n    id\n    name\n    price(in: NEW)\n    \
             next {\n      id\n      name\n      price(in: NEW)\n    }\n  }\n}\n"
        );
        assert_eq!(
            operations[1],
            "query Find {\n  find(filter: {kind: NEW, tags: [\"1\"]}) {\n    __typename\n  }\n}\n"
        );
        assert_eq!(operations[2], "query Count {\n  count\n}\n");
        assert!(operations[3].starts_with("subscription Changes {\n  changes(id: \"1\") {"));
        // The library reads each.
        for operation in &operations {
            assert!(
                async_graphql::parser::parse_query(operation).is_ok(),
                "{operation}"
            );
        }
    }

    #[test]
    fn an_input_without_an_end_makes_no_operation() {
        let sdl = "input A { a: A! } type Query { a(a: A!): Int } schema { query: Query }";
        assert_eq!(operations(sdl), [""; 0]);
    }
}
