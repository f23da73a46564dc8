//! What an attempt goes to: a connected instance, or the wait for one.

use std::sync::Arc;

use rand::Rng;
use tokio::time::{Instant, timeout_at};

use super::{
    Chosen, Shared,
    link::{self, Connectivity},
    picker::{self, Wanted},
};
use crate::call::{CallError, NoInstance, Unreachable, now};

/// How often a call picks again when what it picked has just lost its connection.
const PICKS: usize = 4;
/// How many instances a call that finds none connected has dialled.
const WANTED: usize = 8;

impl<S> Shared<S> {
    /// What the next attempt of a call goes to; `None` if no instance is connected.
    pub(super) fn choose(
        &self,
        wanted: Wanted<'_>,
        now: Instant,
        rng: &mut impl Rng,
    ) -> Result<Option<Chosen<S>>, NoInstance> {
        let view = self.view.load();
        if view.all.is_empty() {
            return Err(NoInstance { known: view.known });
        }
        // A call that failed once already should not have to bear a probe too.
        if wanted.tried.is_empty()
            && let Some(endpoint) = picker::take_probe(&view, now)
        {
            if let Some(established) = endpoint.link().established() {
                self.replace(|view, config| view.resorted(config));
                return Ok(Some(Chosen {
                    endpoint: Arc::clone(endpoint),
                    established,
                    probe: true,
                }));
            }
            endpoint.gate().probe_given_back(now);
        }
        let (strategy, typical) = (self.options.load().strategy, self.typical.seconds());
        // One that has just lost its connection may still be in the view.
        for _ in 0..PICKS {
            let picked = picker::pick(&view, strategy, wanted, typical, now, rng);
            let Some(endpoint) = picked else {
                break;
            };
            if let Some(established) = endpoint.link().established() {
                return Ok(Some(Chosen {
                    endpoint: Arc::clone(endpoint),
                    established,
                    probe: false,
                }));
            }
        }
        Ok(None)
    }

    /// The same for a call that waits for a connection, until `deadline`. It does not believe what was
    /// found before it came: instances are dialled again for it.
    pub(super) async fn wait(
        &self,
        wanted: Wanted<'_>,
        deadline: Instant,
    ) -> Result<Chosen<S>, CallError> {
        let mut changes = self.connectivity.subscribe();
        let came = now();
        loop {
            changes.mark_unchanged();
            let now = now();
            if let Some(chosen) = self.choose(wanted, now, &mut rand::rng())? {
                return Ok(chosen);
            }
            let again = self.redial(came, now)?.unwrap_or(deadline).min(deadline);
            // A change, or the time to dial one.
            let changed = timeout_at(again, changes.changed()).await;
            if changed.is_err() && again == deadline {
                let instances = self.view.load().all.len();
                let why = "no connection in time".to_owned();
                let ran_out = true;
                return Err(Unreachable {
                    instances,
                    why,
                    ran_out,
                }
                .into());
            }
        }
    }

    /// Has some instances dialled for a call that came at `came`; says when it is time for the next,
    /// if none is on its way.
    ///
    /// # Errors
    /// When enough of them have been, and could not be reached.
    fn redial(&self, came: Instant, now: Instant) -> Result<Option<Instant>, Unreachable> {
        let view = self.view.load();
        let first = rand::random_range(0..view.all.len().max(1));
        let (before, from) = view.all.split_at(first.min(view.all.len()));
        let (mut why, mut on_the_way, mut next) = (String::new(), 0, None::<Instant>);
        let mut failed = 0;
        for endpoint in from.iter().chain(before) {
            match endpoint.link().connectivity() {
                Connectivity::Connecting | Connectivity::Ready => on_the_way += 1,
                Connectivity::Failed { at, why: last } if at >= came => {
                    failed += 1;
                    why = format!("{}: {last}", endpoint.address());
                }
                Connectivity::Failed { at, .. } => {
                    let again = at + link::REDIAL;
                    if again <= now {
                        endpoint.link().redial();
                        on_the_way += 1;
                    } else {
                        next = Some(next.map_or(again, |next| next.min(again)));
                    }
                }
            }
            if on_the_way + failed >= WANTED {
                break;
            }
        }
        match (on_the_way, next) {
            (0, None) => Err(Unreachable {
                instances: view.all.len(),
                why,
                ran_out: false,
            }),
            (0, next) => Ok(next),
            _ => Ok(None),
        }
    }
}
