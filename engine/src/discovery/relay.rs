//! A watch whose source can be exchanged while it is watched.

use std::future::pending;

use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};
use tracing::{info, warn};

use super::{Members, Snapshot, Watch};
use crate::types::OutageLog;

/// Exchanges the source of the [`Watch`] it was made with. Clones exchange the same one.
///
/// Another source takes over when it has an instance. Until then the present one stays, so that
/// a name which nothing is registered under changes nothing.
#[derive(Clone, Debug)]
pub(crate) struct Relay(mpsc::UnboundedSender<(String, Watch)>);

/// A watch that shows what `source` shows, until its [`Relay`] follows another source.
///
/// Has to be called within a tokio runtime.
pub(crate) fn relay(mut source: Watch) -> (Relay, Watch) {
    let (sender, receiver) = watch::channel(source.borrow_and_update().clone());
    let (others, requested) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let closed = sender.clone();
        tokio::select! {
            () = closed.closed() => {}
            () = forward(source, requested, sender) => {}
        }
    });
    (Relay(others), receiver)
}

impl Relay {
    /// Shows `source`, called `name` in the log, as soon as it has an instance.
    pub(crate) fn follow(&self, name: impl Into<String>, source: Watch) {
        // Without a receiver the watch has ended.
        let _ = self.0.send((name.into(), source));
    }
}

async fn forward(
    mut source: Watch,
    mut requested: mpsc::UnboundedReceiver<(String, Watch)>,
    sender: watch::Sender<Snapshot>,
) {
    let mut next: Option<Next> = None;
    loop {
        tokio::select! {
            () = changed(&mut source) => {}
            Some((name, source)) = requested.recv() => {
                next = Some(Next { name, source, empty: OutageLog::default() });
                continue;
            }
            () = has_instances(&mut next) => {
                if let Some(other) = next.take() {
                    info!(source = other.name, "the instances come from another source now");
                    source = other.source;
                }
            }
        }
        sender.send_replace(source.borrow_and_update().clone());
    }
}

/// Waits for another snapshot: for ever when there will be none.
async fn changed(source: &mut Watch) {
    if source.changed().await.is_err() {
        pending::<()>().await;
    }
}

/// A source that is to take over.
struct Next {
    name: String,
    source: Watch,
    /// That it has no instance, in the log.
    empty: OutageLog,
}

async fn has_instances(next: &mut Option<Next>) {
    let Some(Next {
        name,
        source,
        empty,
    }) = next
    else {
        return pending().await;
    };
    loop {
        match &source.borrow_and_update().members {
            Members::Known(list) if !list.is_empty() => return,
            Members::Known(_) => empty.failed(Instant::now(), || {
                warn!(
                    source = name.as_str(),
                    "the new source has no instance, the one before stays in use until it has"
                );
            }),
            Members::Unknown => {}
        }
        changed(source).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{discovery::Source, simulation::members};

    fn source(members: Members) -> (watch::Sender<Snapshot>, Watch) {
        watch::channel(snapshot(members))
    }

    fn snapshot(members: Members) -> Snapshot {
        Snapshot {
            members,
            source: Source::Live,
        }
    }

    async fn shows(watch: &mut Watch, wanted: &Members) {
        watch
            .wait_for(|snapshot| snapshot.members == *wanted)
            .await
            .unwrap();
    }

    #[tokio::test]
    async fn another_source_takes_over_only_when_it_has_an_instance() {
        let (first, watched) = source(members([1]));
        let (relay, mut shown) = relay(watched);
        let (second, watched) = source(Members::Unknown);
        relay.follow("second", watched);
        second.send_replace(snapshot(members([])));
        // The first is still listened to.
        first.send_replace(snapshot(members([1, 2])));
        shows(&mut shown, &members([1, 2])).await;
        second.send_replace(snapshot(members([3])));
        shows(&mut shown, &members([3])).await;
        first.send(snapshot(members([4]))).unwrap_err();
        // Once in use it may lose its instances.
        second.send_replace(snapshot(members([])));
        shows(&mut shown, &members([])).await;
    }

    #[tokio::test]
    async fn the_last_of_several_sources_is_the_one_that_counts() {
        let (_first, watched) = source(members([1]));
        let (relay, mut shown) = relay(watched);
        let (second, watched) = source(Members::Unknown);
        relay.follow("second", watched);
        relay.follow("third", crate::discovery::fixed::watch(&[]));
        let (_fourth, watched) = source(members([4]));
        relay.follow("fourth", watched);
        shows(&mut shown, &members([4])).await;
        second.send(snapshot(members([2]))).unwrap_err();
    }
}
