//! Who is asking, as far as the rate limit wants to know.

use std::net::{IpAddr, SocketAddr};

use axum::http::HeaderMap;

use crate::{
    rate_limit::{ClientConfig, Identity},
    types::ClientKey,
};

/// The client behind a request from `peer`.
///
/// The leftmost value of `X-Forwarded-For` is what the client wrote itself, so it is never used:
/// with `n` trusted proxies, each of which appends the address it saw, the client is the `n`-th
/// from the right. With fewer values than that the request did not come through all of them, and
/// the peer is the client.
///
/// A `peer` that is not `trusted` is the client itself: what it says is its own word.
pub(super) fn identify(
    config: &ClientConfig,
    peer: SocketAddr,
    trusted: bool,
    headers: &HeaderMap,
) -> ClientKey {
    let address = match config.by {
        _ if !trusted => None,
        Identity::Header => match headers.get(&config.header) {
            Some(name) => return ClientKey::of(&String::from_utf8_lossy(name.as_bytes())),
            None => None,
        },
        Identity::Peer => None,
        Identity::ForwardedFor => forwarded_for(headers, config.trusted_proxies),
    };
    ClientKey::of(&network(address.unwrap_or(peer.ip())).to_string())
}

/// What one client has to itself: an IPv4 address, or the 64 bits of an IPv6 network within which
/// it may choose its address at will.
pub(super) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) & !u128::from(u64::MAX)).into()),
        v4 => v4,
    }
}

fn forwarded_for(headers: &HeaderMap, trusted_proxies: usize) -> Option<IpAddr> {
    // Split as bytes: what a client wrote into the line must not spoil what a proxy appended.
    let lines = headers.get_all("x-forwarded-for");
    let values: Vec<&[u8]> = lines
        .iter()
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        .collect();
    let index = values.len().checked_sub(trusted_proxies)?;
    let value = std::str::from_utf8(values.get(index)?).ok()?.trim();
    // Some proxies append the port.
    let bare = || value.trim_matches(['[', ']']).parse().ok();
    bare().or_else(|| value.parse().ok().map(|addr: SocketAddr| addr.ip()))
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
        let peer = "10.0.0.1:1234".parse().unwrap();
        // The word of a stranger changes nothing.
        let by_itself = identify(&config, peer, false, &map);
        assert_eq!(by_itself, ClientKey::of("10.0.0.1"));
        identify(&config, peer, true, &map)
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

    #[test]
    fn ports_and_what_a_client_writes_into_the_line_do_not_make_it_another_client() {
        let with_port = [("x-forwarded-for", "1.2.3.4:5678")];
        assert_eq!(
            key(Identity::ForwardedFor, 1, &with_port),
            ClientKey::of("1.2.3.4")
        );
        let v6 = [("x-forwarded-for", "[2001:db8::1]:443")];
        let same_network = [("x-forwarded-for", "2001:db8::ffff")];
        let ours = key(Identity::ForwardedFor, 1, &v6);
        assert_eq!(ours, key(Identity::ForwardedFor, 1, &same_network));
        let mut map = HeaderMap::new();
        let spoilt = axum::http::HeaderValue::from_bytes(b"\xff\xfe, 1.2.3.4").unwrap();
        map.append("x-forwarded-for", spoilt);
        let config = ClientConfig {
            by: Identity::ForwardedFor,
            ..ClientConfig::default()
        };
        let peer = "10.0.0.1:1".parse().unwrap();
        assert_eq!(
            identify(&config, peer, true, &map),
            ClientKey::of("1.2.3.4")
        );
    }
}
