//! What becomes of an ended span: into the queue if its trace is sampled; otherwise into a memory,
//! until the first span of its trace has ended and it is known whether anything in it failed.

use std::{collections::HashMap, fmt, time::Duration};

use opentelemetry::{
    Context,
    trace::{SpanId, SpanKind, Status, TraceId},
};
use opentelemetry_sdk::{
    error::OTelSdkResult,
    trace::{Span, SpanData, SpanProcessor},
};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::queue::SpanSender;

/// Unsampled traces that are remembered until they end, and spans of one of them.
const UNDECIDED_TRACES: usize = 4_096;
const SHARDS: usize = 16;
const UNDECIDED_SPANS: usize = 100;
/// A trace that is undecided for longer has lost its first span.
const FORGOTTEN: Duration = Duration::from_secs(60);
/// How often those are looked for, when there is no room.
const SWEEP: Duration = Duration::from_secs(5);

/// Sorts ended spans.
pub(super) struct Processor {
    queue: SpanSender,
    /// By trace, in shards that are locked one at a time.
    undecided: Box<[Mutex<Shard>]>,
}

/// Some of the traces that the share leaves out.
struct Shard {
    traces: HashMap<TraceId, Undecided>,
    swept: Instant,
}

/// A trace that the share leaves out, until its first span ends.
struct Undecided {
    since: Instant,
    spans: Vec<SpanData>,
    failed: bool,
}

impl fmt::Debug for Processor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Processor")
    }
}

impl Shard {
    /// Whether there is room for one more trace. What ended after its trace had, would stay for
    /// ever; looking for that is worth it once in a while.
    fn has_room(&mut self, now: Instant) -> bool {
        if self.traces.len() < UNDECIDED_TRACES / SHARDS {
            return true;
        }
        if now - self.swept > SWEEP {
            self.swept = now;
            self.traces.retain(|_, kept| now - kept.since < FORGOTTEN);
        }
        self.traces.len() < UNDECIDED_TRACES / SHARDS
    }
}

impl Processor {
    pub(super) fn new(queue: SpanSender) -> Self {
        let shard = || {
            Mutex::new(Shard {
                traces: HashMap::new(),
                swept: Instant::now(),
            })
        };
        Self {
            queue,
            undecided: std::iter::repeat_with(shard).take(SHARDS).collect(),
        }
    }

    /// Keeps `span` until the first of its trace, which ends last, has ended; then all of them if
    /// one failed, and none otherwise.
    fn decide_later(&self, span: SpanData) {
        let trace = span.span_context.trace_id();
        let is_first = span.parent_span_id == SpanId::INVALID || span.parent_span_is_remote;
        let failed = matches!(span.status, Status::Error { .. });
        let now = Instant::now();
        let shard = usize::from(trace.to_bytes()[15]) % SHARDS;
        let shard = &self.undecided[shard];
        let mut shard = shard.lock();
        if is_first {
            let ended = shard.traces.remove(&trace);
            drop(shard);
            let (spans, any) = ended.map_or((Vec::new(), false), |e| (e.spans, e.failed));
            if failed || any {
                spans.into_iter().for_each(|span| self.queue.put(span));
                self.queue.put(span);
            }
            return;
        }
        if !shard.traces.contains_key(&trace) && !shard.has_room(now) {
            self.queue.forget();
            return;
        }
        let kept = shard.traces.entry(trace).or_insert_with(|| Undecided {
            since: now,
            spans: Vec::new(),
            failed: false,
        });
        kept.failed |= failed;
        // Attempts end first; what holds them together needs room too.
        let most = match span.span_kind {
            SpanKind::Client => UNDECIDED_SPANS,
            _ => UNDECIDED_SPANS * 2,
        };
        match kept.spans.len() < most {
            true => kept.spans.push(span),
            false => self.queue.forget(),
        }
    }
}

impl SpanProcessor for Processor {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        match span.span_context.is_sampled() {
            true => self.queue.put(span),
            false => self.decide_later(span),
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry::{
        InstrumentationScope,
        trace::{SpanContext, TraceFlags, TraceState},
    };
    use opentelemetry_sdk::trace::{SpanEvents, SpanLinks};
    use tokio::sync::mpsc;

    use super::*;

    fn processor(capacity: usize) -> (Processor, mpsc::Receiver<SpanData>) {
        let (entrance, receiver) = SpanSender::new(capacity);
        (Processor::new(entrance), receiver)
    }

    fn span(trace: u128, parent: u64, failed: bool) -> SpanData {
        let now = std::time::SystemTime::UNIX_EPOCH;
        SpanData {
            span_context: SpanContext::new(
                TraceId::from(trace),
                SpanId::from(parent + 1),
                TraceFlags::default(),
                false,
                TraceState::NONE,
            ),
            parent_span_id: SpanId::from(parent),
            parent_span_is_remote: false,
            span_kind: SpanKind::Client,
            name: "x".into(),
            start_time: now,
            end_time: now,
            attributes: Vec::new(),
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: match failed {
                true => Status::error("failed"),
                false => Status::Unset,
            },
            instrumentation_scope: InstrumentationScope::builder("test").build(),
        }
    }

    fn received(receiver: &mut mpsc::Receiver<SpanData>) -> usize {
        std::iter::from_fn(|| receiver.try_recv().ok()).count()
    }

    #[tokio::test(start_paused = true)]
    async fn of_an_unsampled_trace_all_is_kept_if_anything_failed_and_nothing_otherwise() {
        let (processor, mut queue) = processor(100);
        processor.on_end(span(1, 7, true));
        processor.on_end(span(1, 8, false));
        processor.on_end(span(2, 7, false));
        assert_eq!(received(&mut queue), 0, "until the first span ends");
        processor.on_end(span(1, 0, false));
        processor.on_end(span(2, 0, false));
        assert_eq!(received(&mut queue), 3);
        processor.on_end(span(3, 0, true));
        assert_eq!(received(&mut queue), 1, "one that failed alone");
    }

    #[tokio::test(start_paused = true)]
    async fn what_never_ends_is_bounded_counted_and_forgotten_after_a_while() {
        let (processor, mut queue) = processor(10_000);
        for trace in 0..10_000 {
            processor.on_end(span(trace, 7, true));
        }
        let kept = |processor: &Processor| -> usize {
            let len = |shard: &Mutex<Shard>| shard.lock().traces.len();
            processor.undecided.iter().map(len).sum()
        };
        assert!(kept(&processor) <= UNDECIDED_TRACES);
        let forgotten = processor.queue.counts().forgotten;
        assert_eq!(forgotten as usize, 10_000 - kept(&processor));
        tokio::time::advance(FORGOTTEN * 2).await;
        processor.on_end(span(20_000, 7, true));
        processor.on_end(span(20_000, 0, false));
        assert_eq!(received(&mut queue), 2, "there is room again");
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_queue_drops_and_counts() {
        let (processor, _queue) = processor(2);
        for trace in 0..5 {
            processor.on_end(span(trace, 0, true));
        }
        assert_eq!(processor.queue.counts().dropped, 3);
    }
}
