//! The loop that keeps a list current by blocking queries.

use std::{error::Error, future::Future, time::Duration};

use tokio::{
    sync::watch as channel,
    time::{Instant, sleep, sleep_until, timeout},
};
use tracing::{info, warn};

use super::{
    Instance, Watch,
    membership::{Change, Membership},
    pace::{PollLimiter, backoff, next_index},
};
use crate::types::{OutageLog, ServiceName, error_chain};

/// What a catalog said of a service.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    /// The instances that pass their checks, each address once.
    pub(crate) instances: Vec<Instance>,
    /// The index to wait on for the next change, if the answer carried one.
    pub(crate) index: Option<u64>,
}

/// Why a catalog could not be asked.
pub(crate) type CatalogError = Box<dyn Error + Send + Sync>;

/// Where services are listed: Consul, or a script in a test.
pub(crate) trait Catalog: Send + Sync + 'static {
    /// The passing instances of `service`, as soon as its index is beyond `index` or `wait` is
    /// over. Index 0 asks for an answer at once.
    ///
    /// # Errors
    /// Whatever kept the catalog from giving a list that can be believed.
    fn passing(
        &self,
        service: &ServiceName,
        index: u64,
        wait: Duration,
    ) -> impl Future<Output = Result<Answer, CatalogError>> + Send;
}

/// The times of a watch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WatchOptions {
    /// How long one blocking query waits for a change.
    pub(crate) wait: Duration,
    /// How long a suddenly empty list is not believed.
    pub(crate) empty_hold: Duration,
}

impl WatchOptions {
    /// After how long a query is given up: Consul adds up to a sixteenth of the wait as jitter.
    fn limit(&self) -> Duration {
        self.wait + self.wait / 16 + Duration::from_secs(5)
    }
}

/// Watches `service` in `catalog` until every receiver is gone.
pub(crate) fn watch<C: Catalog>(catalog: C, service: ServiceName, options: WatchOptions) -> Watch {
    let membership = Membership::new(options.empty_hold, Instant::now());
    let (sender, receiver) = channel::channel(membership.snapshot().clone());
    tokio::spawn(async move {
        let closed = sender.clone();
        tokio::select! {
            () = closed.closed() => {}
            () = Watcher { catalog, service, options, membership, sender }.run() => {}
        }
    });
    receiver
}

struct Watcher<C> {
    catalog: C,
    service: ServiceName,
    options: WatchOptions,
    membership: Membership,
    sender: channel::Sender<super::Snapshot>,
}

impl<C: Catalog> Watcher<C> {
    async fn run(mut self) {
        let mut index = 0;
        let mut failures = 0;
        let mut pace = PollLimiter::new(Instant::now());
        let mut outage = OutageLog::default();
        loop {
            sleep(pace.take(Instant::now())).await;
            match self.poll(index).await {
                Ok(answer) => {
                    outage.recovered(|| {
                        info!(service = %self.service, failures, "the catalog answers again");
                    });
                    failures = 0;
                    index = next_index(index, answer.index);
                    let change = self.membership.answered(answer.instances, Instant::now());
                    self.publish(change);
                }
                Err(error) => {
                    let problem = error_chain(error.as_ref());
                    failures += 1;
                    // A catalog that comes back may have lost its past: wait on no index of it.
                    index = 0;
                    self.membership.failed(&problem);
                    outage.failed(Instant::now(), || {
                        warn!(
                            service = %self.service,
                            failures,
                            instances = self.membership.snapshot().members.list().len(),
                            problem,
                            "the catalog cannot be asked, the last good list stays in use"
                        );
                    });
                    self.publish(Change::None);
                    let delay = backoff(failures, &mut rand::rng());
                    sleep(delay).await;
                }
            }
        }
    }

    /// One query, during which a held list may run out.
    async fn poll(&mut self, index: u64) -> Result<Answer, CatalogError> {
        let limit = self.options.limit();
        let service = self.service.clone();
        let query = timeout(
            limit,
            self.catalog.passing(&service, index, self.options.wait),
        );
        tokio::pin!(query);
        loop {
            let expiry = self.membership.expires_at();
            let expired = async {
                match expiry {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                result = &mut query => {
                    return result.unwrap_or_else(|_| {
                        Err(format!("no answer within {}", humantime::format_duration(limit)).into())
                    });
                }
                () = expired => {
                    let change = self.membership.expire(Instant::now());
                    publish(&self.sender, &self.membership, &self.service, change);
                }
            }
        }
    }

    fn publish(&self, change: Change) {
        publish(&self.sender, &self.membership, &self.service, change);
    }
}

fn publish(
    sender: &channel::Sender<super::Snapshot>,
    membership: &Membership,
    service: &ServiceName,
    change: Change,
) {
    let snapshot = membership.snapshot();
    let instances = snapshot.members.list().len();
    match change {
        Change::None => {}
        Change::List => info!(%service, instances, "the list of instances changed"),
        Change::Held => warn!(
            %service,
            instances,
            "the catalog suddenly lists less than half of the service, the last good list is held for a while"
        ),
        Change::Believed => warn!(
            %service,
            instances,
            "the catalog still lists less than half of the service, it is believed now"
        ),
    }
    sender.send_replace(snapshot.clone());
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::{
        super::{Members, Source},
        *,
    };

    /// A catalog that keeps an index as Consul does and can be taken down.
    #[derive(Clone)]
    struct Script(Arc<Mutex<State>>, Arc<tokio::sync::Notify>);

    struct State {
        up: bool,
        hangs: bool,
        index: u64,
        ports: Vec<u16>,
        polls: Vec<Instant>,
    }

    impl Script {
        fn new(ports: &[u16]) -> Self {
            let state = State {
                up: true,
                hangs: false,
                index: 10,
                ports: ports.into(),
                polls: vec![],
            };
            Self(Arc::new(Mutex::new(state)), Arc::default())
        }

        fn change(&self, change: impl FnOnce(&mut State)) {
            change(&mut self.0.lock().unwrap());
            self.1.notify_waiters();
        }

        fn polls(&self) -> Vec<Instant> {
            self.0.lock().unwrap().polls.clone()
        }
    }

    impl Catalog for Script {
        async fn passing(
            &self,
            _: &ServiceName,
            index: u64,
            wait: Duration,
        ) -> Result<Answer, CatalogError> {
            self.0.lock().unwrap().polls.push(Instant::now());
            let deadline = Instant::now() + wait;
            loop {
                let changed = self.1.notified();
                {
                    let state = self.0.lock().unwrap();
                    if !state.up {
                        return Err("connection refused".into());
                    }
                    let blocked = index >= state.index && index > 0 && Instant::now() < deadline;
                    if !blocked && !state.hangs {
                        let instances = state.ports.iter().map(|port| instance(*port)).collect();
                        return Ok(Answer {
                            instances,
                            index: Some(state.index),
                        });
                    }
                }
                let hangs = self.0.lock().unwrap().hangs;
                tokio::select! {
                    () = changed => {}
                    () = sleep_until(deadline), if !hangs => {}
                }
            }
        }
    }

    fn instance(port: u16) -> Instance {
        Instance {
            address: format!("127.0.0.1:{port}").parse().unwrap(),
            weight: 1,
        }
    }

    fn start(script: &Script) -> Watch {
        let options = WatchOptions {
            wait: Duration::from_secs(30),
            empty_hold: Duration::from_secs(60),
        };
        watch(
            script.clone(),
            ServiceName::try_from("s".to_owned()).unwrap(),
            options,
        )
    }

    async fn until(watch: &mut Watch, ports: &[u16]) {
        let wanted: Vec<_> = ports.iter().map(|port| instance(*port)).collect();
        watch
            .wait_for(|snapshot| snapshot.members.list() == wanted)
            .await
            .unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn f18_ten_minutes_without_a_catalog_that_comes_back_with_an_older_index() {
        let script = Script::new(&[1, 2]);
        let mut watch = start(&script);
        until(&mut watch, &[1, 2]).await;

        script.change(|state| state.up = false);
        let down = Instant::now();
        sleep(Duration::from_secs(600)).await;
        assert_eq!(watch.borrow().members.list(), [instance(1), instance(2)]);
        assert!(watch.borrow().source.staleness(Instant::now()) >= Duration::from_secs(599));
        let polls = script.polls().iter().filter(|at| **at > down).count();
        assert!(polls <= 600 / 15, "{polls} polls in ten minutes");

        script.change(|state| {
            state.up = true;
            state.index = 3;
            state.ports = vec![1, 3];
        });
        let back = Instant::now();
        until(&mut watch, &[1, 3]).await;
        assert!(
            back.elapsed() <= Duration::from_secs(16),
            "{:?}",
            back.elapsed()
        );
        assert_eq!(
            watch.borrow().source.staleness(Instant::now()),
            Duration::ZERO
        );

        sleep(Duration::from_secs(120)).await;
        script.change(|state| {
            state.index += 1;
            state.ports = vec![4];
        });
        let changed = Instant::now();
        until(&mut watch, &[4]).await;
        assert!(
            changed.elapsed() <= Duration::from_secs(1),
            "{:?}",
            changed.elapsed()
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_catalog_that_hangs_is_given_up_and_the_last_good_list_stays() {
        let script = Script::new(&[1]);
        let mut watch = start(&script);
        until(&mut watch, &[1]).await;
        script.change(|state| state.hangs = true);
        watch
            .wait_for(|snapshot| matches!(snapshot.source, Source::Failing { .. }))
            .await
            .unwrap();
        assert_eq!(watch.borrow().members.list(), [instance(1)]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_sudden_empty_list_is_applied_after_its_hold_while_the_query_blocks() {
        let script = Script::new(&[1]);
        let mut watch = start(&script);
        until(&mut watch, &[1]).await;
        script.change(|state| {
            state.index += 1;
            state.ports.clear();
        });
        let emptied = Instant::now();
        watch
            .wait_for(|snapshot| snapshot.members.list().is_empty())
            .await
            .unwrap();
        assert_eq!(emptied.elapsed().as_secs(), 60);
    }

    #[tokio::test(start_paused = true)]
    async fn a_list_that_changes_all_the_time_is_no_busy_loop() {
        let script = Script::new(&[1]);
        let mut watch = start(&script);
        until(&mut watch, &[1]).await;
        for _ in 0..1000 {
            script.change(|state| state.index += 1);
            sleep(Duration::from_millis(10)).await;
        }
        let polls = script.polls().len();
        assert!(polls <= 46, "{polls} polls in ten seconds");
    }

    #[tokio::test(start_paused = true)]
    async fn the_watch_ends_when_nobody_looks() {
        let script = Script::new(&[1]);
        let mut watch = start(&script);
        until(&mut watch, &[1]).await;
        assert_eq!(Arc::strong_count(&script.0), 2);
        drop(watch);
        while Arc::strong_count(&script.0) > 1 {
            tokio::task::yield_now().await;
        }
    }

    #[test]
    fn unknown_is_not_empty() {
        assert_ne!(Members::Unknown, Members::Known(Arc::from([])));
    }
}
