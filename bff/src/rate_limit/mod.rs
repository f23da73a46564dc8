//! How often a field may be asked for. Rules, keys and verdicts; no transport.
//!
//! The limiter sees a fingerprint of the client, never a request. Two readings of "10 per minute"
//! are offered: evenly refilled (GCRA, the default) and in windows; see [`Algorithm`].

mod bucket;
mod config;
mod keys;

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    num::NonZeroU32,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use self::bucket::Buckets;
pub use self::config::{Algorithm, ClientConfig, Config, Coordinate, Identity, Rule, Rules, Scope};

/// Who is asking, as a fingerprint: short, and of no use to whoever finds it in a dump.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClientKey(u64);

impl ClientKey {
    /// The fingerprint of whatever a client is known by, for the life of this process.
    pub fn of(identity: &str) -> Self {
        // Seeded per process, so that nobody can choose to collide with somebody else.
        static SEED: OnceLock<RandomState> = OnceLock::new();
        Self(SEED.get_or_init(RandomState::new).hash_one(identity))
    }
}

/// A call that a rule does not let through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Throttled {
    /// What to tell the client.
    pub message: String,
    /// When the same call would be let through.
    pub retry_after: Duration,
    /// Calls per `period`.
    pub limit: u32,
    /// The rule's period.
    pub period: Duration,
}

/// Every rule in force, by field.
#[derive(Debug, Default)]
pub struct Limiter {
    fields: HashMap<String, HashMap<String, Arc<[ActiveRule]>>>,
}

/// A rule with what it remembers.
#[derive(Debug)]
pub struct ActiveRule {
    coordinate: Coordinate,
    rule: Rule,
    message: String,
    cost: NonZeroU32,
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
    pub fn new(config: &Config) -> Self {
        Self::default().reconfigured(config)
    }

    /// The rules of `config`. A rule that was in force before goes on with its buckets; one whose
    /// quota changed starts with fresh ones, so that nobody is held to a limit that is gone.
    pub fn reconfigured(&self, config: &Config) -> Self {
        let mut fields: HashMap<String, HashMap<String, Arc<[ActiveRule]>>> = HashMap::new();
        for (coordinate, rules) in &config.fields.0 {
            let (parent, field) = coordinate.parts();
            let mut old: Vec<_> = self
                .rules(parent, field)
                .unwrap_or_default()
                .iter()
                .collect();
            let active = rules.0.iter().map(|rule| {
                // Each goes on in one place only: two rules on one bucket would count twice.
                let place = old.iter().position(|before| {
                    same_quota(&before.rule, rule) && before.state.max_keys == config.max_keys
                });
                let before = place.map(|place| old.remove(place));
                ActiveRule::new(coordinate, rule, config, before)
            });
            let active: Arc<[ActiveRule]> = active.collect();
            fields
                .entry(parent.to_owned())
                .or_default()
                .insert(field.to_owned(), active);
        }
        Self { fields }
    }

    /// The rules of a field, if it has any: all that a field without a rule costs.
    pub fn rules(&self, parent: &str, field: &str) -> Option<&[ActiveRule]> {
        self.fields.get(parent)?.get(field).map(|rules| &**rules)
    }

    /// Whether any field of `parent` has a rule.
    pub fn limits_type(&self, parent: &str) -> bool {
        self.fields.contains_key(parent)
    }

    /// Asks `rules` for one call of `client`. A call counts against each rule up to the first
    /// that does not let it through.
    ///
    /// # Errors
    /// [`Throttled`] by the first rule that has nothing left.
    pub fn take(&self, rules: &[ActiveRule], client: ClientKey) -> Result<(), Throttled> {
        let now = Instant::now();
        rules.iter().try_for_each(|rule| rule.take(client, now))
    }

    /// Every rule, for metrics.
    pub fn all(&self) -> impl Iterator<Item = &ActiveRule> {
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
    fn new(coordinate: &Coordinate, rule: &Rule, config: &Config, before: Option<&Self>) -> Self {
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
            rule: rule.clone(),
            state,
        }
    }

    fn take(&self, client: ClientKey, now: Instant) -> Result<(), Throttled> {
        let key = match self.rule.per {
            Scope::Client => client.0,
            Scope::Global => 0,
        };
        let Err(retry_after) = self.state.buckets.take(key, self.cost, now) else {
            self.state.allowed.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        };
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
    pub fn coordinate(&self) -> &Coordinate {
        &self.coordinate
    }

    /// The rule itself.
    pub fn rule(&self) -> &Rule {
        &self.rule
    }

    /// Calls let through so far.
    pub fn allowed(&self) -> u64 {
        self.state.allowed.load(Ordering::Relaxed)
    }

    /// Calls throttled so far; in a dry run, those that would have been.
    pub fn throttled(&self) -> u64 {
        self.state.throttled.load(Ordering::Relaxed)
    }

    /// How many clients it remembers.
    pub fn keys(&self) -> usize {
        self.state.buckets.len()
    }
}

#[cfg(test)]
mod tests;
