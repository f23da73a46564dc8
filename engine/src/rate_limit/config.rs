//! `[rate_limit]`.

use std::{collections::BTreeMap, fmt, time::Duration};

use garde::Validate;
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer},
};

use crate::types::{ms, secs, within};

/// What is limited, and whom a client is taken for.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, Validate)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// What a throttled field's error says, unless its rule says something else.
    #[garde(length(min = 1, max = 1000))]
    pub(crate) message: String,
    /// Where buckets are kept.
    #[garde(skip)]
    pub(crate) store: Store,
    /// For `store = "redis"`.
    #[garde(dive)]
    pub(crate) redis: super::redis::Config,
    /// How many clients each rule remembers at most.
    #[garde(range(min = 64, max = 10_000_000))]
    pub(crate) max_keys: usize,
    /// What a client is.
    #[garde(dive)]
    pub(crate) client: ClientConfig,
    /// Rules by field, such as `Query.hello`; one table, or a list of tables.
    #[garde(dive)]
    pub(crate) fields: Fields,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            message: "请求过于频繁，请稍后重试！".to_owned(),
            store: Store::Memory,
            redis: super::redis::Config::default(),
            max_keys: 100_000,
            client: ClientConfig::default(),
            fields: Fields::default(),
        }
    }
}

/// Where buckets are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Store {
    /// In this process: each replica has the whole limit.
    Memory,
    /// In Redis: replicas have it together.
    Redis,
}

/// What a client is.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, Validate)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ClientConfig {
    /// What a client is known by.
    #[garde(skip)]
    pub(crate) by: Identity,
    /// For `forwarded-for`: how many proxies in front of us append to the header. What is left of
    /// their entries was written by the client and is not believed.
    #[garde(range(min = 1, max = 20))]
    pub(crate) trusted_proxies: usize,
    /// For `header`: the header's name.
    #[garde(custom(header_name))]
    pub(crate) header: String,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            by: Identity::Peer,
            trusted_proxies: 1,
            header: "x-client-id".to_owned(),
        }
    }
}

/// What a client is known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Identity {
    /// The address its connection comes from.
    Peer,
    /// The address that the outermost trusted proxy saw, from `X-Forwarded-For`.
    ForwardedFor,
    /// The value of a header that something in front of us sets.
    Header,
}

/// A field of the schema, as `Type.field`. The configuration is checked against the schema after
/// it is read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(transparent)]
pub(crate) struct Coordinate(String);

impl Coordinate {
    /// `Type.field`.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Type and field.
    pub(super) fn parts(&self) -> (&str, &str) {
        self.0.split_once('.').unwrap_or((&self.0, ""))
    }
}

impl fmt::Display for Coordinate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Rules by field.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(transparent)]
pub(crate) struct Fields(pub(crate) BTreeMap<Coordinate, Rules>);

impl Validate for Fields {
    type Context = ();

    fn validate_into(
        &self,
        ctx: &(),
        mut parent: &mut dyn FnMut() -> garde::Path,
        report: &mut garde::Report,
    ) {
        for (coordinate, rules) in &self.0 {
            let key = coordinate.as_str();
            let mut path = garde::util::nested_path!(parent, key);
            rules.validate_into(ctx, &mut path, report);
        }
    }
}

/// The rules of one field: all of them have to let a call through.
#[derive(Clone, Debug, PartialEq, Serialize, Validate)]
#[serde(transparent)]
#[garde(transparent)]
pub(crate) struct Rules(#[garde(dive)] pub Vec<Rule>);

impl<'de> Deserialize<'de> for Rules {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMany;

        impl<'de> Visitor<'de> for OneOrMany {
            type Value = Rules;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a rule, or a list of rules")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Rules, A::Error> {
                Rule::deserialize(MapAccessDeserializer::new(map)).map(|rule| Rules(vec![rule]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Rules, A::Error> {
                let mut rules = Vec::new();
                while let Some(rule) = seq.next_element()? {
                    rules.push(rule);
                }
                Ok(Rules(rules))
            }
        }

        deserializer.deserialize_any(OneOrMany)
    }
}

/// One limit.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, Validate)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rule {
    /// Calls per period; also how many may come at once.
    #[garde(range(min = 1, max = 1_000_000_000))]
    pub(crate) calls: u32,
    /// The period.
    #[serde(with = "humantime_serde")]
    #[garde(custom(within(ms(1)..=secs(31 * 86_400))))]
    pub(crate) period: Duration,
    /// Whether each client has the limit of its own, or all have it together.
    #[serde(default)]
    #[garde(skip)]
    pub(crate) per: Scope,
    /// How many calls one call counts for.
    #[serde(default = "one")]
    #[garde(range(min = 1), custom(not_above(self.calls)))]
    pub(crate) cost: u32,
    /// How time is counted.
    #[serde(default)]
    #[garde(skip)]
    pub(crate) algorithm: Algorithm,
    /// Only count and log what would be throttled.
    #[serde(default)]
    #[garde(skip)]
    pub(crate) dry_run: bool,
    /// What the error says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[garde(inner(length(min = 1, max = 1000)))]
    pub(crate) message: Option<String>,
}

/// Who shares a limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Scope {
    /// Each client has its own.
    #[default]
    Client,
    /// All share one.
    Global,
}

impl Scope {
    /// As it is configured, for logs and metrics.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Global => "global",
        }
    }
}

/// How time is counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Algorithm {
    /// GCRA: `calls` at once, refilled evenly over the period.
    #[default]
    Gcra,
    /// `calls` in a window that the first call opens, then none until the period is over.
    FixedWindow,
}

impl Algorithm {
    /// As it is configured.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Gcra => "gcra",
            Self::FixedWindow => "fixed-window",
        }
    }
}

fn one() -> u32 {
    1
}

fn not_above(calls: u32) -> impl FnOnce(&u32, &()) -> garde::Result {
    move |cost, ()| match *cost <= calls {
        true => Ok(()),
        false => Err(garde::Error::new(format!(
            "{cost} is above `calls`: no call would ever pass"
        ))),
    }
}

fn header_name(name: &str, _: &()) -> garde::Result {
    match name.parse::<http::HeaderName>() {
        Ok(_) => Ok(()),
        Err(_) => Err(garde::Error::new(format!("`{name}` is no header name"))),
    }
}
