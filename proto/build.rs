//! Compiles the wire files without `protoc`: protox parses them, tonic-prost-build generates.

use std::{env, fs, path::PathBuf};

use prost::Message as _;

const FILES: [&str; 2] = ["calvin/v1/agent.proto", "calvin/v1/operator.proto"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=calvin");
    let descriptors = protox::compile(FILES, ["."])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure().compile_fds(descriptors)?;
    Ok(())
}
