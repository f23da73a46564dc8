//! Makes the clients that `tests/it/codegen.rs` calls.

use bff_codegen::{Protos, Upstream};

fn main() -> Result<(), bff_codegen::Error> {
    Protos::new(["protos/shop/catalog/v1/catalog.proto"], ["protos"])
        .upstream(Upstream::new("catalog").service("catalog-srv"))
        .generate()
}
