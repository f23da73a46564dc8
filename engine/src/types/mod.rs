//! Small values that everybody stands on: text and durations that refuse what they cannot mean, so
//! that no user of them checks again.

mod backoff;
mod beside;
mod client_key;
mod error_chain;
mod fair;
mod lasting;
mod outage;
mod watched;

pub(crate) use self::{
    backoff::Backoff,
    beside::{LONG, NotDone, Turn},
    client_key::ClientKey,
    error_chain::error_chain,
    fair::{Fair, Place},
    lasting::{Lasting, LastingPlace},
    outage::OutageLog,
    watched::WatchedFiles,
};

use std::{fmt, ops::RangeInclusive, path::PathBuf, time::Duration};

use bytesize::ByteSize;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// A string that no log and no printed configuration shows.
#[derive(Clone)]
pub(crate) struct Secret(SecretString);

impl Secret {
    /// The secret itself, for the one place that sends it.
    pub(crate) fn reveal(&self) -> &str {
        self.0.expose_secret()
    }
}

/// Compares the secret text, so that a changed secret counts as a configuration change.
impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.reveal() == other.reveal()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("[redacted]")
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // serde would quote a value of the wrong type in its message: say it in our words.
        let wrong = || D::Error::custom("must be a string without control characters, not empty");
        let value = serde_json::Value::deserialize(deserializer).map_err(|_| wrong())?;
        match value.as_str() {
            Some(text) if !text.is_empty() && !text.contains(char::is_control) => {
                Ok(Self(SecretString::from(text.to_owned())))
            }
            _ => Err(wrong()),
        }
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(SecretString::from(text))
    }
}

/// A service name as Consul's DNS interface and its URLs can carry it: `[A-Za-z0-9._-]`,
/// at most 128 characters.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct ServiceName(String);

impl ServiceName {
    /// What a BFF is called unless it is told otherwise.
    pub(crate) fn bff() -> Self {
        Self("bff".to_owned())
    }

    /// The name as text.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<ServiceName> for String {
    fn from(name: ServiceName) -> Self {
        name.0
    }
}

impl TryFrom<String> for ServiceName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        if text.is_empty() || text.len() > 128 || !text.bytes().all(allowed) {
            return Err(format!(
                "`{text}` is no service name: use 1 to 128 of the characters A-Z a-z 0-9 . _ -"
            ));
        }
        Ok(Self(text))
    }
}

/// An `http://host:port` address without a path, query or trailing slash.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct BaseUrl {
    text: String,
    authority: ::http::uri::Authority,
}

impl BaseUrl {
    /// The address as text, such as `http://127.0.0.1:8500`.
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// Host and port.
    pub(crate) fn authority(&self) -> &::http::uri::Authority {
        &self.authority
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<BaseUrl> for String {
    fn from(url: BaseUrl) -> Self {
        url.text
    }
}

impl TryFrom<String> for BaseUrl {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        // Never shown, so before anything that shows the address.
        if text.contains('@') {
            return Err("the address carries a user name; use a token".to_owned());
        }
        let wrong = |why: &str| format!("`{text}` {why}; write it like http://127.0.0.1:8500");
        let uri: ::http::Uri = text
            .parse()
            .map_err(|error| wrong(&format!("is no address ({error})")))?;
        match uri.scheme_str() {
            Some("http" | "https") => {}
            Some(_) => return Err(wrong("has a scheme other than http and https")),
            None => return Err(wrong("has no scheme")),
        }
        let Some(authority) = uri.authority() else {
            return Err(wrong("has no host"));
        };
        if !uri.path().trim_end_matches('/').is_empty() || uri.query().is_some() {
            return Err(wrong("has a path"));
        }
        let authority = authority.clone();
        Ok(Self {
            text: text.trim_end_matches('/').to_owned(),
            authority,
        })
    }
}

/// A file that holds a secret.
pub(crate) type SecretFile = PathBuf;

/// A check for garde that a duration lies within `range`, with the range in its message.
pub(crate) fn within(
    range: RangeInclusive<Duration>,
) -> impl FnOnce(&Duration, &()) -> garde::Result {
    move |value, ()| {
        if range.contains(value) {
            return Ok(());
        }
        Err(garde::Error::new(format!(
            "{} is out of range: use {} to {}",
            humantime::format_duration(*value),
            humantime::format_duration(*range.start()),
            humantime::format_duration(*range.end()),
        )))
    }
}

/// The same for a number of bytes.
pub(crate) fn bytes_within(
    range: RangeInclusive<ByteSize>,
) -> impl FnOnce(&ByteSize, &()) -> garde::Result {
    move |value, ()| match range.contains(value) {
        true => Ok(()),
        false => Err(garde::Error::new(format!(
            "{value} is out of range: use {} to {}",
            range.start(),
            range.end()
        ))),
    }
}

/// Whole milliseconds, for ranges.
pub(crate) const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Whole seconds, for ranges.
pub(crate) const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_consul_address_without_scheme_is_refused_before_a_client_could_panic_on_it() {
        let error = BaseUrl::try_from("localhost:8500".to_owned()).unwrap_err();
        assert!(error.contains("http://127.0.0.1:8500"), "{error}");
        assert!(BaseUrl::try_from("127.0.0.1:8500".to_owned()).is_err());
        assert!(BaseUrl::try_from("ftp://h:1".to_owned()).is_err());
        assert!(BaseUrl::try_from("http://h:1/prefix".to_owned()).is_err());
        assert_eq!(
            BaseUrl::try_from("http://h:1/".to_owned())
                .unwrap()
                .as_str(),
            "http://h:1"
        );
    }

    #[test]
    fn a_service_name_that_a_url_would_encode_is_refused() {
        for bad in ["", "a/b", "a b", "größe", "a%2F"] {
            assert!(ServiceName::try_from(bad.to_owned()).is_err(), "{bad}");
        }
        assert!(ServiceName::try_from("greeter-srv.v1_x".to_owned()).is_ok());
    }
}
