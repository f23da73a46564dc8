//! The command line of the BFF.

use std::{fs, process::Output};

use tokio::process::Command;

use crate::support::dev;

async fn bff(args: &[&str]) -> Output {
    let mut command = Command::new(dev());
    command
        .arg("bff")
        .args(args)
        .env_remove("BFF__HTTP__LISTEN");
    command.output().await.unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[tokio::test]
async fn check_config_names_all_three_mistakes_of_a_file_and_fails() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("bff.toml");
    let mistakes = r#"
        [http]
        listen = "everywhere"
        [consul]
        adress = "http://127.0.0.1:8500"
        [upstreams.greeter]
        timeout = "5ms"
    "#;
    fs::write(&file, mistakes).unwrap();
    let output = bff(&["check-config", "--config", file.to_str().unwrap()]).await;
    assert_eq!(output.status.code(), Some(78));
    let said = text(&output.stderr);
    for key in ["http.listen", "consul.adress", "upstreams.greeter.timeout"] {
        assert!(said.contains(key), "{key} is not in: {said}");
    }
    assert!(said.contains("3 problems"), "{said}");

    let run = bff(&["run", "--config", file.to_str().unwrap()]).await;
    assert_eq!(run.status.code(), Some(78));
    assert_eq!(text(&run.stderr), said);
}

#[tokio::test]
async fn check_config_is_content_with_the_defaults() {
    let output = bff(&["check-config"]).await;
    assert!(output.status.success(), "{}", text(&output.stderr));
}

#[tokio::test]
async fn print_config_shows_what_is_in_force_without_its_secrets() {
    let output = bff(&[
        "print-config",
        "--set",
        "consul.token=hunter2",
        "--listen",
        "127.0.0.1:9",
    ])
    .await;
    let printed = text(&output.stdout);
    assert!(printed.contains("listen = \"127.0.0.1:9\""), "{printed}");
    assert!(printed.contains("token = \"[redacted]\""), "{printed}");
    assert!(!printed.contains("hunter2"), "{printed}");
}

#[tokio::test]
async fn schema_prints_the_committed_schema() {
    let output = bff(&["schema"]).await;
    assert_eq!(
        text(&output.stdout),
        include_str!("../../schema/schema.graphql")
    );
}

#[tokio::test]
async fn a_file_that_is_not_there_is_named() {
    let output = bff(&["run", "--config", "/nowhere/bff.toml"]).await;
    assert_eq!(output.status.code(), Some(78));
    assert!(
        text(&output.stderr).contains("/nowhere/bff.toml"),
        "{}",
        text(&output.stderr)
    );
}

#[tokio::test]
async fn cargo_dev_takes_its_options_with_and_without_the_dashes_that_cargo_run_wants() {
    // The alias ends in `--`, so `cargo dev -- --help` reaches the program as `-- --help`.
    for args in [&["--help"][..], &["--", "--help"]] {
        let output = Command::new(dev()).args(args).output().await.unwrap();
        assert!(
            output.status.success(),
            "{args:?}: {}",
            text(&output.stderr)
        );
        assert!(text(&output.stdout).contains("--instances"), "{args:?}");
    }
}
