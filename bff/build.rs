//! Makes clients of the upstreams' proto files.

use bff_codegen::{Protos, Upstream};

fn main() -> Result<(), bff_codegen::Error> {
    Protos::new(["../proto/helloworld.proto"], ["../proto"])
        .upstream(Upstream::new("greeter").service("greeter-srv"))
        .generate()
}
