//! From ended spans to the collector, off every request's path: a bounded queue, a task that
//! sends batches, and a memory of the traces that are only kept if something in them failed.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use futures_util::future::BoxFuture;
use opentelemetry::{
    Context,
    trace::{SpanId, SpanKind, Status, TraceId},
};
use opentelemetry_sdk::{
    error::OTelSdkResult,
    trace::{Span, SpanData, SpanProcessor},
};
use tokio::{
    runtime,
    sync::{Notify, mpsc, oneshot},
    time::{Instant, MissedTickBehavior, interval, timeout},
};
use tracing::{info, warn};

use super::{super::config::Config, SpanCounts};

/// Spans in one message to the collector.
const BATCH: usize = 256;
/// How long a span waits for others.
const DELAY: Duration = Duration::from_secs(1);
/// How long the collector may take for one batch.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(3);
/// Unsampled traces that are remembered until they end, and spans of one of them.
const UNDECIDED_TRACES: usize = 4_096;
const SHARDS: usize = 16;
const UNDECIDED_SPANS: usize = 100;
/// A trace that is undecided for longer has lost its first span.
const FORGOTTEN: Duration = Duration::from_secs(60);
/// How often those are looked for, when there is no room.
const SWEEP: Duration = Duration::from_secs(5);

/// Hands one batch to a collector.
pub(in crate::telemetry) type Export =
    Box<dyn FnMut(Vec<SpanData>) -> BoxFuture<'static, Result<(), String>> + Send>;

/// The queue and the task at its end.
pub(super) struct Queue {
    sender: mpsc::Sender<SpanData>,
    counts: Arc<Counts>,
    flush: mpsc::Sender<oneshot::Sender<()>>,
    /// Told when there is a batch.
    full: Arc<Notify>,
}

#[derive(Debug, Default)]
pub(super) struct Counts {
    exported: AtomicU64,
    dropped: AtomicU64,
    failed: AtomicU64,
    forgotten: AtomicU64,
}

impl Queue {
    /// A queue whose spans leave by what `exporter` makes. They are encoded and sent on a thread
    /// of their own: a batch is a millisecond's work, which no request should have to wait for.
    /// The thread ends when the queue is dropped. An exporter that cannot be made, or fails, is
    /// made again for a later batch: an agent's name may not be known yet, or mean another.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub(super) fn new(
        exporter: impl Fn() -> anyhow::Result<Export> + Send + 'static,
        config: &Config,
    ) -> anyhow::Result<Self> {
        let (sender, spans) = mpsc::channel(config.queue_size);
        let (flush, flushes) = mpsc::channel(1);
        let counts = Arc::<Counts>::default();
        let full = Arc::<Notify>::default();
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        // Connections belong to the runtime they are made in.
        let sending = Sending {
            spans,
            flushes,
            exporter: Box::new(exporter),
            export: None,
            counts: Arc::clone(&counts),
            full: Arc::clone(&full),
        };
        thread::Builder::new()
            .name("traces".to_owned())
            .spawn(move || runtime.block_on(sending.run()))?;
        Ok(Self {
            sender,
            counts,
            flush,
            full,
        })
    }

    pub(super) fn processor(&self) -> Processor {
        let (counts, full) = (Arc::clone(&self.counts), Arc::clone(&self.full));
        Processor::new(self.sender.clone(), counts, full)
    }

    pub(super) fn counts(&self) -> SpanCounts {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let capacity = self.sender.max_capacity() - self.sender.capacity();
        SpanCounts {
            exported: read(&self.counts.exported),
            dropped: read(&self.counts.dropped),
            failed: read(&self.counts.failed),
            forgotten: read(&self.counts.forgotten),
            queued: capacity as u64,
        }
    }

    /// Waits until all that was queued is sent, or `limit` is over.
    pub(super) async fn flush(&self, limit: Duration) {
        let (done, is_done) = oneshot::channel();
        let flushed = async {
            if self.flush.send(done).await.is_ok() {
                let _ = is_done.await;
            }
        };
        if timeout(limit, flushed).await.is_err() {
            let lost = self.counts().queued;
            warn!(lost, "the collector does not take the last spans");
        }
    }
}

/// The task at the queue's end.
struct Sending {
    spans: mpsc::Receiver<SpanData>,
    flushes: mpsc::Receiver<oneshot::Sender<()>>,
    exporter: Box<dyn Fn() -> anyhow::Result<Export> + Send>,
    export: Option<Export>,
    counts: Arc<Counts>,
    full: Arc<Notify>,
}

impl Sending {
    async fn run(mut self) {
        let mut pace = interval(DELAY);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // Whether the log says that the collector takes nothing.
        let mut told = false;
        loop {
            let flushed = tokio::select! {
                _ = pace.tick() => None,
                () = self.full.notified() => None,
                flushed = self.flushes.recv() => match flushed {
                    Some(done) => Some(done),
                    // The queue is gone, and with it everybody who had spans.
                    None => return,
                },
            };
            let mut left = self.spans.len();
            while left > 0 {
                let mut batch = Vec::with_capacity(left.min(BATCH));
                let taken = self.spans.recv_many(&mut batch, left.min(BATCH)).await;
                left -= taken.min(left);
                let outcome = self.send(batch).await;
                if outcome.is_err() {
                    self.export = None;
                }
                self.count(taken as u64, outcome, &mut told);
            }
            if let Some(done) = flushed {
                // Whoever waited may have gone.
                let _ = done.send(());
            }
        }
    }

    async fn send(&mut self, batch: Vec<SpanData>) -> Result<(), String> {
        let export = match &mut self.export {
            Some(export) => export,
            None => {
                let made = (self.exporter)().map_err(|error| format!("{error:#}"))?;
                self.export.insert(made)
            }
        };
        match timeout(EXPORT_TIMEOUT, export(batch)).await {
            Ok(outcome) => outcome,
            Err(_) => Err("no answer in time".to_owned()),
        }
    }

    fn count(&self, spans: u64, outcome: Result<(), String>, told: &mut bool) {
        match outcome {
            Ok(()) => {
                self.counts.exported.fetch_add(spans, Ordering::Relaxed);
                if std::mem::take(told) {
                    info!("the collector takes spans again");
                }
            }
            Err(problem) => {
                self.counts.failed.fetch_add(spans, Ordering::Relaxed);
                if !std::mem::replace(told, true) {
                    warn!(problem, "the collector does not take spans, they are lost");
                }
            }
        }
    }
}

/// Sorts ended spans.
pub(super) struct Processor {
    sender: mpsc::Sender<SpanData>,
    counts: Arc<Counts>,
    full: Arc<Notify>,
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
    fn new(sender: mpsc::Sender<SpanData>, counts: Arc<Counts>, full: Arc<Notify>) -> Self {
        let shard = || {
            Mutex::new(Shard {
                traces: HashMap::new(),
                swept: Instant::now(),
            })
        };
        Self {
            sender,
            counts,
            full,
            undecided: std::iter::repeat_with(shard).take(SHARDS).collect(),
        }
    }

    fn queue(&self, span: SpanData) {
        if self.sender.try_send(span).is_err() {
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
        if self.sender.max_capacity() - self.sender.capacity() >= BATCH {
            self.full.notify_one();
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
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        if is_first {
            let ended = shard.traces.remove(&trace);
            drop(shard);
            let (spans, any) = ended.map_or((Vec::new(), false), |e| (e.spans, e.failed));
            if failed || any {
                spans.into_iter().for_each(|span| self.queue(span));
                self.queue(span);
            }
            return;
        }
        if !shard.traces.contains_key(&trace) && !shard.has_room(now) {
            self.counts.forgotten.fetch_add(1, Ordering::Relaxed);
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
            false => drop(self.counts.forgotten.fetch_add(1, Ordering::Relaxed)),
        }
    }
}

impl SpanProcessor for Processor {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        match span.span_context.is_sampled() {
            true => self.queue(span),
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

    use super::*;

    fn processor(capacity: usize) -> (Processor, mpsc::Receiver<SpanData>) {
        let (sender, receiver) = mpsc::channel(capacity);
        (
            Processor::new(sender, Arc::default(), Arc::default()),
            receiver,
        )
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
            let len = |shard: &Mutex<Shard>| shard.lock().unwrap().traces.len();
            processor.undecided.iter().map(len).sum()
        };
        assert!(kept(&processor) <= UNDECIDED_TRACES);
        let forgotten = processor.counts.forgotten.load(Ordering::Relaxed);
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
        assert_eq!(processor.counts.dropped.load(Ordering::Relaxed), 3);
    }
}
