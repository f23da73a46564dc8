//! One web tier: the production breaker, budget, balancer and retry policy around its calls.

use std::{sync::Arc, time::Duration};

use http::uri::Authority;
use rand::Rng;
use tokio::time::Instant;

use super::{MILLI, Micros, host, world::End};
use crate::{
    balance::simulated::{Choice, Sent, Simulated},
    call::{
        AttemptElapsed, CallError, CircuitOpen, Code, Config, Effect, Failed, Lost, Outcome, Retry,
        TOO_LITTLE, Timing, Unreachable,
    },
    resilience::{Budget, Machine, Token, pause},
};

/// A call on its way.
pub(super) struct Call {
    pub(super) tier: usize,
    pub(super) came: Micros,
    pub(super) incarnation: u32,
    number: u32,
    began: Option<Instant>,
    tried: Vec<Authority>,
    sent: Option<(Sent, Token)>,
    code: Code,
    elapsed: bool,
    failed: Option<Failed>,
}

impl Call {
    pub(super) fn new(tier: usize, came: Micros) -> Self {
        Self {
            tier,
            came,
            incarnation: 0,
            number: 1,
            began: None,
            tried: Vec::new(),
            sent: None,
            code: Code::Ok,
            elapsed: false,
            failed: None,
        }
    }

    /// Where its attempt is.
    pub(super) fn host(&self) -> Option<usize> {
        self.sent.as_ref().map(|(sent, _)| host(sent.address()))
    }

    /// Its attempt will end like this, unless its time is over before.
    pub(super) fn meets(&mut self, end: End, incarnation: u32, now: Micros) -> Micros {
        self.incarnation = incarnation;
        let whole = self.came + Tier::TIMEOUT;
        // The last attempt has all that is left.
        let deadline = match self.number >= Tier::ATTEMPTS {
            true => whole,
            false => whole.min(now + Tier::ATTEMPT_TIMEOUT),
        };
        self.code = end.code;
        self.elapsed = end.at > deadline;
        end.at.min(deadline)
    }
}

/// What follows an attempt.
pub(super) enum Next {
    Again(Duration),
    Done { failed: bool },
}

pub(super) struct Tier {
    pub(super) balance: Simulated,
    config: Arc<Config>,
    breaker: Machine,
    budget: Budget,
}

impl Tier {
    const TIMEOUT: Micros = 2_000 * MILLI;
    const ATTEMPT_TIMEOUT: Micros = 500 * MILLI;
    const ATTEMPTS: u32 = 3;

    pub(super) fn new(config: Arc<Config>, choice: Choice, now: Instant) -> Self {
        Self {
            balance: Simulated::new(&config, choice),
            breaker: Machine::new(config.breaker.clone(), config.longest_timeout(), now),
            budget: Budget::new(now),
            config,
        }
    }

    /// Sends an attempt; the host it goes to, or `None` if it has failed already.
    pub(super) fn send(
        &mut self,
        call: &mut Call,
        now: Instant,
        rng: &mut impl Rng,
    ) -> Option<usize> {
        call.began = Some(now);
        let token = match self.breaker.admit(now, rng) {
            Ok(token) => token,
            Err(CircuitOpen) => {
                call.failed = Some(Failed::unsent(CircuitOpen, now));
                return None;
            }
        };
        let Some(sent) = self.balance.send(&call.tried, now, rng) else {
            let nobody = Unreachable {
                instances: 0,
                why: String::new(),
                ran_out: false,
            };
            let failed = Failed::unsent(nobody, now);
            self.breaker
                .record(token, failed.outcome().effect, now, rng);
            call.failed = Some(failed);
            return None;
        };
        let to = host(sent.address());
        call.tried.push(sent.address().clone());
        call.sent = Some((sent, token));
        Some(to)
    }

    /// The attempt of `call` has ended, or its host has `gone`.
    pub(super) fn ended(&mut self, call: &mut Call, gone: bool, now: Instant, rng: &mut impl Rng) {
        let Some((sent, token)) = call.sent.take() else {
            return;
        };
        let began = call.began.unwrap_or(now);
        let timing = Timing {
            began,
            deadline: began + Duration::from_secs(2),
            hurried: false,
        };
        let error: Option<CallError> = match call.code {
            _ if gone => Some(CallError::Transport {
                lost: Lost::Connection,
                detail: String::new(),
            }),
            _ if call.elapsed => Some(AttemptElapsed { after: now - began }.into()),
            Code::Ok => None,
            code => Some(CallError::Peer {
                code,
                message: String::new(),
                pushback: None,
            }),
        };
        call.failed = error.map(|error| Failed::new(error, &timing, now));
        let outcome = call.failed.as_ref().map_or(Outcome::OK, Failed::outcome);
        self.balance.ended(sent, outcome, now, rng);
        self.breaker.record(token, outcome.effect, now, rng);
    }

    pub(super) fn next(&mut self, call: &mut Call, now: Instant, rng: &mut impl Rng) -> Next {
        let failed = call.failed.take();
        let rejected = failed.as_ref().is_some_and(Failed::is_circuit_open);
        if call.number == 1 && !rejected {
            self.budget.deposit(now);
        }
        let Some(failed) = failed else {
            return Next::Done { failed: false };
        };
        let done = Next::Done {
            failed: failed.outcome().effect != Effect::Success,
        };
        if call.number >= Self::ATTEMPTS {
            return done;
        }
        let config = &self.config.retry;
        let Some(pause) = pause(&failed, config, call.number, true, rng) else {
            return done;
        };
        let whole = call.began.unwrap_or(now) + Duration::from_micros(Self::TIMEOUT);
        if whole.saturating_duration_since(now + pause) < TOO_LITTLE {
            return done;
        }
        let free = call.number == 1 && failed.outcome().retry == Retry::Unprocessed;
        let overdraft = if free { 1.0 } else { 0.0 };
        if !self.budget.withdraw(config, overdraft, now) {
            return done;
        }
        call.number += 1;
        Next::Again(pause)
    }
}
