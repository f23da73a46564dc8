//! The three things that a call should be sparing with, behind one name each: reading the clock,
//! boxing a future, starting a timer. The feature `internals` counts them per thread, so that a test
//! can hold the numbers; without it these are the things themselves.

use std::{future::Future, pin::Pin};

use tokio::time::{Instant, Timeout};

/// A boxed future.
pub(crate) type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// The monotonic clock.
pub(crate) fn now() -> Instant {
    count(Counted::ClockRead);
    Instant::now()
}

/// A future on the heap.
pub(crate) fn boxed<T>(future: impl Future<Output = T> + Send + 'static) -> BoxFuture<T> {
    count(Counted::BoxedFuture);
    Box::pin(future)
}

/// A future that ends at `deadline` at the latest. One that is ready by then counts, also when the
/// deadline has passed too.
pub(crate) fn timeout_at<F: Future>(deadline: Instant, future: F) -> Timeout<F> {
    count(Counted::Timer);
    tokio::time::timeout_at(deadline, future)
}

enum Counted {
    ClockRead,
    BoxedFuture,
    Timer,
}

#[cfg(not(feature = "internals"))]
#[inline]
fn count(_: Counted) {}

#[cfg(feature = "internals")]
use self::counting::count;
#[cfg(feature = "internals")]
pub use self::counting::{Counts, counts};

#[cfg(feature = "internals")]
mod counting {
    use std::cell::Cell;

    use super::Counted;

    /// How often a thread did what a call should be sparing with.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Counts {
        /// Reads of the clock.
        pub clock_reads: u64,
        /// Futures put on the heap.
        pub boxed_futures: u64,
        /// Timers started.
        pub timers: u64,
    }

    thread_local! {
        static COUNTS: Cell<Counts> = const { Cell::new(Counts {
            clock_reads: 0,
            boxed_futures: 0,
            timers: 0,
        }) };
    }

    pub(super) fn count(what: Counted) {
        let mut counts = COUNTS.get();
        match what {
            Counted::ClockRead => counts.clock_reads += 1,
            Counted::BoxedFuture => counts.boxed_futures += 1,
            Counted::Timer => counts.timers += 1,
        }
        COUNTS.set(counts);
    }

    /// What this thread has counted so far.
    pub fn counts() -> Counts {
        COUNTS.get()
    }
}
