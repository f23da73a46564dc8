//! A fleet, simulated: many web tiers in front of many instances, through twenty minutes of weather.
//!
//! One thread works through a queue of events. The choice of an instance, its ejection, the breaker, the
//! budget, the pauses and what an end means are the production code; sockets, Consul and the
//! instances are not. With one seed it is the same every time.

mod report;
mod tier;
mod weather;
mod world;

use std::{cmp::Reverse, collections::BinaryHeap, sync::Arc, time::Duration};

use http::uri::Authority;
use rand::{Rng, SeedableRng, rngs::SmallRng};
use tokio::time::Instant;

use self::{
    report::Recorder,
    tier::{Call, Next, Tier},
    world::World,
};
pub use self::{
    report::{Phase, Report, Second},
    weather::Weather,
};
use crate::{
    balance::simulated::{Choice, Simulated},
    call::{Config, Strategy},
    discovery::Instance,
};

/// How large the fleet is, and how busy.
#[derive(Clone, Copy, Debug)]
pub struct Fleet {
    /// Instances of the service.
    pub instances: usize,
    /// Web tiers, which know nothing of one another.
    pub tiers: usize,
    /// Calls a second, of all tiers together.
    pub calls_per_second: u32,
    /// For everything that is random.
    pub seed: u64,
}

/// Who chooses instances.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contender {
    /// `balancer = "p2c"`.
    P2c,
    /// `balancer = "random"`.
    Random,
    /// The first without ejection.
    P2cWithoutEjection,
    /// Of two instances that with fewer calls in flight; without ejection.
    LeastRequest,
    /// One after the other; without ejection.
    RoundRobin,
}

impl Contender {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::P2c,
        Self::Random,
        Self::P2cWithoutEjection,
        Self::LeastRequest,
        Self::RoundRobin,
    ];

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::P2c => "p2c",
            Self::Random => "random",
            Self::P2cWithoutEjection => "p2c, no ejection",
            Self::LeastRequest => "least request",
            Self::RoundRobin => "round robin",
        }
    }

    fn config(self) -> Config {
        let mut config = Config::default();
        match self {
            Self::Random => config.balancer = Strategy::Random,
            Self::P2cWithoutEjection => config.ejection.max_ratio = 0.0,
            Self::P2c | Self::LeastRequest | Self::RoundRobin => {}
        }
        config
    }

    fn choice(self) -> Choice {
        match self {
            Self::LeastRequest => Choice::LeastRequest,
            Self::RoundRobin => Choice::RoundRobin,
            _ => Choice::Ours,
        }
    }
}

/// Microseconds since the beginning.
type Micros = u64;
const SECOND: Micros = 1_000_000;
const MILLI: Micros = 1_000;

enum Event {
    /// A call comes to a tier.
    Comes { tier: usize },
    /// An attempt has ended.
    Ends { call: usize },
    /// A call is tried again.
    Again { call: usize },
    /// A tier learns of a list.
    Listed { tier: usize, list: Arc<[Instance]> },
    /// A tier has tried to connect to instances.
    Dialled {
        tier: usize,
        hosts: Vec<usize>,
        failures: u32,
    },
    /// A tier has lost connections.
    Lost { tier: usize, hosts: Vec<usize> },
    /// A second has passed.
    Tick { second: u64 },
}

/// Sends a fleet through `weather`.
pub fn simulate(fleet: &Fleet, contender: Contender, weather: &[(u64, u64, Weather)]) -> Report {
    Simulation::new(fleet, contender, weather).run()
}

struct Simulation<'w> {
    rng: SmallRng,
    began: Instant,
    now: Micros,
    ends: u64,
    gap: f64,
    order: u64,
    queue: BinaryHeap<Reverse<(Micros, u64, usize)>>,
    events: Vec<Option<Event>>,
    free: Vec<usize>,
    world: World,
    weather: &'w [(u64, u64, Weather)],
    tiers: Vec<Tier>,
    calls: Vec<Option<Call>>,
    free_calls: Vec<usize>,
    recorder: Recorder,
}

impl<'w> Simulation<'w> {
    fn new(fleet: &Fleet, contender: Contender, weather: &'w [(u64, u64, Weather)]) -> Self {
        let began = Instant::now();
        let config = Arc::new(contender.config());
        let tier = |_| Tier::new(Arc::clone(&config), contender.choice(), began);
        let ends = weather
            .iter()
            .map(|(begins, lasts, _)| begins + lasts)
            .max();
        Self {
            rng: SmallRng::seed_from_u64(fleet.seed),
            began,
            now: 0,
            ends: ends.unwrap_or(0) + 60,
            gap: fleet.tiers as f64 / f64::from(fleet.calls_per_second) * SECOND as f64,
            order: 0,
            queue: BinaryHeap::new(),
            events: Vec::new(),
            free: Vec::new(),
            world: World::new(fleet.instances),
            weather,
            tiers: (0..fleet.tiers).map(tier).collect(),
            calls: Vec::new(),
            free_calls: Vec::new(),
            recorder: Recorder::new(fleet.instances, weather),
        }
    }

    fn run(mut self) -> Report {
        for tier in 0..self.tiers.len() {
            let list = self.world.list();
            self.at(0, Event::Listed { tier, list });
            let first = self.exponential();
            self.at(first, Event::Comes { tier });
        }
        self.at(0, Event::Tick { second: 0 });
        while let Some(Reverse((at, _, place))) = self.queue.pop() {
            self.now = at;
            let Some(event) = self.events.get_mut(place).and_then(Option::take) else {
                continue;
            };
            self.free.push(place);
            match event {
                Event::Tick { second } if second >= self.ends => break,
                event => self.handle(event),
            }
        }
        self.recorder.report()
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Comes { tier } => {
                let next = self.now + self.exponential();
                self.at(next, Event::Comes { tier });
                self.recorder.comes(self.now);
                let call = Call::new(tier, self.now);
                let place = match self.free_calls.pop() {
                    Some(place) => place,
                    None => {
                        self.calls.push(None);
                        self.calls.len() - 1
                    }
                };
                self.attempt(place, call);
            }
            Event::Again { call } => {
                if let Some(taken) = self.calls.get_mut(call).and_then(Option::take) {
                    self.attempt(call, taken);
                }
            }
            Event::Ends { call } => self.ends(call),
            Event::Listed { tier, list } => {
                let now = self.instant();
                let joined = self.tiers[tier].balance.apply(list, now);
                let mut hosts: Vec<_> = joined.iter().map(host).collect();
                // Each tier in an order of its own, so many at a time.
                for n in (1..hosts.len()).rev() {
                    hosts.swap(n, self.rng.random_range(0..=n));
                }
                for (n, some) in hosts.chunks(32).enumerate() {
                    let at = self.now + MILLI + n as u64 * MILLI;
                    let hosts = some.to_vec();
                    let failures = 0;
                    self.at(
                        at,
                        Event::Dialled {
                            tier,
                            hosts,
                            failures,
                        },
                    );
                }
            }
            Event::Dialled {
                tier,
                hosts,
                failures,
            } => {
                let (up, down): (Vec<_>, Vec<_>) =
                    hosts.into_iter().partition(|host| self.world.is_up(*host));
                if !up.is_empty() {
                    let up: Vec<_> = up.into_iter().map(address).collect();
                    self.tiers[tier].balance.up(&up);
                }
                let hosts: Vec<_> = down
                    .into_iter()
                    .filter(|host| self.world.is_listed(*host))
                    .collect();
                if !hosts.is_empty() {
                    let pause = Simulated::pause(failures, &mut self.rng);
                    let at = self.now + pause.as_micros() as u64 + MILLI;
                    let failures = failures + 1;
                    self.at(
                        at,
                        Event::Dialled {
                            tier,
                            hosts,
                            failures,
                        },
                    );
                }
            }
            Event::Lost { tier, hosts } => {
                let now = self.instant();
                let down: Vec<_> = hosts.iter().copied().map(address).collect();
                self.tiers[tier].balance.down(&down, now);
                let at = self.now + MILLI;
                let failures = 0;
                self.at(
                    at,
                    Event::Dialled {
                        tier,
                        hosts,
                        failures,
                    },
                );
            }
            Event::Tick { second } => self.tick(second),
        }
    }

    /// Once a second: the weather, and what is seen of the fleet.
    fn tick(&mut self, second: u64) {
        for (begins, lasts, weather) in self.weather {
            if (*begins..=begins + lasts).contains(&second) {
                weather.step(&mut self.world, second - begins, *lasts, self.now);
            }
        }
        let changes = self.world.changes();
        for tier in 0..self.tiers.len() {
            let jitter = self.rng.random_range(0..MILLI);
            if !changes.lost.is_empty() {
                let hosts = changes.lost.clone();
                self.at(self.now + jitter, Event::Lost { tier, hosts });
            }
            if let Some(list) = &changes.list {
                let list = Arc::clone(list);
                let later = self.rng.random_range(0..SECOND);
                self.at(self.now + later, Event::Listed { tier, list });
            }
        }
        let ejected = self.tiers.iter().flat_map(|tier| tier.balance.ejected());
        let wrongly = ejected.filter(|one| self.world.was_well(host(one), self.now));
        let wrongly = wrongly.count();
        let ejections = self.tiers.iter().map(|tier| tier.balance.ejections()).sum();
        self.recorder.second(second, wrongly, ejections);
        let next = Event::Tick { second: second + 1 };
        self.at(self.now + SECOND, next);
    }

    fn attempt(&mut self, place: usize, mut call: Call) {
        let now = self.instant();
        let tier = &mut self.tiers[call.tier];
        let sent = tier.send(&mut call, now, &mut self.rng);
        match sent {
            None => self.settle(place, call),
            Some(host) => {
                self.recorder.sent(self.now, host);
                let end = self.world.serve(host, self.now, &mut self.rng);
                let ends_at = call.meets(end, self.world.incarnation(host), self.now);
                self.keep(place, call);
                self.at(ends_at, Event::Ends { call: place });
            }
        }
    }

    fn ends(&mut self, place: usize) {
        let Some(mut call) = self.calls.get_mut(place).and_then(Option::take) else {
            return;
        };
        let now = self.instant();
        let gone = call.host().is_some_and(|host| {
            !self.world.is_up(host) || self.world.incarnation(host) != call.incarnation
        });
        self.tiers[call.tier].ended(&mut call, gone, now, &mut self.rng);
        self.settle(place, call);
    }

    /// What follows the end of an attempt.
    fn settle(&mut self, place: usize, mut call: Call) {
        let now = self.instant();
        match self.tiers[call.tier].next(&mut call, now, &mut self.rng) {
            Next::Again(pause) => {
                let at = self.now + pause.as_micros() as u64;
                self.keep(place, call);
                self.at(at, Event::Again { call: place });
            }
            Next::Done { failed } => {
                self.recorder.done(call.came, self.now, failed);
                self.free_calls.push(place);
            }
        }
    }

    fn keep(&mut self, place: usize, call: Call) {
        if let Some(slot) = self.calls.get_mut(place) {
            *slot = Some(call);
        }
    }

    fn at(&mut self, at: Micros, event: Event) {
        let place = match self.free.pop() {
            Some(place) => {
                self.events[place] = Some(event);
                place
            }
            None => {
                self.events.push(Some(event));
                self.events.len() - 1
            }
        };
        self.order += 1;
        self.queue.push(Reverse((at, self.order, place)));
    }

    fn instant(&self) -> Instant {
        self.began + Duration::from_micros(self.now)
    }

    /// The time to the next call of a tier: they come independently.
    fn exponential(&mut self) -> Micros {
        let uniform: f64 = self.rng.random_range(f64::MIN_POSITIVE..1.0);
        (-uniform.ln() * self.gap) as Micros
    }
}

/// The address of the host with this number.
fn address(host: usize) -> Authority {
    let text = format!("host:{host}");
    Authority::try_from(text).unwrap_or(Authority::from_static("host:0"))
}

/// The number of the host at an address.
fn host(address: &Authority) -> usize {
    usize::from(address.port_u16().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_fleet_fails_a_fifth_of_the_calls_that_it_would_without_ejection_at_most() {
        let fleet = Fleet {
            instances: 60,
            tiers: 3,
            calls_per_second: 600,
            seed: 1,
        };
        let weather = [
            (15, 15, Weather::WrongTenth),
            (40, 10, Weather::DeadEntries),
        ];
        let failed = |contender| {
            let report = simulate(&fleet, contender, &weather);
            report
                .seconds
                .iter()
                .map(|second| second.failed)
                .sum::<u64>()
        };
        let (ours, theirs) = (failed(Contender::P2c), failed(Contender::RoundRobin));
        println!("F51  a small fleet: {ours} calls fail, {theirs} by round robin");
        assert!(ours * 5 <= theirs, "{ours} of {theirs}");
    }

    #[test]
    fn one_seed_gives_one_run() {
        let fleet = Fleet {
            instances: 20,
            tiers: 2,
            calls_per_second: 200,
            seed: 7,
        };
        let weather = [(2, 3, Weather::BadZone)];
        let run = || {
            let report = simulate(&fleet, Contender::P2c, &weather);
            let seen = report
                .seconds
                .iter()
                .map(|second| (second.calls, second.failed));
            seen.collect::<Vec<_>>()
        };
        assert_eq!(run(), run());
    }
}
