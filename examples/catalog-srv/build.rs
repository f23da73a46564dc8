//! Compiles the shop's `.proto` files with protox, so that no `protoc` has to be installed.

use std::{env, fs, path::PathBuf};

use prost::Message;

fn main() -> anyhow::Result<()> {
    const ROOT: &str = "../shop-bff/proto";
    println!("cargo:rerun-if-changed={ROOT}");
    let descriptors = protox::compile(["shop/catalog/v1/catalog.proto"], [ROOT])?;
    let out_dir = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out_dir.join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .build_client(false)
        .include_file("protos.rs")
        .compile_fds(descriptors)?;
    Ok(())
}
