//! From ended spans to the collector, off every request's path: a bounded queue, and a thread that
//! sends batches.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use futures_util::future::BoxFuture;
use opentelemetry_sdk::trace::SpanData;
use tokio::{
    runtime,
    sync::{Notify, mpsc, oneshot},
    time::{Instant, MissedTickBehavior, interval, timeout},
};
use tracing::{info, warn};

use super::{super::config::Config, SpanCounts};
use crate::types::OutageLog;

/// Spans in one message to the collector.
const BATCH: usize = 256;
/// How long a span waits for others.
const DELAY: Duration = Duration::from_secs(1);
/// How long the collector may take for one batch.
pub(in crate::telemetry) const EXPORT_TIMEOUT: Duration = Duration::from_secs(3);

/// Hands one batch to a collector.
pub(in crate::telemetry) type Export =
    Box<dyn FnMut(Vec<SpanData>) -> BoxFuture<'static, Result<(), String>> + Send>;

/// The queue, and the thread at its end.
pub(super) struct Queue {
    sender: SpanSender,
    flush: mpsc::Sender<oneshot::Sender<()>>,
}

/// Where spans are put into the queue. Clones lead into the same one.
#[derive(Clone, Debug)]
pub(super) struct SpanSender {
    sender: mpsc::Sender<SpanData>,
    counts: Arc<Counts>,
    /// Told when there is a batch.
    full: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Counts {
    exported: AtomicU64,
    dropped: AtomicU64,
    failed: AtomicU64,
    forgotten: AtomicU64,
}

impl SpanSender {
    /// A queue of so many spans at most, and its end.
    pub(super) fn new(size: usize) -> (Self, mpsc::Receiver<SpanData>) {
        let (sender, spans) = mpsc::channel(size);
        let sender = Self {
            sender,
            counts: Arc::default(),
            full: Arc::default(),
        };
        (sender, spans)
    }

    /// Queues `span`, or drops and counts it.
    pub(super) fn put(&self, span: SpanData) {
        if self.sender.try_send(span).is_err() {
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
        if self.queued() >= BATCH {
            self.full.notify_one();
        }
    }

    /// Counts a span that there was no room to remember.
    pub(super) fn forget(&self) {
        self.counts.forgotten.fetch_add(1, Ordering::Relaxed);
    }

    fn queued(&self) -> usize {
        self.sender.max_capacity() - self.sender.capacity()
    }

    pub(super) fn counts(&self) -> SpanCounts {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        SpanCounts {
            exported: read(&self.counts.exported),
            dropped: read(&self.counts.dropped),
            failed: read(&self.counts.failed),
            forgotten: read(&self.counts.forgotten),
            queued: self.queued() as u64,
        }
    }
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
        let (sender, spans) = SpanSender::new(config.queue_size);
        let (flush, flushes) = mpsc::channel(1);
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        // Connections belong to the runtime they are made in.
        let sending = Sending {
            spans,
            flushes,
            exporter: Box::new(exporter),
            export: None,
            counts: Arc::clone(&sender.counts),
            full: Arc::clone(&sender.full),
        };
        thread::Builder::new()
            .name("traces".to_owned())
            .spawn(move || runtime.block_on(sending.run()))?;
        Ok(Self { sender, flush })
    }

    /// Where spans are put in.
    pub(super) fn sender(&self) -> &SpanSender {
        &self.sender
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
            let lost = self.sender.queued();
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
        let mut outage = OutageLog::default();
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
                self.count(taken as u64, outcome, &mut outage);
            }
            if let Some(done) = flushed {
                // The caller may have given up waiting.
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

    fn count(&self, spans: u64, outcome: Result<(), String>, outage: &mut OutageLog) {
        match outcome {
            Ok(()) => {
                self.counts.exported.fetch_add(spans, Ordering::Relaxed);
                outage.recovered(|| info!("the collector takes spans again"));
            }
            Err(problem) => {
                self.counts.failed.fetch_add(spans, Ordering::Relaxed);
                outage.failed(Instant::now(), || {
                    warn!(problem, "the collector does not take spans, they are lost");
                });
            }
        }
    }
}
