//! Sending a failed call again: to another instance, within a budget and the deadline.
//!
//! After gRPC A6: a call is committed once its first message has arrived. A call that never left, because
//! its connection was closing, goes on to another as if nothing had happened, until its deadline (A6: a
//! transparent retry). One that a peer promises not to have looked at is sent again at once; the first
//! time the budget may be overdrawn for it by one. One that may have run is sent again only if its method
//! is declared idempotent.

pub(super) mod policy;

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use http::{HeaderName, HeaderValue};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep};

use super::budget::Budget;
use crate::call::{
    Around, BoxFuture, Call, CallService, Code, Failed, Reply, Retry, RetryConfig, TOO_LITTLE,
    boxed,
};

const PREVIOUS_ATTEMPTS: HeaderName = HeaderName::from_static("grpc-previous-rpc-attempts");

/// Sends failed calls again as their configuration and the service's budget allow. Clones share the
/// budget.
#[derive(Clone, Debug, Default)]
pub(crate) struct Retries(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    budget: Mutex<Budget>,
    /// Further attempts, by the code of the attempt before.
    retries: [AtomicU64; Code::ALL.len()],
    /// Failures that the budget had no retry for.
    exhausted: AtomicU64,
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            budget: Mutex::new(Budget::new(Instant::now())),
            retries: Default::default(),
            exhausted: AtomicU64::new(0),
        }
    }
}

impl Shared {
    /// Counts a further attempt, after one that ended with `code`.
    fn count(&self, code: Code) {
        if let Some(count) = self.retries.get(code as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Retries {
    /// How many further attempts there were, by the code of the attempt before; those that never
    /// happened are left out.
    pub(crate) fn retries(&self) -> Vec<(Code, u64)> {
        let counts = Code::ALL.iter().zip(&self.0.retries);
        counts
            .map(|(code, count)| (*code, count.load(Ordering::Relaxed)))
            .filter(|(_, count)| *count > 0)
            .collect()
    }

    /// How many failures the budget had no retry for.
    pub(crate) fn exhausted(&self) -> u64 {
        self.0.exhausted.load(Ordering::Relaxed)
    }

    /// How many retries the budget has left by the rates of `config`.
    pub(crate) fn budget_left(&self, config: &RetryConfig, now: Instant) -> f64 {
        self.0.budget.lock().left(config, now)
    }
}

impl<S> Around<S> for Retries
where
    S: CallService + Clone + Send + 'static,
    S::Future: Send,
{
    type Future = BoxFuture<Result<Reply, Failed>>;

    fn around(&self, inner: &mut S, call: Call) -> Self::Future {
        boxed(run(inner.clone(), Arc::clone(&self.0), call))
    }
}

async fn run<S>(mut inner: S, shared: Arc<Shared>, mut call: Call) -> Result<Reply, Failed>
where
    S: CallService,
{
    let context = Arc::clone(&call.context);
    let (config, idempotent) = (&context.config.retry, context.idempotent);
    loop {
        let number = call.attempt.number;
        // Never-sent calls are sent again all the same; they end quickly.
        call.attempt.last = number >= config.max_attempts || !idempotent;
        let result = inner.call(call.clone()).await;
        // A call that an open breaker rejects is no load, and earns no retry.
        let rejected = matches!(&result, Err(failed) if failed.is_circuit_open());
        if number == 1 && !call.attempt.resent && !rejected {
            shared.budget.lock().deposit(at(&result));
        }
        let failed = match result {
            Err(failed) if failed.outcome().retry == Retry::Transparent => {
                if too_late(&call, failed.at()) {
                    return Err(failed);
                }
                shared.count(failed.outcome().code);
                call.attempt.resent = true;
                continue;
            }
            Err(failed) if number < config.max_attempts => failed,
            done => return done,
        };
        let pause = policy::pause(&failed, config, number, idempotent, &mut rand::rng());
        let Some(pause) = pause else {
            return Err(failed);
        };
        if too_late(&call, failed.at() + pause) {
            return Err(failed);
        }
        // A6: what the peer did not look at is sent again for free, once. A service all of whose instances
        // do so would get twice the calls: so it is only that the budget may be overdrawn.
        let free = number == 1 && failed.outcome().retry == Retry::Unprocessed;
        let overdraft = if free { 1.0 } else { 0.0 };
        if !shared
            .budget
            .lock()
            .withdraw(config, overdraft, failed.at())
        {
            shared.exhausted.fetch_add(1, Ordering::Relaxed);
            context.span.event("retry budget exhausted", Vec::new());
            return Err(failed);
        }
        shared.count(failed.outcome().code);
        if !pause.is_zero() {
            sleep(pause).await;
        }
        call.attempt.number += 1;
        call.attempt.resent = true;
        call.attempt.paused = pause;
        call.headers
            .insert(PREVIOUS_ATTEMPTS, HeaderValue::from(number));
    }
}

/// Whether what is sent at `starts` would be sent too late to be of use.
fn too_late(call: &Call, starts: Instant) -> bool {
    call.deadline
        .is_some_and(|deadline| deadline.saturating_duration_since(starts) < TOO_LITTLE)
}

fn at(result: &Result<Reply, Failed>) -> Instant {
    match result {
        Ok(reply) => reply.at,
        Err(failed) => failed.at(),
    }
}
