//! The listener: accepts connections as long as there are places, and closes them in order.

mod activity;
mod connection;
mod places;
mod socket;
mod tls;

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::Router;
use opentelemetry::metrics::{Counter, Meter, MeterProvider, noop::NoopMeterProvider};
use tokio::{
    net::{TcpListener, TcpStream},
    select,
    time::{Instant, sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, info, warn};

pub(crate) use self::tls::{Config as TlsConfig, Tls};
use self::{
    activity::{Activity, Patience},
    connection::Lasts,
    places::{Place, Places},
    socket::Socket,
};
use super::client;
use crate::{
    telemetry::metrics::{Kind, observe},
    types::OutageLog,
};

/// How long nothing is accepted after an error that is not a connection's own: files have run out, most
/// often, and asking again at once takes a whole core.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// What ends with the listener: its connections, and what WebSockets have made of some of them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lifecycle {
    leaving: CancellationToken,
    closing: CancellationToken,
    open: TaskTracker,
}

impl Lifecycle {
    /// Ends when connections are to be closed.
    pub(crate) async fn closing(&self) {
        self.closing.cancelled().await;
    }

    /// From now on connections are given up, each with its next answer: whoever keeps one, and is about to send
    /// on it, has left it before it is closed.
    pub(crate) fn leave(&self) {
        self.leaving.cancel();
    }

    /// Holds up the end for as long as it exists.
    pub(crate) fn hold(&self) -> tokio_util::task::task_tracker::TaskTrackerToken {
        self.open.token()
    }

    /// From now on connections are closed, each after its last answer; ends when all are.
    pub(crate) async fn close(&self) {
        self.closing.cancel();
        self.open.close();
        self.open.wait().await;
    }

    /// How many connections are open.
    pub(crate) fn open(&self) -> usize {
        self.open.len()
    }
}

/// What a listener allows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Connections that may be open; further ones wait.
    pub(crate) max_connections: usize,
    /// How many of them one address may have.
    pub(crate) max_connections_per_client: usize,
    /// How long the head of a request may take.
    pub(crate) header_timeout: Duration,
    /// How long a connection may be idle between two requests.
    pub(crate) idle_timeout: Duration,
}

/// What is counted of connections.
#[derive(Clone, Debug)]
pub(crate) struct Counts {
    open: Arc<AtomicUsize>,
    full: Counter<u64>,
}

impl Counts {
    pub(crate) fn new(meter: &Meter) -> Self {
        let open = Arc::new(AtomicUsize::new(0));
        let observed = Arc::clone(&open);
        observe(
            meter,
            Kind::Gauge,
            "bff.http.connections",
            "",
            "Connections of clients that are open, WebSockets included.",
            move |observe| observe(observed.load(Ordering::Relaxed) as f64, &[]),
        );
        let full = meter
            .u64_counter("bff.http.connections.full")
            .with_description(
                "Connections that had to wait, or were closed, because of http.max_connections.",
            )
            .build();
        Self { open, full }
    }

    /// Those of a listener that metrics say nothing of.
    pub(crate) fn unseen() -> Self {
        Self::new(&NoopMeterProvider::new().meter("unseen"))
    }
}

/// Accepts connections, in TLS if there is a certificate, and serves requests on them by `router` until the
/// lifecycle's closing.
pub(crate) async fn serve(
    listener: TcpListener,
    tls: Option<Tls>,
    router: Router,
    limits: Limits,
    counts: Counts,
    lifecycle: &Lifecycle,
) {
    let places = Places::new(
        limits.max_connections,
        limits.max_connections_per_client,
        Arc::clone(&counts.open),
    );
    let patience = Patience {
        header: limits.header_timeout,
        idle: limits.idle_timeout,
    };
    let mut door = Door {
        listener,
        places,
        counts,
        full: OutageLog::default(),
        failing: OutageLog::default(),
    };
    loop {
        let (stream, peer, place) = select! {
            () = lifecycle.closing() => return,
            next = door.next() => next,
        };
        if let Err(error) = stream.set_nodelay(true) {
            // Small answers wait for the client's acknowledgement of the one before.
            debug!(%error, "a connection keeps its delays");
        }
        let activity = Arc::new(Activity::new(patience, Instant::now()));
        let socket = Socket::new(stream, Arc::clone(&activity), place);
        let lasts = Lasts {
            leaving: lifecycle.leaving.clone(),
            closing: lifecycle.closing.clone(),
        };
        let router = router.clone();
        let Some(tls) = tls.clone() else {
            let serving = connection::serve(socket, peer, router, activity, lasts);
            lifecycle.open.spawn(serving);
            continue;
        };
        lifecycle.open.spawn(async move {
            let done = select! {
                () = lasts.closing.cancelled() => return,
                done = timeout(limits.header_timeout, tls.handshake(socket)) => done,
            };
            match done {
                Ok(Ok(socket)) => {
                    connection::serve(socket, peer, router, activity, lasts).await;
                }
                Ok(Err(error)) => debug!(%peer, %error, "a client does not agree on TLS"),
                Err(_) => debug!(%peer, "a client takes too long to agree on TLS"),
            }
        });
    }
}

/// Serves requests on one connection that did not come in here.
#[cfg(feature = "internals")]
pub(crate) async fn serve_one(
    socket: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    peer: SocketAddr,
    router: Router,
    limits: Limits,
    lifecycle: &Lifecycle,
) {
    let patience = Patience {
        header: limits.header_timeout,
        idle: limits.idle_timeout,
    };
    let activity = Arc::new(Activity::new(patience, Instant::now()));
    let lasts = Lasts {
        leaving: lifecycle.leaving.clone(),
        closing: lifecycle.closing.clone(),
    };
    connection::serve(socket, peer, router, activity, lasts).await;
}

/// Where connections come in.
struct Door {
    listener: TcpListener,
    places: Places,
    counts: Counts,
    full: OutageLog,
    failing: OutageLog,
}

impl Door {
    /// The next connection that has a place.
    async fn next(&mut self) -> (TcpStream, SocketAddr, Place) {
        loop {
            let permit = match self.places.free() {
                Some(permit) => permit,
                None => {
                    self.counts.full.add(1, &[]);
                    self.full.failed(Instant::now(), || {
                        warn!("http.max_connections are open: others wait");
                    });
                    match self.places.wait().await {
                        Some(permit) => permit,
                        None => continue,
                    }
                }
            };
            match self.listener.accept().await {
                Ok((stream, peer)) => {
                    self.failing
                        .recovered(|| info!("connections are accepted again"));
                    let address = client::network(peer.ip());
                    match self.places.take(permit, address) {
                        Some(place) => return (stream, peer, place),
                        None => {
                            self.counts.full.add(1, &[]);
                            self.full.failed(Instant::now(), || {
                                warn!(client = %address, "http.max_connections_per_client are open: closed");
                            });
                        }
                    }
                }
                // The client has left before it was accepted.
                Err(error) if is_connections(&error) => {}
                Err(error) => {
                    self.failing.failed(Instant::now(), || {
                        warn!(%error, "no connection can be accepted");
                    });
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// Whether an error is one connection's own.
fn is_connections(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
    )
}
