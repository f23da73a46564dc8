//! Keeps the connection to one instance: dials it in the background, again when it has ended, and
//! after failures with pauses that grow.
//!
//! As gRPC's connection backoff has it, but with shorter pauses, because it is the one service and not
//! a channel of many: 0.1 s, doubled up to 10 s. A good connection starts over: one that answered a call,
//! or that nobody needed for a while.

use std::{
    sync::{Arc, Weak, atomic::Ordering},
    time::Duration,
};

use arc_swap::ArcSwap;
use futures_util::future::OptionFuture;
use http::uri::Authority;
use tokio::{
    select,
    sync::Semaphore,
    time::{Instant, sleep, sleep_until},
};
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, info};

use super::{Shared, endpoint::Endpoint, link::Link};
use crate::{
    call::{
        BoxFuture, boxed,
        transport::{Connect, Connection, Ended, Established, NotConnected},
    },
    types::Backoff,
};

/// The pauses between attempts to connect.
pub(super) const PAUSES: Backoff = Backoff {
    base: Duration::from_millis(100),
    max: Duration::from_secs(10),
    jitter: 0.8..=1.0,
};
/// A connection that lasted for this long was a good one, whatever became of the calls on it.
const LASTED: Duration = Duration::from_secs(10);
/// One that no call was sent on was, if it lasted for this long: some servers close what is idle. Sooner,
/// it is one that is not wanted, by a server that is about to stop.
const LASTED_IDLE: Duration = Duration::from_secs(1);
/// How many instances of a service are dialled at one time: a long list is no reason for a storm of
/// connections.
pub(super) const AT_ONE_TIME: usize = 32;
/// For how long an instance that is no longer listed keeps its connection.
pub(super) const KEEP: Duration = Duration::from_secs(300);

/// What every task of a balancer needs.
pub(super) struct Dialler<C: Connect> {
    pub(super) shared: Weak<Shared<C::Channel>>,
    pub(super) connect: Arc<ArcSwap<C>>,
    /// For those that are dialled at one time.
    pub(super) places: Arc<Semaphore>,
}

impl<C: Connect> Clone for Dialler<C> {
    fn clone(&self) -> Self {
        Self {
            shared: Weak::clone(&self.shared),
            connect: Arc::clone(&self.connect),
            places: Arc::clone(&self.places),
        }
    }
}

/// A connection that calls use.
struct Current<C: Connect> {
    established: Arc<Established<C::Channel>>,
    ended: BoxFuture<Ended>,
    /// How it was made.
    by: Arc<C>,
    since: Instant,
}

impl<C: Connect> Current<C> {
    fn was_good(&self) -> bool {
        let lived = self.since.elapsed();
        let used = self.established.was_used();
        self.established.has_answered() || lived >= LASTED || (!used && lived >= LASTED_IDLE)
    }
}

impl<C: Connect> Dialler<C> {
    /// Keeps `endpoint` connected for as long as it exists.
    pub(super) fn keep(&self, endpoint: &Arc<Endpoint<C::Channel>>) {
        let Some(upstream) = self.shared.upgrade().map(|shared| shared.name) else {
            return;
        };
        let keeper = Keeper {
            upstream,
            dialler: self.clone(),
            endpoint: Arc::downgrade(endpoint),
            link: Arc::clone(endpoint.link()),
            address: endpoint.address().clone(),
            calm: 0,
        };
        endpoint.kept_by(AbortOnDropHandle::new(tokio::spawn(keeper.run())));
    }

    /// Has the view made anew. Of many instances that connect at one time, once for all of them.
    fn changed(&self) {
        let Some(shared) = self.shared.upgrade() else {
            return;
        };
        if !shared.changing.swap(true, Ordering::AcqRel) {
            tokio::spawn(async move {
                tokio::task::yield_now().await;
                shared.changing.swap(false, Ordering::AcqRel);
                shared.connectivity_changed();
            });
        }
    }

    async fn dial(self, address: Authority, calm: u32) -> Result<Current<C>, NotConnected> {
        // The places are there for as long as somebody dials.
        let place = Arc::clone(&self.places).acquire_owned().await;
        let place = place.map_err(|closed| NotConnected(closed.to_string()))?;
        let by = self.connect.load_full();
        let Connection { channel, ended } = by.connect(&address, calm, place).await?;
        let (connect, places) = (Arc::clone(&by), Arc::clone(&self.places));
        let more = move |more_calm: u32| {
            let (connect, places, address) =
                (Arc::clone(&connect), Arc::clone(&places), address.clone());
            boxed(async move {
                let place = places.acquire_owned().await;
                let place = place.map_err(|closed| NotConnected(closed.to_string()))?;
                connect.connect(&address, calm + more_calm, place).await
            })
        };
        Ok(Current {
            established: Arc::new(Established::new(channel, Box::new(more))),
            ended,
            by,
            since: Instant::now(),
        })
    }

    /// Dials until it is connected.
    async fn dial_on(self, address: Authority, calm: u32) -> Current<C> {
        let mut failures = 0;
        loop {
            match self.clone().dial(address.clone(), calm).await {
                Ok(current) => return current,
                Err(_) => {
                    let pause = PAUSES.pause(failures, &mut rand::rng());
                    sleep(pause).await;
                }
            }
            failures += 1;
        }
    }
}

/// How a connection stopped being the one that calls use.
enum Over<C: Connect> {
    Ended(Ended),
    Replaced(Current<C>),
}

/// Keeps the connection to one instance.
struct Keeper<C: Connect> {
    upstream: &'static str,
    dialler: Dialler<C>,
    endpoint: Weak<Endpoint<C::Channel>>,
    link: Arc<Link<C::Channel>>,
    address: Authority,
    /// How often the peer wanted fewer pings (gRPC A8: each time half as many, and never more again).
    calm: u32,
}

impl<C: Connect> Keeper<C> {
    async fn run(mut self) {
        let (mut failures, mut logged) = (0, false);
        loop {
            while !self.link.is_listed() {
                self.link.look().await;
            }
            self.link.connecting();
            let dialled = self.dialler.clone().dial(self.address.clone(), self.calm);
            let (why, lost) = match dialled.await {
                Err(NotConnected(why)) => (why, false),
                Ok(current) => match self.use_up(current).await {
                    true => {
                        failures = 0;
                        logged = false;
                        continue;
                    }
                    false => {
                        let why = "it closes its connections without an answer";
                        (why.to_owned(), true)
                    }
                },
            };
            failures += 1;
            if lost && failures == 1 {
                continue;
            }
            // The first failure of an outage is a line in the log.
            let (upstream, address) = (self.upstream, &self.address);
            match std::mem::replace(&mut logged, true) {
                false => {
                    info!(%upstream, instance = %address, why, "an instance cannot be reached")
                }
                true => {
                    debug!(%upstream, instance = %address, failures, why, "an instance cannot be reached");
                }
            }
            self.pause(failures, &why).await;
        }
    }

    /// Waits before the next attempt to connect.
    async fn pause(&self, failures: u32, why: &str) {
        let pause = PAUSES.pause(failures - 1, &mut rand::rng());
        let now = Instant::now();
        self.link.failed(why, now);
        self.dialler.changed();
        let again = now + pause;
        // A call that finds no connection anywhere does not wait for the pause to end.
        while !self.link.is_connecting() {
            select! {
                () = sleep_until(again) => break,
                () = self.link.look() => {}
            }
        }
    }

    /// Lets calls use `current`, and what replaces it, until it has ended: `true` if it was a good one.
    async fn use_up(&mut self, mut current: Current<C>) -> bool {
        if let Some(endpoint) = self.endpoint.upgrade() {
            endpoint.starts_slowly();
        }
        self.link.up(Arc::clone(&current.established));
        self.dialler.changed();
        let ended = loop {
            match self.watch(&mut current).await {
                Over::Ended(ended) => break ended,
                Over::Replaced(next) => {
                    self.link.up(Arc::clone(&next.established));
                    current = next;
                }
            }
        };
        if ended == Ended::TooManyPings {
            self.calm += 1;
        }
        self.link.connecting();
        self.dialler.changed();
        current.was_good()
    }

    /// Waits until `current` has ended, is not to be used any more, or is replaced because connections
    /// are made in another way by now.
    async fn watch(&self, current: &mut Current<C>) -> Over<C> {
        let mut renewal: OptionFuture<BoxFuture<Current<C>>> = None.into();
        let mut renews = false;
        loop {
            if !renews && !Arc::ptr_eq(&current.by, &self.dialler.connect.load()) {
                let next = self
                    .dialler
                    .clone()
                    .dial_on(self.address.clone(), self.calm);
                renewal = Some(boxed(next)).into();
                renews = true;
            }
            let left = async {
                match self.link.is_listed() {
                    true => std::future::pending().await,
                    false => sleep(KEEP).await,
                }
            };
            select! {
                ended = &mut current.ended => return Over::Ended(ended),
                Some(next) = &mut renewal, if renews => return Over::Replaced(next),
                () = left => return Over::Ended(Ended::Closed),
                () = self.link.look() => if !self.link.uses(&current.established) {
                    return Over::Ended(Ended::Closed);
                }
            }
        }
    }
}
