//! The stop signal.

use tokio::signal;
use tracing::warn;

/// Resolves at the first Ctrl-C or, on Unix, SIGTERM that comes from now on, also before it is first polled.
pub fn signal() -> impl Future<Output = ()> {
    #[cfg(unix)]
    let signals = {
        use signal::unix::SignalKind;
        [SignalKind::interrupt(), SignalKind::terminate()].map(|kind| {
            signal::unix::signal(kind)
                .inspect_err(|error| warn!(%error, ?kind, "a signal cannot be watched"))
        })
    };
    async move {
        #[cfg(unix)]
        {
            let [interrupt, terminate] = signals;
            let next = async |signal: std::io::Result<signal::unix::Signal>| match signal {
                Ok(mut signal) => {
                    signal.recv().await;
                }
                Err(_) => std::future::pending().await,
            };
            tokio::select! {
                () = next(interrupt) => {}
                () = next(terminate) => {}
            }
        }
        #[cfg(not(unix))]
        if let Err(error) = signal::ctrl_c().await {
            warn!(%error, "Ctrl-C cannot be watched");
            std::future::pending::<()>().await;
        }
    }
}
