//! Compiles every `proto/bench/v1/*.proto` without `protoc`, and writes the file descriptor set
//! that gRPC reflection serves.

use std::error::Error;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use protox::prost::Message;

fn main() -> Result<(), Box<dyn Error>> {
    // Read when the script runs: a copy of the tree may share its target folder.
    let package = std::env::var_os("CARGO_MANIFEST_DIR").ok_or("cargo did not set the folder")?;
    let root = Path::new(&package).join("../../proto");
    let folder = root.join("bench/v1");
    // The folder itself, so that a file added later is noticed.
    println!("cargo::rerun-if-changed={}", folder.display());

    let mut files: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(&folder)? {
        let path = entry?.path();
        if path.extension() == Some(OsStr::new("proto")) {
            println!("cargo::rerun-if-changed={}", path.display());
            files.push(path);
        }
    }
    // The order of a folder is the file system's affair; the build must not depend on it.
    files.sort();

    let descriptors = protox::compile(&files, [&root])?;
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("cargo did not set OUT_DIR")?);
    fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure().compile_fds(descriptors)?;
    Ok(())
}
