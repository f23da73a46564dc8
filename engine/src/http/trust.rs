//! Whose word counts about others: proxies in front of us, by their networks.

use std::{net::IpAddr, sync::Arc};

use ipnet::IpNet;

/// Networks of proxies. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Proxies(Arc<[IpNet]>);

impl Proxies {
    pub(crate) fn new(networks: &[IpNet]) -> Self {
        Self(networks.into())
    }

    /// Whether `peer` is one of them.
    pub(super) fn have(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        self.0.iter().any(|network| network.contains(&peer))
    }
}

/// This machine, and the networks that are nobody's on the internet (RFC 1918, RFC 4193, RFC 6598).
pub(super) fn private() -> Vec<IpNet> {
    let networks = [
        "127.0.0.0/8",
        "::1/128",
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "100.64.0.0/10",
        "fc00::/7",
        "fe80::/10",
    ];
    networks.iter().flat_map(|text| text.parse()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_private_network_is_told_from_the_internet_whatever_form_the_address_has() {
        let proxies = Proxies::new(&private());
        for (peer, ours) in [
            ("127.0.0.1", true),
            ("::ffff:10.1.2.3", true),
            ("172.31.0.1", true),
            ("172.32.0.1", false),
            ("fd00::1", true),
            ("2001:db8::1", false),
            ("8.8.8.8", false),
        ] {
            assert_eq!(proxies.have(peer.parse().unwrap()), ours, "{peer}");
        }
        assert_eq!(private().len(), 8);
        assert!(!Proxies::default().have("127.0.0.1".parse().unwrap()));
    }
}
