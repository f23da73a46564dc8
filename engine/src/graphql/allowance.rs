//! What one operation may cost. Its text says how much it asks for, and is refused by that; how much
//! comes of it, only its calls and their replies say.

use std::sync::atomic::{AtomicUsize, Ordering};

use async_graphql::{Error, ServerError, parser::types::OperationType};
use opentelemetry::{
    KeyValue,
    metrics::{Counter, Meter},
};

use super::{Limits, error::Code};

/// Counts operations that went beyond a limit. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Beyond(Counter<u64>);

impl Beyond {
    pub(crate) fn new(meter: &Meter) -> Self {
        let counter = meter
            .u64_counter("bff.graphql.beyond")
            .with_description("Operations that went beyond a limit, by its key.");
        Self(counter.build())
    }

    /// One went beyond the limit that `key` of `[graphql]` sets.
    pub(super) fn count(&self, key: &'static str) {
        self.0.add(1, &[KeyValue::new("limit", key)]);
    }
}

/// What is left of the calls and the bytes that one operation may cost; of a subscription, what each of
/// its events may.
#[derive(Debug)]
pub(super) struct Allowance {
    max_calls: usize,
    max_bytes: usize,
    max_errors: usize,
    /// How often the same part of a reply can be in the answer.
    repeats: usize,
    is_subscription: bool,
    calls: AtomicUsize,
    bytes: AtomicUsize,
    beyond: Beyond,
}

impl Allowance {
    /// That of an operation of this type, in which the same part of a reply is asked for `repeats` times.
    pub(super) fn new(limits: &Limits, ty: OperationType, repeats: usize, beyond: &Beyond) -> Self {
        Self {
            max_calls: limits.max_calls,
            max_bytes: limits.max_answer,
            max_errors: limits.max_errors,
            repeats: repeats.max(1),
            is_subscription: ty == OperationType::Subscription,
            calls: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            beyond: beyond.clone(),
        }
    }

    /// A call is made.
    ///
    /// # Errors
    /// There were enough.
    pub(super) fn call(&self) -> Result<(), Error> {
        let made = self.calls.fetch_add(1, Ordering::Relaxed);
        if made < self.max_calls {
            return Ok(());
        }
        if made == self.max_calls {
            self.beyond.count("max_calls");
        }
        let problem = format!(
            "The operation makes more calls than graphql.max_calls, which is {}: ask for less at a time.",
            self.max_calls
        );
        Err(Code::BadUserInput.field_error(problem))
    }

    /// A reply of so many bytes is to be part of the answer.
    ///
    /// # Errors
    /// It would be too large.
    pub(super) fn reply(&self, bytes: usize) -> Result<(), Error> {
        let bytes = bytes.saturating_mul(self.repeats);
        let before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        if before.saturating_add(bytes) <= self.max_bytes {
            return Ok(());
        }
        if before <= self.max_bytes {
            self.beyond.count("max_answer");
        }
        Err(Code::BadUserInput.field_error(too_large(self.max_bytes)))
    }

    /// Errors that its answer may have.
    pub(super) fn max_errors(&self) -> usize {
        self.max_errors
    }

    /// Bytes that were counted.
    pub(super) fn spent(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// A message of a stream is to be part of the answer. Of a subscription's, most are an event of their own,
    /// and those that are not, a resolver leaves out: each may cost as much as an answer.
    ///
    /// # Errors
    /// As [`reply`](Self::reply).
    pub(super) fn message(&self, bytes: usize) -> Result<(), Error> {
        if self.is_subscription {
            self.renew();
        }
        self.reply(bytes)
    }

    /// The next event of a subscription costs something of its own.
    pub(super) fn renew(&self) {
        self.calls.store(0, Ordering::Relaxed);
        self.bytes.store(0, Ordering::Relaxed);
    }
}

/// The error of an operation whose answer is not sent.
pub(super) fn not_sent(limits: &Limits, beyond: &Beyond) -> ServerError {
    beyond.count("max_answer");
    Code::BadUserInput.error(too_large(limits.max_answer), None)
}

fn too_large(limit: usize) -> String {
    let limit = bytesize::ByteSize(limit as u64);
    format!(
        "The answer is larger than graphql.max_answer, which is {limit}: ask for less at a time."
    )
}

#[cfg(test)]
mod tests {
    use opentelemetry::metrics::{MeterProvider, noop::NoopMeterProvider};

    use super::*;

    fn allowance(ty: OperationType, max_answer: usize, repeats: usize) -> Allowance {
        let limits = Limits {
            max_calls: 2,
            max_answer,
            ..super::super::Config::default().limits()
        };
        let beyond = Beyond::new(&NoopMeterProvider::new().meter("test"));
        Allowance::new(&limits, ty, repeats, &beyond)
    }

    #[test]
    fn calls_and_bytes_are_counted_over_the_whole_operation_and_anew_for_each_event() {
        let allowance = allowance(OperationType::Query, 100, 1);
        for _ in 0..2 {
            assert!(allowance.call().is_ok() && allowance.call().is_ok());
            assert!(allowance.call().unwrap_err().message.contains("max_calls"));
            assert!(allowance.reply(60).is_ok() && allowance.reply(40).is_ok());
            assert!(
                allowance
                    .reply(1)
                    .unwrap_err()
                    .message
                    .contains("max_answer")
            );
            allowance.renew();
        }
    }

    #[test]
    fn a_reply_counts_as_often_as_it_can_be_in_the_answer() {
        let allowance = allowance(OperationType::Query, 100, 10);
        assert!(allowance.reply(6).is_ok());
        assert!(allowance.reply(5).is_err());
    }

    #[test]
    fn messages_of_a_stream_cost_each_an_answer_of_a_subscription_and_together_one_of_a_query() {
        let subscription = allowance(OperationType::Subscription, 100, 1);
        assert!((0..9).all(|_| subscription.message(60).is_ok()));
        assert!(subscription.reply(60).is_err());
        let query = allowance(OperationType::Query, 100, 1);
        assert!(query.message(60).is_ok() && query.message(60).is_err());
    }
}
