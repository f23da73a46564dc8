//! The stop signal.

use tokio::signal;
use tracing::warn;

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
