//! `[upstreams.<name>.ejection]` and the choice of the balancer.

use std::time::Duration;

use garde::Validate;
use serde::{Deserialize, Serialize};

use crate::config::types::{ms, secs, within};

/// How an instance is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Strategy {
    /// The cheaper of two random instances, by latency, failures and calls in flight.
    P2c,
    /// Any instance.
    Random,
}

/// When an instance is left out for a while (outlier detection; compare gRPC A50).
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, Validate)]
#[serde(default, deny_unknown_fields)]
pub struct EjectionConfig {
    /// Failures in a row that eject an instance.
    #[garde(range(min = 1, max = 1000))]
    pub consecutive_failures: u32,
    /// How long the first ejection lasts; it doubles with each further one.
    #[serde(with = "humantime_serde")]
    #[garde(custom(within(ms(100)..=secs(3600))))]
    pub base: Duration,
    /// How long an ejection lasts at most.
    #[serde(with = "humantime_serde")]
    #[garde(custom(within(ms(100)..=secs(3600))), custom(not_below(self.base)))]
    pub max: Duration,
    /// Largest share of the instances that may be ejected at one time, 0 to 1.
    #[garde(range(min = 0.0, max = 1.0))]
    pub max_share: f64,
    /// Below this share of instances in rotation, 0 to 1, ejections are ignored: most of a
    /// service failing says more about something else than about its instances.
    #[garde(range(min = 0.0, max = 1.0))]
    pub panic_threshold: f64,
}

impl Default for EjectionConfig {
    fn default() -> Self {
        Self {
            consecutive_failures: 5,
            base: Duration::from_secs(5),
            max: Duration::from_secs(120),
            max_share: 0.5,
            panic_threshold: 0.5,
        }
    }
}

fn not_below(base: Duration) -> impl FnOnce(&Duration, &()) -> garde::Result {
    move |max, ()| {
        if *max >= base {
            return Ok(());
        }
        Err(garde::Error::new("must not be below `base`"))
    }
}
