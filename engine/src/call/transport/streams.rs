//! Connections for streams, beside the one for other calls: a stream may stay for days, and servers and
//! proxies allow a connection so many at one time. What streams take up there, no other call waits for.

use std::sync::{
    Arc, Weak,
    atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering},
};

use parking_lot::Mutex;

use super::{
    super::{BoxFuture, CallError, Lost},
    Capacity, Connection, Ended, Established, NotConnected,
};

/// Streams of one connection, at most: what servers and proxies commonly allow (gRPC's own guide on performance
/// names 100).
const STREAMS: usize = 100;

/// Brings up one more connection to an instance, whose peer has asked for fewer pings so many times.
pub(crate) type More<C> =
    Box<dyn Fn(u32) -> BoxFuture<Result<Connection<C>, NotConnected>> + Send + Sync>;

/// The connections for streams to one instance.
pub(super) struct Streams<C> {
    more: More<C>,
    /// How often the peer wanted fewer pings; they are sent while streams are open.
    calm: AtomicU32,
    lines: Mutex<Vec<Arc<Line<C>>>>,
    /// One is brought up at a time: those who wait may find a place on it.
    dialling: Arc<tokio::sync::Mutex<()>>,
}

/// One of them.
struct Line<C> {
    established: Arc<Established<C>>,
    open: AtomicUsize,
    ended: AtomicBool,
}

/// A stream's place on a connection, until it is dropped.
pub(super) struct Lease<C> {
    line: Arc<Line<C>>,
    of: Weak<Streams<C>>,
}

impl<C> Lease<C> {
    /// The connection.
    pub(super) fn connection(&self) -> &Arc<Established<C>> {
        &self.line.established
    }

    /// It takes no more streams.
    pub(super) fn spent(&self) {
        self.line.ended.store(true, Ordering::Relaxed);
        if let Some(streams) = self.of.upgrade() {
            streams.forget(&self.line);
        }
    }
}

impl<C> Drop for Lease<C> {
    fn drop(&mut self) {
        let last = self.line.open.fetch_sub(1, Ordering::AcqRel) == 1;
        if last && let Some(streams) = self.of.upgrade() {
            streams.tidy();
        }
    }
}

impl<C: Capacity> Line<C> {
    /// Whether there is a place for one more: not quite as many as its peer allows, for those that are ending
    /// count there still.
    fn has_room(&self) -> bool {
        let allowed = self.established.channel.max_calls().clamp(1, STREAMS);
        let places = allowed - allowed / 10;
        !self.ended.load(Ordering::Relaxed) && self.open.load(Ordering::Relaxed) < places
    }
}

impl<C: Send + Sync + 'static> Streams<C> {
    pub(super) fn new(more: More<C>) -> Self {
        Self {
            more,
            calm: AtomicU32::new(0),
            lines: Mutex::default(),
            dialling: Arc::default(),
        }
    }
}

impl<C: Capacity + Send + Sync + 'static> Streams<C> {
    /// A place for one more stream; a connection is brought up for it if none has one. It comes up also when
    /// this is dropped meanwhile: the next one finds it.
    ///
    /// # Errors
    /// When there is no further connection: the instance has too much to do, for all that is known, for it
    /// is connected.
    pub(super) async fn place(self: &Arc<Self>) -> Result<Lease<C>, CallError> {
        if let Some(place) = self.free() {
            return Ok(place);
        }
        let dialling = Arc::clone(&self.dialling).lock_owned().await;
        if let Some(place) = self.free() {
            return Ok(place);
        }
        let this = Arc::clone(self);
        let dialled = tokio::spawn(async move {
            let _dialling = dialling;
            this.dial().await
        });
        match dialled.await {
            Ok(Ok(place)) => Ok(place),
            Ok(Err(NotConnected(why))) => Err(no_further(&why)),
            Err(ended) => Err(no_further(&ended.to_string())),
        }
    }

    /// Brings up one more connection; the first place on it is the caller's.
    async fn dial(self: &Arc<Self>) -> Result<Lease<C>, NotConnected> {
        let connected = (self.more)(self.calm.load(Ordering::Relaxed)).await;
        let Connection { channel, ended } = connected?;
        let line = Arc::new(Line {
            established: Arc::new(Established::alone(channel)),
            open: AtomicUsize::new(1),
            ended: AtomicBool::new(false),
        });
        self.lines.lock().push(Arc::clone(&line));
        let (of, ending) = (Arc::downgrade(self), Arc::downgrade(&line));
        tokio::spawn(async move {
            let ended = ended.await;
            let (Some(of), Some(line)) = (of.upgrade(), ending.upgrade()) else {
                return;
            };
            line.ended.store(true, Ordering::Relaxed);
            of.forget(&line);
            if ended == Ended::TooManyPings {
                of.calm.fetch_add(1, Ordering::Relaxed);
            }
        });
        let of = Arc::downgrade(self);
        Ok(Lease { line, of })
    }

    /// A place on a connection that is up. The fullest has it, so that others may end.
    fn free(self: &Arc<Self>) -> Option<Lease<C>> {
        let lines = self.lines.lock();
        let open = |line: &Line<C>| line.open.load(Ordering::Relaxed);
        let with_room = lines.iter().filter(|line| line.has_room());
        let line = with_room.max_by_key(|line| open(line))?;
        // Places are only taken here, under the lock.
        line.open.fetch_add(1, Ordering::AcqRel);
        Some(Lease {
            line: Arc::clone(line),
            of: Arc::downgrade(self),
        })
    }
}

/// Why a stream has no place.
pub(super) fn no_further(why: &str) -> CallError {
    CallError::Transport {
        lost: Lost::Refused,
        detail: format!("no further connection for streams: {why}"),
    }
}

impl<C> Streams<C> {
    fn forget(&self, gone: &Arc<Line<C>>) {
        self.lines.lock().retain(|line| !Arc::ptr_eq(line, gone));
    }

    /// Lets go of connections that no stream is on, but for one.
    fn tidy(&self) {
        let mut kept = false;
        self.lines.lock().retain(|line| {
            let idle = line.open.load(Ordering::Acquire) == 0;
            !idle || !std::mem::replace(&mut kept, true)
        });
    }
}

impl<C> std::fmt::Debug for Streams<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let open = self
            .lines
            .lock()
            .iter()
            .map(|line| line.open.load(Ordering::Relaxed))
            .collect::<Vec<_>>();
        f.debug_tuple("Streams").field(&open).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::{future::pending, time::Duration};

    use tokio::sync::watch;

    use super::*;

    impl Capacity for usize {}

    /// Connections that are numbers, and end when they are told to.
    fn streams(end: &watch::Sender<usize>) -> (Arc<Streams<usize>>, Arc<AtomicUsize>) {
        let made = Arc::new(AtomicUsize::new(0));
        let (count, end) = (Arc::clone(&made), end.subscribe());
        let more: More<usize> = Box::new(move |_| {
            let channel = count.fetch_add(1, Ordering::Relaxed);
            let mut end = end.clone();
            Box::pin(async move {
                tokio::time::sleep(Duration::from_millis(1)).await;
                let ended = Box::pin(async move {
                    if end.wait_for(|ended| *ended > channel).await.is_err() {
                        pending::<()>().await;
                    }
                    Ended::Closed
                });
                Ok(Connection { channel, ended })
            })
        });
        (Arc::new(Streams::new(more)), made)
    }

    #[tokio::test(start_paused = true)]
    async fn a_hundred_streams_at_once_are_two_connections_and_what_is_left_fits_on_one() {
        let end = watch::Sender::default();
        let (streams, made) = streams(&end);
        let places = futures_util::future::join_all((0..100).map(|_| streams.place())).await;
        let mut places: Vec<_> = places.into_iter().map(Result::unwrap).collect();
        assert_eq!(made.load(Ordering::Relaxed), 2);
        places.truncate(50);
        let _more = streams.place().await.unwrap();
        assert_eq!(streams.lines.lock().len(), 2, "one idle one is kept");
        assert_eq!(made.load(Ordering::Relaxed), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_has_ended_gets_no_more_streams() {
        let end = watch::Sender::default();
        let (streams, made) = streams(&end);
        let first = streams.place().await.unwrap();
        first.spent();
        let second = streams.place().await.unwrap();
        assert_eq!(made.load(Ordering::Relaxed), 2);
        end.send_replace(2);
        // Until it is heard of.
        while !streams.lines.lock().is_empty() {
            tokio::task::yield_now().await;
        }
        drop((first, second));
        streams.place().await.unwrap();
        assert_eq!(made.load(Ordering::Relaxed), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_comes_up_also_when_the_stream_that_wanted_it_has_left() {
        let end = watch::Sender::default();
        let (streams, made) = streams(&end);
        let mut impatient = Box::pin(streams.place());
        assert!(futures_util::poll!(&mut impatient).is_pending());
        drop(impatient);
        let _place = streams.place().await.unwrap();
        assert_eq!(made.load(Ordering::Relaxed), 1);
    }
}
