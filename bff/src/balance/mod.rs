//! Which instance of a service gets a call.
//!
//! [`Balance`] is a tower service over HTTP messages. For each call [`picker`] chooses an
//! endpoint from the current [`view`]; [`call`] watches the answer and tells [`stats`] (what the
//! endpoint costs) and [`gate`] (whether it may take calls) how it went. Each endpoint has one
//! lazily made channel, which lives as long as the endpoint is listed: a list that changes
//! elsewhere never touches it.
//!
//! Nothing here names a service or knows where lists come from.

mod call;
pub mod channel;
mod config;
mod endpoint;
mod gate;
mod picker;
mod sampler;
mod stats;
mod view;

use std::{
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use arc_swap::ArcSwap;
use futures_util::future::BoxFuture;
use http::{Request, Response, uri::Authority};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;
use tonic::body::Body;
use tower::{BoxError, Service, ServiceExt};
use tracing::{info, warn};

pub use self::config::{EjectionConfig, Strategy};
use self::{
    call::Call,
    endpoint::{Endpoint, lock},
    gate::Moved,
    view::View,
};
use crate::{
    discovery::{Members, Watch},
    resilience::{observe::Observed, span::AttemptSpan, streams},
};

/// Makes the channel to an instance; called once per endpoint, without I/O.
pub trait Connect: Send + Sync + 'static {
    /// The channel: cheap to clone, connects by itself when used.
    type Channel: Service<Request<Body>, Response = Response<Body>, Error: Into<BoxError>, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static;

    /// The channel to the instance at `address`.
    fn connect(&self, address: &Authority) -> Self::Channel;
}

/// The instances a call was already tried on, shared by its attempts as a request extension.
#[derive(Clone, Debug, Default)]
pub struct Tried(Arc<Mutex<Vec<Authority>>>);

impl Tried {
    /// The instances, in the order they were tried.
    pub fn list(&self) -> Vec<Authority> {
        lock(&self.0).clone()
    }

    fn add(&self, address: &Authority) {
        lock(&self.0).push(address.clone());
    }
}

/// There was no instance to send a call to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", match known {
    true => "the service has no healthy instance",
    false => "the instances of the service are not known yet",
})]
pub struct NoInstance {
    /// Whether anybody has told us which instances there are.
    pub known: bool,
}

/// How a balancer behaves.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Name for logs and metrics.
    pub name: Arc<str>,
    /// How an instance is chosen.
    pub strategy: Strategy,
    /// When an instance is left out.
    pub ejection: EjectionConfig,
}

/// What the clones of a balancer share.
struct Shared<S> {
    options: ArcSwap<Options>,
    view: ArcSwap<View<S>>,
    /// Whether there ever was an instance.
    seen: AtomicBool,
    ejections: AtomicU64,
    /// Held while a view is replaced, so that no replacement gets lost.
    replacing: Mutex<()>,
}

/// The balancer of one service: a tower service that sends each call to one instance.
pub struct Balance<C: Connect> {
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
            .field("name", &self.shared.options.load().name)
            .finish_non_exhaustive()
    }
}

impl<C: Connect> Balance<C> {
    /// A balancer without instances; [`apply`](Self::apply) gives it some.
    pub fn new(options: Options, connect: C) -> Self {
        let shared = Shared {
            options: ArcSwap::from_pointee(options),
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
    pub fn following(options: Options, connect: C, mut watch: Watch) -> Self {
        let mut balance = Self::new(options, connect);
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
    pub fn apply(&self, members: &Members) {
        if !members.list().is_empty() {
            self.shared.seen.store(true, Ordering::Relaxed);
        }
        let now = Instant::now();
        self.shared
            .replace(|view, config| view.of(members, config, now));
    }

    /// Chooses and ejects by `options` from the next call on. What is ejected stays so.
    pub fn reconfigure(&self, options: Options) {
        self.shared.options.store(Arc::new(options));
        self.shared.replace(|view, config| view.resorted(config));
    }

    /// Makes channels with `connect` from the next call on, to every instance anew.
    pub fn reconnect(&self, connect: C) {
        self.connect.store(Arc::new(connect));
        let _replacing = lock(&self.shared.replacing);
        for endpoint in &self.shared.view.load().all {
            endpoint.forget_channel();
        }
    }

    /// Whether there ever was an instance to call.
    pub fn has_seen_instances(&self) -> bool {
        self.shared.seen.load(Ordering::Relaxed)
    }

    /// How many calls are in flight, on all listed instances together.
    pub fn in_flight(&self) -> u32 {
        self.shared
            .view
            .load()
            .all
            .iter()
            .map(|endpoint| endpoint.in_flight())
            .sum()
    }

    /// How often an instance was ejected so far.
    pub fn ejections(&self) -> u64 {
        self.shared.ejections.load(Ordering::Relaxed)
    }

    /// The instances that take no calls at present.
    pub fn ejected(&self) -> Vec<Authority> {
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
    #[doc(hidden)]
    pub fn pick_only(&self, now: Instant) -> Option<Authority> {
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
        let _replacing = lock(&self.replacing);
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
    fn fail(&self, endpoint: &Endpoint<S>, probe: bool, now: Instant) -> Moved {
        let replacing = lock(&self.replacing);
        let options = self.options.load();
        let config = &options.ejection;
        let may_eject = self.view.load().may_eject(config);
        let moved = endpoint
            .gate()
            .failure(probe, may_eject, config, now, &mut rand::rng());
        if let Moved::Ejected(_) = moved {
            self.ejections.fetch_add(1, Ordering::Relaxed);
        }
        if moved != Moved::Stayed {
            let next = self.view.load().resorted(config);
            self.view.store(Arc::new(next));
        }
        drop(replacing);
        moved
    }

    /// Says what happened to `endpoint` and sorts the view again.
    fn moved(&self, endpoint: &Endpoint<S>, moved: Moved) {
        let options = self.options.load();
        let (upstream, instance) = (&options.name, endpoint.address());
        match moved {
            Moved::Ejected(duration) => warn!(
                %upstream, %instance,
                duration = %humantime::format_duration(std::time::Duration::from_millis(duration.as_millis() as u64)),
                "an instance fails and is ejected for a while"
            ),
            Moved::Returned => {
                info!(%upstream, %instance, "an ejected instance answers again and returns");
                self.replace(|view, config| view.resorted(config));
            }
            Moved::Stayed => self.replace(|view, config| view.resorted(config)),
        }
    }
}

impl<C: Connect> Service<Request<Body>> for Balance<C> {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Response<Body>, BoxError>>;

    /// Always ready: there is no queue, and no instance is an answer, not a reason to wait.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let now = Instant::now();
        let tried = request.extensions().get::<Tried>();
        let list = tried.map(Tried::list).unwrap_or_default();
        let (endpoint, probe) = match self.shared.choose(&list, now) {
            Ok(chosen) => chosen,
            Err(error) => return Box::pin(async { Err(error.into()) }),
        };
        if let Some(tried) = tried {
            tried.add(endpoint.address());
        }
        if let Some(AttemptSpan(span)) = request.extensions_mut().remove() {
            let address = endpoint.address();
            span.set("server.address", address.host().to_owned());
            span.set("server.port", i64::from(address.port_u16().unwrap_or(0)));
        }
        let channel = endpoint.channel(|address| self.connect.load().connect(address));
        let streaming = streams(&request);
        let call = Call::begin(Arc::clone(&self.shared), endpoint, probe, streaming, now);
        let call = Observed::new(call, &request);
        Box::pin(async move {
            match channel.oneshot(request).await {
                Ok(response) => Ok(call.answered(response).map(Body::new)),
                Err(error) => {
                    let error = error.into();
                    call.failed(error.as_ref());
                    Err(error)
                }
            }
        })
    }
}

#[cfg(test)]
mod tests;
