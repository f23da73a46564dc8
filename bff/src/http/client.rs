//! Who is asking, as far as the rate limit wants to know.

use std::net::SocketAddr;

use axum::http::HeaderMap;

use crate::rate_limit::{ClientConfig, ClientKey, Identity};

/// The client behind a request from `peer`.
///
/// The leftmost value of `X-Forwarded-For` is what the client wrote itself, so it is never used:
/// with `n` trusted proxies, each of which appends the address it saw, the client is the `n`-th
/// from the right. With fewer values than that the request did not come through all of them, and
/// the peer is the client.
pub(super) fn identify(config: &ClientConfig, peer: SocketAddr, headers: &HeaderMap) -> ClientKey {
    let named = match config.by {
        Identity::Peer => None,
        Identity::ForwardedFor => forwarded_for(headers, config.trusted_proxies),
        Identity::Header => headers
            .get(&config.header)
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned),
    };
    match named {
        Some(name) => ClientKey::of(&name),
        None => ClientKey::of(&peer.ip().to_string()),
    }
}

fn forwarded_for(headers: &HeaderMap, trusted_proxies: usize) -> Option<String> {
    let values: Vec<&str> = headers
        .get_all("x-forwarded-for")
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .collect();
    let index = values.len().checked_sub(trusted_proxies)?;
    values
        .get(index)
        .filter(|value| !value.is_empty())
        .map(|value| (*value).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(by: Identity, trusted_proxies: usize, headers: &[(&str, &str)]) -> ClientKey {
        let config = ClientConfig {
            by,
            trusted_proxies,
            ..ClientConfig::default()
        };
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let name: axum::http::HeaderName = name.parse().unwrap();
            map.append(name, value.parse().unwrap());
        }
        identify(&config, "10.0.0.1:1234".parse().unwrap(), &map)
    }

    #[test]
    fn by_default_a_client_is_its_address_whatever_it_says() {
        let said = [("x-forwarded-for", "1.2.3.4"), ("x-client-id", "me")];
        assert_eq!(key(Identity::Peer, 1, &said), ClientKey::of("10.0.0.1"));
    }

    #[test]
    fn behind_proxies_the_client_is_counted_from_the_right() {
        let one = [("x-forwarded-for", "6.6.6.6, 1.2.3.4")];
        assert_eq!(
            key(Identity::ForwardedFor, 1, &one),
            ClientKey::of("1.2.3.4")
        );
        let two = [
            ("x-forwarded-for", "6.6.6.6"),
            ("x-forwarded-for", "1.2.3.4 , 10.0.0.2"),
        ];
        assert_eq!(
            key(Identity::ForwardedFor, 2, &two),
            ClientKey::of("1.2.3.4")
        );
    }

    #[test]
    fn a_request_that_went_round_the_proxies_is_its_peer() {
        let short = [("x-forwarded-for", "6.6.6.6")];
        assert_eq!(
            key(Identity::ForwardedFor, 2, &short),
            ClientKey::of("10.0.0.1")
        );
        assert_eq!(
            key(Identity::ForwardedFor, 1, &[]),
            ClientKey::of("10.0.0.1")
        );
    }

    #[test]
    fn a_header_names_the_client_and_without_it_the_peer_does() {
        assert_eq!(
            key(Identity::Header, 1, &[("x-client-id", "me")]),
            ClientKey::of("me")
        );
        assert_eq!(key(Identity::Header, 1, &[]), ClientKey::of("10.0.0.1"));
    }
}
