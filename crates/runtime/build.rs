//! Stamps the git revision. A source tree without git (an archive, a container build) builds too.

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
    println!("cargo:rerun-if-env-changed=CHIMERA_GIT_REVISION");
    // Without these cargo would run the script again for every change in the package.
    if let Some(dir) = git(&["rev-parse", "--absolute-git-dir"]) {
        println!("cargo:rerun-if-changed={dir}/HEAD");
        println!("cargo:rerun-if-changed={dir}/logs/HEAD");
    }
    println!("cargo:rerun-if-changed=build.rs");
    #[expect(
        clippy::disallowed_methods,
        reason = "a build script has no runtime::config"
    )]
    let revision = std::env::var("CHIMERA_GIT_REVISION")
        .ok()
        .filter(|r| !r.is_empty())
        .or_else(|| git(&["rev-parse", "--short=12", "HEAD"]));
    if let Some(revision) = revision {
        println!("cargo:rustc-env=CHIMERA_REVISION={revision}");
    }
}
