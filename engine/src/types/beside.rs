//! What takes a processor for long, beside the threads that serve.

use std::{
    sync::{Arc, OnceLock},
    thread::available_parallelism,
};

use tokio::{
    sync::Semaphore,
    task::spawn_blocking,
    time::{Instant, timeout_at},
};

/// Reading or writing so many bytes of JSON takes a millisecond, which others on the thread would wait for.
pub(crate) const LONG: usize = 64 << 10;

/// It was not done: its turn did not come in time, or the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotDone;

/// Does `work` on a thread of its own. Of all that takes long, one thing for two processors is done at one
/// time, so that what is short goes on; the rest waits its turn until `deadline`.
pub(crate) async fn beside<T: Send + 'static>(
    deadline: Instant,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, NotDone> {
    static PLACES: OnceLock<Arc<Semaphore>> = OnceLock::new();
    let places = PLACES.get_or_init(|| {
        let places = available_parallelism().map_or(1, |all| all.get().div_ceil(2));
        Arc::new(Semaphore::new(places))
    });
    let place = timeout_at(deadline, Arc::clone(places).acquire_owned()).await;
    let done = spawn_blocking(move || {
        // Who wanted it may leave, and it goes on.
        let _place = place.map_err(|_| NotDone)?;
        Ok(work())
    });
    done.await.unwrap_or(Err(NotDone))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn work_is_done_in_its_turn_and_what_panics_takes_nobody_along() {
        let soon = || Instant::now() + Duration::from_secs(30);
        assert_eq!(beside(soon(), || 7).await, Ok(7));
        assert_eq!(
            beside::<()>(soon(), || panic!("on purpose")).await,
            Err(NotDone)
        );
        assert_eq!(beside(soon(), || 8).await, Ok(8));
    }
}
