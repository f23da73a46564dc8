//! Wrong inputs: each gets one line that says what to do, an exit code, and nothing half-written.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use tempfile::TempDir;

/// A folder to work in, with files.
fn folder(files: &[(&str, &str)]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    dir
}

fn bff(dir: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cargo-bff"));
    command
        .current_dir(dir)
        .args(args)
        .env_remove("CONSUL_HTTP_ADDR");
    command.output().unwrap()
}

/// Everything below a folder.
fn listed(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(listed(&path));
        }
        found.push(path);
    }
    found.sort();
    found
}

/// Runs it in `dir`: it fails, says this in one line, and leaves everything as it was.
#[track_caller]
fn refused(dir: &Path, args: &[&str], wanted: &[&str]) {
    let before = listed(dir);
    let output = bff(dir, args);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success(), "{said}");
    assert_eq!(said.trim().lines().count(), 1, "{said}");
    for part in wanted {
        assert!(said.contains(part), "{part:?} is not in: {said}");
    }
    assert_eq!(listed(dir), before, "{said}");
}

const HEAD: &str = "syntax = \"proto3\"; package a.b; ";
const SERVICE: &str = "service S { rpc GetX(X) returns (X); } message X { string id = 1; } ";

#[track_caller]
fn proto_refused(text: &str, wanted: &[&str]) {
    let dir = folder(&[("x.proto", text)]);
    refused(dir.path(), &["new", "out", "--proto", "x.proto"], wanted);
}

#[test]
fn a_missing_import_is_named_with_who_wants_it_and_the_flag() {
    let text = format!("{HEAD} import \"far/away.proto\"; {SERVICE}").replace("; ", ";\n");
    proto_refused(&text, &["x.proto imports far/away.proto", "--include"]);
}

#[test]
fn an_edition_is_told_and_no_library_panics() {
    let text = format!("// A comment.\nedition = \"2023\"; package a; {SERVICE}");
    proto_refused(&text, &["x.proto", "edition 2023"]);
}

#[test]
fn values_that_fold_together_are_named() {
    let text = format!(
        "{HEAD} enum V {{ V_0 = 0; V_1_0 = 1; V_10 = 2; }} \
                        service S {{ rpc GetX(X) returns (X); }} message X {{ V v = 1; }}"
    );
    proto_refused(&text, &["a.b.V", "V_1_0", "V_10"]);
}

#[test]
fn methods_that_fold_together_are_named() {
    let text = format!(
        "{HEAD} service S {{ rpc GetFoo(X) returns (X); rpc getFoo(X) returns (X); }} message X {{}}"
    );
    proto_refused(&text, &["a.b.S", "GetFoo", "getFoo"]);
}

#[test]
fn messages_that_fold_together_are_named() {
    let text = format!(
        "{HEAD} service S {{ rpc GetX(Foo_Bar) returns (FooBar); }} message Foo_Bar {{}} message FooBar {{}}"
    );
    proto_refused(&text, &["a.b.FooBar", "a.b.Foo_Bar"]);
}

#[test]
fn overlapping_roots_are_told() {
    let inner = format!("syntax = \"proto3\";\npackage z;\nimport \"far.proto\";\n{SERVICE}");
    let outer = format!("syntax = \"proto3\";\npackage y;\nimport \"b/near.proto\";\n{SERVICE}");
    let dir = folder(&[
        ("a/b/inner.proto", inner.as_str()),
        ("a/b/far.proto", "syntax = \"proto3\"; package f;"),
        ("a/outer.proto", outer.as_str()),
        ("a/b/near.proto", "syntax = \"proto3\"; package n;"),
    ]);
    let args = [
        "new",
        "out",
        "--proto",
        "a/b/inner.proto",
        "--proto",
        "a/outer.proto",
    ];
    refused(
        dir.path(),
        &args,
        &["inner.proto", "outer.proto", "--include"],
    );
}

#[test]
fn a_file_that_is_no_proto_and_one_without_a_service_are_told() {
    proto_refused("this is no proto", &["x.proto"]);
    proto_refused(&format!("{HEAD} message X {{}}"), &["no service"]);
}

#[test]
fn a_file_that_is_not_there_is_told() {
    let dir = folder(&[]);
    refused(
        dir.path(),
        &["new", "out", "--proto", "none.proto"],
        &["none.proto"],
    );
}

#[test]
fn a_folder_that_is_not_empty_is_left_alone() {
    let text = format!("{HEAD} {SERVICE}");
    let dir = folder(&[("x.proto", text.as_str()), ("out/mine.txt", "mine")]);
    refused(
        dir.path(),
        &["new", "out", "--proto", "x.proto"],
        &["out is not empty"],
    );
}

#[test]
fn names_that_cannot_be_are_told() {
    let text = format!("{HEAD} {SERVICE}");
    let dir = folder(&[("x.proto", text.as_str())]);
    refused(
        dir.path(),
        &["new", "1st", "--proto", "x.proto"],
        &["cannot be a crate's name"],
    );
    let args = ["new", "out", "--proto", "x.proto", "--service", "No Name"];
    refused(dir.path(), &args, &["No Name", "--service"]);
}

#[test]
fn no_server_and_no_consul_are_told() {
    let dir = folder(&[]);
    // Nobody listens on the port of a listener that was closed; nobody else asks for it here.
    let args = ["new", "out", "--reflect", "127.0.0.1:1"];
    refused(
        dir.path(),
        &args,
        &["no server listens at 127.0.0.1:1", "--proto"],
    );
    let args = [
        "new",
        "out",
        "--consul",
        "x",
        "--agent",
        "http://127.0.0.1:1",
    ];
    refused(dir.path(), &args, &["127.0.0.1:1", "--agent"]);
}

#[test]
fn a_server_without_reflection_is_told() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let listener = runtime
        .block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))
        .unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    let (_, health) = tonic_health::server::health_reporter();
    let incoming = tonic::transport::server::TcpIncoming::from(listener);
    let server = tonic::transport::Server::builder().add_service(health);
    runtime.spawn(server.serve_with_incoming(incoming));
    let dir = folder(&[]);
    refused(
        dir.path(),
        &["new", "out", "--reflect", &addr],
        &["has no reflection", "--descriptors"],
    );
}

#[test]
fn add_and_diff_outside_of_a_crate_are_told() {
    let text = format!("{HEAD} {SERVICE}");
    let dir = folder(&[("x.proto", text.as_str())]);
    refused(
        dir.path(),
        &["add", "--proto", "x.proto"],
        &["no crate of cargo bff new here"],
    );
    refused(dir.path(), &["diff"], &["no crate of cargo bff new here"]);
}

#[test]
fn a_second_add_writes_over_nothing() {
    let text = format!("{HEAD} {SERVICE}");
    let dir = folder(&[("x.proto", text.as_str())]);
    assert!(
        bff(dir.path(), &["new", "out", "--proto", "x.proto"])
            .status
            .success()
    );
    let krate = dir.path().join("out");
    let module = krate.join("src/b.rs");
    let mine = fs::read_to_string(&module).unwrap() + "// Mine.\n";
    fs::write(&module, &mine).unwrap();
    refused(
        &krate,
        &["add", "--proto", "../x.proto"],
        &["b is there already", "cargo bff diff"],
    );
    assert_eq!(fs::read_to_string(&module).unwrap(), mine);
    assert!(bff(&krate, &["diff"]).status.success());
}
