//! Compiles the `.proto` files with protox, so that no `protoc` has to be installed.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message;

fn main() -> Result<(), Box<dyn Error>> {
    const PROTOS: &[&str] = &["helloworld.proto"];
    const NACOS: &str = "nacos.proto";
    for proto in PROTOS.iter().chain([&NACOS]) {
        println!("cargo:rerun-if-changed={proto}");
    }
    let descriptors = protox::compile(PROTOS, ["."])?;
    let out_dir = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out_dir.join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure().compile_fds(descriptors)?;
    if env::var_os("CARGO_FEATURE_NACOS").is_some() {
        tonic_prost_build::configure().compile_fds(protox::compile([NACOS], ["."])?)?;
    }
    Ok(())
}
