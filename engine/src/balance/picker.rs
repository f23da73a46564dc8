//! Which instance gets the call. Pure: time and randomness are arguments.

use std::sync::Arc;

use http::uri::Authority;
use rand::Rng;
use tokio::time::Instant;

use super::{endpoint::Endpoint, view::View};
use crate::call::Strategy;

/// The second candidate takes over when the first costs this many times as much. Smaller
/// differences are noise, and following noise starves the instance that just had a hiccup. A little less
/// than two: one call in flight against none is the commonest difference, and a thousandth of
/// latency must not decide whether it counts.
const CLEARLY_CHEAPER: f64 = 1.9;
/// Draws spent on finding a candidate that was not tried, or a second one.
const DRAWS: usize = 4;

/// How many candidates a stream looks at.
const FOR_STREAMS: usize = 16;
/// One whose calls cost this many times as much as another's gets no stream. Many streams that begin at one
/// time make differences of their own, so this is more than for a call.
const TOO_DEAR: f64 = 5.0;

/// A call that looks for an instance.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted<'c> {
    /// Where it was tried already.
    pub(super) tried: &'c [Authority],
    /// Whether it is a stream: it may stay for days, and then where it went cannot be made good.
    pub(super) streams: bool,
}

/// A connected instance in rotation for a call, where a call on any takes `typical` seconds.
///
/// Power of two choices: of two random instances the cheaper one. The first is drawn by weight
/// and keeps the call unless the second is clearly cheaper, so equal instances share exactly by
/// their weights. [`Strategy::Random`] stops after the first. One that is in its slow start and busy
/// is passed over. For streams see [`emptiest`].
pub(super) fn pick<'v, S>(
    view: &'v View<S>,
    strategy: Strategy,
    wanted: Wanted<'_>,
    typical: f64,
    now: Instant,
    rng: &mut impl Rng,
) -> Option<&'v Arc<Endpoint<S>>> {
    let untried = |index: &usize| !wanted.tried.contains(view.rotation[*index].address());
    let suits = |index: &usize| untried(index) && view.rotation[*index].has_room();
    let first = draw(view, suits, untried, rng)?;
    let first_endpoint = &view.rotation[first];
    if strategy == Strategy::Random {
        return Some(first_endpoint);
    }
    if wanted.streams {
        return Some(emptiest(view, first, suits, typical, now, rng));
    }
    let Some(second) = draw_another(view, first, rng).filter(suits) else {
        return Some(first_endpoint);
    };
    let second_endpoint = &view.rotation[second];
    let cost = |endpoint: &Endpoint<S>| endpoint.cost(view.mean_weight, typical, now);
    match cost(second_endpoint) * CLEARLY_CHEAPER <= cost(first_endpoint) {
        true => Some(second_endpoint),
        false => Some(first_endpoint),
    }
}

/// For a stream: of all instances, or of sixteen, that with the fewest streams for its weight. An
/// idle stream is no load, but all of them were once not idle; and two choices would leave the last of a
/// restart with a quarter of the streams of the first, for as long as they last. One whose calls cost far
/// more than another's is left out: it may have few streams because they fail.
fn emptiest<'v, S>(
    view: &'v View<S>,
    first: usize,
    suits: impl Fn(&usize) -> bool,
    typical: f64,
    now: Instant,
    rng: &mut impl Rng,
) -> &'v Arc<Endpoint<S>> {
    let len = view.sampler.len();
    let few = len <= FOR_STREAMS;
    let next = (1..len.min(FOR_STREAMS)).filter_map(|step| match few {
        true => Some((first + step) % len),
        false => view.sampler.draw(rng),
    });
    let rated: Vec<_> = std::iter::once(first)
        .chain(next.filter(suits))
        .map(|index| {
            let endpoint = &view.rotation[index];
            let of_one = endpoint.cost_of_one(typical, now);
            let load = f64::from(endpoint.streams() + 1) / f64::from(endpoint.weight().max(1));
            (endpoint, of_one, load)
        })
        .collect();
    let cheapest = rated.iter().map(|(_, of_one, _)| *of_one);
    let cheapest = cheapest.fold(f64::INFINITY, f64::min);
    rated
        .iter()
        .filter(|(_, of_one, _)| *of_one <= cheapest * TOO_DEAR)
        .min_by(|(_, _, one), (_, _, other)| one.total_cmp(other))
        .map_or(&view.rotation[first], |(endpoint, _, _)| endpoint)
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

/// One that `suits`, else one that `does`, else any.
fn draw<S>(
    view: &View<S>,
    suits: impl Fn(&usize) -> bool,
    does: impl Fn(&usize) -> bool,
    rng: &mut impl Rng,
) -> Option<usize> {
    let first = view.sampler.draw(rng)?;
    if suits(&first) {
        return Some(first);
    }
    let len = view.sampler.len();
    // Few instances, or one of nearly all the weight: look at the neighbours.
    let neighbours = || (1..len.min(DRAWS * 4)).map(|step| (first + step) % len);
    (0..DRAWS)
        .filter_map(|_| view.sampler.draw(rng))
        .chain(neighbours())
        .find(suits)
        .or_else(|| std::iter::once(first).chain(neighbours()).find(does))
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
