//! Which instance of a service gets a call.
//!
//! [`Balance`] is a tower service. For each call [`picker`] chooses an endpoint from the current
//! [`view`] and makes one attempt on it; [`guard`] reports its outcome to [`stats`] (what the endpoint
//! costs) and [`gate`] (whether it may take calls). Each endpoint has one lazily made channel, which
//! lives as long as the endpoint is listed: a list that changes elsewhere never touches it.
//!
//! Nothing here names a service or knows where lists come from.

mod endpoint;
mod gate;
mod guard;
mod picker;
mod sampler;
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
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;
use tower::Service;
use tracing::{info, warn};

use self::{endpoint::Endpoint, gate::GateTransition, guard::EndpointGuard, view::View};
use crate::{
    call::{
        BoxFuture, Call, Config, EjectionConfig, Failed, Guarded, NoInstance, Reply, Strategy, now,
        transport::{self, Connect},
    },
    discovery::{Members, Watch},
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

/// What the clones of a balancer share.
struct Shared<S> {
    /// The upstream's name, for the log.
    name: &'static str,
    options: ArcSwap<Options>,
    view: ArcSwap<View<S>>,
    /// Whether there ever was an instance.
    seen: AtomicBool,
    ejections: AtomicU64,
    /// Held while a view is replaced, so that no replacement gets lost.
    replacing: Mutex<()>,
}

/// The balancer of one service: a tower service that sends each call to one instance.
pub(crate) struct Balance<C: Connect> {
    shared: Arc<Shared<C::Channel>>,
    connect: Arc<ArcSwap<C>>,
    /// Ends with the last clone.
    follow: Option<Arc<AbortOnDropHandle<()>>>,
}

impl<C: Connect> Clone for Balance<C> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            connect: Arc::clone(&self.connect),
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
    /// A balancer without instances; [`apply`](Self::apply) gives it some.
    pub(crate) fn new(name: &'static str, config: &Config, connect: C) -> Self {
        let shared = Shared {
            name,
            options: ArcSwap::from_pointee(Options::new(config)),
            view: ArcSwap::from_pointee(View::unknown()),
            seen: AtomicBool::new(false),
            ejections: AtomicU64::new(0),
            replacing: Mutex::new(()),
        };
        Self {
            shared: Arc::new(shared),
            connect: Arc::new(ArcSwap::from_pointee(connect)),
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
        self.shared
            .replace(|view, config| view.of(members, config, now));
    }

    /// Chooses and ejects by `config` from the next call on. What is ejected stays so.
    pub(crate) fn reconfigure(&self, config: &Config) {
        self.shared.options.store(Arc::new(Options::new(config)));
        self.shared.replace(|view, config| view.resorted(config));
    }

    /// Makes channels with `connect` from the next call on, to every instance anew.
    pub(crate) fn reconnect(&self, connect: C) {
        self.connect.store(Arc::new(connect));
        let _replacing = self.shared.replacing.lock();
        for endpoint in &self.shared.view.load().all {
            endpoint.forget_channel();
        }
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
            &[],
            now,
            &mut rand::rng(),
        )
        .map(|endpoint| endpoint.address().clone())
    }
}

impl<S> Shared<S> {
    fn replace(&self, next: impl FnOnce(&View<S>, &EjectionConfig) -> View<S>) {
        let _replacing = self.replacing.lock();
        let next = next(&self.view.load(), &self.options.load().ejection);
        self.view.store(Arc::new(next));
    }

    /// An endpoint and whether the call is its probe.
    fn choose(
        &self,
        tried: &[Authority],
        now: Instant,
    ) -> Result<(Arc<Endpoint<S>>, bool), NoInstance> {
        let view = self.view.load();
        // A call that failed once already should not have to bear a probe too.
        if tried.is_empty()
            && let Some(endpoint) = picker::take_probe(&view, now)
        {
            self.replace(|view, config| view.resorted(config));
            return Ok((Arc::clone(endpoint), true));
        }
        let strategy = self.options.load().strategy;
        picker::pick(&view, strategy, tried, now, &mut rand::rng())
            .map(|endpoint| (Arc::clone(endpoint), false))
            .ok_or(NoInstance { known: view.known })
    }

    /// Counts a failure of `endpoint`. The cap on ejections is looked at and used up under one
    /// lock: failures that come together must not eject more than it allows.
    fn fail(&self, endpoint: &Endpoint<S>, probe: bool, now: Instant) -> GateTransition {
        let replacing = self.replacing.lock();
        let options = self.options.load();
        let config = &options.ejection;
        let may_eject = self.view.load().may_eject(config);
        let moved = endpoint
            .gate()
            .failure(probe, may_eject, config, now, &mut rand::rng());
        if let GateTransition::Ejected(_) = moved {
            self.ejections.fetch_add(1, Ordering::Relaxed);
        }
        if moved != GateTransition::Stayed {
            let next = self.view.load().resorted(config);
            self.view.store(Arc::new(next));
        }
        drop(replacing);
        moved
    }

    /// Says what happened to `endpoint` and sorts the view again.
    fn moved(&self, endpoint: &Endpoint<S>, moved: GateTransition) {
        let (upstream, instance) = (self.name, endpoint.address());
        match moved {
            GateTransition::Ejected(duration) => warn!(
                %upstream, %instance,
                duration = %humantime::format_duration(std::time::Duration::from_millis(duration.as_millis() as u64)),
                "ejected: the instance gets no calls for a while"
            ),
            GateTransition::Returned => {
                info!(%upstream, %instance, "an ejected instance answers again and gets calls");
                self.replace(|view, config| view.resorted(config));
            }
            GateTransition::Stayed => self.replace(|view, config| view.resorted(config)),
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
        let attempted = match call.attempt.number {
            1 => Vec::new(),
            _ => call.context.attempted(),
        };
        let (endpoint, probe) = match self.shared.choose(&attempted, now) {
            Ok(chosen) => chosen,
            Err(error) => return Guarded::refused(Failed::unsent(error, now)),
        };
        let address = endpoint.address();
        call.context.attempts_on(address);
        if call.span.is_recording() {
            call.span.set("server.address", address.host().to_owned());
            let port = i64::from(address.port_u16().unwrap_or(0));
            call.span.set("server.port", port);
        }
        let channel = endpoint.channel(|address| self.connect.load().connect(address));
        let guard = EndpointGuard::begin(Arc::clone(&self.shared), endpoint, probe, now);
        let timing = call.timing(now);
        Guarded::running(transport::attempt(channel, call, timing), guard)
    }
}

#[cfg(test)]
mod tests;
