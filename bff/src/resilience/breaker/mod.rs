//! The circuit breaker of a service: a struggling upstream is left alone until it is well.
//!
//! It stands inside the retries, so that each attempt counts, and around the attempt timeout, so
//! that a hang is a verdict and not a caller that left. [`state`] decides, [`self::core`] shares the
//! decision among concurrent calls, this file is the tower layer, the log line and the metrics.

mod config;
mod core;
pub mod state;
mod window;

use std::{
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Request, Response};
use tokio::{sync::watch, time::Instant};
use tonic::{Code, Status as GrpcStatus, body::Body};
use tower::{BoxError, Layer, Service};
use tracing::{info, warn};

pub use self::{
    config::{Config, Mode},
    state::{CircuitOpen, State, Status},
};
use self::{
    core::{Core, Permit},
    state::Machine,
};
use super::{
    classify::Effect,
    observe::{Observed, ObservedBody, Observer},
    span::CallSpan,
    streams,
};

type RealLock = Mutex<Machine>;

/// The breaker of one service. Clones share it.
#[derive(Clone)]
pub struct Breaker {
    name: Arc<str>,
    core: Arc<Core<RealLock>>,
    status: watch::Receiver<Status>,
    transitions: Arc<Transitions>,
}

/// How often each state was entered.
#[derive(Debug, Default)]
struct Transitions([AtomicU64; 3]);

impl fmt::Debug for Breaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Breaker")
            .field("status", &*self.status.borrow())
            .finish()
    }
}

impl Breaker {
    /// A closed breaker for the service `name`. A probe that takes longer than `probe_timeout`
    /// counts as hung.
    pub fn new(name: &str, config: &Config, probe_timeout: Duration) -> Self {
        let machine = Machine::new(config.clone(), probe_timeout, Instant::now());
        let (sender, status) = watch::channel(machine.status());
        let transitions = Arc::new(Transitions::default());
        let name: Arc<str> = name.into();
        let (of, counted) = (Arc::clone(&name), Arc::clone(&transitions));
        let on_change = Box::new(move |status: Status| {
            let was = sender.send_replace(status);
            if was.state != status.state {
                counted.0[status.state as usize].fetch_add(1, Ordering::Relaxed);
                tell(&of, was, status);
            }
        });
        Self {
            name,
            core: Arc::new(Core::new(machine, on_change)),
            status,
            transitions,
        }
    }

    /// Its state, since when, and who decides.
    pub fn status(&self) -> Status {
        *self.status.borrow()
    }

    /// Hears of every change of state.
    pub fn subscribe(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// How often `state` was entered.
    pub fn transitions_to(&self, state: State) -> u64 {
        self.transitions.0[state as usize].load(Ordering::Relaxed)
    }

    /// Puts another configuration in force; the state is kept where it can be, see
    /// [`Machine::reconfigure`].
    pub fn reconfigure(&self, config: &Config, probe_timeout: Duration) {
        let now = Instant::now();
        let kept = self
            .core
            .step(|machine| machine.reconfigure(config.clone(), probe_timeout, now));
        if !kept {
            info!(upstream = %self.name, "the breaker's window has another length: it counts from zero");
        }
    }
}

fn tell(upstream: &str, was: Status, status: Status) {
    let lasted = (status.since - was.since).as_millis() as u64;
    let lasted = humantime::format_duration(Duration::from_millis(lasted));
    match status.state {
        State::Open => {
            warn!(upstream, was = was.state.as_str(), %lasted, "the breaker opens: the upstream is left alone")
        }
        State::HalfOpen => {
            info!(upstream, %lasted, "the breaker is half-open: probing the upstream")
        }
        State::Closed => info!(upstream, %lasted, "the breaker closes: the upstream is used again"),
    }
}

impl<S> Layer<S> for Breaker {
    type Service = BreakerService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        BreakerService {
            inner,
            breaker: self.clone(),
        }
    }
}

/// See [`Breaker`].
#[derive(Clone, Debug)]
pub struct BreakerService<S> {
    inner: S,
    breaker: Breaker,
}

impl<S, B> Service<Request<Body>> for BreakerService<S>
where
    S: Service<Request<Body>, Response = Response<B>, Error = BoxError>,
    S::Future: Send + 'static,
    B: http_body::Body<Data = Bytes, Error = GrpcStatus> + Send + Unpin + 'static,
{
    type Response = Response<ObservedBody<B, Ticket>>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let permit = match self.breaker.core.admit(Instant::now()) {
            Ok(permit) => permit,
            Err(open) => return Box::pin(async { Err(open.into()) }),
        };
        // For the attempt's span.
        if request.extensions().get::<CallSpan>().is_some() {
            let state = self.breaker.status().state;
            request.extensions_mut().insert(state);
        }
        let call = Observed::new(
            Ticket {
                permit,
                streaming: streams(&request),
            },
            &request,
        );
        let answer = self.inner.call(request);
        Box::pin(async move {
            match answer.await {
                Ok(response) => Ok(call.answered(response)),
                Err(error) => {
                    call.failed(error.as_ref());
                    Err(error)
                }
            }
        })
    }
}

/// A call that was let through.
#[derive(Debug)]
pub struct Ticket {
    permit: Permit<RealLock>,
    streaming: bool,
}

impl Observer for Ticket {
    fn message(&mut self, now: Instant) {
        // A stream may last for hours; its first message is the verdict.
        if self.streaming {
            self.permit.record(Effect::Success, now);
        }
    }

    fn end(&mut self, effect: Effect, _: Code, now: Instant) {
        self.permit.record(effect, now);
    }
}
