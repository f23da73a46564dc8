//! What happens around the resolvers.

mod rate_limit;

pub(super) use self::rate_limit::RateLimit;
