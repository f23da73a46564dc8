//! Which instance gets the call. Pure: time and randomness are arguments.

use std::sync::Arc;

use http::uri::Authority;
use rand::Rng;
use tokio::time::Instant;

use super::{endpoint::Endpoint, view::View};
use crate::call::Strategy;

/// The second candidate takes over when the first costs this many times as much. Smaller
/// differences are noise, and following noise starves the instance that just had a hiccup.
const CLEARLY_CHEAPER: f64 = 2.0;
/// Draws spent on finding a candidate that was not tried, or a second one.
const DRAWS: usize = 4;

/// An instance in rotation for a call that was already tried on `tried`.
///
/// Power of two choices: of two random instances the cheaper one. The first is drawn by weight
/// and keeps the call unless the second is clearly cheaper, so equal instances share exactly by
/// their weights. [`Strategy::Random`] stops after the first.
pub(super) fn pick<'v, S>(
    view: &'v View<S>,
    strategy: Strategy,
    tried: &[Authority],
    now: Instant,
    rng: &mut impl Rng,
) -> Option<&'v Arc<Endpoint<S>>> {
    let first = draw_untried(view, tried, rng)?;
    if strategy == Strategy::Random {
        return Some(&view.rotation[first]);
    }
    let first_endpoint = &view.rotation[first];
    let Some(second) = draw_another(view, first, rng) else {
        return Some(first_endpoint);
    };
    let second_endpoint = &view.rotation[second];
    if tried.contains(second_endpoint.address()) {
        return Some(first_endpoint);
    }
    let cost = |endpoint: &Endpoint<S>| endpoint.cost(view.mean_weight, now);
    match cost(second_endpoint) * CLEARLY_CHEAPER <= cost(first_endpoint) {
        true => Some(second_endpoint),
        false => Some(first_endpoint),
    }
}

/// An ejected instance whose time is over, its one probe taken. `view.next_probe` says when
/// looking for one is worth it.
pub(super) fn take_probe<S>(view: &View<S>, now: Instant) -> Option<&Arc<Endpoint<S>>> {
    if view.next_probe.is_none_or(|at| now < at) {
        return None;
    }
    view.ejected
        .iter()
        .find(|endpoint| endpoint.gate().try_probe(now))
}

fn draw_untried<S>(view: &View<S>, tried: &[Authority], rng: &mut impl Rng) -> Option<usize> {
    let first = view.sampler.draw(rng)?;
    let untried = |index: &usize| !tried.contains(view.rotation[*index].address());
    if untried(&first) {
        return Some(first);
    }
    let len = view.sampler.len();
    (0..DRAWS)
        .filter_map(|_| view.sampler.draw(rng))
        // Few instances, or one of nearly all the weight: look at the neighbours.
        .chain((1..len.min(DRAWS * 4)).map(|step| (first + step) % len))
        .find(untried)
        .or(Some(first))
}

fn draw_another<S>(view: &View<S>, first: usize, rng: &mut impl Rng) -> Option<usize> {
    let len = view.sampler.len();
    if len < 2 {
        return None;
    }
    (0..DRAWS)
        .filter_map(|_| view.sampler.draw(rng))
        .find(|index| *index != first)
        .or(Some((first + 1) % len))
}
