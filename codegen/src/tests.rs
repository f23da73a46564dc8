use std::{fs, path::Path};

use super::*;

const CATALOG: &str = r#"
    syntax = "proto3";
    package shop.catalog.v1;
    import "shop/common/v1/money.proto";
    import "google/protobuf/empty.proto";
    // Sells things.
    service Catalog {
      // One product.
      //     indented
      //
      //         let code = 1;
      //
      // ```
      // fenced();
      // ```
      rpc GetProduct(GetProductRequest) returns (Product) { option idempotency_level = NO_SIDE_EFFECTS; }
      rpc Delete(GetProductRequest) returns (google.protobuf.Empty);
      rpc Watch(GetProductRequest) returns (stream Product);
      rpc Upload(stream Product) returns (google.protobuf.Empty);
      rpc Price(GetProductRequest) returns (shop.common.v1.Money) { option idempotency_level = IDEMPOTENT; }
    }
    service Admin {
      rpc Delete(GetProductRequest) returns (Product);
    }
    message GetProductRequest { string id = 1; }
    message Product { string id = 1; shop.common.v1.Money price = 2; }
"#;

const MONEY: &str = r#"
    syntax = "proto3";
    package shop.common.v1;
    message Money { string currency = 1; int64 cents = 2; }
"#;

fn protos(dir: &Path) -> Protos {
    for (file, text) in [
        ("shop/catalog/v1/catalog.proto", CATALOG),
        ("shop/common/v1/money.proto", MONEY),
    ] {
        let path = dir.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    Protos::new([dir.join("shop/catalog/v1/catalog.proto")], [dir])
}

fn generated(upstreams: impl IntoIterator<Item = Upstream>) -> Result<String, Error> {
    let dir = tempfile::tempdir().unwrap();
    let mut protos = protos(dir.path());
    for upstream in upstreams {
        protos = protos.upstream(upstream);
    }
    let out = dir.path().join("out");
    fs::create_dir(&out).unwrap();
    protos.generate_into(out.clone())?;
    Ok(fs::read_to_string(out.join("upstreams.rs")).unwrap())
}

/// The text without its line breaks.
fn flat(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn methods_take_requests_and_return_replies_whatever_package_they_are_in() {
    let text = flat(&generated([Upstream::new("catalog").service("catalog-srv")]).unwrap());
    for part in [
        "pub struct Catalog;",
        "const NAME: &'static str = \"catalog\"; const SERVICE: &'static str = \"catalog-srv\";",
        "/// Sells things.",
        "/// One product. /// indented",
        // What looks like code is none of Rust's: it must not become a test.
        "/// ```text /// let code = 1; /// ```",
        "/// ```text, /// fenced(); /// ```",
        "pub async fn get_product(&self, request: impl ::bff_engine::codegen::Requested<shop::catalog::v1::GetProductRequest>) -> \
         ::bff_engine::codegen::Result<shop::catalog::v1::Product>",
        "Method::unary(\"/shop.catalog.v1.Catalog/GetProduct\").idempotent();",
        "Method::server_streaming(\"/shop.catalog.v1.Catalog/Watch\");",
        "BoxStream<'static, ::bff_engine::codegen::Result<shop::catalog::v1::Product>>",
        "::bff_engine::codegen::Result<shop::common::v1::Money>",
        "Method::unary(\"/shop.catalog.v1.Catalog/Price\").idempotent();",
        "Method::unary(\"/shop.catalog.v1.Catalog/Delete\");",
        "Left out, because they take a stream: `shop.catalog.v1.Catalog/Upload`.",
        // Two services have one of this name.
        "pub async fn catalog_delete(",
        "pub async fn admin_delete(",
    ] {
        assert!(text.contains(&flat(part)), "{part}\n{text}");
    }
    assert!(!text.contains("fn upload"), "{text}");
}

#[test]
fn services_are_shared_out_among_upstreams() {
    let admin = Upstream::new("price-book").serves("shop.catalog.v1.Admin");
    let text = flat(&generated([admin, Upstream::new("catalog")]).unwrap());
    assert!(text.contains("impl PriceBookClient<'_> { /// Calls `/shop.catalog.v1.Admin/Delete`."));
    assert!(text.contains("pub async fn delete("), "{text}");
    assert!(!text.contains("admin_delete"), "{text}");
}

#[test]
fn what_is_wrong_is_said_in_one_line() {
    let nobody = generated([Upstream::new("x").serves("shop.Nobody")]).unwrap_err();
    assert_eq!(
        nobody.to_string(),
        "the upstream x serves shop.Nobody, and the files have shop.catalog.v1.Catalog, \
         shop.catalog.v1.Admin"
    );
    let dir = tempfile::tempdir().unwrap();
    fs::write(
        dir.path().join("a.proto"),
        "syntax = \"proto3\"; import \"b.proto\";",
    )
    .unwrap();
    let protos = Protos::new([dir.path().join("a.proto")], [dir.path()]);
    let missing = protos.generate_into(dir.path().to_owned()).unwrap_err();
    assert!(missing.to_string().contains("b.proto"), "{missing}");
}

#[test]
fn what_is_kept_names_nothing_that_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let text = "syntax = \"proto2\"; import \"google/protobuf/descriptor.proto\";
        service S { rpc Get(Kept) returns (Kept); }
        message Kept { extend google.protobuf.FieldOptions { optional string x = 50001; } }
        message Gone { optional Kept kept = 1; }";
    fs::write(dir.path().join("a.proto"), text).unwrap();
    let compiled = protos::compile(&["a.proto".to_owned()], &[dir.path().to_owned()]).unwrap();
    let kept = protos::reachable(&compiled.descriptors, &[]);
    let messages: Vec<_> = kept
        .file
        .iter()
        .flat_map(|file| &file.message_type)
        .collect();
    assert_eq!(messages.len(), 1, "{messages:?}");
    assert_eq!(messages[0].name(), "Kept");
    assert!(messages[0].extension.is_empty());
}
