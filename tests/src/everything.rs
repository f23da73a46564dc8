//! A schema with everything that GraphQL has, for what is said about any schema. The same in
//! JavaScript stands in `tests/graphql/oracle.mjs`.
//!
//! Each resolver counts its calls, by the coordinate of its field.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use async_graphql::{
    Context, Enum, Error, ID, InputObject, Interface, MaybeUndefined, Object, OneofObject, Result,
    Schema, SchemaBuilder, Subscription, Union,
};
use bff_engine::{Bff, internals::Graph};
use futures_util::{Stream, stream};
use serde_json::{Map, Value, json};

/// How often each resolver was called, by the coordinate of its field. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Calls(Arc<Mutex<BTreeMap<String, u32>>>);

impl Calls {
    fn add(&self, coordinate: &str) {
        let mut calls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *calls.entry(coordinate.to_owned()).or_default() += 1;
    }

    /// How many calls of mutations were counted.
    fn mutations(&self) -> u32 {
        let calls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mutations = calls.iter().filter(|(of, _)| of.starts_with("Mutation."));
        mutations.map(|(_, calls)| calls).sum()
    }

    /// What was counted since this was asked last.
    pub fn take(&self) -> BTreeMap<String, u32> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The schema as requests meet it, with a `[rate_limit]` section, and the calls of its resolvers.
///
/// # Errors
/// When the section is none.
pub fn everything(rate_limit: &str) -> anyhow::Result<(Graph, Calls)> {
    let calls = Calls::default();
    let counted = calls.clone();
    let graph = Graph::new(move || schema().data(counted.clone()), rate_limit)?;
    Ok((graph, calls))
}

/// The same as a program.
pub fn program() -> (Bff, Calls) {
    let calls = Calls::default();
    let counted = calls.clone();
    (
        Bff::new("everything", move || schema().data(counted.clone())),
        calls,
    )
}

/// The schema itself, without the data that its calls are counted in.
pub fn schema() -> SchemaBuilder<Query, Mutation, Events> {
    Schema::build(Query, Mutation, Events)
}

fn called(ctx: &Context<'_>, coordinate: &str) {
    if let Ok(calls) = ctx.data::<Calls>() {
        calls.add(coordinate);
    }
}

fn failed<T>() -> Result<T> {
    Err(Error::new("failed"))
}

#[derive(Clone, Copy, Debug, Enum, Eq, PartialEq)]
enum Kind {
    Dog,
    Cat,
}

#[derive(Clone, Debug, InputObject)]
struct Filter {
    req: i32,
    #[graphql(default = 1)]
    min: Option<i32>,
    max: MaybeUndefined<i32>,
    #[graphql(default_with = "vec![\"a\".to_owned()]")]
    tags: Vec<String>,
    #[graphql(default_with = "Kind::Dog")]
    kind: Kind,
    nested: MaybeUndefined<Box<Filter>>,
}

#[derive(Clone, Debug, OneofObject)]
enum Choice {
    A(i32),
    B(String),
}

/// A scalar that says nothing about its values.
#[derive(Clone, Debug)]
struct Anything(async_graphql::Value);

#[async_graphql::Scalar]
impl async_graphql::ScalarType for Anything {
    fn parse(value: async_graphql::Value) -> async_graphql::InputValueResult<Self> {
        Ok(Self(value))
    }

    fn to_value(&self) -> async_graphql::Value {
        self.0.clone()
    }
}

fn name_of(kind: Kind) -> &'static str {
    match kind {
        Kind::Dog => "DOG",
        Kind::Cat => "CAT",
    }
}

fn filter_json(filter: &Filter) -> Value {
    let mut object = Map::new();
    object.insert("req".into(), filter.req.into());
    object.insert("min".into(), filter.min.into());
    insert(&mut object, "max", &filter.max, |max| (*max).into());
    object.insert("tags".into(), filter.tags.clone().into());
    object.insert("kind".into(), name_of(filter.kind).into());
    insert(&mut object, "nested", &filter.nested, |nested| {
        filter_json(nested)
    });
    Value::Object(object)
}

fn insert<T>(
    object: &mut Map<String, Value>,
    key: &str,
    value: &MaybeUndefined<T>,
    json: impl Fn(&T) -> Value,
) {
    match value {
        MaybeUndefined::Undefined => {}
        MaybeUndefined::Null => drop(object.insert(key.into(), Value::Null)),
        MaybeUndefined::Value(value) => drop(object.insert(key.into(), json(value))),
    }
}

/// A number as JavaScript writes it.
fn float_json(float: f64) -> Value {
    match float.fract() == 0.0 && float.abs() < 1e15 {
        true => (float as i64).into(),
        false => float.into(),
    }
}

/// The root of queries.
#[derive(Debug)]
pub struct Query;

#[Object]
impl Query {
    async fn animal(
        &self,
        ctx: &Context<'_>,
        #[graphql(default_with = "Kind::Dog")] kind: Kind,
    ) -> Option<Animal> {
        called(ctx, "Query.animal");
        Some(match kind {
            Kind::Dog => Animal::Dog(Dog { depth: 0 }),
            Kind::Cat => Animal::Cat(Cat { depth: 0 }),
        })
    }

    async fn animals(&self, ctx: &Context<'_>) -> Vec<Animal> {
        called(ctx, "Query.animals");
        vec![Animal::Dog(Dog { depth: 0 }), Animal::Cat(Cat { depth: 0 })]
    }

    async fn things(&self, ctx: &Context<'_>) -> Option<Vec<Option<Thing>>> {
        called(ctx, "Query.things");
        Some(vec![
            Some(Thing::Dog(Dog { depth: 0 })),
            None,
            Some(Thing::Person(Person { depth: 0 })),
            Some(Thing::Cat(Cat { depth: 0 })),
        ])
    }

    async fn me(&self, ctx: &Context<'_>) -> Person {
        called(ctx, "Query.me");
        Person { depth: 0 }
    }

    async fn matrix(&self, ctx: &Context<'_>) -> Vec<Option<Vec<Strict>>> {
        called(ctx, "Query.matrix");
        vec![Some(vec![Strict, Strict]), None, Some(vec![])]
    }

    async fn strict(&self, ctx: &Context<'_>) -> Option<Strict> {
        called(ctx, "Query.strict");
        Some(Strict)
    }

    async fn stricts(&self, ctx: &Context<'_>) -> Option<Vec<Option<Strict>>> {
        called(ctx, "Query.stricts");
        Some(vec![Some(Strict), None])
    }

    async fn nothing(&self, ctx: &Context<'_>) -> Option<Strict> {
        called(ctx, "Query.nothing");
        None
    }

    #[allow(clippy::too_many_arguments)]
    async fn echo(
        &self,
        ctx: &Context<'_>,
        #[graphql(default = 5)] int: Option<i32>,
        #[graphql(default = "x")] string: String,
        float: MaybeUndefined<f64>,
        id: MaybeUndefined<ID>,
        bool: MaybeUndefined<bool>,
        kind: MaybeUndefined<Kind>,
        list: MaybeUndefined<Vec<i32>>,
        nested: MaybeUndefined<Vec<Option<Vec<Option<i32>>>>>,
        input: MaybeUndefined<Filter>,
        one: MaybeUndefined<Choice>,
        any: MaybeUndefined<Anything>,
    ) -> Option<String> {
        called(ctx, "Query.echo");
        let mut object = Map::new();
        object.insert("int".into(), int.into());
        object.insert("string".into(), string.into());
        insert(&mut object, "float", &float, |float| float_json(*float));
        insert(&mut object, "id", &id, |id| id.as_str().into());
        insert(&mut object, "bool", &bool, |bool| (*bool).into());
        insert(&mut object, "kind", &kind, |kind| name_of(*kind).into());
        insert(&mut object, "list", &list, |list| list.clone().into());
        insert(&mut object, "nested", &nested, |nested| json!(nested));
        insert(&mut object, "input", &input, filter_json);
        insert(&mut object, "one", &one, |one| match one {
            Choice::A(a) => json!({ "a": a }),
            Choice::B(b) => json!({ "b": b }),
        });
        insert(&mut object, "any", &any, |any| json!(any.0));
        Some(Value::Object(object).to_string())
    }

    async fn must(
        &self,
        ctx: &Context<'_>,
        #[graphql(default = "d")] n: String,
        list: Option<Vec<i32>>,
    ) -> Option<String> {
        called(ctx, "Query.must");
        Some(format!("{n}{}", list.map_or(0, |list| list.len())))
    }

    async fn must_not(&self, ctx: &Context<'_>, #[graphql(default = 1)] n: i32) -> i32 {
        called(ctx, "Query.mustNot");
        n
    }
}

#[derive(Interface)]
#[graphql(
    field(name = "name", ty = "String"),
    field(name = "maybe", ty = "Option<Result<String>>"),
    field(name = "lost", ty = "std::option::Option<String>"),
    field(name = "friend", ty = "Option<Animal>"),
    field(
        name = "noise",
        ty = "Option<String>",
        arg(name = "loud", ty = "bool", default = false)
    )
)]
enum Animal {
    Dog(Dog),
    Cat(Cat),
}

#[derive(Union)]
enum Thing {
    Dog(Dog),
    Cat(Cat),
    Person(Person),
}

/// Friends of friends end somewhere.
const END: u32 = 6;

struct Dog {
    depth: u32,
}

#[Object]
impl Dog {
    async fn name(&self, ctx: &Context<'_>) -> String {
        called(ctx, "Dog.name");
        "Rex".to_owned()
    }

    async fn maybe(&self, ctx: &Context<'_>) -> Option<Result<String>> {
        called(ctx, "Dog.maybe");
        Some(failed())
    }

    async fn lost(&self, ctx: &Context<'_>) -> Result<Option<String>> {
        called(ctx, "Dog.lost");
        failed()
    }

    async fn friend(&self, ctx: &Context<'_>) -> Option<Animal> {
        called(ctx, "Dog.friend");
        let depth = self.depth + 1;
        (depth < END).then_some(Animal::Cat(Cat { depth }))
    }

    async fn noise(
        &self,
        ctx: &Context<'_>,
        #[graphql(default = false)] loud: bool,
    ) -> Option<String> {
        called(ctx, "Dog.noise");
        Some(if loud { "WOOF" } else { "woof" }.to_owned())
    }

    async fn barks(&self, ctx: &Context<'_>) -> bool {
        called(ctx, "Dog.barks");
        true
    }

    async fn owner(&self, ctx: &Context<'_>) -> Option<Person> {
        called(ctx, "Dog.owner");
        let depth = self.depth + 1;
        (depth < END).then_some(Person { depth })
    }

    async fn sound(&self, ctx: &Context<'_>) -> Option<String> {
        called(ctx, "Dog.sound");
        Some("growl".to_owned())
    }

    async fn hard(&self, ctx: &Context<'_>) -> Result<String> {
        called(ctx, "Dog.hard");
        failed()
    }
}

struct Cat {
    depth: u32,
}

#[Object]
impl Cat {
    async fn name(&self, ctx: &Context<'_>) -> String {
        called(ctx, "Cat.name");
        "Tom".to_owned()
    }

    async fn maybe(&self, ctx: &Context<'_>) -> Option<Result<String>> {
        called(ctx, "Cat.maybe");
        Some(Ok("maybe".to_owned()))
    }

    async fn lost(&self, ctx: &Context<'_>) -> Option<String> {
        called(ctx, "Cat.lost");
        Some("here".to_owned())
    }

    async fn friend(&self, ctx: &Context<'_>) -> Option<Animal> {
        called(ctx, "Cat.friend");
        let depth = self.depth + 1;
        (depth < END).then_some(Animal::Dog(Dog { depth }))
    }

    async fn noise(
        &self,
        ctx: &Context<'_>,
        #[graphql(default = false)] loud: bool,
    ) -> Option<String> {
        called(ctx, "Cat.noise");
        Some(if loud { "MEOW" } else { "meow" }.to_owned())
    }

    async fn meows(&self, ctx: &Context<'_>) -> Option<i32> {
        called(ctx, "Cat.meows");
        Some(3)
    }

    async fn owner(&self, ctx: &Context<'_>) -> Option<Person> {
        called(ctx, "Cat.owner");
        let depth = self.depth + 1;
        (depth < END).then_some(Person { depth })
    }

    async fn sound(&self, ctx: &Context<'_>) -> Option<i32> {
        called(ctx, "Cat.sound");
        Some(7)
    }
}

struct Person {
    depth: u32,
}

#[Object]
impl Person {
    async fn name(&self, ctx: &Context<'_>) -> String {
        called(ctx, "Person.name");
        "Ann".to_owned()
    }

    async fn age(&self, ctx: &Context<'_>) -> Option<i32> {
        called(ctx, "Person.age");
        None
    }

    async fn pets(&self, ctx: &Context<'_>) -> Option<Vec<Animal>> {
        called(ctx, "Person.pets");
        let depth = self.depth + 1;
        (depth < END).then_some(vec![Animal::Cat(Cat { depth }), Animal::Dog(Dog { depth })])
    }

    async fn friend(&self, ctx: &Context<'_>) -> Option<Person> {
        called(ctx, "Person.friend");
        let depth = self.depth + 1;
        (depth < END).then_some(Person { depth })
    }

    async fn says(
        &self,
        ctx: &Context<'_>,
        #[graphql(default = "hi")] what: String,
    ) -> Option<String> {
        called(ctx, "Person.says");
        Some(what)
    }
}

struct Strict;

#[Object]
impl Strict {
    async fn message(&self, ctx: &Context<'_>) -> String {
        called(ctx, "Strict.message");
        "m".to_owned()
    }

    async fn fail(&self, ctx: &Context<'_>) -> Result<String> {
        called(ctx, "Strict.fail");
        failed()
    }

    async fn maybe(&self, ctx: &Context<'_>) -> Result<Option<String>> {
        called(ctx, "Strict.maybe");
        failed()
    }

    async fn again(&self, ctx: &Context<'_>) -> Option<Strict> {
        called(ctx, "Strict.again");
        Some(Strict)
    }

    async fn must(&self, ctx: &Context<'_>) -> Strict {
        called(ctx, "Strict.must");
        Strict
    }

    async fn items(&self, ctx: &Context<'_>) -> Option<Vec<Strict>> {
        called(ctx, "Strict.items");
        Some(vec![Strict, Strict])
    }

    async fn words(&self, ctx: &Context<'_>) -> Option<Vec<Option<Result<String>>>> {
        called(ctx, "Strict.words");
        Some(vec![Some(Ok("a".to_owned())), Some(failed()), None])
    }

    async fn hard_words(&self, ctx: &Context<'_>) -> Option<Vec<Result<String>>> {
        called(ctx, "Strict.hardWords");
        Some(vec![Ok("a".to_owned()), failed()])
    }

    async fn nan(&self, ctx: &Context<'_>) -> f64 {
        called(ctx, "Strict.nan");
        f64::NAN
    }

    async fn floats(&self, ctx: &Context<'_>) -> Option<Vec<f64>> {
        called(ctx, "Strict.floats");
        Some(vec![0.5, f64::INFINITY])
    }

    async fn args(
        &self,
        ctx: &Context<'_>,
        #[graphql(default = 1)] n: i32,
        #[graphql(default_with = "vec![1]")] list: Vec<i32>,
    ) -> i32 {
        called(ctx, "Strict.args");
        n.clamp(0, 9) + list.len() as i32
    }
}

/// Which of a request's mutations it was.
struct Counter(u32);

impl Counter {
    fn now(ctx: &Context<'_>) -> Self {
        Self(ctx.data::<Calls>().map_or(0, Calls::mutations))
    }
}

#[Object]
impl Counter {
    async fn value(&self, ctx: &Context<'_>) -> u32 {
        called(ctx, "Counter.value");
        self.0
    }

    async fn animal(&self, ctx: &Context<'_>) -> Option<Animal> {
        called(ctx, "Counter.animal");
        Some(Animal::Dog(Dog { depth: 3 }))
    }
}

/// The root of mutations.
#[derive(Debug)]
pub struct Mutation;

#[Object]
impl Mutation {
    async fn add(&self, ctx: &Context<'_>, #[graphql(default = 1)] n: i32) -> Option<Counter> {
        called(ctx, "Mutation.add");
        (n != 0).then(|| Counter::now(ctx))
    }

    async fn fail(&self, ctx: &Context<'_>) -> Result<Option<i32>> {
        called(ctx, "Mutation.fail");
        failed()
    }

    async fn hard(&self, ctx: &Context<'_>, #[graphql(default = 1)] n: i32) -> Counter {
        called(ctx, "Mutation.hard");
        let _ = n;
        Counter::now(ctx)
    }
}

/// The root of subscriptions.
#[derive(Debug)]
pub struct Events;

#[Subscription(name = "Subscription")]
impl Events {
    async fn ticks(
        &self,
        ctx: &Context<'_>,
        #[graphql(default = 2)] n: i32,
    ) -> impl Stream<Item = Counter> + use<> {
        called(ctx, "Subscription.ticks");
        stream::iter((0..n.clamp(0, 3)).map(|_| Counter(1)))
    }

    async fn stricts(&self, ctx: &Context<'_>) -> impl Stream<Item = Option<Strict>> + use<> {
        called(ctx, "Subscription.stricts");
        stream::iter([Some(Strict), None])
    }
}
