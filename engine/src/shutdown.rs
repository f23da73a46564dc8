//! Stopping: signals, and a drain with a limit. Requests finish; WebSockets end with the process,
//! because the server does not know of them any more.

use std::{io, net::SocketAddr, time::Duration};

use axum::{Router, serve::ListenerExt};
use tokio::{
    net::TcpListener,
    signal,
    sync::oneshot,
    time::{sleep, timeout},
};
use tracing::{debug, info, warn};

use crate::{discovery::registration::Registrar, http::health::Readiness};

/// How long the deregistration may hold up the drain.
const DEREGISTER_TIMEOUT: Duration = Duration::from_secs(3);

/// Resolves at the first Ctrl-C or, on Unix, SIGTERM.
pub async fn signal() {
    let interrupt = async {
        if let Err(error) = signal::ctrl_c().await {
            warn!(%error, "Ctrl-C cannot be watched");
            std::future::pending::<()>().await;
        }
    };
    #[cfg(unix)]
    let terminate = async {
        match signal::unix::signal(signal::unix::SignalKind::terminate()) {
            Ok(mut terminate) => {
                terminate.recv().await;
            }
            Err(error) => {
                warn!(%error, "SIGTERM cannot be watched");
                std::future::pending::<()>().await;
            }
        }
    };
    #[cfg(not(unix))]
    let terminate = std::future::pending::<()>();
    tokio::select! {
        () = interrupt => {}
        () = terminate => {}
    }
}

/// Serves until `stop`, then drains: not ready first, then out of Consul, then no new
/// connections, then at most `limit` for the open requests.
///
/// # Errors
/// When the listener fails.
pub(crate) async fn serve_until(
    listener: TcpListener,
    router: Router,
    stop: impl Future<Output = ()> + Send + 'static,
    readiness: Readiness,
    registrar: Option<Registrar>,
    limit: Duration,
) -> io::Result<()> {
    let (draining, drained_too_long) = oneshot::channel::<()>();
    let graceful = async move {
        stop.await;
        info!("stopping: no longer ready, finishing open requests");
        readiness.drain();
        if let Some(registrar) = registrar
            && timeout(DEREGISTER_TIMEOUT, registrar.deregister())
                .await
                .is_err()
        {
            warn!("Consul does not answer, it will remove the entry after its critical time");
        }
        let _ = draining.send(());
    };
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    // Small answers should not wait for the client's acknowledgement of the one before.
    let listener = listener.tap_io(|stream| {
        if let Err(error) = stream.set_nodelay(true) {
            debug!(%error, "a connection keeps its delays");
        }
    });
    let server = axum::serve(listener, service)
        .with_graceful_shutdown(graceful)
        .into_future();
    tokio::select! {
        result = server => result,
        () = async {
            match drained_too_long.await {
                Ok(()) => sleep(limit).await,
                // The server ended by itself; the other branch has its result.
                Err(_) => std::future::pending().await,
            }
        } => {
            warn!(limit = %humantime::format_duration(limit), "requests are still open, stopping anyway");
            Ok(())
        }
    }
}
