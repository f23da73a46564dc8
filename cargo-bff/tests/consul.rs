//! A crate made of a service that is found in Consul.

use std::{fs, process::Command};

use bff_tests::fixtures::consul::ConsulFixture;
use clap::Parser;
use tokio::net::TcpListener;

#[tokio::test(flavor = "multi_thread")]
async fn a_crate_is_made_of_an_instance_that_consul_knows() {
    let consul = ConsulFixture::start().await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    consul.register("greeter-srv", listener.local_addr().unwrap());
    let options = greeter_srv::Options::parse_from(["greeter-srv"]);
    tokio::spawn(greeter_srv::run(listener, options, std::future::pending()));
    let dir = tempfile::tempdir().unwrap();
    let asked = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cargo-bff"));
        command.current_dir(dir.path()).args(args);
        // As operators have it: without a scheme.
        command.env("CONSUL_HTTP_ADDR", consul.addr().to_string());
        let output = tokio::task::block_in_place(|| command.output().unwrap());
        (
            output.status.success(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    let (made, said) = asked(&["new", "out", "--consul", "greeter-srv"]);
    assert!(made, "{said}");
    let library = fs::read_to_string(dir.path().join("out/src/lib.rs")).unwrap();
    // The upstream's name in Consul is the one it was found by.
    let build = fs::read_to_string(dir.path().join("out/build.rs")).unwrap();
    assert!(build.contains("greeter-srv"), "{build}");
    assert!(library.contains("Greeter"), "{library}");

    let (made, said) = asked(&["new", "other", "--consul", "unknown-srv"]);
    assert!(!made);
    assert!(
        said.contains("no healthy instance of unknown-srv"),
        "{said}"
    );
}
