//! Which instance of a service gets a call.
//!
//! [`Balance`] is a tower service. For each call [`picker`] chooses a connected endpoint from the current
//! [`view`] and makes one attempt on it; [`guard`] reports its outcome to [`stats`] (what the endpoint
//! costs), [`gate`] (whether it may take calls) and [`outlier`] (whether it answers worse than its
//! siblings). Each endpoint has one connection, which a task keeps in the background ([`dial`], [`link`])
//! and which lives as long as the endpoint is listed: a list that changes elsewhere never touches it.
//!
//! Nothing here names a service or knows where lists come from.

mod attempt;
mod choice;
mod dial;
mod eject;
mod endpoint;
mod gate;
mod guard;
mod link;
mod outlier;
mod picker;
mod sampler;
#[cfg(feature = "internals")]
pub(crate) mod simulated;
mod stats;
mod view;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use arc_swap::ArcSwap;
use http::uri::Authority;
use parking_lot::Mutex;
use tokio::{
    sync::{Semaphore, watch},
    time::Instant,
};
use tokio_util::task::AbortOnDropHandle;
use tower::Service;

use self::{
    dial::Dialler, endpoint::Endpoint, guard::EndpointGuard, picker::Wanted, stats::Typical,
    view::View,
};
use crate::{
    call::{
        BoxFuture, Call, Config, EjectionConfig, Failed, Guarded, NoTimeLeft, Reply, Strategy,
        TOO_LITTLE, Timing, boxed, now,
        transport::{self, Connect, Established},
    },
    discovery::{Instance, Members, Watch},
};

/// How a balancer behaves.
#[derive(Clone, Debug, PartialEq)]
struct Options {
    strategy: Strategy,
    ejection: EjectionConfig,
}

impl Options {
    fn new(config: &Config) -> Self {
        Self {
            strategy: config.balancer,
            ejection: config.ejection.clone(),
        }
    }
}

/// Where an attempt goes.
struct Chosen<S> {
    endpoint: Arc<Endpoint<S>>,
    established: Arc<Established<S>>,
    /// Whether it decides about the endpoint's return.
    probe: bool,
}

/// What the clones of a balancer share.
struct Shared<S> {
    /// The upstream's name, for the log.
    name: &'static str,
    options: ArcSwap<Options>,
    view: ArcSwap<View<S>>,
    /// Whether there ever was an instance.
    seen: AtomicBool,
    ejections: AtomicU64,
    /// What a call takes, on whichever instance.
    typical: Typical,
    /// When instances were last compared.
    compared: Mutex<Option<Instant>>,
    /// Changes whenever an instance connects, or fails to, for calls that wait for one.
    connectivity: watch::Sender<()>,
    /// Whether that is about to happen.
    changing: AtomicBool,
    /// Held while a view is replaced, so that no replacement gets lost.
    replacing: Mutex<()>,
}

/// The balancer of one service: a tower service that sends each call to one instance.
pub(crate) struct Balance<C: Connect> {
    shared: Arc<Shared<C::Channel>>,
    connect: Arc<ArcSwap<C>>,
    dialler: Dialler<C>,
    /// Ends with the last clone.
    follow: Option<Arc<AbortOnDropHandle<()>>>,
}

impl<C: Connect> Clone for Balance<C> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            connect: Arc::clone(&self.connect),
            dialler: self.dialler.clone(),
            follow: self.follow.clone(),
        }
    }
}

impl<C: Connect> fmt::Debug for Balance<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Balance")
            .field("name", &self.shared.name)
            .finish_non_exhaustive()
    }
}

impl<C: Connect> Balance<C> {
    /// A balancer without instances; [`apply`](Self::apply) gives it some, within a tokio runtime.
    pub(crate) fn new(name: &'static str, config: &Config, connect: C) -> Self {
        let shared = Arc::new(Shared::new(name, config));
        let connect = Arc::new(ArcSwap::from_pointee(connect));
        Self {
            dialler: Dialler {
                shared: Arc::downgrade(&shared),
                connect: Arc::clone(&connect),
                places: Arc::new(Semaphore::new(dial::AT_ONE_TIME)),
            },
            shared,
            connect,
            follow: None,
        }
    }

    /// A balancer that applies every list of `watch`, for as long as a clone of it exists.
    pub(crate) fn following(
        name: &'static str,
        config: &Config,
        connect: C,
        mut watch: Watch,
    ) -> Self {
        let mut balance = Self::new(name, config, connect);
        balance.apply(&watch.borrow_and_update().members);
        let follower = balance.clone();
        let task = tokio::spawn(async move {
            while watch.changed().await.is_ok() {
                let members = watch.borrow_and_update().members.clone();
                follower.apply(&members);
            }
        });
        balance.follow = Some(Arc::new(AbortOnDropHandle::new(task)));
        balance
    }

    /// Uses `members` from now on. Instances that stay keep their connection.
    pub(crate) fn apply(&self, members: &Members) {
        if !members.list().is_empty() {
            self.shared.seen.store(true, Ordering::Relaxed);
        }
        let now = Instant::now();
        let join = |instance: &Instance| {
            let endpoint = Arc::new(Endpoint::new(instance, now));
            self.dialler.keep(&endpoint);
            endpoint
        };
        self.shared
            .replace(|view, config| view.of(members, config, now, join));
        // One that has left takes calls that wait for it along.
        self.shared.connectivity.send_replace(());
    }

    /// Chooses and ejects by `config` from the next call on. What is ejected stays so.
    pub(crate) fn reconfigure(&self, config: &Config) {
        self.shared.options.store(Arc::new(Options::new(config)));
        self.shared.replace(|view, config| view.resorted(config));
    }

    /// Connects by `connect` from now on. An instance that is connected is dialled anew, and what it
    /// has is used until that has come up; calls end on the connection they have.
    pub(crate) fn reconnect(&self, connect: C) {
        self.connect.store(Arc::new(connect));
        for endpoint in self.shared.view.load().kept() {
            endpoint.link().look_again();
        }
    }

    /// How many instances are listed.
    #[cfg(feature = "internals")]
    pub(crate) fn instances(&self) -> usize {
        self.shared.view.load().all.len()
    }

    /// How many of the listed instances are connected.
    pub(crate) fn connected(&self) -> usize {
        self.shared.view.load().connected
    }

    /// Whether there ever was an instance to call.
    pub(crate) fn has_seen_instances(&self) -> bool {
        self.shared.seen.load(Ordering::Relaxed)
    }

    /// How many calls are in flight, on all listed instances together.
    pub(crate) fn in_flight(&self) -> u32 {
        self.shared
            .view
            .load()
            .all
            .iter()
            .map(|endpoint| endpoint.in_flight())
            .sum()
    }

    /// How often an instance was ejected so far.
    pub(crate) fn ejections(&self) -> u64 {
        self.shared.ejections.load(Ordering::Relaxed)
    }

    /// The instances that take no calls at present.
    pub(crate) fn ejected(&self) -> Vec<Authority> {
        let view = self.shared.view.load();
        let out = |endpoint: &&Arc<Endpoint<_>>| {
            !matches!(endpoint.gate().state(), gate::State::InRotation { .. })
        };
        view.all
            .iter()
            .filter(out)
            .map(|endpoint| endpoint.address().clone())
            .collect()
    }

    /// The address the next call would go to, without sending one: what a bench measures.
    #[cfg(feature = "internals")]
    pub(crate) fn pick_only(&self, now: Instant) -> Option<Authority> {
        let view = self.shared.view.load();
        picker::pick(
            &view,
            self.shared.options.load().strategy,
            Wanted {
                tried: &[],
                streams: false,
            },
            self.shared.typical.seconds(),
            now,
            &mut rand::rng(),
        )
        .map(|endpoint| endpoint.address().clone())
    }
}

impl<S> Shared<S> {
    fn new(name: &'static str, config: &Config) -> Self {
        Self {
            name,
            options: ArcSwap::from_pointee(Options::new(config)),
            view: ArcSwap::from_pointee(View::unknown()),
            seen: AtomicBool::new(false),
            ejections: AtomicU64::new(0),
            typical: Typical::default(),
            compared: Mutex::new(None),
            connectivity: watch::Sender::new(()),
            changing: AtomicBool::new(false),
            replacing: Mutex::new(()),
        }
    }

    fn replace(&self, next: impl FnOnce(&View<S>, &EjectionConfig) -> View<S>) {
        let _replacing = self.replacing.lock();
        let next = next(&self.view.load(), &self.options.load().ejection);
        self.view.store(Arc::new(next));
    }

    /// An instance has connected, or has lost its connection.
    fn connectivity_changed(&self) {
        self.replace(|view, config| view.resorted(config));
        self.connectivity.send_replace(());
    }

    /// A call found that `used` takes no more.
    fn spent(&self, endpoint: &Endpoint<S>, used: &Arc<Established<S>>) {
        if endpoint.link().spent(used) {
            self.connectivity_changed();
        }
    }
}

impl<C: Connect> Service<Call> for Balance<C> {
    type Response = Reply;
    type Error = Failed;
    type Future = Guarded<BoxFuture<Result<Reply, Failed>>, EndpointGuard<C::Channel>>;

    /// Always ready: there is no queue, and no instance is an answer, not a reason to wait.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failed>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: Call) -> Self::Future {
        let now = now();
        let tried = match call.attempt.resent {
            false => Vec::new(),
            true => call.context.attempted(),
        };
        let timing = call.timing(now);
        let streams = call.context.method.streaming;
        let wanted = Wanted {
            tried: &tried,
            streams,
        };
        match self.shared.choose(wanted, now, &mut rand::rng()) {
            Err(error) => Guarded::refused(Failed::unsent(error, now)),
            Ok(Some(chosen)) => attempt(&self.shared, chosen, call, timing, now),
            Ok(None) => {
                let shared = Arc::clone(&self.shared);
                Guarded::alone(boxed(async move {
                    let wanted = Wanted {
                        tried: &tried,
                        streams,
                    };
                    let chosen = shared.wait(wanted, timing.deadline).await;
                    let now = crate::call::now();
                    let chosen = chosen.map_err(|error| Failed::new(error, &timing, now))?;
                    // The wait was not the instance's.
                    let timing = call.timing(now);
                    let left = timing.deadline.saturating_duration_since(now);
                    if left < TOO_LITTLE {
                        return Err(Failed::unsent(NoTimeLeft { left }, now));
                    }
                    attempt(&shared, chosen, call, timing, now).await
                }))
            }
        }
    }
}

/// Sends `call` to what was chosen for it.
fn attempt<S: transport::Channel>(
    shared: &Arc<Shared<S>>,
    chosen: Chosen<S>,
    call: Call,
    timing: Timing,
    now: Instant,
) -> Guarded<BoxFuture<Result<Reply, Failed>>, EndpointGuard<S>> {
    let address = chosen.endpoint.address();
    call.context.attempts_on(address);
    if call.span.is_recording() {
        call.span.set("server.address", address.host().to_owned());
        let port = i64::from(address.port_u16().unwrap_or(0));
        call.span.set("server.port", port);
    }
    let established = Arc::clone(&chosen.established);
    let streams = call.context.method.streaming;
    let guard = EndpointGuard::begin(Arc::clone(shared), chosen, streams, now);
    Guarded::running(transport::attempt(established, call, timing), guard)
}

#[cfg(test)]
mod tests;
