//! Stamps the git revision. A source tree without git (an archive, a container build) builds too.

#![expect(
    clippy::disallowed_methods,
    reason = "a build script's configuration is its environment"
)]

use std::process::Command;

fn git(args: &[&str]) -> Option<String> {
    let output = Command::new("git").args(args).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output
        .status
        .success()
        .then(|| text.trim().to_owned())
        .filter(|t| !t.is_empty())
}

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=CHIMERA_GIT_REVISION");
    // A stamp that follows every commit builds half the workspace again after each. Builds for
    // debugging therefore name no revision, rather than a stale one.
    if std::env::var("PROFILE").as_deref() != Ok("release") {
        return;
    }
    if let Some(dir) = git(&["rev-parse", "--absolute-git-dir"]) {
        println!("cargo:rerun-if-changed={dir}/HEAD");
        println!("cargo:rerun-if-changed={dir}/logs/HEAD");
    }
    let revision = std::env::var("CHIMERA_GIT_REVISION")
        .ok()
        .filter(|r| !r.is_empty())
        .or_else(|| git(&["rev-parse", "--short=12", "HEAD"]));
    if let Some(revision) = revision {
        println!("cargo:rustc-env=CHIMERA_REVISION={revision}");
    }
}
