//! What befalls a fleet.

use super::{
    Micros, SECOND,
    world::{Answers, World},
};

/// A third, in no order that anybody's turn could follow.
fn in_zone(number: usize) -> bool {
    (number * 7919 % 97).is_multiple_of(3)
}

/// What befalls a fleet for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weather {
    /// Every instance is replaced, some each second; the new ones are cold.
    RollingDeploy,
    /// A third fails three calls of ten.
    BadZone,
    /// A tenth takes twenty times as long.
    SlowTenth,
    /// Three of ten calls fail, wherever they go: each of them is worth a retry.
    RetryStorm,
    /// Consul says nothing while a fifth of the instances is gone.
    ConsulOutage,
    /// A third restarts at once and is cold.
    ColdStarts,
    /// Forty instances come and go every ten seconds.
    FlappingRack,
    /// Behind a tenth of the addresses another service listens.
    WrongTenth,
    /// Of five entries in the list four are dead.
    DeadEntries,
}

impl Weather {
    /// Twenty minutes: seventy-five seconds of each, with calm between. When each begins, how long it
    /// lasts, and which it is.
    pub fn all() -> Vec<(u64, u64, Self)> {
        let kinds = [
            Self::RollingDeploy,
            Self::BadZone,
            Self::SlowTenth,
            Self::RetryStorm,
            Self::ConsulOutage,
            Self::ColdStarts,
            Self::FlappingRack,
            Self::WrongTenth,
            Self::DeadEntries,
        ];
        let begins = (0..).map(|n| 60 + n * 120);
        begins
            .zip(kinds)
            .map(|(begins, kind)| (begins, 75, kind))
            .collect()
    }

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RollingDeploy => "rolling deploy",
            Self::BadZone => "bad zone",
            Self::SlowTenth => "slow tenth",
            Self::RetryStorm => "retry storm",
            Self::ConsulOutage => "Consul outage",
            Self::ColdStarts => "cold starts",
            Self::FlappingRack => "flapping rack",
            Self::WrongTenth => "wrong tenth",
            Self::DeadEntries => "dead entries",
        }
    }

    /// The next of the seconds that it lasts; the one behind the last ends it.
    pub(super) fn step(self, world: &mut World, second: u64, lasts: u64, now: Micros) {
        let (begins, ends) = (second == 0, second == lasts);
        match self {
            Self::RollingDeploy => {
                let each = world
                    .instances
                    .div_ceil(lasts.saturating_sub(6).max(1) as usize);
                let of = |second: Option<u64>| {
                    let from = second.map_or(usize::MAX, |second| second as usize * each);
                    move |number: usize| number >= from && number - from < each
                };
                // Out of the list, then gone, then back, cold, and in the list.
                world.change(of(Some(second)), now, |host| host.listed = false);
                world.change(of(second.checked_sub(2)), now, |host| host.up = false);
                world.change(of(second.checked_sub(5)), now, |host| {
                    host.up = true;
                    host.listed = true;
                    host.cold = (5.0, now + 20 * SECOND);
                });
                if ends {
                    world.change(
                        |_| true,
                        now,
                        |host| {
                            host.up = true;
                            host.listed = true;
                        },
                    );
                }
            }
            Self::BadZone if begins || ends => {
                let answers = if begins {
                    Answers::Fails(0.3)
                } else {
                    Answers::Well
                };
                world.change(in_zone, now, |host| host.answers = answers);
            }
            Self::SlowTenth if begins || ends => {
                let slow = if begins { 20.0 } else { 1.0 };
                world.change(
                    |number| number.is_multiple_of(10),
                    now,
                    |host| host.slow = slow,
                );
            }
            Self::RetryStorm if begins || ends => {
                let answers = if begins {
                    Answers::Fails(0.3)
                } else {
                    Answers::Well
                };
                world.change(|_| true, now, |host| host.answers = answers);
            }
            Self::ConsulOutage => {
                world.consul = ends;
                if second == 5 || ends {
                    world.change(
                        |number| number.is_multiple_of(5),
                        now,
                        |host| host.up = ends,
                    );
                }
            }
            Self::ColdStarts => {
                if begins || second == 2 {
                    world.change(
                        |number| number % 3 == 1,
                        now,
                        |host| {
                            host.up = !begins;
                            host.cold = (10.0, now + 30 * SECOND);
                        },
                    );
                }
            }
            Self::FlappingRack => {
                let away = second % 10 < 5 && !ends;
                if second.is_multiple_of(5) {
                    world.change(
                        |number| number < 40,
                        now,
                        |host| {
                            host.up = !away;
                            host.listed = !away;
                        },
                    );
                }
            }
            Self::WrongTenth if begins || ends => {
                let answers = if begins {
                    Answers::Wrong
                } else {
                    Answers::Well
                };
                world.change(
                    |number| number % 10 == 3,
                    now,
                    |host| host.answers = answers,
                );
            }
            Self::DeadEntries if begins || ends => {
                let dead = if begins { world.instances * 4 } else { 0 };
                world.dead_entries(dead);
            }
            Self::BadZone
            | Self::SlowTenth
            | Self::RetryStorm
            | Self::WrongTenth
            | Self::DeadEntries => {}
        }
    }
}
