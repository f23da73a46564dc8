//! A program without upstreams whose schema has one of everything, and time that passes when nothing else is
//! to be done: a timeout of ten seconds takes none.

use std::sync::OnceLock;

use async_graphql::{
    Context, Enum, InputObject, Interface, Object, Schema, SchemaBuilder, SimpleObject,
    Subscription, Union,
};
use bff_engine::{Bff, testing::TestBff};
use futures_util::{Stream, stream};
use tokio::runtime::{Builder, Runtime};

#[derive(Clone, Copy, PartialEq, Eq, Enum)]
enum Mood {
    Good,
    Bad,
}

#[derive(Clone, SimpleObject)]
#[graphql(complex)]
struct Dog {
    name: String,
    mood: Mood,
    barks: Option<bool>,
}

#[async_graphql::ComplexObject]
impl Dog {
    async fn friend(&self) -> Option<Animal> {
        Some(cat())
    }
}

#[derive(Clone, SimpleObject)]
#[graphql(complex)]
struct Cat {
    name: String,
    mood: Mood,
    lives: i32,
}

#[async_graphql::ComplexObject]
impl Cat {
    async fn friend(&self) -> Option<Animal> {
        Some(dog())
    }
}

#[derive(Clone, Interface)]
#[graphql(
    field(name = "name", ty = "&String"),
    field(name = "mood", ty = "&Mood"),
    field(name = "friend", ty = "Option<Animal>")
)]
enum Animal {
    Dog(Dog),
    Cat(Cat),
}

#[derive(Union)]
enum Thing {
    Dog(Dog),
    Number(Number),
}

#[derive(SimpleObject)]
struct Number {
    value: f64,
}

#[derive(InputObject)]
struct Wish {
    name: String,
    #[graphql(default = 1)]
    times: i32,
    mood: Option<Mood>,
    and: Option<Box<Wish>>,
    tags: Option<Vec<Option<String>>>,
}

fn dog() -> Animal {
    Animal::Dog(Dog {
        name: "Rex".to_owned(),
        mood: Mood::Good,
        barks: Some(true),
    })
}

fn cat() -> Animal {
    Animal::Cat(Cat {
        name: "Tom".to_owned(),
        mood: Mood::Bad,
        lives: 9,
    })
}

/// The root of queries.
pub struct Query;

#[Object]
impl Query {
    async fn animals(&self) -> Vec<Animal> {
        vec![dog(), cat()]
    }

    async fn things(&self) -> Vec<Option<Thing>> {
        vec![None, Some(Thing::Number(Number { value: 0.5 }))]
    }

    async fn echo(&self, text: String, #[graphql(default)] numbers: Vec<i32>) -> String {
        format!("{text}{numbers:?}")
    }

    async fn wish(&self, wish: Wish) -> i32 {
        let below = wish.and.map_or(0, |and| and.times);
        let tags = wish.tags.map_or(0, |tags| tags.len()) as i32;
        wish.times
            .wrapping_add(below)
            .wrapping_add(tags)
            .wrapping_add(wish.name.len() as i32)
    }

    async fn fails(&self) -> async_graphql::Result<Option<i32>> {
        Err("as it should".into())
    }

    async fn operation(&self, ctx: &Context<'_>) -> Option<String> {
        Some(ctx.field().name().to_owned())
    }
}

/// The root of mutations.
pub struct Mutation;

#[Object]
impl Mutation {
    async fn change(&self, mood: Option<Mood>) -> Option<Mood> {
        mood
    }
}

/// The root of subscriptions.
pub struct Ticks;

#[Subscription]
impl Ticks {
    async fn ticks(&self, #[graphql(default = 3)] to: u8) -> impl Stream<Item = u8> {
        stream::iter(0..to)
    }
}

fn schema() -> SchemaBuilder<Query, Mutation, Ticks> {
    Schema::build(Query, Mutation, Ticks)
}

/// The program, and the runtime it lives in.
pub struct Fuzzed {
    runtime: Runtime,
    bff: TestBff,
}

impl Fuzzed {
    /// The same for all inputs.
    pub fn get() -> &'static Self {
        static FUZZED: OnceLock<Fuzzed> = OnceLock::new();
        FUZZED.get_or_init(|| Self::start().expect("a program"))
    }

    fn start() -> anyhow::Result<Self> {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()?;
        let bff = runtime.block_on(TestBff::start(Bff::new("fuzzed", schema)))?;
        Ok(Self { runtime, bff })
    }

    /// What a client is answered that says these bytes on a connection.
    pub fn answers(&self, said: &[u8]) -> Vec<u8> {
        self.runtime.block_on(self.bff.answers(said))
    }

    /// What is answered to a request.
    pub fn request(&self, request: &serde_json::Value) -> serde_json::Value {
        self.runtime.block_on(self.bff.request(request))
    }
}
