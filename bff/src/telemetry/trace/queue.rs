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
    trace::{SpanId, Status, TraceId},
};
use opentelemetry_sdk::{
    error::OTelSdkResult,
    trace::{Span, SpanData, SpanProcessor},
};
use tokio::{
    runtime,
    sync::{Notify, mpsc, oneshot},
    time::{Instant, interval, timeout},
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
const UNDECIDED_TRACES: usize = 1_000;
const UNDECIDED_SPANS: usize = 100;
/// A trace that is undecided for longer has lost its first span.
const FORGOTTEN: Duration = Duration::from_secs(60);

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
}

impl Queue {
    /// A queue whose spans leave by what `exporter` makes. They are encoded and sent on a thread
    /// of their own: a batch is a millisecond's work, which no request should have to wait for.
    /// The thread ends when the queue is dropped.
    ///
    /// # Errors
    /// When the exporter cannot be made, or there is no thread for it.
    pub(super) fn new(
        exporter: impl FnOnce() -> anyhow::Result<Export> + Send + 'static,
        config: &Config,
    ) -> anyhow::Result<Self> {
        let (sender, spans) = mpsc::channel(config.queue_size);
        let (flush, flushes) = mpsc::channel(1);
        let counts = Arc::<Counts>::default();
        let full = Arc::<Notify>::default();
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (made, is_made) = std::sync::mpsc::channel();
        let (of_thread, of_full) = (Arc::clone(&counts), Arc::clone(&full));
        thread::Builder::new()
            .name("traces".to_owned())
            .spawn(move || {
                runtime.block_on(async move {
                    // Connections belong to the runtime they are made in.
                    let export = match exporter() {
                        Ok(export) => export,
                        Err(error) => return drop(made.send(Err(error))),
                    };
                    drop(made.send(Ok(())));
                    let sending = Sending {
                        spans,
                        flushes,
                        export,
                        counts: of_thread,
                        full: of_full,
                    };
                    sending.run().await;
                });
            })?;
        is_made.recv()??;
        Ok(Self {
            sender,
            counts,
            flush,
            full,
        })
    }

    pub(super) fn processor(&self) -> Processor {
        Processor {
            sender: self.sender.clone(),
            counts: Arc::clone(&self.counts),
            full: Arc::clone(&self.full),
            undecided: Mutex::default(),
        }
    }

    pub(super) fn counts(&self) -> SpanCounts {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let capacity = self.sender.max_capacity() - self.sender.capacity();
        SpanCounts {
            exported: read(&self.counts.exported),
            dropped: read(&self.counts.dropped),
            failed: read(&self.counts.failed),
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
    export: Export,
    counts: Arc<Counts>,
    full: Arc<Notify>,
}

impl Sending {
    async fn run(mut self) {
        let mut pace = interval(DELAY);
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
                let outcome = match timeout(EXPORT_TIMEOUT, (self.export)(batch)).await {
                    Ok(outcome) => outcome,
                    Err(_) => Err("no answer in time".to_owned()),
                };
                self.count(taken as u64, outcome, &mut told);
            }
            if let Some(done) = flushed {
                // Whoever waited may have gone.
                let _ = done.send(());
            }
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
    undecided: Mutex<HashMap<TraceId, Undecided>>,
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

impl Processor {
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
        let mut undecided = self
            .undecided
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if undecided.len() >= UNDECIDED_TRACES && !undecided.contains_key(&trace) {
            // What ended after its trace had would stay for ever.
            undecided.retain(|_, kept| kept.since.elapsed() < FORGOTTEN);
            if undecided.len() >= UNDECIDED_TRACES {
                return;
            }
        }
        let kept = undecided.entry(trace).or_insert_with(|| Undecided {
            since: Instant::now(),
            spans: Vec::new(),
            failed: false,
        });
        kept.failed |= matches!(span.status, Status::Error { .. });
        if kept.spans.len() < UNDECIDED_SPANS || is_first {
            kept.spans.push(span);
        }
        if !is_first {
            return;
        }
        let ended = undecided.remove(&trace);
        drop(undecided);
        if let Some(ended) = ended.filter(|ended| ended.failed) {
            ended.spans.into_iter().for_each(|span| self.queue(span));
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
