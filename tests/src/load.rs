//! Load on a BFF: one generator for all tests.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    task::JoinSet,
    time::{Instant, interval},
};

use crate::TestBff;

/// How long a load waits for answers before it says that there are none.
const PATIENCE: Duration = Duration::from_secs(60);

/// Queries that are under way; counts those that were answered and those that failed.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
    failed: Arc<AtomicUsize>,
    tasks: JoinSet<()>,
}

impl Load {
    fn new() -> Self {
        Self {
            stop: Arc::default(),
            done: Arc::default(),
            failed: Arc::default(),
            tasks: JoinSet::new(),
        }
    }

    /// So many clients, each of which asks again as soon as it is answered, until they are stopped.
    pub fn clients(bff: &Arc<TestBff>, clients: usize) -> Self {
        let mut load = Self::new();
        for _ in 0..clients {
            let (bff, stop) = (Arc::clone(bff), Arc::clone(&load.stop));
            let (done, failed) = (Arc::clone(&load.done), Arc::clone(&load.failed));
            load.tasks.spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    failed.fetch_add(usize::from(!bff.greets().await), Ordering::Relaxed);
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        load
    }

    /// So many queries a second, whatever the answers, until it is stopped.
    pub fn steady(bff: &Arc<TestBff>, per_second: u32) -> Self {
        let mut load = Self::new();
        let (bff, stop) = (Arc::clone(bff), Arc::clone(&load.stop));
        let (done, failed) = (Arc::clone(&load.done), Arc::clone(&load.failed));
        load.tasks.spawn(async move {
            let mut pace = interval(Duration::from_secs(1) / per_second);
            let mut queries = JoinSet::new();
            while !stop.load(Ordering::Relaxed) {
                pace.tick().await;
                let (bff, done) = (Arc::clone(&bff), Arc::clone(&done));
                let failed = Arc::clone(&failed);
                queries.spawn(async move {
                    failed.fetch_add(usize::from(!bff.greets().await), Ordering::Relaxed);
                    done.fetch_add(1, Ordering::Relaxed);
                });
                while queries.try_join_next().is_some() {}
            }
            while queries.join_next().await.is_some() {}
        });
        load
    }

    /// How many queries were answered so far.
    pub fn done(&self) -> usize {
        self.done.load(Ordering::Relaxed)
    }

    /// So many queries a second, whatever the answers, for `seconds`. Returns how many there were and
    /// how many failed.
    pub async fn rate(bff: &Arc<TestBff>, per_second: u32, seconds: u32) -> (usize, usize) {
        let mut load = Self::new();
        let mut pace = interval(Duration::from_secs(1) / per_second);
        for _ in 0..per_second * seconds {
            pace.tick().await;
            let (bff, failed) = (Arc::clone(bff), Arc::clone(&load.failed));
            let done = Arc::clone(&load.done);
            load.tasks.spawn(async move {
                failed.fetch_add(usize::from(!bff.greets().await), Ordering::Relaxed);
                done.fetch_add(1, Ordering::Relaxed);
            });
        }
        while load.tasks.join_next().await.is_some() {}
        let read = |count: &AtomicUsize| count.load(Ordering::Relaxed);
        (read(&load.done), read(&load.failed))
    }

    /// Waits until `count` more queries have been answered.
    ///
    /// # Panics
    /// When they are not within a minute.
    pub async fn wait_for(&self, count: usize) {
        let wanted = self.done.load(Ordering::Relaxed) + count;
        let deadline = Instant::now() + PATIENCE;
        let mut pace = interval(Duration::from_millis(5));
        while self.done.load(Ordering::Relaxed) < wanted {
            assert!(
                Instant::now() < deadline,
                "no {count} answers within a minute"
            );
            pace.tick().await;
        }
    }

    /// Ends it; returns how many queries failed.
    pub async fn failures(mut self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        while self.tasks.join_next().await.is_some() {}
        self.failed.load(Ordering::Relaxed)
    }
}
