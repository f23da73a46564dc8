//! Makes clients of the upstreams' proto files.

use bff_codegen::{Protos, Upstream};

fn main() -> Result<(), bff_codegen::Error> {
    let files = [
        "proto/shop/catalog/v1/catalog.proto",
        "proto/helloworld.proto",
    ];
    Protos::new(files, ["proto"])
        .upstream(
            Upstream::new("catalog")
                .service("catalog-srv")
                .serves("shop.catalog.v1.Catalog"),
        )
        .upstream(
            Upstream::new("greeter")
                .service("greeter-srv")
                .serves("helloworld.Greeter"),
        )
        .generate()
}
