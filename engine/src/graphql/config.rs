//! `[graphql]`.

use std::path::PathBuf;

use bytesize::ByteSize;
use garde::Validate;
use serde::{Deserialize, Serialize};

use crate::types::bytes_within;

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
    /// A folder with the playground's files, as `npm ci` leaves them there; absent: those that the program was
    /// built with, or a CDN's.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[garde(skip)]
    pub(crate) playground_files: Option<PathBuf>,
    /// How deeply fields may nest; a document cannot have more than 64 brackets inside one another.
    #[garde(range(min = 1, max = 64))]
    pub(crate) max_depth: usize,
    /// How many fields a query may ask for in all.
    #[garde(range(min = 1, max = 1_000_000))]
    pub(crate) max_complexity: usize,
    /// How many fields of its root a query may ask for: most of them are calls.
    #[garde(range(min = 1, max = 1_000_000))]
    pub(crate) max_root_fields: usize,
    /// How many fields of a query may have another name than their own.
    #[garde(range(min = 0, max = 1_000_000))]
    pub(crate) max_aliases: usize,
    /// How many calls to upstreams an operation may make; an event of a subscription, likewise.
    #[garde(range(min = 1, max = 1_000_000))]
    pub(crate) max_calls: usize,
    /// How large an answer may be, and all the replies that it is made of.
    #[garde(custom(bytes_within(ByteSize::kib(1)..=ByteSize::gib(1))))]
    pub(crate) max_answer: ByteSize,
    /// How many errors an answer may have; of more, the number is said. A list whose items all lack the same
    /// thing has as many errors as items, and each is many times as long as what it is about.
    #[garde(range(min = 1, max = 1_000_000))]
    pub(crate) max_errors: usize,
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
    /// How many fields of its root a query may ask for.
    pub(crate) max_root_fields: usize,
    /// How many fields may have another name than their own.
    pub(crate) max_aliases: usize,
    /// How many calls an operation may make.
    pub(crate) max_calls: usize,
    /// Bytes of an answer, and of the replies that it is made of.
    pub(crate) max_answer: usize,
    /// Errors of an answer.
    pub(crate) max_errors: usize,
}

impl Config {
    /// What a query may ask.
    pub(crate) fn limits(&self) -> Limits {
        Limits {
            introspection: self.introspection,
            max_depth: self.max_depth,
            max_complexity: self.max_complexity,
            max_root_fields: self.max_root_fields,
            max_aliases: self.max_aliases,
            max_calls: self.max_calls,
            max_errors: self.max_errors,
            max_answer: usize::try_from(self.max_answer.as_u64()).unwrap_or(usize::MAX),
        }
    }

    /// Makes `limits` those of this configuration.
    pub(crate) fn set_limits(&mut self, limits: Limits) {
        let Limits {
            introspection,
            max_depth,
            max_complexity,
            max_root_fields,
            max_aliases,
            max_calls,
            max_answer,
            max_errors,
        } = limits;
        self.max_errors = max_errors;
        self.max_root_fields = max_root_fields;
        self.max_aliases = max_aliases;
        self.max_calls = max_calls;
        self.max_answer = ByteSize(max_answer as u64);
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
            playground_files: None,
            max_depth: 15,
            max_complexity: 1000,
            max_root_fields: 50,
            max_aliases: 100,
            max_calls: 200,
            max_answer: ByteSize::mib(8),
            max_errors: 100,
        }
    }
}
