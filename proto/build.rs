//! Compiles the schema with protox, so that no protoc is needed on the machine.

use std::{env, fs, path::PathBuf};

use prost::Message;

const FILES: &[&str] = &[
    "gradtape/v1/admin_service.proto",
    "gradtape/v1/catalog_service.proto",
    "gradtape/v1/checkpoint_service.proto",
    "gradtape/v1/session_service.proto",
    "gradtape/v1/tape_service.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=gradtape");
    let descriptors = protox::compile(FILES, ["."])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .bytes(".")
        .extern_path(".gradtape.v1.Batch", "crate::batch::Batch")
        .compile_fds(descriptors)?;
    Ok(())
}
