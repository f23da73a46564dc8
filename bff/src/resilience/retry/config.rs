//! `[upstreams.<name>.retry]`.

use std::time::Duration;

use garde::Validate;
use serde::{Deserialize, Serialize};

use crate::config::types::{ms, secs, within};

/// When a failed call is tried again.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, Validate)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Attempts per call, the first included; 1 turns retries off.
    #[garde(range(min = 1, max = 10))]
    pub max_attempts: u32,
    /// Upper bound of the random pause before the second attempt; it doubles with each further.
    #[serde(with = "humantime_serde")]
    #[garde(custom(within(ms(0)..=secs(10))))]
    pub backoff: Duration,
    /// Upper bound of any pause.
    #[serde(with = "humantime_serde")]
    #[garde(custom(within(ms(0)..=secs(60))))]
    pub backoff_max: Duration,
    /// Retries per call, over ten seconds, 0 to 1.
    #[garde(range(min = 0.0, max = 1.0))]
    pub budget_ratio: f64,
    /// Retries per second that a quiet service has in any case.
    #[garde(range(min = 0.0, max = 1000.0))]
    pub budget_min_per_second: f64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_attempts: 3,
            backoff: Duration::from_millis(25),
            backoff_max: Duration::from_millis(250),
            budget_ratio: 0.2,
            budget_min_per_second: 1.0,
        }
    }
}
