//! A list that was written into the configuration and never changes.

use tokio::sync::watch;

use super::{Instance, Members, Snapshot, Source, Watch};
use crate::types::BaseUrl;

/// A watch over `endpoints` that never reports a change.
pub(crate) fn watch(endpoints: &[BaseUrl]) -> Watch {
    let list = endpoints
        .iter()
        .map(|endpoint| Instance {
            address: endpoint.authority().clone(),
            weight: 1,
        })
        .collect();
    watch::channel(Snapshot {
        members: Members::Known(list),
        source: Source::Live,
    })
    .1
}
