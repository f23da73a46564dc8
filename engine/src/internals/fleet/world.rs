//! The instances: whether they run, how fast, and what they answer.

use std::sync::Arc;

use rand::Rng;

use super::{MILLI, Micros, SECOND, address};
use crate::{call::Code, discovery::Instance};

/// How many calls an instance works on at one time; the others wait.
const WORKERS: usize = 8;
/// What a call takes a warm instance.
const USUAL: f64 = 10.0 * MILLI as f64;
/// An instance that has been well for this long should not be ejected.
const WELL: Micros = 10 * SECOND;

/// What an instance answers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Answers {
    Well,
    /// This share fails at once.
    Fails(f64),
    /// Another service listens there.
    Wrong,
}

/// An instance, or an entry in the list that is none.
#[derive(Clone, Debug)]
pub(super) struct Host {
    pub(super) up: bool,
    pub(super) listed: bool,
    pub(super) incarnation: u32,
    pub(super) answers: Answers,
    /// How many times longer than usual a call takes.
    pub(super) slow: f64,
    /// The same while it is cold, until then.
    pub(super) cold: (f64, Micros),
    /// When something was last wrong with it.
    pub(super) ill: Micros,
    busy_until: [Micros; WORKERS],
}

impl Host {
    fn new() -> Self {
        Self {
            up: true,
            listed: true,
            incarnation: 0,
            answers: Answers::Well,
            slow: 1.0,
            cold: (1.0, 0),
            ill: 0,
            busy_until: [0; WORKERS],
        }
    }
}

/// How an attempt ends at its host.
#[derive(Clone, Copy, Debug)]
pub(super) struct End {
    pub(super) at: Micros,
    pub(super) code: Code,
}

/// What has changed since the last second.
pub(super) struct Changes {
    /// Hosts that have gone, with the connections to them.
    pub(super) lost: Vec<usize>,
    /// The new list, if there is one.
    pub(super) list: Option<Arc<[Instance]>>,
}

pub(super) struct World {
    pub(super) hosts: Vec<Host>,
    /// How many of them are instances; the others are dead entries.
    pub(super) instances: usize,
    /// Whether anybody learns of changes.
    pub(super) consul: bool,
    listed: Vec<bool>,
    lost: Vec<usize>,
}

impl World {
    pub(super) fn new(instances: usize) -> Self {
        Self {
            hosts: vec![Host::new(); instances],
            instances,
            consul: true,
            listed: vec![true; instances],
            lost: Vec::new(),
        }
    }

    pub(super) fn list(&self) -> Arc<[Instance]> {
        let listed = self
            .hosts
            .iter()
            .enumerate()
            .filter(|(_, host)| host.listed);
        listed
            .map(|(number, _)| Instance {
                address: address(number),
                weight: 1,
            })
            .collect()
    }

    pub(super) fn is_up(&self, host: usize) -> bool {
        self.hosts.get(host).is_some_and(|host| host.up)
    }

    pub(super) fn is_listed(&self, host: usize) -> bool {
        self.hosts.get(host).is_some_and(|host| host.listed)
    }

    pub(super) fn incarnation(&self, host: usize) -> u32 {
        self.hosts.get(host).map_or(0, |host| host.incarnation)
    }

    /// Whether nothing has been wrong with it for a while.
    pub(super) fn was_well(&self, host: usize, now: Micros) -> bool {
        self.hosts.get(host).is_some_and(|host| {
            let ill = host.slow > 1.0 || host.answers != Answers::Well || host.cold.1 > now;
            host.up && !ill && now.saturating_sub(host.ill) > WELL
        })
    }

    /// Changes hosts; what was wrong with them is remembered.
    pub(super) fn change(
        &mut self,
        which: impl Fn(usize) -> bool,
        now: Micros,
        act: impl Fn(&mut Host),
    ) {
        let hosts = self.hosts.iter_mut().enumerate().take(self.instances);
        for (number, host) in hosts.filter(|(number, _)| which(*number)) {
            let up = host.up;
            act(host);
            host.ill = now;
            if up && !host.up {
                self.lost.push(number);
            }
            if !up && host.up {
                host.incarnation += 1;
                host.busy_until = [now; WORKERS];
            }
        }
    }

    /// Adds entries that nobody is behind, or takes them away.
    pub(super) fn dead_entries(&mut self, count: usize) {
        self.hosts.truncate(self.instances);
        let dead = Host {
            up: false,
            ..Host::new()
        };
        self.hosts.resize(self.instances + count, dead);
    }

    pub(super) fn changes(&mut self) -> Changes {
        let listed: Vec<bool> = self.hosts.iter().map(|host| host.listed).collect();
        let list = (self.consul && listed != self.listed).then(|| self.list());
        if list.is_some() {
            self.listed = listed;
        }
        Changes {
            lost: std::mem::take(&mut self.lost),
            list,
        }
    }

    /// A call comes to `host`.
    pub(super) fn serve(&mut self, host: usize, now: Micros, rng: &mut impl Rng) -> End {
        let Some(host) = self.hosts.get_mut(host).filter(|host| host.up) else {
            // Whoever is connected to it does not know yet.
            return End {
                at: now + MILLI,
                code: Code::Unavailable,
            };
        };
        let (at, code) = match host.answers {
            Answers::Wrong => (now + MILLI, Code::Unimplemented),
            Answers::Fails(share) if rng.random_bool(share) => (now + 2 * MILLI, Code::Unavailable),
            Answers::Well | Answers::Fails(_) => {
                let cold = if host.cold.1 > now { host.cold.0 } else { 1.0 };
                // Between half and twice as long as usual.
                let spread = 2.0_f64.powf(rng.random_range(-1.0..1.0));
                let takes = (USUAL * spread * host.slow * cold) as Micros;
                let mut first = 0;
                for worker in 1..WORKERS {
                    if host.busy_until[worker] < host.busy_until[first] {
                        first = worker;
                    }
                }
                let at = host.busy_until[first].max(now) + takes;
                host.busy_until[first] = at;
                (at, Code::Ok)
            }
        };
        End { at, code }
    }
}
