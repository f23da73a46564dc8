//! Keeps the connection to one instance: dials it in the background, again when it has ended, and
//! after failures with pauses that grow.
//!
//! As gRPC's connection backoff has it, but with shorter pauses, because it is the one service and not
//! a channel of many: 0.1 s, doubled up to 10 s. A connection that answered, or was there for long,
//! starts over.

use std::{
    sync::{Arc, Weak, atomic::Ordering},
    time::Duration,
};

use arc_swap::ArcSwap;
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
    call::transport::{Connect, Connection, Ended, Established, NotConnected},
    types::Backoff,
};

/// The pauses between attempts to connect.
pub(super) const PAUSES: Backoff = Backoff {
    base: Duration::from_millis(100),
    max: Duration::from_secs(10),
    jitter: 0.8..=1.0,
};
/// A connection that lasted for this long was a good one, whether it was used or not.
const LASTED: Duration = Duration::from_secs(10);
/// How many instances of a service are dialled at one time: a long list is no reason for a storm of
/// connections.
pub(super) const AT_ONE_TIME: usize = 32;
/// For how long an instance that is no longer listed keeps its connection.
pub(super) const KEEP: Duration = Duration::from_secs(300);

/// What every task of a balancer needs.
pub(super) struct Dialler<C: Connect> {
    pub(super) shared: Weak<Shared<C::Channel>>,
    pub(super) connect: Arc<ArcSwap<C>>,
    pub(super) permits: Arc<Semaphore>,
}

impl<C: Connect> Clone for Dialler<C> {
    fn clone(&self) -> Self {
        Self {
            shared: Weak::clone(&self.shared),
            connect: Arc::clone(&self.connect),
            permits: Arc::clone(&self.permits),
        }
    }
}

impl<C: Connect> Dialler<C> {
    /// Keeps `endpoint` connected for as long as it exists.
    pub(super) fn keep(&self, endpoint: &Arc<Endpoint<C::Channel>>) {
        let link = Arc::clone(endpoint.link());
        let task = self
            .clone()
            .run(Arc::downgrade(endpoint), link, endpoint.address().clone());
        endpoint.kept_by(AbortOnDropHandle::new(tokio::spawn(task)));
    }

    async fn run(
        self,
        endpoint: Weak<Endpoint<C::Channel>>,
        link: Arc<Link<C::Channel>>,
        address: Authority,
    ) {
        let Some(upstream) = self.shared.upgrade().map(|shared| shared.name) else {
            return;
        };
        // The first failure of an outage is a line in the log.
        let (mut failures, mut logged) = (0, false);
        // How often the peer wanted fewer pings (gRPC A8: each time half as many).
        let mut calm = 0;
        loop {
            while !link.is_listed() {
                link.look().await;
            }
            link.connecting();
            let (why, lost) = match self.dial(&address, calm).await {
                Some(Err(NotConnected(why))) => (why, false),
                None => return,
                Some(Ok(connection)) => {
                    let since = Instant::now();
                    if let Some(endpoint) = endpoint.upgrade() {
                        endpoint.starts_slowly();
                    }
                    let established = Arc::new(Established::new(connection.channel));
                    link.up(Arc::clone(&established));
                    self.changed();
                    match self.watch(&link, &established, connection.ended).await {
                        Ended::TooManyPings => calm += 1,
                        Ended::Closed => {}
                    }
                    link.connecting();
                    self.changed();
                    if established.has_answered() || since.elapsed() >= LASTED {
                        failures = 0;
                        logged = false;
                        continue;
                    }
                    let why = "it closes its connections without an answer".to_owned();
                    (why, true)
                }
            };
            failures += 1;
            if lost && failures == 1 {
                continue;
            }
            match std::mem::replace(&mut logged, true) {
                false => {
                    info!(%upstream, instance = %address, why, "an instance cannot be reached")
                }
                true => {
                    debug!(%upstream, instance = %address, failures, why, "an instance cannot be reached");
                }
            }
            let pause = PAUSES.pause(failures - 1, &mut rand::rng());
            let now = Instant::now();
            link.failed(&why, now);
            self.changed();
            let again = now + pause;
            // A call that finds no connection anywhere does not wait for the pause to end.
            while !link.is_connecting() {
                select! {
                    () = sleep_until(again) => break,
                    () = link.look() => {}
                }
            }
        }
    }

    /// `None` if the balancer is gone.
    async fn dial(
        &self,
        address: &Authority,
        calm: u32,
    ) -> Option<Result<Connection<C::Channel>, NotConnected>> {
        let _permit = self.permits.acquire().await.ok()?;
        let dialled = self.connect.load().connect(address, calm);
        Some(dialled.await)
    }

    /// Waits until `established` has ended or is not to be used any more.
    async fn watch(
        &self,
        link: &Link<C::Channel>,
        established: &Arc<Established<C::Channel>>,
        mut ended: crate::call::BoxFuture<Ended>,
    ) -> Ended {
        loop {
            let left = async {
                match link.is_listed() {
                    true => std::future::pending().await,
                    false => sleep(KEEP).await,
                }
            };
            select! {
                ended = &mut ended => return ended,
                () = left => return Ended::Closed,
                () = link.look() => if !link.uses(established) {
                    return Ended::Closed;
                }
            }
        }
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
}
