//! Stopping: signals, and the phases of a drain.
//!
//! Whoever sends requests learns of a stop later than we do: a load balancer asks for readiness every few
//! seconds, a Consul client has a list that is a moment old. So for a while everything is served as
//! before, and only then does it end.

use std::time::Duration;

use axum::Router;
use tokio::{
    join,
    net::TcpListener,
    signal,
    sync::oneshot,
    time::{Instant, sleep, timeout, timeout_at},
};
use tracing::{info, warn};

use crate::{
    discovery::registration::Registrar,
    http::{self, Lifecycle, health::Readiness},
};

/// How long the deregistration may hold up the drain.
const DEREGISTER_TIMEOUT: Duration = Duration::from_secs(3);

/// What asks a program to stop, from the moment on that this is made: Ctrl-C and, on Unix, SIGTERM.
struct Signals {
    #[cfg(unix)]
    kinds: [Option<signal::unix::Signal>; 2],
}

impl Signals {
    fn new() -> Self {
        #[cfg(unix)]
        use signal::unix::SignalKind;
        Self {
            #[cfg(unix)]
            kinds: [SignalKind::interrupt(), SignalKind::terminate()].map(|kind| {
                signal::unix::signal(kind)
                    .inspect_err(|error| warn!(%error, ?kind, "a signal cannot be watched"))
                    .ok()
            }),
        }
    }

    #[cfg(unix)]
    async fn next(&mut self) {
        let [interrupt, terminate] = &mut self.kinds;
        let next = async |signal: &mut Option<signal::unix::Signal>| match signal {
            Some(signal) => {
                signal.recv().await;
            }
            None => std::future::pending().await,
        };
        tokio::select! {
            () = next(interrupt) => {}
            () = next(terminate) => {}
        }
    }

    #[cfg(not(unix))]
    async fn next(&mut self) {
        if let Err(error) = signal::ctrl_c().await {
            warn!(%error, "Ctrl-C cannot be watched");
            std::future::pending::<()>().await;
        }
    }
}

/// Resolves at the first Ctrl-C or, on Unix, SIGTERM that comes from now on, also before it is first polled.
pub fn signal() -> impl Future<Output = ()> {
    let mut signals = Signals::new();
    async move { signals.next().await }
}

/// The first signal, and the second one: who sends another does not want to wait.
pub(crate) fn signals() -> (impl Future<Output = ()>, impl Future<Output = ()>) {
    let (first, stop) = oneshot::channel();
    let (second, at_once) = oneshot::channel();
    let mut signals = Signals::new();
    tokio::spawn(async move {
        signals.next().await;
        // Nobody may be left to hear of it.
        let _ = first.send(());
        signals.next().await;
        let _ = second.send(());
    });
    let heard = |receiver: oneshot::Receiver<()>| async {
        // The task ends only after both.
        if receiver.await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    (heard(stop), heard(at_once))
}

/// What ends when a program stops.
pub(crate) struct Ending {
    pub(crate) readiness: Readiness,
    pub(crate) registrar: Option<Registrar>,
    pub(crate) lifecycle: Lifecycle,
}

/// Serves until `stop`, then drains: not ready and out of Consul, while everything is served as before
/// for `http.drain_delay`; then no new connections, the open ones closed each after its last answer,
/// subscriptions completed; all of it within `http.drain_timeout`.
pub(crate) async fn serve_until(
    listener: TcpListener,
    (router, tls): (Router, Option<http::Tls>),
    config: &http::Config,
    counts: http::Counts,
    stop: impl Future<Output = ()> + Send + 'static,
    ending: Ending,
) {
    let Ending {
        readiness,
        registrar,
        lifecycle,
    } = ending;
    let accepting = http::serve(listener, tls, router, config.limits(), counts, &lifecycle);
    let phases = async {
        stop.await;
        let over = Instant::now() + config.drain_timeout;
        info!(
            delay = %humantime::format_duration(config.drain_delay),
            "stopping: no longer ready, serving what still comes"
        );
        readiness.drain();
        let deregistered = async {
            if let Some(registrar) = registrar
                && timeout(DEREGISTER_TIMEOUT, registrar.deregister())
                    .await
                    .is_err()
            {
                warn!("Consul does not answer, it will remove the entry after its critical time");
            }
        };
        // Those who learn of it go elsewhere; those who keep connections to us make new ones.
        let delay = async {
            sleep(config.drain_delay / 2).await;
            lifecycle.leave();
            sleep(config.drain_delay / 2).await;
        };
        join!(deregistered, delay);
        info!(connections = lifecycle.open(), "finishing open requests");
        if timeout_at(over, lifecycle.close()).await.is_err() {
            warn!(
                connections = lifecycle.open(),
                limit = %humantime::format_duration(config.drain_timeout),
                "requests are still open, stopping anyway"
            );
        }
    };
    join!(accepting, phases);
}
