//! What takes a processor for long, beside the threads that serve.

use std::{
    sync::{Arc, LazyLock},
    thread::available_parallelism,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::spawn_blocking,
    time::{Instant, timeout_at},
};

use super::{ClientKey, Fair};

/// Reading or writing so many bytes of JSON takes a millisecond, which others on the thread would wait for.
pub(crate) const LONG: usize = 64 << 10;
/// So much may wait for its turn, shared fairly by clients: each holds what it is about, up to a mebibyte.
const WAITING: usize = 64;

/// It panicked, or the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotDone;

/// A turn for what takes long. One thing for two processors is done at one time, so that what is short goes
/// on.
pub(crate) struct Turn(OwnedSemaphorePermit);

impl Turn {
    /// Waits for one until `deadline`, if not too much waits already.
    pub(crate) async fn wait(client: Option<ClientKey>, deadline: Instant) -> Option<Self> {
        static TURNS: LazyLock<Arc<Semaphore>> = LazyLock::new(|| {
            let turns = available_parallelism().map_or(1, |all| all.get().div_ceil(2));
            Arc::new(Semaphore::new(turns))
        });
        static QUEUE: LazyLock<Fair<ClientKey>> = LazyLock::new(Fair::default);
        let _waiting = QUEUE.take(WAITING, client, Instant::now)?;
        let turn = timeout_at(deadline, Arc::clone(&TURNS).acquire_owned()).await;
        turn.ok()?.ok().map(Self)
    }

    /// Does `work` on a thread of its own. Who wanted it may leave, and it goes on.
    ///
    /// # Errors
    /// [`NotDone`].
    pub(crate) async fn run<T: Send + 'static>(
        self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, NotDone> {
        let done = spawn_blocking(move || {
            let _turn = self.0;
            work()
        });
        done.await.map_err(|_| NotDone)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    async fn turn() -> Turn {
        let soon = Instant::now() + Duration::from_secs(30);
        Turn::wait(None, soon).await.unwrap()
    }

    #[tokio::test]
    async fn work_is_done_in_its_turn_and_what_panics_takes_nobody_along() {
        assert_eq!(turn().await.run(|| 7).await, Ok(7));
        let panicked = turn().await.run(|| panic!("on purpose")).await;
        assert_eq!(panicked.map(|()| 0), Err(NotDone));
        assert_eq!(turn().await.run(|| 8).await, Ok(8));
    }
}
