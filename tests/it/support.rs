//! What several subjects need.

use std::path::Path;

use bff_tests::{
    TestBff, TestBffBuilder,
    fixtures::{consul::ConsulFixture, greeter::GreeterFixture},
    process::Program,
};

/// The program that contains all others.
pub(crate) fn dev() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_dev"))
}

/// A greeter-srv process registered in `consul`.
pub(crate) async fn greeter_process(consul: &ConsulFixture, args: &[&str]) -> Program {
    let url = consul.url();
    let mut all = vec!["greeter-srv", "--listen", "127.0.0.1:0", "--consul", &url];
    all.extend_from_slice(args);
    Program::start(dev(), all).await.unwrap()
}

/// A fixture Consul, `n` scriptable greeters registered in it, and a ready BFF.
pub(crate) struct System {
    pub(crate) consul: ConsulFixture,
    pub(crate) greeters: Vec<GreeterFixture>,
    pub(crate) bff: TestBff,
}

impl System {
    pub(crate) async fn start(n: usize) -> Self {
        Self::with(n, |bff| bff).await
    }

    pub(crate) async fn with(
        n: usize,
        configure: impl FnOnce(TestBffBuilder) -> TestBffBuilder,
    ) -> Self {
        let consul = ConsulFixture::start().await.unwrap();
        let mut greeters = Vec::new();
        for _ in 0..n {
            let greeter = GreeterFixture::start().await.unwrap();
            consul.register("greeter-srv", greeter.addr());
            greeters.push(greeter);
        }
        let bff = configure(TestBff::builder().consul(consul.url()))
            .start()
            .await;
        if n > 0 {
            let all = format!("greeter: {n} instance");
            bff.wait_readyz(|_, text| text.contains(&all)).await;
        }
        Self {
            consul,
            greeters,
            bff,
        }
    }
}
