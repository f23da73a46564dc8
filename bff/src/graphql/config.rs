//! `[graphql]`.

use garde::Validate;
use serde::{Deserialize, Serialize};

/// What a query may ask.
#[derive(Clone, Debug, Deserialize, Serialize, Validate)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Whether `__schema` and `__type` are answered.
    #[garde(skip)]
    pub introspection: bool,
    /// Whether `/` serves the playground.
    #[garde(skip)]
    pub playground: bool,
    /// How deeply fields may nest.
    #[garde(range(min = 1, max = 1000))]
    pub max_depth: usize,
    /// How many fields a query may ask for in all.
    #[garde(range(min = 1, max = 1_000_000))]
    pub max_complexity: usize,
}

impl Config {
    /// This configuration with what can change while the schema is served: what a query may ask.
    /// The playground's route is there or not from the start.
    pub(crate) fn with_live_parts_of(&self, other: &Self) -> Self {
        Self {
            playground: self.playground,
            ..other.clone()
        }
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
