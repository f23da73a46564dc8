//! How often a field may be asked for. Rules, keys and verdicts; no transport.
//!
//! The limiter sees a fingerprint of the client, never a request. Two readings of "10 per minute"
//! are offered: evenly refilled (GCRA, the default) and in windows; see [`Algorithm`](config::Algorithm).

mod bucket;
mod config;
mod keys;
mod metrics;
mod redis;

use std::{
    collections::HashMap,
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use self::{bucket::Buckets, redis::Shared};
pub(crate) use self::{
    config::{ClientConfig, Config, Coordinate, Identity, Rule, Scope, Store},
    metrics::register,
    redis::StoreStatus,
};
use crate::types::ClientKey;

/// A call that a rule does not let through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Throttled {
    /// The message for the client.
    pub(crate) message: String,
    /// When the same call would be let through.
    pub(crate) retry_after: Duration,
    /// Calls per `period`.
    pub(crate) limit: u32,
    /// The rule's period.
    pub(crate) period: Duration,
}

/// Every effective rule, by field.
#[derive(Debug, Default)]
pub(crate) struct Limiter {
    shared: Option<Arc<Shared>>,
    fields: HashMap<String, HashMap<String, Arc<[ActiveRule]>>>,
}

/// A rule with what it remembers.
#[derive(Debug)]
pub(crate) struct ActiveRule {
    coordinate: Coordinate,
    /// Its place among the rules of its field.
    place: usize,
    rule: Rule,
    message: String,
    cost: NonZeroU32,
    /// What its buckets are called where replicas share them.
    shared_key: String,
    state: Arc<RuleState>,
}

/// What survives a reconfiguration that leaves the rule alone.
#[derive(Debug)]
struct RuleState {
    max_keys: usize,
    buckets: Buckets,
    allowed: AtomicU64,
    throttled: AtomicU64,
}

impl Limiter {
    /// The rules of `config`, with fresh buckets.
    ///
    /// Has to be called within a tokio runtime if the buckets are in Redis.
    pub(crate) fn new(config: &Config) -> Self {
        Self::default().reconfigured(config)
    }

    /// The rules of `config`. A rule that was effective before goes on with its buckets; one whose
    /// quota changed starts with fresh ones, so that no client is held to a limit that is gone.
    pub(crate) fn reconfigured(&self, config: &Config) -> Self {
        let mut fields: HashMap<String, HashMap<String, Arc<[ActiveRule]>>> = HashMap::new();
        for (coordinate, rules) in &config.fields.0 {
            let (parent, field) = coordinate.parts();
            let mut old: Vec<_> = self
                .rules(parent, field)
                .unwrap_or_default()
                .iter()
                .collect();
            let active = rules.0.iter().enumerate().map(|(place, rule)| {
                // Only rules that count in the same way need a number.
                let twin = rules.0[..place]
                    .iter()
                    .filter(|r| same_quota(r, rule))
                    .count();
                // Each goes on in one place only: two rules on one bucket would count twice.
                let same = old.iter().position(|before| {
                    same_quota(&before.rule, rule) && before.state.max_keys == config.max_keys
                });
                let before = same.map(|same| old.remove(same));
                ActiveRule::new(coordinate, (place, twin), rule, config, before)
            });
            let active: Arc<[ActiveRule]> = active.collect();
            fields
                .entry(parent.to_owned())
                .or_default()
                .insert(field.to_owned(), active);
        }
        let shared = match config.store {
            Store::Memory => None,
            Store::Redis => {
                let same = self.shared.as_ref().filter(|s| *s.config() == config.redis);
                Some(match same {
                    Some(same) => Arc::clone(same),
                    None => Arc::new(Shared::new(&config.redis)),
                })
            }
        };
        Self { shared, fields }
    }

    /// The rules of a field, if it has any: all that a field without a rule costs.
    pub(crate) fn rules(&self, parent: &str, field: &str) -> Option<&[ActiveRule]> {
        self.fields.get(parent)?.get(field).map(|rules| &**rules)
    }

    /// The fields that have rules, each with its object.
    pub(crate) fn fields(&self) -> impl Iterator<Item = (&str, &str)> {
        let parents = self.fields.iter();
        parents.flat_map(|(parent, fields)| {
            let fields = fields.keys();
            fields.map(move |field| (parent.as_str(), field.as_str()))
        })
    }

    /// Whether any field has a rule.
    pub(crate) fn has_rules(&self) -> bool {
        !self.fields.is_empty()
    }

    /// Asks `rules` for one call of `client`, in the store that is configured. A call counts
    /// against each rule up to the first that does not let it through.
    ///
    /// # Errors
    /// [`Throttled`] by the first rule that has nothing left.
    pub(crate) async fn take(
        &self,
        rules: &[ActiveRule],
        client: ClientKey,
    ) -> Result<(), Throttled> {
        let Some(shared) = &self.shared else {
            return self.take_here(rules, client);
        };
        let Some(waits) = shared.take(rules, client).await else {
            return self.take_here(rules, client);
        };
        // What passed there counts here too: should Redis go away, no client starts from nothing.
        let now = Instant::now();
        rules.iter().zip(waits).try_for_each(|(rule, wait)| {
            if wait.is_zero() {
                let _ = rule.take_here(client, now);
            }
            rule.verdict(wait)
        })
    }

    /// The same in this process, whatever is configured.
    ///
    /// # Errors
    /// [`Throttled`] by the first rule that has nothing left.
    pub(crate) fn take_here(
        &self,
        rules: &[ActiveRule],
        client: ClientKey,
    ) -> Result<(), Throttled> {
        let now = Instant::now();
        rules
            .iter()
            .try_for_each(|rule| rule.verdict(rule.take_here(client, now)))
    }

    /// How Redis is doing; `None` if it is not where the buckets are.
    pub(crate) fn store_status(&self) -> Option<StoreStatus> {
        self.shared.as_ref().map(|shared| shared.status())
    }

    /// Every rule, for metrics.
    pub(crate) fn all(&self) -> impl Iterator<Item = &ActiveRule> {
        self.fields
            .values()
            .flat_map(HashMap::values)
            .flat_map(|rules| rules.iter())
    }
}

/// Whether two rules count in the same way.
fn same_quota(a: &Rule, b: &Rule) -> bool {
    (a.calls, a.period, a.per, a.algorithm) == (b.calls, b.period, b.per, b.algorithm)
}

impl ActiveRule {
    fn new(
        coordinate: &Coordinate,
        (place, twin): (usize, usize),
        rule: &Rule,
        config: &Config,
        before: Option<&Self>,
    ) -> Self {
        let state = match before {
            Some(before) => Arc::clone(&before.state),
            None => Arc::new(RuleState {
                max_keys: config.max_keys,
                buckets: Buckets::new(rule, config.max_keys, Instant::now()),
                allowed: AtomicU64::new(0),
                throttled: AtomicU64::new(0),
            }),
        };
        Self {
            coordinate: coordinate.clone(),
            message: rule
                .message
                .clone()
                .unwrap_or_else(|| config.message.clone()),
            cost: NonZeroU32::new(rule.cost).unwrap_or(NonZeroU32::MIN),
            // Another quota is another bucket.
            shared_key: format!(
                "{coordinate}:{twin}:{}:{}/{}us:{}",
                rule.algorithm.as_str(),
                rule.calls,
                rule.period.as_micros(),
                rule.per.as_str()
            ),
            rule: rule.clone(),
            place,
            state,
        }
    }

    /// Takes the cost of a call from the local bucket; returns how long to wait if it does not
    /// hold so much.
    fn take_here(&self, client: ClientKey, now: Instant) -> Duration {
        let key = match self.rule.per {
            Scope::Client => client.0 as u64,
            Scope::Global => 0,
        };
        let taken = self.state.buckets.take(key, self.cost, now);
        // What has to be waited for is never nothing.
        taken.map_or_else(
            |wait| wait.max(Duration::from_nanos(1)),
            |()| Duration::ZERO,
        )
    }

    /// Counts a call that the rule lets through, if there is nothing to wait for, or throttles.
    fn verdict(&self, retry_after: Duration) -> Result<(), Throttled> {
        if retry_after.is_zero() {
            self.state.allowed.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        }
        self.state.throttled.fetch_add(1, Ordering::Relaxed);
        if self.rule.dry_run {
            tracing::debug!(field = %self.coordinate, "would be throttled, but the rule is a dry run");
            return Ok(());
        }
        Err(Throttled {
            message: self.message.clone(),
            retry_after,
            limit: self.rule.calls,
            period: self.rule.period,
        })
    }

    /// The field it limits.
    pub(crate) fn coordinate(&self) -> &Coordinate {
        &self.coordinate
    }

    /// Its place among the rules of its field, from 0.
    pub(crate) fn place(&self) -> usize {
        self.place
    }

    /// The rule itself.
    pub(crate) fn rule(&self) -> &Rule {
        &self.rule
    }

    /// Calls let through so far.
    pub(crate) fn allowed(&self) -> u64 {
        self.state.allowed.load(Ordering::Relaxed)
    }

    /// Calls throttled so far; in a dry run, those that would have been.
    pub(crate) fn throttled(&self) -> u64 {
        self.state.throttled.load(Ordering::Relaxed)
    }

    /// How many clients it remembers.
    pub(crate) fn keys(&self) -> usize {
        self.state.buckets.len()
    }
}

#[cfg(test)]
mod tests;
