//! Loaders: the keys that the fields of one level ask for, in one call.
//!
//! No timer: an operation is one future, and once it has been polled and waits, every field that could
//! run has run. What they asked for then goes out. So a level is as large as it can be, and waits for
//! nothing.

use std::{
    any::{Any, TypeId},
    collections::{HashMap, HashSet},
    fmt,
    hash::Hash,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use async_graphql::Result;
use futures_util::{StreamExt, stream::FuturesUnordered};
use parking_lot::Mutex;
use tokio::{
    sync::oneshot,
    task::{coop, yield_now},
};

use super::{context::Calls, error, fields::Answer};
use crate::call::{BoxFuture, boxed};

/// How often in a row an operation that can still run is polled without anything new being asked for: a
/// resolver that spins is not to keep its siblings from being answered.
const PATIENCE: u32 = 100;

/// A key that many fields of one level ask for, and that one call answers for all of them.
///
/// ```
/// # use std::collections::HashMap;
/// # use async_graphql::{Context, Object, Result};
/// use bff_engine::prelude::*;
/// # use bff_engine::{Method, Upstream};
/// # struct Catalog;
/// # impl Upstream for Catalog {
/// #     const NAME: &'static str = "catalog";
/// #     const SERVICE: &'static str = "catalog-srv";
/// # }
/// # #[derive(Clone, PartialEq, prost::Message)]
/// # pub struct Ids { #[prost(string, repeated, tag = "1")] ids: Vec<String> }
/// # static NAMES: Method<Catalog, Ids, Ids> = Method::unary("/shop.Catalog/Names").idempotent();
///
/// #[derive(Clone, Debug, PartialEq, Eq, Hash)]
/// struct SellerName(String);
///
/// impl Batch for SellerName {
///     type Value = String;
///
///     async fn load(keys: Vec<Self>, calls: Calls) -> Result<HashMap<Self, String>> {
///         let ids = keys.iter().map(|key| key.0.clone()).collect();
///         let names = calls.client().call(&NAMES, &Ids { ids }).await?.ids;
///         Ok(keys.into_iter().zip(names).collect())
///     }
/// }
///
/// # struct Product { seller_id: String }
/// #[Object]
/// impl Product {
///     async fn seller_name(&self, ctx: &Context<'_>) -> Answer<String> {
///         ctx.batch(SellerName(self.seller_id.clone())).await
///     }
/// }
/// ```
pub trait Batch: Clone + Eq + Hash + fmt::Debug + Send + Sync + 'static {
    /// What there is for a key.
    type Value: Clone + Send + Sync + 'static;

    /// The most keys of one call; of more, several are made, at the same time.
    const MAX_KEYS: usize = 100;

    /// Loads what there is for `keys`, each of which is there once. A key that is missing in the answer
    /// is an error of its fields, which names it; [`Answer::not_found_as_null`] makes it `null`.
    ///
    /// # Errors
    /// One for all the fields that asked for one of `keys`.
    fn load(
        keys: Vec<Self>,
        calls: Calls,
    ) -> impl Future<Output = Result<HashMap<Self, Self::Value>>> + Send;
}

/// What the fields of one operation have asked for. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Batches(Arc<Mutex<Asked>>);

#[derive(Default)]
struct Asked {
    queues: HashMap<TypeId, Box<dyn Waiting>>,
    /// How many fields have asked since the operation began.
    fields: usize,
}

impl fmt::Debug for Batches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Batches")
    }
}

/// Fields that wait, each with its key.
type Fields<B> = Vec<(B, oneshot::Sender<Answer<<B as Batch>::Value>>)>;

/// The keys of one type that wait, and what makes a call of them.
struct Queue<B: Batch> {
    asked: Fields<B>,
    calls: Calls,
}

trait Waiting: Send {
    fn as_any(&mut self) -> &mut dyn Any;

    /// The calls that answer all that wait.
    fn load(self: Box<Self>) -> Vec<BoxFuture<()>>;
}

impl<B: Batch> Waiting for Queue<B> {
    fn as_any(&mut self) -> &mut dyn Any {
        self
    }

    fn load(self: Box<Self>) -> Vec<BoxFuture<()>> {
        let Self { asked, calls } = *self;
        // Each key once, in the order in which they were asked for.
        let mut seen = HashSet::new();
        let keys: Vec<_> = asked
            .iter()
            .filter(|(key, _)| seen.insert(key.clone()))
            .map(|(key, _)| key.clone())
            .collect();
        let parts: Vec<_> = keys.chunks(B::MAX_KEYS.max(1)).map(<[B]>::to_vec).collect();
        let mut part_of = HashMap::new();
        for (n, part) in parts.iter().enumerate() {
            part_of.extend(part.iter().map(|key| (key.clone(), n)));
        }
        let mut fields: Vec<Fields<B>> = parts.iter().map(|_| Vec::new()).collect();
        for (key, field) in asked {
            if let Some(n) = part_of.get(&key) {
                fields[*n].push((key, field));
            }
        }
        let load = |(keys, fields): (Vec<B>, Fields<B>)| {
            let calls = calls.clone();
            boxed(async move {
                let found = B::load(keys, calls).await;
                for (key, field) in fields {
                    let answer = match &found {
                        Ok(values) => match values.get(&key) {
                            Some(value) => Answer::value(value.clone()),
                            None => error::not_in_batch(format!("{key:?}")).into(),
                        },
                        Err(error) => error.clone().into(),
                    };
                    // A field that was cancelled does not wait any more.
                    let _ = field.send(answer);
                }
            })
        };
        parts.into_iter().zip(fields).map(load).collect()
    }
}

impl Batches {
    /// Asks for `key` with what else is asked for on its level.
    pub(super) async fn ask<B: Batch>(
        &self,
        key: B,
        calls: impl FnOnce() -> Calls,
    ) -> Answer<B::Value> {
        let (sender, answer) = oneshot::channel();
        {
            let mut asked = self.0.lock();
            asked.fields += 1;
            let queue = asked.queues.entry(TypeId::of::<B>()).or_insert_with(|| {
                let (asked, calls) = (Vec::new(), calls());
                Box::new(Queue::<B> { asked, calls })
            });
            if let Some(queue) = queue.as_any().downcast_mut::<Queue<B>>() {
                queue.asked.push((key, sender));
            }
        }
        match answer.await {
            Ok(answer) => answer,
            // Whoever would answer is gone, and so is the operation.
            Err(_) => Answer::null(),
        }
    }

    fn fields(&self) -> usize {
        self.0.lock().fields
    }

    fn take(&self) -> Vec<BoxFuture<()>> {
        let queues = std::mem::take(&mut self.0.lock().queues);
        queues.into_values().flat_map(Waiting::load).collect()
    }
}

/// Polls an operation and makes the calls that its fields wait for.
pub(super) struct Driver {
    batches: Batches,
    running: FuturesUnordered<BoxFuture<()>>,
    /// How many fields had asked after the last poll, and how often in a row it has been as many while
    /// something could still run.
    fields: usize,
    idle: u32,
    /// Is used once all that was put off before it has run.
    gave_way: Option<Arc<Noticing>>,
    /// Notices that something could run again while the operation was polled; there is none before
    /// anything was asked for.
    noticing: Option<Arc<Noticing>>,
}

impl Driver {
    pub(super) fn new(batches: Batches) -> Self {
        Self {
            batches,
            running: FuturesUnordered::new(),
            fields: 0,
            idle: 0,
            gave_way: None,
            noticing: None,
        }
    }

    /// Polls with `poll`, and goes on with the calls for as long as that leads anywhere.
    pub(super) fn poll<T>(
        &mut self,
        cx: &mut Context<'_>,
        mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        if self.noticing.is_none() {
            let polled = poll(cx);
            if polled.is_ready() || self.batches.fields() == 0 {
                return polled;
            }
        }
        loop {
            let noticing = Noticing::of(&mut self.noticing, cx.waker());
            let waker = Waker::from(Arc::clone(&noticing));
            let noticed = &mut Context::from_waker(&waker);
            if let Poll::Ready(value) = poll(noticed) {
                return Poll::Ready(value);
            }
            if !self.is_held_back(noticing.was_used(), cx.waker()) {
                self.running.extend(self.batches.take());
            }
            let mut answered = false;
            while let Poll::Ready(Some(())) = self.running.poll_next_unpin(noticed) {
                answered = true;
            }
            if !answered {
                return Poll::Pending;
            }
        }
    }
}

impl Driver {
    /// Whether what was asked for waits for more: `can_run` says that something else can run already, and
    /// may ask too, so that the operation is polled again first.
    fn is_held_back(&mut self, can_run: bool, task: &Waker) -> bool {
        let fields = self.batches.fields();
        let asked_more = fields != self.fields;
        self.fields = fields;
        match asked_more {
            true => self.idle = 0,
            false => self.idle = self.idle.saturating_add(1),
        }
        // Tokio puts off some of what can run, and says so to nobody: what gives way to other tasks, and
        // whatever a task does beyond its budget. So the operation gives way too, behind those.
        // So does one that goes on in another task: whoever would have been woken may not come back.
        let mut before = self.gave_way.iter();
        let left = before.any(|waker| !waker.was_used() && !waker.task.will_wake(task));
        if asked_more || left || !coop::has_budget_remaining() {
            let gave_way = Noticing::new(task);
            let waker = Waker::from(Arc::clone(&gave_way));
            let _ = pin!(yield_now()).poll(&mut Context::from_waker(&waker));
            self.gave_way = Some(gave_way);
        }
        let others_ran = self.gave_way.as_ref().is_none_or(|waker| waker.was_used());
        (can_run || !others_ran) && self.idle < PATIENCE
    }
}

/// A waker that notices that it was used.
struct Noticing {
    task: Waker,
    woken: AtomicBool,
}

impl Noticing {
    fn new(task: &Waker) -> Arc<Self> {
        Arc::new(Self {
            task: task.clone(),
            woken: AtomicBool::new(false),
        })
    }

    /// The one that wakes `task`, as if it had not been used yet.
    fn of(kept: &mut Option<Arc<Self>>, task: &Waker) -> Arc<Self> {
        match kept.as_ref().filter(|kept| kept.task.will_wake(task)) {
            Some(kept) => {
                kept.woken.store(false, Ordering::Release);
                Arc::clone(kept)
            }
            None => Arc::clone(kept.insert(Self::new(task))),
        }
    }

    fn was_used(&self) -> bool {
        self.woken.load(Ordering::Acquire)
    }
}

impl Wake for Noticing {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.store(true, Ordering::Release);
        self.task.wake_by_ref();
    }
}
