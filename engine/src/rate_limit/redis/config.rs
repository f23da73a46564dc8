//! `[rate_limit.redis]`.

use std::time::Duration;

use garde::Validate;
use serde::{Deserialize, Serialize};

use crate::types::{Secret, ms, secs, within};

/// Where replicas share their buckets, with `rate_limit.store = "redis"`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, Validate)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// `redis://host:port`, with `/number` for another database than 0. Redis 5 or later, or
    /// Valkey; one server, or the first of a replication, but no cluster.
    #[garde(custom(address))]
    pub(crate) url: String,
    /// Who asks, with Redis' access control lists; absent is the default user.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[garde(skip)]
    pub(crate) username: Option<String>,
    /// The user's password.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[garde(skip)]
    pub(crate) password: Option<Secret>,
    /// How long one answer may take; after it the local buckets decide.
    #[serde(with = "humantime_serde")]
    #[garde(custom(within(ms(1)..=secs(5))))]
    pub(crate) timeout: Duration,
    /// What every key begins with: replicas with the same one share their buckets.
    #[garde(length(max = 100))]
    pub(crate) prefix: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            url: "redis://127.0.0.1:6379".to_owned(),
            username: None,
            password: None,
            timeout: Duration::from_millis(50),
            prefix: "bff:rate-limit:".to_owned(),
        }
    }
}

impl Config {
    /// Host and port, and the number of the database.
    fn parts(&self) -> Result<(String, u16, i64), String> {
        // Never shown, so before anything that shows the address.
        if self.url.contains('@') {
            return Err(
                "the address carries a password, which would be printed: set \
                        rate_limit.redis.username and password"
                    .to_owned(),
            );
        }
        let wrong =
            |why: &str| format!("`{}` {why}; write it like redis://127.0.0.1:6379", self.url);
        let uri: http::Uri = self.url.parse().map_err(|_| wrong("is no address"))?;
        if uri.scheme_str() != Some("redis") {
            return Err(wrong("is not redis:// (TLS to Redis is not offered)"));
        }
        let Some(authority) = uri.authority() else {
            return Err(wrong("has no host"));
        };
        let database = match uri.path().trim_matches('/') {
            "" => 0,
            number => number
                .parse::<u16>()
                .map_err(|_| wrong("names a database that is no number"))?
                .into(),
        };
        let port = authority.port_u16().unwrap_or(6379);
        // The resolver wants an IPv6 address without its brackets.
        let host = authority.host().trim_matches(['[', ']']);
        Ok((host.to_owned(), port, database))
    }

    /// The client's connection settings.
    pub(super) fn connection(&self) -> Result<redis::ConnectionInfo, String> {
        let (host, port, database) = self.parts()?;
        let mut settings = redis::RedisConnectionInfo::default().set_db(database);
        if let Some(username) = &self.username {
            settings = settings.set_username(username);
        }
        if let Some(password) = &self.password {
            settings = settings.set_password(password.reveal());
        }
        let info = redis::IntoConnectionInfo::into_connection_info((host, port))
            .map_err(|error| error.to_string())?;
        Ok(info.set_redis_settings(settings))
    }
}

/// As `garde` wants it: the whole configuration is looked at, but only the address can be wrong.
fn address(url: &str, _: &()) -> garde::Result {
    let config = Config {
        url: url.to_owned(),
        ..Config::default()
    };
    config.parts().map(drop).map_err(garde::Error::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_with_a_password_in_it_is_refused_because_it_would_be_printed() {
        for secret in ["redis://:hunter2@h:1", "rediss://u:hunter2@h", "hunter2@h"] {
            let error = address(secret, &()).unwrap_err().to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
        let v6 = Config {
            url: "redis://[::1]:7".to_owned(),
            ..Config::default()
        };
        assert_eq!(v6.parts(), Ok(("::1".to_owned(), 7, 0)));
        for bad in ["127.0.0.1:6379", "rediss://h", "redis://", "redis://h/x"] {
            assert!(address(bad, &()).is_err(), "{bad}");
        }
        assert!(address("redis://h", &()).is_ok() && address("redis://h:7/3", &()).is_ok());
    }
}
