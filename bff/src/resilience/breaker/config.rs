//! `[upstreams.<name>.breaker]`.

use std::time::Duration;

use garde::Validate;
use serde::{Deserialize, Serialize};

use crate::config::types::{ms, secs, within};

/// When a failing upstream is left alone, and how it is tried again.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, Validate)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Whether the breaker decides, or an operator does.
    #[garde(skip)]
    pub mode: Mode,
    /// Share of failures in the window that opens it, above 0 and up to 1.
    #[garde(custom(share))]
    pub failure_ratio: f64,
    /// Opens after this many failures in a row instead, whatever the ratio.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[garde(inner(range(min = 1, max = 10_000)))]
    pub consecutive_failures: Option<u32>,
    /// Calls below which the ratio says nothing.
    #[garde(range(min = 1, max = 100_000))]
    pub min_calls: u32,
    /// How far back the ratio looks.
    #[serde(with = "humantime_serde")]
    #[garde(custom(within(ms(100)..=secs(600))))]
    pub window: Duration,
    /// How long it stays open the first time; it doubles while probes keep failing.
    #[serde(with = "humantime_serde")]
    #[garde(custom(within(ms(10)..=secs(3600))))]
    pub open_for: Duration,
    /// How long it stays open at most.
    #[serde(with = "humantime_serde")]
    #[garde(custom(within(ms(10)..=secs(3600))), custom(not_below(self.open_for)))]
    pub open_for_max: Duration,
    /// Calls let through at one time while it is half-open.
    #[garde(range(min = 1, max = 1000))]
    pub half_open_probes: u32,
    /// Successful probes that close it.
    #[garde(range(min = 1, max = 1000))]
    pub success_threshold: u32,
}

/// Who decides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// The breaker, by what it sees.
    #[default]
    Auto,
    /// An operator: no call is let through.
    Open,
    /// An operator: every call is let through.
    Closed,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            mode: Mode::Auto,
            failure_ratio: 0.5,
            consecutive_failures: None,
            min_calls: 20,
            window: Duration::from_secs(10),
            open_for: Duration::from_secs(5),
            open_for_max: Duration::from_secs(60),
            half_open_probes: 1,
            success_threshold: 1,
        }
    }
}

fn share(ratio: &f64, _: &()) -> garde::Result {
    match *ratio > 0.0 && *ratio <= 1.0 {
        true => Ok(()),
        false => Err(garde::Error::new(format!(
            "{ratio} is out of range: above 0, up to 1"
        ))),
    }
}

fn not_below(open_for: Duration) -> impl FnOnce(&Duration, &()) -> garde::Result {
    move |max, ()| match *max >= open_for {
        true => Ok(()),
        false => Err(garde::Error::new("must not be below `open_for`")),
    }
}
