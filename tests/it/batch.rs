//! Loaders: what the fields of a level ask for, in one call.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_graphql::{Context, EmptyMutation, Error, Object, Result, Schema, Subscription};
use bff_engine::{internals::Graph, prelude::*};
use futures_util::{Stream, stream};
use serde_json::{Value, json};

/// The keys of each call, in order.
type Loaded = Arc<Mutex<Vec<Vec<u32>>>>;

/// A key of one test: what it loads is written down with it.
#[derive(Clone)]
struct Name {
    id: u32,
    loaded: Loaded,
}

impl std::fmt::Debug for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Name({})", self.id)
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for Name {}

impl std::hash::Hash for Name {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.id.hash(state);
    }
}

impl Batch for Name {
    type Value = String;
    const MAX_KEYS: usize = 10;

    async fn load(keys: Vec<Self>, _: Calls) -> Result<HashMap<Self, String>> {
        let ids: Vec<_> = keys.iter().map(|key| key.id).collect();
        keys[0].loaded.lock().unwrap().push(ids.clone());
        // An answer takes a while, as from another machine.
        tokio::time::sleep(Duration::from_millis(5)).await;
        if ids.contains(&666) {
            return Err(Error::new("the call failed"));
        }
        let known = keys.into_iter().filter(|key| key.id != 404);
        Ok(known
            .map(|key| (key.clone(), format!("name of {}", key.id)))
            .collect())
    }
}

struct Thing {
    id: u32,
    /// How often the field gives way to others before it asks.
    yields: usize,
}

#[Object]
impl Thing {
    async fn name(&self, ctx: &Context<'_>) -> Answer<String> {
        for _ in 0..self.yields {
            tokio::task::yield_now().await;
        }
        let loaded = ctx.data_unchecked::<Loaded>().clone();
        ctx.batch(Name {
            id: self.id,
            loaded,
        })
        .await
    }

    async fn maybe(&self, ctx: &Context<'_>) -> Answer<String> {
        let loaded = ctx.data_unchecked::<Loaded>().clone();
        let key = Name {
            id: self.id,
            loaded,
        };
        ctx.batch(key).await.not_found_as_null()
    }

    /// Things of the next level.
    async fn next(&self) -> Vec<Thing> {
        vec![Thing {
            id: self.id + 1000,
            yields: 0,
        }]
    }

    /// The next level, once the name is known.
    async fn next_of_named(&self, ctx: &Context<'_>) -> Vec<Thing> {
        let loaded = ctx.data_unchecked::<Loaded>().clone();
        let _ = ctx
            .batch(Name {
                id: self.id,
                loaded,
            })
            .await
            .into_result();
        vec![Thing {
            id: self.id + 1000,
            yields: 0,
        }]
    }
}

struct Query;

#[Object]
impl Query {
    async fn things(&self, ids: Vec<u32>) -> Vec<Thing> {
        ids.into_iter().map(|id| Thing { id, yields: 0 }).collect()
    }

    /// Gives way to others until something was loaded.
    async fn spins(&self, ctx: &Context<'_>) -> bool {
        while ctx.data_unchecked::<Loaded>().lock().unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
        true
    }

    /// Each gives way a different number of times.
    async fn late(&self, count: u32) -> Vec<Thing> {
        let thing = |id| Thing {
            id,
            yields: id as usize,
        };
        (0..count).map(thing).collect()
    }
}

struct Events;

#[Subscription]
impl Events {
    async fn events(&self) -> impl Stream<Item = Vec<Thing>> {
        let event = |n| {
            vec![
                Thing { id: n, yields: 0 },
                Thing {
                    id: n + 10,
                    yields: 0,
                },
            ]
        };
        stream::iter([event(1), event(2)])
    }
}

fn graph() -> (Graph, Loaded) {
    let loaded = Loaded::default();
    let data = loaded.clone();
    let schema = move || Schema::build(Query, EmptyMutation, Events).data(data.clone());
    (Graph::new(schema, "").unwrap(), loaded)
}

async fn ask(query: &str) -> (Value, Vec<Vec<u32>>) {
    let (graph, loaded) = graph();
    let answer = graph.execute(json!({ "query": query })).await.unwrap();
    let loaded = loaded.lock().unwrap().clone();
    (serde_json::from_str(&answer).unwrap(), loaded)
}

#[tokio::test]
async fn all_keys_of_a_level_go_out_in_one_call_each_once_and_are_joined_by_key() {
    let (answer, loaded) = ask("{ things(ids: [3, 1, 3, 2]) { name } }").await;
    assert_eq!(loaded, [[3, 1, 2]]);
    let names = ["name of 3", "name of 1", "name of 3", "name of 2"];
    let names: Vec<_> = names.iter().map(|name| json!({ "name": name })).collect();
    assert_eq!(answer, json!({ "data": { "things": names } }));
}

#[tokio::test]
async fn two_fields_of_a_thing_that_want_the_same_ask_once() {
    let (_, loaded) = ask("{ things(ids: [1, 2]) { name again: name maybe } }").await;
    assert_eq!(loaded, [[1, 2]]);
}

#[tokio::test]
async fn more_keys_than_a_call_takes_are_split_and_all_are_answered() {
    let ids: Vec<_> = (0..25).collect();
    let (answer, loaded) = ask(&format!("{{ things(ids: {ids:?}) {{ name }} }}")).await;
    assert_eq!(loaded.iter().map(Vec::len).collect::<Vec<_>>(), [10, 10, 5]);
    assert_eq!(answer["data"]["things"][24]["name"], "name of 24");
}

#[tokio::test]
async fn a_level_below_goes_out_by_itself_and_one_that_can_run_comes_along() {
    // `next` needs nothing, so both levels run before anything is waited for.
    let (_, loaded) = ask("{ things(ids: [1, 2]) { name next { name } } }").await;
    assert_eq!(loaded.len(), 1, "{loaded:?}");
    let (_, loaded) = ask("{ things(ids: [1, 2]) { nextOfNamed { name } } }").await;
    assert_eq!(loaded, [[1, 2], [1001, 1002]]);
}

#[tokio::test]
async fn fields_that_give_way_to_others_before_they_ask_are_waited_for() {
    let (answer, loaded) = ask("{ late(count: 8) { name } }").await;
    assert_eq!(loaded, [[0, 1, 2, 3, 4, 5, 6, 7]]);
    assert_eq!(answer["data"]["late"][7]["name"], "name of 7");
}

#[tokio::test(flavor = "multi_thread")]
async fn fields_that_give_way_are_waited_for_also_where_tokio_puts_them_off() {
    let asked = tokio::spawn(async { ask("{ late(count: 8) { name } }").await });
    assert_eq!(asked.await.unwrap().1, [[0, 1, 2, 3, 4, 5, 6, 7]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_field_that_spins_does_not_keep_its_siblings_from_being_answered() {
    let asked = tokio::spawn(async { ask("{ spins things(ids: [1]) { name } }").await });
    let (answer, _) = asked.await.unwrap();
    assert_eq!(answer["data"]["spins"], true);
}

#[tokio::test]
async fn a_hundred_and_more_fields_are_one_level() {
    // Beyond thirty the library polls a list in another way; beyond 128 tokio makes a task give way.
    let ids: Vec<_> = (0..300).map(|n| n % 10).collect();
    let (_, loaded) = ask(&format!("{{ things(ids: {ids:?}) {{ name }} }}")).await;
    assert_eq!(loaded.len(), 1, "{loaded:?}");
}

#[tokio::test]
async fn a_key_without_an_answer_is_named_and_its_siblings_are_served() {
    let (answer, _) = ask("{ things(ids: [1, 404]) { name } }").await;
    let things = json!([{ "name": "name of 1" }, { "name": null }]);
    assert_eq!(answer["data"]["things"], things);
    let error = &answer["errors"][0];
    assert_eq!(error["message"], "Nothing was found for Name(404).");
    assert_eq!(error["path"], json!(["things", 1, "name"]));
    assert_eq!(answer["errors"].as_array().map(Vec::len), Some(1));
    let (answer, _) = ask("{ things(ids: [404]) { maybe } }").await;
    assert_eq!(answer, json!({ "data": { "things": [{ "maybe": null }] } }));
}

#[tokio::test]
async fn a_call_that_fails_is_an_error_of_each_field_that_waits_for_it() {
    let (answer, loaded) = ask("{ things(ids: [1, 666]) { name } }").await;
    assert_eq!(loaded.len(), 1);
    let messages = answer["errors"].as_array().unwrap();
    let messages: Vec<_> = messages.iter().map(|error| &error["message"]).collect();
    assert_eq!(messages, ["the call failed", "the call failed"]);
}

#[tokio::test]
async fn an_operation_that_goes_on_in_another_task_is_answered() {
    use futures_util::FutureExt;
    let (graph, _) = graph();
    let query = json!({ "query": "{ things(ids: [1]) { name } }" });
    let mut asked = Box::pin(graph.execute(query));
    // Polled once by somebody who never comes back.
    assert!(asked.as_mut().now_or_never().is_none());
    let answer = tokio::time::timeout(Duration::from_secs(5), asked).await;
    assert!(answer.expect("an answer").unwrap().contains("name of 1"));
}

#[tokio::test]
async fn each_event_of_a_subscription_is_an_operation_of_its_own() {
    let (graph, loaded) = graph();
    let query = json!({ "query": "subscription { events { name } }" });
    let answers = graph.subscribe(query).await.unwrap();
    assert_eq!(answers.len(), 2);
    assert_eq!(*loaded.lock().unwrap(), [[1, 11], [2, 12]]);
}
