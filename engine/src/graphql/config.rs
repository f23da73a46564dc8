//! `[graphql]`.

use garde::Validate;
use serde::{Deserialize, Serialize};

/// What a query may ask.
#[derive(Clone, Debug, Deserialize, Serialize, Validate)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// Whether `__schema` and `__type` are answered.
    #[garde(skip)]
    pub(crate) introspection: bool,
    /// Whether `/` serves the playground.
    #[garde(skip)]
    pub(crate) playground: bool,
    /// How deeply fields may nest; a document cannot have more than 64 brackets inside one another.
    #[garde(range(min = 1, max = 64))]
    pub(crate) max_depth: usize,
    /// How many fields a query may ask for in all.
    #[garde(range(min = 1, max = 1_000_000))]
    pub(crate) max_complexity: usize,
}

/// What a query may ask: the part of `[graphql]` that can change while the schema is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Whether `__schema` and `__type` are answered.
    pub(crate) introspection: bool,
    /// How deeply fields may nest.
    pub(crate) max_depth: usize,
    /// How many fields a query may ask for in all.
    pub(crate) max_complexity: usize,
}

impl Config {
    /// What a query may ask.
    pub(crate) fn limits(&self) -> Limits {
        Limits {
            introspection: self.introspection,
            max_depth: self.max_depth,
            max_complexity: self.max_complexity,
        }
    }

    /// Makes `limits` those of this configuration.
    pub(crate) fn set_limits(&mut self, limits: Limits) {
        let Limits {
            introspection,
            max_depth,
            max_complexity,
        } = limits;
        self.introspection = introspection;
        self.max_depth = max_depth;
        self.max_complexity = max_complexity;
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            introspection: true,
            playground: true,
            max_depth: 15,
            max_complexity: 1000,
        }
    }
}
