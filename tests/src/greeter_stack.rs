//! A greeter's client over the whole stack, without a BFF around it.

use std::{net::SocketAddr, time::Duration};

use bff::{
    balance::{Balance, EjectionConfig, Options, Strategy, channel::Http2},
    discovery::{Instance, Members},
    resilience::{self, Layers, Settings, UpstreamService},
};
use proto::helloworld::greeter_client::GreeterClient;

/// A generated client over balancer and stack, with the defaults.
#[derive(Clone, Debug)]
pub struct GreeterStack {
    /// The client.
    pub client: GreeterClient<UpstreamService>,
    /// What its calls go through.
    pub layers: Layers,
}

impl GreeterStack {
    /// A client of the greeters at `addrs`.
    ///
    /// # Panics
    /// Never: a socket address is an authority.
    #[expect(clippy::expect_used, reason = "a socket address is an authority")]
    pub fn over(addrs: &[SocketAddr]) -> Self {
        let instance = |addr: &SocketAddr| Instance {
            address: addr.to_string().parse().expect("an authority"),
            weight: 1,
        };
        let options = Options {
            name: "greeter".into(),
            strategy: Strategy::P2c,
            ejection: EjectionConfig::default(),
        };
        let http2 = Http2 {
            connect_timeout: Duration::from_millis(500),
            keepalive: Duration::from_secs(10),
        };
        let balance = Balance::new(options, http2);
        balance.apply(&Members::Known(addrs.iter().map(instance).collect()));
        let layers = Layers::new("greeter", &Settings::default());
        let client = GreeterClient::new(resilience::stack(balance, &layers));
        Self { client, layers }
    }
}
